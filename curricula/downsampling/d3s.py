"""Of a whole attempt the rollouts whose advantages vary most."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from curricula.groups import ADVANTAGE_EPSILON, means, scored
from curricula.max_variance import max_variance
from curricula.registry import register
from curricula.stages import Stateless
from curricula.types import CurriculaError, Floats, Outcome, PromptPool, Verdict


@register("downsampling", "d3s")
@dataclass(frozen=True)
class PooledDownsampling(Stateless):
    """Of all rollouts together train on the ``share`` whose normalised advantages vary most. D3S, arXiv 2509.22115.

    A = (score - mean) / (deviation + 1e-6) over the whole group, the deviation that of the population; then one pool over all kept
    groups of the attempt. The learner's advantages stay those of whole groups. A prompt may lose all its rollouts, or keep those of
    one sign: that is the method. For a part of every group see ``pods`` with ``renormalise: false``.

    The paper raises the share while training; its values are not known. Ours: 0.25, and a pacing from there to 1. The other half of
    D3S, the share of tokens, is the learner's ``token_share``.

    >>> PooledDownsampling(share=0.25).share
    0.25
    """

    share: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise CurriculaError(f"d3s.share: expected a share of the rollouts in (0, 1], got {self.share}")

    def thin(self, state: Any, pool: PromptPool, outcome: Outcome, verdict: Verdict) -> Verdict:
        rollout = np.flatnonzero(verdict.carries_gradient_R)
        n_kept = max(round(self.share * len(rollout)), 2)
        carries_R = np.zeros(len(verdict.carries_gradient_R), dtype=np.bool_)
        carries_R[rollout[max_variance(pooled_advantages(outcome)[rollout], n_kept)]] = True
        return replace(verdict, carries_gradient_R=carries_R)


def pooled_advantages(outcome: Outcome) -> Floats:
    """(R,) scores normalised by mean and population deviation of their group; NaN for rollouts without a score."""
    score_r, group_r = scored(outcome)
    deviation_r = score_r - means(score_r, group_r, len(outcome.plan))[group_r]
    std_B = np.sqrt(means(deviation_r**2, group_r, len(outcome.plan)))
    advantage_R = np.full(len(outcome.group_R), np.nan)
    advantage_R[outcome.ok_R] = deviation_r / (std_B[group_r] + ADVANTAGE_EPSILON)
    return advantage_R
