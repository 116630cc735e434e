"""Are groups too small for the pass rates seen, or larger than they need be?"""

from __future__ import annotations

import numpy as np

from replay.advise import register
from replay.advise.beta_model import fitted, predicted_live
from replay.advise.finding import Finding, Number, Suggestion, not_estimable, number, percent
from replay.advise.groups import MIN_GROUPS, Groups, groups_of
from replay.advise.intervals import Measured, mean_of
from replay.subsampling import live, live_of_scores
from replay.types import LoggedRun

GAINS = 0.10  # live share that twice the rollouts would have to add, by the model, before larger groups are named
KEEPS = 0.90  # of the live share that groups of half the size would have to keep, exactly, before smaller ones are named
MISS = 0.03  # the model is not used where it misses the logged live share by more than this


@register
def group_size(run: LoggedRun) -> Finding | None:
    """Live share at half the logged size (exact) and at twice (a model's prediction)."""
    groups = groups_of(run)
    if groups.judged_G.sum() < MIN_GROUPS:
        return None
    lacks = [lack for lack in ("fixed budget", "rejected groups") if lack in run.lacks]
    if lacks:
        return not_estimable("group_size", "what groups of another size would have shown", lacks)
    n = int(np.median(groups.n_G[groups.judged_G]))
    at_n = mean_of(run, _live(run, groups, n))
    same = groups.n_G >= n
    half = mean_of(run, np.where(same, _live(run, groups, n // 2), np.nan)) if n >= 4 else None
    double = _predicted(groups, n, at_n)
    small = double is not None and double - at_n.value >= GAINS
    generous = half is not None and half.low >= KEEPS * at_n.value and at_n.value > 0
    if not (small or generous):
        return None
    evidence = [number(f"live groups of {n}", "share of groups", at_n, "exact")]
    if half is not None:
        evidence.append(number(f"live groups of {n // 2}", "share of groups", half, "exact"))
    if double is not None:
        evidence.append(_model(f"live groups of {2 * n}", double, groups))
    if small and double is not None:
        return Finding(
            "group_size",
            "medium",
            f"Groups of {n} are small for these pass rates: {percent(at_n)} of them have signal; a model fitted to the log "
            f"predicts {100 * double:.0f} % for groups of {2 * n}. At equal rollouts that is half as many groups.",
            tuple(evidence),
            (
                Suggestion(
                    "a model predicts more live groups, but fewer groups per step; compare at equal rollouts",
                    setting=f"rollout.rollouts_per_group={2 * n}",
                ),
                *_until_solved(run, groups),
            ),
            f"a few steps with groups of {2 * n}: the live share itself",
        )
    kept = half or at_n
    return Finding(
        "group_size",
        "low",
        f"Groups of {n // 2} would have had signal nearly as often as groups of {n}: {percent(kept)} against {percent(at_n)}, "
        f"exact over sub-groups. At equal rollouts that is {2 * kept.value / at_n.value:.2g} times as many live groups, each "
        "with a rougher mean to compare with.",
        tuple(evidence),
        (
            Suggestion(
                "more prompts at equal rollouts; advantages get noisier, so compare with the logged size",
                setting=f"rollout.rollouts_per_group={n // 2}",
            ),
        ),
        "updates that get worse at equal rollouts: a log shows how many groups are live, not what they teach",
    )


def _until_solved(run: LoggedRun, groups: Groups) -> tuple[Suggestion, ...]:
    """Where groups without signal are mostly all wrong."""
    if mean_of(run, groups.wrong_G).value <= mean_of(run, groups.right_G).value:
        return ()
    return (Suggestion("more rollouts only where groups stay all wrong; uneven groups", recipe="reinforce_ada"),)


def _live(run: LoggedRun, groups: Groups, n: int) -> np.ndarray:
    return live(groups.tally, n) if groups.binary else live_of_scores(run, n)


def _predicted(groups: Groups, n: int, at_n: Measured) -> float | None:
    """The model's live share at twice the size, where the model is right about the logged size."""
    spread = fitted(groups.tally) if groups.binary else None
    if spread is None or abs(float(predicted_live(*spread, n)) - at_n.value) > MISS:
        return None
    return float(predicted_live(*spread, 2 * n))


def _model(name: str, value: float, groups: Groups) -> Number:
    return Number(name, value, "share of groups", None, None, int(groups.judged_G.sum()), "groups", "model")
