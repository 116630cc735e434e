"""A reward for using a length budget."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import CurriculaError, Floats, Ints, Outcome, PromptPool


@register("shaping", "length_budget")
@dataclass(frozen=True)
class LengthBudget(Stateless):
    """Reward completions near a length budget, best with a budget that shrinks. Train Long, Think Short, arXiv 2508.08940.

    correct_weight x score + length_weight x t, with t = l / L up to the budget L, falling to 0 again at 2 L. The paper's budget
    is 256 x 0.7^floor(step / 150): the pacing ``exponential_steps`` on ``budget``. As published a wrong answer of length L gets
    the whole length reward; ``gated`` gives it to scores above 1/2 only (ours). ``enforce`` makes the budget the completions'
    limit too.

    The prompt states the budget, as in the paper, where the host puts ``plan.stated_tokens_B`` into words: in a recipe
    ``rollout.budget_note``, such as "Think for at most {budget} tokens." Without one nothing tells the model the budget.

    Departures: lengths are those of whole completions, not of the thinking part; there is no reward for format, which belongs to
    the verifier.

    >>> LengthBudget(budget=100).triangle(np.array([50, 100, 150, 200, 900]))
    array([0.5, 1. , 0.5, 0. , 0. ])
    """

    budget: float = 256.0  # tokens; below 1 it counts as 1
    correct_weight: float = 0.6
    length_weight: float = 0.3
    gated: bool = False
    enforce: bool = False

    def __post_init__(self) -> None:
        for key in ("budget", "correct_weight", "length_weight"):
            if not 0 <= getattr(self, key) < np.inf:
                raise CurriculaError(f"length_budget.{key}: expected a finite number >= 0, got {getattr(self, key)}")

    def shape(self, state: Any, pool: PromptPool, outcome: Outcome) -> Floats:
        length_R = self.triangle(outcome.n_tokens_R)
        if self.gated:
            length_R = np.where(outcome.score_R > 0.5, length_R, 0.0)
        return self.correct_weight * outcome.score_R + self.length_weight * length_R

    def triangle(self, n_tokens_R: Ints) -> Floats:
        """(R,) the length reward, 1 at the budget."""
        share_R = n_tokens_R / max(self.budget, 1.0)
        return np.asarray(np.maximum(np.minimum(share_R, 2.0 - share_R), 0.0))

    def limit(self, state: Any, pool: PromptPool, prompt_B: Ints) -> Ints:
        return self.stated_tokens(state, pool, prompt_B) * int(self.enforce)

    def stated_tokens(self, state: Any, pool: PromptPool, prompt_B: Ints) -> Ints:
        """(B,) the budget in whole tokens, for the prompt to state."""
        return np.full(len(prompt_B), int(max(self.budget, 1.0)), dtype=np.int64)
