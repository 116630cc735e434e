"""A straight line through features of the prompts, learned from what came back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from curricula.evidence import Evidence, by_prompt, worth
from curricula.features import columns_in, each, rows, width
from curricula.logits import sigmoid
from curricula.registry import register
from curricula.types import CurriculaError, Estimate, Feedback, Floats, Ints, PromptPool

EDGE = 1e-3  # answers stay this far from 0 and 1
SMALLEST_CURVATURE = 0.1  # of the logistic loss; below, one surprise would throw the weights far past their mark
NEWTON_STEPS = 3  # per learned step


class RegressionState(NamedTuple):
    """Nothing per prompt; G is F + 1, the features and a constant."""

    gram_GG: Floats  # faded sum of n v x x'
    target_G: Floats  # faded sum of n v x times the value that the line should have had
    weight_G: Floats


@register("belief", "regression")
@dataclass(frozen=True)
class Regression:
    """Pass rates from features of the prompts, by ridge or logistic regression on what came back; every step fades the older ones.

    Minimises sum of fade x n x loss(y, line) + ridge x |w|^2 over all steps, y the pass rate of a prompt in a step, n its
    rollouts, fade = (1 - forgetting)^(steps since). ``kind = "ridge"``: squared loss of 0.5 + w.x, exactly. ``kind =
    "logistic"``: three Newton steps per learned step, earlier steps as the parabola that they left. Late feedback counts as new.
    Features should be scaled to about 1.

    PCL (arXiv 2510.01135) trains a value model on the prompt's text with the squared loss, to the same end and one step stale
    like this; a line through frozen embeddings is ours. Its authors find the value model worth about 3 rollouts: the default
    ``strength``. Without features it learns a pass rate per distribution. A step costs F^3 operations, an answer F per prompt.

    Use it where prompts are seen once or twice and embeddings are at hand.

    >>> pool = PromptPool.from_columns("ab", "xx", features=[[0.0], [1.0]])
    >>> belief = Regression(kind="ridge")
    >>> state = belief.init(pool)._replace(weight_G=np.array([0.3, 0.1]))
    >>> belief.estimate(state, pool, np.array([0, 1])).mean_B
    array([0.6, 0.9])
    """

    kind: Literal["ridge", "logistic"] = "logistic"
    ridge: float = 1.0  # rollouts' worth of pull towards 0.5
    forgetting: float = 0.02  # share of the evidence that is lost per learned step
    strength: float = 3.0  # rollouts that an answer is worth

    def __post_init__(self) -> None:
        if self.kind not in ("ridge", "logistic"):
            raise CurriculaError(f"regression.kind: expected 'ridge' or 'logistic', got {self.kind!r}")
        if not 0 <= self.forgetting <= 1:
            raise CurriculaError(f"regression.forgetting: expected 0..1, got {self.forgetting}")
        for key in ("ridge", "strength"):
            if not 0 < getattr(self, key) < np.inf:
                raise CurriculaError(f"regression.{key}: expected a finite number above 0, got {getattr(self, key)}")

    def init(self, pool: PromptPool) -> RegressionState:
        g = width(pool, "regression") + 1
        return RegressionState(np.zeros((g, g)), np.zeros(g), np.zeros(g))

    def estimate(self, state: RegressionState, pool: PromptPool, prompt_B: Ints) -> Estimate:
        line_B = each(pool, prompt_B, lambda x_BF: x_BF @ state.weight_G[:-1] + state.weight_G[-1])
        return worth(np.clip(self._rate(line_B), EDGE, 1 - EDGE), self.strength)

    def update(self, state: RegressionState, pool: PromptPool, feedback: Feedback) -> RegressionState:
        seen = by_prompt(feedback.outcome)
        if not len(seen.prompt_B):
            return state
        x_BG = np.concatenate([rows(pool, seen.prompt_B), np.ones((len(seen.prompt_B), 1))], axis=1)
        keep = 1.0 - self.forgetting
        past = RegressionState(keep * state.gram_GG, keep * state.target_G, state.weight_G)
        state = past
        for _ in range(1 if self.kind == "ridge" else NEWTON_STEPS):
            state = self._fitted(past, state.weight_G, x_BG, seen)
        return state

    def _fitted(self, past: RegressionState, weight_G: Floats, x_BG: Floats, seen: Evidence) -> RegressionState:
        """The past, plus this step's loss as a parabola around the given weights; and the weights at the bottom of both."""
        line_B = x_BG @ weight_G
        rate_B = self._rate(line_B)
        curvature_B = np.ones(len(line_B)) if self.kind == "ridge" else np.maximum(rate_B * (1 - rate_B), SMALLEST_CURVATURE)
        gram_GG = past.gram_GG + (x_BG.T * (seen.n_B * curvature_B)) @ x_BG
        target_G = past.target_G + x_BG.T @ (seen.n_B * (curvature_B * line_B + seen.rate_B - rate_B))
        fitted_G = np.linalg.solve(gram_GG + self.ridge * np.eye(len(target_G)), target_G)
        return RegressionState(gram_GG, target_G, np.asarray(fitted_G, dtype=np.float64))

    def carry(self, state: RegressionState, old: PromptPool, new: PromptPool) -> RegressionState:
        """The state in a larger pool; a new distribution of a pool without features is a new column."""
        fresh = self.init(new)
        column = np.append(columns_in(old, new), len(fresh.weight_G) - 1)
        fresh.gram_GG[np.ix_(column, column)] = state.gram_GG
        fresh.target_G[column], fresh.weight_G[column] = state.target_G, state.weight_G
        return fresh

    def _rate(self, line_B: Floats) -> Floats:
        return sigmoid(line_B) if self.kind == "logistic" else 0.5 + line_B
