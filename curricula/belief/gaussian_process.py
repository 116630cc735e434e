"""What like prompts did, weighed by how alike they are and how well they are known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.evidence import by_prompt, stated_rates
from curricula.features import each, likeness, median_distance, rows, width
from curricula.logits import logit, sigmoid
from curricula.references import References, carried_references, filled, no_references, remembered
from curricula.registry import register
from curricula.types import CurriculaError, Estimate, Feedback, Floats, Ints, PromptPool

JITTER = 1e-8  # on the diagonal: two prompts with the same features


class ProcessState(NamedTuple):
    """Nothing per prompt."""

    references: References
    scale: Floats  # () distance over which pass rates are alike
    inverse_WW: Floats  # of the covariance of the observations
    weight_W: Floats  # inverse x observations


@register("belief", "gaussian_process")
@dataclass(frozen=True)
class GaussianProcess:
    """A Gaussian process over features on the logit of the pass rate, with the newest prompts as observations.

    g ~ GP(m, exp(-|x - x'|^2 / (2 scale^2))), p = sigmoid(g), observations logit(pass rate kept within margin..1 - margin),
    posterior mean m(x) + k (K + noise)^-1 (g - m). m is the logit of the stated pass rate, 0 where none is stated. VIP (arXiv
    2602.01601) has m = 0 at the start and moves the mean of all prompts from batch to batch without noise and without the
    covariance of earlier batches; ours is the exact posterior given the last ``window`` prompts, each with its newest visit, and
    with observation noise ``noise`` / (n p (1 - p)). ``noise = 0`` is VIP's rule for one batch. A scale of 0 means the median
    distance of the pool.

    The variance v of g gives the Beta: by the delta method the pass rate has variance (p (1 - p))^2 v, so alpha + beta =
    1 / (p (1 - p) v) - 1, at least 3. Without features, prompts of one distribution are all alike.

    A step costs window^3 operations, an answer window x (F + window) per prompt: choose among candidates, not among millions.

    >>> pool = PromptPool.from_columns("ab", "xx")
    >>> belief = GaussianProcess()
    >>> belief.estimate(belief.init(pool), pool, np.array([0])).alpha_B
    array([1.5])
    """

    window: int = 256  # prompts
    scale: float = 0.0
    noise: float = 1.0
    margin: float = 0.02

    def __post_init__(self) -> None:
        if self.window < 1:
            raise CurriculaError(f"gaussian_process.window: expected >= 1, got {self.window}")
        for key in ("scale", "noise"):
            if not 0 <= getattr(self, key) < np.inf:
                raise CurriculaError(f"gaussian_process.{key}: expected a finite number >= 0, got {getattr(self, key)}")
        if not 0 < self.margin < 0.5:
            raise CurriculaError(f"gaussian_process.margin: expected a number between 0 and 0.5, got {self.margin}")

    def init(self, pool: PromptPool) -> ProcessState:
        width(pool, "gaussian_process")
        scale = np.array(self.scale or median_distance(pool))
        return ProcessState(no_references(self.window), scale, np.zeros((self.window, self.window)), np.zeros(self.window))

    def estimate(self, state: ProcessState, pool: PromptPool, prompt_B: Ints) -> Estimate:
        x_WF = rows(pool, state.references.prompt_W)  # an empty place reads the last row, and weighs nothing

        def moments(x_BF: Floats) -> Floats:
            alike_BW = likeness(x_BF, x_WF, float(state.scale))
            explained_B = ((alike_BW @ state.inverse_WW) * alike_BW).sum(1)
            return np.stack([alike_BW @ state.weight_W, np.clip(1.0 - explained_B, 1e-6, 1.0)], axis=1)

        shift_B, variance_B = each(pool, prompt_B, moments).T
        mean_B = np.clip(sigmoid(logit(stated_rates(pool, prompt_B)) + shift_B), 1e-6, 1 - 1e-6)
        n_B = 1.0 / (mean_B * (1 - mean_B) * variance_B) - 1.0
        return Estimate(n_B * mean_B, n_B * (1 - mean_B))

    def update(self, state: ProcessState, pool: PromptPool, feedback: Feedback) -> ProcessState:
        references = remembered(state.references, by_prompt(feedback.outcome), once=True)
        place = np.flatnonzero(filled(references))
        prompt_w, n_w = references.prompt_W[place], references.n_W[place]
        rate_w = np.clip(references.success_W[place] / n_w, self.margin, 1 - self.margin)
        x_wF = rows(pool, prompt_w)
        covariance_ww = likeness(x_wF, x_wF, float(state.scale))
        np.fill_diagonal(covariance_ww, 1.0 + JITTER + self.noise / (n_w * rate_w * (1 - rate_w)))
        inverse_WW, weight_W = np.zeros_like(state.inverse_WW), np.zeros_like(state.weight_W)
        inverse_WW[np.ix_(place, place)] = np.linalg.inv(covariance_ww)
        weight_W[place] = inverse_WW[np.ix_(place, place)] @ (logit(rate_w) - logit(stated_rates(pool, prompt_w)))
        return state._replace(references=references, inverse_WW=inverse_WW, weight_W=weight_W)

    def carry(self, state: ProcessState, old: PromptPool, new: PromptPool) -> ProcessState:
        """The state in a larger pool: the newest prompts have other rows there."""
        return state._replace(references=carried_references(state.references, old, new))
