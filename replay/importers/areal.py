"""Rollouts that AReaL dumps: ``rollout/{version}/{task}.jsonl``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curricula.types import CurriculaError
from replay.builder import UNSAID, RunBuilder, prompt_of, reward_of, shown, whole_of
from replay.files import fields_of, log_files, matching
from replay.importers import register
from replay.types import LoggedRun
from rollout.rows import Place, Row, read_rows

FIELDS = frozenset({"task_id", "sample_idx", "seqlen", "prompt_len", "tail_version", "reward"})


@register("areal")
@dataclass(frozen=True)
class Areal:
    """One row per sample; the samples of a task are one group, written before the run accepts or rejects it.

    The log has no training step: a group's step is its ``tail_version``, the newest policy version that wrote one of its tokens;
    ``head_version`` is no version, since the prompt's tokens count in it as -1 (as of the release of May 2026). Samples without a
    completion are left out by the trainer, so a group may be short of them; ``sample_idx`` then has gaps. A task whose samples have
    several prompts (the turns of one conversation) is refused, and so is a sample that comes twice: several workers, or a restarted
    run, number their tasks from 0 again. Evaluations (``eval-rollout``) have the same rows: read them apart.
    """

    reward_range: tuple[float, float] = (0.0, 1.0)

    looks_for: ClassVar[str] = f"JSONL with {', '.join(sorted(FIELDS))}"

    def detect(self, path: Path) -> bool:
        files = _files(path)
        return bool(files) and fields_of(files[0]) >= FIELDS

    def read(self, path: Path) -> LoggedRun:
        files = _files(path)
        if not files:
            raise CurriculaError(f"{path}: expected a folder with <version>/<task>.jsonl below it, got none")
        builder = RunBuilder(self.reward_range)
        seen: set[tuple[int, int, int]] = set()
        for file in files:
            for place, row in read_rows(file):
                _add(builder, row, seen, place)
        return builder.run(f"areal {path}", {"prompt id", *UNSAID})


def _files(path: Path) -> list[Path]:
    if path.is_dir() and any(file.suffix == ".jsonl" for file in path.iterdir()):
        return log_files(path)
    return matching(path, "[0-9]*/*.jsonl")


def _add(builder: RunBuilder, row: Row, seen: set[tuple[int, int, int]], place: Place) -> None:
    version, task, sample, length, start = (
        whole_of(row, (field,), place) for field in ("tail_version", "task_id", "sample_idx", "seqlen", "prompt_len")
    )
    if (version, task, sample) in seen:
        raise CurriculaError(
            f"{place}: sample_idx: {sample} of task {task} came before at version {version}; expected each once; did several "
            "workers or a restarted run write to one folder?"
        )
    seen.add((version, task, sample))
    if start > length:
        raise CurriculaError(f"{place}: prompt_len: expected at most seqlen = {length}, got {shown(start)}")
    group = builder.group((version, task), prompt_of(row, "prompt", "all", place), place, version)
    builder.rollout(group, reward_of(row, ("reward",), place), place, tokens=length - start)
