"""Do the engines and the learner hold the same weights? A stale output head or prefix cache trains on noise without any error.

The same probe prompts are asked before the first update and after it, one of them longer than a cache block: then a cache of old
weights, a stale head and a wrong temperature all show as a difference of log-probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from curricula.types import CurriculaError
from rollout.dispatcher import Dispatcher
from rollout.turns import request_seed
from rollout.types import Answer, Request, Sampling, Ticket
from trainer.types import Learner, TrainSequence

PROBE_GROUP = -(2**40)  # below every evaluation group
LONG_PROBE_TOKENS = 160  # more than one cache block of any engine (vLLM on a CPU: 128)
TOKENS = 16
COPIES = 4  # of each probe per engine, so that every engine answers some


@dataclass(frozen=True)
class Agreement:
    """Differences of log-probabilities of the probes' sampled tokens, engine minus learner."""

    mean: float
    maximum: float
    engines: tuple[str, ...]
    worst_engine: str


def check_agreement(
    dispatcher: Dispatcher,
    learner: Learner,
    probes: Sequence[tuple[int, ...]],
    sampling: Sampling,
    n_engines: int,
    tolerance: float,
) -> Agreement:
    """Ask the probes, score the answers with the learner, compare.

    Errors: CurriculaError when the mean absolute difference is above ``tolerance`` (nats per token).
    """
    drawn = Sampling(
        sampling.temperature or 1.0, max_tokens=min(TOKENS, sampling.max_tokens)
    )  # top_p is not in the learner's log-probs
    requests = []
    for i, probe in enumerate(list(probes) * COPIES * n_engines):
        ticket = Ticket(PROBE_GROUP - i)
        requests.append(Request(ticket, probe, 1, drawn, request_seed(0, ticket)))
    dispatcher.submit(requests)
    answers = {answer.ticket: answer for answer in dispatcher.stream()}
    agreement = _compare([(answers[request.ticket], request) for request in requests], learner)
    if not agreement.mean <= tolerance:
        raise CurriculaError(
            f"engine {agreement.worst_engine} and the learner disagree after policy version {learner.version}: "
            "mean |log-prob difference| "
            f"{agreement.mean:.4f} nats per token (largest {agreement.maximum:.3f}), expected at most "
            f"run.agreement_tolerance = {tolerance:g}; "
            "training would optimise another model than the one that writes the rollouts. Usual causes: weights "
            "that did not arrive "
            "(tied head, adapter), an old prefix cache, a different dtype or attention kernel"
        )
    return agreement


def probe_prompts(prompts: Sequence[tuple[int, ...]], window: int) -> list[tuple[int, ...]]:
    """Three prompts as they are, and one long one made of many."""
    joined: list[int] = []
    for prompt in prompts:
        if len(joined) >= LONG_PROBE_TOKENS:
            break
        joined.extend(prompt)
    room = min(LONG_PROBE_TOKENS, window - TOKENS)
    return [*prompts[:3], tuple(joined[:room])]


def _compare(pairs: Sequence[tuple[Answer, Request]], learner: Learner) -> Agreement:
    sequences = [
        TrainSequence(request.prompt_ids, one.token_ids, one.logprob_T, 0.0, request.ticket.group, answer.policy_version)
        for answer, request in pairs
        for one in answer.completions
    ]
    engines = [answer.engine for answer, _ in pairs for _ in answer.completions]
    by_engine: dict[str, list[float]] = {engine: [] for engine in engines}
    for engine, sequence, logprob_T in zip(engines, sequences, learner.logprobs(sequences), strict=True):
        by_engine[engine].extend(np.abs(sequence.rollout_logprob_T - logprob_T).tolist())
    means = {engine: float(np.mean(differences)) for engine, differences in by_engine.items()}
    worst = max(means, key=means.__getitem__)
    return Agreement(means[worst], max(max(d) for d in by_engine.values()), tuple(sorted(by_engine)), worst)
