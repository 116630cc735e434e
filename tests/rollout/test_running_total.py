"""The ladder of additions: right answers, no overlap, level k has k steps."""

from __future__ import annotations

import re

import numpy as np
import pytest

from curricula.types import CurriculaError
from rollout.rewards import load_reward
from rollout.tasks import build_task

SMALL = {"name": "running_total", "levels": [2, 5], "n_train": 60, "n_held_out": 20}


def totals(content: str) -> str:
    """The working, recomputed from the text alone."""
    first, *steps = re.findall(r"([a-z]?)([+-]?\d+)", content.rstrip("="))
    total, working = int(first[1]), ""
    for label, term in steps:
        total += int(term)
        working += f"{label}{total}"
    return working


def test_answers_are_right_and_earn_the_reward() -> None:
    task = build_task(SMALL)
    train, held_out = task.build(4)
    reward = load_reward(train.reward.name)
    for prompt in [*train.prompts, *held_out.prompts]:
        assert prompt.answer == totals(str(prompt.content))
        assert all(0 <= int(total) <= 9 for total in re.findall(r"\d+", prompt.answer))
        assert reward(task.worked_example(prompt), prompt.answer, prompt.extra) == 1.0
        assert reward(prompt.answer[:-1], prompt.answer, prompt.extra) == 0.0


def test_levels_have_so_many_operations_and_no_prompt_is_on_both_sides() -> None:
    train, held_out = build_task(SMALL).build(0)
    assert train.pool.distribution_names == held_out.pool.distribution_names == ("ops-2", "ops-5")
    assert {prompt.distribution: len(re.findall("[a-z]", str(prompt.content))) for prompt in train.prompts} == {
        "ops-2": 2,
        "ops-5": 5,
    }
    assert not set(train.pool.ids) & set(held_out.pool.ids)
    assert train.pool.size_K.tolist() == [60, 60]


def test_prompts_depend_on_the_seed_alone() -> None:
    task = build_task(SMALL)
    assert task.build(1)[0].pool.fingerprint == task.build(1)[0].pool.fingerprint != task.build(2)[0].pool.fingerprint


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"levels": []}, r"task\.levels: expected different numbers >= 1"),
        ({"levels": [3, 3]}, r"task\.levels"),
        ({"levels": [30]}, r"at most 26 operations"),
        ({"levels": [1]}, r"level 1 has fewer than n_train \+ n_held_out = 120 different prompts"),
        ({"largest_term": 0}, r"largest_term >= 1"),
    ],
)
def test_mistakes_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        build_task({**SMALL, "n_train": 100, **change}).build(0)


def test_easier_prompts_have_fewer_operations_and_right_answers() -> None:
    task = build_task(SMALL)
    train, _ = task.build(0)
    rng = np.random.default_rng(0)
    for prompt in train.prompts[::10]:
        own = int(prompt.distribution[-1])
        for by in (1, 3):
            easier = task.easier(prompt, by, rng)
            assert easier.answer == totals(easier.content)
            assert len(re.findall("[a-z]", easier.content)) == max(own - by, 1)
    assert task.easier(task.easier(train.prompts[0], 9, rng), 1, rng) is None, "one operation is the least"
