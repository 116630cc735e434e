"""The stated pass rate, until a prompt's own rollouts say more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.evidence import by_prompt, stated_rates, worth
from curricula.registry import register
from curricula.types import CurriculaError, Estimate, Feedback, Ints, PromptPool


class Tally(NamedTuple):
    """8 bytes per prompt."""

    success_N: NDArray[np.float32]
    n_N: NDArray[np.float32]


@register("belief", "static")
@dataclass(frozen=True)
class Static:
    """The pass rate that the data states; a prompt's own rollouts take over step by step, or never.

    p = (1 - w) x stated + w x observed, w = min(1, n / takeover), n the prompt's scored rollouts so far. With ``takeover = 0``
    the stated rate holds for ever, as in curricula by offline difficulty (AdaRFT, arXiv 2504.05520). Where nothing is stated,
    0.5. The answer is worth ``strength`` + n rollouts (``strength`` alone with takeover 0). The takeover is ours. Nothing is
    forgotten.

    >>> pool = PromptPool.from_columns(["a", "b"], ["x", "x"], prior_pass_rate=[0.2, np.nan])
    >>> belief = Static()
    >>> belief.estimate(belief.init(pool), pool, np.array([0, 1])).mean_B
    array([0.2, 0.5])
    """

    takeover: float = 0.0  # rollouts after which only a prompt's own count; 0 = never
    strength: float = 8.0  # rollouts that a stated pass rate is worth

    def __post_init__(self) -> None:
        if not 0 <= self.takeover < np.inf:
            raise CurriculaError(f"static.takeover: expected a finite number >= 0, got {self.takeover}")
        if not 0 < self.strength < np.inf:
            raise CurriculaError(f"static.strength: expected a finite number above 0, got {self.strength}")

    def init(self, pool: PromptPool) -> Tally:
        return Tally(np.zeros(len(pool), np.float32), np.zeros(len(pool), np.float32))

    def estimate(self, state: Tally, pool: PromptPool, prompt_B: Ints) -> Estimate:
        rate_B = stated_rates(pool, prompt_B)
        if not self.takeover:
            return worth(rate_B, self.strength)
        n_B = state.n_N[prompt_B].astype(np.float64)
        weight_B = np.minimum(1.0, n_B / self.takeover)
        observed_B = state.success_N[prompt_B] / np.maximum(n_B, 1.0)
        return worth((1 - weight_B) * rate_B + weight_B * np.minimum(observed_B, 1.0), self.strength + n_B)

    def update(self, state: Tally, pool: PromptPool, feedback: Feedback) -> Tally:
        seen = by_prompt(feedback.outcome)
        state.success_N[seen.prompt_B] += seen.success_B.astype(np.float32)
        state.n_N[seen.prompt_B] += seen.n_B.astype(np.float32)
        return state
