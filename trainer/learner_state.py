"""A learner on disk: model/ (a usable Hugging Face model), optimizer.safetensors and learner.json. Nothing is pickled.

Tensors are whole, whatever number of ranks wrote them, so any number of ranks can read them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from curricula.types import CurriculaError

FORMAT = 1
UNNAMED = "adamw"
TOKENIZER_FILES = ("tokenizer*", "special_tokens*", "added_tokens*", "vocab.*", "merges.*", "chat_template*", "*.model")


class Facts(NamedTuple):
    """What learner.json says."""

    version: int
    optimizer: str
    numbers: dict[str, float]  # of the optimiser's state
    averages: bool = False  # model/ is not the masters


def write_state(folder: Path, tensors: Mapping[str, Tensor], facts: Facts) -> None:
    """``tensors`` holds ``master/NAME`` and the optimiser's, after AdamW's first update ``exp_avg/NAME`` and ``exp_avg_sq/NAME``.

    AdamW is not named: it was the only one once, and its checkpoints are still what they were.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "optimizer.safetensors")
    named = (
        {}
        if facts.optimizer == UNNAMED
        else {"optimizer": {"name": facts.optimizer, "numbers": facts.numbers, "averages": facts.averages}}
    )
    (folder / "learner.json").write_text(json.dumps({"format": FORMAT, "version": facts.version, **named}) + "\n")


def read_state(folder: Path, expected: Mapping[str, torch.Size], optimizer: str) -> tuple[dict[str, Tensor], Facts]:
    """Tensors and facts, checked against the names and shapes of the trained parameters and the run's optimiser.

    Errors: CurriculaError for a missing, torn or foreign checkpoint; it names the first difference.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        facts = json.loads((folder / "learner.json").read_text())
        tensors = load_file(folder / "optimizer.safetensors")
    except (OSError, json.JSONDecodeError, SafetensorError) as error:
        raise CurriculaError(f"checkpoint {folder}: learner files missing or damaged ({error}); use an older one") from error
    if facts.get("format") != FORMAT:
        raise CurriculaError(
            f"checkpoint {folder}: format {facts.get('format')}, expected {FORMAT}; read it with the release that wrote it"
        )
    found = {name.removeprefix("master/"): tensor.shape for name, tensor in tensors.items() if name.startswith("master/")}
    _refuse_difference(folder, found, expected)
    named = facts.get("optimizer", {"name": UNNAMED, "numbers": {}})
    if named["name"] != optimizer:
        raise CurriculaError(f"checkpoint {folder}: learner.optimizer was {named['name']!r} there and is {optimizer!r} in this run")
    return tensors, Facts(int(facts["version"]), optimizer, named["numbers"], bool(named.get("averages")))


def _refuse_difference(folder: Path, found: Mapping[str, torch.Size], expected: Mapping[str, torch.Size]) -> None:
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise CurriculaError(
                f"checkpoint {folder}: parameter {name} has shape {_shown(found.get(name))} there, "
                f"{_shown(expected.get(name))} in this run; resume with the model and LoRA settings that wrote the checkpoint"
            )


def _shown(shape: torch.Size | None) -> str:
    return "(absent)" if shape is None else str(tuple(shape))


def write_model(folder: Path, causal_lm: Any, weights: dict[str, Tensor], source: str) -> None:
    """Config, weights and tokenizer as `from_pretrained` and vLLM read them; LoRA is merged already."""
    from huggingface_hub import save_torch_state_dict

    folder.mkdir(parents=True, exist_ok=True)
    causal_lm.config.architectures = [type(causal_lm).__name__]
    causal_lm.config.save_pretrained(folder)
    if causal_lm.generation_config is not None:
        causal_lm.generation_config.save_pretrained(folder)
    save_torch_state_dict(weights, folder, metadata={"format": "pt"})
    _write_tokenizer(folder, source)


def _write_tokenizer(folder: Path, source: str) -> None:
    if not Path(source).is_dir():
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
        return
    for pattern in TOKENIZER_FILES:
        for file in Path(source).glob(pattern):
            shutil.copy2(file, folder / file.name)
