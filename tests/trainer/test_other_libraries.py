"""Traps of other schedulers: each test shows one in the library, and that ours does not fall in.

One more, a saved state and a new horizon, is in test_rate.py.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate.scheduler
import pytest
import schedulefree
import torch
from accelerate import Accelerator
from accelerate.scheduler import AcceleratedScheduler
from accelerate.state import AcceleratorState
from pytorch_optimizer.lr_scheduler import REXScheduler, get_wsd_schedule
from torch.optim.lr_scheduler import (
    CosineAnnealingLR,
    CyclicLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
)
from transformers import Trainer, TrainerCallback, TrainingArguments, get_scheduler
from transformers.optimization import GreedyLR

from trainer.schedules import Schedule, build_schedule
from trainer.schedules.clock import Clock
from trainer.schedules.controllers.plateau import Plateau
from trainer.schedules.engine_lr import EngineLR
from trainer.schedules.rate import LearningRate


def optimizer_at(lr: float = 1.0) -> torch.optim.AdamW:
    return torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=lr)


def rates_of(optimizer: torch.optim.Optimizer, scheduler: Any, n: int) -> list[float]:
    """Of n updates: the rate that each of them uses."""
    seen = []
    for _ in range(n):
        seen.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        scheduler.step()
    return seen


def ours(name: str, horizon: int, **more: Any) -> Schedule:
    return build_schedule({"name": name, "peak": 1.0, **more}, horizon)


def engine_lr(optimizer: torch.optim.Optimizer, name: str, horizon: int, **more: Any) -> EngineLR:
    return EngineLR(optimizer, LearningRate(ours(name, horizon, **more), Clock("updates", horizon)))


# --- transformers


def test_transformers_wastes_the_first_update() -> None:
    optimizer = optimizer_at()
    assert rates_of(optimizer, get_scheduler("linear", optimizer, 4, 20), 2) == [0.0, 0.25]
    optimizer = optimizer_at()
    assert rates_of(optimizer, engine_lr(optimizer, "linear", 20, warmup=4), 2) == [0.25, 0.5]


def test_transformers_floor_lifts_the_warm_up() -> None:
    optimizer = optimizer_at()
    more = {"num_decay_steps": 4, "min_lr_ratio": 0.1}
    theirs = rates_of(optimizer, get_scheduler("warmup_stable_decay", optimizer, 4, 20, scheduler_specific_kwargs=more), 21)
    mine = [ours("wsd", 20, warmup=4, warmup_from="zero", decay=4, shape="cosine", floor=0.1).lr(t) for t in range(21)]
    assert theirs[:4] == pytest.approx([0.1, 0.325, 0.55, 0.775])
    assert mine[:4] == [0.0, 0.25, 0.5, 0.75]
    assert mine[4:] == pytest.approx(theirs[4:])


@pytest.mark.parametrize("theirs", ["transformers", "torch"])
def test_a_cosine_that_goes_on_past_its_end_rises_again(theirs: str) -> None:
    optimizer = optimizer_at()
    scheduler = get_scheduler("cosine", optimizer, 0, 10) if theirs == "transformers" else CosineAnnealingLR(optimizer, 10)
    rates = rates_of(optimizer, scheduler, 21)
    assert (rates[10], rates[20]) == pytest.approx((0, 1))
    assert [ours("cosine", 10, floor=0.0).lr(t) for t in (10, 15, 20)] == [0.0, 0.0, 0.0]


def test_greedy_lr_can_only_rise_at_the_rates_of_grpo() -> None:
    """Its lower bound is 1e-3 unless one says otherwise: the worse score lowers nothing, the better one raises it sixteenfold."""
    for direction, expected in ((-1, 1e-6), (1, 1.6e-5)):
        optimizer = optimizer_at(1e-6)
        scheduler = GreedyLR(optimizer, "max")
        controller = Plateau(window=1, patience=10, factor=0.95, rises=True)
        state = controller.begin()
        for step in range(600):
            scheduler.step(direction * step / 600)
            state = controller.observe(state, {"mean_score": direction * step / 600})
        assert optimizer.param_groups[0]["lr"] == pytest.approx(expected, rel=0.01)
        assert controller.scale(state) == (1.0 if direction > 0 else 0.1)


class Noted(TrainerCallback):
    """The rates that the updates of a Trainer use."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        self.rates.append(more["optimizer"].param_groups[0]["lr"])


class Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": ((self.weight * x - 1) ** 2).mean()}


