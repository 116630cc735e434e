"""Append-only files of checked lines: what a killed writer leaves behind can be told from what was damaged later.

A line is one JSON object whose last key is the CRC32 of everything before it, so the file stays ordinary JSON Lines::

    {"kind":"step","step":3,"crc32":"9a0f11c2"}

A writer that dies leaves a tail without a valid line; `scan` ends there. An invalid line with a valid one behind it
is damage, and is refused with its place. Nothing is ever deleted: what is cut off moves to a ``discarded-*`` file.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curricula.types import CurriculaError

MAX_LINE_BYTES = 256 * 2**20  # a longer "line" is not ours
_SEAL = len(b',"crc32":"00000000"}')
_FULL = {
    errno.ENOSPC: "no space left on the device",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file size limit is reached",
}


class Line(NamedTuple):
    """One valid line: where it begins and ends in the file, and its bytes without checksum."""

    number: int  # 1 = first
    start: int
    end: int
    payload: bytes


def seal(record: dict[str, Any]) -> bytes:
    """The line of a record, checksum and newline included; NaN becomes null, infinities "inf" and "-inf"."""
    payload = json.dumps(plain(record), separators=(",", ":"), allow_nan=False).encode("ascii")
    return b'%s,"crc32":"%08x"}\n' % (payload[:-1], zlib.crc32(payload))


def unseal(line: bytes) -> bytes | None:
    """The payload of a line (newline included), or None when the line is not whole."""
    payload = line[: -_SEAL - 1] + b"}"
    return payload if line.endswith(b',"crc32":"%08x"}\n' % zlib.crc32(payload)) else None


def plain(value: Any) -> Any:
    """The value in terms of JSON: arrays as lists, numbers as Python's own, no NaN."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return None if np.isnan(value) else str(value)
    return value


def scan(path: Path) -> Iterator[Line]:
    """The valid lines of a file in order; a torn tail ends the iteration quietly.

    Errors: CurriculaError with file, line and offset when a valid line follows an invalid one.
    """
    broken: Line | None = None
    for number, start, line in raw_lines(path):
        payload = unseal(line)
        if payload is None:
            broken = broken or Line(number, start, start + len(line), line)
        elif broken is not None:
            raise CurriculaError(
                f"{path}: line {broken.number} at byte {broken.start} is damaged (its checksum does not fit, and line {number} "
                "behind it is whole, so this is no torn end of a killed run); restore the file from a copy, or move it away"
            )
        else:
            yield Line(number, start, start + len(line), payload)


def raw_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Number, place and bytes of whatever stands between line ends, whole or not."""
    refuse_special(path)
    start, number = 0, 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size  # of now: a writer may be adding to it
        while line := file.readline(min(MAX_LINE_BYTES, size - start)):
            number += 1
            yield number, start, line
            start += len(line)


def record_of(line: Line, path: Path) -> dict[str, Any]:
    """The record of a valid line; CurriculaError when it is no JSON object (a checksum keeps out accidents, not malice)."""
    try:
        record = json.loads(line.payload)
    except (ValueError, RecursionError) as error:
        raise CurriculaError(f"{path}: line {line.number} at byte {line.start} is not JSON: {error}") from None
    if not isinstance(record, dict):
        raise CurriculaError(f"{path}: line {line.number} at byte {line.start} holds a {type(record).__name__}, expected an object")
    return record


class AppendFile:
    """One file that only grows, and shrinks only by moving its end aside. ``end`` is what has been committed.

    Ends count the bytes of all lines that were ever in the file; ``shift`` leads from them to places in the file, where earlier
    lines were compacted away. Errors: CurriculaError where the path is a link, a folder or a device.
    """

    def __init__(self, path: Path, end: int, shift: int = 0) -> None:
        self.path = path
        self.end = end
        self._shift = shift
        refuse_special(path)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        sync_path(path.parent)
        self.cut(end)

    def append(self, data: bytes) -> None:
        """Write and sync; after any failure the file is as it was before.

        Errors: CurriculaError when the disk is full, a quota is used up or the file size limit is reached.
        """
        if not data:
            return
        try:
            self._write(data)
            os.fsync(self._fd)
        except BaseException as error:  # a signal's exception too must not leave half a line
            os.ftruncate(self._fd, self.end + self._shift)
            if isinstance(error, OSError) and error.errno in _FULL:
                raise _disk_full(self.path, len(data), error) from error
            raise
        self.end += len(data)

    def revoke(self, end: int) -> None:
        """Take back an append whose companion file could not be written."""
        os.ftruncate(self._fd, end + self._shift)
        self.end = end

    def cut(self, end: int) -> None:
        """Move everything behind ``end`` into a ``discarded-*`` file beside this one."""
        size, place = os.fstat(self._fd).st_size, end + self._shift
        if size > place:
            move_aside(self.path, place, size)
            os.ftruncate(self._fd, place)
            os.fsync(self._fd)
        self.end = end

    def close(self) -> None:
        os.close(self._fd)

    def _write(self, data: bytes) -> None:
        view, at = memoryview(data), self.end + self._shift
        while view:
            n = os.pwrite(self._fd, view, at)
            view, at = view[n:], at + n


def refuse_special(path: Path) -> None:
    """CurriculaError where the path is there and no ordinary file: a link leads elsewhere, a pipe would block."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise CurriculaError(f"{path}: expected an ordinary file of the log, got a link, a folder or a device; move it away")


def sync_path(path: Path) -> None:
    """Make a file's content durable, or what was created and renamed in a folder."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def move_aside(path: Path, start: int, end: int) -> Path:
    """Copy bytes of a file, durably, into a new ``discarded-*`` file beside it, whose name is returned.

    Errors: CurriculaError when the disk is full; there is no new file then.
    """
    target = _unused(path.parent / f"discarded-{path.stem}-from-byte-{start}{path.suffix}")
    try:
        with path.open("rb") as source, target.open("xb") as copy:
            source.seek(start)
            while chunk := source.read(min(2**20, end - source.tell())):
                copy.write(chunk)
            copy.flush()
            os.fsync(copy.fileno())
    except OSError as error:
        target.unlink(missing_ok=True)
        if error.errno in _FULL:
            raise _disk_full(target, end - start, error) from error
        raise
    sync_path(path.parent)
    return target


def _unused(path: Path) -> Path:
    candidate, n = path, 1
    while candidate.exists():
        n += 1
        candidate = path.with_name(f"{path.stem}.{n}{path.suffix}")
    return candidate


def _disk_full(path: Path, n_bytes: int, error: OSError) -> CurriculaError:
    return CurriculaError(
        f"{path}: {_FULL[error.errno or errno.ENOSPC]}; {n_bytes} bytes were to be written. The last commit is intact and the "
        "file ends with it: make room, then start the run again with --resume"
    )
