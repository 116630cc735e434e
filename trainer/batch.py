"""From judged attempts to what the learner and the curriculum learn from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from curricula.types import Feedback
from rollout.collector import EncodedPrompts
from rollout.types import Attempt
from trainer.advantages import group_advantages
from trainer.types import TrainSequence


def feedback_of(attempt: Attempt, estimator: str) -> Feedback:
    """The attempt with the advantage of every scored rollout, of rejected groups too.

    Policies learn from all that was generated.
    """
    outcome = attempt.outcome
    advantage_R = group_advantages(estimator, outcome.reward_R, outcome.group_R, outcome.ok_R, len(outcome.plan))
    return Feedback(outcome, attempt.verdict, np.where(outcome.ok_R, advantage_R, np.nan))


def sequences_of(attempts: Sequence[Attempt], feedbacks: Sequence[Feedback], prompts: EncodedPrompts) -> list[TrainSequence]:
    """The rollouts that carry gradient, in plan order."""
    return [
        sequence
        for attempt, feedback in zip(attempts, feedbacks, strict=True)
        for sequence in _sequences_of_attempt(attempt, feedback.advantage_R, prompts)
    ]


def _sequences_of_attempt(
    attempt: Attempt, advantage_R: NDArray[np.float64] | None, prompts: EncodedPrompts
) -> list[TrainSequence]:
    rollouts = [judged for group in attempt.judged_B for judged in group]
    plan, group_R = attempt.plan, attempt.outcome.group_R
    if advantage_R is None:
        return []
    return [
        TrainSequence(
            prompt_ids=prompts.ids_N[int(plan.selection.prompt_B[group_R[r]])],
            token_ids=rollouts[r].completion.token_ids,
            rollout_logprob_T=rollouts[r].completion.logprob_T,
            advantage=float(advantage_R[r]),
            group=int(plan.group_B[group_R[r]]),
            policy_version=rollouts[r].policy_version,
        )
        for r in np.flatnonzero(attempt.verdict.carries_gradient_R)
    ]
