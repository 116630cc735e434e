"""What the learning rate itself costs per update: python -m benchmarks.learning_rate [--updates 20000]

Asking for the rate and telling what the update consumed, for every shape on the clock of informative rollouts with three scales,
against torch's own cosine scheduler (one parameter group each) in the same run.
"""

from __future__ import annotations

import argparse
import time
import warnings

import torch

from trainer.schedules import build_schedule, known_shapes
from trainer.schedules.clock import Clock, Consumed
from trainer.schedules.controllers.batch_coupling import BatchCoupling
from trainer.schedules.controllers.guard import Guard
from trainer.schedules.controllers.length_surge import LengthSurge
from trainer.schedules.rate import LearningRate

NEEDED = {"step": {"every": 30}, "inverse_sqrt": {"timescale": 20}, "wsd_s": {"ends": [0.5]}}


def ours(name: str, n: int) -> float:
    """Microseconds per update."""
    schedule = build_schedule({"name": name, "peak": 1e-6, **NEEDED.get(name, {})}, 1.0)
    scales = {"batch_coupling": BatchCoupling(), "guard": Guard(), "length_surge": LengthSurge()}
    rate = LearningRate(schedule, Clock("informative_rollouts", steps=n), scales)
    consumed = Consumed(rollouts=512, informative_rollouts=300, tokens=1e5)
    metrics = {"informative_rollouts": 300.0, "mean_length": 200.0, "grad_norm": 1.0, "clip_fraction": 0.1}
    start = time.perf_counter()
    for step in range(n):
        rate.lr(consumed)
        rate.advance(consumed, n - step - 1, metrics)
    return (time.perf_counter() - start) / n * 1e6


def torchs(n: int) -> float:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-6)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n)
    start = time.perf_counter()
    for _ in range(n):
        scheduler.step()
    return (time.perf_counter() - start) / n * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--updates", type=int, default=20_000)
    n = parser.parse_args().updates
    warnings.simplefilter("ignore")  # torch wants an optimiser's step before each of the scheduler's
    reference = torchs(n)
    print(f"torch CosineAnnealingLR: {reference:.1f} microseconds per update")
    for name in known_shapes():
        cost = ours(name, n)
        print(f"{name:<14}{cost:6.1f} microseconds per update, {cost / reference:.1f} x torch's")


if __name__ == "__main__":
    main()
