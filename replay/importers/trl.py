"""Completions that TRL's GRPOTrainer logs: ``<output_dir>/completions/completions_{step}.parquet``."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curricula.types import CurriculaError
from replay.builder import UNSAID, RunBuilder, field_of, id_of, prompt_of, reward_of, whole_of
from replay.files import log_files, schema
from replay.importers import register
from replay.types import Lack, LoggedRun
from rollout.rows import Place, Row, read_rows

OWN = ("step", "prompt", "completion", "advantage")
NUMBERS = ("double", "float", "halffloat")


@register("trl")
@dataclass(frozen=True)
class Trl:
    """One row per completion; the reward is the weighted sum of the reward columns, null where every function gave none.

    TRL does not mark its reward columns: one column of fractions besides ``advantage`` is the reward, of several ``rewards`` must
    name those that count, with ``weights`` as in the run (1 each where left out). Without ``num_generations``, neighbouring rows of
    one step with the same prompt are one group, so the same prompt drawn twice in a row merges. TRL keeps the last generation batch
    of every logging interval only, and evaluations write the same files.
    """

    rewards: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    num_generations: int = 0  # rows of a group
    id: str = ""  # a column that the run added with log_extra
    reward_range: tuple[float, float] = (0.0, 1.0)

    looks_for: ClassVar[str] = f"Parquet with the columns {', '.join(OWN)}"

    def __post_init__(self) -> None:
        for key in ("rewards", "weights"):
            if not isinstance(getattr(self, key), list | tuple):
                raise CurriculaError(f"log format 'trl', {key}: expected a list, got {getattr(self, key)!r}")
        if any(isinstance(weight, bool) or not isinstance(weight, int | float) for weight in self.weights):
            raise CurriculaError(f"log format 'trl', weights: expected numbers, got {self.weights!r}")
        if self.weights and len(self.weights) != len(self.rewards):
            raise CurriculaError(f"log format 'trl', weights: expected one per name in rewards, got {self.weights!r}")
        if isinstance(self.num_generations, bool) or not isinstance(self.num_generations, int) or self.num_generations < 0:
            raise CurriculaError(f"log format 'trl', num_generations: expected a whole number, got {self.num_generations!r}")

    def detect(self, path: Path) -> bool:
        return set(OWN) <= schema(path).keys()

    def read(self, path: Path) -> LoggedRun:
        builder, names = RunBuilder(self.reward_range), self._reward_columns(path)
        weights = self.weights or (1.0,) * len(names)
        for key, place, row in self._grouped(path):
            step = whole_of(row, ("step",), place)
            prompt = ("all", id_of(builder, row, (self.id,), place)) if self.id else prompt_of(row, "prompt", "all", place)
            parts = [weight * reward_of(row, (name,), place) for name, weight in zip(names, weights, strict=True)]
            told = [part for part in parts if not math.isnan(part)]
            builder.rollout(builder.group(key, prompt, place, step), sum(told) if told else math.nan, place)
        lacks: set[Lack] = set(UNSAID)
        if not self.num_generations:
            lacks.add("group id")
        if not self.id:
            lacks.add("prompt id")
        return builder.run(f"trl {path}", lacks)

    def _reward_columns(self, path: Path) -> tuple[str, ...]:
        if self.rewards:
            return tuple(self.rewards)
        found = [name for name, kind in schema(path).items() if name not in OWN and kind in NUMBERS]
        if len(found) != 1:
            raise CurriculaError(
                f"{path}: the reward columns are not marked; expected one column of fractions, got {', '.join(found) or 'none'}; "
                'name them, and their weights: {"name": "trl", "rewards": [...], "weights": [...]}'
            )
        return tuple(found)

    def _grouped(self, path: Path) -> Iterator[tuple[int, Place, Row]]:
        """Rows with the number of their group: a new one where step or prompt changes, or after num_generations rows."""
        group, length, before = -1, 0, None
        size = self.num_generations
        for file in log_files(path):
            for place, row in read_rows(file):
                now = (file, whole_of(row, ("step",), place), None if size else field_of(row, ("prompt",), place))
                if now != before or (size and length == size):
                    self._refuse_torn(place, length, before)
                    group, length, before = group + 1, 0, now
                length += 1
                yield group, place, row
        if before is not None:
            self._refuse_torn(f"{path}: end", length, before)

    def _refuse_torn(self, place: Place | str, length: int, before: object) -> None:
        if before is not None and self.num_generations and length != self.num_generations:
            raise CurriculaError(
                f"{place}: the step before ends with a group of {length} rows; expected num_generations = {self.num_generations}"
            )
