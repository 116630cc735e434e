"""A step no longer than the loss has left to fall."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from trainer.optimizer import Choice, Driven, Fit, Optimizer, Saved, Share, Tensors, needed, register, whole_parts

if TYPE_CHECKING:
    import torch

    from trainer.settings import LearnerSettings


class Bounded(Driven):
    """MoMo-Adam, which is told the loss."""

    def __init__(self, masters: Tensors, parts: Tensors, optimizer: Any) -> None:
        keys = ("grad_avg", "grad_avg_sq", "grad_dot_w")
        super().__init__(masters, [optimizer], keys, count=lambda version, part: {"step": version}, parts=parts)
        self._optimizer = optimizer

    def _move(self, optimizer: torch.optim.Optimizer, loss: float) -> None:
        import torch

        self._optimizer.step(loss=torch.tensor(loss))

    def state(self) -> Saved:
        import torch

        mean = torch.as_tensor(self._optimizer.loss_avg)
        own = {"n_steps": self._optimizer._number_steps, "lb": self._optimizer.lb}
        return Saved({**super().state().tensors, "momo/loss_avg": mean}, own)

    def load(self, saved: Saved, version: int, share: Share) -> None:
        super().load(saved, version, share)
        self._optimizer.loss_avg = saved.tensors["momo/loss_avg"]
        self._optimizer._number_steps, self._optimizer.lb = int(saved.numbers["n_steps"]), saved.numbers["lb"]


@register("momo_adam")
@dataclass(frozen=True)
class MomoAdam(Choice):
    """Polyak's step with Adam's momentum and norm (arXiv 2305.07583): the rate is a cap on it.

    ``lb`` is a bound below the loss: 0 for a cross-entropy; with ``use_fstar`` only a start for an estimate of the best loss.
    """

    lb: float = 0.0
    use_fstar: bool = False

    package: ClassVar[str] = "momo"
    fit: ClassVar[Fit] = Fit(
        ranks=False,
        not_grpo="its step is as long as the loss has left to fall to a lower bound, but GRPO's surrogate has no bound that means "
        "anything (it is about 0 by construction where rollouts are fresh). Use it by trainer.optimizer.chosen(...).build(...) in "
        "a loop whose loss has one",
    )

    def build(self, masters: Tensors, settings: LearnerSettings) -> Optimizer:
        parts = whole_parts(masters)
        make = needed(self.package).MomoAdam
        options = {"betas": settings.betas, "weight_decay": settings.weight_decay, "lb": self.lb, "use_fstar": self.use_fstar}
        return Bounded(masters, parts, make(parts.values(), **options))
