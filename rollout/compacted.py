"""Compacted parts of a log's files: the same lines as typed columns in Parquet, to the byte.

A file of checked lines (`rollout.journal`) may begin with a line that names Parquet parts in its folder; they hold the lines that
stood before::

    {"kind":"begin","schema":1,"run":"5d0c...","texts_bytes":812,"parts":[{"name":"compacted-rollouts-from-byte-0.parquet",...}],...}

Positions go on counting the bytes of all lines, so commits, checkpoints and texts keep theirs. Compacting writes a part beside the
file, reads it back, compares every line, and only then replaces the file by one that begins after it: a single renaming, so a
kill at any moment leaves the file as it was or as it will be. A part that no line names is not part of the log.

A record whose fields have the types of `rollout.log_fields` lies in columns of these names; whatever has no column, or would not
come back exactly, lies there as its JSON text. ``_kind``, ``_bytes`` (length of the line), ``_keys`` (order of the fields),
``_rest`` (fields without a column) and ``_line`` (a record without columns) say how to make the line again.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curricula.types import CurriculaError
from rollout.journal import Line, record_of, refuse_special, scan, seal, sync_path, unseal
from rollout.log_fields import GROUP, TEXTS, Field, Record, checked, is_sound

ROW_GROUP = 16_384  # records
ROW_GROUP_BYTES = 64 * 2**20
CONTROL = ("_kind", "_bytes", "_keys", "_rest", "_line")
_BEGIN = b'{"kind":"begin"'
_LONGEST_BEGIN = 16 * 2**20
_NAME = re.compile(r"compacted-[a-z]+-from-byte-\d{1,19}\.parquet")


class Part(NamedTuple):
    """One Parquet file in the place of lines."""

    name: str
    start: int  # byte at which its first line stood
    end: int
    lines: int
    sha256: str


class Begin(NamedTuple):
    """What stands before the lines of a file. Without parts: nothing."""

    parts: tuple[Part, ...] = ()
    run: str = ""
    texts_bytes: int = 0  # as the last commit in the parts says
    header: int = 0  # bytes of the line that says so

    @property
    def end(self) -> int:
        """Bytes of all lines in the parts."""
        return self.parts[-1].end if self.parts else 0

    @property
    def shift(self) -> int:
        """From a position to its place in the file."""
        return self.header - self.end


def fields_of(path: Path) -> dict[str, Field]:
    """The fields with columns: those of groups, or of texts."""
    return {name: field for name, field in (TEXTS if path.stem == "texts" else GROUP).items() if name != "kind"}


def begin_of(path: Path) -> Begin:
    """What the first line of a file says.

    Errors: CurriculaError where it is of another schema, or lost while parts are there that it should name.
    """
    refuse_special(path)
    line = b""
    if path.exists():
        with path.open("rb") as file:
            line = file.readline(_LONGEST_BEGIN)
    payload = unseal(line)
    if payload is None:
        if (path.parent / part_name(path, 0)).exists():
            raise CurriculaError(
                f"{path}: line 1 is damaged or missing, and {part_name(path, 0)} is there: the file seems to have been compacted; "
                "`curricula log repair` tells what can be done"
            )
        return Begin()
    if not payload.startswith(_BEGIN):
        return Begin()
    return _begin(Record(record_of(Line(1, 0, len(line), payload), path), f"{path}: line 1"), len(line))


def _begin(record: Record, header: int) -> Begin:
    parts: list[Part] = []
    if record["schema"] != 1:
        raise CurriculaError(
            f"{record.place}: compacted parts of schema {record['schema']}, expected 1; read it with a newer version"
        )
    for given in record["parts"] if isinstance(record["parts"], list) else [None]:
        part = _part(given)
        if part is None or part.start != (parts[-1].end if parts else 0):
            raise CurriculaError(f"{record.place}: expected the names and places of compacted parts, got {str(given)[:80]}")
        parts.append(part)
    if not isinstance(record["run"], str) or type(record["texts_bytes"]) is not int:
        raise CurriculaError(f"{record.place}: expected run and texts_bytes, got {record['run']!r}, {record['texts_bytes']!r}")
    return Begin(tuple(parts), record["run"], record["texts_bytes"], header)


def _part(given: Any) -> Part | None:
    """The part, or None where it is none of ours: its name must be one that compacting gives, so it cannot lead elsewhere."""
    if not isinstance(given, dict) or set(given) != set(Part._fields):
        return None
    part = Part(**given)
    numbers = all(type(n) is int and n >= 0 for n in (part.start, part.end, part.lines))
    names = isinstance(part.sha256, str) and isinstance(part.name, str) and _NAME.fullmatch(part.name)
    return part if numbers and names and part.start < part.end else None


def part_name(path: Path, start: int) -> str:
    """The file of a part whose first line stood at this byte."""
    return f"compacted-{path.stem}-from-byte-{start}.parquet"


def begin_line(begin: Begin) -> bytes:
    """The first line of a file that goes on behind these parts."""
    parts = [part._asdict() for part in begin.parts]
    return seal({"kind": "begin", "schema": 1, "run": begin.run, "texts_bytes": begin.texts_bytes, "parts": parts})


def tail_lines(path: Path, begin: Begin) -> Iterator[tuple[Line, Line]]:
    """The lines of the file itself: as they stand in it (for messages), and with their positions in the log."""
    if not path.exists():
        return
    for line in scan(path):
        if line.end > begin.header:
            yield line, line._replace(start=line.start - begin.shift, end=line.end - begin.shift)


def records_of(path: Path, begin: Begin) -> Iterator[tuple[int, Record]]:
    """Every record of parts and file in order, with the position at which it ends.

    Errors: CurriculaError naming file and line (or record of a part) for what is damaged or of a wrong type.
    """
    for part in begin.parts:
        yield from records_in(path.parent / part.name, part, fields_of(path))
    for line, placed in tail_lines(path, begin):
        yield placed.end, checked(record_of(line, path), f"{path}: line {line.number}")


def check_parts(path: Path, begin: Begin) -> None:
    """CurriculaError where a part is missing or is not, byte for byte, what was written."""
    for part in begin.parts:
        check_part(path.parent / part.name, part)


def check_part(path: Path, part: Part) -> None:
    """CurriculaError where the file is not, byte for byte, what was written."""
    refuse_special(path)
    if not path.exists():
        raise CurriculaError(
            f"{path}: missing; it holds bytes {part.start} to {part.end} of the log's lines; restore it from a copy"
        )
    if (came := _sha256(path)) != part.sha256:
        raise CurriculaError(
            f"{path}: damaged (SHA-256 {came[:12]}..., expected {part.sha256[:12]}...); it holds bytes {part.start} to {part.end} "
            "of the log's lines; restore it from a copy"
        )


def of_kind(wanted: str, path: Path, begin: Begin) -> Iterator[tuple[int, Record]]:
    """The records of a kind without columns, such as commits, inside the parts, with the positions at which they end.

    Reads nothing else.
    """
    for part in begin.parts:
        file = path.parent / part.name
        check_part(file, part)
        end, number = part.start, 0
        for batch in part_batches(file, ["_kind", "_bytes", "_line"]):
            rows = zip(batch.column("_kind").to_pylist(), batch.column("_bytes").to_pylist(), batch.column("_line"), strict=True)
            for kind, n_bytes, line in rows:
                end, number = end + n_bytes, number + 1
                if kind == wanted:
                    yield end, checked(_loaded(line.as_py(), f"{file}: record {number}"), f"{file}: record {number}")


def lines_of(path: Path, part: Part) -> Iterator[bytes]:
    """The payloads of a part's lines, as they stood in the file."""
    fields = fields_of(path)
    for batch in part_batches(path.parent / part.name, [*CONTROL, *fields]):
        yield from (line if line is not None else _dumped(record) for line, record in _rows(batch, fields))


