"""Groups whose rewards vary nearly as much as they can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from curricula.groups import relative_variances
from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import CurriculaError, Outcome, PromptPool, Verdict
from curricula.verdicts import REFILL, by_side, verdict

SLACK = 1e-9  # a variance of exactly kappa is enough, whatever it rounds to


@register("filter", "vcrl")
@dataclass(frozen=True)
class RelativeVariance(Stateless):
    """Keep a group if the variance of its scores is at least ``kappa`` of the largest possible. VCRL, arXiv 2509.19803.

    v = k (N - k) / (floor(N / 2) ceil(N / 2)) for k correct of N; fractional scores by their variance. The paper takes 0.3 for 20
    steps and 0.8 from then on: a pacing of ``kappa``. With 8 rollouts 0.8 keeps three to five correct ones. A pair is kept if it
    differs.

    The paper replaces what is turned down by prompts from a memory; here the refill plans them, and selector ``vcrl_replay`` is the
    memory. That a replayed prompt is rolled out anew is second-hand knowledge.

    >>> from curricula.curriculum import Curriculum
    >>> from curricula.testing import answer, small_pool
    >>> curriculum = Curriculum.from_recipe({"filter": "vcrl"}, small_pool())
    >>> plan = curriculum.plan(0, n_groups=3, n_rollouts=24)
    >>> int(curriculum.judge(answer(curriculum, plan, lambda prompt, r: float(r < 4))).kept_B.sum())
    3
    """

    kappa: float = 0.8
    refill: Literal["resample", "none"] = "resample"

    def __post_init__(self) -> None:
        if not 0 <= self.kappa <= 1:
            raise CurriculaError(f"vcrl.kappa: expected a number in 0..1, got {self.kappa}")

    def judge(self, state: Any, pool: PromptPool, outcome: Outcome) -> Verdict:
        share_B = relative_variances(outcome)
        return verdict(outcome, by_side(outcome, (share_B >= self.kappa - SLACK) & (share_B > 0)), REFILL[self.refill])