def trained(folder: Path, resume: Path | None = None) -> list[float]:
    model, noted = Line(), Noted()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    arguments = TrainingArguments(
        str(folder), max_steps=6, save_steps=3, per_device_train_batch_size=1, report_to=[], use_cpu=True, disable_tqdm=True
    )
    data: Any = [{"x": torch.ones(1)}] * 6
    pair = (optimizer, engine_lr(optimizer, "wsd", 6, warmup=2, decay=3))
    Trainer(model, arguments, train_dataset=data, optimizers=pair, callbacks=[noted]).train(
        resume_from_checkpoint=str(resume) if resume else None
    )
    return noted.rates


def test_the_trainer_of_transformers_saves_and_resumes_ours(tmp_path: Path) -> None:
    """It reads scheduler.pt with weights_only."""
    whole = trained(tmp_path / "run")
    assert whole == pytest.approx([1e-3 * ours("wsd", 6, warmup=2, decay=3).lr(t) for t in range(6)])
    assert (tmp_path / "run" / "checkpoint-3" / "scheduler.pt").exists()
    assert trained(tmp_path / "again", tmp_path / "run" / "checkpoint-3") == whole[3:]


# --- accelerate


def test_accelerate_steps_once_per_process_and_ours_counts_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    class Four:
        num_processes = 4

    monkeypatch.setattr(accelerate.scheduler, "AcceleratorState", Four)
    for make, expected in (
        (lambda optimizer: LambdaLR(optimizer, lambda t: 1 - t / 100), [1.0, 0.96, 0.92]),
        (lambda optimizer: engine_lr(optimizer, "linear", 100), [1.0, 0.99, 0.98]),
    ):
        optimizer = Accelerator(cpu=True).prepare(optimizer_at())
        assert rates_of(optimizer, AcceleratedScheduler(make(optimizer.optimizer), optimizer), 3) == pytest.approx(expected)
    wrapped = Accelerator(cpu=True).prepare(optimizer_at())
    assert rates_of(wrapped, engine_lr(wrapped, "linear", 100), 3) == pytest.approx([1.0, 0.99, 0.98])
    AcceleratorState._reset_state(reset_partial_state=True)


def test_a_step_that_the_optimiser_skipped_moves_nothing() -> None:
    """Loops that step their scheduler all the same count it with torch's."""
    for make, expected in (
        (lambda optimizer: LinearLR(optimizer, 1.0, 0.0, 10), [1.0, 0.8, 0.7]),
        (lambda optimizer: engine_lr(optimizer, "linear", 10), [1.0, 0.9, 0.8]),
    ):
        optimizer = optimizer_at()
        scheduler = make(optimizer)
        first = rates_of(optimizer, scheduler, 1)
        scheduler.step()
        assert first + rates_of(optimizer, scheduler, 2) == pytest.approx(expected)


# --- torch


def test_one_cycle_raises_past_its_end_and_ours_stays_at_the_floor() -> None:
    optimizer = optimizer_at()
    with pytest.raises(ValueError, match="Tried to step 11 times"):
        rates_of(optimizer, OneCycleLR(optimizer, 1.0, total_steps=10), 11)
    assert ours("one_cycle", 10, floor=0.01).lr(1000) == pytest.approx(0.01)


@pytest.mark.parametrize(
    "make", [lambda optimizer: CyclicLR(optimizer, 0.1, 1.0, 10), lambda optimizer: OneCycleLR(optimizer, 1.0, total_steps=40)]
)
def test_cycles_of_torch_change_adams_betas_too(make: Callable[[Any], LRScheduler]) -> None:
    optimizer = optimizer_at()
    rates_of(optimizer, make(optimizer), 7)
    assert optimizer.param_groups[0]["betas"][0] != 0.9
    for name in ("cyclical", "one_cycle"):
        optimizer = optimizer_at()
        rates_of(optimizer, engine_lr(optimizer, name, 40), 7)
        assert optimizer.param_groups[0]["betas"] == (0.9, 0.999)


def resumed(make: Callable[[Any], Any], order: str) -> tuple[list[float], list[float]]:
    """Rates of 30 updates without and with a stop after eight, where what was saved is taken up in some order."""
    optimizer = optimizer_at()
    whole = rates_of(optimizer, make(optimizer), 30)
    optimizer = optimizer_at()
    scheduler = make(optimizer)
    before, file = rates_of(optimizer, scheduler, 8), io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}, file)
    file.seek(0)
    saved, optimizer = torch.load(file, weights_only=True), optimizer_at()
    if order == "optimizer, then scheduler":
        optimizer.load_state_dict(saved["optimizer"])
    scheduler = make(optimizer)
    scheduler.load_state_dict(saved["scheduler"])
    if order == "both made first":
        optimizer.load_state_dict(saved["optimizer"])
    return whole, before + rates_of(optimizer, scheduler, 22)


