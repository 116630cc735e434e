"""Credit for thoughts that are scored at several token budgets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from curricula.budget_split import budget_advantages, budget_probabilities, budget_returns
from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import Bools, CurriculaError, Cuts, Floats, Ints, Outcome, PromptPool


@register("shaping", "budget_split")
@dataclass(frozen=True)
class BudgetSplit(Stateless):
    """Train for the expected score over token budgets, so that an interrupted thought is worth something. arXiv 2505.13438.

    AnytimeReasoner's BRPO. A completion is cut at every budget that it passes and summed up behind the cut ``n_summaries`` times;
    c_s is their mean score, and its own score from the budget on before which it ended. Tokens between budgets s - 1 and s have
    the advantage R_s - (s v_s + (S - s) mean R_s) / S, with R_s = sum over u >= s of P_u c_u and v_s the completion's earlier
    scores, weighed 2^u, times the probability that is left (see `curricula.budget_split`). P_s is alike for all budgets
    (``uniform``), in proportion to their tokens (``linear``) or all on the last (``base``); ``last_share`` of it moves to the last
    (ours: a pacing from 1 to 0 trains for long thoughts first). The reward of a whole rollout is R_0. Summaries are trained on
    too, each with its score less the mean behind the same cut. The text that asks for a summary is the host's, ``rollout.summary``
    in a recipe.

    The last budget is the completions' limit; a completion that the limit stops there is summed up too. A rollout with a cut whose
    summaries all failed has no credit and is no peer. Where a host scores no summaries, a rollout's own score counts at every
    budget. ``learner.advantage`` has no say in the learner's advantages; it makes those that other policies read, of raw rewards.

    Departures: scores are rewards mapped to [0, 1]; a completion's own answer belongs to the segment in which it stands; a summary
    is a sequence of its own behind its prefix, which is computed again, where the release packs them into one tree. Raw rewards,
    which beliefs and filters read, are of whole completions: groups of equal ones may have signal here, so keep them all. For
    models that think long and are stopped at changing lengths; it costs up to S x n_summaries short completions per rollout, and
    as many sequences to learn from.

    >>> BudgetSplit(budgets=(10, 20, 30, 40), kind="linear", last_share=0.5).probability_S
    array([0.05, 0.1 , 0.15, 0.7 ])
    """

    budgets: tuple[int, ...] = (2000, 4000, 6000, 8000)  # tokens, rising; the last is the completions' limit
    n_summaries: int = 4  # behind each cut
    summary_tokens: int = 128  # limit of each
    kind: Literal["uniform", "linear", "base"] = "uniform"
    last_share: float = 0.0  # of the probability, moved to the last budget

    def __post_init__(self) -> None:
        budgets = tuple(self.budgets)
        if not budgets or any(late <= early for early, late in zip((0, *budgets), budgets, strict=False)):
            raise CurriculaError(f"budget_split.budgets: expected rising numbers of tokens > 0, got {budgets}")
        for key in ("n_summaries", "summary_tokens"):
            if getattr(self, key) < 1:
                raise CurriculaError(f"budget_split.{key}: expected a number >= 1, got {getattr(self, key)}")
        if not 0 <= self.last_share <= 1:
            raise CurriculaError(f"budget_split.last_share: expected a share in 0..1, got {self.last_share}")

    @property
    def probability_S(self) -> Floats:
        """(S,) how much each budget counts."""
        plain_S = budget_probabilities(np.asarray(self.budgets, dtype=np.int64), self.kind)
        return np.asarray((1 - self.last_share) * plain_S + self.last_share * np.eye(len(plain_S))[-1])

    def limit(self, state: Any, pool: PromptPool, prompt_B: Ints) -> Ints:
        return np.full(len(prompt_B), self.budgets[-1], dtype=np.int64)

    def cuts(self, state: Any) -> Cuts:
        """The budgets, and what is asked for at each."""
        return Cuts(self.budgets, self.n_summaries, self.summary_tokens)

    def shape(self, state: Any, pool: PromptPool, outcome: Outcome) -> Floats:
        score_RS = self.scores(outcome)
        known_R = np.isfinite(score_RS).all(axis=1)
        reward_R = outcome.score_R.copy()  # where a cut's score is not known: the rollout's own
        if known_R.any():
            reward_R[known_R] = budget_returns(score_RS[known_R], self.probability_S)[:, 0]
        return reward_R

    def credit(self, state: Any, pool: PromptPool, outcome: Outcome, peers_R: Bools) -> Floats:
        """(R, S) advantage of each segment; 0 for rollouts that are no peers, and where a group has fewer than two."""
        score_RS = self.scores(outcome)
        place_r = np.flatnonzero(peers_R & np.isfinite(score_RS).all(axis=1))
        credit_RS = np.zeros_like(score_RS)
        for b in np.unique(outcome.group_R[place_r]):
            group_g = place_r[outcome.group_R[place_r] == b]
            if len(group_g) > 1:
                credit_RS[group_g] = budget_advantages(score_RS[group_g], self.probability_S)
        return credit_RS

    def scores(self, outcome: Outcome) -> Floats:
        """(R, S) score at each budget; NaN = unknown. Errors: CurriculaError when the outcome was cut elsewhere."""
        if outcome.cut_score_RS.shape[1]:
            if outcome.plan.cuts.at != tuple(self.budgets):
                raise CurriculaError(
                    f"budget_split: the outcome has scores at {outcome.plan.cuts.at} tokens, the policy's budgets are "
                    f"{tuple(self.budgets)}; take the budgets of the plan"
                )
            return outcome.cut_score_RS
        return np.repeat(outcome.score_R[:, None], len(self.budgets), axis=1)
