"""Rollouts that slime saves for debugging: ``rollout_data/{step}.pt``."""

from __future__ import annotations

import math
import pickle
import re
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curricula.types import CurriculaError, Status
from replay.builder import UNSAID, RunBuilder, field_of, id_of, prompt_of, reward_of, shown, whole_of
from replay.files import matching
from replay.importers import register
from replay.types import Lack, LoggedRun
from rollout.rows import LFS_POINTER, Place, Row

FAILED = {"aborted": Status.LOST, "failed": Status.ERROR}
SCORED = {"completed": Status.INVALID, "truncated": Status.TRUNCATED, "pending": Status.LOST}  # what they are without a reward
BROKEN = (  # what the readers of zip files and of plain values raise at bytes that nobody wrote
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    MemoryError,
)
EVALUATION = re.compile(r"(?:^|[^a-z0-9])eval_\d+$")


@register("slime")
@dataclass(frozen=True)
class Slime:
    """One file per step, one sample in it per trained sequence; only what entered the update is there.

    A file is a pickle. It is read as data: PyTorch's weights-only loader knows plain values and tensors, nothing else in it is
    looked up or called, and a file that needs more is refused with the name it wanted. Files of evaluations (``eval_`` before the
    number) are left out of a folder and refused alone: their groups are numbered apart. ``group_index`` is the group. Where a
    reward is a mapping, ``reward_key`` names the entry that counts. A failed or aborted sample has a status and no reward, whatever
    the file says; one cut off by the token limit has the reward that it was given. ``pending`` is what a custom rollout function
    leaves where it sets no status: scored where it has a reward. Samples with one ``rollout_id`` are parts of one rollout and must
    have one reward. The policy version is the oldest of ``weight_versions``, where those are numbers. Fields as of August 2026.
    """

    reward_key: str = ""
    id: str = ""  # dotted field with the prompt's id, such as metadata.id; else its text is hashed
    distribution: str = ""  # dotted field
    reward_range: tuple[float, float] = (0.0, 1.0)

    looks_for: ClassVar[str] = "files ending in .pt"

    def __post_init__(self) -> None:
        for key in ("reward_key", "id", "distribution"):
            if not isinstance(getattr(self, key), str):
                raise CurriculaError(f"log format 'slime', {key}: expected a name, got {getattr(self, key)!r}")

    def detect(self, path: Path) -> bool:
        return any(file.suffix == ".pt" for file in matching(path, "*.pt"))

    def read(self, path: Path) -> LoggedRun:
        files = matching(path, "*.pt")
        trained = [file for file in files if not EVALUATION.search(file.stem)]
        if not trained:
            came = "evaluations only, whose groups are numbered apart" if files else "none"
            raise CurriculaError(f"{path}: expected .pt files of training rollouts, got {came}")
        builder, steps = RunBuilder(self.reward_range), dict[int, Path]()
        for file in trained:
            step, samples = _held(file)
            if step in steps:
                raise CurriculaError(f"{file}: rollout_id: {step} is that of {steps[step]} too; expected one file per step")
            steps[step] = file
            self._add(builder, step, samples, file)
        lacks: set[Lack] = {"rejected groups", *UNSAID}
        lacks.remove("status")
        if not self.id:
            lacks.add("prompt id")
        left_out = len(files) - len(trained)
        return builder.run(f"slime {path}" + f" ({left_out} evaluations left out)" * bool(left_out), lacks)

    def _add(self, builder: RunBuilder, step: int, samples: list[Row], file: Path) -> None:
        lengths: Counter[Hashable] = Counter()
        rewards: dict[Hashable, tuple[int, float, Status]] = {}
        for number, sample in enumerate(samples, start=1):
            lengths[_part_of(sample, number)] += whole_of(sample, ("response_length",), SamplePlace(file, number))
        for number, sample in enumerate(samples, start=1):
            place = SamplePlace(file, number)
            group = builder.group(
                (step, whole_of(sample, ("group_index",), place)), self._prompt(builder, sample, place), place, step, kept=1
            )
            reward, status = self._outcome(sample, place)
            rollout = _part_of(sample, number)
            if rollout not in rewards:
                rewards[rollout] = group, reward, status
                builder.rollout(group, reward, place, status, lengths[rollout], _version(sample))
            elif not _same(rewards[rollout], (group, reward, status)):
                raise CurriculaError(
                    f"{place}: rollout_id: expected the group, reward and status of the earlier samples with rollout_id "
                    f"{shown(sample['rollout_id'])}, got others; are they parts of one rollout?"
                )

    def _prompt(self, builder: RunBuilder, sample: Row, place: Place) -> tuple[str, str]:
        distribution = id_of(builder, sample, (self.distribution,), place) if self.distribution else "all"
        if self.id:
            return distribution, id_of(builder, sample, (self.id,), place)
        return prompt_of(sample, "prompt", distribution, place)

    def _outcome(self, sample: Row, place: Place) -> tuple[float, Status]:
        said = field_of(sample, ("status",), place)
        if isinstance(said, str) and said in FAILED:
            return math.nan, FAILED[said]
        if not isinstance(said, str) or said not in SCORED:
            raise CurriculaError(f"{place}: status: expected {', '.join((*SCORED, *FAILED))}, got {shown(said)}")
        value = field_of(sample, ("reward",), place)
        field = "reward"
        if isinstance(value, Mapping):
            if not self.reward_key:
                has = ", ".join(str(name)[:40] for name in list(value)[:20])
                raise CurriculaError(f"{place}: reward: a mapping of {has}; name the entry that counts: reward_key")
            field = f"reward.{self.reward_key}"
        elif self.reward_key and value is not None:
            raise CurriculaError(f"{place}: reward: expected a mapping with {self.reward_key!r}, got {shown(value)}")
        reward = math.nan if value is None else reward_of(sample, (field,), place)
        return reward, Status.OK if math.isfinite(reward) else SCORED[said] if value is None else Status.INVALID


