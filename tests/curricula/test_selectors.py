"""Selectors: epochs, wraps, blocked prompts, and propensities worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curricula import Curriculum, PromptPool
from curricula.testing import answer, feedback_of
from curricula.visits import inclusion, no_visits, rungs, visited


def curriculum_of(selector, sizes, seed=0, exploration=0.0):
    names = [chr(97 + k) for k, n in enumerate(sizes) for _ in range(n)]
    pool = PromptPool.from_columns([f"{name}/{i:03d}" for i, name in enumerate(names)], names)
    return Curriculum.from_recipe({"selector": selector, "exploration": exploration}, pool, seed)


def step(curriculum, number, n_groups, exclude=()):
    plan = curriculum.plan(number, n_groups, 2 * n_groups, exclude=exclude)
    curriculum.update(feedback_of(curriculum, answer(curriculum, plan)))
    return plan.selection


@given(
    st.sampled_from(["uniform", "sequential"]),
    st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.integers(1, 9),
    st.integers(0, 99),
)
@settings(deadline=None, max_examples=60)
def test_no_prompt_comes_again_before_all_of_its_distribution_came(selector, sizes, n_groups, seed):
    curriculum = curriculum_of(selector, sizes, seed)
    n_seen = np.zeros(sum(sizes), dtype=int)
    for number in range(12):
        n_seen[step(curriculum, number, n_groups).prompt_B] += 1
        for k in range(len(sizes)):
            visits = n_seen[curriculum.pool.members(k)]
            assert visits.max() - visits.min() <= 1
        assert curriculum.state_dict()["selector.visits_N"].sum() == n_seen.sum()


def test_sequential_wraps_and_skips_what_is_in_flight():
    curriculum = curriculum_of("sequential", [5])
    assert step(curriculum, 0, 2).prompt_B.tolist() == [0, 1]
    ahead = curriculum.plan(1, 2, 4, exclude=[2])
    assert ahead.selection.prompt_B.tolist() == [3, 4]
    assert step(curriculum, 2, 2).prompt_B.tolist() == [2, 3]
    assert step(curriculum, 3, 3).prompt_B.tolist() == [4, 0, 1]


def test_groups_that_never_came_back_are_not_skipped():
    curriculum = curriculum_of("sequential", [6])
    curriculum.plan(0, 2, 4)  # lost
    assert step(curriculum, 1, 2).prompt_B.tolist() == [0, 1]


def test_propensities_across_the_epoch_boundary():
    """Two of five are left: both come for sure, the third place is shared by the three that were seen."""
    curriculum = curriculum_of("uniform", [5])
    seen = step(curriculum, 0, 3).prompt_B
    selection = curriculum.plan(1, 3, 6).selection
    by_prompt = dict(zip(selection.prompt_B.tolist(), selection.propensity_B.tolist(), strict=True))
    assert [by_prompt[i] for i in range(5) if i not in seen] == [1.0, 1.0]
    assert [by_prompt[i] for i in by_prompt if i in seen] == pytest.approx([1 / 3])


def test_propensity_includes_the_random_quota():
    """5 groups over two distributions of four: 2.5 expected each, so 0.625 for everyone."""
    np.testing.assert_allclose(curriculum_of("uniform", [4, 4]).plan(0, 5, 10).selection.propensity_B, 0.625)


def test_inclusion_by_enumeration():
    for expected in (0.3, 2.0, 2.25, 4.9):
        low, share = int(np.floor(expected)), expected - np.floor(expected)
        for before in range(5):
            for size in range(1, 5):
                mean = sum(w * min(max(n - before, 0), size) for n, w in ((low, 1 - share), (low + 1, share)))
                assert inclusion(expected, before, size) == pytest.approx(mean / size)


def test_rejection_and_scan_agree_in_distribution():
    """A large distribution is drawn by rejection, its remainder by a scan; both are uniform (chi-square within five sigma)."""
    for sizes, n_before in (([40], 0), ([40], 38)):
        curriculum = curriculum_of("uniform", sizes)
        step(curriculum, 0, n_before)
        counts = np.zeros(40)
        for seed in range(2000):
            curriculum.seed = seed
            counts[curriculum.plan(1, 1, 2).selection.prompt_B] += 1
        drawn = counts[counts > 0]
        n_open = 40 - n_before
        assert len(drawn) == n_open
        chi_square = ((drawn - 2000 / n_open) ** 2 / (2000 / n_open)).sum()
        assert abs(chi_square - (n_open - 1)) <= 5 * np.sqrt(2 * (n_open - 1))


def test_visits_count_duplicates_once_per_level():
    state = visited(no_visits(np.array([3])), np.array([0, 3]), np.array([1, 1]), np.array([0, 0]))
    assert state.visits_N.tolist() == [0, 2, 0]
    assert (state.level_K.tolist(), state.left_K.tolist()) == ([0], [2])
    assert [rung.tolist() for rung in rungs(state.visits_N, np.array([2]), 3)] == [[0], [1]]
