"""What a log tells about other recipes, and what it does not.

For each recipe, at the logged states (see `replay.passes`):

- selection: how much its plans have in common with the log's, which distributions they prefer, and, by inverse propensity and
  doubly robust estimates, what the groups that it would have chosen would have shown: live share, learnability, tokens;
- spending: what its budget and stopping rules would have spent on the logged prompts, and with how many live groups;
- filter: how many of those it would have kept;
- belief: how well it knew the logged groups before they came.

All of it is about the policy weights that the logged run had. What training by the recipe would have led to does not follow.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from curricula import Curriculum
from curricula.statistics import Interval
from curricula.types import CurriculaError, Floats, Ints, Status
from replay.estimators import Decisions, Method, NotEstimable, Target, Value, estimate, half_width
from replay.passes import Pass, Predicted, Terms, walk
from replay.subsampling import Tally, learnability_of_scores, live_each, live_of_scores, tally
from replay.types import LoggedRun

METHODS: tuple[Method, ...] = ("ips", "snips", "dr")
UNTOLD = 0.01  # share of groups that may lack rollouts before spending is not estimable: they are not like the others
N_BINS = 10
NEVER_TOLD = {
    "final accuracy": "the logged weights came from the logged selections; another recipe would have trained other weights",
    "speed-up in steps": "how fast a model learns from a batch is not in a log; run both with paired seeds",
    "regret": "the best recipe for the states that it leads to was never observed",
}


class Missing(NamedTuple):
    """Why a number is not there."""

    reason: str

    def __str__(self) -> str:
        return f"not estimable: {self.reason}"


@dataclass(frozen=True)
class Choice:
    """Which prompts."""

    overlap: float  # share of its plans that the log's groups are expected to fill
    by_chance: float  # the same for a uniform draw from the whole pool
    mix_distance: float  # total variation between its mix of distributions and the log's, mean over decisions
    share_K: Floats  # its mix, mean over decisions
    values: Mapping[str, Mapping[Method, Value | NotEstimable]]  # measure -> method -> what its groups would have shown


@dataclass(frozen=True)
class Spending:
    """How many rollouts, on the logged prompts."""

    told: float  # share of groups of which the log holds as many rollouts as it asks for
    rollouts: Interval | Missing  # per group
    tokens: Interval | Missing  # per group
    saved_rollouts: float | Missing  # share of the logged rollouts that it would not have spent; negative: it would spend more
    saved_tokens: float | Missing
    live: Interval | Missing  # share of groups
    kept: Interval | Missing  # share of groups, by its filter
    per_gradient: float | Missing  # rollouts spent per rollout that carries gradient


@dataclass(frozen=True)
class Calibration:
    """What it believed of a pass rate before the group came; _M bins of the belief."""

    excess: float  # mean squared error above the noise of the groups; 0 = nobody could know better
    expected_error: float  # mean |believed - observed| over the bins
    n_M: Ints
    believed_M: Floats
    observed_M: Floats


@dataclass(frozen=True)
class Evaluation:
    """One recipe at the logged states."""

    recipe: str
    choice: Choice
    spending: Spending
    calibration: Calibration


@dataclass(frozen=True)
class Logged:
    """What the log itself has."""

    n_steps: int
    n_decisions: int
    n_groups: int
    n_rollouts: int
    n_prompts: int
    share_K: Floats
    values: Mapping[str, Interval | Missing]  # measure -> mean over groups
    rollouts_per_group: float
    propensities_known: bool


@dataclass(frozen=True)
class Replay:
    """A log and what it tells about recipes. `NEVER_TOLD` says what none of it means."""

    source: str
    distributions: tuple[str, ...]
    lacks: tuple[str, ...]
    possible_only: bool  # recipes were asked to choose among what the log could choose alone
    logged: Logged
    evaluations: Sequence[Evaluation]


def replay(run: LoggedRun, curricula: Mapping[str, Curriculum], terms: Terms | None = None) -> Replay:
    """Every recipe at the logged states of one run; ``curricula`` are fresh ones of ``run.pool``, by the name to show.

    Errors: CurriculaError when the log has no steps, or a curriculum has another pool.
    """
    terms = terms or Terms()
    measured = measures(run)
    passes = {name: walk(run, curriculum, terms) for name, curriculum in curricula.items()}
    if not passes:
        raise CurriculaError("replay: expected one recipe at least")
    decision_G = next(iter(passes.values())).decision_G
    share_DK = _shares(run, decision_G)
    return Replay(
        source=run.source,
        distributions=tuple(run.pool.distribution_names),
        lacks=tuple(sorted(run.lacks)),
        possible_only=terms.possible_only,
        logged=_logged(run, measured, decision_G, share_DK, terms),
        evaluations=[_evaluation(name, run, measured, walked, share_DK, terms) for name, walked in passes.items()],
    )


def measures(run: LoggedRun) -> dict[str, Floats]:
    """(G,) what a group showed, by name: live (0 or 1), learnability (4 x variance of its scores), tokens; NaN where not known."""
    n_G = np.bincount(run.group_R[np.isfinite(run.score_R)], minlength=len(run))
    low, high = np.full(len(run), np.inf), np.full(len(run), -np.inf)
    scored = np.isfinite(run.score_R)
    np.minimum.at(low, run.group_R[scored], run.score_R[scored])
    np.maximum.at(high, run.group_R[scored], run.score_R[scored])
    tokens_G = np.bincount(run.group_R, weights=run.n_tokens_R, minlength=len(run))
    unknown = np.bincount(run.group_R[run.n_tokens_R < 0], minlength=len(run)) > 0
    return {
        "live": np.where(n_G >= 1, (high > low).astype(np.float64), 0.0),
        "learnability": np.nan_to_num(learnability_of_scores(run), nan=0.0),
        "tokens": np.where(unknown, np.nan, tokens_G),
    }


def clustered(value_G: Floats, cluster_G: Ints, confidence: float = 0.95) -> Interval:
    """The mean over groups, with Student's t over clusters (steps): the groups of one step depend on each other.

    >>> clustered(np.array([1.0, 0.0, 1.0, 0.0]), np.array([0, 0, 1, 1])).mean
    0.5
    """
    _, place_G = np.unique(cluster_G, return_inverse=True)
    sum_T, n_T = np.bincount(place_G, weights=value_G), np.bincount(place_G)
    mean = float(sum_T.sum() / n_T.sum())
    half, _ = half_width((sum_T - mean * n_T) / n_T.mean(), confidence)
    return Interval(mean, mean - half, mean + half)


def _shares(run: LoggedRun, decision_G: Ints) -> Floats:
    """(D, K) share of each distribution among the logged groups of a decision."""
    k, d = run.pool.n_distributions, int(decision_G.max()) + 1
    place = decision_G * k + run.pool.distribution_N[run.prompt_G]
    count = np.bincount(place, minlength=d * k).reshape(d, k)
    return np.asarray(count / count.sum(axis=1, keepdims=True))


def _logged(run: LoggedRun, measured: Mapping[str, Floats], decision_G: Ints, share_DK: Floats, terms: Terms) -> Logged:
    def mean(name: str, value_G: Floats) -> Interval | Missing:
        if np.isnan(value_G).any():
            return Missing(f"the log lacks {name}")
        return clustered(value_G, run.step_G, terms.confidence)

    return Logged(
        n_steps=len(np.unique(run.step_G)),
        n_decisions=int(decision_G.max()) + 1,
        n_groups=len(run),
        n_rollouts=len(run.group_R),
        n_prompts=len(run.pool),
        share_K=share_DK.mean(axis=0),
        values={name: mean(name, value_G) for name, value_G in measured.items()},
        rollouts_per_group=len(run.group_R) / len(run),
        propensities_known="propensity" not in run.lacks,
    )


def _evaluation(
    name: str, run: LoggedRun, measured: Mapping[str, Floats], walked: Pass, share_DK: Floats, terms: Terms
) -> Evaluation:
    n_D = np.bincount(walked.decision_G)
    choice = Choice(
        overlap=float(walked.chance_G.sum() / max(walked.size_D.sum(), 1e-12)),
        by_chance=float((n_D**2).sum() / len(run.pool) / n_D.sum()),
        mix_distance=float(0.5 * np.abs(walked.share_DK - share_DK).sum(axis=1).mean()),
        share_K=walked.share_DK.mean(axis=0),
        values={name: values_at(run, name, value_G, walked, terms) for name, value_G in measured.items()},
    )
    return Evaluation(name, choice, _spending(run, walked, terms), _calibration(run, walked))


def values_at(run: LoggedRun, name: str, value_G: Floats, walked: Pass, terms: Terms) -> dict[Method, Value | NotEstimable]:
    """Every method's estimate of a measure (G,), by its name, over the groups that the recipe would have chosen."""
    missing = [str(lack) for lack in ("propensity", "rejected groups") if lack in run.lacks]
    if np.isnan(value_G).any():
        missing.append(name)
    if missing:
        return {method: NotEstimable(method, f"the log lacks {', '.join(missing)}") for method in METHODS}
    logged = Decisions(value_G, run.propensity_G, walked.decision_G)
    target = Target(walked.chance_G, walked.size_D, walked.unsupported, power_T2=walked.power_D2)
    return {
        "ips": estimate(logged, target, "ips", confidence=terms.confidence),
        "snips": estimate(logged, target, "snips", confidence=terms.confidence),
        "dr": _doubly_robust(logged, target, walked.predicted.get(name), terms.confidence),
    }


