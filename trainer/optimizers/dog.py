"""SGD whose rate is the distance gone over the gradients seen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from curricula.types import CurriculaError
from trainer.optimizer import Choice, Driven, Fit, Optimizer, Saved, Share, Tensors, needed, register, whole_parts

if TYPE_CHECKING:
    import torch

    from trainer.settings import LearnerSettings

FIT = Fit(
    schedules=("constant",),
    peak=(1.0, 1.0),
    warmup=False,
    ranks=False,
    why="it finds its own step size, small at first, and averages weights instead of lowering it",
)
GROUP = ("rbar", "G")  # distance gone and squared gradients seen


class Averaged(Driven):
    """DoG or L-DoG with the average that they are evaluated by."""

    averages = True

    def __init__(self, masters: Tensors, parts: Tensors, optimizer: Any, gamma: float) -> None:
        from torch import nn

        super().__init__(masters, [optimizer], (), parts=parts)
        self._optimizer = optimizer
        moved = nn.ParameterList([nn.Parameter(part.detach(), requires_grad=False) for part in parts.values()])  # shares memory
        self._averager = needed("dog").PolynomialDecayAverager(moved, gamma)

    def _move(self, optimizer: torch.optim.Optimizer, loss: float) -> None:
        for part in self._parts.values():
            if part.grad is None:
                part.grad = part.detach().clone().zero_()  # the package wants one of each
        optimizer.step()
        self._averager.step()

    def metrics(self) -> dict[str, float]:
        etas = [float(eta) for eta in self._groups()[0].get("eta", [])]
        return {"step_size": sum(etas) / len(etas)} if etas else {}

    def _go_to_average(self) -> None:
        for part, average in zip(self._parts.values(), self._averages(), strict=True):
            part.detach().copy_(average)

    def _averages(self) -> list[torch.Tensor]:
        return [average.detach() for average in self._averager.averaged_model.parameters()]

    def state(self) -> Saved:
        tensors = {f"average/{name}": average for name, average in zip(self._parts, self._averages(), strict=True)}
        group = self._groups()[0]
        if "init_buffer" in group:
            tensors |= {f"start/{name}": start for name, start in zip(self._parts, group["init_buffer"], strict=True)}
            tensors |= {f"dog/{key}": group[key] for key in GROUP}
        return Saved(tensors, {"t": self._averager.t})

    def load(self, saved: Saved, version: int, share: Share) -> None:
        for (name, part), average in zip(self._parts.items(), self._averages(), strict=True):
            average.copy_(share(saved.tensors[f"average/{name}"], part))
        self._averager.t = int(saved.numbers["t"])
        if f"dog/{GROUP[0]}" in saved.tensors:
            some = next(iter(self._parts.values()))
            starts = [share(saved.tensors[f"start/{name}"], part) for name, part in self._parts.items()]
            self._groups()[0].update(init_buffer=starts, **{key: share(saved.tensors[f"dog/{key}"], some) for key in GROUP})
            self._optimizer._first_step = False


@register("dog")
@dataclass(frozen=True)
class DoG(Choice):
    """Distance over gradients (arXiv 2302.12022): rate max |x_i - x_0| / sqrt(sum |g_i|^2), at first ``reps_rel`` (1 + |x_0|) long.

    SGD, which suits adapters better than a whole model; costs a copy of x_0 and one of the average, a polynomial-decay one with
    exponent ``gamma``, by which it is evaluated and shipped. Rollouts are drawn from x.
    """

    reps_rel: float = 1e-6
    gamma: float = 8.0

    package: ClassVar[str] = "dog"
    fit: ClassVar[Fit] = FIT
    layerwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not (self.reps_rel > 0 and self.gamma >= 0):
            raise CurriculaError(f"learner.optimizer: expected reps_rel > 0 and gamma >= 0, got {self}")

    def build(self, masters: Tensors, settings: LearnerSettings) -> Optimizer:
        module, parts = needed(self.package), whole_parts(masters)
        make = module.LDoG if self.layerwise else module.DoG
        return Averaged(
            masters, parts, make(parts.values(), reps_rel=self.reps_rel, weight_decay=settings.weight_decay), self.gamma
        )


@register("ldog")
@dataclass(frozen=True)
class LDoG(DoG):
    """`DoG` with a rate of its own for every tensor (arXiv 2302.12022)."""

    layerwise: ClassVar[bool] = True