def a_sequence(optimizer: torch.optim.Optimizer) -> SequentialLR:
    return SequentialLR(optimizer, [LinearLR(optimizer, 0.1, total_iters=5), CosineAnnealingLR(optimizer, 20)], [5])


@pytest.mark.parametrize("order", ["both made first", "optimizer, then scheduler", "scheduler alone"])
def test_a_sequence_of_torch_resumes_in_one_order_only(order: str) -> None:
    whole, again = resumed(a_sequence, order)
    if order == "both made first":
        assert again == pytest.approx(whole)
    else:
        assert max(abs(a - b) for a, b in zip(again, whole, strict=True)) > 0.5
    whole, again = resumed(lambda optimizer: engine_lr(optimizer, "cosine", 25, warmup=5), order)
    assert again == whole


def test_a_plateau_of_torch_takes_a_worse_negative_score_for_a_better_one() -> None:
    """Its relative threshold turns round below 0: the best falls with the score, and the rate is never lowered."""
    optimizer = optimizer_at()
    theirs = ReduceLROnPlateau(optimizer, "max", factor=0.5, patience=0)
    controller = Plateau(window=1, patience=0)
    state = controller.begin()
    for step in range(300):
        theirs.step(-1 - 1e-5 * step)
        state = controller.observe(state, {"mean_score": -1 - 1e-5 * step})
    assert (optimizer.param_groups[0]["lr"], controller.scale(state)) == (1.0, 0.1)


def test_a_plateau_of_torch_lowers_nothing_at_small_rates() -> None:
    """A change of the rate below 1e-8 is left out, whatever the rate."""
    optimizer = optimizer_at(1e-7)
    theirs = ReduceLROnPlateau(optimizer, "max", factor=0.95, patience=0)
    controller = Plateau(window=1, patience=0, factor=0.95)
    state = controller.begin()
    for step in range(300):
        theirs.step(-step)
        state = controller.observe(state, {"mean_score": float(-step)})
    assert (optimizer.param_groups[0]["lr"], controller.scale(state)) == (1e-7, 0.1)


# --- pytorch_optimizer, schedulefree


@pytest.mark.parametrize(
    ("theirs", "shape"), [("1-sqrt", "one_minus_sqrt"), ("linear", "linear"), ("1-square", "one_minus_square")]
)
def test_a_decay_of_pytorch_optimizer_jumps_up_at_its_end(theirs: Any, shape: str) -> None:
    optimizer = optimizer_at()
    rates = rates_of(optimizer, get_wsd_schedule(optimizer, 10, 70, 20, min_lr_ratio=0.1, cooldown_type=theirs), 101)
    assert rates[99] < 0.1 == rates[100]
    mine = [ours("wsd", 100, warmup=10, decay=20, shape=shape, floor=0.1).lr(t) for t in range(101)]
    assert mine[99] > mine[100] == pytest.approx(0.1)
    free = rates_of(optimizer := optimizer_at(), get_wsd_schedule(optimizer, 10, 70, 20, cooldown_type=theirs), 101)
    assert free == pytest.approx([ours("wsd", 100, warmup=10, warmup_from="zero", decay=20, shape=shape).lr(t) for t in range(101)])


def test_rex_of_pytorch_optimizer_loses_its_first_update() -> None:
    """Its rate is 0 instead of the peak; from then on it is ours."""
    optimizer = optimizer_at(0.5)
    theirs = rates_of(optimizer, REXScheduler(optimizer, 40, max_lr=1.0), 41)
    assert theirs == pytest.approx([0.0] + [ours("rex", 40).lr(t) for t in range(1, 41)])
    optimizer = optimizer_at(0.5)
    assert rates_of(optimizer, engine_lr(optimizer, "rex", 40), 1) == [0.5]


def test_the_warm_up_of_schedulefree_is_ours() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = schedulefree.SGDScheduleFree([weight], lr=1.0, warmup_steps=7)
    optimizer.train()
    schedule, rates = ours("constant", 20, warmup=7), []
    for _ in range(20):
        weight.grad = torch.ones(1)
        optimizer.step()
        rates.append(optimizer.param_groups[0]["scheduled_lr"])
    assert rates == [schedule.lr(t) for t in range(20)]
