"""Accuracy on held-out prompts, distribution by distribution: greedy, and the average of k samples.

Evaluation never touches the curriculum: validation data that move a sampler are a known defect of released code.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from curricula.types import Floats, Status
from rollout.collector import EncodedPrompts
from rollout.producer import Producer
from rollout.turns import request_seed
from rollout.types import Judged, Request, Sampling, Ticket
from trainer.observer import DistributionScore, EvaluationResult
from trainer.settings import EvaluationSettings

SAMPLED, GREEDY = 0, 1  # the ticket's round


@dataclass(frozen=True, eq=False)
class PromptScores:
    """Of one distribution, prompt by prompt: means of the reward mapped to [0, 1], NaN where no completion has a reward."""

    ids: list[str]
    sampled_N: Floats
    greedy_N: Floats


class Evaluator:
    """Holds the prompts that are measured, the same ones with the same seeds every time, so that before and after are paired."""

    def __init__(self, prompts: EncodedPrompts, settings: EvaluationSettings, sampling: Sampling, seed: int) -> None:
        self._prompts = prompts
        self._settings = settings
        self._sampling = sampling
        self._seed = seed
        pool = prompts.prompt_set.pool
        self._rows_K = [pool.members(k)[: settings.prompts_per_distribution] for k in range(pool.n_distributions)]

    def evaluate(self, step: int, producer: Producer) -> EvaluationResult:
        """Scores are means of the reward mapped to [0, 1]; standard errors are over prompts."""
        return summarised(step, self.measure(producer))

    def measure(self, producer: Producer) -> dict[str, PromptScores]:
        """Every prompt's scores, by distribution."""
        requests = [request for rows in self._rows_K for row in rows for request in self._requests(int(row))]
        prompt_of = {request.ticket: self._prompts.prompt_set.prompts[-request.ticket.group - 1] for request in requests}
        judged = producer.produce(requests, prompt_of)
        names = self._prompts.prompt_set.pool.distribution_names
        return {names[k]: self._scores(rows, judged) for k, rows in enumerate(self._rows_K)}

    def _requests(self, row: int) -> Iterator[Request]:
        for round_, n, sampling in (
            (SAMPLED, self._settings.samples_per_prompt, self._sampling),
            (GREEDY, 1, replace(self._sampling, temperature=0.0)),
        ):
            ticket = Ticket(-row - 1, round_)
            yield Request(
                ticket,
                self._prompts.ids_N[row],
                n,
                sampling,
                request_seed(self._seed, ticket),
                self._prompts.prompt_set.prompts[row].id,
            )

    def _scores(self, rows: np.ndarray, judged: dict[Ticket, list[Judged]]) -> PromptScores:
        return PromptScores(
            [self._prompts.prompt_set.prompts[row].id for row in rows],
            np.array([self._mean(judged[Ticket(-int(row) - 1, SAMPLED)]) for row in rows]),
            np.array([self._mean(judged[Ticket(-int(row) - 1, GREEDY)]) for row in rows]),
        )

    def _mean(self, judged: Sequence[Judged]) -> float:
        low, high = self._prompts.prompt_set.reward.low, self._prompts.prompt_set.reward.high
        scores = [(one.reward - low) / (high - low) for one in judged if one.status is Status.OK]
        return float(np.mean(scores)) if scores else float("nan")


def summarised(step: int, scores: Mapping[str, PromptScores]) -> EvaluationResult:
    """Means and their standard errors over prompts, by distribution."""
    return EvaluationResult(step, {name: _summary(one) for name, one in scores.items()})


def _summary(scores: PromptScores) -> DistributionScore:
    return DistributionScore(
        greedy=float(np.nanmean(scores.greedy_N)),
        sampled=float(np.nanmean(scores.sampled_N)),
        standard_error=_standard_error(scores.sampled_N),
        n_prompts=len(scores.ids),
        greedy_standard_error=_standard_error(scores.greedy_N),
    )


def _standard_error(values: np.ndarray) -> float:
    """Of the mean over prompts."""
    return float(np.nanstd(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
