"""What passes between the loop and the learner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from curricula.types import Bools, Floats
from rollout.types import Weights

NO_VERSION = -1  # of a sequence whose prompt is not the one that its rollout was drawn under


@dataclass(frozen=True, eq=False)
class TrainSequence:
    """One rollout on its way into the update."""

    prompt_ids: tuple[int, ...]
    token_ids: NDArray[np.int32]  # (T,) completion
    rollout_logprob_T: NDArray[np.float32]  # (T,) by the engine that drew them; the learner's own where the version is NO_VERSION
    advantage: float  # broadcast to the completion's tokens; their mean where they have advantages of their own
    group: int  # group id
    policy_version: int
    drawn_T: Bools | None = None  # tokens that the model drew; the others were fed to it and carry no loss. None = all drawn
    advantage_T: Floats | None = None  # (T,) of each token; None = one for all

    @property
    def n_drawn(self) -> int:
        return len(self.token_ids) if self.drawn_T is None else int(np.count_nonzero(self.drawn_T))

    @property
    def mean_abs_advantage(self) -> float:
        """Over the tokens that the model drew; 0 = it learns nothing from them."""
        if self.advantage_T is None:
            return abs(self.advantage)
        drawn_t = self.advantage_T if self.drawn_T is None else self.advantage_T[self.drawn_T]
        return float(np.abs(drawn_t).mean()) if len(drawn_t) else 0.0

    @property
    def drawn_advantages(self) -> Floats:
        """(t,) of each token that the model drew."""
        if self.advantage_T is None:
            return np.full(self.n_drawn, self.advantage)
        return self.advantage_T if self.drawn_T is None else self.advantage_T[self.drawn_T]


@dataclass(frozen=True)
class LearnerReport:
    """What one optimiser step did; scalars over the whole batch, all ranks."""

    loss: float
    grad_norm: float  # before clipping
    lr: float
    n_tokens: int  # completion tokens that carried loss
    n_processed_tokens: int  # prompt + completion tokens that passed through the model
    seconds: float
    metrics: dict[str, float] = field(
        default_factory=dict
    )  # clip_fraction, kl, entropy, mismatch_mean, mismatch_max, ratio_max, ...


class RankDied(RuntimeError):
    """A rank of the learner is gone; the others cannot go on without its shards."""


class Learner(Protocol):
    """One or several ranks behind the same calls."""

    version: int  # optimiser steps taken since the run began

    def step(self, sequences: Sequence[TrainSequence], lr: float) -> LearnerReport: ...

    def logprobs(self, sequences: Sequence[TrainSequence]) -> list[NDArray[np.float32]]:
        """Log-probability of each completion token under the current weights, at the sampling temperature; 0 for fed tokens."""
        ...

    def weights(self) -> Weights:
        """To draw rollouts from: the weights that gradients are taken at."""
        ...

    def release_weights(self) -> Weights | None:
        """To evaluate; None where they are `weights`. The version is the same: they come of the same updates."""
        ...

    def save(self, folder: Path) -> None:
        """Write model/ (the weights to release), optimizer.safetensors and learner.json into the folder."""
        ...

    def load(self, folder: Path) -> None: ...

    def close(self) -> None: ...


Chunks = Iterator[dict[str, np.ndarray]]