def _doubly_robust(logged: Decisions, target: Target, predicted: Predicted | None, confidence: float) -> Value | NotEstimable:
    if predicted is None:
        return NotEstimable("dr", "a belief predicts scores only")
    if not (np.isfinite(predicted.of_G).all() and np.isfinite(predicted.mean_D).all()):
        return NotEstimable("dr", "the recipe's belief has no prior: it predicts nothing of prompts that it has not seen")
    return estimate(logged, target._replace(direct_T=predicted.mean_D), "dr", prediction_G=predicted.of_G, confidence=confidence)


def _spending(run: LoggedRun, walked: Pass, terms: Terms) -> Spending:
    told = float(walked.told_G.mean())
    reason = None
    if told < 1 - UNTOLD:
        reason = (
            f"it asks for more rollouts than were logged in {1 - told:.0%} of the groups, and these are not like the others; "
            "let it spend less per group (rollouts_per_group), or log larger groups"
        )
    if "fixed budget" in run.lacks:
        reason = "the log's group sizes depended on their scores, so parts of a group are no fair sample"
    no_tokens = "the log lacks tokens" if "tokens" in run.lacks else reason
    logged_tokens = float(np.maximum(run.n_tokens_R, 0).sum())
    spent, carried = int(walked.rollouts_G.sum()), int(walked.gradient_G.sum())

    def mean(value_G: ArrayLike, why: str | None = reason) -> Interval | Missing:
        return Missing(why) if why else clustered(np.asarray(value_G, dtype=np.float64), run.step_G, terms.confidence)

    return Spending(
        told=told,
        rollouts=mean(walked.rollouts_G),
        tokens=mean(walked.tokens_G, no_tokens),
        saved_rollouts=Missing(reason) if reason else 1.0 - spent / len(run.group_R),
        saved_tokens=Missing(no_tokens) if no_tokens else 1.0 - float(walked.tokens_G.sum()) / max(logged_tokens, 1.0),
        live=mean(live_shares(run, walked)),
        kept=mean(walked.kept_G),
        per_gradient=Missing(reason) if reason else spent / carried if carried else math.inf,
    )


