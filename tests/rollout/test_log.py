"""The rollout log against kills, torn tails, damage, full disks and second writers: real files, real processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
import zlib
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from curricula.types import CurriculaError, Outcome, PromptPool, Reason, RolloutPlan, Selection, Status, Verdict, group_ids
from rollout.journal import seal
from rollout.log import ROLLOUTS, TEXTS, RolloutLog, _completed, read_log, read_texts
from rollout.prompts import Prompt
from rollout.types import Attempt, Completion, FinishReason, Judged

POOL = PromptPool.from_columns(["p0", "p1", "p2", "p3"], ["easy", "easy", "hard", "hard"])


def judged(reward: float, status: Status = Status.OK, text: str = "4\u00b2 = 16 \U0001f600") -> Judged:
    completion = Completion(np.arange(3, dtype=np.int32), np.full(3, -0.5, np.float32), text, FinishReason.STOP)
    return Judged(completion, status, reward, 7, "engine-0", "" if status is Status.OK else "ValueError: no")


def attempt(step: int, number: int = 0) -> Attempt:
    """Three groups: one kept, one all equal, one whose verifier failed (and that is empty otherwise)."""
    plan = RolloutPlan(
        step=step,
        attempt=number,
        round=0,
        selection=Selection(np.array([0, 2, 3]), np.array([0, 1, 1]), np.array([0.5, 0.25, 0.125])),
        n_rollouts_B=np.array([2, 2, 2]),
        group_B=group_ids(step, number, 3),
        probability_K=np.array([0.75, 0.25]),
    )
    judged_B = [[judged(1.0), judged(0.0)], [judged(0.0), judged(0.0)], [judged(float("nan"), Status.ERROR)]]
    flat = [(b, one) for b, group in enumerate(judged_B) for one in group]
    outcome = Outcome(
        plan=plan,
        group_R=np.array([b for b, _ in flat]),
        reward_R=np.array([one.reward for _, one in flat]),
        status_R=np.array([one.status for _, one in flat], dtype=np.uint8),
        n_tokens_R=np.full(len(flat), 3),
        policy_version_R=np.full(len(flat), 7),
    )
    reasons = np.array([Reason.KEPT, Reason.ALL_EQUAL, Reason.TOO_FEW], dtype=np.uint8)
    gradient = np.array([True, True, False, False, False])
    return Attempt(plan, judged_B, outcome, Verdict(np.array([True, False, False]), reasons, gradient))


def write_steps(folder: Path, steps: range) -> None:
    log = RolloutLog(folder)
    for step in steps:
        log.append_attempt(POOL, attempt(step))
        log.append_step({"step": step, "lr": 1e-4})
        log.commit()
    log.close()


def steps_in(folder: Path) -> list[int]:
    return [record["step"] for record in read_log(folder) if record["kind"] == "step"]


class TestRecords:
    def test_every_group_is_there_with_all_that_replay_needs(self, tmp_path: Path) -> None:
        log = RolloutLog(tmp_path)
        log.append_attempt(POOL, attempt(5, 1), {"seconds": 1.5})
        log.append_step({"step": 5, "lr": np.float64(1e-4), "loss": float("nan"), "grad_norm": float("inf"), "sizes": (1, 2)})
        log.append_evaluation({"step": 5, "scores": {"easy": {"greedy": 0.5}}})
        log.commit()
        *groups, whole, step, evaluation = read_log(tmp_path)
        assert [group["prompt"] for group in groups] == ["p0", "p2", "p3"]
        assert [group["reason"] for group in groups] == ["kept", "all_equal", "too_few"]
        assert [group["kept"] for group in groups] == [True, False, False]
        assert [group["propensity"] for group in groups] == [0.5, 0.25, 0.125]
        assert [group["probability"] for group in groups] == [0.75, 0.25, 0.25]
        assert [group["gradient"] for group in groups] == [[1, 1], [0, 0], [0]]
        assert groups[2]["rewards"] == [None]
        assert groups[2]["statuses"] == ["error"]
        assert groups[0]["logprob_sums"] == [-1.5, -1.5]
        assert groups[0]["group"] == group_ids(5, 1, 3)[0]
        assert {group["run"] for group in groups} == {log.run}
        assert whole["probabilities"] == [0.75, 0.25]
        assert whole["pool"] == POOL.fingerprint
        assert whole["facts"] == {"seconds": 1.5}
        assert (step["loss"], step["grad_norm"], step["sizes"]) == (None, "inf", [1, 2])
        assert evaluation["scores"] == {"easy": {"greedy": 0.5}}
        log.close()

    def test_turns_are_kept_and_old_records_get_one_each(self, tmp_path: Path) -> None:
        plain = attempt(0)
        fed = np.array([True, True, False, True])
        twice = Completion(np.arange(4, dtype=np.int32), np.array([-1, -1, 0, -1], np.float32), "a no b", FinishReason.STOP, fed, 2)
        judged_B = [[replace(plain.judged_B[0][0], completion=twice), plain.judged_B[0][1]], *plain.judged_B[1:]]
        plan = replace(plain.plan, max_turns_B=np.array([3, 1, 1]))
        log = RolloutLog(tmp_path)
        log.append_attempt(POOL, replace(plain, plan=plan, judged_B=judged_B))
        log.commit()
        log.close()
        first, *others, _ = read_log(tmp_path)
        assert (first["max_turns"], first["turns"], first["spans"], first["n_tokens"]) == (3, [2, 1], [[2, 1, 1], [3]], [3, 3])
        assert first["logprob_sums"] == [-3.0, -1.5]
        assert [group["max_turns"] for group in others] == [1, 1]
        assert _completed({"kind": "group", "n_tokens": [3, 5]})["spans"] == [[3], [5]]
        assert _completed({"kind": "group", "n_tokens": [3, 5]})["turns"] == [1, 1]
        assert _completed({"kind": "group"})["max_turns"] == 1

    def test_weight_limit_and_shaped_rewards_are_kept(self, tmp_path: Path) -> None:
        plain = attempt(0)
        changed = replace(
            plain,
            plan=replace(plain.plan, max_tokens_B=np.array([0, 7, 9]), stated_tokens_B=np.array([5, 0, 6])),
            verdict=replace(plain.verdict, weight_B=np.array([2.0, 1.0, 0.5]), renormalise=True, refill_margin=1.25),
            shaped_R=np.array([0.75, -0.25, 0, 0, np.nan]),
        )
        log = RolloutLog(tmp_path)
        log.append_attempt(POOL, plain)
        log.append_attempt(POOL, changed)
        log.commit()
        log.close()
        *groups, whole = read_log(tmp_path)
        assert [group["weight"] for group in groups if group["kind"] == "group"] == [1, 1, 1, 2, 1, 0.5]
        assert [group["max_tokens"] for group in groups if group["kind"] == "group"] == [0, 0, 0, 0, 7, 9]
        assert [group["shaped"] for group in groups if group["kind"] == "group"] == [
            *([1, 0], [0, 0], [None]),
            *([0.75, -0.25], [0, 0], [None]),
        ]
        assert [group["rewards"] for group in groups[4:]] == [[1, 0], [0, 0], [None]]
        assert [group["stated_tokens"] for group in groups if group["kind"] == "group"] == [0, 0, 0, 5, 0, 6]
        assert (groups[3]["renormalise"], whole["renormalise"]) == (False, True)
        assert (groups[3]["refill_margin"], whole["refill_margin"]) == (1.0, 1.25)

    def test_logs_from_before_a_field_was_added_get_its_default(self, tmp_path: Path) -> None:
        lines = [
            {"kind": "group", "run": "a", "rewards": [1.0, 0.0]},
            {"kind": "attempt", "run": "a", "refill": "none"},
            {"kind": "commit", "schema": 1, "run": "a", "texts_bytes": 0},
        ]
        (tmp_path / ROLLOUTS).write_bytes(b"".join(seal(line) for line in lines))
        group, whole = read_log(tmp_path)
        assert (group["weight"], group["max_tokens"], group["shaped"]) == (1.0, 0, [1.0, 0.0])
        assert group["stated_tokens"] == 0
        assert (whole["renormalise"], whole["refill_margin"], whole["refill"]) == (False, 1.0, "none")

    def test_the_files_are_ordinary_json_lines(self, tmp_path: Path) -> None:
        write_steps(tmp_path, range(2))
        for name in (ROLLOUTS, TEXTS):
            assert all(json.loads(line)["crc32"] for line in (tmp_path / name).read_text().splitlines())

    def test_texts_come_with_content_and_answer_where_prompts_are_given(self, tmp_path: Path) -> None:
        prompts = [Prompt(str(name), "easy", f"question {name}", answer=str(i)) for i, name in enumerate(POOL.ids)]
        log = RolloutLog(tmp_path)
        log.append_attempt(POOL, attempt(0), prompts=prompts)
        log.commit()
        log.close()
        first, second, third = read_texts(tmp_path)
        assert (first["content"], second["answer"]) == ("question p0", "2")
        assert first["completions"] == ["4\u00b2 = 16 \U0001f600"] * 2
        assert third["details"] == ["ValueError: no"]

    def test_lone_surrogates_survive(self, tmp_path: Path) -> None:
        strange = attempt(0)
        strange.judged_B[0][0] = judged(1.0, text="\ud83d broken")
        log = RolloutLog(tmp_path)
        log.append_attempt(POOL, strange)
        log.commit()
        log.close()
        assert next(read_texts(tmp_path))["completions"][0] == "\ud83d broken"

    @pytest.mark.parametrize(("share", "low", "high"), [(0.0, 0, 0), (1.0, 300, 300), (0.3, 90 - 40, 90 + 40)])
    def test_share_of_texts(self, tmp_path: Path, share: float, low: int, high: int) -> None:
        """0.3 of 300 groups: 90 expected, standard error 7.9, five of them allowed."""
        log = RolloutLog(tmp_path, log_texts=share)
        for step in range(100):
            log.append_attempt(POOL, attempt(step))
        log.commit()
        log.close()
        assert low <= len(list(read_texts(tmp_path))) <= high

    def test_reserved_keys_are_refused(self, tmp_path: Path) -> None:
        log = RolloutLog(tmp_path)
        with pytest.raises(CurriculaError, match="step record may not have the keys"):
            log.append_step({"kind": "mine"})
        log.close()

    def test_uncommitted_records_are_not_in_the_log(self, tmp_path: Path) -> None:
        log = RolloutLog(tmp_path)
        log.append_step({"step": 0})
        assert steps_in(tmp_path) == []
        log.close()
        assert steps_in(tmp_path) == []


class TestTornTail:
    def test_cut_at_every_byte_of_the_last_commit(self, tmp_path: Path) -> None:
        """Whatever is left of the last commit moves aside; what is appended then is whole."""
        whole = tmp_path / "whole"
        write_steps(whole, range(1))
        log = RolloutLog(whole)
        log.append_step({"step": 1})
        log.commit()
        log.close()
        rollouts, texts = (whole / ROLLOUTS).read_bytes(), (whole / TEXTS).read_bytes()
        first_end = rollouts.index(b"\n", rollouts.index(b'"kind":"commit"')) + 1
        for cut in range(first_end, len(rollouts)):
            folder = tmp_path / "torn"
            folder.mkdir()
            (folder / ROLLOUTS).write_bytes(rollouts[:cut])
            (folder / TEXTS).write_bytes(texts)
            log = RolloutLog(folder)
            assert log.position.rollouts == first_end
            log.append_step({"step": 9})
            log.commit()
            log.close()
            assert steps_in(folder) == [0, 9]
            assert len(list(read_texts(folder))) == 3
            aside = sorted(folder.glob("discarded-rollouts*"))
            assert b"".join(file.read_bytes() for file in aside) == rollouts[first_end:cut]
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()

    @pytest.mark.parametrize("tail", [b"\n", b"\0" * 4096, '{"text":"\u00e9'.encode()[:-1], b"{}\n\n", b"\xff\xfe\n"])
    def test_other_tails(self, tmp_path: Path, tail: bytes) -> None:
        write_steps(tmp_path, range(2))
        with (tmp_path / ROLLOUTS).open("ab") as file:
            file.write(tail)
        assert steps_in(tmp_path) == [0, 1]
        write_steps(tmp_path, range(2, 3))
        assert steps_in(tmp_path) == [0, 1, 2]
        assert next(tmp_path.glob("discarded-*")).read_bytes() == tail

    def test_texts_of_an_unfinished_commit_go_aside(self, tmp_path: Path) -> None:
        write_steps(tmp_path, range(1))
        with (tmp_path / TEXTS).open("ab") as file:
            file.write(seal({"kind": "texts", "group": 1}))
        write_steps(tmp_path, range(1, 2))
        assert len(list(read_texts(tmp_path))) == 6
        assert len(list(tmp_path.glob("discarded-texts*"))) == 1


class TestDamage:
    def test_a_flipped_bit_in_the_interior_is_named(self, tmp_path: Path) -> None:
        write_steps(tmp_path, range(3))
        path = tmp_path / ROLLOUTS
        data = path.read_bytes()
        ends = [i for i, byte in enumerate(data) if byte == 10]
        rng = random.Random(0)
        for line in range(len(ends) - 1):
            start = ends[line - 1] + 1 if line else 0
            place = rng.randrange(start, ends[line])
            path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
            with pytest.raises(CurriculaError, match=rf"rollouts\.jsonl: line {line + 1} at byte {start} is damaged"):
                RolloutLog(tmp_path)
            with pytest.raises(CurriculaError, match="is damaged"):
                list(read_log(tmp_path))
        assert path.read_bytes() != data, "refusing changes nothing"
        path.write_bytes(data)
        assert steps_in(tmp_path) == [0, 1, 2]

    def test_damaged_and_missing_texts_are_named(self, tmp_path: Path) -> None:
        write_steps(tmp_path, range(1))
        path = tmp_path / TEXTS
        data = path.read_bytes()
        path.write_bytes(data[:-5] + b"!" + data[-4:])
        for read in (lambda: RolloutLog(tmp_path), lambda: list(read_texts(tmp_path))):
            with pytest.raises(CurriculaError, match=r"texts\.jsonl: the line at byte \d+ is damaged or missing"):
                read()
        path.unlink()
        with pytest.raises(CurriculaError, match="damaged or missing"):
            RolloutLog(tmp_path)

    def test_a_sealed_line_that_is_not_ours(self, tmp_path: Path) -> None:
        """A checksum does not make a line harmless: nesting, lists and future schemas are errors, not crashes."""
        (tmp_path / ROLLOUTS).write_bytes(seal({"kind": "commit", "schema": 2, "texts_bytes": 0}))
        with pytest.raises(CurriculaError, match="schema 2, expected 1"):
            list(read_log(tmp_path))
        bomb = b'{"kind":"step","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
        (tmp_path / ROLLOUTS).write_bytes(b'%s,"crc32":"%08x"}\n' % (bomb[:-1], zlib.crc32(bomb)))
        with pytest.raises(CurriculaError, match="line 1 at byte 0 is not JSON"):
            list(read_log(tmp_path))


class TestTruncate:
    def test_back_to_a_checkpoint(self, tmp_path: Path) -> None:
        log = RolloutLog(tmp_path)
        log.append_attempt(POOL, attempt(0))
        log.append_step({"step": 0})
        position = json.loads(json.dumps(log.commit()))
        log.append_attempt(POOL, attempt(1))
        log.append_step({"step": 1})
        log.commit()
        behind = (tmp_path / ROLLOUTS).read_bytes()[position[0] :]
        log.truncate_to(position)
        assert steps_in(tmp_path) == [0]
        assert len(list(read_texts(tmp_path))) == 3
        assert next(tmp_path.glob("discarded-rollouts*")).read_bytes() == behind
        log.truncate_to(log.beginning)
        assert list(read_log(tmp_path)) == []
        assert len(list(tmp_path.glob("discarded-rollouts*"))) == 2, "earlier discarded files stay"
        log.append_step({"step": 7})
        log.commit()
        log.close()
        assert steps_in(tmp_path) == [7]

    def test_a_position_of_another_run_is_refused(self, tmp_path: Path) -> None:
        write_steps(tmp_path, range(1))
        log = RolloutLog(tmp_path)
        for position in [(10, 0), (10**9, 0), (log.position.rollouts, 1)]:
            with pytest.raises(CurriculaError, match="not of the same run"):
                log.truncate_to(position)
        log.close()

    def test_the_run_keeps_its_name(self, tmp_path: Path) -> None:
        log = RolloutLog(tmp_path)
        log.append_step({"step": 0})
        log.commit()
        log.close()
        again = RolloutLog(tmp_path)
        assert again.run == log.run
        again.close()


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A writer in a process of its own."""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path), os.getcwd()])
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class TestLock:
    def test_second_writer_is_refused_in_and_outside_the_process(self, tmp_path: Path) -> None:
        log = RolloutLog(tmp_path)
        with pytest.raises(CurriculaError, match=rf"process {os.getpid()} on host .* is writing this run"):
            RolloutLog(tmp_path)
        other = start(
            "import sys, pathlib; from rollout.log import RolloutLog; RolloutLog(pathlib.Path(sys.argv[1]))", str(tmp_path)
        )
        _, error = other.communicate(timeout=60)
        assert f"process {os.getpid()} on host" in error
        log.close()
        RolloutLog(tmp_path).close()

    def test_lock_of_a_killed_writer_is_stale(self, tmp_path: Path) -> None:
        writer = start(
            """
            import sys, pathlib, time
            from rollout.log import RolloutLog
            log = RolloutLog(pathlib.Path(sys.argv[1]))
            print("locked", flush=True)
            time.sleep(600)
            """,
            str(tmp_path),
        )
        assert writer.stdout is not None
        assert writer.stdout.readline() == "locked\n"
        with pytest.raises(CurriculaError, match=f"process {writer.pid} on host"):
            RolloutLog(tmp_path)
        writer.kill()
        writer.communicate()
        assert json.loads((tmp_path / "lock").read_text())["pid"] == writer.pid
        RolloutLog(tmp_path).close()

    @pytest.mark.parametrize(("holder", "stale"), [("self", False), ("dead", True), ("elsewhere", False), ("garbage", True)])
    def test_where_the_file_system_has_no_locks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, holder: str, stale: bool
    ) -> None:
        import errno
        import fcntl
        import socket

        def unsupported(fd: int, operation: int) -> None:
            raise OSError(errno.ENOTSUP, "no locks here")

        monkeypatch.setattr(fcntl, "flock", unsupported)
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        pid = dead.pid if holder == "dead" else os.getpid()
        host = "elsewhere" if holder == "elsewhere" else socket.gethostname()
        (tmp_path / "lock").write_text("???" if holder == "garbage" else json.dumps({"pid": pid, "host": host}))
        if stale:
            RolloutLog(tmp_path).close()
        else:
            with pytest.raises(CurriculaError, match=f"process {pid} on host {host} is writing"):
                RolloutLog(tmp_path)


