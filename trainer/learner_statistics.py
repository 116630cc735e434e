"""What the learner measures beside its loss, and only when asked: `LearnerSettings.statistics`, or a controller that needs it.

`gradient_noise`  signal and noise of the gradient (see `trainer.gradient_noise`), means over the step's updates:
                  ``gradient_signal``, ``gradient_noise`` (of one group's gradient), ``update_groups``, ``group_rollouts``.
`update_kl`       KL(policy before the step, policy after all its updates), mean per token: the k3 estimate (`trainer.losses.kl_T`)
                  over the tokens of a sample of the step's own sequences, scored twice without gradient. On policy the tokens are
                  draws of the first policy, one step ahead of the one before it. There is no lag and no engine in it.
`update_cosine`   cosine of the gradient of the step's first update with Adam's direction in the last update of the step before,
                  m / (sqrt(v) + eps), which the optimiser's moments still hold: no copy, and nothing more to save. None in a
                  run's first step.
`grad_norm_l1`    sum of the gradient's absolute values, mean over the step's updates.

Gradients are those before clipping, of all ranks. The update stays what it is, to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from curricula.types import Floats, Ints
from trainer.gradient_noise import GradientSketch, Parts, parts_of, signal_and_noise
from trainer.losses import kl_T
from trainer.micro_batches import MicroBatch
from trainer.optimizer import Optimizer, inside
from trainer.settings import LearnerSettings
from trainer.types import TrainSequence

ADAM_EPS = 1e-8  # torch's default
FEWEST, MOST, ONE_IN = 8, 64, 32  # sequences that the divergence is measured on
ScoreSequences = Callable[[Sequence[TrainSequence]], dict[int, NDArray[np.float32]]]


class Shards(Protocol):
    """What is needed of the other ranks."""

    size: int

    def summed(self, tensor: Tensor) -> Tensor: ...


class LearnerStatistics:
    """Told by the learner where it stands; asked for the metrics of a step after it."""

    def __init__(self, settings: LearnerSettings, matrices: Sequence[nn.Module], ranks: Shards) -> None:
        self._asked, self._settings = settings.statistics, settings
        self._ranks = ranks
        self._sketch = GradientSketch(matrices) if "gradient_noise" in self._asked else None
        self._parts: Parts | None = None
        self._n_sequences = 0
        self._found: list[dict[str, float]] = []  # by update

    @contextmanager
    def step(self, sequences: Sequence[TrainSequence], score: ScoreSequences) -> Iterator[None]:
        """Around the updates of a step."""
        self._found = []
        sample = sampled(sequences) if "update_kl" in self._asked else []
        before = self._scored(sample, score)
        yield
        if sample and self._found:
            self._found[-1]["update_kl"] = self._divergence(sample, before, self._scored(sample, score))

    @contextmanager
    def update(self, part: Sequence[TrainSequence]) -> Iterator[None]:
        """Around the gradients of one update."""
        if self._sketch is None:
            yield
            return
        self._parts = parts_of(part, self._settings.aggregation)
        self._n_sequences = len(part)
        with self._sketch.during(self._parts):
            yield

    def expect(self, micro: MicroBatch) -> None:
        """Before a micro-batch passes through the model."""
        if self._sketch is not None:
            self._sketch.expect(micro)

    @torch.no_grad()
    def measure(self, masters: Mapping[str, Tensor], optimizer: Optimizer, n_updates: int) -> None:
        """Between the gradients and their clipping; ``n_updates`` were made before."""
        found = self._noise()
        if "grad_norm_l1" in self._asked:
            found["grad_norm_l1"] = self._l1(masters)
        if "update_cosine" in self._asked and not self._found:
            found |= self._cosine(masters, optimizer.state().tensors, n_updates)
        self._found.append(found)

    def metrics(self) -> dict[str, float]:
        """Of the newest step: means over its updates; what could not be measured is absent."""
        values: dict[str, list[float]] = {}
        for name, value in (pair for found in self._found for pair in found.items()):
            values.setdefault(name, []).extend([value] if np.isfinite(value) else [])
        return {name: float(np.mean(seen)) for name, seen in values.items() if seen}

    def _noise(self) -> dict[str, float]:
        if self._sketch is None or self._parts is None:
            return {}
        sums = [self._ranks.summed(total) / self._ranks.size for total in self._sketch.sums()]
        found, n_groups = signal_and_noise(sums, self._parts.share_k), self._parts.n_groups
        if found is None:
            return {}
        return {
            "gradient_signal": found.signal,
            "gradient_noise": found.noise * n_groups,
            "update_groups": float(n_groups),
            "group_rollouts": self._n_sequences / n_groups,
        }

    def _l1(self, masters: Mapping[str, Tensor]) -> float:
        norms = torch._foreach_norm([inside(master.grad) for master in masters.values() if master.grad is not None], 1)
        return float(self._ranks.summed(torch.stack(norms).sum()))

    def _cosine(self, masters: Mapping[str, Tensor], moments: Mapping[str, Tensor], n_updates: int) -> dict[str, float]:
        seen, sums = 1 - self._settings.betas[1] ** n_updates, torch.zeros(3, dtype=torch.float64)
        for name, master in masters.items():
            if master.grad is None or f"exp_avg/{name}" not in moments:
                continue
            first, second = (inside(moments[f"{moment}/{name}"]).flatten() for moment in ("exp_avg", "exp_avg_sq"))
            gradient, direction = inside(master.grad).flatten(), first / ((second / seen).sqrt() + ADAM_EPS)
            sums += torch.stack([gradient.dot(direction), gradient.dot(gradient), direction.dot(direction)]).double().cpu()
        product, gradient_sq, direction_sq = self._ranks.summed(sums).tolist()
        size = float(np.sqrt(gradient_sq * direction_sq))
        return {"update_cosine": product / size} if size > 0 else {}

    def _scored(self, sample: Sequence[TrainSequence], score: ScoreSequences) -> dict[int, NDArray[np.float32]]:
        if not sample:
            return {}
        with torch.random.fork_rng():  # the same dropout, where adapters have any
            torch.manual_seed(0)
            return score(sample)

    def _divergence(
        self, sample: Sequence[TrainSequence], before: dict[int, NDArray[np.float32]], after: dict[int, NDArray[np.float32]]
    ) -> float:
        """Tokens that were fed have log-probability 0 before and after, so they add nothing."""
        sums = torch.zeros(2, dtype=torch.float64)
        for place, old_T in before.items():
            k3_T = kl_T(torch.from_numpy(old_T).double(), torch.from_numpy(after[place]).double(), "k3")
            sums += torch.stack([k3_T.sum(), torch.tensor(float(sample[place].n_drawn))])
        total, n_tokens = self._ranks.summed(sums).tolist()
        return float(total / n_tokens) if n_tokens else float("nan")


def sampled(sequences: Sequence[TrainSequence]) -> list[TrainSequence]:
    """One in 32 of the sequences with a token, no fewer than 8 and no more than 64, evenly by length."""
    length_R = np.array([len(sequence.prompt_ids) + len(sequence.token_ids) for sequence in sequences])
    full: Ints = np.array([i for i, sequence in enumerate(sequences) if sequence.n_drawn], dtype=np.int64)
    n = min(max(len(full) // ONE_IN, FEWEST), MOST, len(full))
    order = full[np.argsort(length_R[full], kind="stable")]
    places: Floats = (np.arange(n) + 0.5) * len(full) / max(n, 1)
    return [sequences[i] for i in order[places.astype(np.int64)]]
