"""Spending rollouts: the search for the price against the table of all marginals, and dynamic programming against every plan."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curricula import CurriculaError, Estimate, spending
from curricula.budget.knapsack import Knapsack
from curricula.marginals import PlugInWalk, PosteriorWalk, plug_in_marginals, posterior_marginals, table
from curricula.spending import climb, falls, program, spend_many, take_largest


def beliefs(kind, n_rows, seed):
    """Columns a, b of very different kinds of rows: many equal ones, rates of exactly 0 and 1, counts, anything."""
    rng = np.random.default_rng(seed)
    if kind == "equal":
        return np.ones(n_rows), np.ones(n_rows)
    if kind == "counts":
        k = rng.integers(0, 9, n_rows)
        return 1.0 + k, 9.0 - k
    if kind == "ends":
        p = rng.choice(
            [0.0, 1.0, 0.5, 1e-17, 1e-200],  # at 1e-17 no marginal is 0 and none falls
            n_rows,
            p=[0.4, 0.4, 0.1, 0.05, 0.05],
        )
        return p, 1 - p
    if kind == "sorted":  # a sample by stride still sees all of it
        return np.sort(rng.gamma(0.5, 4, n_rows)) + 0.01, rng.gamma(0.5, 4, n_rows) + 0.01
    if kind == "periodic":  # a sample by stride may see one kind of row only
        a = np.where(np.arange(n_rows) % 8 == 0, 1e6, 1.0)
        return a, np.ones(n_rows)
    return rng.gamma(0.5, 4, n_rows) + 0.01, rng.gamma(0.5, 4, n_rows) + 0.01


@given(
    st.sampled_from(["equal", "counts", "ends", "sorted", "periodic", "any"]),
    st.sampled_from(["posterior", "plug_in"]),
    st.integers(1, 90),
    st.integers(1, 3),
    st.integers(1, 40),
    st.floats(-0.1, 1.1),
    st.integers(0, 10**6),
)
@settings(deadline=None, max_examples=400)
def test_many_rows_are_spent_as_by_the_whole_table(kind, value, n_rows, first, n_columns, share, seed):
    a, b = beliefs(kind, n_rows, seed)
    if kind == "ends" and value == "posterior":
        a, b = a + 0.5, b + 0.5
    p = a / (a + b)
    whole = (posterior_marginals(Estimate(a, b), 60) if value == "posterior" else plug_in_marginals(p, 60))[:, first:]
    n_units = round(share * n_rows * n_columns)

    def walk(rows):
        return PosteriorWalk(a[rows], b[rows]) if value == "posterior" else PlugInWalk(p[rows])

    with pytest.MonkeyPatch.context() as patch:  # small rows, many chunks, samples that err
        patch.setattr(spending, "CHUNK", 7)
        patch.setattr(spending, "SAMPLE", 11)
        patch.setattr(spending, "SIGMAS", 0.3)
        ours = spend_many(walk, n_rows, n_units, first, n_columns)
    np.testing.assert_array_equal(ours, take_largest(whole[:, :n_columns], n_units))


@pytest.mark.parametrize("value", ["posterior", "plug_in"])
@pytest.mark.parametrize("kind", ["counts", "any", "sorted"])
def test_the_knapsack_of_many_prompts_is_that_of_few(monkeypatch, value, kind):
    a, b = beliefs(kind, 20_000, 1)
    policy, estimate = Knapsack(value=value), Estimate(a, b)
    searched = policy.shares(estimate, 160_000)
    monkeypatch.setattr("curricula.budget.knapsack.MANY", 10**9)
    assert searched.sum() == 160_000
    np.testing.assert_array_equal(searched, policy.shares(estimate, 160_000))


def test_a_walk_goes_on_with_the_rows_it_keeps():
    p = np.array([0.1, 0.5, 0.9])
    walk, whole = PlugInWalk(p), table(PlugInWalk(p), 3)
    walk.column()
    walk.keep(np.array([0, 2]))
    np.testing.assert_array_equal(walk.column(), whole[[0, 2], 1])


rows_of_marginals = st.integers(1, 4).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, 9), min_size=n, max_size=n), min_size=1, max_size=4)
)


@given(rows_of_marginals, st.integers(0, 18))
@settings(deadline=None, max_examples=200)
def test_the_program_is_exact_whatever_the_marginals_do(rows, n_units):
    marginal = np.array(rows, dtype=np.float64)
    n_rows, n_columns = marginal.shape
    worth = np.concatenate([np.zeros((n_rows, 1)), marginal.cumsum(axis=1)], axis=1)
    n_spent = min(n_units, marginal.size)
    plans = [n for n in product(range(n_columns + 1), repeat=n_rows) if sum(n) == n_spent]
    best = max(sum(worth[i, k] for i, k in enumerate(n)) for n in plans)
    taken = program(marginal, n_units)
    assert taken.sum() == n_spent
    assert worth[np.arange(n_rows), taken].sum() == pytest.approx(best)


@given(rows_of_marginals, st.integers(0, 18))
@settings(deadline=None, max_examples=200)
def test_climbing_is_the_greedy_that_looks_one_ahead(rows, n_units):
    rng = np.random.default_rng(len(rows))
    marginal = np.array(rows) + rng.random((len(rows), len(rows[0])))  # no ties
    n = np.zeros(len(rows), dtype=int)
    for _ in range(min(n_units, marginal.size)):
        ahead = [marginal[i, k] if k < marginal.shape[1] else -1.0 for i, k in enumerate(n)]
        n[int(np.argmax(ahead))] += 1
    np.testing.assert_array_equal(climb(marginal, n_units), n)


def test_falls():
    assert falls(np.array([[3.0, 2.0, 2.0], [0.0, 0.0, 0.0]]))
    assert falls(np.array([[1.0, 1.0 + 1e-15]]))
    assert not falls(np.array([[3.0, 2.0], [1.0, 1.1]]))


def test_a_dear_program_is_refused():
    with pytest.raises(CurriculaError, match=r"lower max_n, plan fewer groups, or take solver 'greedy'"):
        program(np.zeros((1000, 60)), 40_000)
