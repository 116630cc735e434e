"""Completions cut short: what would an answer at this point be worth?

Behind every cut of the plan that a completion passes, the engine is asked for a few short answers: their prompt is the prompt, the
completion up to the cut, and a text that asks for a summary. Each cut is a request of its own, its ticket names completion and cut,
its seed follows from the ticket. The verifier reads that text and what the model drew behind it, not the thought before it.

Summaries are asked for as soon as their completion is there, without waiting for its verdict: what is in an engine together does
not depend on how fast verifiers are, so that a run in the driver repeats its log-probabilities to the last bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from curricula.types import Cuts, Floats, Ints, Status
from rollout.prompts import RewardSpec
from rollout.turns import request_seed
from rollout.types import Completion, FinishReason, Judged, Request, Ticket


@dataclass(frozen=True)
class Summariser:
    """The text that asks for a summary."""

    text: str
    token_ids: tuple[int, ...]
    reward: RewardSpec

    def requests(self, request: Request, place: int, thought: Completion) -> list[Request]:
        """One for every cut that this completion of the request passes."""
        return [self._request(request, place, s, thought.token_ids[:cut].tolist()) for s, cut in passed(request.cuts, thought)]

    def _request(self, request: Request, place: int, s: int, thought: list[int]) -> Request:
        ticket = replace(request.ticket, place=place, cut=s + 1)
        return replace(
            request,
            ticket=ticket,
            prompt_ids=(*request.prompt_ids, *thought, *self.token_ids),
            n=request.cuts.n_summaries,
            sampling=replace(request.sampling, max_tokens=request.cuts.summary_tokens),
            seed=request_seed(request.seed, ticket),
            cuts=Cuts(),
        )

    def asked(self, drawn: Completion) -> Completion:
        """A summary with the text that asked for it, which was fed to the model."""
        n_fed, n_drawn = len(self.token_ids), len(drawn.token_ids)
        return replace(
            drawn,
            token_ids=np.concatenate([np.array(self.token_ids, np.int32), drawn.token_ids]),
            logprob_T=np.concatenate([np.zeros(n_fed, np.float32), drawn.logprob_T]),
            text=self.text + drawn.text,
            drawn_T=np.arange(n_fed + n_drawn) >= n_fed,
        )

    def summed_up(self, judged: Judged, cuts: Cuts, summaries: Mapping[int, Sequence[Judged]]) -> Judged:
        """The completion with its summaries by number of the cut, and its score at every cut; none without a reward of its own."""
        judged = replace(judged, summaries={s: tuple(behind) for s, behind in sorted(summaries.items())})
        if judged.status is not Status.OK:
            return judged
        score_S = np.full(len(cuts), self._score([judged]))
        for s, behind in summaries.items():
            score_S[s] = self._score(behind)
        return replace(judged, cut_score_S=score_S)

    def _score(self, judged: Sequence[Judged]) -> float:
        """Mean of the rewards mapped to [0, 1]; NaN where none has a reward."""
        low, high = self.reward.low, self.reward.high
        scores = [(one.reward - low) / (high - low) for one in judged if one.status is Status.OK]
        return float(np.clip(scores, 0.0, 1.0).mean()) if scores else float("nan")


@dataclass(eq=False)
class Thought:
    """A completion that waits for its verdict or for summaries."""

    cuts: Cuts
    n_asked: int  # requests for summaries
    judged: Judged | None = None
    summaries: dict[int, list[Judged]] = field(default_factory=dict)  # by number of the cut


def passed(cuts: Cuts, completion: Completion) -> list[tuple[int, int]]:
    """(number, tokens) of the cuts that a completion did not end before; one that the limit stopped at a cut has passed it."""
    n, stopped = len(completion.token_ids), completion.finish is FinishReason.LENGTH
    if completion.finish is FinishReason.CANCELLED:
        return []
    return [(s, cut) for s, cut in enumerate(cuts.at) if cut < n or (cut == n and stopped)]


def thought_of(ticket: Ticket) -> Ticket:
    """The ticket of a summary without its cut: it names the completion."""
    return replace(ticket, cut=0)


def segment_of(cuts: Cuts, n_tokens: int) -> Ints:
    """(T,) number of the first cut behind each token; S for tokens behind the last.

    >>> segment_of(Cuts((2, 3), 1, 1), 5)
    array([0, 0, 1, 2, 2])
    """
    number_T: Ints = np.searchsorted(np.asarray(cuts.at), np.arange(n_tokens), side="right")
    return number_T


def scores_at_cuts(judged: Sequence[Judged], cuts: Cuts) -> Floats:
    """(R, S) of completions; NaN where none was made."""
    if not cuts:
        return np.zeros((len(judged), 0))
    blank_S = np.full(len(cuts), np.nan)
    rows = [blank_S if one.cut_score_S is None else one.cut_score_S for one in judged]
    return np.array(rows, dtype=np.float64).reshape(len(judged), len(cuts))  # also where there is no row
