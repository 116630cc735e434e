"""One model from several checkpoints of a run: a weighted average of what was trained, written as a Hugging Face model folder.

Where a checkpoint has the float32 master of a weight, masters are averaged and the result is rounded once, to the model's dtype. A
LoRA run has masters of its adapters only. Their average is not wanted (the model is linear in the product B A, not in A and B), so
there the merged weights of the checkpoints' model folders are averaged, each of which was rounded to the model's dtype already.

Tensors are read one by one, and written file by file as the newest checkpoint's model is cut into files: what is in memory is one
of these files and one tensor in float64.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from curricula.types import CurriculaError, Floats
from trainer.checkpoint import Checkpoint
from trainer.lr.averages.weights import require_weights
from trainer.run_folder import recipe_of
from trainer.schedules.build import build_rate
from trainer.schedules.rate import LearningRate

MERGED = "merged.json"
MASTERS, WEIGHTS = "float32 masters", "weights of the model folders"


@dataclass(frozen=True)
class Merged:
    """What an average was made of; ``merged.json`` in its folder."""

    run: str
    recipe: str  # fingerprint, of the newest checkpoint
    steps: list[int]  # of the checkpoints, oldest first
    weights: list[float]
    how: dict[str, Any]  # what made the weights
    averaged: dict[str, int]  # tensors by what they were averaged from


def rates(run: Path, found: Sequence[Checkpoint]) -> list[float]:
    """The learning rate of the update after each checkpoint; NaN where the checkpoint's state is not of the run's schedule.

    Errors: CurriculaError where the folder is no run.
    """
    recipe = recipe_of(run)
    rate = build_rate(recipe.schedule, recipe.length)
    return [_rate_at(rate, one) for one in found]


def _rate_at(rate: LearningRate, saved: Checkpoint) -> float:
    try:
        rate.load_state_dict(saved.facts["rate"])
    except (CurriculaError, KeyError):
        return math.nan
    return rate.lr()


def average(run: Path, found: Sequence[Checkpoint], weights: Floats, how: Mapping[str, Any], out: Path) -> Merged:
    """Write the average of checkpoints, weight by weight, to ``out``: config and tokenizer of the newest, and `Merged` as JSON.

    Errors: CurriculaError for weights that are none, checkpoints of different models, and a folder that is there already.
    """
    require_weights(weights, len(found))
    if out.exists():
        raise CurriculaError(f"{out}: it is there already; choose another folder for the average (or remove it)")
    partial = out.parent / f".partial-{out.name}"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        averaged = _write_model(found, weights, partial)
        newest = found[-1].facts.get("recipe", "")
        merged = Merged(str(run), str(newest), [one.step for one in found], weights.tolist(), dict(how), averaged)
        (partial / MERGED).write_text(json.dumps(vars(merged), indent=1) + "\n")
        os.rename(partial, out)
    except OSError as error:
        raise CurriculaError(f"{out}: the average could not be written ({error.strerror or error})") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return merged


def _write_model(found: Sequence[Checkpoint], weights: Floats, folder: Path) -> dict[str, int]:
    """Tensors written, by what they were averaged from."""
    averaged = {MASTERS: 0, WEIGHTS: 0}
    with ExitStack() as stack:
        sources = [_Source(one.folder, stack) for one in found]
        newest = sources[-1]
        for other in sources[:-1]:
            _refuse_other_models(other, newest)
        masters = set.intersection(*(source.masters for source in sources))
        for path in (path for path in newest.model.iterdir() if path.suffix != ".safetensors"):
            shutil.copy2(path, folder / path.name)
        for file, names in newest.files.items():
            tensors = {}
            for name in names:
                kind = MASTERS if name in masters else WEIGHTS
                tensors[name] = _weighted((source.tensor(kind, name) for source in sources), weights).to(newest.dtype(name))
                averaged[kind] += 1
            save_file(tensors, folder / file, metadata={"format": "pt"})
    return {kind: n for kind, n in averaged.items() if n}


def _weighted(tensors: Iterable[Tensor], weights: Floats) -> Tensor:
    """In float64; one tensor and the sum in memory. Checkpoints with weight 0 are read all the same."""
    sum_: Tensor | None = None
    for tensor, weight in zip(tensors, weights.tolist(), strict=True):
        part = tensor.double().mul_(weight)
        sum_ = part if sum_ is None else sum_.add_(part)
    if sum_ is None:
        raise CurriculaError("average: expected one checkpoint at least, got none")
    return sum_


class _Source:
    """The tensors of one checkpoint, read when they are asked for."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self.model = folder, folder / "model"
        paths = sorted(self.model.glob("*.safetensors"))
        optimizer = folder / "optimizer.safetensors"
        if not paths or not optimizer.is_file():
            raise CurriculaError(f"checkpoint {folder}: no model in it (a simulated run has none); there is nothing to average")
        try:
            self._optimizer = stack.enter_context(safe_open(optimizer, framework="pt"))
            opened = {path.name: stack.enter_context(safe_open(path, framework="pt")) for path in paths}
        except (OSError, SafetensorError) as error:
            raise CurriculaError(f"checkpoint {folder}: files of tensors are damaged ({error}); average others") from error
        self.files = {name: list(file.keys()) for name, file in opened.items()}
        self._file_of = {name: opened[file] for file, names in self.files.items() for name in names}
        shipped = not _averages(folder)  # else the model is an average already, and the masters are where gradients live
        keys = self._optimizer.keys() if shipped else ()
        self.masters = {key.removeprefix("master/") for key in keys if key.startswith("master/")}

    def tensor(self, kind: str, name: str) -> Tensor:
        found: Tensor = self._optimizer.get_tensor(f"master/{name}") if kind == MASTERS else self._file_of[name].get_tensor(name)
        return found

    def facts(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Dtype and shape of every weight."""
        slices = {name: file.get_slice(name) for name, file in self._file_of.items()}
        return {name: (slice_.get_dtype(), tuple(slice_.get_shape())) for name, slice_ in slices.items()}

    def dtype(self, name: str) -> torch.dtype:
        empty: Tensor = self._file_of[name].get_slice(name)[:0]
        return empty.dtype


def _averages(folder: Path) -> bool:
    """Whether the checkpoint's optimiser ships other weights than its masters."""
    facts = json.loads((folder / "learner.json").read_text())
    return bool(facts.get("optimizer", {}).get("averages"))


def _refuse_other_models(other: _Source, newest: _Source) -> None:
    theirs, ours = other.facts(), newest.facts()
    for name in sorted(theirs.keys() | ours.keys()):
        if theirs.get(name) != ours.get(name):
            raise CurriculaError(
                f"checkpoint {other.folder}: {name} is {_shown(theirs.get(name))} there, {_shown(ours.get(name))} in "
                f"{newest.folder.name}; only checkpoints of one model can be averaged"
            )
    if other.masters != newest.masters:
        name = min(other.masters ^ newest.masters)
        raise CurriculaError(
            f"checkpoint {other.folder}: of it and {newest.folder.name} one has a master of {name}, the other has none; only "
            "checkpoints of one model and one setting of LoRA can be averaged"
        )


def _shown(fact: tuple[str, tuple[int, ...]] | None) -> str:
    return "absent" if fact is None else f"{fact[0]} {fact[1]}"
