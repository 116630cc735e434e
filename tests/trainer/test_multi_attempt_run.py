"""The recipe ``multi_attempt`` end to end: simulated, killed and resumed, and on a real language model."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rollout.log import read_texts
from tests.trainer.recipes import simulated
from tests.trainer.test_loop import decisions, log_size, records, start, state, wait_for
from tests.trainer.test_real_run import real
from trainer.loop import run

SIMULATED = {
    "curriculum": {"shaping": {"name": "multi_attempt", "max_attempts": 3, "discount": 0.5, "penalty": 0.25}},
    "rollout__sampling__max_tokens": 80,
    "rollout__feedback": "not right, again",
}


def shaped(reward: float, turns: int, discount: float, penalty: float) -> float:
    return discount ** (turns - 1) if reward == 1 else -penalty


def test_simulated_rollouts_go_on_after_wrong_answers(tmp_path: Path) -> None:
    run(simulated(tmp_path / "run", **SIMULATED, run__n_steps=6))
    groups = records(tmp_path / "run", "group")
    assert {group["max_turns"] for group in groups} == {1, 2, 3}
    rollouts = [
        (g, *one) for g in groups for one in zip(g["rewards"], g["turns"], g["spans"], g["n_tokens"], g["shaped"], strict=True)
    ]
    assert {turns for _, _, turns, *_ in rollouts} == {1, 2, 3}
    for group, reward, turns, spans, n_tokens, credit in rollouts:
        assert len(spans) == 2 * turns - 1
        assert set(spans[1::2]) <= {3}, "as many tokens as the feedback has words"
        assert n_tokens == sum(spans[0::2])
        assert sum(spans) <= 80
        assert turns <= group["max_turns"]
        assert turns == group["max_turns"] or reward == 1 or sum(spans) + 3 >= 80, "a wrong answer with attempts and room left"
        assert credit == shaped(reward, turns, 0.5, 0.25)
    single = [reward for group, reward, *_ in rollouts if group["max_turns"] == 1]
    many = [reward for group, reward, *_ in rollouts if group["max_turns"] == 3]
    assert np.mean(many) > np.mean(single) + 0.1
    means = [record["metrics"]["turns"] for record in records(tmp_path / "run", "step")]
    assert np.mean(means) == pytest.approx(np.mean([turns for _, _, turns, *_ in rollouts]))


def test_runs_of_one_attempt_say_nothing_of_turns(tmp_path: Path) -> None:
    run(simulated(tmp_path / "run", run__n_steps=2))
    assert "turns" not in records(tmp_path / "run", "step")[0]["metrics"]
    assert {turns for group in records(tmp_path / "run", "group") for turns in group["turns"]} == {1}


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    options: dict[str, Any] = {**SIMULATED, "run__n_steps": 20, "run__checkpoint_every": 3}
    straight, killed = simulated(tmp_path / "straight", **options), simulated(tmp_path / "killed", **options)
    run(straight)
    process = start(killed, "fresh")
    for share in (0.3, 0.7):
        wait_for(lambda share=share: log_size(killed) >= share * log_size(straight))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = start(killed, "resume")
    assert process.wait(timeout=120) == 0
    assert decisions(killed) == decisions(straight)
    turns = [[(g["max_turns"], g["turns"], g["spans"]) for g in records(r.folder, "group")] for r in (killed, straight)]
    assert turns[0] == turns[1]
    for key, value in state(straight).items():
        np.testing.assert_array_equal(state(killed)[key], value, err_msg=key)


def ends_in_a_low_digit(completion: str, answer: Any, extra: dict[str, Any]) -> float:
    return float(completion[-1:] in tuple("01234"))


def test_a_real_model_learns_from_its_own_tokens_alone(tmp_path: Path, tiny_model_path: Path) -> None:
    """The learner scores what the engine drew in both turns: log-probabilities only agree behind the very same exchange."""
    recipe = real(
        tmp_path / "run",
        tiny_model_path,
        task__reward="tests.trainer.test_multi_attempt_run:ends_in_a_low_digit",
        curriculum={"shaping": {"name": "multi_attempt", "max_attempts": 2, "draw": "fixed"}},
        rollout__sampling={"max_tokens": 48, "stop": list("0123456789")},
        rollout__feedback="\nNo.\n",
        run__n_steps=4,
        schedule__peak=3e-3,
    )
    run(recipe)
    groups, steps = records(recipe.folder, "group"), records(recipe.folder, "step")
    rollouts = [one for g in groups for one in zip(g["rewards"], g["turns"], g["spans"], g["finish"], g["shaped"], strict=True)]
    twice = [one for one in rollouts if one[1] == 2]
    assert 0 < len(twice) < len(rollouts)
    assert {reward for reward, *_ in twice} == {0, 1}, "some second attempts are right, some are not"
    for reward, turns, spans, finish, credit in rollouts:
        assert [*spans[1::2]] == [5] * (turns - 1)
        assert sum(spans) <= 48
        assert turns == 2 or reward == 1 or finish == "length" or sum(spans) + 5 >= 48
        assert credit == (1.0 if reward == 1 else -0.5)
    mismatches = [step["metrics"]["mismatch_max"] for step in steps if "updates" in step["metrics"]]
    assert len(mismatches) >= 3
    assert max(mismatches) < 1e-3
    trained = {step["step"]: step["n_tokens_trained"] for step in steps}
    for step, n in trained.items():
        live = [g for g in groups if g["step"] == step and len(set(g["shaped"])) > 1]
        assert n == sum(sum(sum(spans[0::2]) for spans in g["spans"]) for g in live)
    texts = [text for record in read_texts(recipe.folder / "log") for text in record["completions"]]
    assert sum("\nNo.\n" in text for text in texts) == len(twice)
