"""verl 0.9.1 with a curriculum in it: its real loop, queue, replay buffer and checkpoints; engines and updates are made up."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curricula import Curriculum, Feedback, PromptPool
from curricula.hosting import outcome_of
from replay.sources import load
from tests.trainer.integrations.verl_packages import environment

ROOT = Path(__file__).parents[3]
pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(900)]
Updates = list[dict[str, tuple[float, float, bool]]]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What all runs did; one process for all, because verl takes 13 s to import and its queue needs a Ray of its own."""
    folder = tmp_path_factory.mktemp("verl")
    variables = os.environ | {"PYTHONPATH": environment("verl")}
    command = [sys.executable, "-W", "ignore", "-m", "tests.trainer.integrations.verl_run", str(folder)]
    done = subprocess.run(command, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=800)
    assert (folder / "out.json").exists(), done.stderr[-6000:]
    result: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return result | {"folder": folder}


def groups_of(update: dict[str, tuple[float, float, bool]]) -> dict[str, list[tuple[float, float]]]:
    """Reward and advantage of each rollout of each group, whatever round it came from; rows that fill a batch up are none."""
    groups: dict[str, list[tuple[float, float]]] = {}
    for key, (reward, advantage, padding) in update.items():
        if not padding:
            groups.setdefault(key.partition("-")[0], []).append((reward, advantage))
    return groups


def asked_in(run: dict[str, Any]) -> dict[str, list[int]]:
    sizes: dict[str, list[int]] = {}
    for prompt, n in run["asked"]:
        sizes.setdefault(prompt, []).append(n)
    return sizes


def test_groups_of_unequal_size_go_through_verl(out: dict[str, Any]) -> None:
    run = out["unequal"]
    assert run["class"] == "CurriculumNoting"  # the trainer class that verl had picked, with the curriculum on top
    sizes = [sorted(len(rollouts) for rollouts in groups_of(update).values()) for update in run["updates"]]
    assert sizes[:2] == [[4, 4, 4, 4], [4, 4, 4, 4]]  # nothing is known yet
    assert all(len(set(size)) > 1 and sum(size) == 16 for size in sizes[2:])  # knapsack: the same sum, shared out otherwise
    always = {n for prompt in ("q1", "q5") for n in asked_in(run)[prompt][1:]}
    assert always == {2}  # of a prompt that is always solved there is nothing to learn
    assert sum(n for _, n in run["asked"]) == 5 * 16
    assert sorted(run["validated"]) == [f"q{i}" for i in range(8)]  # verl's own validation, of which nothing is learned
    assert run["left_in_queue"] == 0


def test_the_plans_are_those_of_a_plain_loop(out: dict[str, Any]) -> None:
    """The same recipe and rewards without verl: the same prompts and sizes in the same order, and the same state in the end."""
    run = out["unequal"]
    pool = PromptPool.from_columns(run["ids"], [name.partition("/")[0] for name in run["ids"]])
    curriculum, asked = Curriculum.from_recipe("knapsack", pool, seed=3), []
    for step in range(5):
        plan = curriculum.plan(step, 4, 16)
        asked += [(f"q{row}", n) for row, n in zip(plan.selection.prompt_B.tolist(), plan.n_rollouts_B.tolist(), strict=True)]
        drawn = [(int(row) % 4, i) for row, n in zip(plan.selection.prompt_B, plan.n_rollouts_B, strict=True) for i in range(n)]
        reward_R = [float((False, True, i % 2 == 0, i % 4 == 0)[kind]) for kind, i in drawn]
        outcome = outcome_of(plan, reward_R, [3 + i for _, i in drawn], np.zeros(len(drawn), bool), step, (0.0, 1.0))
        curriculum.update(Feedback(outcome, curriculum.judge(outcome)))
    assert [tuple(one) for one in run["asked"]] == asked
    state = {name: np.asarray(value).tolist() for name, value in curriculum.state_dict().items() if not name.startswith("meta.")}
    assert state == run["state"]


@pytest.mark.parametrize("name", ["unequal", "filtered", "turns"])
def test_advantages_are_those_that_verl_computes(out: dict[str, Any], name: str) -> None:
    """Where whole groups train, verl's own GRPO and the curriculum's advantages are the same numbers."""
    for update, verls in zip(out[name]["updates"], out[name]["verls"], strict=True):
        assert update.keys() == verls.keys()
        np.testing.assert_allclose([update[key][1] for key in verls], list(verls.values()), atol=2e-6)


def test_a_further_round_counts_as_one_group(out: dict[str, Any]) -> None:
    run = out["rounds"]
    assert {len(sizes) for sizes in asked_in(run).values()} == {1, 2}  # pilots of two, some with a second round
    several = 0
    for update in run["updates"]:
        rounds = {tuple(key.split("_")[0].split("-")) for key, row in update.items() if not row[2]}
        for group, rollouts in groups_of(update).items():
            reward, advantage = np.array(rollouts).T
            np.testing.assert_allclose(advantage, (reward - reward.mean()) / (reward.std(ddof=1) + 1e-6), atol=2e-6)
            several += {(group, "0"), (group, "1")} <= rounds
    assert several  # verl alone would have compared each round with itself


