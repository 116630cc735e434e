"""Rollouts that ROLL dumps: ``rollout_dump_dir/rollout_dump_data.step_{step}.jsonl``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curricula.types import CurriculaError
from replay.builder import UNSAID, RunBuilder, field_of, id_of, name_from, prompt_of, reward_of, shown, whole_of
from replay.files import first_fields, rows_of
from replay.importers import register
from replay.types import Lack, LoggedRun
from rollout.rows import Place, Row

STEP, SCORE = "global_step", "scores"
FIELDS = frozenset({STEP, SCORE, "responses"})
TEXTS = ("prompt", "messages")  # the data set's own columns: either may be missing


@dataclass(frozen=True)
class Entry(Place):
    """Where one entry of the columns stands."""

    entry: int = 0  # from 0, as in the file

    def __str__(self) -> str:
        return f"{super().__str__()}, entry {self.entry}"


@register("roll")
@dataclass(frozen=True)
class Roll:
    """One line per step, an object of columns of equal length; one entry of them is one rollout that its query filter let through.

    Entries of one step with the same prompt are one group, so a prompt that comes twice in a step merges. The prompt is ``domain``
    and the column ``id``; where the file has none, or with ``id`` set to "", the text decides. An id that comes with two texts is
    refused: then ids are no ids of prompts.
    """

    id: str = "id"
    reward_range: tuple[float, float] = (0.0, 1.0)

    looks_for: ClassVar[str] = f"JSONL of columns (lists), among them {', '.join(sorted(FIELDS))}"

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise CurriculaError(f"log format 'roll', id: expected the name of a column, got {self.id!r}")

    def detect(self, path: Path) -> bool:
        return first_fields(path) >= FIELDS

    def read(self, path: Path) -> LoggedRun:
        builder, has_ids = RunBuilder(self.reward_range), False
        for line, columns in rows_of(path):
            has_ids = bool(self.id) and self.id in columns
            builder.same_kind("the prompt", f"a column {self.id}" if has_ids else "no column of ids", line)
            for place, row in self._entries(columns, line):
                step, prompt = whole_of(row, (STEP,), place), self._prompt(builder, row, place, has_ids)
                group = builder.group((step, prompt), prompt, place, step)
                builder.rollout(group, reward_of(row, (SCORE,), place), place)
        lacks: set[Lack] = {"group id", "rejected groups", *UNSAID}
        if not has_ids:
            lacks.add("prompt id")
        return builder.run(f"roll {path}", lacks)

    def _entries(self, columns: Row, line: Place) -> Iterator[tuple[Place, Row]]:
        n = _length(columns, line)
        used = {name: columns[name] for name in (STEP, SCORE, "domain", *TEXTS, *([self.id] * bool(self.id))) if name in columns}
        for i in range(n):
            yield Entry(line.path, line.number, i), {name: column[i] for name, column in used.items()}

    def _prompt(self, builder: RunBuilder, row: Row, place: Place, has_ids: bool) -> tuple[str, str]:
        domain = row.get("domain")
        distribution = name_from(domain) if isinstance(domain, str) and domain else "all"
        text = next((name for name in TEXTS if name in row), None)
        if not has_ids:
            field_of(row, TEXTS, place)
            return prompt_of(row, text or "", distribution, place)
        prompt = name_from(f"{distribution}/{id_of(builder, row, (self.id,), place)}")
        if text is not None:
            builder.same_text(prompt, prompt_of(row, text, distribution, place)[1], place)
        return distribution, prompt


def _length(columns: Row, line: Place) -> int:
    """Entries of every column, all alike."""
    lengths = {}
    for name, column in columns.items():
        if not isinstance(column, list):
            raise CurriculaError(f"{line}: {name[:40]}: expected a column (a list with one entry per rollout), got {shown(column)}")
        lengths[name] = len(column)
    field_of(columns, (SCORE,), line)
    for name, length in lengths.items():
        if length != lengths[SCORE]:
            raise CurriculaError(
                f"{line}: {name[:40]}: expected as many entries as in {SCORE} ({lengths[SCORE]}), got {length}; was the line cut?"
            )
    return lengths[SCORE]
