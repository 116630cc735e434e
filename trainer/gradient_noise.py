"""How much of a gradient is signal: from the gradients of parts of a batch, without a second pass and without a second gradient.

Micro-batches hold sequences of like length, not of like group, so their gradients cannot be the parts. But sequences do not mix
inside the model: the gradient of a matrix is the sum, over sequences, of (what comes back to its output) x (its input). A hook that
sees both adds up the products by the sequence's part, whatever micro-batch or rank it is in. To be cheap it does so for a few
matrices, and looks at their rows from a few fixed random directions: the square of a length is right in the mean over directions.
What is estimated is the signal and noise of that sketch of the gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from curricula.types import CurriculaError, Floats, Ints
from trainer.micro_batches import MicroBatch
from trainer.policy_model import PolicyModel
from trainer.types import TrainSequence

MOST_PARTS = 64  # of an update; with fewer groups each group is a part
MOST_MATRICES = 4
DIRECTIONS = 16  # of a matrix's rows; 1 / sqrt(16) is exact in every dtype


class Noise(NamedTuple):
    """Of an update's gradient before clipping."""

    signal: float  # |true gradient|^2, without bias: may be below 0
    noise: float  # of the update's gradient: its variance, summed over coordinates
    norm_sq: float  # |gradient|^2, in the mean signal + noise


def signal_and_noise(parts: Sequence[Tensor], share_k: Floats) -> Noise | None:
    """From the parts' shares of a gradient (one (k, ...) tensor per matrix, summing to it over k) and of its denominator, (k,).

    Let P_j be independent parts of G = sum_j P_j with means w_j mu, as in a mean over tokens where part j has the share w_j of
    the tokens (a ratio estimator, so up to terms of order 1 / k where shares vary with the gradient). With tr Var P_j = w_j tau,

        E |P_j - w_j G|^2 = w_j (1 - w_j) tau,   so   noise = sum_j |P_j - w_j G|^2 / (1 - w_j)   and   signal = |G|^2 - noise

    have no bias: E noise = tr Var G, E signal = |mu|^2. For equal shares this holds whatever the variances of the parts are, and it
    is the usual pair from mean part norms and the norm of their mean. Fewer than two parts with a share say nothing: None.
    """
    if np.count_nonzero(share_k) < 2:
        return None
    noise = norm_sq = 0.0
    for part_kD in parts:
        whole_D = part_kD.sum(0, keepdim=True)
        share = torch.from_numpy(share_k).to(part_kD).view(-1, *[1] * (part_kD.dim() - 1))
        squares_k = (part_kD - share * whole_D).square().flatten(1).sum(1).double().cpu().numpy()
        noise += float((squares_k / (1 - share_k)).sum())
        norm_sq += float(whole_D.square().sum())
    return Noise(norm_sq - noise, noise, norm_sq)


class Parts(NamedTuple):
    """An update's sequences, cut into parts by group, dealt in turn."""

    part_R: Ints  # of each sequence
    share_k: Floats  # of the loss's denominator
    n_groups: int


def parts_of(sequences: Sequence[TrainSequence], aggregation: str) -> Parts:
    """Tokens are the denominator of a mean over tokens, sequences that of all others."""
    _, first_R, place_R = np.unique([sequence.group for sequence in sequences], return_index=True, return_inverse=True)
    n_groups = len(first_R)
    part_R = np.argsort(np.argsort(first_R))[place_R] % min(n_groups, MOST_PARTS)
    n_R = np.array([sequence.n_drawn for sequence in sequences], dtype=np.float64)
    size_k = np.bincount(part_R, weights=n_R if aggregation == "token_mean" else n_R > 0)
    return Parts(part_R, size_k / max(size_k.sum(), 1.0), n_groups)


