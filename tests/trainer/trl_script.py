"""A GRPO run of TRL's on a tiny model with a curriculum, in a process of its own: `python trl_script.py <settings as JSON>`.

Writes what was chosen and trained to ``<output>/seen-<process>.jsonl``, a line per generated batch.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig

from trainer.integrations.trl import CurriculumGRPOTrainer


def rows(n: int = 24) -> Dataset:
    """Every third prompt scores always, every third never, the others by chance."""
    levels = ("never", "sometimes", "always")
    return Dataset.from_list([{"prompt": f"{i}+{i}=", "id": f"p{i}", "level": levels[i % 3]} for i in range(n)])


def score(completions: list[str], level: list[str], log_extra: Any, **_: Any) -> list[float]:
    log_extra("length", [len(text) for text in completions])
    drawn = [float(sum(map(ord, text)) % 2) for text in completions]
    return [{"never": 0.0, "always": 1.0}.get(name, by_chance) for name, by_chance in zip(level, drawn, strict=True)]


class Watched(CurriculumGRPOTrainer):
    """Writes down what it trains on; `GRPOTrainer` calls `compute_loss` with every micro-batch."""

    kill_at = -1  # step at whose end the process kills itself

    def _corrected(self, output: dict[str, Any]) -> dict[str, Any]:
        by_trl = self._logs["advantages"].copy()
        output = super()._corrected(output)
        mask = output["completion_mask"] * output.get("tool_mask", torch.ones_like(output["completion_mask"]))
        seen = {
            "step": self.state.global_step,
            "ids": [row["id"] for row in self._inputs],
            "prompts": self.processing_class.batch_decode(output["prompt_ids"], skip_special_tokens=True),
            "advantages": output["advantages"].tolist(),
            "trains": mask.any(dim=1).tolist(),
            "advantages_by_trl": list(by_trl),
            "n_items": int(output["num_items_in_batch"]),
            "n_tokens": int(mask.sum()),
            "rewards": list(self._logs["rewards"]["score"]),
            "logged_advantages": list(self._logs["advantages"]),
            "logged_prompts": list(self._logs["prompt"]),
            "lengths": list(self._logs["extra"]["length"]),
            "metrics": {name: values[-1] for name, values in self._metrics["train"].items() if values},
        }
        with (Path(self.args.output_dir) / f"seen-{self.accelerator.process_index}.jsonl").open("a") as file:
            file.write(json.dumps(seen) + "\n")
        return output

    def training_step(self, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().training_step(*args, **kwargs)


def config(output: str, **changes: Any) -> GRPOConfig:
    settings = {
        "output_dir": output,
        "use_cpu": True,
        "bf16": False,
        "per_device_train_batch_size": 8,
        "num_generations": 4,
        "max_completion_length": 6,
        "max_steps": 4,
        "learning_rate": 1e-3,
        "logging_steps": 1,
        "report_to": [],
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "gradient_checkpointing": False,
    }
    return GRPOConfig(**settings | changes)


def trainer(model: str, output: str, arguments: dict[str, Any], kind: type = Watched, **changes: Any) -> Any:
    Path(output).mkdir(parents=True, exist_ok=True)
    return kind(
        AutoModelForCausalLM.from_pretrained(model),
        score,
        config(output, **changes),
        train_dataset=rows(),
        processing_class=AutoTokenizer.from_pretrained(model),
        **{"distribution_column": "level"} | arguments,
    )


def main(settings: dict[str, Any]) -> None:
    torch.set_num_threads(1)
    made = trainer(settings["model"], settings["output"], settings.get("arguments", {}), **settings.get("config", {}))
    made.kill_at = settings.get("kill_at", -1)
    made.train(resume_from_checkpoint=settings.get("resume"))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