def test_filtered_groups_are_replaced_and_learned_from(out: dict[str, Any]) -> None:
    run = out["filtered"]
    for update in run["updates"]:
        assert all(len({reward for reward, _ in rollouts}) == 2 for rollouts in groups_of(update).values())
    assert sum(n for _, n in run["asked"]) > sum(len(update) for update in run["updates"])
    mean = dict(zip(run["ids"], run["mean"], strict=True))
    assert {"q0", "q4", "q8", "q1", "q5", "q9"} <= asked_in(run).keys()  # never and always solved: all of them rejected, every time
    assert max(mean[f"hard/{i}"] for i in (0, 2, 4)) < 0.2  # q0, q4, q8
    assert min(mean[f"easy/{i}"] for i in (0, 2, 4)) > 0.8  # q1, q5, q9
    assert run["metrics"]["n_seen_prompts"] == 12


def test_rows_of_one_session_and_a_broken_rollout(out: dict[str, Any]) -> None:
    """Two rows per rollout: the last one's reward counts, for both. Of a broken rollout there is none, and no reward of 0."""
    run = out["turns"]
    broken = [rollouts for update in run["updates"] for rollouts in groups_of(update).values() if len(rollouts) == 2 * 3]
    assert len(broken) == len(asked_in(run)["q2"]) >= 1
    first = run["updates"][0]
    real = {key: row for key, row in first.items() if not row[2]}
    assert len(real) == 30
    assert len(first) == 32  # verl fills up to its mini-batch
    for key, (_, advantage, _) in real.items():
        assert advantage == real[re.sub("_[01]$", "_1", key)][1]
    assert dict(zip(run["ids"], run["mean"], strict=True))["hard/1"] > 0.5  # q2: right, broken, right, wrong


def test_a_resumed_run_is_the_one_that_never_stopped(out: dict[str, Any]) -> None:
    straight, resumed = out["straight"], out["resumed"]
    assert out["checkpoint"] == ["actor", "data.pt"]
    n = len(resumed["asked"])
    assert 0 < n < len(straight["asked"])
    assert sorted(resumed["asked"]) == sorted(straight["asked"][-n:])
    assert [groups_of(update) for update in resumed["updates"]] == [groups_of(update) for update in straight["updates"][2:]]
    assert resumed["state"] == straight["state"]


def test_the_log_has_every_group_and_every_text(out: dict[str, Any]) -> None:
    """Ours has what was rejected as well; verl's own dump has what trained, and both agree on that."""
    ours = load(out["folder"] / "log")
    asked = sorted((prompt, n) for prompt, n in out["filtered"]["asked"])
    prompt_of = {name: f"q{2 * int(name[5:]) + name.startswith('easy')}" for name in ours.pool.ids}
    sizes = np.bincount(ours.group_R, minlength=len(ours))
    assert sorted((prompt_of[str(ours.pool.ids[p])], int(n)) for p, n in zip(ours.prompt_G, sizes, strict=True)) == asked
    assert len(ours) > ours.kept_G.sum() > 0
    command = [sys.executable, "-m", "trainer.cli", "replay", str(out["folder"] / "log"), "--policy", "dump_ucb"]
    done = subprocess.run(command, cwd=out["folder"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    verls = load(out["folder"] / "dump")
    trained = [sorted(verls.reward_R[verls.group_R == g].tolist()) for g in range(len(verls))]
    kept = [sorted(ours.reward_R[ours.group_R == g].tolist()) for g in np.flatnonzero(ours.kept_G == 1)]
    assert sorted(trained) == sorted(kept)


def test_a_resumed_run_goes_on_in_its_log(out: dict[str, Any]) -> None:
    """The first process had logged one step more than its last whole checkpoint knows of."""
    ours = load(out["folder"] / "log_resumed")
    assert sorted(set(ours.step_G.tolist())) == [0, 1, 2, 3]
    assert len(ours) == len(out["straight"]["asked"])


@pytest.mark.parametrize(
    ("case", "says"),
    [
        ("unknown recipe", "did you mean 'dump_ucb'"),
        ("unknown key", "sampler_kwargs: 'reciep'; did you mean 'recipe'"),
        ("no recipe", "add e.g. +trainer.v1.sampler.sampler_kwargs.recipe=dump_ucb"),
        ("two", "has a curriculum already"),
        ("mode", "needs trainer.v1.trainer_mode=sync"),
        ("advantages", "needs algorithm.adv_estimator=grpo"),
        ("filter", "needs algorithm.filter_groups.enable=false"),
        ("no id", "row 0 has no extra_info.index"),
        ("id twice", "set trainer.v1.sampler.sampler_kwargs.prompt_id to a field that is one"),
        ("used log", "it has the log of a run"),
        ("other data", "4 prompt(s) were added and 0 removed"),
        ("other recipe", "resume with the recipe of the saved run"),
        ("plain checkpoint", "data.pt of the checkpoint has no curriculum's state"),
        ("no data.pt", "step 3 begins, but the curriculum has learned from 0"),
        ("one size", "do not read `__rollout_n__`"),
        ("other uid", "must keep `uid`"),
        ("greedy", "asks for greedy completions"),
    ],
)
def test_mistakes_are_told(out: dict[str, Any], case: str, says: str) -> None:
    assert says in out["refused"][case]
