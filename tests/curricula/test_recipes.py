"""Every named recipe runs, keeps its budget, and resumes."""

from __future__ import annotations

import pytest

from curricula import RECIPES, Curriculum
from curricula.testing import N_GROUPS, N_ROLLOUTS, answer, feedback_of, readable, small_pool


def run(curriculum: Curriculum, steps: range) -> list[object]:
    """Plans with every further allocation round."""
    plans: list[object] = []
    for step in steps:
        plan = curriculum.plan(step, N_GROUPS, N_ROLLOUTS)
        budget, rounds = N_ROLLOUTS + plan.n_carried, [readable(curriculum.pool, plan)]
        outcome = answer(curriculum, plan)
        while (more := curriculum.extend(outcome)) is not None:
            rounds.append(readable(curriculum.pool, more))
            plan = plan.joined(more)
            outcome = answer(curriculum, plan)
        assert plan.n_completions + plan.n_unspent == budget
        curriculum.shape(outcome)
        curriculum.update(feedback_of(curriculum, outcome))
        plans.append(rounds)
    return plans


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_and_resumes(name: str) -> None:
    straight, stopped, resumed = (Curriculum.from_recipe(name, small_pool(), seed=2) for _ in range(3))
    plans = run(straight, range(8))
    run(stopped, range(4))
    resumed.load_state_dict(stopped.state_dict())
    assert run(resumed, range(4, 8)) == plans[4:]