def sealed(payload: bytes) -> bytes:
    """The line of a payload."""
    return b'%s,"crc32":"%08x"}\n' % (payload[:-1], zlib.crc32(payload))


def write_part(path: Path, begin: Begin, end: int, run: str, texts_bytes: int) -> Begin | None:
    """Write the file's lines up to position ``end`` as a part beside it, prove it, and return the beginning that names it.

    None where there is nothing to compact. Errors: CurriculaError where the part does not give the lines back (nothing changed).
    """
    target = path.parent / part_name(path, begin.end)
    if begin.end >= end:
        return None
    fresh = target.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    with _arrow_errors(fresh), fresh.open("xb") as file:
        n_lines = _write(file, _until(path, begin, end), fields_of(path), {"run": run, "texts_bytes": str(texts_bytes)})
        file.flush()
        os.fsync(file.fileno())
    part = Part(fresh.name, begin.end, end, n_lines, _sha256(fresh))
    _prove(path, begin, part)
    os.replace(fresh, target)
    sync_path(path.parent)
    return Begin((*begin.parts, part._replace(name=target.name)), run, texts_bytes)


def replace_file(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a new file beside the old one, then put it in its place, durably and at once."""
    fresh = path.with_suffix(".jsonl.new")
    fresh.unlink(missing_ok=True)
    with fresh.open("xb") as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    sync_path(path.parent)


def expand(path: Path, begin: Begin) -> None:
    """Make the file again what it was before it was compacted; its parts become ``discarded-*`` files."""
    check_parts(path, begin)
    replace_file(path, chain((sealed(payload) for part in begin.parts for payload in lines_of(path, part)), rest_of(path, begin)))
    for part in begin.parts:
        os.replace(path.parent / part.name, path.parent / f"discarded-{part.name}")
    sync_path(path.parent)


def rest_of(path: Path, begin: Begin, start: int | None = None) -> Iterator[bytes]:
    """The file's bytes from a position on (by default: all behind the parts), in pieces."""
    with path.open("rb") as file:
        file.seek((begin.end if start is None else start) + begin.shift)
        while chunk := file.read(2**20):
            yield chunk


def found_parts(path: Path) -> Begin:
    """The beginning that the parts in the folder tell of themselves, for a file whose first line is lost."""
    from pyarrow.parquet import ParquetFile  # type: ignore[import-untyped]

    begin = Begin()
    while (file := path.parent / part_name(path, begin.end)).is_file() and not file.is_symlink():
        with _arrow_errors(file), ParquetFile(file) as parquet:
            said = {key.decode(): value.decode() for key, value in (parquet.schema_arrow.metadata or {}).items()}
            n_bytes = sum(sum(batch.column(0).to_pylist()) for batch in parquet.iter_batches(columns=["_bytes"]))
            n_lines = parquet.metadata.num_rows
        part = Part(file.name, begin.end, begin.end + n_bytes, n_lines, _sha256(file))
        begin = Begin((*begin.parts, part), said["run"], int(said["texts_bytes"]))
    return begin


def part_batches(path: Path, columns: Sequence[str], dictionaries: Sequence[str] = ()) -> Iterator[Any]:
    """Record batches of a part with these columns (null where the part was written before a column was known)."""
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow.parquet import ParquetFile

    with _arrow_errors(path), ParquetFile(path, read_dictionary=list(dictionaries)) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        for i in range(file.num_row_groups):
            for batch in file.read_row_group(i, columns=there, use_threads=False).combine_chunks().to_batches():
                whole = batch
                for name in columns:
                    if name not in there:
                        whole = whole.append_column(name, pa.nulls(batch.num_rows))
                yield whole


def records_in(path: Path, part: Part, fields: Mapping[str, Field]) -> Iterator[tuple[int, Record]]:
    """Every record of a part with the position at which it ends."""
    check_part(path, part)
    end, number = part.start, 0
    for batch in part_batches(path, [*CONTROL, *fields]):
        for n_bytes, (line, record) in zip(batch.column("_bytes").to_pylist(), _rows(batch, fields), strict=True):
            end, number = end + n_bytes, number + 1
            place = f"{path}: record {number}"
            yield end, Record(record, place) if line is None else checked(_loaded(line, place), place)


def _rows(batch: Any, fields: Mapping[str, Field]) -> Iterator[tuple[bytes | None, dict[str, Any]]]:
    """Per row its own text, or the record that its columns make."""
    columns: dict[str, list[Any]] = {name: _values(batch.column(name), field.type) for name, field in fields.items()}
    columns["kind"] = batch.column("_kind").to_pylist()
    names: dict[str, list[str]] = {}
    control = [batch.column(name).to_pylist() for name in ("_keys", "_rest", "_line")]
    for i, (keys, rest, line) in enumerate(zip(*control, strict=True)):
        if line is not None:
            yield line, {}
            continue
        if keys not in names:
            names[keys] = keys.split(",")
        others = json.loads(rest) if rest else {}
        yield None, {key: columns[key][i] if key in columns else others[key] for key in names[keys]}


def _loaded(line: bytes, place: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CurriculaError(f"{place} is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise CurriculaError(f"{place} holds a {type(record).__name__}, expected an object")
    return record


def _until(path: Path, begin: Begin, end: int) -> Iterator[Line]:
    for _, line in tail_lines(path, begin):
        if line.end > end:
            return
        yield line


def _prove(path: Path, begin: Begin, part: Part) -> None:
    """The part's lines against the file's: every one, every byte."""
    ours = _until(path, begin, part.end)
    for n, payload in enumerate(lines_of(path, part), start=1):
        line = next(ours, None)
        if line is None or line.payload != payload:
            raise CurriculaError(
                f"{path}: line {line.number if line else n} does not come back from columns as it was; the log is unchanged, and "
                f"the attempt is left in {part.name}: please report it"
            )
    if next(ours, None) is not None:
        raise CurriculaError(f"{path}: {part.name} ends early; the log is unchanged")


def _write(file: Any, lines: Iterable[Line], fields: Mapping[str, Field], facts: Mapping[str, str]) -> int:
    """All lines as Parquet; returns how many they were."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    types = _arrow_types()
    control = {"_kind": pa.string(), "_bytes": pa.int64(), "_keys": pa.string(), "_rest": pa.string(), "_line": pa.binary()}
    columns = control | {name: types[field.type] for name, field in fields.items()}
    schema = pa.schema(list(columns.items()), metadata=dict(facts))
    n_lines = 0
    with ParquetWriter(file, schema, compression="zstd", write_page_checksum=True) as writer:
        for block in _blocks(lines):
            rows = [_row(line, fields) for line in block]
            arrays = [pa.array([row.get(name) for row in rows], type) for name, type in columns.items()]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            n_lines += len(rows)
    return n_lines


def _blocks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    block: list[Line] = []
    n_bytes = 0
    for line in lines:
        block.append(line)
        n_bytes += len(line.payload)
        if len(block) >= ROW_GROUP or n_bytes >= ROW_GROUP_BYTES:
            yield block
            block, n_bytes = [], 0
    if block:
        yield block


def _row(line: Line, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The line in columns where they can give it back, else as it stands."""
    row: dict[str, Any] = {"_bytes": line.end - line.start}
    try:
        record = json.loads(line.payload)
    except (ValueError, RecursionError):
        return row | {"_kind": None, "_line": line.payload}
    kind = record.get("kind") if isinstance(record, dict) else None
    row["_kind"] = kind if isinstance(kind, str) and kind.isascii() else None
    typed = row["_kind"] in ("group", "texts") and _dumped(record) == line.payload and is_sound(record)
    encoded = _encoded(record, fields) if typed else None
    return row | ({"_line": line.payload} if encoded is None else encoded)


def _encoded(record: Mapping[str, Any], fields: Mapping[str, Field]) -> dict[str, Any] | None:
    """Values for the columns; None where one of them is not of its column's type."""
    if any("," in key for key in record) or not ",".join(record).isascii():
        return None
    encoded: dict[str, Any] = {"_keys": ",".join(record)}
    rest = {key: value for key, value in record.items() if key not in fields and key != "kind"}
    if rest:
        encoded["_rest"] = json.dumps(rest, separators=(",", ":"))
    for key, value in record.items():
        if key not in fields or value is None:
            continue
        coded = _ENCODE[fields[key].type.removesuffix(" of each")](value)
        if coded is None:
            return None
        encoded[key] = coded
    return encoded


def _dumped(record: Any) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode("ascii")


def _typed(kind: type) -> Callable[[Any], Any]:
    return lambda value: value if type(value) is kind else None


def _whole(value: Any) -> int | None:
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def _wholes(value: Any) -> list[int] | None:
    fits = type(value) is list and set(map(type, value)) <= {int} and (not value or -(2**63) <= min(value) <= max(value) < 2**63)
    return value if fits else None


def _lists(value: Any) -> list[Any] | None:
    return value if type(value) is list and all(_wholes(inner) is not None for inner in value) else None


def _number(value: Any) -> float | None:
    if type(value) is float:
        return value if math.isfinite(value) else None
    return float(value) if value in ("inf", "-inf") else None


def _numbers(value: Any) -> list[Any] | None:
    if type(value) is not list:
        return None
    types = set(map(type, value))
    if types <= {float, type(None)} and math.isfinite(sum(value) if types == {float} else sum(filter(None, value))):
        return value
    coded = [None if one is None else _number(one) for one in value]
    return coded if all((one is None) == (code is None) for one, code in zip(value, coded, strict=True)) else None


def _text(value: Any) -> str | None:
    return value if type(value) is str and _is_unicode(value) else None


def _texts(value: Any) -> list[str] | None:
    return value if type(value) is list and set(map(type, value)) <= {str} and _is_unicode("".join(value)) else None


def _is_unicode(text: str) -> bool:
    """Lone surrogates, which JSON can escape, have no place in Parquet."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


_ENCODE: dict[str, Callable[[Any], Any]] = {
    "text": _text,
    "whole": _whole,
    "number": _number,
    "flag": _typed(bool),
    "object": lambda value: json.dumps(value, separators=(",", ":")) if type(value) is dict else None,
    "any": lambda value: json.dumps(value, separators=(",", ":")),
    "texts": _texts,
    "wholes": _wholes,
    "numbers": _numbers,
    "lists": _lists,
}


def _arrow_types() -> dict[str, Any]:
    import pyarrow as pa

    return {
        "text": pa.string(),
        "whole": pa.int64(),
        "number": pa.float64(),
        "flag": pa.bool_(),
        "object": pa.string(),
        "any": pa.string(),
        "texts of each": pa.list_(pa.string()),
        "wholes of each": pa.list_(pa.int64()),
        "numbers of each": pa.list_(pa.float64()),
        "lists of each": pa.list_(pa.list_(pa.int64())),
    }


def _values(column: Any, type: str) -> list[Any]:
    """A column as the log's own values."""
    if type in ("object", "any"):
        return [None if text is None else json.loads(text) for text in column.to_pylist()]
    if column.null_count == len(column):
        return [None] * len(column)
    if type.endswith(" of each"):
        return _slices(
            column, _slices(column.values, _flat(column.values.values)) if type == "lists of each" else _flat(column.values)
        )
    values = column.to_pylist()
    return [_said(value) for value in values] if type == "number" else values


def _slices(column: Any, flat: Sequence[Any]) -> list[Any]:
    """The lists of a list column, cut from its values."""
    cuts = [flat[start:end] for start, end in pairwise(column.offsets.to_numpy().tolist())]
    if not column.null_count:
        return cuts
    return [cut if valid else None for cut, valid in zip(cuts, column.is_valid().to_pylist(), strict=True)]


def _flat(values: Any) -> list[Any]:
    import pyarrow as pa

    if pa.types.is_floating(values.type):
        numbers = values.to_numpy(zero_copy_only=False)  # null becomes NaN, and no NaN was written
        return numbers.tolist() if np.isfinite(numbers).all() else [_said(number) for number in numbers.tolist()]
    if pa.types.is_integer(values.type):
        return list(values.to_numpy(zero_copy_only=False).tolist())
    return list(values.to_pylist())


def _said(number: float | None) -> Any:
    """A number as JSON lines have it."""
    if number is None or number != number:
        return None
    return number if abs(number) != np.inf else str(number)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _arrow_errors(path: Path) -> Iterator[None]:
    """Whatever pyarrow raises about a damaged file becomes a CurriculaError with the file's name."""
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OverflowError, KeyError) as error:
        raise CurriculaError(f"{path}: cannot be read as a compacted part ({error}); restore it from a copy") from error
