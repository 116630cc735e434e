"""A difficulty per prompt against one competence of the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.evidence import by_prompt, worth
from curricula.logits import sigmoid
from curricula.registry import register
from curricula.types import CurriculaError, Estimate, Feedback, Floats, Ints, PromptPool


class RaschState(NamedTuple):
    """8 bytes per prompt."""

    difficulty_N: NDArray[np.float32]
    n_visits_N: NDArray[np.int32]
    difficulty_sum: Floats  # () over all prompts, so that competence costs no pass over the pool


@register("belief", "rasch")
@dataclass(frozen=True)
class Rasch:
    """How far the model's competence lies above a prompt's difficulty; both are learned. CDAS, arXiv 2505.17652.

    P = sigmoid(C - D), D <- D + (P - s - D) / k, C = - mean of D over the pool. s is the pass rate of a visit, P what was
    expected before the step. ``form = "code"`` is the released code, where the start D = 0 counts as a visit (k = 2 at the
    first); ``form = "paper"`` is the text (k = 1 at the first). D is the mean surprise of a prompt, so |D| stays below 1 and P
    within 0.12..0.88: it ranks prompts and does not estimate pass rates. A prompt that was never visited stays at D = 0.

    All groups of a prompt in one step are one visit. The answer is worth ``strength`` rollouts. Use it for CDAS; else `beta`.

    >>> sigmoid(np.array([-0.0625 - 0.25])).round(4)
    array([0.4225])
    """

    form: Literal["code", "paper"] = "code"
    strength: float = 4.0  # rollouts that an expectation is worth

    def __post_init__(self) -> None:
        if self.form not in ("code", "paper"):
            raise CurriculaError(f"rasch.form: expected 'code' or 'paper', got {self.form!r}")
        if not 0 < self.strength < np.inf:
            raise CurriculaError(f"rasch.strength: expected a finite number above 0, got {self.strength}")

    def init(self, pool: PromptPool) -> RaschState:
        return RaschState(np.zeros(len(pool), np.float32), np.zeros(len(pool), np.int32), np.array(0.0))

    def estimate(self, state: RaschState, pool: PromptPool, prompt_B: Ints) -> Estimate:
        return worth(self._expected(state, pool, prompt_B), self.strength)

    def update(self, state: RaschState, pool: PromptPool, feedback: Feedback) -> RaschState:
        seen = by_prompt(feedback.outcome)
        surprise_B = self._expected(state, pool, seen.prompt_B) - seen.rate_B
        before_B = state.difficulty_N[seen.prompt_B].astype(np.float64)
        k_B = state.n_visits_N[seen.prompt_B] + (2 if self.form == "code" else 1)
        state.difficulty_N[seen.prompt_B] = before_B + (surprise_B - before_B) / k_B
        state.n_visits_N[seen.prompt_B] += 1
        moved = state.difficulty_N[seen.prompt_B].astype(np.float64) - before_B
        return state._replace(difficulty_sum=state.difficulty_sum + moved.sum())

    def _expected(self, state: RaschState, pool: PromptPool, prompt_B: Ints) -> Floats:
        return sigmoid(competence(state) - state.difficulty_N[prompt_B].astype(np.float64))


def competence(state: RaschState) -> float:
    """C, minus the mean difficulty of the pool."""
    return -float(state.difficulty_sum) / len(state.difficulty_N)
