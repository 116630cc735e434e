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
same weights), so a step is one observation; snips by the residuals of the ratio. A slow drift of the value over the steps, as
learning makes it, is no noise and is taken out (`half_width`); counted as noise it made intervals up to 1.6 times as long. Measured
coverage: benchmarks/replay_coverage.py, and through whole recipes in benchmarks/replay_recipes.py.

Overlap: effective groups = (sum of u)^2 / sum of u^2 with u = w / m_t, the largest weight, and the share of the target's mass that
the log could not choose. Rare large weights that a log happened to miss make intervals too short, and the seen weights do not show
them. Where the log's propensities of the whole pool are known, groups are judged by what the sums are on average, all weights
counted; then it does not depend on the draws which logs are refused. Where they are not known, neither is that share: it is judged
by the weights, which sum to m_t on average when nothing is missing; too much in doubt is a reason to refuse. (Refusing by the
weights picks logs whose weights came out large: among what is left, ips is a little too high and snips too low. Knowing is better.)
Beyond `Limits` the answer is `NotEstimable`, with the reason, and no number.

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
DRIFT, DRIFT_STEPS = 2, 20  # degree of the course over the steps that is no noise, and steps from which on it is fitted


class Target(NamedTuple):
    """How the target rule would have chosen; steps ascending, only those that the log has groups of."""

    inclusion_G: Floats  # of each logged group's prompt at its step
    size_T: Floats  # expected groups per step, over the whole pool: m_t
    unsupported: float | None  # known share of its mass on prompts that the log could not choose; None = estimated from the weights
    direct_T: Floats | None = None  # (1 / m_t) sum over the pool of q g; needed by dr
    power_T2: Floats | None = None  # (T, 2) what sums of squared and cubed weights come to on average, where that is known


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
    steady_groups: float = 4.0  # at least, where known: at 1, ips held the truth in 86 % only, and missed it on one side
    largest_share: float = 0.05  # of all weight, on one group, at most
    unsupported: float = 0.01  # share of the target's mass, at most, where it is known
    unseen: float = 0.10  # share of the target's mass that the weights must rule out to be without support, where it is not known


class Overlap(NamedTuple):
    """How much of the target the log has seen."""

    n_groups: int
    n_steps: int
    effective_groups: float  # (sum of u)^2 / sum of u^2 with u = w / m_t, a group's part in the estimate
    largest_weight: float
    largest_share: float  # of all weight, on one group
    mass: float  # mean of sum(w) / m: 1 where the propensities are right and the log could choose whatever the target would
    mass_error: float  # half the width of its interval
    unsupported: float | None  # known share of the target's mass that the log could not choose
    expected_groups: float | None = (
        None  # effective groups with the averages of such logs in place of the sums: weights it missed too
    )
    steady_groups: float | None = None  # (sum of u^2)^3 / (sum of u^3)^2, likewise: few where rare large weights carry the variance


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
    unsupported = direct_T = power_T2 = None
    if propensity_TN is not None:
        logged_TN = _table(propensity_TN, len(step_T), "propensity_TN")
        unsupported = float(np.where(logged_TN > 0, 0.0, q_TN).sum() / max(size_T.sum(), NEAR))
        power_T2 = expected_powers(q_TN, np.broadcast_to(logged_TN, q_TN.shape))
    if prediction_TN is not None:
        total_T = (q_TN * _table(prediction_TN, len(step_T), "prediction_TN")).sum(axis=1)
        direct_T = np.divide(total_T, size_T, out=np.zeros(len(step_T)), where=size_T > 0)
    return Target(q_TN[place_G, prompt_G], size_T, unsupported, direct_T, power_T2)


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
    part_G = weight_G / target.size_T[np.unique(logged.step_G, return_inverse=True)[1]]
    total, square = float(part_G.sum()), float(part_G @ part_G)
    mass_T = _by_step(weight_G, logged.step_G) / target.size_T
    mass, (expected, steady) = float(mass_T.mean()), _expected(target)
    return Overlap(
        n_groups=len(logged),
        n_steps=len(mass_T),
        effective_groups=total * total / square if square > 0 else 0.0,
        largest_weight=float(weight_G.max(initial=0.0)),
        largest_share=float(part_G.max()) / total if total > 0 else 1.0,
        mass=mass,
        mass_error=half_width(mass_T - mass, confidence)[0],
        unsupported=target.unsupported,
        expected_groups=expected,
        steady_groups=steady,
    )


