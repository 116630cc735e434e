"""What another selection rule would have got at the logged states, with an interval, or the reason why the log cannot tell.

At every logged step t the log chose prompts with known inclusion probabilities pi (adaptive logging needs the ones of that time);
the target rule would have chosen them with probability q. Groups that the target likes more than the log did count more, by the
weight w = q / pi. The estimated number is the mean outcome y of a group that the target would have chosen,

    V = mean over the logged steps t of  (1 / m_t) sum over the pool of q_ti E[y_ti],    m_t = sum over the pool of q_ti,

by one of

    ips    mean_t (1 / m_t) sum of w y                      Li et al. 2011 (replay is its case of a uniform log)
    snips  (sum of w y / m_t) / (sum of w / m_t)            Swaminathan and Joachims 2015
    dr     mean_t [direct_t + (1 / m_t) sum of w (y - g)]   Dudik, Langford and Li, arXiv 1103.4601

with sums over the logged groups of a step, a prediction g of y made without these outcomes, and direct_t = (1 / m_t) sum over the
pool of q g. ips and dr are unbiased; snips has a bias of order 1 / steps and usually the shorter interval of the two that need no
prediction. dr is short where g is good and stays right where g is not.

Intervals: Student's t over steps. The groups of one step depend on each other (drawn together, without replacement, made by the
same weights), so a step is one observation; snips by the residuals of the ratio. A drift of the value over the steps is counted
as noise, so under learning the interval is too long rather than too short. Measured coverage: benchmarks/replay_coverage.py.

Overlap: effective groups = (sum of w)^2 / sum of w^2, the largest weight, and the share of the target's mass that the log could
not choose. Where that share is not known (it takes the propensities of the whole pool) it is judged by the weights, which sum to
m_t on average when nothing is missing; too much in doubt is a reason to refuse. (Refusing by the weights picks logs whose weights
came out large: among what is left, ips is a little too high and snips too low. Knowing the share is better.) Beyond the limits of
`Limits` the answer is `NotEstimable`, with the reason, and no number.

What the number does NOT say: the policy weights at step t came from the logged selections. "At the logged states" is not "had the
target been trained with": a rule that always picks easy prompts looks good at the states that another rule reached. No final
accuracy, no speed-up, no regret of a curriculum follows from it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from curricula.statistics import t_quantile
from curricula.types import Bools, CurriculaError, Floats, Ints, frozen_array
from replay.types import LoggedRun

Method = Literal["ips", "snips", "dr"]
NEAR = 1e-9  # rounding of sums of probabilities


class Target(NamedTuple):
    """How the target rule would have chosen; steps ascending, only those that the log has groups of."""

    inclusion_G: Floats  # of each logged group's prompt at its step
    size_T: Floats  # expected groups per step, over the whole pool: m_t
    unsupported: float | None  # known share of its mass on prompts that the log could not choose; None = estimated from the weights
    direct_T: Floats | None = None  # (1 / m_t) sum over the pool of q g; needed by dr


@dataclass(frozen=True, eq=False)
class Decisions:
    """The logged groups: what was chosen with which probability, and what came of it.

    A target speaks of one choice per step. Where a step held several plans (attempts), number the plans instead and give those
    numbers as ``step_G``, to the target as well; plans of one step are then taken for independent.
    """

    value_G: Floats  # any number per group, e.g. 1 for a live one
    propensity_G: Floats  # inclusion probability of the group's prompt at its step
    step_G: Ints

    def __post_init__(self) -> None:
        n = len(np.asarray(self.value_G))
        for name, dtype in (("value_G", np.float64), ("propensity_G", np.float64), ("step_G", np.int64)):
            object.__setattr__(self, name, frozen_array(getattr(self, name), dtype, f"Decisions.{name}", n))

    @classmethod
    def of_run(cls, run: LoggedRun, value_G: ArrayLike) -> Decisions:
        """The groups of a log; CurriculaError when it lacks what weighting needs.

        A log of kept groups only is refused: whether a group was kept depends on its outcome.
        """
        run.needs("step", "propensity", "rejected groups")
        return cls(np.asarray(value_G, dtype=np.float64), run.propensity_G, run.step_G)

    def __len__(self) -> int:
        return len(self.value_G)


class Limits(NamedTuple):
    """Beyond these a log does not tell. Chosen so that the coverage study holds (benchmarks/replay_coverage.py). Ours."""

    steps: int = 10  # at least
    effective_groups: float = (
        100.0  # at least: at 50 to 80 ips held the truth in 91 to 92 % only, for the rare large weights it missed
    )
    largest_share: float = 0.05  # of all weight, on one group, at most
    unsupported: float = 0.01  # share of the target's mass, at most, where it is known
    unseen: float = 0.10  # share of the target's mass that the weights must rule out to be without support, where it is not known


class Overlap(NamedTuple):
    """How much of the target the log has seen."""

    n_groups: int
    n_steps: int
    effective_groups: float  # (sum of w)^2 / sum of w^2
    largest_weight: float
    largest_share: float  # of all weight, on one group
    mass: float  # mean of sum(w) / m: 1 where the propensities are right and the log could choose whatever the target would
    mass_error: float  # half the width of its interval
    unsupported: float | None  # known share of the target's mass that the log could not choose


@dataclass(frozen=True)
class Value:
    """An estimate at the logged states, with its interval and overlap. It prints both: never show the number alone."""

    method: Method
    value: float
    low: float
    high: float
    standard_error: float
    confidence: float
    overlap: Overlap

    def __str__(self) -> str:
        seen = self.overlap
        return (
            f"{self.value:.4g} [{self.low:.4g}, {self.high:.4g}] at the logged states ({self.method}, {self.confidence:.0%}, "
            f"{seen.n_steps} steps, {seen.effective_groups:.0f} effective of {seen.n_groups} groups, largest weight "
            f"{seen.largest_weight:.3g})"
        )


@dataclass(frozen=True)
class NotEstimable:
    """The log does not tell, and why."""

    method: Method
    reason: str
    overlap: Overlap | None = None

    def __str__(self) -> str:
        return f"not estimable ({self.method}): {self.reason}"


def target_of_inclusion(
    inclusion_TN: ArrayLike,
    prompt_G: Ints,
    step_G: Ints,
    propensity_TN: ArrayLike | None = None,
    prediction_TN: ArrayLike | None = None,
) -> Target:
    """A target that is known for the whole pool: its inclusion probability of every prompt at every logged step.

    Each table has a row per logged step, ascending, or one row that holds for all (one axis: the same). With the log's propensities
    for the whole pool the mass without support is known instead of estimated; with predictions `dr` can be had.

    >>> target = target_of_inclusion([0.5, 0.5, 1.0], np.array([2, 0]), np.array([7, 9]), propensity_TN=[0.1, 0.0, 0.9])
    >>> target.inclusion_G, target.size_T, target.unsupported
    (array([1. , 0.5]), array([2., 2.]), 0.25)
    """
    step_T, place_G = np.unique(step_G, return_inverse=True)
    q_TN = _table(inclusion_TN, len(step_T), "inclusion_TN")
    if not ((q_TN >= 0) & (q_TN <= 1 + NEAR)).all():
        raise CurriculaError("target_of_inclusion: expected inclusion probabilities in [0, 1]")
    size_T = q_TN.sum(axis=1)
    unsupported = direct_T = None
    if propensity_TN is not None:
        lost_TN = np.where(_table(propensity_TN, len(step_T), "propensity_TN") > 0, 0.0, q_TN)
        unsupported = float(lost_TN.sum() / max(size_T.sum(), NEAR))
    if prediction_TN is not None:
        total_T = (q_TN * _table(prediction_TN, len(step_T), "prediction_TN")).sum(axis=1)
        direct_T = np.divide(total_T, size_T, out=np.zeros(len(step_T)), where=size_T > 0)
    return Target(q_TN[place_G, prompt_G], size_T, unsupported, direct_T)


def target_of_weights(
    weight_TN: ArrayLike,
    prompt_G: Ints,
    step_G: Ints,
    propensity_TN: ArrayLike | None = None,
    prediction_TN: ArrayLike | None = None,
) -> Target:
    """As `target_of_inclusion`, for a target that draws single groups in proportion to weights (m_t = 1).

    The mean outcome per group is the same for any number of independent draws. A rule that draws a batch without replacement is
    described by its inclusion probabilities instead.

    >>> target_of_weights([1.0, 3.0], np.array([1]), np.array([0])).inclusion_G
    array([0.75])
    """
    weight_TN = np.atleast_2d(np.asarray(weight_TN, dtype=np.float64))
    total_T = weight_TN.sum(axis=1, keepdims=True)
    if not ((weight_TN >= 0).all() and np.isfinite(total_T).all() and (total_T > 0).all()):
        raise CurriculaError("target_of_weights: expected weights of 0 or more, one above 0 at every step")
    return target_of_inclusion(weight_TN / total_T, prompt_G, step_G, propensity_TN, prediction_TN)


def overlap(logged: Decisions, target: Target, confidence: float = 0.95) -> Overlap:
    """How well the log covers the target.

    >>> seen = overlap(Decisions([1, 0, 1, 0], [0.5] * 4, [0, 0, 1, 1]), Target(np.array([0.5, 0.5, 0, 1.0]), np.ones(2), None))
    >>> round(seen.effective_groups, 4), seen.largest_weight, seen.mass  # weights 1, 1, 0, 2
    (2.6667, 2.0, 2.0)
    """
    _agree(logged, target)
    weight_G = target.inclusion_G / logged.propensity_G
    total, square = float(weight_G.sum()), float(weight_G @ weight_G)
    mass_T = _by_step(weight_G, logged.step_G) / target.size_T
    several = len(mass_T) > 1
    largest = float(weight_G.max(initial=0.0))
    return Overlap(
        n_groups=len(logged),
        n_steps=len(mass_T),
        effective_groups=total * total / square if square > 0 else 0.0,
        largest_weight=largest,
        largest_share=largest / total if total > 0 else 1.0,
        mass=float(mass_T.mean()),
        mass_error=_half_width(float(np.std(mass_T, ddof=1)), len(mass_T), confidence) if several else math.inf,
        unsupported=target.unsupported,
    )


def estimate(
    logged: Decisions,
    target: Target,
    method: Method = "snips",
    *,
    prediction_G: ArrayLike | None = None,
    limits: Limits | None = None,
    confidence: float = 0.95,
) -> Value | NotEstimable:
    """The target's mean outcome per group at the logged states, or why the log does not tell.

    ``prediction_G`` and ``target.direct_T`` come from the same model; dr needs both.

    >>> log = Decisions(np.tile([1.0, 0.0], 90), np.full(180, 0.5), np.repeat(np.arange(90), 2))
    >>> print(estimate(log, Target(np.tile([0.9, 0.3], 90), np.full(90, 2.4), None)))
    0.75 [0.75, 0.75] at the logged states (snips, 95%, 90 steps, 144 effective of 180 groups, largest weight 1.8)
    """
    if method not in ("ips", "snips", "dr"):
        raise CurriculaError(f"estimate: expected method 'ips', 'snips' or 'dr', got {method!r}")
    if not 0 < confidence < 1:
        raise CurriculaError(f"estimate: expected a confidence between 0 and 1, got {confidence}")
    _agree(logged, target)
    reason = _gaps(logged, target)
    if reason:
        return NotEstimable(method, reason)
    seen = overlap(logged, target, confidence)
    reason = _too_little(seen, limits or Limits())
    if reason:
        return NotEstimable(method, reason, seen)
    weight_G = target.inclusion_G / logged.propensity_G
    value_G = np.where(weight_G > 0, logged.value_G, 0.0)  # what the target would not choose may be unknown
    if method == "dr":
        value_T = _doubly_robust(value_G, logged.step_G, target, weight_G, prediction_G)
    else:
        value_T = _by_step(weight_G * value_G, logged.step_G) / target.size_T
    mass_T = _by_step(weight_G, logged.step_G) / target.size_T if method == "snips" else np.ones(len(value_T))
    value = float(value_T.sum() / mass_T.sum())
    residual_T = (value_T - value * mass_T) / mass_T.mean()  # sums to 0
    spread = math.sqrt(float(residual_T @ residual_T) / (len(residual_T) - 1))
    half = _half_width(spread, len(residual_T), confidence)
    return Value(method, value, value - half, value + half, spread / math.sqrt(len(residual_T)), confidence, seen)


def _doubly_robust(value_G: Floats, step_G: Ints, target: Target, weight_G: Floats, prediction_G: ArrayLike | None) -> Floats:
    if prediction_G is None or target.direct_T is None:
        raise CurriculaError(
            "estimate: dr needs prediction_G (of the logged groups) and target.direct_T (of the whole pool: give "
            "target_of_inclusion the same predictions); without them use 'snips'"
        )
    guess_G = frozen_array(prediction_G, np.float64, "prediction_G", len(value_G))
    if not (np.isfinite(guess_G).all() and np.isfinite(target.direct_T).all()):
        raise CurriculaError("estimate: dr needs a finite prediction for every group and every prompt that the target may choose")
    correction_T = _by_step(weight_G * (value_G - guess_G), step_G)
    return np.asarray(target.direct_T + correction_T / target.size_T, dtype=np.float64)


def _gaps(logged: Decisions, target: Target) -> str | None:
    """What is missing before any weight can be reckoned."""
    known_G: Bools = (logged.propensity_G > 0) & (logged.propensity_G <= 1 + NEAR)
    if not len(logged):
        return "the log has no groups"
    if not known_G.all():
        return f"{(~known_G).sum()} of {len(logged)} groups have no propensity in (0, 1]"
    if (logged.step_G < 0).any():
        return f"{(logged.step_G < 0).sum()} of {len(logged)} groups have no step"
    missing_G = ~np.isfinite(logged.value_G) & (target.inclusion_G > 0)
    if missing_G.any():
        return f"{missing_G.sum()} groups that the target might choose have no outcome: say what such a group counts as"
    if not (target.size_T > 0).all():
        return "the target chooses nothing at some logged step"
    return None


def _too_little(seen: Overlap, limits: Limits) -> str | None:
    """Why the overlap is too small for an interval that keeps its promise."""
    if seen.n_steps < limits.steps:
        return f"{seen.n_steps} steps are too few for an interval ({limits.steps} needed)"
    if seen.unsupported is not None and seen.unsupported > limits.unsupported:
        return (
            f"the log could not choose {seen.unsupported:.0%} of what the target would (at most {limits.unsupported:.0%} may be "
            "missing): what came of those prompts nobody has seen; recipes may be asked about the others alone (possible_only)"
        )
    if seen.unsupported is None and seen.mass + limits.unseen < 1 + seen.mass_error:
        return (
            f"the log may lack the support of {1 - seen.mass + seen.mass_error:.0%} of what the target would choose (its weights "
            f"sum to {seen.mass:.2f} +- {seen.mass_error:.2f} instead of 1; at most {limits.unseen:.0%} may be in doubt)"
        )
    if seen.mass - seen.mass_error > 1 + limits.unseen:
        return (
            f"the weights sum to {seen.mass:.2f} +- {seen.mass_error:.2f} times the target's mass instead of 1: these propensities "
            "are not those by which the groups were chosen, or a step holds several plans and the target counts one"
        )
    if seen.effective_groups < limits.effective_groups:
        needed = limits.effective_groups
        return f"the weights leave {seen.effective_groups:.1f} effective of {seen.n_groups} groups ({needed:g} needed)"
    if seen.largest_share > limits.largest_share:
        return f"one group carries {seen.largest_share:.0%} of all weight (at most {limits.largest_share:.0%})"
    return None


def _agree(logged: Decisions, target: Target) -> None:
    n_steps = len(np.unique(logged.step_G))
    if len(target.inclusion_G) != len(logged) or len(target.size_T) != n_steps:
        raise CurriculaError(
            f"estimate: expected a target of {len(logged)} groups and {n_steps} steps, got {len(target.inclusion_G)} and "
            f"{len(target.size_T)}"
        )
    if target.direct_T is not None and len(target.direct_T) != n_steps:
        raise CurriculaError(f"estimate: expected target.direct_T of {n_steps} steps, got {len(target.direct_T)}")
    if not (np.asarray(target.inclusion_G) >= 0).all():
        raise CurriculaError("estimate: expected target inclusions of 0 or more")


def _by_step(value_G: Floats, step_G: Ints) -> Floats:
    """(T,) sums over the groups of a step, steps ascending."""
    step_T, place_G = np.unique(step_G, return_inverse=True)
    return np.bincount(place_G, weights=value_G, minlength=len(step_T)).astype(np.float64)


def _half_width(spread: float, n: int, confidence: float) -> float:
    return _quantile(0.5 + confidence / 2, n - 1) * spread / math.sqrt(n)


@lru_cache
def _quantile(probability: float, degrees: int) -> float:
    return t_quantile(probability, degrees)


def _table(value: ArrayLike, n_steps: int, name: str) -> Floats:
    table = np.atleast_2d(np.asarray(value, dtype=np.float64))
    if table.ndim != 2 or table.shape[0] not in (1, n_steps):
        raise CurriculaError(f"{name}: expected one row, or one per logged step ({n_steps}), got shape {table.shape}")
    return np.broadcast_to(table, (n_steps, table.shape[1]))
