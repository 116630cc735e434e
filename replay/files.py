"""The files of a log: one, or a folder of them in the order of the numbers in their names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from curricula.types import CurriculaError
from rollout.rows import Place, Row, is_parquet, parquet_columns, read_rows


def log_files(path: Path) -> list[Path]:
    """The file itself, or the folder's JSONL or Parquet files, 2.jsonl before 10.jsonl."""
    if not path.is_dir():
        return [path]
    found = [file for file in path.iterdir() if file.suffix in (".jsonl", ".parquet") and file.is_file()]
    if not found or len({file.suffix for file in found}) > 1:
        raise CurriculaError(
            f"{path}: expected a folder with .jsonl files or with .parquet files, got {'both' if found else 'neither'}"
        )
    return sorted(found, key=lambda file: _numbers(file.name))


def matching(path: Path, pattern: str) -> list[Path]:
    """The file itself, or the files of the folder that fit a glob pattern, step_2/a.jsonl before step_10/a.jsonl; maybe none."""
    if not path.is_dir():
        return [path]
    found = {str(file.relative_to(path)): file for file in path.glob(pattern) if file.is_file()}
    return [found[name] for name in sorted(found, key=_numbers)]


def rows_of(path: Path) -> Iterator[tuple[Place, Row]]:
    """Rows of all files, one at a time."""
    for file in log_files(path):
        yield from read_rows(file)


def first_fields(path: Path) -> frozenset[str]:
    """Names in the first row of a JSONL log; none where the log is Parquet."""
    return fields_of(log_files(path)[0])


def fields_of(file: Path) -> frozenset[str]:
    """Names in the first row of a JSONL file; none where the file is Parquet."""
    if is_parquet(file):
        return frozenset()
    for _, row in read_rows(file):
        return frozenset(map(str, row))
    raise CurriculaError(f"{file}: it has no rows; expected one JSON object per line")


def schema(path: Path) -> dict[str, str]:
    """Columns of a Parquet log and their types; none where the log is JSONL."""
    file = log_files(path)[0]
    return parquet_columns(file) if is_parquet(file) else {}


def _numbers(name: str) -> list[tuple[int, str]]:
    return [(int(part or -1), text) for text, part in re.findall(r"(\D*)(\d{0,18})", name)]