def _expected(target: Target) -> tuple[float | None, float | None]:
    """Effective and steady groups where the averages are known: the parts u = w / m of a step sum to 1 on average."""
    if target.power_T2 is None:
        return None, None
    square, cube = (target.power_T2 / target.size_T[:, None] ** (2, 3)).sum(axis=0)
    return float(len(target.size_T) ** 2 / square), float(square**3 / cube**2)


def expected_powers(inclusion_N: Floats, propensity_N: Floats) -> Floats:
    """(..., 2) what the squares and the cubes of the weights of one step's groups sum to on average: q^2 / pi and q^3 / pi^2.

    >>> expected_powers(np.array([0.5, 0.5]), np.array([0.5, 0.25]))
    array([1.5, 2.5])
    """
    weight_N = np.divide(inclusion_N, propensity_N, out=np.zeros(np.shape(inclusion_N)), where=propensity_N > 0)
    return np.stack([(inclusion_N * weight_N).sum(axis=-1), (inclusion_N * weight_N**2).sum(axis=-1)], axis=-1)


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
    half, error = (width * _missed(seen) for width in half_width((value_T - value * mass_T) / mass_T.mean(), confidence))
    return Value(method, value, value - half, value + half, error, confidence, seen)


def _missed(seen: Overlap) -> float:
    """Factor on the interval where the log drew fewer of the large weights than such logs do on average, 1 where it did not (ours).

    Rare large weights carry much of the variance; a log that missed them shows too little of it. The root of expected over drawn
    squared weights, where what is expected is known.
    """
    if not seen.expected_groups or seen.mass <= 0:
        return 1.0
    return math.sqrt(max(seen.effective_groups / seen.expected_groups / seen.mass**2, 1.0))


def half_width(residual_T: Floats, confidence: float) -> tuple[float, float]:
    """Half the width of the interval of a mean over steps, and its standard error; residuals sum to 0, steps ascending.

    What the log chose at a step is chance; which states it had reached is not. So a value that moves with the steps, as learning
    makes it, is no noise: a parabola over the steps is taken out (ours), where there are enough of them. What it does not follow is
    counted as noise, which errs on the long side.
    """
    n = len(residual_T)
    if n < 2:
        return math.inf, math.inf
    degree = DRIFT if n >= DRIFT_STEPS else 0
    course = np.linalg.qr(np.vander(np.linspace(-1.0, 1.0, n), degree + 1))[0]
    left_T = residual_T - course @ (course.T @ residual_T)
    degrees = n - 1 - degree
    error = math.sqrt(float(left_T @ left_T) / degrees / n)
    return _quantile(0.5 + confidence / 2, degrees) * error, error


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
    effective = seen.effective_groups if seen.expected_groups is None else seen.expected_groups
    if effective < limits.effective_groups:
        return f"the weights leave {effective:.1f} effective of {seen.n_groups} groups ({limits.effective_groups:g} needed)"
    if seen.steady_groups is not None and seen.steady_groups < limits.steady_groups:
        return (
            "most of the variance would come from rare groups with large weights, which the log may have missed "
            f"({seen.steady_groups:.1f} steady groups on average, {limits.steady_groups:g} needed)"
        )
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


@lru_cache
def _quantile(probability: float, degrees: int) -> float:
    return t_quantile(probability, degrees)


def _table(value: ArrayLike, n_steps: int, name: str) -> Floats:
    table = np.atleast_2d(np.asarray(value, dtype=np.float64))
    if table.ndim != 2 or table.shape[0] not in (1, n_steps):
        raise CurriculaError(f"{name}: expected one row, or one per logged step ({n_steps}), got shape {table.shape}")
    return np.broadcast_to(table, (n_steps, table.shape[1]))
