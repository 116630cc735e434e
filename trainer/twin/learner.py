"""One draw of the twin as a learner that answers and learns: what `trainer.simulate.run` calls a student, with fitted numbers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from curricula.types import Bools, Floats, Ints
from trainer.twin.fit import Twin

Start = Literal["start", "end"]


@dataclass(frozen=True, eq=False)
class Draw:
    """Everything that a roll-forward needs of one draw; small enough to send to another process."""

    ability_K: Floats
    rate: float
    transfer_KK: Floats
    difficulty_N: Floats
    distribution_N: Ints


def draw_of(twin: Twin, draw: int, start: Start) -> Draw:
    """Draw number ``draw``, as it was before the log's first step or after its last."""
    ability_DK = twin.ability_DK if start == "start" else twin.end_DK
    place = draw % len(twin)
    return Draw(
        ability_K=ability_DK[place],
        rate=float(twin.rate_D[place]),
        transfer_KK=twin.transfer_KK(place),
        difficulty_N=twin.difficulty_DN[place],
        distribution_N=np.asarray(twin.pool.distribution_N),
    )


def pass_rates_N(draw: Draw) -> Floats:
    """(N,) pass rate of every prompt."""
    return sigmoid(draw.ability_K[draw.distribution_N] - draw.difficulty_N)


def pass_rates_K(draw: Draw) -> Floats:
    """(K,) mean pass rate of each distribution's prompts."""
    size_K = np.bincount(draw.distribution_N, minlength=len(draw.ability_K))
    return np.asarray(np.bincount(draw.distribution_N, pass_rates_N(draw), len(size_K)) / size_K)


class TwinStudent:
    """Answers prompts and learns from advantages, by the rule of `trainer.simulate.student.Student`; its verifier never errs."""

    def __init__(self, draw: Draw) -> None:
        self.draw = draw  # as it is now
        self.version = 0

    def pass_rates(self) -> Floats:
        """(N,) pass rate of every prompt now."""
        return pass_rates_N(self.draw)

    def answer(self, prompt_R: Ints, rng: np.random.Generator) -> tuple[Bools, Floats]:
        """(R,) solved or not, and (R,) the reward."""
        rate_R = self._pass_rates(prompt_R)
        solved_R = rng.random(len(prompt_R)) < rate_R
        return solved_R, solved_R.astype(np.float64)

    def learn(self, prompt_R: Ints, solved_R: Bools, advantage_R: Floats) -> None:
        """One update by the rollouts that carry gradient."""
        share_R = advantage_R * (solved_R - self._pass_rates(prompt_R)) / max(len(prompt_R), 1)
        signal_K = np.bincount(self.draw.distribution_N[prompt_R], share_R, len(self.draw.ability_K))
        self.add(signal_K.astype(np.float64))

    def add(self, signal_K: Floats) -> None:
        """One update by its signal."""
        draw = self.draw
        self.draw = replace(draw, ability_K=draw.ability_K + draw.rate * signal_K @ draw.transfer_KK)
        self.version += 1

    def _pass_rates(self, prompt_R: Ints) -> Floats:
        draw = self.draw
        return sigmoid(draw.ability_K[draw.distribution_N[prompt_R]] - draw.difficulty_N[prompt_R])


def sigmoid(logit: Floats) -> Floats:
    """Without overflow."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -700, 700))))
