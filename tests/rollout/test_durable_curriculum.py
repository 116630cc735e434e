"""A curriculum in a folder: what it answered is there after any death, and nothing counts twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curricula import CurriculaError, Curriculum, Feedback, PromptPool, Refill, Verdict
from rollout.durable_curriculum import DurableCurriculum, prepare
from rollout.feedback_record import packed, unpacked
from tests.rollout.shared_client import N_GROUPS, N_ROLLOUTS, came, learn, pool

ROOT = Path(__file__).parents[2]


def opened(folder: Path, recipe: Any = "combined", snapshot_every: int = 64) -> DurableCurriculum:
    prepare(folder, recipe, pool(), 0, snapshot_every)
    return DurableCurriculum(folder)


def run(curriculum: DurableCurriculum, steps: range) -> None:
    for step in steps:
        learn(_Whole(curriculum), curriculum.plan(step, N_GROUPS, N_ROLLOUTS, attempt=0))


class _Whole:
    """What a client offers, without Ray."""

    def __init__(self, durable: DurableCurriculum) -> None:
        self.judge, self.update = durable.curriculum.judge, durable.update


def assert_same_state(a: Any, b: Any) -> None:
    assert a.keys() == b.keys()
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def abandon(curriculum: DurableCurriculum) -> None:
    """What SIGKILL does to a process: no state is saved, the lock is gone."""
    curriculum._file.close()
    curriculum._lock.release()


@pytest.mark.parametrize("recipe", ["combined", "mopps", "sec", "reinforce_ada"])
@pytest.mark.parametrize("snapshot_every", [1, 5, 1000])
def test_it_decides_and_learns_as_a_plain_curriculum_whatever_dies(tmp_path: Path, recipe: str, snapshot_every: int) -> None:
    plain = Curriculum.from_recipe(recipe, pool(), 0)
    durable = opened(tmp_path / "c", recipe, snapshot_every)
    for step in range(12):
        theirs, ours = plain.plan(step, N_GROUPS, N_ROLLOUTS), durable.plan(step, N_GROUPS, N_ROLLOUTS)
        np.testing.assert_array_equal(theirs.selection.prompt_B, ours.selection.prompt_B)
        np.testing.assert_array_equal(theirs.n_rollouts_B, ours.n_rollouts_B)
        np.testing.assert_array_equal(theirs.selection.propensity_B, ours.selection.propensity_B)
        learn(plain, theirs)
        learn(_Whole(durable), ours)
        if step % 3 == 1:
            abandon(durable)
            durable = DurableCurriculum(tmp_path / "c")
    assert_same_state(durable.curriculum.state_dict(), plain.state_dict())
    durable.close()
    assert_same_state(DurableCurriculum(tmp_path / "c").curriculum.state_dict(), plain.state_dict())


def test_a_torn_end_is_what_nobody_was_told_of(tmp_path: Path) -> None:
    durable = opened(tmp_path)
    run(durable, range(3))
    state, n = durable.curriculum.state_dict(), durable.n_entries
    abandon(durable)
    journal = tmp_path / "journal-000000000000.jsonl"
    whole = journal.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    for torn in (b"{", whole[last : last + 100], whole[last:-1]):
        journal.write_bytes(whole + torn)
        durable = DurableCurriculum(tmp_path)
        assert durable.n_entries == n
        assert_same_state(durable.curriculum.state_dict(), state)
        abandon(durable)
        assert journal.read_bytes() == whole
    assert list(tmp_path.glob("discarded-*"))
    journal.write_bytes(whole[: last // 2] + b"x" + whole[last // 2 + 1 :])
    with pytest.raises(CurriculaError, match=r"journal-0+\.jsonl: line \d+ at byte \d+ is damaged"):
        DurableCurriculum(tmp_path)


@pytest.mark.parametrize("after", [".partial", "state", "journal"])
def test_a_death_while_the_state_is_saved_loses_nothing(tmp_path: Path, after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    durable = opened(tmp_path)
    run(durable, range(4))
    state = durable.curriculum.state_dict()
    broken = {".partial": "os.replace", "state": "rollout.durable_curriculum.AppendFile", "journal": "pathlib.Path.unlink"}[after]

    def die(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(broken, die)
        with pytest.raises(KeyboardInterrupt):
            durable._snapshot()
    abandon(durable)
    durable = DurableCurriculum(tmp_path)
    assert_same_state(durable.curriculum.state_dict(), state)
    assert durable.n_entries == 8
    run(durable, range(4, 6))
    durable.close()
    assert sorted(path.name for path in tmp_path.glob("*-0*")) == ["journal-000000000012.jsonl", "state-000000000012.npz"]


def test_what_is_sent_again_changes_nothing(tmp_path: Path) -> None:
    durable = opened(tmp_path, snapshot_every=3)
    plan = durable.plan(0, N_GROUPS, N_ROLLOUTS, ticket="a")
    assert durable.plan(0, N_GROUPS, N_ROLLOUTS, ticket="a") is plan
    feedback = learn(_Whole(durable), plan)
    state, n = durable.curriculum.state_dict(), durable.n_entries
    for _ in range(2):
        durable.update(feedback)
        assert durable.n_entries == n
        assert_same_state(durable.curriculum.state_dict(), state)
        durable.close()
        durable = DurableCurriculum(tmp_path)
    again = durable.plan(0, N_GROUPS, N_ROLLOUTS, ticket="a")
    np.testing.assert_array_equal(again.group_B, plan.group_B)
    durable.update([feedback, feedback])  # another package of the same groups
    assert durable.curriculum.metrics()["n_seen_prompts"] == len(plan)
    assert_same_state(
        {k: v for k, v in durable.curriculum.state_dict().items() if k != "ledger.n_repeated"},
        {k: v for k, v in state.items() if k != "ledger.n_repeated"},
    )


def test_each_asker_gets_other_prompts_and_a_named_attempt_is_one_plan(tmp_path: Path) -> None:
    durable = opened(tmp_path, snapshot_every=2)
    plans = [durable.plan(3, N_GROUPS, N_ROLLOUTS) for _ in range(4)]
    assert [plan.attempt for plan in plans] == [0, 1, 2, 3]
    prompts = np.concatenate([plan.selection.prompt_B for plan in plans])
    assert len(set(prompts.tolist())) == 4 * N_GROUPS
    learn(_Whole(durable), plans[0])
    abandon(durable)
    durable = DurableCurriculum(tmp_path)
    same = durable.plan(3, N_GROUPS, N_ROLLOUTS, attempt=2)  # the state has moved, the plan has not
    np.testing.assert_array_equal(same.selection.prompt_B, plans[2].selection.prompt_B)
    assert durable.plan(3, N_GROUPS, N_ROLLOUTS).attempt == 4
    with pytest.raises(CurriculaError, match=r"step 3, attempt 2 was planned before for 8 groups and 32 rollouts, now 9 and 32"):
        durable.plan(3, N_GROUPS + 1, N_ROLLOUTS, attempt=2)
    with pytest.raises(CurriculaError, match="or others excluded"):
        durable.plan(3, N_GROUPS, N_ROLLOUTS, attempt=2, exclude=[1])


def test_plans_of_long_ago_are_forgotten_and_refused(tmp_path: Path) -> None:
    durable = opened(tmp_path)
    first = durable.plan(0, N_GROUPS, N_ROLLOUTS)
    durable.plan(64, N_GROUPS, N_ROLLOUTS)
    with pytest.raises(CurriculaError, match=r"step 0 is 64 steps behind the newest one, 64"):
        durable.plan(0, N_GROUPS, N_ROLLOUTS)
    learn(_Whole(durable), durable.plan(65, N_GROUPS, N_ROLLOUTS))
    learn(_Whole(durable), first)
    assert durable.curriculum.metrics()["n_late_groups"] == N_GROUPS


def test_feedback_of_another_curriculum_is_refused_and_not_written(tmp_path: Path) -> None:
    durable = opened(tmp_path)
    other = Curriculum.from_recipe("combined", pool(), 7)
    mine, theirs = durable.plan(0, N_GROUPS, N_ROLLOUTS), other.plan(0, N_GROUPS, N_ROLLOUTS)
    size = (tmp_path / "journal-000000000000.jsonl").stat().st_size
    for plan in (theirs, other.plan(1, N_GROUPS, N_ROLLOUTS), replace(mine, group_B=mine.group_B + 2**19)):
        outcome = came(plan)
        with pytest.raises(CurriculaError, match=r"attempt 0 was not planned by this curriculum \(or for other prompts\)"):
            durable.update(Feedback(outcome, other.judge(outcome)))
    assert (tmp_path / "journal-000000000000.jsonl").stat().st_size == size


def test_an_update_that_fails_half_way_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    durable = opened(tmp_path)
    run(durable, range(3))
    plan = durable.plan(3, N_GROUPS, N_ROLLOUTS)
    state, n = durable.curriculum.state_dict(), durable.n_entries
    budget = type(durable.curriculum.stages.budget)

    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("a policy of somebody's own")

    with monkeypatch.context() as patch:
        patch.setattr(budget, "update", broken)
        with pytest.raises(ZeroDivisionError):
            learn(_Whole(durable), plan)
    assert durable.closed
    durable = DurableCurriculum(tmp_path)
    assert durable.n_entries == n
    assert_same_state(durable.curriculum.state_dict(), state)
    learn(_Whole(durable), plan)
    abandon(durable)
    assert DurableCurriculum(tmp_path).n_entries == n + 1


def test_a_folder_belongs_to_one_recipe_seed_and_pool(tmp_path: Path) -> None:
    durable = opened(tmp_path)
    with pytest.raises(CurriculaError, match=r"is writing this run"):
        DurableCurriculum(tmp_path)
    durable.close()
    for recipe, prompts, seed, message in (
        ("sec", pool(), 0, r"another recipe \(combined, now sec\)"),
        ("combined", pool(), 1, r"another seed \(0, now 1\)"),
        ("combined", pool(12), 0, r"another pool"),
    ):
        with pytest.raises(CurriculaError, match=message):
            prepare(tmp_path, recipe, prompts, seed)
    with pytest.raises(CurriculaError, match="no curriculum was served from here"):
        DurableCurriculum(tmp_path / "empty")
    with pytest.raises(CurriculaError, match="unknown recipe 'dump'"):
        prepare(tmp_path / "new", "dump", pool(), 0)
    with pytest.raises(CurriculaError, match="snapshot_every"):
        prepare(tmp_path / "new", "sec", pool(), 0, 0)
    assert not (tmp_path / "new").exists()


def test_the_pool_comes_back_whole(tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i} é", "level": i % 2, "rate": None if i else 0.5, "size": i} for i in range(6)]
    whole = PromptPool.from_dataset(rows, distribution="level", prior_pass_rate="rate", features="size")
    prepare(tmp_path, {"belief": {"name": "static"}}, whole, 0)
    back = DurableCurriculum(tmp_path).pool
    assert back.fingerprint == whole.fingerprint
    np.testing.assert_array_equal(back.prior_pass_rate_N, whole.prior_pass_rate_N)
    np.testing.assert_array_equal(back.features_NF, whole.features_NF)


def test_records_keep_every_bit() -> None:
    plain = Curriculum.from_recipe("remax", pool(), 0)
    plan = plain.plan(0, N_GROUPS, 64)
    outcome = replace(came(plan), baseline_B=np.where(plan.greedy_B, 0.1 + 0.2, np.nan), reward_range=(-1.5, 2.0))
    advantage_R = np.where(np.arange(len(outcome.group_R)) % 3 == 0, np.nan, np.pi * np.arange(len(outcome.group_R)) - 1e-300)
    advantage_R[1] = -np.inf
    judged = plain.judge(outcome)
    verdict = Verdict(
        judged.kept_B, judged.reason_B, judged.carries_gradient_R, Refill.RESAMPLE, np.full(len(plan), 1 / 3), True, 1.5
    )
    back = unpacked(json.loads(json.dumps(packed(Feedback(outcome, verdict, advantage_R)))))
    for there, here in ((back.outcome, outcome), (back.verdict, verdict), (back.plan, plan), (back.plan.selection, plan.selection)):
        for name in (field for field in vars(here) if field not in ("plan", "selection", "cuts", "ok_R", "score_R")):
            mine, theirs = getattr(here, name), getattr(there, name)
            np.testing.assert_array_equal(theirs, mine, err_msg=name)
            assert np.asarray(theirs).dtype == np.asarray(mine).dtype
    np.testing.assert_array_equal(back.advantage_R, advantage_R)
    assert isinstance(back.verdict.refill, Refill)
    assert unpacked(packed(Feedback(outcome, verdict))).advantage_R is None


DYING = """
import os, signal, sys
from pathlib import Path
from rollout.durable_curriculum import DurableCurriculum
from tests.rollout.test_durable_curriculum import run
durable = DurableCurriculum(Path(sys.argv[1]))
real, left = os.fsync, int(sys.argv[2])
def fsync(fd):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    real(fd)
os.fsync = fsync
run(durable, range(10))
"""


@pytest.mark.parametrize("at", [1, 8, 13])
def test_a_killed_process_leaves_a_run_that_goes_on_as_if_it_had_lived(tmp_path: Path, at: int) -> None:
    opened(tmp_path / "lived", snapshot_every=4).close()
    opened(tmp_path / "died", snapshot_every=4).close()
    command = [sys.executable, "-c", DYING, str(tmp_path / "died"), str(at)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    lived, died = DurableCurriculum(tmp_path / "lived"), DurableCurriculum(tmp_path / "died")
    assert died.n_entries < 20
    for curriculum in (lived, died):
        run(curriculum, range(10))
    assert_same_state(died.curriculum.state_dict(), lived.curriculum.state_dict())
    assert died.n_entries == lived.n_entries == 20
