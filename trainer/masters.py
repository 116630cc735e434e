"""Float32 master weights: the optimiser moves these, the model computes with its own, perhaps narrower, copies.

At a learning rate of 1e-6 an update is far below the spacing of bfloat16 numbers and would be rounded away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn


class Masters:
    """One float32 tensor per trainable parameter; a parameter that is float32 already is its own master.

    The gradient of a narrower parameter is added to its master's float32 gradient as soon as it is complete, and freed.
    """

    def __init__(self, model: nn.Module) -> None:
        trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self.tensors: dict[str, Tensor] = {name: _master_of(parameter) for name, parameter in trained.items()}
        pairs = ((self.tensors[name], parameter) for name, parameter in trained.items())
        self._copies = [(master, parameter) for master, parameter in pairs if master is not parameter]
        for master, parameter in self._copies:
            parameter.register_post_accumulate_grad_hook(_hand_over_to(master))

    @torch.no_grad()
    def publish(self) -> None:
        """Round the masters into the model's parameters."""
        for master, parameter in self._copies:
            parameter.copy_(master)


def _master_of(parameter: nn.Parameter) -> Tensor:
    if parameter.dtype == torch.float32:
        return parameter
    return parameter.detach().to(torch.float32, copy=True)


def _hand_over_to(master: Tensor) -> Callable[[Tensor], None]:
    def hook(parameter: Tensor) -> None:
        grad = cast(Tensor, parameter.grad).float()
        master.grad = grad if master.grad is None else master.grad.add_(grad)
        parameter.grad = None

    return hook
