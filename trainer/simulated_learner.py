"""The learner of simulated runs: skills grow where groups carry signal, and spill over to neighbouring levels.

skill += lr * signal_K @ transfer_KK, where signal_k is the sum over the groups of level k of their mean |advantage|, divided by
the number of groups in the batch, and transfer falls off as exp(-|k - k'|). Source: ours; it serves tests and comparisons of
curricula and says nothing about language models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rollout.engines.simulated import ItemResponse
from rollout.types import Weights
from trainer.types import LearnerReport, TrainSequence


class SimulatedLearner:
    """Implements `trainer.types.Learner` without a model; ``prompt_ids[0]`` of a sequence is its level."""

    def __init__(self, model: ItemResponse) -> None:
        self._skills_K = model.start_skills()
        self._transfer_KK = transfer(model.n_levels)
        self.version = 0

    def step(self, sequences: Sequence[TrainSequence], lr: float) -> LearnerReport:
        level_R = np.array([sequence.prompt_ids[0] for sequence in sequences], dtype=np.int64)
        group_R = np.array([sequence.group for sequence in sequences], dtype=np.int64)
        size_R = np.array([sequence.mean_abs_advantage for sequence in sequences])
        _, index_R, size_B = np.unique(group_R, return_inverse=True, return_counts=True)
        share_R = size_R / size_B[index_R] / len(size_B)
        signal_K = np.bincount(level_R, weights=share_R, minlength=len(self._skills_K))
        self._skills_K = self._skills_K + lr * signal_K @ self._transfer_KK
        self.version += 1
        n_tokens = sum(sequence.n_drawn for sequence in sequences)
        return LearnerReport(
            loss=-float(signal_K.sum()),
            grad_norm=float(np.linalg.norm(signal_K)),
            lr=lr,
            n_tokens=n_tokens,
            n_processed_tokens=n_tokens,
            seconds=0.0,
        )

    def logprobs(self, sequences: Sequence[TrainSequence]) -> list[NDArray[np.float32]]:
        return [np.zeros(len(sequence.token_ids), dtype=np.float32) for sequence in sequences]

    def weights(self) -> Weights:
        return Weights(self.version, [{"skill": self._skills_K.copy()}])

    def release_weights(self) -> Weights | None:
        return None

    def save(self, folder: Path) -> None:
        np.save(folder / "skills.npy", self._skills_K, allow_pickle=False)
        (folder / "learner.json").write_text(json.dumps({"version": self.version}))

    def load(self, folder: Path) -> None:
        self._skills_K = np.load(folder / "skills.npy", allow_pickle=False)
        self.version = int(json.loads((folder / "learner.json").read_text())["version"])

    def close(self) -> None:
        """Nothing to give back."""


def transfer(n_levels: int, reach: float = 1.0) -> NDArray[np.float64]:
    """(K, K) how much of what level k learns level k' learns too: exp(-|k - k'| / reach); nothing where reach is 0.

    >>> transfer(2).round(3).tolist(), transfer(2, 0).tolist()
    ([[1.0, 0.368], [0.368, 1.0]], [[1.0, 0.0], [0.0, 1.0]])
    """
    level_K = np.arange(n_levels)
    distance_KK = np.abs(level_K[:, None] - level_K[None, :])
    return np.asarray(np.exp(-distance_KK / reach)) if reach > 0 else np.eye(n_levels)
