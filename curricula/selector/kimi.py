"""Prompts in proportion to how often they fail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.groups import pass_rates
from curricula.inclusion import choose_among_candidates, proportional
from curricula.registry import register
from curricula.stages import Believed, Quota
from curricula.types import CurriculaError, Feedback, Floats, Ints, PromptPool, Selection


class KimiState(NamedTuple):
    """4 bytes per prompt."""

    failed_N: NDArray[np.int32]  # (N,) groups without any reward since the last that had some


@register("selector", "kimi")
@dataclass(frozen=True)
class Kimi:
    """Chances in proportion to 1 - p, p the believed pass rate: harder prompts come more often. Kimi k1.5, arXiv 2501.12599.

    A prompt that nobody can solve would take the largest share for ever. So after ``most_failures`` groups in a row without any
    reward a prompt has chance 0 but for the floor, until a group earns something; 0 switches this off. That cap and ``floor``, the
    share of each quota spread evenly over all open prompts, are ours, and so are chances that are exact without replacement. The
    report also goes from easy to hard; use a staged distribution for that. Tends to all-fail groups on a hard pool: "learnability"
    and "nearest" avoid them.

    >>> from curricula.curriculum import Curriculum
    >>> pool = PromptPool.from_columns("ab", "xx", prior_pass_rate=[0.25, 0.25])
    >>> curriculum = Curriculum.from_recipe({"selector": {"name": "kimi", "floor": 0.0}}, pool)
    >>> curriculum.plan(0, n_groups=1, n_rollouts=2).selection.propensity_B
    array([0.5])
    """

    most_failures: int = 8
    floor: float = 0.05

    def __post_init__(self) -> None:
        if self.most_failures < 0:
            raise CurriculaError(f"kimi.most_failures: expected >= 0, got {self.most_failures}")
        if not 0 <= self.floor <= 1:
            raise CurriculaError(f"kimi.floor: expected 0..1, got {self.floor}")

    def init(self, pool: PromptPool) -> KimiState:
        return KimiState(np.zeros(len(pool), np.int32))

    def select(self, state: KimiState, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        def weigh(prompt_n: Ints, expected: float) -> Floats:
            weight_n = 1.0 - believed(prompt_n).mean_B
            if self.most_failures:
                weight_n = np.where(state.failed_N[prompt_n] < self.most_failures, weight_n, 0.0)
            return proportional(weight_n, expected)

        return choose_among_candidates(pool, quota, weigh, self.floor, rng)

    def update(self, state: KimiState, pool: PromptPool, feedback: Feedback) -> KimiState:
        pass_rate_B, prompt_B = pass_rates(feedback.outcome), feedback.plan.selection.prompt_B
        np.add.at(state.failed_N, prompt_B[pass_rate_B == 0], 1)
        state.failed_N[prompt_B[pass_rate_B > 0]] = 0
        return state
