"""Rollout summaries of tinker-cookbook: ``<log_path>/iteration_NNNNNN/train_rollout_summaries.jsonl``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curricula.types import CurriculaError
from replay.builder import UNSAID, RunBuilder, field_of, name_from, reward_of, shown, whole_of
from replay.files import first_fields
from replay.importers import register
from replay.types import LoggedRun
from rollout.rows import Place, Row, read_rows

FIELDS = frozenset({"schema_version", "iteration", "group_idx", "traj_idx", "total_reward"})
VERSION = 1


@register("tinker")
@dataclass(frozen=True)
class Tinker:
    """One row per trajectory; ``iteration`` and ``group_idx`` name the group, the reward is ``total_reward``.

    The file holds neither text nor prompt id: every group counts as a prompt of its own. The distribution is made of the tags.
    Loops that stream groups write what survived the filter for equal rewards, others write everything, and the file does not say
    which. Trajectories that failed are absent. A path may be the file, its iteration's folder or the run's folder, where ``base``
    says which files are read: "train", or "eval_" and a label. Training and evaluations are not read as one log.
    """

    base: str = "train"
    reward_range: tuple[float, float] = (0.0, 1.0)

    looks_for: ClassVar[str] = f"JSONL with {', '.join(sorted(FIELDS))}, or a folder of iteration_* folders with such files"

    def __post_init__(self) -> None:
        if not isinstance(self.base, str) or not re.fullmatch(r"[\w.-]+", self.base):
            raise CurriculaError(f"log format 'tinker', base: expected the start of a file's name like 'train', got {self.base!r}")

    def detect(self, path: Path) -> bool:
        files = self._files(path)
        return bool(files) and first_fields(files[0]) >= FIELDS

    def read(self, path: Path) -> LoggedRun:
        builder, files = RunBuilder(self.reward_range), self._files(path)
        if not files:
            raise CurriculaError(f"{path}: expected {self._name} in it, or folders named iteration_* with such files")
        seen: set[tuple[int, int, int]] = set()
        for file in files:
            for place, row in read_rows(file):
                _refuse_other_version(row, place)
                builder.same_kind("split", str(row.get("split"))[:60], place)
                step, group, member = (whole_of(row, (key,), place) for key in ("iteration", "group_idx", "traj_idx"))
                if (step, group, member) in seen:
                    raise CurriculaError(
                        f"{place}: traj_idx: iteration {step}, group_idx {group}, traj_idx {member} came before; expected each "
                        "once; were two runs put into one file?"
                    )
                seen.add((step, group, member))
                prompt = (_distribution(row, place), f"{step}/{group}")
                version = -1 if row.get("sampling_client_step") is None else whole_of(row, ("sampling_client_step",), place)
                at = builder.group((step, group), prompt, place, step)
                reward = reward_of(row, ("total_reward",), place)
                builder.rollout(at, reward, place, tokens=_tokens(row, place), version=version)
        return builder.run(f"tinker {path}", {"prompt id", "rejected groups", *UNSAID})

    @property
    def _name(self) -> str:
        return f"{self.base}_rollout_summaries.jsonl"

    def _files(self, path: Path) -> Sequence[Path]:
        """Files of this base in the order of their iterations; none where the folder holds none."""
        if not path.is_dir():
            return [path]
        if (path / self._name).is_file():
            return [path / self._name]
        found = [file for file in path.glob(f"iteration_*/{self._name}") if file.parent.name[10:].isdecimal()]
        return sorted(found, key=lambda file: int(file.parent.name[10:]))


def _refuse_other_version(row: Row, place: Place) -> None:
    version = field_of(row, ("schema_version",), place)
    if version != VERSION or isinstance(version, bool):
        raise CurriculaError(
            f"{place}: schema_version: expected {VERSION}, got {shown(version)}; a newer file: its fields may mean something else"
        )


def _distribution(row: Row, place: Place) -> str:
    tags = row.get("tags") or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) and tag for tag in tags):
        raise CurriculaError(f"{place}: tags: expected a list of names, got {shown(tags)}")
    return name_from("+".join(tags)) if tags else "all"


def _tokens(row: Row, place: Place) -> int:
    """Tokens of all actions; -1 where the steps are not told."""
    steps = row.get("steps")
    if not steps:
        return -1
    if not isinstance(steps, list) or not all(isinstance(step, dict) for step in steps):
        raise CurriculaError(f"{place}: steps: expected a list of objects, got {shown(steps)}")
    return min(sum(whole_of(step, ("ac_len",), place) for step in steps), 2**63 - 1)
