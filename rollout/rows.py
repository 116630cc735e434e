"""Rows of JSONL and Parquet files, one at a time, with the place where each stands: for messages that name file and line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricula.rows import MISSING, Row, first, id_from_text, reach
from curricula.types import CurriculaError

__all__ = ["MISSING", "Place", "Row", "first", "id_from_text", "is_parquet", "parquet_columns", "reach", "read_rows"]

LFS_POINTER = b"version https://git-lfs"
PLACEHOLDER = b"<PLACEHOLDER"
PARQUET_MAGIC = b"PAR1"
LONGEST_LINE = 1 << 28  # bytes; a file without line ends must not fill the memory


@dataclass(frozen=True)
class Place:
    """Where a row stands, for messages."""

    path: Path
    number: int  # line of a JSONL file, row of a Parquet file, from 1

    def __str__(self) -> str:
        return f"{self.path}: {'row' if self.path.suffix == '.parquet' else 'line'} {self.number}"


def read_rows(path: Path) -> Iterator[tuple[Place, Row]]:
    """Rows of a JSONL or Parquet file with their places. Errors: CurriculaError naming file and line."""
    if is_parquet(path):
        yield from ((Place(path, i), row) for i, row in enumerate(_parquet(path), start=1))
    else:
        yield from _jsonl(path)


def is_parquet(path: Path) -> bool:
    """Whether the file is read as Parquet, else as JSONL. Errors: CurriculaError where it is neither."""
    if not path.is_file():
        raise CurriculaError(
            f"{path}: there is no such file; paths in a recipe are relative to the folder that `curricula` is called in"
        )
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise CurriculaError(f"{path}: cannot be read ({error})") from error
    if start == LFS_POINTER:
        raise CurriculaError(f"{path}: a Git LFS pointer, not the data; run `git lfs pull` where it was cloned")
    if path.suffix == ".parquet" or start.startswith(PARQUET_MAGIC):
        return True
    if path.suffix not in (".jsonl", ".json", ".ndjson"):
        raise CurriculaError(f"{path}: expected a file ending in .jsonl or .parquet")
    return False


def parquet_columns(path: Path) -> dict[str, str]:
    """The columns of a Parquet file and their types, in its order; reads the schema only."""
    with _named(path):
        from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]

        with ParquetFile(path) as file:
            return {str(field.name): str(field.type) for field in file.schema_arrow}


def _jsonl(path: Path) -> Iterator[tuple[Place, Row]]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE + 1), b""), start=1):
            place = Place(path, number)
            if len(line) > LONGEST_LINE:
                raise CurriculaError(f"{place}: longer than {LONGEST_LINE >> 20} MiB; expected one JSON object per line")
            if line.strip():
                yield place, _object(line, place)


def _object(line: bytes, place: Place) -> Row:
    if line.lstrip().startswith(PLACEHOLDER):
        raise CurriculaError(
            f"{place}: a placeholder ({line.strip()[:60]!r}), not data: its publisher left the rows out; get the real file"
        )
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise CurriculaError(f"{place}: not JSON ({error}); a torn or foreign line? it begins {line[:60]!r}") from error
    if not isinstance(row, dict):
        raise CurriculaError(f"{place}: expected a JSON object with columns, got {str(row)[:60]!r}")
    return row


def _parquet(path: Path) -> Iterator[Row]:
    with _named(path):
        from pyarrow.parquet import ParquetFile

        with ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                yield from batch.to_pylist()


class _named:
    """Whatever pyarrow raises about a damaged file becomes a CurriculaError with the file's name."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        from pyarrow import ArrowException  # type: ignore[import-untyped]

        if isinstance(error, ArrowException | OSError | ValueError | OverflowError | MemoryError) and not isinstance(
            error, CurriculaError
        ):
            raise CurriculaError(f"{self.path}: cannot be read as Parquet ({error}); was it written to its end?") from error
