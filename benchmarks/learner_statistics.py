"""What the learner's statistics cost: python -m benchmarks.learner_statistics [--rounds 20] [--hidden 128] [--layers 2]

32 groups of 16 rollouts, micro-batches of 1,536 tokens, as in configs/quickstart_cpu.yaml. Learners with and without a statistic
take turns on the same sequences, the order turned round from round to round. Figures are medians of the rounds' ratios of processor
time, with the interval that holds the true median with 95 % (order statistics), and of wall time. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from math import comb
from pathlib import Path

import numpy as np
import torch

from tests.tiny import save_tiny_model
from trainer.learner import TorchLearner
from trainer.settings import LearnerSettings, ModelSettings, Statistic
from trainer.types import TrainSequence

GROUPS, ROLLOUTS, PROMPT, LONGEST, LR = 32, 16, 12, 36, 1e-4
MICRO_BATCH_TOKENS = 1536
CONTENDERS: Mapping[str, tuple[Statistic, ...]] = {
    "nothing": (),
    "gradient_noise": ("gradient_noise",),
    "update_kl": ("update_kl",),
    "update_cosine": ("update_cosine",),
    "grad_norm_l1": ("grad_norm_l1",),
}
Seconds = tuple[float, float]  # processor, wall


def sequences() -> list[TrainSequence]:
    """Completions of 2 to 36 tokens, all with an advantage."""
    rng, made = np.random.default_rng(0), []
    for group in range(GROUPS):
        prompt = tuple(rng.integers(3, 80, PROMPT).tolist())
        for n in rng.integers(2, LONGEST + 1, ROLLOUTS).tolist():
            tokens, logprobs = rng.integers(3, 80, n).astype(np.int32), rng.normal(-4, 1, n).astype(np.float32)
            made.append(TrainSequence(prompt, tokens, logprobs, float(rng.normal()), group, 0))
    return made


def seconds(learner: TorchLearner, batch: Sequence[TrainSequence]) -> Seconds:
    cpu, wall = time.process_time(), time.perf_counter()
    learner.step(batch, LR)
    return time.process_time() - cpu, time.perf_counter() - wall


def measured(learners: Mapping[str, TorchLearner], batch: Sequence[TrainSequence], rounds: int) -> dict[str, list[Seconds]]:
    """By contender, round by round, after one round of warm-up. Each contender stands next to ``nothing``, before or behind it."""
    found: dict[str, list[Seconds]] = {name: [] for name in learners}
    for i in range(rounds + 1):
        for name in list(learners) if i % 2 else list(learners)[::-1]:
            took = seconds(learners[name], batch)
            if i:
                found[name].append(took)
    return found


def median_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Median and the narrowest pair of order statistics around it that holds the true one with 95 %, or all of them."""
    ordered, n = sorted(values), len(values)
    below = [sum(comb(n, j) for j in range(k + 1)) / 2**n for k in range(n // 2)]
    k = sum(tail <= 0.025 for tail in below)
    return statistics.median(ordered), ordered[max(k - 1, 0)], ordered[n - max(k, 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(CONTENDERS)[1:], default=list(CONTENDERS)[1:])
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    batch = sequences()
    with tempfile.TemporaryDirectory() as folder:
        path = save_tiny_model(Path(folder) / "model", hidden=chosen.hidden, layers=chosen.layers)
        model = ModelSettings(str(path), dtype="float32")
        learners = {
            name: TorchLearner(model, LearnerSettings(tokens_per_micro_batch=MICRO_BATCH_TOKENS, statistics=asked), 1.0, LONGEST)
            for name, asked in CONTENDERS.items()
            if name == "nothing" or name in chosen.only
        }
        found = measured(learners, batch, chosen.rounds)
    alone = found.pop("nothing")
    step = statistics.median(cpu for cpu, _ in alone)
    print(f"{chosen.rounds} rounds, hidden {chosen.hidden}, {chosen.layers} layers, {step:.2f} s of processor time a step")
    for name, mine in found.items():
        cpu, low, high = median_interval([one[0] / other[0] for one, other in zip(mine, alone, strict=True)])
        wall = statistics.median(one[1] / other[1] for one, other in zip(mine, alone, strict=True))
        print(f"{name:<16}processor time x {cpu:.3f} ({low:.3f} to {high:.3f}), wall time x {wall:.3f}")


if __name__ == "__main__":
    main()
