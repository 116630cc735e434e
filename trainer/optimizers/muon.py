"""Orthogonal steps for matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from curricula.types import CurriculaError
from trainer.optimizer import Choice, Driven, Optimizer, Tensors, register
from trainer.optimizers.adamw import MOMENTS, updates_made

if TYPE_CHECKING:
    import torch

    from trainer.settings import LearnerSettings

NOT_HIDDEN = ("embed", "lm_head")  # in the names of matrices that AdamW moves, as the field has it


@register("muon")
@dataclass(frozen=True)
class Muon(Choice):
    """torch.optim.Muon for the matrices between embedding and head, AdamW for everything else.

    Source: Jordan et al. 2024 (kellerjordan.github.io/posts/muon). Steps are scaled to the size of AdamW's (0.2 sqrt(longer side),
    arXiv 2502.16982), so one rate serves both and a peak that was tuned for AdamW stays. torch's computes in bfloat16: what another
    number of ranks rounds differently shows in the third digit of a step.
    """

    momentum: float = 0.95

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise CurriculaError(f"learner.optimizer.momentum: expected 0 <= momentum < 1, got {self.momentum}")

    def build(self, masters: Tensors, settings: LearnerSettings) -> Optimizer:
        from torch.optim import AdamW
        from torch.optim import Muon as TorchMuon

        matrices = {name for name, master in masters.items() if master.ndim == 2 and not any(part in name for part in NOT_HIDDEN)}
        hidden = [masters[name] for name in masters if name in matrices]
        others = [masters[name] for name in masters if name not in matrices]
        optimizers: list[torch.optim.Optimizer] = []
        if hidden:
            decay, scale = settings.weight_decay, "match_rms_adamw"
            optimizers.append(TorchMuon(hidden, lr=0.0, weight_decay=decay, momentum=self.momentum, adjust_lr_fn=scale))
        if others:  # with adapters there are none
            optimizers.append(AdamW(others, lr=0.0, betas=settings.betas, weight_decay=settings.weight_decay, fused=True))
        return Driven(masters, optimizers, ("momentum_buffer", *MOMENTS), count=updates_made)
