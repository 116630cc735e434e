"""From judged attempts to what the learner and the curriculum learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from curricula.types import Feedback, Floats, RolloutPlan
from rollout.collector import EncodedPrompts
from rollout.types import Attempt, Judged
from trainer.advantages import group_advantages
from trainer.types import NO_VERSION, Learner, TrainSequence


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
    carries = np.flatnonzero(attempt.verdict.carries_gradient_R)
    return [_sequence(rollouts[r], plan, int(group_R[r]), prompts, float(advantage_R[r])) for r in carries]


def _sequence(rollout: Judged, plan: RolloutPlan, b: int, prompts: EncodedPrompts, advantage: float) -> TrainSequence:
    """A rollout of a hinted prompt follows the tokens of the prompt that it is trained as.

    The engine gave its log-probabilities under the hint, so they are worth nothing there: NaN, until `with_own_logprobs`.
    """
    completion, hinted = rollout.completion, int(plan.selection.prompt_B[b]) in prompts.trained_as
    return TrainSequence(
        prompt_ids=prompts.trained_ids(plan, b),
        token_ids=completion.token_ids,
        rollout_logprob_T=np.full(len(completion.token_ids), np.nan, np.float32) if hinted else completion.logprob_T,
        advantage=advantage,
        group=int(plan.group_B[b]),
        policy_version=NO_VERSION if hinted else rollout.policy_version,
        drawn_T=completion.drawn_T,
    )


def with_own_logprobs(sequences: Sequence[TrainSequence], learner: Learner) -> list[TrainSequence]:
    """The sequences; those that no engine drew under their prompt have the learner's own log-probabilities from before the update.

    The importance ratio is then taken under the unhinted prompt (EGSR, arXiv 2505.08364), at the cost of one pass over them.
    """
    place = [i for i, sequence in enumerate(sequences) if sequence.policy_version == NO_VERSION]
    blank = [replace(sequences[i], rollout_logprob_T=np.zeros(len(sequences[i].token_ids), np.float32)) for i in place]
    own = dict(zip(place, learner.logprobs(blank), strict=True)) if place else {}
    return [replace(sequence, rollout_logprob_T=own[i]) if i in own else sequence for i, sequence in enumerate(sequences)]
