"""The optimiser of the warm start: momentum whose matrices are made orthogonal before they are applied."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

QUINTIC = (3.4445, -4.7750, 2.0315)  # drives singular values from (0, 1] to about 1 in five rounds


class Muon(torch.optim.Optimizer):
    """Muon: W <- W - lr max(1, rows / columns)^0.5 orthogonal(g + momentum buffer), for matrices only.

    Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon) with Nesterov momentum. torch.optim.Muon computes in
    bfloat16; at the size of a model for two CPU cores that takes 14 times as long as float32, more than the whole forward and
    backward pass.
    """

    def __init__(self, params: Iterable[torch.Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for weight in group["params"]:
                self._move(weight, group["lr"], group["momentum"])

    def _move(self, weight: torch.Tensor, lr: float, momentum: float) -> None:
        buffer = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        if weight.grad is None:
            return
        buffer.lerp_(weight.grad, 1 - momentum)
        direction = orthogonal(weight.grad.lerp(buffer, momentum))
        weight.sub_(direction, alpha=lr * max(1.0, weight.shape[0] / weight.shape[1]) ** 0.5)


def orthogonal(matrix: torch.Tensor, n_rounds: int = 5) -> torch.Tensor:
    """About U V^T of the matrix's singular value decomposition, by Newton-Schulz iteration."""
    a, b, c = QUINTIC
    wide = matrix.mT if matrix.shape[0] > matrix.shape[1] else matrix
    wide = wide / (wide.norm() + 1e-7)
    for _ in range(n_rounds):
        gram = wide @ wide.mT
        wide = a * wide + (b * gram + c * gram @ gram) @ wide
    result: torch.Tensor = wide.mT if matrix.shape[0] > matrix.shape[1] else wide
    return result
