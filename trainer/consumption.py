"""What a step consumed, for the learning rate's clock and for the scales that react to training."""

from __future__ import annotations

from collections.abc import Sequence

from curricula.groups import score_spreads
from rollout.types import Attempt
from trainer.schedules.clock import Consumed
from trainer.types import LearnerReport


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


def controller_metrics(consumed: Consumed, report: LearnerReport) -> dict[str, float]:
    """By the names that controllers know."""
    mean_length = consumed.tokens / consumed.rollouts if consumed.rollouts else 0.0
    found = {"informative_rollouts": consumed.informative_rollouts, "mean_length": mean_length, "grad_norm": report.grad_norm}
    return found | {name: report.metrics[name] for name in ("clip_fraction",) if name in report.metrics}
