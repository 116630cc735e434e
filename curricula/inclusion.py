"""Drawing prompts with stated inclusion probabilities, for selectors that prefer some prompts to others.

A selector says with which probability each open prompt of a distribution is to be taken (they sum to the expected number), and
`choose` draws: every prompt comes exactly as often as stated, and the count is exactly the drawn quota.

>>> top(np.array([0.9, 0.1, 0.5, 0.5]), 2.0)
array([1. , 0. , 0.5, 0.5])
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from curricula.stages import Quota
from curricula.types import Floats, Ints, PromptPool, Selection
from curricula.visits import inclusion

Weigh = Callable[[Ints, float], Floats]  # open prompts of one distribution, expected number -> their inclusion probabilities


def choose(pool: PromptPool, quota: Quota, weigh: Weigh, floor: float, rng: np.random.Generator) -> Selection:
    """The quota of every distribution, drawn by ``weigh``; a share ``floor`` of it is spread evenly over the open prompts."""
    prompts, propensities = [np.empty(0, np.int64)], [np.empty(0)]
    for k in pool.name_order_K[quota.drawn_K[pool.name_order_K] > 0]:
        member = pool.members(k)
        member = member[~quota.blocked_N[member]]
        expected, drawn = float(quota.expected_K[k]), int(quota.drawn_K[k])
        probability = (1 - floor) * weigh(member, expected) + floor * expected / len(member)
        place = systematic(probability, drawn, rng)
        prompts.append(member[place])
        propensities.append(np.minimum(probability[place], 1.0))
    prompt_B = np.concatenate(prompts)
    return Selection(prompt_B, pool.distribution_N[prompt_B], np.concatenate(propensities))


def systematic(probability_n: Floats, drawn: int, rng: np.random.Generator) -> Ints:
    """(drawn,) ascending places, each drawn with its probability; ``drawn`` is the floor or the ceiling of their sum.

    Madow's systematic sampling: a ruler with marks one apart is laid on the cumulated probabilities at a random offset. Offsets
    below the sum's fraction hit once more than the others, so the offset is drawn among those that hit ``drawn`` times.
    """
    edge = np.cumsum(probability_n)
    whole, fraction = np.divmod(edge[-1], 1.0)
    if min(fraction, 1 - fraction) < 1e-9:
        whole, fraction = np.round(edge[-1]), 0.0
    offset = rng.random()
    offset = offset * fraction if drawn > whole else fraction + offset * (1 - fraction)
    place = np.searchsorted(edge, offset + np.arange(drawn), side="right")
    return _distinct_within(place, len(probability_n))


def _distinct_within(place: Ints, n: int) -> Ints:
    """Rounding can push a hit past the end or onto its neighbour where probabilities are 1: take the nearest free places."""
    if len(place) and (place[-1] >= n or (np.diff(place) < 1).any()):
        place = np.maximum.accumulate(place - np.arange(len(place))) + np.arange(len(place))
        place = np.minimum(place, n - len(place) + np.arange(len(place)))
    return place


def top(score_n: Floats, expected: float) -> Floats:
    """(n,) inclusion probabilities of the ``expected`` largest scores; equal scores share alike, NaN comes last.

    A fractional expectation gives its fraction to the next in rank.
    """
    score_n = np.where(np.isnan(score_n), -np.inf, score_n)
    n_most = min(int(np.ceil(expected)), len(score_n))
    cut = np.partition(score_n, len(score_n) - n_most)[len(score_n) - n_most]
    probability_n: Floats = (score_n > cut).astype(np.float64)
    tied = score_n == cut
    probability_n[tied] = inclusion(expected, int(probability_n.sum()), int(tied.sum()))
    return probability_n


def proportional(weight_n: Floats, expected: float) -> Floats:
    """(n,) inclusion probabilities min(1, c x weight) with c such that they sum to ``expected``; >= 0 weights.

    Where too few weights are positive, the rest is spread evenly over the others.
    """
    weight_n = np.where(np.isfinite(weight_n) & (weight_n > 0), weight_n, 0.0)
    probability_n = np.zeros(len(weight_n))
    n_positive = int(np.count_nonzero(weight_n))
    if n_positive <= expected:
        rest = weight_n == 0
        probability_n[~rest] = 1.0
        probability_n[rest] = (expected - n_positive) / max(int(rest.sum()), 1)
        return probability_n
    full_n = np.zeros(len(weight_n), dtype=np.bool_)
    while True:
        open_weight = np.where(full_n, 0.0, weight_n)
        share_n = open_weight / open_weight.sum() * (expected - np.count_nonzero(full_n))
        more_n = ~full_n & (share_n >= 1.0)
        if not more_n.any():
            return np.where(full_n, 1.0, share_n)
        full_n |= more_n


def boltzmann(score_n: Floats, temperature: float, expected: float) -> Floats:
    """(n,) inclusion probabilities min(1, c x exp(score / temperature)); the limit of a small temperature is `top`."""
    with np.errstate(over="ignore"):
        return proportional(np.exp((score_n - score_n.max()) / temperature), expected)
