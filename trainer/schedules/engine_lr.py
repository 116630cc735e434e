"""The learning rate of any torch loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.optim.lr_scheduler import LRScheduler

from trainer.schedules.clock import Consumed
from trainer.schedules.rate import Explanation, LearningRate


class EngineLR(LRScheduler):
    """A `LearningRate` as torch's LRScheduler: clocks, extensions, decays and reacting scales in a loop that is not ours.

    >>> from trainer.schedules import build_schedule
    >>> from trainer.schedules.clock import Clock
    >>> optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    >>> rate = LearningRate(build_schedule({"name": "linear", "peak": 1.0}, 600), Clock("informative_rollouts", 600))
    >>> scheduler = EngineLR(optimizer, rate)
    >>> for informative in (300, 150, 150):
    ...     print(scheduler.get_last_lr())
    ...     optimizer.step()
    ...     scheduler.advance(Consumed(informative_rollouts=informative))
    ...     scheduler.step()
    [1.0]
    [0.5]
    [0.25]

    Order per update: ``optimizer.step()``, `advance`, ``step()``. `step` alone, as a host's trainer calls it, counts one update
    where the clock counts updates, and only if the optimiser has stepped since the last call: so it may be called for a step
    that was skipped, or several times as accelerate's AcceleratedScheduler does (once per process). Parameter groups keep the
    ratios of their rates; the schedule's ``peak`` is a factor on them, so it is 1 here unless all groups have rate 1. Steps that
    were skipped (no information, not finite) are not advanced.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, rate: LearningRate) -> None:
        self._rate = rate
        self._told = False  # by `advance`, since the last `step`
        self._stepped = False  # the optimiser, since the last `step`
        _innermost(optimizer).register_step_post_hook(self._note_step)
        super().__init__(optimizer)

    def _note_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self._stepped = True

    def advance(self, consumed: Consumed, steps_left: float = 0, metrics: Mapping[str, float] | None = None) -> None:
        """After an update: what its step consumed, and what the controllers may react to."""
        self._rate.advance(consumed, steps_left, metrics)
        self._told = True

    def step(self, epoch: int | None = None) -> None:
        """Set the rate of the next update."""
        if self._stepped and not self._told:
            self._rate.advance(Consumed())
        self._told = self._stepped = False
        super().step()

    def get_lr(self) -> list[float | torch.Tensor]:
        factor = self._rate.lr()
        return [base * factor for base in self.base_lrs]

    def extend(self, horizon: float) -> None:
        """See `LearningRate.extend`."""
        self._rate.extend(horizon)

    def start_decay(self, length: float, shape: str = "one_minus_sqrt", floor: float = 0.0) -> None:
        """See `LearningRate.start_decay`."""
        self._rate.start_decay(length, shape, floor)

    def explain(self) -> Explanation:
        """The factor of the update that is due, and its causes."""
        return self._rate.explain()

    def state_dict(self) -> dict[str, Any]:
        """Plain numbers, texts and lists; no callable, so that ``torch.load(weights_only=True)`` reads it."""
        last = [float(lr) for lr in self._last_lr]
        return {
            "rate": self._rate.state_dict(),
            "base_lrs": [float(lr) for lr in self.base_lrs],
            "last_lr": last,
            "told": self._told,
            "stepped": self._stepped,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Errors: CurriculaError when it is of another schedule."""
        self._rate.load_state_dict(state_dict["rate"])
        self.base_lrs, self._last_lr = list(state_dict["base_lrs"]), list(state_dict["last_lr"])
        self._told, self._stepped = state_dict["told"], state_dict["stepped"]
        self.last_epoch = self._rate.state.updates
        for group, lr in zip(self.optimizer.param_groups, self._last_lr, strict=True):
            group["lr"] = lr


def _innermost(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The one that steps, of those that a host has wrapped (accelerate)."""
    inner = getattr(optimizer, "optimizer", None)
    return _innermost(inner) if isinstance(inner, torch.optim.Optimizer) else optimizer
