"""Micro-batches by token budget: sequences of like length together, padded on the right, dealt evenly to ranks.

Causal attention never looks to the right, so no attention mask is needed and padding costs only its own tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from curricula.types import Bools, Floats, Ints
from trainer.types import TrainSequence

SPLIT_COST_TOKENS = 128  # padding that is worth one more micro-batch; measured on a CPU core, where 64 to 256 are nearly alike


@dataclass(frozen=True, eq=False)
class MicroBatch:
    """Sequences that pass through the model together; (T,) is over the tokens that they drew, sequence by sequence."""

    place_n: tuple[int, ...]  # where each sequence stands in the caller's list; () for a dummy
    input_ids: Tensor  # (n, length) int64; the last token of a sequence predicts nothing and is left out
    position_T: Tensor  # the flat position in input_ids that predicts the token
    target_T: Tensor
    sequence_T: Tensor  # row of input_ids
    rollout_T: Tensor  # log-probabilities by the engine
    advantage_T: Tensor
    weight_T: Tensor
    version_T: Tensor  # policy version that drew the token
    learner_T: Tensor | None = None  # log-probabilities by the learner before the step, where they were computed

    def to(self, device: torch.device) -> MicroBatch:
        moved: dict[str, Any] = {
            name: value.to(device, non_blocking=True) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


DUMMY = TrainSequence((0,), np.zeros(1, np.int32), np.zeros(1, np.float32), advantage=0.0, group=-1, policy_version=-1)


def split_by_length(length_R: Ints, budget: int) -> list[Ints]:
    """Places of sequences, micro-batch by micro-batch: longest first, at most ``budget`` padded tokens each (but one sequence).

    A new micro-batch begins where padding to the longest of the current one would have wasted more than the split costs.
    """
    order = np.argsort(-length_R, kind="stable")
    parts: list[Ints] = []
    start, waste = 0, 0
    for i, length in enumerate(length_R[order]):
        longest = length_R[order[start]]
        waste += int(longest - length)
        if i > start and (waste > SPLIT_COST_TOKENS or (i - start + 1) * longest > budget):
            parts.append(order[start:i])
            start, waste = i, 0
    return [*parts, order[start:]] if len(order) else []


def deal(parts: list[Ints], length_R: Ints, n_ranks: int) -> list[list[Ints]]:
    """The micro-batches of each rank: equally many for all, of like size at the same turn. Empty ones are dummies."""
    parts = _split_to_multiple(parts, length_R, n_ranks)
    parts = sorted(parts, key=lambda part: -_padded_tokens(part, length_R))
    parts += [np.zeros(0, np.int64)] * (-len(parts) % n_ranks)
    turns = [parts[i : i + n_ranks] for i in range(0, len(parts), n_ranks)]
    return [[turn[rank if k % 2 == 0 else -1 - rank] for k, turn in enumerate(turns)] for rank in range(n_ranks)]


def _split_to_multiple(parts: list[Ints], length_R: Ints, n_ranks: int) -> list[Ints]:
    """Halve the largest micro-batches until every rank gets equally many, as far as single sequences allow."""
    parts = list(parts)
    while len(parts) % n_ranks:
        largest = max(range(len(parts)), key=lambda i: (len(parts[i]) > 1, _padded_tokens(parts[i], length_R)))
        if len(parts[largest]) == 1:
            return parts
        whole = parts.pop(largest)
        parts += [whole[0::2], whole[1::2]]
    return parts


def _padded_tokens(part: Ints, length_R: Ints) -> int:
    return len(part) * int(length_R[part].max()) if len(part) else 0


def assemble(sequences: Sequence[TrainSequence], part: Ints, weight_R: Floats) -> MicroBatch:
    """Tensors of the sequences at ``part``; a dummy of weight zero when it is empty."""
    chosen = [sequences[i] for i in part] or [DUMMY]
    weight_n = weight_R[part] if len(part) else np.zeros(1)
    n_T = np.array([len(sequence.token_ids) for sequence in chosen])
    prompt_n = np.array([len(sequence.prompt_ids) for sequence in chosen])
    input_ids = np.zeros((len(chosen), int((prompt_n + n_T).max()) - 1), dtype=np.int64)
    for row, sequence in enumerate(chosen):
        p = prompt_n[row]
        input_ids[row, :p] = sequence.prompt_ids
        input_ids[row, p : p + n_T[row] - 1] = sequence.token_ids[:-1]
    sequence_T = np.repeat(np.arange(len(chosen)), n_T)
    first_n = np.arange(len(chosen)) * input_ids.shape[1] + prompt_n - 1
    within_T = np.arange(n_T.sum()) - np.repeat(np.cumsum(n_T) - n_T, n_T)
    drawn_T = np.concatenate(
        [_drawn(sequence) for sequence in chosen]
    )  # fed tokens are context alone, for the loss and all figures
    sequence_T, within_T = sequence_T[drawn_T], within_T[drawn_T]
    return MicroBatch(
        place_n=tuple(int(i) for i in part),
        input_ids=torch.from_numpy(input_ids),
        position_T=torch.from_numpy(first_n[sequence_T] + within_T),
        target_T=torch.from_numpy(np.concatenate([sequence.token_ids for sequence in chosen])[drawn_T].astype(np.int64)),
        sequence_T=torch.from_numpy(sequence_T),
        rollout_T=torch.from_numpy(np.concatenate([sequence.rollout_logprob_T for sequence in chosen])[drawn_T].astype(np.float32)),
        advantage_T=_advantages(chosen, sequence_T),
        weight_T=_per_token(weight_n, sequence_T),
        version_T=torch.from_numpy(np.array([sequence.policy_version for sequence in chosen])[sequence_T]),
    )


def _drawn(sequence: TrainSequence) -> Bools:
    return np.ones(len(sequence.token_ids), dtype=np.bool_) if sequence.drawn_T is None else sequence.drawn_T


def _advantages(chosen: Sequence[TrainSequence], sequence_T: Ints) -> Tensor:
    if all(sequence.advantage_T is None for sequence in chosen):
        return _per_token([sequence.advantage for sequence in chosen], sequence_T)
    return torch.from_numpy(np.concatenate([sequence.drawn_advantages for sequence in chosen]).astype(np.float32))


def _per_token(value_n: Sequence[float] | Floats, sequence_T: Ints) -> Tensor:
    return torch.from_numpy(np.asarray(value_n, dtype=np.float32)[sequence_T])
