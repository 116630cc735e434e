"""The knapsack against the vectors of the specification (sections 5.8 and 5.9), brute force and dynamic programming."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curricula import CurriculaError, Estimate, PromptPool, Selection
from curricula.budget.knapsack import Knapsack
from curricula.marginals import plug_in_marginals, posterior_marginals


def at(p):
    p = np.asarray(p, dtype=np.float64)
    return Estimate(p, 1 - p)


def counts(k, n, prior=1.0):
    k = np.asarray(k, dtype=np.float64)
    return Estimate(k + prior, n - k + prior)


def value(n, p):
    """V(N, p) written out, for N >= 2."""
    return (1 - p**n - (1 - p) ** n) * p * (1 - p) ** 2


@pytest.mark.parametrize(
    ("n", "p", "v"),
    [
        (2, 0.5, 0.0625),
        (8, 0.5, 0.12402344),
        (8, 0.25, 0.12654448),
        (8, 0.05, 0.01518815),
        (8, 0.01, 0.00075718),
        (8, 0.95, 0.00079938),
        (32, 0.05, 0.03638377),
        (93, 0.02, 0.01627368),
        (128, 0.01, 0.00709346),
    ],
)
def test_values(n, p, v):
    assert plug_in_marginals(np.array([p]), n - 1).sum() == pytest.approx(v, abs=1e-8)


@pytest.mark.parametrize(
    ("a", "b", "values"),
    [
        (1, 1, [0.03333333, 0.07424242, 0.08249300, 0.08327461]),
        (1, 9, [0.01648352, 0.04449274, 0.06342495, 0.06771933]),
        (9, 1, [0.00449550, 0.01099991, 0.01340985, 0.01362966]),
        (5, 5, [0.05244755, 0.10976639, 0.11361914, 0.11363635]),
        (2, 8, [0.03596404, 0.08799931, 0.10727876, 0.10903729]),
    ],
)
def test_posterior_values(a, b, values):
    table = posterior_marginals(Estimate(np.array([float(a)]), np.array([float(b)])), 127).cumsum(axis=1)[0]
    np.testing.assert_allclose(table[[0, 6, 30, 126]], values, atol=1e-8)


def test_k1_exact_and_official():
    p = [0.05, 0.1, 0.25, 0.5, 0.75, 0.9]
    exact = Knapsack(value="plug_in", max_n=24).shares(at(p), 48)
    assert exact.tolist() == [6, 15, 11, 7, 7, 2]
    assert value(exact, np.array(p)).sum() == pytest.approx(0.37624440, abs=1e-8)
    assert Knapsack(value="plug_in", max_n=24, min_value="official").shares(at(p), 48).tolist() == [5, 15, 11, 7, 7, 3]


def test_k2_fallback_is_an_option():
    p = [0, 0, 1, 1, 0.5, 0.1]
    assert Knapsack(value="plug_in").shares(at(p), 48).tolist() == [2, 2, 2, 2, 9, 31]
    assert Knapsack(value="plug_in", min_value="official").shares(at(p), 48).tolist() == [8, 8, 2, 2, 7, 21]


@pytest.mark.parametrize(
    ("estimate", "n"),
    [
        (at([1, 1, 1, 1]), [8, 8, 8, 8]),
        (at([1, 1, 1, 0]), [2, 2, 2, 26]),
        (Estimate(np.zeros(4), np.zeros(4)), [8, 8, 8, 8]),  # unseen: a belief without prior
        (Estimate(np.array([0.5, 0.5, 0, 1]), np.array([0.5, 0.5, 0, 0])), [5, 5, 20, 2]),  # K5
        (at([0.5] * 4), [8, 8, 8, 8]),  # the released code fails its assertion here
    ],
)
def test_k3_k5_official(estimate, n):
    assert Knapsack(value="plug_in", min_value="official").shares(estimate, 32).tolist() == n


def test_all_solved_is_spread_evenly():
    assert Knapsack(value="plug_in").shares(at([1, 1, 1, 1]), 32).tolist() == [8, 8, 8, 8]
    assert Knapsack(value="plug_in").shares(at([0, 1, 0]), 10).tolist() == [4, 3, 3]


def test_k4():
    assert Knapsack(value="plug_in", max_n=8).shares(at([0.5, 0.1]), 10).tolist() == [5, 5]
    assert Knapsack(value="plug_in", max_n=16).shares(at([0.3, 0.3, 0.7, 0.7]), 24).tolist() == [7, 7, 5, 5]


def test_posterior_shares():
    k = [0, 0, 8, 8, 4, 1]
    assert Knapsack().shares(counts(k, 8), 48).tolist() == [11, 11, 3, 3, 8, 12]
    assert Knapsack().shares(counts(k, 8, prior=0.5), 48).tolist() == [10, 10, 2, 2, 9, 15]


probabilities = st.lists(st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.5, 1.0])), min_size=1, max_size=4)


@given(probabilities, st.integers(2, 3), st.integers(3, 7), st.integers(0, 20))
@settings(deadline=None, max_examples=150)
def test_exact_against_every_allocation(p, lo, hi, extra):
    n_rollouts = min(lo * len(p) + extra, hi * len(p))
    ours = Knapsack(min_n=lo, max_n=hi, value="plug_in").shares(at(p), n_rollouts)
    p = np.array(p)
    best = max(value(np.array(n), p).sum() for n in product(range(lo, hi + 1), repeat=len(p)) if sum(n) == n_rollouts)
    assert ours.sum() == n_rollouts
    assert value(ours, p).sum() == pytest.approx(best, abs=1e-12)


def optimum_by_table(marginal_BC, n_units):
    """Best objective by dynamic programming over rows x budget."""
    best = np.full(n_units + 1, -np.inf)
    best[0] = 0.0
    for row in np.concatenate([np.zeros((len(marginal_BC), 1)), marginal_BC.cumsum(axis=1)], axis=1):
        best = np.array([max(best[c - k] + row[k] for k in range(min(c, len(row) - 1) + 1)) for c in range(n_units + 1)])
    return best[n_units]


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", ["posterior", "plug_in"])
def test_greedy_equals_dynamic_programming(seed, kind):
    rng = np.random.default_rng(seed)
    b, lo, hi = 12, 2, 20
    estimate = Estimate(rng.gamma(0.5, 4, b) + 0.01, rng.gamma(0.5, 4, b) + 0.01)
    policy = Knapsack(min_n=lo, max_n=hi, value=kind)
    n_rollouts = int(rng.integers(lo * b, hi * b))
    n = policy.shares(estimate, n_rollouts)
    marginal = policy.marginals(estimate, hi - 1)
    ours = sum(marginal[i, : n[i] - 1].sum() for i in range(b))
    base = marginal[:, : lo - 1].sum()
    assert n.sum() == n_rollouts
    assert ours == pytest.approx(base + optimum_by_table(marginal[:, lo - 1 :], n_rollouts - lo * b), abs=1e-12)


@given(st.integers(0, 40), st.integers(0, 400), st.integers(2, 6), st.integers(6, 30), st.integers(0, 10**6))
@settings(deadline=None, max_examples=150)
@pytest.mark.parametrize("min_value", ["exact", "official"])
def test_bounds_hold_and_everything_possible_is_spent(min_value, b, n_rollouts, lo, hi, seed):
    rng = np.random.default_rng(seed)
    p = np.round(rng.random(b) * 4) / 4
    n = Knapsack(min_n=lo, max_n=hi, value="plug_in", min_value=min_value).shares(at(p), n_rollouts)
    assert ((n == 0) | ((n >= lo) & (n <= hi))).all()
    assert n.sum() <= n_rollouts
    assert (n > 0).sum() == min(b, n_rollouts // lo)
    if min_value == "exact":
        assert n.sum() == min(n_rollouts, hi * (n > 0).sum())


def test_more_uncertain_prompts_get_no_fewer_rollouts():
    n = Knapsack().shares(counts([4, 2, 1, 0], 8), 64)
    assert n[0] <= n[1] <= n[2]


def test_a_certain_failure_is_never_starved():
    """Thousands of failures, then a pass rate of 0.3: the posterior keeps asking."""
    n = Knapsack().shares(Estimate(np.array([1.0, 5.0]), np.array([1e4, 5.0])), 64)
    assert n[0] >= 2


def test_ties_go_to_the_lower_id_and_rows_do_not_matter():
    pool = PromptPool.from_columns(["c", "a", "b"], ["x"] * 3)
    for order in ([0, 1, 2], [2, 0, 1]):
        selection = Selection(np.array(order), np.zeros(3), np.ones(3))
        n = Knapsack().allocate(None, pool, selection, at([0.5] * 3), 11)
        assert dict(zip(pool.ids[order].tolist(), n.tolist(), strict=True)) == {"a": 4, "b": 4, "c": 3}


@pytest.mark.parametrize("bad", [{"min_n": 1}, {"min_n": 5, "max_n": 4}, {"min_value": "official"}])
def test_bad_bounds_are_refused(bad):
    with pytest.raises(CurriculaError, match="knapsack"):
        Knapsack(**bad)
