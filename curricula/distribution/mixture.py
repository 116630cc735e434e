"""Several distribution policies at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.distribution.dump_ucb import DumpUCB
from curricula.distribution.uniform import Uniform
from curricula.growth import carried_state
from curricula.registry import register
from curricula.stages import Distribution
from curricula.types import CurriculaError, Feedback, Floats, PromptPool


class MixtureState(NamedTuple):
    """The state of every part."""

    parts: tuple[object, ...]


@register("distribution", "mixture")
@dataclass(frozen=True)
class Mixture:
    """Part of the step by one policy, part by another: P = sum of weight x P of the part, weights as shares of their sum. Ours.

    Every part learns from all groups, whoever asked for them, as if it had been alone. Shares that
    change with the steps are `e2h` and `staged`.

    >>> from curricula.distribution.fixed import FixedWeights
    >>> pool = PromptPool.from_columns("ab", ["easy", "hard"])
    >>> mixture = Mixture(parts=(Uniform(), FixedWeights({"easy": 1})), weights=(3, 1))
    >>> mixture.probabilities(mixture.init(pool), pool)
    array([0.625, 0.375])
    """

    parts: tuple[Distribution, ...] = (DumpUCB(), Uniform())
    weights: tuple[float, ...] = (0.8, 0.2)

    def __post_init__(self) -> None:
        if not self.parts or len(self.parts) != len(self.weights):
            raise CurriculaError(f"mixture: expected one weight per part, got {len(self.parts)} parts and weights {self.weights}")
        if not (all(0 <= weight < np.inf for weight in self.weights) and sum(self.weights) > 0):
            raise CurriculaError(f"mixture.weights: expected finite numbers >= 0, not all 0, got {self.weights}")

    def init(self, pool: PromptPool) -> MixtureState:
        return MixtureState(tuple(part.init(pool) for part in self.parts))

    def carry(self, state: MixtureState, old: PromptPool, new: PromptPool) -> MixtureState:
        """The state for a grown pool, part by part."""
        return MixtureState(tuple(carried_state(part, s, old, new) for part, s in zip(self.parts, state.parts, strict=True)))

    def probabilities(self, state: MixtureState, pool: PromptPool) -> Floats:
        share_K, total = np.zeros(pool.n_distributions), max(self.weights)
        for part, weight, inner in zip(self.parts, self.weights, state.parts, strict=True):
            part_K = part.probabilities(inner, pool)
            share_K += weight / total * part_K / part_K.sum()
        share_K /= share_K.sum()
        return share_K

    def update(self, state: MixtureState, pool: PromptPool, feedback: Feedback) -> MixtureState:
        return MixtureState(tuple(part.update(s, pool, feedback) for part, s in zip(self.parts, state.parts, strict=True)))