def live_shares(run: LoggedRun, walked: Pass) -> Floats:
    """(G,) chance that the group is live at the size that the recipe gives it.

    Exact over all its sub-groups where the recipe spends in one round and scores are 0 or 1; with further rounds, or other scores,
    that of the one random order that the recipe was shown.
    """
    scored = run.score_R[np.isfinite(run.score_R)]
    if walked.n_rounds > 1:
        return walked.live_G.astype(np.float64)
    if np.isin(scored, (0.0, 1.0)).all():
        groups = tally(run)
        asked_G = np.minimum(walked.rollouts_G, groups.n_G)  # rollouts without a score count as never drawn
        return np.where(walked.told_G, live_each(Tally(*groups), asked_G), 0.0)
    sizes = np.unique(walked.rollouts_G)
    if len(sizes) == 1 and sizes[0] >= 1 and (run.status_R == Status.OK).all():
        return np.nan_to_num(live_of_scores(run, int(sizes[0])), nan=0.0)
    return walked.live_G.astype(np.float64)


def _calibration(run: LoggedRun, walked: Pass) -> Calibration:
    scored = np.isfinite(run.score_R)
    n_G = np.bincount(run.group_R[scored], minlength=len(run))
    mean_G = np.bincount(run.group_R[scored], weights=run.score_R[scored], minlength=len(run)) / np.maximum(n_G, 1)
    use = (n_G >= 2) & np.isfinite(walked.believed_G)
    believed, observed = walked.believed_G[use], mean_G[use]
    noise = learnability_of_scores(run)[use] / 4.0 / n_G[use]  # unbiased variance of a group's mean
    bin_ = np.minimum((believed * N_BINS).astype(np.int64), N_BINS - 1)
    n_M = np.bincount(bin_, minlength=N_BINS)
    sums = [np.bincount(bin_, weights=x, minlength=N_BINS) for x in (believed, observed)]
    believed_M, observed_M = (np.divide(x, n_M, out=np.full(N_BINS, np.nan), where=n_M > 0) for x in sums)
    total = max(len(believed), 1)
    return Calibration(
        excess=float(((believed - observed) ** 2 - noise).sum() / total),
        expected_error=float(np.abs(sums[0] - sums[1]).sum() / total),
        n_M=n_M,
        believed_M=believed_M,
        observed_M=observed_M,
    )
