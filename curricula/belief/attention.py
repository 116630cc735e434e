"""The pass rates of the newest prompts, weighed by softmax attention on features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curricula.evidence import by_prompt, stated_rates, worth
from curricula.features import each, rows, width
from curricula.logits import logit, sigmoid
from curricula.references import References, carried_references, filled, no_references, remembered
from curricula.registry import register
from curricula.types import CurriculaError, Estimate, Feedback, Floats, Ints, PromptPool

EDGE = 1e-3  # answers stay this far from 0 and 1


@register("belief", "attention")
@dataclass(frozen=True)
class Attention:
    """The mean pass rate of the newest prompts, each weighed by softmax(sharpness x features . features / sqrt(F)).

    p = sum over i of softmax_i(z . z_i / sqrt(F)) s_i, then sigmoid(logit(p) / temperature + bias). DOTS, arXiv 2506.05316, whose
    references are 256 random prompts rolled out every second step, whose features pass an adapter trained offline, and whose
    calibration is fitted. Here the references are the last ``window`` prompts of the training itself, the features are the pool's
    (put adapted embeddings there), and the calibration is two numbers. ``sharpness`` is ours; 1 is the paper.

    Before the first step: the stated pass rate, or 0.5. Without features a prompt attends to its own distribution exp(sharpness)
    times as much as to the others (sqrt(F) is 1 then). An answer costs window x F per prompt. The answer is worth ``strength``
    rollouts.

    >>> attend(np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), 2 ** -0.5).round(6)
    array([[0.401112, 0.197776, 0.401112]])
    """

    window: int = 256  # prompts
    sharpness: float = 1.0
    temperature: float = 1.0
    bias: float = 0.0
    strength: float = 4.0

    def __post_init__(self) -> None:
        if self.window < 1:
            raise CurriculaError(f"attention.window: expected >= 1, got {self.window}")
        for key in ("sharpness", "temperature", "strength"):
            if not 0 < getattr(self, key) < np.inf:
                raise CurriculaError(f"attention.{key}: expected a finite number above 0, got {getattr(self, key)}")
        if not np.isfinite(self.bias):
            raise CurriculaError(f"attention.bias: expected a finite number, got {self.bias}")

    def init(self, pool: PromptPool) -> References:
        width(pool, "attention")
        return no_references(self.window)

    def estimate(self, state: References, pool: PromptPool, prompt_B: Ints) -> Estimate:
        there = filled(state)
        if not there.any():
            return worth(stated_rates(pool, prompt_B), self.strength)
        z_WF, rate_W = rows(pool, state.prompt_W[there]), state.success_W[there] / state.n_W[there]
        sharpness = self.sharpness / np.sqrt(1 if pool.features_NF is None else z_WF.shape[1])
        rate_B = np.clip(each(pool, prompt_B, lambda z_BF: attend(z_BF, z_WF, sharpness) @ rate_W), EDGE, 1 - EDGE)
        line_B = logit(rate_B) / self.temperature + self.bias
        return worth(np.clip(sigmoid(line_B), EDGE, 1 - EDGE), self.strength)

    def update(self, state: References, pool: PromptPool, feedback: Feedback) -> References:
        return remembered(state, by_prompt(feedback.outcome))

    def carry(self, state: References, old: PromptPool, new: PromptPool) -> References:
        """The state in a larger pool: the newest prompts have other rows there."""
        return carried_references(state, old, new)


def attend(z_BF: Floats, z_WF: Floats, sharpness: float) -> Floats:
    """(B, W) softmax of sharpness x inner products; each row sums to 1."""
    score_BW = sharpness * (z_BF @ z_WF.T)
    weight_BW: Floats = np.exp(score_BW - score_BW.max(axis=1, keepdims=True))
    weight_BW /= weight_BW.sum(axis=1, keepdims=True)
    return weight_BW
