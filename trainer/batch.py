"""From judged attempts to what the learner and the curriculum learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from curricula.types import Feedback, Floats
from rollout.collector import EncodedPrompts
from rollout.types import Attempt
from trainer.advantages import group_advantages
from trainer.types import TrainSequence


def feedback_of(attempt: Attempt, estimator: str) -> Feedback:
    """The attempt with the advantage of every scored rollout, of rejected groups too.

    Policies learn from all that was generated, and from raw rewards: shaping and weights are for the learner alone.
    """
    outcome = attempt.outcome
    n_groups, baseline_B = len(outcome.plan), outcome.baseline_B
    advantage_R = group_advantages(estimator, outcome.reward_R, outcome.group_R, outcome.ok_R, n_groups, baseline_B)
    return Feedback(outcome, attempt.verdict, np.where(outcome.ok_R, advantage_R, np.nan))


def learner_advantages(attempt: Attempt, estimator: str) -> Floats:
    """(R,) the advantage that each rollout is trained with: of the shaped reward, times the weight of its group.

    A verdict that renormalises compares each rollout with those that carry gradient, any other one with its whole group. A greedy
    baseline is shaped by the same rule as the rollouts (see `rollout.types.Attempt`).
    """
    outcome, verdict = attempt.outcome, attempt.verdict
    peers_R = verdict.carries_gradient_R if verdict.renormalise else outcome.ok_R
    advantage_R = group_advantages(
        estimator, attempt.shaped_R, outcome.group_R, peers_R, len(outcome.plan), baseline_B=attempt.baseline_B
    )
    return advantage_R * verdict.weight_B[outcome.group_R]


def sequences_of(attempts: Sequence[Attempt], estimator: str, prompts: EncodedPrompts) -> list[TrainSequence]:
    """The rollouts that carry gradient, in plan order."""
    return [sequence for attempt in attempts for sequence in _sequences_of_attempt(attempt, estimator, prompts)]


def _sequences_of_attempt(attempt: Attempt, estimator: str, prompts: EncodedPrompts) -> list[TrainSequence]:
    rollouts = [judged for group in attempt.judged_B for judged in group]
    plan, group_R = attempt.plan, attempt.outcome.group_R
    advantage_R = learner_advantages(attempt, estimator)
    return [
        TrainSequence(
            prompt_ids=prompts.ids(plan, int(group_R[r])),
            token_ids=rollouts[r].completion.token_ids,
            rollout_logprob_T=rollouts[r].completion.logprob_T,
            advantage=float(advantage_R[r]),
            group=int(plan.group_B[group_R[r]]),
            policy_version=rollouts[r].policy_version,
            drawn_T=rollouts[r].completion.drawn_T,
        )
        for r in np.flatnonzero(attempt.verdict.carries_gradient_R)
    ]