@dataclass(frozen=True)
class SamplePlace(Place):
    """A sample of a file, for messages."""

    def __str__(self) -> str:
        return f"{self.path}: sample {self.number}"


def _held(file: Path) -> tuple[int, list[Row]]:
    """Step and samples of a file. Errors: CurriculaError where it is no such file, or where reading it would run code."""
    _refuse_damaged(file)
    try:
        import torch
    except ImportError as error:
        raise CurriculaError(f"{file}: PyTorch reads this file and is not installed; install rl-curricula[rollout]") from error
    try:  # tensors stay on disk: routed experts and images are large and not needed
        held = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        came = f"an object of {wanted[1]}" if wanted else f"something else ({str(error)[:200]})"
        raise CurriculaError(
            f"{file}: expected plain values and tensors, got {came}; loading it could run code, so it is refused"
        ) from error
    except BROKEN as error:
        raise CurriculaError(f"{file}: cannot be read as a file of torch.save ({error}); was it written to its end?") from error
    step, samples = (held.get("rollout_id"), held.get("samples")) if isinstance(held, dict) else (None, None)
    if not isinstance(samples, list) or not all(isinstance(sample, dict) for sample in samples):
        raise CurriculaError(f"{file}: expected a mapping with samples, a list of mappings, got {type(held).__name__} without")
    if isinstance(step, bool) or not isinstance(step, int) or not 0 <= step < 2**63:
        raise CurriculaError(f"{file}: rollout_id: expected a whole number from 0 on, got {shown(step)}")
    return step, samples


def _refuse_damaged(file: Path) -> None:
    """The loader does not compare checksums: a flipped bit in a reward would pass."""
    try:
        with file.open("rb") as opened:
            if opened.read(len(LFS_POINTER)) == LFS_POINTER:
                raise CurriculaError(f"{file}: a Git LFS pointer, not the data; run `git lfs pull` where it was cloned")
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(names) != 1:
                raise CurriculaError(f"{file}: expected one data.pkl in it, as torch.save writes, got {len(names)}")
            with archive.open(names[0]) as values:
                while values.read(1 << 20):
                    pass
    except BROKEN as error:
        if isinstance(error, CurriculaError):
            raise
        raise CurriculaError(f"{file}: cannot be read as a file of torch.save ({error}); was it written to its end?") from error


def _part_of(sample: Row, number: int) -> Hashable:
    """Samples with one rollout_id are one rollout; a sample without is its own."""
    rollout = sample.get("rollout_id")
    return ("alone", number) if not isinstance(rollout, int) else rollout


def _same(before: tuple[int, float, Status], now: tuple[int, float, Status]) -> bool:
    return before[::2] == now[::2] and (before[1] == now[1] or (math.isnan(before[1]) and math.isnan(now[1])))


def _version(sample: Row) -> int:
    versions = sample.get("weight_versions")
    texts = [str(version) for version in versions] if isinstance(versions, list) else []
    return min(map(int, texts)) if texts and all(re.fullmatch(r"[0-9]{1,18}", text) for text in texts) else -1
