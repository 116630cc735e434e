"""Of each group the rollouts whose rewards vary most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curricula.max_variance import max_variance
from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import CurriculaError, Outcome, PromptPool, Verdict


@register("downsampling", "pods")
@dataclass(frozen=True)
class Pods(Stateless):
    """Train on those ``n_kept`` rollouts of each group whose rewards vary most, compared among themselves. PODS, arXiv 2504.13818.

    Many rollouts are generated, few are learned from. The part is found by sort and scan (`curricula.max_variance`); of equal
    rewards the earlier rollouts are taken. Groups with no more than ``n_kept`` scored rollouts keep all. With ``renormalise`` the
    learner makes the advantages from the kept rollouts, as published; without it from the whole group, which keeps the baseline
    unbiased (and is the variant of D3S inside groups, arXiv 2509.22115). The released code adds 1e-4 to the deviation, our
    learner 1e-6.

    Raw rewards decide; under a shaping policy the advantages of the chosen rollouts are made of shaped ones.

    >>> from curricula.curriculum import Curriculum
    >>> from curricula.testing import answer, small_pool
    >>> curriculum = Curriculum.from_recipe({"downsampling": {"name": "pods", "n_kept": 4}}, small_pool())
    >>> outcome = answer(curriculum, curriculum.plan(0, n_groups=1, n_rollouts=8), lambda prompt, r: float(r == 6))
    >>> np.flatnonzero(curriculum.judge(outcome).carries_gradient_R)
    array([0, 1, 2, 6])
    """

    n_kept: int = 8
    renormalise: bool = True

    def __post_init__(self) -> None:
        if self.n_kept < 2:
            raise CurriculaError(f"pods.n_kept: expected >= 2 rollouts per group, got {self.n_kept}")

    def thin(self, state: Any, pool: PromptPool, outcome: Outcome, verdict: Verdict) -> Verdict:
        rollout = np.flatnonzero(verdict.carries_gradient_R)
        rollout = rollout[np.argsort(outcome.group_R[rollout], kind="stable")]
        starts = np.flatnonzero(np.diff(outcome.group_R[rollout], prepend=-1))
        carries_R = np.zeros(len(verdict.carries_gradient_R), dtype=np.bool_)
        for group in np.split(rollout, starts[1:]):
            carries_R[group[max_variance(outcome.score_R[group], self.n_kept)]] = True
        return replace(verdict, carries_gradient_R=carries_R, renormalise=self.renormalise or verdict.renormalise)
