"""A whole GRPO step against TRL's GRPOTrainer: same machine, model, prompts, group sizes and token limit, in paired runs.

    python -m benchmarks.grpo_step [--pairs 3] [--steps 6] [--limits 64 256] [--json FILE]

Each run is a process of its own with both cores to itself; pairs alternate. The unit is processed tokens per second: prompt and
completion tokens of all rollouts of a step, divided by the step's wall time (generation, rewards, update, weights to the
engine). The first two steps of a run are left out. Rewards differ inside every group, so neither side may skip a group. TRL
generates with transformers (its vLLM modes do not run on a CPU); ours does with its transformers engine in a Ray actor. TRL counts
with the better of two settings: all rollouts in one batch, or in micro-batches. Limits are the longest completion: 256 is TRL's
default, where lengths differ much; near 64 most completions of this model reach the limit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

GROUPS, GROUP_SIZE = 32, 8
WARM_UP = 2  # steps left out
TRL_RUNS = {"trl": 1, "trl_micro_batches": 8}  # gradient accumulation steps; one generation for all of them
OUR_RUNS = ("on_policy", "one_step_ahead")
RUNS = (*TRL_RUNS, *OUR_RUNS)


def spread(completion: str, answer: Any, extra: dict[str, Any]) -> float:
    """A reward that differs inside every group: no group may be skipped."""
    return (len(set(completion)) + len(completion) / 1000) / 100


def run_ours(model: str, data: str, steps: int, limit: int, mode: str) -> list[dict[str, float]]:
    """Seconds and tokens of each step of our loop."""
    from trainer.loop import run
    from trainer.observer import Silent, StepRecord
    from trainer.recipe import parse_recipe

    class Watch(Silent):
        def __init__(self) -> None:
            self.steps: list[StepRecord] = []

        def on_step(self, record: StepRecord) -> None:
            self.steps.append(record)

    with tempfile.TemporaryDirectory() as folder:
        recipe = parse_recipe(
            {
                "name": "step",
                "task": {
                    "name": "prompt_file",
                    "train": data,
                    "id_column": "row",
                    "distribution_column": "level",
                    "reward": "benchmarks.grpo_step:spread",
                },
                "model": {"path": model, "dtype": "float32"},
                "rollout": {
                    "groups_per_step": GROUPS,
                    "rollouts_per_group": GROUP_SIZE,
                    "sampling": {"max_tokens": limit},
                    "engine": {
                        "backend": "transformers",
                        "dtype": "float32",
                        "cpus_per_engine": 1 if mode == "one_step_ahead" else 2,
                    },
                    "log_texts": 0.0,
                },
                "learner": {"tokens_per_micro_batch": 1536, "cpus_per_rank": 1 if mode == "one_step_ahead" else 2},
                "schedule": {"name": "constant", "peak": 2e-4},
                "evaluation": {"prompts_per_distribution": 1, "samples_per_prompt": 1},
                "run": {"n_steps": steps, "mode": mode, "checkpoint_every": 1000, "folder": f"{folder}/run"},
            }
        )
        watch = Watch()
        run(recipe, observer=watch)
    prompt_tokens = 6  # "12+34=" in characters
    return [
        {"seconds": record.seconds, "tokens": record.n_tokens_generated + prompt_tokens * record.n_rollouts, **record.phase_seconds}
        for record in watch.steps
    ]


def run_trl(model: str, data: str, steps: int, limit: int, accumulation: int) -> list[dict[str, float]]:
    """Seconds and tokens of each step of TRL's trainer."""
    import time

    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, Qwen3ForCausalLM, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    class Watch(TrainerCallback):  # type: ignore[misc]
        def __init__(self) -> None:
            self.steps: list[dict[str, float]] = []
            self.began, self.tokens = 0.0, 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began = time.perf_counter()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.steps.append({"seconds": time.perf_counter() - self.began})

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and "num_tokens" in logs:
                self.steps[-1]["tokens"] = logs["num_tokens"] - self.tokens
                self.tokens = logs["num_tokens"]

    def reward(completions: list[str], **_: Any) -> list[float]:
        return [spread(completion, None, {}) for completion in completions]

    rows = [json.loads(line) for line in Path(data).read_text().splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=GROUPS * GROUP_SIZE // accumulation,
            gradient_accumulation_steps=accumulation,
            num_generations=GROUP_SIZE,
            max_completion_length=limit,
            max_steps=steps,
            learning_rate=2e-4,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            temperature=1.0,
            beta=0.0,
            bf16=False,
            use_cpu=True,
            use_vllm=False,
            disable_tqdm=True,
            dataloader_pin_memory=False,
            gradient_checkpointing=False,
        )
        watch = Watch()
        trainer = GRPOTrainer(
            model=Qwen3ForCausalLM.from_pretrained(model, dtype=torch.float32),
            args=config,
            reward_funcs=reward,
            train_dataset=Dataset.from_list([{"prompt": row["prompt"]} for row in rows]),
            processing_class=AutoTokenizer.from_pretrained(model),
            callbacks=[watch],
        )
        trainer.train()
    return [step for step in watch.steps if "tokens" in step]


