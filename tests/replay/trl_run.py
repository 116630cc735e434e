"""Three steps of TRL's GRPOTrainer on a tiny model, in a process of its own: `python trl_run.py <model> <output folder>`."""

from __future__ import annotations

import sys
from typing import Any


def odd_length(completions: list[str], uid: list[str], log_extra: Any, **_: Any) -> list[float | None]:
    log_extra("uid", uid)
    return [None if name == "p0" else float(len(text) % 2) for text, name in zip(completions, uid, strict=True)]


def short(completions: list[str], **_: Any) -> list[float]:
    return [1.0 / (1 + len(text)) for text in completions]


def main(model: str, output: str) -> None:
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    config = GRPOConfig(
        output_dir=output,
        use_cpu=True,
        bf16=False,
        per_device_train_batch_size=8,
        num_generations=4,
        max_completion_length=6,
        max_steps=3,
        logging_steps=1,
        log_completions=True,
        reward_weights=[1.0, 0.5],
        report_to=[],
        save_strategy="no",
    )
    rows = [{"prompt": f"{i}+1=", "uid": f"p{i}"} for i in range(6)]
    GRPOTrainer(
        AutoModelForCausalLM.from_pretrained(model),
        [odd_length, short],
        config,
        train_dataset=Dataset.from_list(rows),
        processing_class=AutoTokenizer.from_pretrained(model),
    ).train()


if __name__ == "__main__":
    main(*sys.argv[1:])
