"""What a step did, in numbers, from its attempts and the learner's report."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from curricula.types import PromptPool, Reason, Status
from rollout.types import Attempt, Judged
from trainer.observer import StepRecord
from trainer.types import LearnerReport


def summarise_step(
    step: int,
    n_steps: int,
    pool: PromptPool,
    attempts: Sequence[Attempt],
    report: LearnerReport | None,
    lr: float,
    phase_seconds: Mapping[str, float],
    curriculum_metrics: Mapping[str, float],
) -> StepRecord:
    """All generated groups count, rejected ones too; ``lr`` is the rate of the update, or the one that waited if there was none."""
    k_of_name = pool.distribution_names
    distribution_R = _concatenate(
        [attempt.plan.selection.distribution_B[attempt.outcome.group_R].astype(np.float64) for attempt in attempts]
    )
    score_R = _concatenate([attempt.outcome.score_R for attempt in attempts])
    reward_R = _concatenate([attempt.outcome.reward_R for attempt in attempts])
    spread_B = _concatenate([_reward_spread(attempt) for attempt in attempts])
    generated = sum(len(attempt.plan) for attempt in attempts)
    greedy = [one for attempt in attempts for one in attempt.greedy_B if one]
    return StepRecord(
        step=step,
        n_steps=n_steps,
        reward_mean=_mean(reward_R),
        accuracy=_mean(score_R),
        live_group_share=float((spread_B > 0).sum() / generated) if generated else math.nan,
        kept_groups=sum(int(attempt.verdict.kept_B.sum()) for attempt in attempts),
        generated_groups=generated,
        n_rollouts=len(score_R),
        n_tokens_generated=sum(int(attempt.outcome.n_tokens_R.sum()) for attempt in attempts)
        + sum(one.completion.n_drawn for one in greedy)
        + sum(one.completion.n_drawn for attempt in attempts for one in attempt.summaries),
        n_tokens_trained=report.n_tokens if report else 0,
        lr=lr,
        probability=dict(zip(k_of_name, attempts[0].plan.probability_K.tolist(), strict=True)) if attempts else {},
        pass_rate={name: _mean(score_R[distribution_R == k]) for k, name in enumerate(k_of_name)},
        reward={name: _mean(reward_R[distribution_R == k]) for k, name in enumerate(k_of_name)},
        reasons=_names(Reason, [attempt.verdict.reason_B for attempt in attempts]),
        statuses=_names(Status, [attempt.outcome.status_R for attempt in attempts]),
        n_rollouts_B=tuple(len(group) for attempt in attempts for group in attempt.judged_B),
        pass_rate_B=tuple(
            _mean(attempt.outcome.score_R[attempt.outcome.group_R == b]) for attempt in attempts for b in range(len(attempt.plan))
        ),
        seconds=phase_seconds.get("step", math.nan),
        phase_seconds={name: seconds for name, seconds in phase_seconds.items() if name != "step"},
        loss=report.loss if report else math.nan,
        grad_norm=report.grad_norm if report else math.nan,
        metrics={
            **curriculum_metrics,
            **_greedy_metrics(greedy),
            **_turn_metrics(attempts),
            **_cut_metrics(attempts),
            **(_learner_metrics(report) if report else {}),
        },
    )


def _greedy_metrics(greedy: Sequence[Judged]) -> dict[str, float]:
    """Of the greedy completions that baselines are made of; they are no rollouts."""
    rewards = np.array([one.reward for one in greedy], dtype=np.float64)
    return {"n_greedy": float(len(greedy)), "greedy_reward_mean": _mean(rewards)} if greedy else {}


def _turn_metrics(attempts: Sequence[Attempt]) -> dict[str, float]:
    """Mean answers per rollout, and how many of all rollouts are right at the first; where some may give several."""
    if not any((attempt.plan.max_turns_B > 1).any() for attempt in attempts):
        return {}
    turns_R = np.concatenate([attempt.outcome.n_turns_R for attempt in attempts])
    score_R = np.concatenate([attempt.outcome.score_R for attempt in attempts])
    return {"turns": _mean(turns_R.astype(np.float64)), "first_turn_accuracy": _mean(np.where(turns_R > 1, 0.0, score_R))}


def _cut_metrics(attempts: Sequence[Attempt]) -> dict[str, float]:
    """Summaries and their tokens, and the mean score at each cut, completions that ended before it included; where plans cut."""
    if not any(attempt.plan.cuts for attempt in attempts):
        return {}
    summaries = [one for attempt in attempts for one in attempt.summaries]
    score_RS = np.concatenate([attempt.outcome.cut_score_RS for attempt in attempts])
    return {
        "n_summaries": float(len(summaries)),
        "n_summary_tokens": float(sum(one.completion.n_drawn for one in summaries)),
        **{f"score_at/{cut}": _mean(score_RS[:, s]) for s, cut in enumerate(attempts[0].plan.cuts.at)},
    }


def _learner_metrics(report: LearnerReport) -> dict[str, float]:
    return {"n_processed_tokens": report.n_processed_tokens, "learner_seconds": report.seconds, **report.metrics}


def _reward_spread(attempt: Attempt) -> NDArray[np.float64]:
    """(B,) largest minus smallest reward of the scored rollouts; 0 for groups with fewer than two."""
    b, ok_R = len(attempt.plan), attempt.outcome.ok_R
    low_B, high_B = np.full(b, np.inf), np.full(b, -np.inf)
    np.minimum.at(low_B, attempt.outcome.group_R[ok_R], attempt.outcome.reward_R[ok_R])
    np.maximum.at(high_B, attempt.outcome.group_R[ok_R], attempt.outcome.reward_R[ok_R])
    return np.where(np.isfinite(low_B), high_B - low_B, 0.0)


def _names(enum: type[Reason] | type[Status], codes: Sequence[NDArray[np.uint8]]) -> dict[str, int]:
    counts = Counter(int(code) for array in codes for code in array)
    return {enum(code).name.lower(): n for code, n in sorted(counts.items())}


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _concatenate(arrays: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(0), *arrays])
