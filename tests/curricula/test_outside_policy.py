"""A policy that lives in a user's own file; and that the suite catches broken ones."""

import sys
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pytest

from curricula import Curriculum, PromptPool, Selection, Stateless
from curricula.distribution.sec import SelfEvolvingCurriculum
from curricula.selector.uniform import UniformWithoutReplacement
from curricula.testing import check_policy, checks

SOURCE = '''
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.signals import distribution_means, group_signal


class Newest(NamedTuple):
    signal_K: np.ndarray


@dataclass(frozen=True)
class Greedy:
    """All to the distribution that taught most last time. Ours.

    >>> Greedy(margin=0.5).margin
    0.5
    """

    margin: float = 0.1

    def init(self, pool):
        return Newest(np.ones(pool.n_distributions))

    def probabilities(self, state, pool):
        best = state.signal_K >= state.signal_K.max() - self.margin
        return best / best.sum()

    def update(self, state, pool, feedback):
        arm_B = feedback.plan.selection.distribution_B
        signal_K = distribution_means(group_signal(feedback, "learnability"), arm_B, pool.n_distributions)
        return Newest(np.where(np.isnan(signal_K), state.signal_K, signal_K))
'''


def test_a_policy_from_outside_passes_and_runs(tmp_path, monkeypatch):
    (tmp_path / "my_policies.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    check_policy("distribution", "my_policies:Greedy")
    pool = PromptPool.from_columns("abcd", ["x", "x", "y", "y"])
    curriculum = Curriculum.from_recipe({"distribution": {"name": "my_policies:Greedy", "margin": 0.2}}, pool)
    assert len(curriculum.plan(0, 2, 4)) == 2
    assert str(curriculum.state_dict()["meta.policy.distribution"]).startswith("my_policies:Greedy")
    del sys.modules["my_policies"]


@dataclass(frozen=True)
class WrongPropensity(UniformWithoutReplacement):
    """Ours."""

    def select(self, state, pool, quota, believed, rng):
        selection = super().select(state, pool, quota, believed, rng)
        return replace(selection, propensity_B=selection.propensity_B * 0.8)


@dataclass(frozen=True)
class GlobalRandomness(UniformWithoutReplacement):
    """Ours."""

    def select(self, state, pool, quota, believed, rng):
        return super().select(state, pool, quota, believed, np.random.default_rng(np.random.randint(99)))  # noqa: NPY002


@dataclass(frozen=True)
class FirstRows(UniformWithoutReplacement):
    """Ours."""

    def select(self, state, pool, quota, believed, rng):
        row = np.concatenate([np.flatnonzero(pool.distribution_N == k)[:n] for k, n in enumerate(quota.drawn_K)])
        return Selection(row, pool.distribution_N[row], np.ones(len(row)))


@dataclass(frozen=True)
class HidesItsState(SelfEvolvingCurriculum):
    """Ours."""

    def probabilities(self, state, pool):
        object.__setattr__(self, "_calls", getattr(self, "_calls", 0) + 1)
        return np.ones(pool.n_distributions) + np.arange(pool.n_distributions) * self._calls


class Count(NamedTuple):
    n: np.ndarray


@dataclass(frozen=True)
class GrowsItsState(Stateless):
    """Ours."""

    def init(self, pool):
        return Count(np.zeros(1))

    def probabilities(self, state, pool):
        return np.ones(pool.n_distributions)

    def update(self, state, pool, feedback):
        return Count(np.append(state.n, len(feedback.plan)))


@dataclass(frozen=True)
class Overspends(Stateless):
    """Ours."""

    def allocate(self, state, pool, selection, estimate, n_rollouts):
        return np.full(len(selection), 2 + n_rollouts // max(len(selection), 1))

    def extend(self, state, pool, outcome, estimate):
        return None


@pytest.mark.parametrize(
    ("stage", "policy", "check"),
    [
        ("selector", WrongPropensity(), "propensity_is_frequency"),
        ("selector", GlobalRandomness(), "deciding_is_pure"),
        ("selector", FirstRows(), "order_of_rows_does_not_matter"),
        ("distribution", HidesItsState(), "deciding_is_pure"),
        ("distribution", HidesItsState(), "resume_equals_never_stopped"),
        ("distribution", GrowsItsState(), "state_is_plain"),
        ("distribution", GrowsItsState(), "doctest_runs"),
        ("budget", Overspends(), "budget_is_a_hard_cap"),
    ],
)
def test_broken_policies_are_caught(stage, policy, check):
    with pytest.raises((AssertionError, ValueError)):
        dict(checks(stage, policy))[check]()


def test_the_name_of_the_failed_check_is_told():
    with pytest.raises(AssertionError, match="check 'doctest_runs'"):
        check_policy("budget", Overspends())
