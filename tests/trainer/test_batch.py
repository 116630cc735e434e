"""What the learner is given: shaped rewards, weights and renormalised groups, while policies go on reading raw rewards."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from curricula.budget_split import budget_advantages
from curricula.types import Cuts, Outcome, PromptPool, Reason, RolloutPlan, Selection, Status, Verdict, group_ids
from rollout.collector import EncodedPrompts
from rollout.prompts import Prompt, PromptSet, RewardSpec
from rollout.types import Attempt, Completion, FinishReason, Judged
from trainer.advantages import KINDS, group_advantages
from trainer.batch import feedback_of, learner_advantages, sequences_of, with_own_logprobs
from trainer.types import NO_VERSION

PROMPTS = EncodedPrompts(PromptSet([Prompt(f"p{i}", "d", "1", "1") for i in range(2)], RewardSpec("exact")), [(1,), (2,)])
POOL = PromptPool.from_columns(["p0", "p1"], ["d", "d"])
NAN = float("nan")


def attempt(verdict: dict[str, Any] | None = None, shaped_R: Any = None) -> Attempt:
    """Two groups of four with rewards (1, 0, 0, -) and (1, 1, 0, 0); the rollout without a reward timed out."""
    reward_R = np.array([1, 0, 0, NAN, 1, 1, 0, 0])
    status_R = np.array([Status.TIMEOUT if np.isnan(reward) else Status.OK for reward in reward_R], dtype=np.uint8)
    completion = Completion(np.zeros(3, np.int32), np.zeros(3, np.float32), "x", FinishReason.STOP)
    judged = [Judged(completion, Status(s), reward, 0) for s, reward in zip(status_R, reward_R, strict=True)]
    selection = Selection(np.array([0, 1]), np.zeros(2, np.int64), np.ones(2))
    plan = RolloutPlan(0, 0, 0, selection, np.array([4, 4]), group_ids(0, 0, 2), np.ones(1))
    outcome = Outcome(plan, np.repeat([0, 1], 4), reward_R, status_R, np.full(8, 3), np.zeros(8, np.int64))
    whole = Verdict(np.ones(2, np.bool_), np.full(2, Reason.KEPT), outcome.ok_R)
    return Attempt(plan, [judged[:4], judged[4:]], outcome, replace(whole, **(verdict or {})), shaped_R)


@pytest.mark.parametrize("estimator", KINDS)
def test_by_default_the_learner_gets_bit_for_bit_what_the_policies_get(estimator: str) -> None:
    plain = attempt()
    feedback = feedback_of(plain, estimator)
    assert feedback.advantage_R is not None
    sequences = sequences_of([plain], estimator, PROMPTS)
    assert [s.advantage for s in sequences] == feedback.advantage_R[plain.outcome.ok_R].tolist()
    assert [s.prompt_ids for s in sequences] == [(1,)] * 3 + [(2,)] * 4
    assert np.isnan(feedback.advantage_R[3])


def test_advantages_of_the_learner_are_made_of_the_shaped_reward_and_those_of_policies_of_the_raw_one() -> None:
    shaped_R = np.array([0.5, 0, 0.25, NAN, 1, 0.5, 0, 0])
    shaped = attempt(shaped_R=shaped_R)
    assert learner_advantages(shaped, "dr_grpo").tolist() == [0.25, -0.25, 0, 0, 0.625, 0.125, -0.375, -0.375]
    assert [s.advantage for s in sequences_of([shaped], "dr_grpo", PROMPTS)] == [0.25, -0.25, 0, 0.625, 0.125, -0.375, -0.375]
    given, raw = feedback_of(shaped, "dr_grpo").advantage_R, feedback_of(attempt(), "dr_grpo").advantage_R
    assert given is not None
    assert raw is not None
    np.testing.assert_array_equal(given, raw)
    assert shaped.outcome.reward_R.tolist()[:3] == [1, 0, 0]


def test_the_weight_of_a_group_multiplies_its_advantages_and_no_others() -> None:
    weighted = attempt({"weight_B": np.array([2.0, 0.5])})
    plain, given = learner_advantages(attempt(), "grpo"), learner_advantages(weighted, "grpo")
    np.testing.assert_array_equal(given, plain * np.repeat([2.0, 0.5], 4))
    np.testing.assert_array_equal(feedback_of(weighted, "grpo").advantage_R, feedback_of(attempt(), "grpo").advantage_R)


def test_renormalising_compares_the_rollouts_that_carry_gradient_with_each_other() -> None:
    carries_R = np.array([1, 1, 0, 0, 1, 0, 0, 1], dtype=np.bool_)
    whole, alone = (attempt({"carries_gradient_R": carries_R, "renormalise": switch}) for switch in (False, True))
    reward_R, group_R = whole.outcome.reward_R, whole.outcome.group_R
    assert [s.advantage for s in sequences_of([alone], "dr_grpo", PROMPTS)] == [0.5, -0.5, 0.5, -0.5]
    assert [s.advantage for s in sequences_of([whole], "dr_grpo", PROMPTS)] == pytest.approx([2 / 3, -1 / 3, 0.5, -0.5])
    expected = group_advantages("grpo", reward_R[carries_R], group_R[carries_R], np.ones(4, np.bool_), 2)
    assert [s.advantage for s in sequences_of([alone], "grpo", PROMPTS)] == expected.tolist()
    np.testing.assert_array_equal(feedback_of(alone, "grpo").advantage_R, feedback_of(attempt(), "grpo").advantage_R)


CUTS = Cuts((2, 4, 6, 8), n_summaries=2, summary_tokens=3)
TABLE = np.array([(0, 0, 1, 1), (0, 1, 1, 1), (0, 0, 0, 0), (0, 0, 0, 1)], dtype=np.float64)


def summary(reward: float) -> Judged:
    completion = Completion(
        np.array([50, 60], np.int32), np.array([0, -2], np.float32), "so 1", FinishReason.STOP, np.array([False, True])
    )
    status = Status.ERROR if np.isnan(reward) else Status.OK
    return Judged(completion, status, reward, 3)


def split_attempt(weight: float = 1.0) -> Attempt:
    """One group of four thoughts of 1, 5, 8 and 10 tokens, with the specification's scores at the cuts."""
    judged = []
    for n, score_S in zip((1, 5, 8, 10), TABLE, strict=True):
        completion = Completion(100 + np.arange(n, dtype=np.int32), np.zeros(n, np.float32), "x", FinishReason.STOP)
        judged.append(Judged(completion, Status.OK, score_S[-1], 2, cut_score_S=score_S))
    judged[1] = replace(judged[1], summaries={0: (summary(1), summary(0)), 1: (summary(0.5), summary(NAN))})
    plan = RolloutPlan(0, 0, 0, Selection([0], [0], [1.0]), [4], group_ids(0, 0, 1), [1.0], cuts=CUTS)
    outcome = Outcome(plan, [0] * 4, TABLE[:, -1], [0] * 4, [1, 5, 8, 10], [2] * 4, cut_score_RS=TABLE)
    verdict = Verdict(np.ones(1, np.bool_), np.zeros(1), np.array([True, True, False, True]), weight_B=np.array([weight]))
    return Attempt(plan, [judged], outcome, verdict, credit_RS=budget_advantages(TABLE, np.full(4, 0.25)))


