"""The default."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.optimizer import Choice, Driven, Optimizer, Tensors, register

if TYPE_CHECKING:
    from torch import Tensor

    from trainer.settings import LearnerSettings

MOMENTS = ("exp_avg", "exp_avg_sq")


@register("adamw")
@dataclass(frozen=True)
class AdamW(Choice):
    """Adam with decoupled weight decay (arXiv 1711.05101), torch's fused one. Goes with any schedule."""

    def build(self, masters: Tensors, settings: LearnerSettings) -> Optimizer:
        from torch.optim import AdamW as TorchAdamW

        optimizer = TorchAdamW(masters.values(), lr=0.0, betas=settings.betas, weight_decay=settings.weight_decay, fused=True)
        return Driven(masters, [optimizer], MOMENTS, count=updates_made)


def updates_made(version: int, part: Tensor) -> dict[str, Any]:
    """Torch counts in a tensor beside the moments."""
    import torch

    return {"step": torch.tensor(float(version), device=part.device)}
