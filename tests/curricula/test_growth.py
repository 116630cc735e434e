"""A pool that grows while training keeps what was learned."""

from __future__ import annotations

import numpy as np
import pytest

from curricula import CurriculaError, Curriculum, PromptPool
from curricula.growth import children
from curricula.registry import names
from curricula.testing import N_GROUPS, N_ROLLOUTS, readable, run, small_pool


def larger(pool: PromptPool) -> PromptPool:
    """New prompts among the old ones, and a new distribution that sorts before the others."""
    ids = ["easy/99", *pool.ids.tolist(), "brand/00", "middle/99", "tiny/99", "brand/01"]
    return PromptPool.from_columns(ids, [name.partition("/")[0] for name in ids])


def lettered(n: int) -> PromptPool:
    return PromptPool.from_columns([f"x/{i:02d}" for i in range(n)], "x" * n)


@pytest.mark.parametrize("selector", names("selector"))
def test_what_was_learned_moves_by_prompt_id(selector: str) -> None:
    curriculum = Curriculum.from_recipe({"distribution": "dump_ucb", "selector": {"name": selector}}, small_pool())
    run(curriculum, range(7))
    before, probability = curriculum.estimate(np.arange(23)).mean_B, curriculum.probabilities()
    old = curriculum.pool
    curriculum.grow(larger(old))
    row = [curriculum.pool.ids.tolist().index(name) for name in old.ids]
    np.testing.assert_array_equal(curriculum.estimate(row).mean_B, before)
    shares = dict(zip(curriculum.pool.distribution_names, curriculum.probabilities(), strict=True))
    assert shares["brand"] == max(shares.values()), "an unseen distribution has the full bonus"
    order = [shares[name] for name in old.distribution_names]
    assert np.argsort(order).tolist() == np.argsort(probability).tolist()
    if selector not in ("uniform", "sequential", "epoch"):  # the others owe no prompt a visit within so few steps
        assert len(curriculum.plan(7, N_GROUPS, N_ROLLOUTS)) == N_GROUPS
        return
    seen = {str(name) for plan in run(curriculum, range(7, 40)) for name, *_ in readable(curriculum.pool, plan)}
    assert {"brand/00", "brand/01", "easy/99", "middle/99", "tiny/99"} <= seen


def test_a_grown_run_resumes_exactly() -> None:
    straight, stopped = (Curriculum.from_recipe("combined", small_pool(), seed=4) for _ in range(2))
    for curriculum in (straight, stopped):
        run(curriculum, range(4))
        curriculum.grow(larger(curriculum.pool))
    resumed = Curriculum.from_recipe("combined", larger(small_pool()), seed=4)
    resumed.load_state_dict(stopped.state_dict())
    plans = [[readable(c.pool, plan) for plan in run(c, range(4, 9))] for c in (straight, resumed)]
    assert plans[0] == plans[1]


def test_a_late_prompt_need_not_catch_up_with_all_epochs() -> None:
    curriculum = Curriculum.from_recipe("uniform", lettered(6))
    run(curriculum, range(5))  # five epochs
    curriculum.grow(lettered(7))
    plans = run(curriculum, range(5, 12))
    count = sum(row[0] == "x/06" for plan in plans for row in readable(curriculum.pool, plan))
    assert 5 <= count <= 7


@pytest.mark.parametrize("pool", [small_pool(list(range(1, 23))), PromptPool.from_columns(["easy/00"], ["easy"])])
def test_a_pool_never_shrinks(pool: PromptPool) -> None:
    with pytest.raises(CurriculaError, match=r"not in the new one"):
        Curriculum.from_recipe("uniform", small_pool()).grow(pool)


def test_a_prompt_keeps_its_distribution() -> None:
    pool = PromptPool.from_columns("abc", "xxy")
    with pytest.raises(CurriculaError, match="prompt b changed its distribution"):
        Curriculum.from_recipe("uniform", pool).grow(PromptPool.from_columns("abc", "xyy"))


def test_children_inherit_their_parents_pass_rate() -> None:
    pool = PromptPool.from_columns("ab", "xy", prior_pass_rate=[0.2, 0.6], features=[[1.0], [2.0]])
    curriculum = Curriculum.from_recipe("uniform", pool)
    more = children(pool, ["a1", "b1"], ["a", "b"], curriculum.estimate(np.arange(2)).mean_B, easier_by=0.5)
    assert more.prior_pass_rate_N.round(3).tolist() == [0.2, 0.6, 0.6, 0.8]
    assert more.distribution_N.tolist() == [0, 1, 0, 1]
    assert more.features_NF is not None
    assert more.features_NF[:, 0].tolist() == [1.0, 2.0, 1.0, 2.0]
    assert more.parent_N.tolist() == [-1, -1, 0, 1]
    grandchild = children(more, ["a11"], ["a1"], np.full(4, 0.5))
    assert grandchild.parent_N.tolist() == [-1, -1, 0, 1, 2]
    curriculum.grow(more)
    assert len(curriculum.plan(0, 4, N_ROLLOUTS)) == 4
    with pytest.raises(CurriculaError, match="no prompt 'z' to be a parent"):
        children(pool, ["c"], ["z"], np.zeros(2))
    with pytest.raises(CurriculaError, match="more than once"):
        children(pool, ["a"], ["b"], np.zeros(2))
    with pytest.raises(CurriculaError, match="one parent for each of 2 ids"):
        children(pool, ["c", "d"], ["b"], np.zeros(2))


def test_plans_stay_valid_after_growth() -> None:
    curriculum = Curriculum.from_recipe("combined", small_pool())
    for step in range(3):
        run(curriculum, [step])
        new = [f"easy/5{step}", f"middle/5{step}"]
        mean = curriculum.estimate(np.arange(len(curriculum.pool))).mean_B
        curriculum.grow(children(curriculum.pool, new, ["easy/00", "middle/12"], mean))
    assert len(curriculum.plan(9, N_GROUPS, N_ROLLOUTS)) == N_GROUPS


def test_a_paced_policy_and_its_pacing_move_too() -> None:
    bonus = {"pacing": "linear", "steps": 50}
    recipe = {"selector": {"name": "epoch", "inner": "uniform"}, "distribution": {"name": "dump_ucb", "bonus": bonus}}
    curriculum = Curriculum.from_recipe(recipe, small_pool())
    run(curriculum, range(7))
    n_drawn_K = curriculum.state_dict()["distribution.policy.n_drawn_K"]
    curriculum.grow(larger(curriculum.pool))
    state = curriculum.state_dict()
    assert state["distribution.policy.n_drawn_K"].tolist() == [0, *n_drawn_K.tolist()]
    assert state["distribution.pacings.0.n_steps"] == 7
    assert len(curriculum.plan(7, N_GROUPS, N_ROLLOUTS)) == N_GROUPS