FULL = """
    import pathlib, resource, sys
    from test_log import POOL, attempt, steps_in
    from curricula.types import CurriculaError
    from rollout.log import RolloutLog
    folder, limited = pathlib.Path(sys.argv[1]), sys.argv[2]
    log = RolloutLog(folder)
    log.append_attempt(POOL, attempt(0)); log.append_step({"step": 0}); log.commit()
    log.append_attempt(POOL, attempt(1)); log.append_step({"step": 1, "ballast": "x" * (5000 if limited == "rollouts" else 0)})
    before = [(folder / name).read_bytes() for name in ("rollouts.jsonl", "texts.jsonl")]
    size = log.position.rollouts + 1000 if limited == "rollouts" else log.position.texts + 10
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        log.commit()
    except CurriculaError as error:
        print(error)
    else:
        sys.exit("the limit had no effect")
    assert [(folder / name).read_bytes() for name in ("rollouts.jsonl", "texts.jsonl")] == before
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.commit()  # room again: what was staged is not lost
    log.append_step({"step": 2}); log.commit()
    assert steps_in(folder) == [0, 1, 2]
"""


@pytest.mark.parametrize("limited", ["rollouts", "texts"])
def test_full_disk_leaves_the_last_commit(tmp_path: Path, limited: str) -> None:
    writer = start(FULL, str(tmp_path), limited)
    out, error = writer.communicate(timeout=60)
    assert writer.returncode == 0, error
    assert f"{limited}.jsonl: the file size limit is reached; " in out
    assert "bytes were to be written. The last commit is intact" in out
    assert "--resume" in out


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_no_space_left_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own ENOSPC, through the device that is always full."""
    log = RolloutLog(tmp_path)
    log.append_step({"step": 0})
    before = log.commit()
    log.append_step({"step": 1})
    full = os.open("/dev/full", os.O_WRONLY)
    real = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, data, at: os.write(full, data))
        with pytest.raises(CurriculaError, match="no space left on the device"):
            log.commit()
    os.close(full)
    assert os.pwrite is real
    assert log.position == before
    log.commit()
    log.close()
    assert steps_in(tmp_path) == [0, 1]


KILLED = """
    import pathlib, sys
    from test_log import POOL, attempt, steps_in
    from rollout.log import RolloutLog
    folder = pathlib.Path(sys.argv[1])
    log = RolloutLog(folder)
    first = max(steps_in(folder), default=-1) + 1
    print("open", flush=True)
    for step in range(first, first + 100000):
        log.append_attempt(POOL, attempt(step)); log.append_step({"step": step, "ballast": "x" * 20000})
        log.commit()
        print(step, flush=True)
"""


@pytest.mark.slow
def test_sigkill_at_any_moment_loses_and_repeats_nothing(tmp_path: Path) -> None:
    """Thirty times: what the writer reported as committed is in the log exactly once, with all its groups and texts."""
    rng = random.Random(1)
    promised = -1
    for _ in range(30):
        writer = start(KILLED, str(tmp_path))
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        writer.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.02))
        writer.send_signal(signal.SIGKILL)
        told, _ = writer.communicate()
        promised = max([promised, *(int(line) for line in told.split("\n")[:-1])])
        records = list(read_log(tmp_path))
        steps = [record["step"] for record in records if record["kind"] == "step"]
        assert steps == list(range(len(steps)))
        assert len(steps) > promised
        groups = Counter(record["group"] for record in records if record["kind"] == "group")
        assert len(groups) == 3 * len(steps)
        assert set(groups.values()) == {1}
    RolloutLog(tmp_path).close()
    texts = Counter(record["group"] for record in read_texts(tmp_path))
    assert texts == groups
