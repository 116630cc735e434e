"""Learner tokens per second on the same sequences, in one run: ``python benchmarks/learner.py [--json out.json] [--rounds 5]``.

Ours against the learner side of TRL's GRPOTrainer: its own ``_compute_loss`` on a batch as its generation step pads it (prompts on
the left, completions on the right, attention mask), backward, clipping, AdamW. With rollouts from vLLM, TRL scores each batch once
more without gradient (its importance correction needs that pass; ours reads the training pass): a contender of its own.
Both sides run micro-batches of a size that suits a CPU. The contenders take turns; figures are medians over the rounds, ratios are
medians of the rounds' ratios. One thread.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.tiny import save_tiny_model
from trainer.learner import TorchLearner
from trainer.settings import LearnerSettings, ModelSettings
from trainer.types import TrainSequence

GROUPS, ROLLOUTS, PROMPT, LONGEST, LR = 32, 8, 6, 90, 1e-5
MICRO_BATCH_TOKENS = 1536  # activations that stay in a core's cache; a GPU wants far more
Contender = Callable[[], None]  # one whole optimiser step


def sequences() -> list[TrainSequence]:
    """256 completions of 4 to 90 tokens, all with an advantage."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(GROUPS * ROLLOUTS):
        n = int(rng.integers(4, LONGEST + 1))
        prompt, tokens = tuple(rng.integers(3, 80, PROMPT).tolist()), rng.integers(3, 80, n).astype(np.int32)
        made.append(TrainSequence(prompt, tokens, rng.normal(-4, 1, n).astype(np.float32), float(rng.normal()), i // ROLLOUTS, 0))
    return made


def ours(path: Path, batch: list[TrainSequence]) -> Contender:
    settings = LearnerSettings(tokens_per_micro_batch=MICRO_BATCH_TOKENS)
    learner = TorchLearner(ModelSettings(str(path), dtype="float32"), settings, temperature=1.0, max_tokens=LONGEST)

    def step() -> None:
        learner.step(batch, LR)

    return step


def padded(batch: list[TrainSequence]) -> dict[str, torch.Tensor]:
    """As TRL pads a generation batch; the prompts here are equally long."""
    ids = torch.zeros(len(batch), LONGEST, dtype=torch.long)
    mask = torch.zeros(len(batch), LONGEST, dtype=torch.long)
    for row, sequence in enumerate(batch):
        n = len(sequence.token_ids)
        ids[row, :n] = torch.from_numpy(sequence.token_ids.astype(np.int64))
        mask[row, :n] = 1
    longest = int(mask.sum(1).max())
    prompt_ids = torch.tensor([sequence.prompt_ids for sequence in batch])
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": torch.ones_like(prompt_ids),
        "completion_ids": ids[:, :longest],
        "completion_mask": mask[:, :longest],
        "advantages": torch.tensor([sequence.advantage for sequence in batch]),
    }


def trl_trainer(path: Path, folder: Path) -> Any:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    n = GROUPS * ROLLOUTS
    config = GRPOConfig(
        output_dir=str(folder),
        per_device_train_batch_size=n,
        num_generations=ROLLOUTS,
        max_completion_length=LONGEST,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
    )
    return GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32),
        args=config,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        train_dataset=Dataset.from_list([{"prompt": "1+1="}] * n),
        processing_class=AutoTokenizer.from_pretrained(path),
    )


def trl(trainer: Any, batch: list[TrainSequence], rows: int, extra_pass: bool) -> Contender:
    """A step of TRL in micro-batches of ``rows`` rows."""
    inputs, n_tokens = padded(batch), torch.tensor(float(sum(len(s.token_ids) for s in batch)))
    parts = [{name: value[i : i + rows] for name, value in inputs.items()} for i in range(0, len(batch), rows)]
    model = trainer.model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, fused=True)
    trainer.current_gradient_accumulation_steps = 1

    def step() -> None:
        for part in parts:
            part = part | {"num_items_in_batch": n_tokens}
            if extra_pass:
                part["old_per_token_logps"] = score(trainer, part)
            trainer._compute_loss(model, part).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


@torch.no_grad()
def score(trainer: Any, part: dict[str, torch.Tensor]) -> torch.Tensor:
    ids = torch.cat([part["prompt_ids"], part["completion_ids"]], 1)
    mask = torch.cat([part["prompt_mask"], part["completion_mask"]], 1)
    logprobs: torch.Tensor = trainer._get_per_token_logps_and_entropies(trainer.model, ids, mask, part["completion_ids"].size(1))[0]
    return logprobs


def measured(contenders: dict[str, Contender], n_tokens: int, rounds: int) -> dict[str, list[float]]:
    """Tokens per second by contender, round by round, after one round of warm-up."""
    speeds: dict[str, list[float]] = {name: [] for name in contenders}
    for i in range(rounds + 1):
        for name, step in contenders.items():
            began = time.perf_counter()
            step()
            if i:
                speeds[name].append(n_tokens / (time.perf_counter() - began))
    return speeds


def table(speeds: dict[str, list[float]]) -> list[dict[str, Any]]:
    first = next(iter(speeds.values()))
    return [
        {
            "contender": name,
            "tokens_per_s": round(statistics.median(mine)),
            "ours_over_it": round(statistics.median(a / b for a, b in zip(first, mine, strict=True)), 2),
        }
        for name, mine in speeds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    batch = sequences()
    n_tokens = sum(len(s.prompt_ids) + len(s.token_ids) for s in batch)
    with tempfile.TemporaryDirectory() as folder:
        path = save_tiny_model(Path(folder) / "model", hidden=128, layers=4)
        trainer = trl_trainer(path, Path(folder) / "trl")
        contenders = {
            "ours": ours(path, batch),
            "TRL, one batch": trl(trainer, batch, len(batch), extra_pass=False),
            "TRL, micro-batches of 32": trl(trainer, batch, 32, extra_pass=False),
            "TRL, micro-batches of 32, vLLM rollouts": trl(trainer, batch, 32, extra_pass=True),
        }
        rows = table(measured(contenders, n_tokens, chosen.rounds))
    print(f"{len(batch)} sequences, {n_tokens} tokens (prompt + completion, padding not counted), float32, one thread")
    for row in rows:
        print(f"{row['contender']:<42}{row['tokens_per_s']:>8} tokens/s   ours / it {row['ours_over_it']:.2f}")
    if chosen.json:
        chosen.json.write_text(json.dumps({"n_tokens": n_tokens, "rounds": chosen.rounds, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
