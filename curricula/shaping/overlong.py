"""A penalty for completions close to the limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curricula.registry import register
from curricula.stages import Stateless, Unlimited
from curricula.types import CurriculaError, Floats, Ints, Outcome, PromptPool


@register("shaping", "overlong")
@dataclass(frozen=True)
class Overlong(Unlimited, Stateless):
    """Take a penalty off long completions that grows from 0 to ``factor`` over the last ``cache`` tokens. DAPO, arXiv 2503.14476.

    score - factor x clip((l - (max_tokens - cache)) / cache, 0, 1). The score is the reward mapped to [0, 1]; DAPO's rewards are
    -1 and 1, so its factor of 1 is 0.5 here. ``max_tokens`` is the recipe's ``rollout.sampling.max_tokens``, which a policy
    cannot see. Completions cut at the limit need a reward for this (``score_truncated``).

    >>> Overlong(max_tokens=100, cache=20).penalty(np.array([80, 90, 100]))
    array([0. , 0.5, 1. ])
    """

    max_tokens: int = 20480
    cache: int = 4096
    factor: float = 0.5

    def __post_init__(self) -> None:
        if not 1 <= self.cache <= self.max_tokens:
            raise CurriculaError(
                f"overlong: expected 1 <= cache <= max_tokens, got cache={self.cache}, max_tokens={self.max_tokens}"
            )
        if not 0 <= self.factor < np.inf:
            raise CurriculaError(f"overlong.factor: expected a finite number >= 0, got {self.factor}")

    def shape(self, state: Any, pool: PromptPool, outcome: Outcome) -> Floats:
        return outcome.score_R - self.factor * self.penalty(outcome.n_tokens_R)

    def penalty(self, n_tokens_R: Ints) -> Floats:
        """(R,) share of the penalty, 1 at the limit and beyond."""
        return np.clip((n_tokens_R - (self.max_tokens - self.cache)) / self.cache, 0.0, 1.0)
