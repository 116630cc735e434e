"""Drawing prompts with stated inclusion probabilities, for selectors that prefer some prompts to others.

A selector says with which probability each open prompt of a distribution is to be taken (they sum to the expected number), and
`choose` draws: every prompt comes exactly as often as stated, and the count is exactly the drawn quota. In large distributions
`choose_among_candidates` does so among a uniform sample.

>>> top(np.array([0.9, 0.1, 0.5, 0.5]), 2.0)
array([1. , 0. , 0.5, 0.5])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

from curricula.stages import Quota
from curricula.types import CurriculaError, Floats, Ints, PromptPool, Selection
from curricula.visits import inclusion

Weigh = Callable[[Ints, float], Floats]  # open prompts of one distribution, expected number -> their inclusion probabilities
PER_SEAT, LEAST_CANDIDATES = 64, 4096  # open prompts of a distribution that are weighed
DEEP = 16  # scores of which the highest is looked at first
PART = 16_384  # prompts that are scored at a time
NEAR_WHOLE = 1e-9  # sums of probabilities this close to a whole number are whole, relative to the sum
SMALLEST = float(np.finfo(np.float64).tiny)
FAR = 200.0  # exponents this far above a taken prompt's are as good as infinite: exp(200) outweighs any pool


class OpenArm(NamedTuple):
    """What a distribution offers to a plan."""

    prompt_n: Ints  # (n,) its prompts that may be chosen, or a random sample of them, by id
    share: float  # chance of every open prompt to be among them
    expected: float  # how many are taken, on average over the draw of the quota
    drawn: int  # how many are taken this time


def by_parts(rule: Callable[[Ints], Floats], prompt_n: Ints) -> Floats:
    """(n,) what a rule says of each prompt, asked part by part: what it computes on the way stays in the processor's cache."""
    value_n = np.empty(len(prompt_n))
    for start in range(0, len(prompt_n), PART):
        value_n[start : start + PART] = rule(prompt_n[start : start + PART])
    return value_n


def open_arms(pool: PromptPool, quota: Quota) -> Iterator[OpenArm]:
    """The distributions that give a prompt, in name order, with all their open prompts."""
    blocks = bool(quota.blocked_N.any())
    for k in pool.name_order_K[quota.asked_K[pool.name_order_K]]:
        member = pool.members(k)
        yield OpenArm(
            member[~quota.blocked_N[member]] if blocks else member, 1.0, float(quota.expected_K[k]), int(quota.drawn_K[k])
        )


def sampled_arms(pool: PromptPool, quota: Quota, rng: np.random.Generator, per_seat: int, least: int = 1) -> Iterator[OpenArm]:
    """The same, but of a large distribution only a uniform sample: ``per_seat`` open prompts for each to take, ``least`` at least.

    A selector then costs O(batch), however large the pool.
    """
    blocked = np.flatnonzero(quota.blocked_N)
    n_open_K = pool.size_K - np.bincount(pool.distribution_N[blocked], minlength=pool.n_distributions)
    for k in pool.name_order_K[quota.asked_K[pool.name_order_K]]:
        member, expected = pool.members(k), float(quota.expected_K[k])
        wanted = max(least, per_seat * int(np.ceil(expected)))
        n_places = len(member)
        if wanted < n_open_K[k]:
            n_places = int(np.ceil(wanted * len(member) / n_open_K[k]))
            member = member[np.sort(rng.choice(len(member), n_places, replace=False, shuffle=False))]
        prompt_n, share = member[~quota.blocked_N[member]], n_places / int(pool.size_K[k])
        if len(prompt_n) < np.ceil(expected):  # next to never: the sample hit blocked prompts alone
            member, share = pool.members(k), 1.0
            prompt_n = member[~quota.blocked_N[member]]
        yield OpenArm(prompt_n, share, expected, int(quota.drawn_K[k]))


def choose(pool: PromptPool, quota: Quota, weigh: Weigh, floor: float, rng: np.random.Generator) -> Selection:
    """The quota of every distribution, drawn by ``weigh``; a share ``floor`` of it is spread evenly over the open prompts."""
    return _drawn(pool, quota, open_arms(pool, quota), weigh, floor, rng)


def choose_among_candidates(pool: PromptPool, quota: Quota, weigh: Weigh, floor: float, rng: np.random.Generator) -> Selection:
    """As `choose`, for rules that need no more than a good sample: of a distribution with many open prompts (more than 4096, and 64
    per prompt to take) a uniform sample is weighed, so the cost of a plan does not grow with the pool.

    The propensity is then the chance to be in the sample times the inclusion probability inside it: conditional on the sample, and
    still such that visits weighted by 1 / propensity average one.
    """
    return _drawn(pool, quota, sampled_arms(pool, quota, rng, PER_SEAT, LEAST_CANDIDATES), weigh, floor, rng)


def _drawn(
    pool: PromptPool, quota: Quota, arms: Iterable[OpenArm], weigh: Weigh, floor: float, rng: np.random.Generator
) -> Selection:
    prompts, propensities = [np.empty(0, np.int64)], [np.empty(0)]
    for arm in arms:
        probability = weigh(arm.prompt_n, arm.expected)
        if floor:
            probability = (1 - floor) * probability + floor * arm.expected / len(arm.prompt_n)
        if quota.tell is not None:
            quota.tell(arm.prompt_n, np.minimum(probability, 1.0))
        place = systematic(probability, arm.drawn, rng)
        prompts.append(arm.prompt_n[place])
        propensities.append(arm.share * np.minimum(probability[place], 1.0))
    prompt_B = np.concatenate(prompts)
    return Selection(prompt_B, pool.distribution_N[prompt_B], np.concatenate(propensities))