class GradientSketch:
    """Listens to a few matrices of a model while it learns; see the top of the file. Weights and gradients do not feel it."""

    def __init__(self, matrices: Sequence[nn.Module]) -> None:
        self._sums: list[Tensor | None] = [None] * len(matrices)  # (k, directions, inputs) of the current update
        self._directions: list[Tensor | None] = [None] * len(matrices)
        self._parts: Parts | None = None
        self._part_n: Tensor | None = None  # of the rows of the current micro-batch
        for i, matrix in enumerate(matrices):
            matrix.register_forward_hook(self._listener(i))

    @contextmanager
    def during(self, parts: Parts) -> Iterator[None]:
        """The update of these parts."""
        self._parts, self._sums = parts, [None] * len(self._sums)
        try:
            yield
        finally:
            self._parts = self._part_n = None

    def expect(self, micro: MicroBatch) -> None:
        """The micro-batch that passes through the model next; a dummy carries no gradient and may be anybody's."""
        if self._parts is not None:
            part_n = self._parts.part_R[list(micro.place_n)] if micro.place_n else np.zeros(1, np.int64)
            self._part_n = torch.from_numpy(part_n)

    def sums(self) -> list[Tensor]:
        """The matrices' gradients of the newest update by part, as this rank's sequences have made them."""
        return [total for total in self._sums if total is not None]

    def _listener(self, i: int) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            if self._parts is None or self._part_n is None or not output.requires_grad:
                return
            x_nLI, part_n, n_parts = inputs[0].detach(), self._part_n, len(self._parts.share_k)
            output.register_hook(lambda back_nLO: self._add(i, x_nLI, back_nLO, part_n, n_parts))

        return hook

    @torch.no_grad()
    def _add(self, i: int, x_nLI: Tensor, back_nLO: Tensor, part_n: Tensor, n_parts: int) -> None:
        n = len(part_n)
        if x_nLI.numel() % (n * x_nLI.shape[-1]) or x_nLI.shape[:-1] != back_nLO.shape[:-1]:
            raise CurriculaError(
                f"learner.statistics: gradient_noise needs matrices that see whole sequences, but one of this model saw "
                f"{tuple(x_nLI.shape)} for {n} sequences; leave gradient_noise out"
            )
        seen_nLD = (back_nLO @ self._directions_of(i, back_nLO)).view(n, -1, min(DIRECTIONS, back_nLO.shape[-1]))
        product_nDI = torch.bmm(seen_nLD.transpose(1, 2), x_nLI.reshape(n, -1, x_nLI.shape[-1]).to(seen_nLD.dtype)).float()
        total = self._sums[i]
        if total is None:
            total = product_nDI.new_zeros(n_parts, *product_nDI.shape[1:])
            self._sums[i] = total
        total.index_add_(0, part_n.to(total.device), product_nDI)

    def _directions_of(self, i: int, like: Tensor) -> Tensor:
        """(outputs, directions) of signs over sqrt(directions), the same in every run; all of a narrow matrix."""
        found = self._directions[i]
        if found is None:
            n_outputs = like.shape[-1]
            signs = torch.randint(0, 2, (n_outputs, DIRECTIONS), generator=torch.Generator().manual_seed(i)) * 2.0 - 1.0
            found = torch.eye(n_outputs) if n_outputs <= DIRECTIONS else signs / DIRECTIONS**0.5
            found = found.to(like)
            self._directions[i] = found
        return found


def matrices_to_watch(model: PolicyModel) -> list[nn.Module]:
    """The last trained matrix of the attention of a few decoder blocks, evenly apart; of the block where attention has none.

    Errors: CurriculaError for a model in which there is none.
    """
    blocks = list(model.layers())
    places = np.linspace(0, len(blocks) - 1, min(MOST_MATRICES, len(blocks))).round().astype(int)
    found = [matrix for place in places if (matrix := _last_trained(blocks[place])) is not None]
    if not found:
        raise CurriculaError(
            f"learner.statistics: gradient_noise found no trained matrix in the blocks of {type(model.causal_lm).__name__}; "
            "leave it, and the controllers that need it, out"
        )
    return found


def _last_trained(block: nn.Module) -> nn.Module | None:
    trained = [(name, module) for name, module in block.named_modules() if _is_trained_matrix(module)]
    attention = [module for name, module in trained if "attn" in name or "attention" in name]
    others = [module for name, module in trained if "expert" not in name]  # those see the tokens that are routed to them
    return next(iter(attention[-1:] or others[-1:]), None)


def _is_trained_matrix(module: nn.Module) -> bool:
    is_matrix = isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"
    weight: Any = module.weight if is_matrix else None
    return weight is not None and bool(weight.requires_grad)
