"""Known difficulties, and one ability of the model that is fitted to its newest answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.evidence import by_prompt, stated_rates, worth
from curricula.logits import logit, sigmoid
from curricula.references import References, carried_references, filled, no_references, remembered
from curricula.registry import register
from curricula.types import CurriculaError, Estimate, Feedback, Floats, Ints, PromptPool

HALVINGS = 60  # of the interval that holds the ability; 2^-60 of it is below rounding


class IRTState(NamedTuple):
    """Nothing per prompt: difficulties are the pool's."""

    references: References
    ability: Floats  # ()


@register("belief", "irt")
@dataclass(frozen=True)
class ItemResponse:
    """A fixed difficulty per prompt, and the model's ability from its newest answers. PUDF, arXiv 2408.05326.

    P = sigmoid(theta - d), theta = argmax log N(theta; 0, 1) + sum of log sigmoid(+-(theta - d)) over the rollouts of the last
    ``window`` prompts that came back, + for a success. The difficulty is -logit of the stated pass rate (0 where none is stated),
    or a column of the pool's features on the logit scale. PUDF fits difficulties to a crowd of models, asks a probe set once per
    epoch and searches theta with Nelder-Mead; here the training prompts are the probe, and theta is found by bisection.
    Fractional scores count as fractional successes. The answer is worth ``strength`` rollouts.

    Use it with good offline difficulties: one number is learned, so a handful of groups moves the whole pool.

    >>> round(ability(np.array([-3.0, -1.0, 0.0, 1.0]), np.array([1.0, 1.0, 0.0, 0.0]), np.ones(4)), 4)
    -0.2675
    """

    window: int = 256  # prompts
    column: int = -1  # of the pool's features, as difficulty; -1 = the stated pass rate
    strength: float = 4.0

    def __post_init__(self) -> None:
        if self.window < 1:
            raise CurriculaError(f"irt.window: expected >= 1, got {self.window}")
        if self.column < -1:
            raise CurriculaError(f"irt.column: expected a column of the features, or -1 for none, got {self.column}")
        if not 0 < self.strength < np.inf:
            raise CurriculaError(f"irt.strength: expected a finite number above 0, got {self.strength}")

    def init(self, pool: PromptPool) -> IRTState:
        if self.column >= 0:
            features = pool.features_NF
            if features is None or features.ndim != 2 or self.column >= features.shape[1]:
                shape = "no features" if features is None else f"features of shape {features.shape}"
                raise CurriculaError(f"irt.column: expected a column of the pool's features, got {self.column} and {shape}")
            if not np.isfinite(features[:, self.column]).all():
                raise CurriculaError(f"irt.column: expected finite difficulties, column {self.column} of the features has others")
        return IRTState(no_references(self.window), np.array(0.0))

    def estimate(self, state: IRTState, pool: PromptPool, prompt_B: Ints) -> Estimate:
        expected_B = sigmoid(float(state.ability) - self._difficulty(pool, prompt_B))
        return worth(np.clip(expected_B, 1e-6, 1 - 1e-6), self.strength)

    def update(self, state: IRTState, pool: PromptPool, feedback: Feedback) -> IRTState:
        references = remembered(state.references, by_prompt(feedback.outcome))
        there = filled(references)
        difficulty_W = self._difficulty(pool, references.prompt_W[there])
        theta = ability(difficulty_W, references.success_W[there], references.n_W[there])
        return IRTState(references, np.array(theta))

    def carry(self, state: IRTState, old: PromptPool, new: PromptPool) -> IRTState:
        """The state in a larger pool: the newest prompts have other rows there."""
        return state._replace(references=carried_references(state.references, old, new))

    def _difficulty(self, pool: PromptPool, prompt_B: Ints) -> Floats:
        if self.column >= 0 and pool.features_NF is not None:
            return np.asarray(pool.features_NF[prompt_B, self.column], dtype=np.float64)
        return -logit(stated_rates(pool, prompt_B))


def ability(difficulty_W: Floats, success_W: Floats, n_W: Floats) -> float:
    """The theta at which the slope of the log posterior is 0; the slope falls everywhere, so there is exactly one."""
    low, high = -float(n_W.sum()) - 1.0, float(n_W.sum()) + 1.0  # |theta| is at most the number of rollouts
    for _ in range(HALVINGS):
        middle = 0.5 * (low + high)
        if (success_W - n_W * sigmoid(middle - difficulty_W)).sum() > middle:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)
