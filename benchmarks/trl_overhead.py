"""What a curriculum costs inside TRL: its share of a step of `GRPOTrainer`, measured around our code in one run.

    python -m benchmarks.trl_overhead [--recipes uniform dump_ucb ...] [--prompts 2048 1000000] [--steps 8] [--limit 64] [--log]

Ours is everything between TRL's call and its answer that TRL did not do itself: deciding, fetching the chosen rows, gathering,
outcomes, advantages, corrected metrics, and with ``--log`` the rollout log. The first two steps are left out. Seconds are processor
time of the whole process, which other work on the machine disturbs less than wall time. 32 groups of 8, a model of 0.8 million
parameters: any larger model makes the share smaller.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

GROUPS, GROUP_SIZE = 32, 8
WARM_UP = 2  # steps left out
METHODS = ("_generate_and_score_completions", "_generate", "_calculate_rewards")


def timed(owner: type, spent: dict[str, list[float]]) -> None:
    """Have the class's own methods add up the processor time that they take, what they call included."""
    for name in METHODS:
        setattr(owner, name, _timed(vars(owner)[name], spent[f"{owner.__name__}.{name}"]))


def _timed(method: Callable[..., Any], total: list[float]) -> Callable[..., Any]:
    def measured(*args: Any, **kwargs: Any) -> Any:
        began = time.process_time()
        try:
            return method(*args, **kwargs)
        finally:
            total.append(time.process_time() - began)

    return measured


def measure(recipe: str, n_prompts: int, steps: int, limit: int, log: bool) -> dict[str, float]:
    """Median milliseconds of processor time per step, ours and all of it."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    from benchmarks.grpo_step import spread
    from tests.tiny import save_tiny_model
    from trainer.integrations.trl import CurriculumGRPOTrainer

    spent: dict[str, list[float]] = defaultdict(list)
    kept = {owner: {name: vars(owner)[name] for name in METHODS} for owner in (GRPOTrainer, CurriculumGRPOTrainer)}
    ours, whole = [], []

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            for values in spent.values():
                values.clear()
            self.began = time.process_time()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            whole.append(time.process_time() - self.began)
            total = {name: sum(values) for name, values in spent.items()}
            inside = [total[f"CurriculumGRPOTrainer.{name}"] for name in METHODS]
            ours.append(sum(inside) - sum(total[f"GRPOTrainer.{name}"] for name in METHODS))

    with tempfile.TemporaryDirectory() as folder:
        model = str(save_tiny_model(Path(folder) / "model", hidden=128, layers=4))
        levels = [f"level{i % 10}" for i in range(n_prompts)]
        prompts = [f"{i % 90 + 10}+{i % 89 + 10}=" for i in range(n_prompts)]
        rows = Dataset.from_dict({"prompt": prompts, "id": [f"p{i}" for i in range(n_prompts)], "level": levels})
        config = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=GROUPS * GROUP_SIZE // 8,
            gradient_accumulation_steps=8,
            num_generations=GROUP_SIZE,
            max_completion_length=limit,
            max_steps=steps,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            bf16=False,
            use_cpu=True,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            gradient_checkpointing=False,
        )
        trainer = CurriculumGRPOTrainer(
            AutoModelForCausalLM.from_pretrained(model),
            lambda completions, **_: [spread(completion, None, {}) for completion in completions],
            config,
            train_dataset=rows,
            processing_class=AutoTokenizer.from_pretrained(model),
            callbacks=[Watch()],
            curriculum=recipe,
            distribution_column="level",
            log=f"{folder}/log" if log else None,
        )
        for owner in kept:
            timed(owner, spent)
        try:
            trainer.train()
        finally:
            for owner, methods in kept.items():
                for name, method in methods.items():
                    setattr(owner, name, method)
    share = sum(ours[WARM_UP:]) / sum(whole[WARM_UP:])
    return {"ours_ms": 1e3 * float(np.median(ours[WARM_UP:])), "step_ms": 1e3 * float(np.median(whole[WARM_UP:])), "share": share}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["uniform", "dump_ucb", "knapsack"])
    parser.add_argument("--prompts", type=int, nargs="+", default=[2048, 1_000_000])
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--limit", type=int, default=64, help="longest completion, tokens")
    parser.add_argument("--log", action="store_true", help="write the rollout log too")
    chosen = parser.parse_args()
    for n_prompts in chosen.prompts:
        for recipe in chosen.recipes:
            found = measure(recipe, n_prompts, chosen.steps, chosen.limit, chosen.log)
            cost = f"ours {found['ours_ms']:6.1f} ms of {found['step_ms']:8.0f} ms: {found['share']:.2%}"
            print(f"{n_prompts:>9,} prompts {recipe:12s} {cost}", flush=True)


if __name__ == "__main__":
    main()
