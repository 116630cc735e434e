"""From judged attempts to what the learner and the curriculum learn from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from curricula.budget_split import summary_advantages
from curricula.types import Cuts, Feedback, Floats, RolloutPlan, Status
from rollout.collector import EncodedPrompts
from rollout.summaries import segment_of
from rollout.types import Attempt, Judged
from trainer.advantages import feedback_advantages, group_advantages
from trainer.gradient_weights import by_logits, by_tokens
from trainer.types import NO_VERSION, Learner, TrainSequence


def feedback_of(attempt: Attempt, estimator: str) -> Feedback:
    """The attempt with the advantage of every scored rollout, of rejected groups too.

    Policies learn from all that was generated, and from raw rewards: shaping and weights are for the learner alone.
    """
    return Feedback(attempt.outcome, attempt.verdict, feedback_advantages(estimator, attempt.outcome))


def learner_advantages(attempt: Attempt, estimator: str) -> Floats:
    """(R,) the advantage that each rollout is trained with: of the shaped reward, times the weight of its group.

    A verdict that renormalises compares each rollout with those that carry gradient, any other one with its whole group. A greedy
    baseline is shaped by the same rule as the rollouts (see `rollout.types.Attempt`).
    """
    outcome, verdict = attempt.outcome, attempt.verdict
    peers_R = verdict.carries_gradient_R if verdict.renormalise else outcome.ok_R
    advantage_R = group_advantages(
        estimator,
        attempt.shaped_R,
        outcome.group_R,
        peers_R,
        len(outcome.plan),
        baseline_B=attempt.baseline_B,
        weight_R=by_logits(attempt) if estimator == "oblr_logits" else by_tokens(attempt),
    )
    return advantage_R * verdict.weight_B[outcome.group_R]


def sequences_of(attempts: Sequence[Attempt], estimator: str, prompts: EncodedPrompts) -> list[TrainSequence]:
    """The rollouts that carry gradient, in plan order, each followed by its summaries.

    Where the shaping policy splits advantages over cuts (``credit_RS``), a rollout's tokens have those of their segments and tokens
    behind the last cut have none; a summary has its score less the mean behind the same cut. Both are weighed like the group.
    """
    return [sequence for attempt in attempts for sequence in _sequences_of_attempt(attempt, estimator, prompts)]


def _sequences_of_attempt(attempt: Attempt, estimator: str, prompts: EncodedPrompts) -> list[TrainSequence]:
    rollouts = [judged for group in attempt.judged_B for judged in group]
    plan, group_R = attempt.plan, attempt.outcome.group_R
    advantage_R = learner_advantages(attempt, estimator)
    sequences = []
    for r in np.flatnonzero(attempt.verdict.carries_gradient_R):
        whole = _of_rollout(rollouts[r], plan, int(group_R[r]), prompts, float(advantage_R[r]))
        if attempt.credit_RS.shape[1]:
            weight = float(attempt.verdict.weight_B[group_R[r]])
            whole = _split(whole, attempt.credit_RS[r] * weight, plan.cuts)
            sequences += [whole, *_summaries(whole, rollouts[r], weight, attempt)]
        else:
            sequences.append(whole)
    return sequences


def _of_rollout(judged: Judged, plan: RolloutPlan, b: int, prompts: EncodedPrompts, advantage: float) -> TrainSequence:
    """A rollout of a hinted prompt follows the tokens of the prompt that it is trained as."""
    hinted = int(plan.selection.prompt_B[b]) in prompts.trained_as
    return _sequence(prompts.trained_ids(plan, b), judged, advantage, int(plan.group_B[b]), hinted)


def _sequence(prompt_ids: tuple[int, ...], judged: Judged, advantage: float, group: int, hinted: bool = False) -> TrainSequence:
    """The engine gave its log-probabilities under the hint, if any: they are worth nothing then, NaN until `with_own_logprobs`."""
    completion = judged.completion
    return TrainSequence(
        prompt_ids=prompt_ids,
        token_ids=completion.token_ids,
        rollout_logprob_T=np.full(len(completion.token_ids), np.nan, np.float32) if hinted else completion.logprob_T,
        advantage=advantage,
        group=group,
        policy_version=NO_VERSION if hinted else judged.policy_version,
        drawn_T=completion.drawn_T,
    )


def _split(whole: TrainSequence, credit_S: Floats, cuts: Cuts) -> TrainSequence:
    """The sequence with the credit of each segment on its tokens."""
    advantage_T = np.append(credit_S, 0.0)[segment_of(cuts, len(whole.token_ids))]
    return replace(whole, advantage=float(advantage_T.mean()) if len(advantage_T) else 0.0, advantage_T=advantage_T)


def _summaries(whole: TrainSequence, judged: Judged, weight: float, attempt: Attempt) -> Iterator[TrainSequence]:
    """The scored summaries behind each cut of a rollout, as continuations of its tokens before the cut."""
    low, high = attempt.outcome.reward_range
    for s, behind in judged.summaries.items():
        scored = [one for one in behind if one.status is Status.OK]
        score_A = np.clip((np.array([one.reward for one in scored]) - low) / (high - low), 0.0, 1.0)
        before = (*whole.prompt_ids, *whole.token_ids[: attempt.plan.cuts.at[s]].tolist())
        for one, advantage in zip(scored, summary_advantages(score_A) if scored else (), strict=True):
            yield _sequence(before, one, weight * float(advantage), whole.group, whole.policy_version == NO_VERSION)


def with_own_logprobs(sequences: Sequence[TrainSequence], learner: Learner) -> list[TrainSequence]:
    """The sequences; those that no engine drew under their prompt have the learner's own log-probabilities from before the update.

    The importance ratio is then taken under the unhinted prompt (EGSR, arXiv 2505.08364), at the cost of one pass over them.
    """
    place = [i for i, sequence in enumerate(sequences) if sequence.policy_version == NO_VERSION]
    blank = [replace(sequences[i], rollout_logprob_T=np.zeros(len(sequences[i].token_ids), np.float32)) for i in place]
    own = dict(zip(place, learner.logprobs(blank), strict=True)) if place else {}
    return [replace(sequence, rollout_logprob_T=own[i]) if i in own else sequence for i, sequence in enumerate(sequences)]
