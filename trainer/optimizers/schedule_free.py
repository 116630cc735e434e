"""Averages instead of a decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from curricula.types import CurriculaError
from trainer.optimizer import Choice, Driven, Fit, Optimizer, Tensors, needed, register

if TYPE_CHECKING:
    from trainer.settings import LearnerSettings


class ScheduleFree(Driven):
    """Gradients live at y, where the masters are; what is evaluated and shipped is the average x."""

    averages = True

    def __init__(self, masters: Tensors, optimizer: Any) -> None:
        super().__init__(masters, [optimizer], ("z", "exp_avg_sq"), ("k", "weight_sum", "lr_max"))
        self._optimizer = optimizer
        optimizer.train()

    def _go_to_average(self) -> None:
        self._optimizer.eval()

    def _come_back(self) -> None:
        for group in self._groups():  # the masters are at y again; train() would compute it anew
            group["train_mode"] = True


@register("schedule_free_adamw")
@dataclass(frozen=True)
class ScheduleFreeAdamW(Choice):
    """AdamW without a schedule (arXiv 2405.15682): y = (1 - b1) z + b1 x, gradient at y, x an average of all z.

    Rollouts are drawn from y, so that ratios are exact. Step k = 0, 1, ... weighs (k + 1)^r times the largest rate so far to the
    power of ``weight_lr_power``. The warm-up is the schedule's; the package's own is not used.
    """

    r: float = 0.0
    weight_lr_power: float = 2.0

    package: ClassVar[str] = "schedulefree"
    fit: ClassVar[Fit] = Fit(schedules=("constant",), why="it averages weights instead of lowering the rate")

    def build(self, masters: Tensors, settings: LearnerSettings) -> Optimizer:
        return ScheduleFree(masters, needed(self.package).AdamWScheduleFree(masters.values(), **_common(self, settings)))


@register("schedule_free_radam")
@dataclass(frozen=True)
class ScheduleFreeRAdam(Choice):
    """RAdam without a schedule (arXiv 2405.15682, 1908.03265): as `ScheduleFreeAdamW`, with a warm-up by rectification.

    With ``silent_sgd_phase`` the first four updates move nothing, whatever the betas; without it they are plain gradient steps.
    """

    r: float = 0.0
    weight_lr_power: float = 2.0
    silent_sgd_phase: bool = True

    package: ClassVar[str] = "schedulefree"
    fit: ClassVar[Fit] = Fit(schedules=("constant",), warmup=False, why="it warms up and averages by itself")

    def build(self, masters: Tensors, settings: LearnerSettings) -> Optimizer:
        radam = needed(self.package).RAdamScheduleFree
        return ScheduleFree(masters, radam(masters.values(), **_common(self, settings), silent_sgd_phase=self.silent_sgd_phase))


def _common(choice: ScheduleFreeAdamW | ScheduleFreeRAdam, settings: LearnerSettings) -> dict[str, Any]:
    if settings.betas[0] <= 0:
        raise CurriculaError(f"learner.betas: schedule-free optimisers want a first one above 0, got {list(settings.betas)}")
    return {
        "lr": 0.0,
        "betas": settings.betas,
        "weight_decay": settings.weight_decay,
        "r": choice.r,
        "weight_lr_power": choice.weight_lr_power,
    }