def test_tokens_have_the_credit_of_their_segment_and_none_behind_the_last_cut() -> None:
    """The specification's advantages, token by token."""
    sequences = [s for s in sequences_of([split_attempt()], "grpo", PROMPTS) if s.advantage_T is not None]
    tokens = [s.advantage_T.round(4).tolist() for s in sequences if s.advantage_T is not None]
    assert tokens[0] == [0.125]
    assert tokens[1] == pytest.approx([0.375, 0.375, 0.4688, 0.4688, 0.1771], abs=6e-5)
    last = [-0.125, -0.125, -0.0312, -0.0312, 0.0938, 0.0938, 0.2031, 0.2031, 0, 0]
    assert tokens[2] == pytest.approx(last, abs=6e-5)
    assert len(tokens) == 3, "a rollout that was thinned out carries none"
    assert sequences[2].mean_abs_advantage == pytest.approx(np.mean(np.abs(last)), abs=6e-5)
    doubled = [s for s in sequences_of([split_attempt(2.0)], "grpo", PROMPTS) if s.advantage_T is not None]
    np.testing.assert_array_equal(doubled[2].advantage_T, 2 * sequences[2].advantage_T)  # type: ignore[operator]


def test_summaries_follow_their_thought_as_sequences_of_their_own() -> None:
    for weight in (1.0, 0.5):
        sequences = sequences_of([split_attempt(weight)], "grpo", PROMPTS)
        summaries = [s for s in sequences if s.advantage_T is None]
        assert [sequences.index(s) for s in summaries] == [2, 3, 4]
        assert [s.prompt_ids for s in summaries] == [(1, 100, 101)] * 2 + [(1, 100, 101, 102, 103)]
        assert [s.advantage for s in summaries] == [0.5 * weight, -0.5 * weight, 0], "one without a score is left out"
        assert {(tuple(s.token_ids.tolist()), s.n_drawn, s.policy_version, s.group) for s in summaries} == {((50, 60), 1, 3, 0)}


def test_policies_go_on_reading_the_advantages_of_raw_rewards() -> None:
    advantage_R = feedback_of(split_attempt(), "dr_grpo").advantage_R
    assert advantage_R is not None
    assert advantage_R.tolist() == [0.25, 0.25, -0.75, 0.25]


class Scores:
    """A learner of which only the log-probabilities are asked."""

    version = 0

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def logprobs(self, sequences: Any) -> list[Any]:
        self.asked += sequences
        return [np.full(len(sequence.token_ids), -0.5 * sequence.prompt_ids[0], np.float32) for sequence in sequences]


def test_a_hinted_group_is_trained_under_its_parents_prompt_by_the_learners_own_log_probabilities() -> None:
    """Prompt p1 is p0 with a hint: tokens (2,) were shown to the engine, (1,) are trained on."""
    hinted, plain, learner = replace(PROMPTS, trained_as={1: 0}), sequences_of([attempt()], "grpo", PROMPTS), Scores()
    given = sequences_of([attempt()], "grpo", hinted)
    assert [s.prompt_ids for s in given] == [(1,)] * 7
    assert [s.policy_version for s in given] == [0] * 3 + [NO_VERSION] * 4
    assert [bool(np.isnan(s.rollout_logprob_T).all()) for s in given] == [False] * 3 + [True] * 4
    assert [(s.group, s.advantage) for s in given] == [(s.group, s.advantage) for s in plain], "groups and means are as they were"
    whole = with_own_logprobs(given, learner)  # type: ignore[arg-type]
    assert [s.rollout_logprob_T.tolist() for s in whole] == [[0.0] * 3] * 3 + [[-0.5] * 3] * 4
    assert [s.group for s in learner.asked] == [plain[-1].group] * 4, "one pass over what needs it"
    assert with_own_logprobs(plain, learner) == plain  # type: ignore[arg-type]
    assert len(learner.asked) == 4