def systematic(probability_n: Floats, drawn: int, rng: np.random.Generator) -> Ints:
    """(drawn,) ascending places, each drawn with its probability; ``drawn`` is the floor or the ceiling of their sum.

    Madow's systematic sampling: a ruler with marks one apart is laid on the cumulated probabilities at a random offset. Offsets
    below the sum's fraction hit once more than the others, so the offset is drawn among those that hit ``drawn`` times.
    Errors: CurriculaError when the sum does not fit the count.
    """
    is_possible = probability_n != 0
    possible = None if is_possible.all() else np.flatnonzero(is_possible)  # with a floor all are: spares two passes
    edge = np.cumsum(probability_n if possible is None else probability_n[possible])
    total = float(edge[-1]) if len(edge) else 0.0
    if abs(total - np.round(total)) < NEAR_WHOLE * max(1.0, total):
        total = float(np.round(total))
    if not np.floor(total) <= drawn <= np.ceil(total):
        raise CurriculaError(f"inclusion probabilities: expected a sum within one of the {drawn} prompts to draw, got {total}")
    edge[-1:] = total
    whole = np.floor(total)
    fraction = total - whole
    offset = rng.random()
    offset = offset * fraction if drawn > whole else fraction + offset * (1 - fraction)
    place = np.searchsorted(edge, offset + np.arange(drawn), side="right")
    place = _distinct_within(place, len(edge))
    return place if possible is None else possible[place]


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
    cut = _nth_largest(score_n, expected)
    probability_n: Floats = (score_n > cut).astype(np.float64)
    tied = score_n == cut
    probability_n[tied] = inclusion(expected, int(probability_n.sum()), int(tied.sum()))
    return probability_n


def _nth_largest(score_n: Floats, expected: float) -> float:
    """The last score that is taken when ``expected`` are, rounded up; no NaN among the scores."""
    n_most = min(max(int(np.ceil(expected)), 1), len(score_n))
    n_columns = len(score_n) // DEEP
    if n_most <= n_columns:  # few of many: a partition of the whole is slow, most of all among equals
        highest = score_n[: n_columns * DEEP].reshape(DEEP, n_columns).max(axis=0)  # so many scores are at least the n-th of these
        bound = float(np.partition(highest, n_columns - n_most)[n_columns - n_most])
        score_n = score_n[score_n > bound]
        if len(score_n) < n_most:
            return bound
    return float(np.partition(score_n, len(score_n) - n_most)[len(score_n) - n_most])


def proportional(weight_n: Floats, expected: float) -> Floats:
    """(n,) inclusion probabilities min(1, c x weight) with c such that they sum to ``expected``; >= 0 weights.

    Where too few weights are positive, the rest is spread evenly over the others. A weight that is not a finite number counts as 0.
    """
    least, most = float(weight_n.min()), float(weight_n.max())
    if not (least > 0 and most < np.inf):  # NaN too
        weight_n = np.where(np.isfinite(weight_n) & (weight_n > 0), weight_n, 0.0)
        least, most = 0.0, float(weight_n.max())
    unit = max(most, SMALLEST)
    weight_n = weight_n / unit  # so that no sum overflows
    n_positive = len(weight_n) if least / unit > 0 else int(np.count_nonzero(weight_n))
    if n_positive <= expected:
        probability_n = (weight_n > 0).astype(np.float64)
        probability_n[weight_n == 0] = (expected - n_positive) / max(len(weight_n) - n_positive, 1)
        return probability_n
    scale = expected / weight_n.sum()
    if most / unit * scale >= 1.0:  # the largest share
        return _capped(weight_n, expected)
    weight_n *= scale
    return weight_n


def _capped(weight_n: Floats, expected: float) -> Floats:
    """The same where some are certain: from the largest down, a weight is certain if its share of what is left reaches 1."""
    n_most = int(np.ceil(expected))
    parted = np.partition(weight_n, len(weight_n) - n_most)
    head = np.sort(parted[len(weight_n) - n_most :])  # ascending
    weight_to_here = parted[: len(weight_n) - n_most].sum() + np.cumsum(head)
    left = expected - np.arange(n_most - 1, -1, -1)  # when all larger ones are certain
    is_open = left * head < weight_to_here
    if not is_open.any():
        return np.where(weight_n >= head[0], 1.0, 0.0)
    last = int(np.flatnonzero(is_open)[-1])
    with np.errstate(over="ignore"):
        probability_n: Floats = weight_n / weight_to_here[last] * left[last]
    probability_n[weight_n > head[last]] = 1.0
    return probability_n


def boltzmann(score_n: Floats, temperature: float, expected: float) -> Floats:
    """(n,) inclusion probabilities min(1, c x exp(score / temperature)); the limit of a small temperature is `top`. NaN comes last.

    Exponents count from the last score that `top` would take, so that a small temperature orders the others instead of losing them.
    """
    score_n = np.nan_to_num(score_n, nan=-np.inf, neginf=-np.inf)
    origin = _nth_largest(score_n, expected)
    if origin == -np.inf:
        origin = float(score_n[score_n > -np.inf].min(initial=0.0))
    with np.errstate(over="ignore"):
        return proportional(np.exp(np.minimum((score_n - origin) / temperature, FAR)), expected)