def measure(name: str, limit: int, model: str, data: str, steps: int) -> dict[str, float]:
    """One run in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count() or 1), "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-m", "benchmarks.grpo_step", "--one", name, "--limits", str(limit)]
    command += ["--model", model, "--data", data, "--steps", str(steps)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-3000:]}")
    kept = json.loads(done.stdout.splitlines()[-1])[WARM_UP:]
    seconds, tokens = sum(step["seconds"] for step in kept), sum(step["tokens"] for step in kept)
    phases = {key: float(np.median([step[key] for step in kept if key in step])) for key in kept[0] if key != "tokens"}
    return {
        "tokens_per_s": tokens / seconds,
        "tokens_per_step": tokens / len(kept),
        **{f"{key}_s": value for key, value in phases.items()},
    }


def prompts(path: Path, n: int = 2048) -> None:
    """Two-digit additions, without an answer that matters."""
    rng = random.Random(0)
    rows = [
        {"prompt": f"{rng.randrange(10, 100)}+{rng.randrange(10, 100)}=", "answer": "0", "level": "sum", "row": i} for i in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--limits", type=int, nargs="+", default=[64, 256], help="longest completion, tokens")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.one in TRL_RUNS:
        print(json.dumps(run_trl(chosen.model, chosen.data, chosen.steps, chosen.limits[0], TRL_RUNS[chosen.one])))
    elif chosen.one:
        print(json.dumps(run_ours(chosen.model, chosen.data, chosen.steps, chosen.limits[0], chosen.one)))
    else:
        results = {limit: compare(limit, chosen.pairs, chosen.steps) for limit in chosen.limits}
        if chosen.json:
            chosen.json.write_text(json.dumps(results, indent=1))


def compare(limit: int, pairs: int, steps: int) -> dict[str, Any]:
    from tests.tiny import save_tiny_model

    with tempfile.TemporaryDirectory() as folder:
        model, data = str(save_tiny_model(Path(folder) / "model", hidden=128, layers=4)), Path(folder) / "prompts.jsonl"
        prompts(data)
        rounds = [{name: measure(name, limit, model, str(data), steps) for name in RUNS} for _ in range(pairs)]
    for i, one in enumerate(rounds):
        for name in RUNS:
            print(f"limit {limit} pair {i} {name:18s} " + " ".join(f"{key}={value:.4g}" for key, value in one[name].items()))
    best = [max(one[name]["tokens_per_s"] for name in TRL_RUNS) for one in rounds]
    ratios = {name: [one[name]["tokens_per_s"] / trl for one, trl in zip(rounds, best, strict=True)] for name in OUR_RUNS}
    for name, ratio in ratios.items():
        print(
            f"limit {limit} {name}: {np.mean(ratio):.2f}x TRL's processed tokens/s (pairs: {', '.join(f'{x:.2f}' for x in ratio)})"
        )
    return {"rounds": rounds, "ratios": ratios}


if __name__ == "__main__":
    main()
