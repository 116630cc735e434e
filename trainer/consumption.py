"""What a step consumed, for the learning rate's clock and for the scales that react to training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from curricula.groups import score_spreads
from rollout.types import Attempt
from trainer.schedules.clock import Consumed
from trainer.schedules.noise import norms_of
from trainer.types import LearnerReport

TOLD_AS = {  # metric of a controller: metric of the learner
    "clip_fraction": "clip_fraction",
    "entropy": "entropy",
    "grad_norm_l1": "grad_norm_l1",
    "group_rollouts": "group_rollouts",
    "kl": "update_kl",
    "mismatch_mean": "mismatch_mean",
    "update_cosine": "update_cosine",
}


def consumed_of(attempts: Sequence[Attempt], updates: int = 1, seconds: float = 0.0) -> Consumed:
    """Rejected groups count as rollouts and tokens; informative are the rollouts of groups whose scores differ, kept or not."""
    outcomes = [attempt.outcome for attempt in attempts]
    return Consumed(
        updates=float(updates),
        rollouts=float(sum(len(outcome.group_R) for outcome in outcomes)),
        informative_rollouts=float(sum(int((score_spreads(outcome)[outcome.group_R] > 0).sum()) for outcome in outcomes)),
        tokens=float(tokens_of(attempts)),
        seconds=seconds,
    )


def tokens_of(attempts: Sequence[Attempt]) -> int:
    """Completion tokens that a step generated."""
    return sum(int(attempt.outcome.n_tokens_R.sum()) for attempt in attempts)


def pass_rates(attempts: Sequence[Attempt], names: Sequence[str]) -> dict[str, float]:
    """``pass_rate/<distribution>``: mean score of the step's rollouts, rejected groups included; NaN where none has a score."""
    total, count = np.zeros(len(names)), np.zeros(len(names))
    for attempt in attempts:
        outcome = attempt.outcome
        arm_R = attempt.plan.selection.distribution_B[outcome.group_R][outcome.ok_R]
        total += np.bincount(arm_R, outcome.score_R[outcome.ok_R], minlength=len(names))
        count += np.bincount(arm_R, minlength=len(names))
    mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return {f"pass_rate/{name}": float(rate) for name, rate in zip(names, mean, strict=True)}


def controller_metrics(attempts: Sequence[Attempt], consumed: Consumed, report: LearnerReport) -> dict[str, float]:
    """By the names that controllers know. ``kl`` is the update's own; the report's ``kl`` is that to the reference model."""
    scores = [score for attempt in attempts for score in attempt.outcome.score_R.tolist()]
    found = {"informative_rollouts": consumed.informative_rollouts, "updates": consumed.updates, "grad_norm": report.grad_norm}
    if consumed.rollouts:
        found["mean_length"] = consumed.tokens / consumed.rollouts
        found["informative_share"] = consumed.informative_rollouts / consumed.rollouts
        found["mean_score"] = sum(scores) / len(scores)
    found |= {name: report.metrics[told] for name, told in TOLD_AS.items() if told in report.metrics}
    return found | _norms(report.metrics)


def _norms(metrics: Mapping[str, float]) -> dict[str, float]:
    if "gradient_noise" not in metrics:
        return {}
    return norms_of(metrics["gradient_signal"], metrics["gradient_noise"], metrics["update_groups"])
