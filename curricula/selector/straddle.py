"""Prompts just easier and just harder than what the model can do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from curricula.inclusion import choose_among_candidates, top
from curricula.registry import register
from curricula.stages import Believed, Quota, Stateless
from curricula.types import CurriculaError, Floats, PromptPool, Selection


@register("selector", "straddle")
@dataclass(frozen=True)
class Straddle(Stateless):
    """Half the prompts from just above the ``target`` pass rate, half from just below; equals share alike. CDAS, arXiv 2505.17652.

    CDAS takes the prompts whose difficulty D is nearest below and above the model's competence C. With its Rasch curve
    p = sigmoid(C - D) that is p nearest above and below 1/2, so any belief will do; the paper's is "rasch". A side with too few
    prompts leaves the rest to the other. D = C (p = target) counts as below competence, as in the released code.

    Departures: half of each distribution's quota, not of the whole batch; an odd quota is filled (the released code returns one
    prompt less); ``floor``, the share spread evenly over all open prompts, is ours: ratings of prompts that never come stay where
    they were, while C moves on. Against "nearest": the batch stays balanced where prompts crowd on one side of the target.

    >>> Straddle().halves(np.array([0.9, 0.8, 0.6, 0.3]), 2.0)
    array([0., 0., 1., 1.])
    """

    target: float = 0.5
    floor: float = 0.05

    def __post_init__(self) -> None:
        if not (0 <= self.target <= 1 and 0 <= self.floor <= 1):
            raise CurriculaError(f"straddle: expected target and floor in 0..1, got target={self.target}, floor={self.floor}")

    def select(self, state: object, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        return choose_among_candidates(pool, quota, lambda prompt_n, n: self.halves(believed(prompt_n).mean_B, n), self.floor, rng)

    def halves(self, pass_rate_n: Floats, expected: float) -> Floats:
        """(n,) inclusion probabilities: half of ``expected`` from either side, nearest first."""
        easy_n = pass_rate_n >= self.target
        n_easy = int(np.count_nonzero(easy_n))
        n_hard = len(easy_n) - n_easy
        from_easy = min(max(expected / 2, expected - n_hard), n_easy)
        score_n = -np.abs(pass_rate_n - self.target)
        from_either = ((easy_n, from_easy), (~easy_n, expected - from_easy))
        return sum((top(np.where(side_n, score_n, -np.inf), n) for side_n, n in from_either if n > 0), np.zeros(len(easy_n)))
