"""`curricula log repair`: what a killed writer or a failing disk did to a log, and what can be saved.

A line whose checksum does not fit gives nothing back. It moves to a ``discarded-*`` file, and a line of the same length that says
``lost`` takes its place, so that every other line, commit and checkpoint stays where it is. Readers leave out the commit that a
lost line stood in, whole; texts are lost one by one. What stands behind the last commit moves aside, as it does when a run goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from curricula.types import CurriculaError
from rollout.compacted import Begin, begin_line, begin_of, check_part, found_parts, part_name, replace_file
from rollout.journal import MAX_LINE_BYTES, Line, move_aside, raw_lines, record_of, refuse_special, seal, unseal
from rollout.lock import FolderLock, is_held
from rollout.log import LOST, ROLLOUTS, TEXTS, last_commit, opened
from rollout.log_fields import checked

Kind = Literal["torn end", "uncommitted end", "damaged", "lost before", "beginning", "missing end", "part"]
LOCK = "lock"
_SHORTEST = len(seal({"kind": LOST, "pad": ""}))
_SAYS = re.compile(rb'"(kind|step|group)":"?(\w+)"?')
_COMMIT, _LOST = b'{"kind":"commit"', b'{"kind":"lost"'


class Finding(NamedTuple):
    """One range of bytes that is not, or not yet, part of the log."""

    file: Path
    kind: Kind
    start: int  # byte of the file
    end: int
    holds: str  # what can still be seen of it
    mendable: bool = True

    def __str__(self) -> str:
        return f"{self.file.name}: {self.kind}, bytes {self.start} to {self.end} ({self.end - self.start}): {self.holds}"

    @property
    def is_damage(self) -> bool:
        """Whether something that was committed is gone; the end of a killed run is not."""
        return self.kind not in ("torn end", "uncommitted end", "lost before")


class Mended(NamedTuple):
    """What a repair did."""

    findings: list[Finding]
    aside: list[Path]  # new files with the bytes that were taken out


def examine(folder: Path) -> list[Finding]:
    """Everything in a log's files that is damaged, torn, uncommitted or lost already; changes nothing.

    Errors: CurriculaError where the files are not of a log that this version can read.
    """
    rollouts = _File.of(folder / ROLLOUTS)
    texts = _File.of(folder / TEXTS)
    return [*rollouts.findings(rollouts.committed), *texts.findings(rollouts.texts_bytes + texts.begin.shift)]


def repair(folder: Path) -> Mended:
    """Mend what `examine` finds and can be mended, under the lock of a writer.

    Errors: CurriculaError while a process is writing, or when the disk is full (what was there is still there then).
    """
    lock = FolderLock(folder / LOCK)
    try:
        found, before = examine(folder), set(folder.iterdir())
        for path in (folder / ROLLOUTS, folder / TEXTS):
            _mend(path, [finding for finding in found if finding.file == path and finding.mendable])
        if all(finding.mendable for finding in found):
            _, committed = last_commit(folder)
            for path, end in zip((folder / ROLLOUTS, folder / TEXTS), committed, strict=True):
                if path.exists() or end:
                    opened(path, end).close()
        return Mended(found, sorted(set(folder.iterdir()) - before))
    finally:
        lock.release()


def refuse_writer(folder: Path) -> None:
    """CurriculaError while a process is writing the log."""
    if is_held(folder / LOCK):
        raise CurriculaError(f"{folder}: a process is writing this log; what looks torn may be half written: stop it first")


class _File:
    """One file of the log, line by line, whatever state it is in."""

    def __init__(self, path: Path, begin: Begin, rebuilt: bool) -> None:
        self.path = path
        self.begin = begin
        self.rebuilt = rebuilt  # its first line is lost and has to be made from the parts
        self.commit: Line | None = None
        self.size = 0
        self._broken: list[tuple[int, int, bytes]] = []  # ranges without a valid line, and how they begin
        self._lost: list[Line] = []
        for number, start, raw in raw_lines(path) if path.exists() else ():
            self.size = start + len(raw)
            self._read(Line(number, start, self.size, raw))
        self.whole_until = self._broken[-1][0] if self._broken and self._broken[-1][1] == self.size else self.size

    @classmethod
    def of(cls, path: Path) -> _File:
        refuse_special(path)
        try:
            return cls(path, begin_of(path), rebuilt=False)
        except CurriculaError:
            first = next((raw for _, _, raw in raw_lines(path)), b"") if path.exists() else b""
            if unseal(first) is not None or not (path.parent / part_name(path, 0)).exists():
                raise
            return cls(path, found_parts(path)._replace(header=len(first)), rebuilt=True)

    @property
    def texts_bytes(self) -> int:
        """Bytes of texts as of the last commit."""
        if self.commit is None:
            return self.begin.texts_bytes
        n_bytes: int = checked(record_of(self.commit, self.path), f"{self.path}: line {self.commit.number}")["texts_bytes"]
        return n_bytes

    @property
    def committed(self) -> int:
        """Byte at which the last commit of the file ends."""
        return self.begin.header if self.commit is None else self.commit.end

    def findings(self, committed: int) -> Iterator[Finding]:
        """What is wrong before and behind the byte at which what was committed ends."""
        if self.rebuilt:
            said = f"the line that names {len(self.begin.parts)} compacted parts is lost; they are there"
            yield Finding(self.path, "beginning", 0, self.begin.header, said)
        for part in self.begin.parts:
            try:
                check_part(self.path.parent / part.name, part)
            except CurriculaError as error:
                yield Finding(self.path.parent / part.name, "part", 0, part.end - part.start, str(error), mendable=False)
        for line in self._lost:
            yield Finding(self.path, "lost before", line.start, line.end, "moved to a discarded-* file by an earlier repair")
        for start, end, raw in self._broken:
            if start < committed and end <= self.whole_until:
                yield Finding(self.path, "damaged", start, end, _seen(raw))
        if self.whole_until < committed:
            yield Finding(self.path, "missing end", self.whole_until, committed, "the last commit says that there were texts")
        elif self.size > committed:
            torn = bool(self._broken) and self._broken[-1][1] > committed
            yield Finding(self.path, "torn end" if torn else "uncommitted end", committed, self.size, "behind the last commit")

    def _read(self, line: Line) -> None:
        payload = unseal(line.payload)
        if payload is None:
            if self.rebuilt and line.start == 0:
                return
            joined = bool(self._broken) and self._broken[-1][1] == line.start
            start, _, raw = self._broken.pop() if joined else (line.start, line.start, b"")
            self._broken.append((start, line.end, (raw + line.payload)[: 2**20]))
        elif payload.startswith(_COMMIT):
            self.commit = line._replace(payload=payload)
        elif payload.startswith(_LOST):
            self._lost.append(line)


def _seen(raw: bytes) -> str:
    """What a damaged range still tells of itself."""
    said = [(key.decode(), value.decode()) for key, value in _SAYS.findall(raw)]
    words = list(dict.fromkeys(f"{key} {value}" if key != "kind" else f"a {value} record" for key, value in said))
    return ", ".join(words[:6]) or f"{raw[:24]!r}..."


def _mend(path: Path, findings: list[Finding]) -> None:
    """Lost lines in the place of damaged ones, and a new first line where the old one is gone."""
    ranges = _joined(_wide_enough(path, finding) for finding in findings if finding.kind in ("damaged", "missing end"))
    beginning = next((finding for finding in findings if finding.kind == "beginning"), None)
    if not ranges and beginning is None:
        return
    size = path.stat().st_size if path.exists() else 0
    for start, end in [*ranges, *([(0, beginning.end)] if beginning else [])]:
        if start < min(end, size):
            move_aside(path, start, min(end, size))
    first = begin_line(found_parts(path)) if beginning else b""
    replace_file(path, _mended(path, first, beginning.end if beginning else 0, ranges))


def _mended(path: Path, first: bytes, at: int, ranges: list[tuple[int, int]]) -> Iterator[bytes]:
    """The first line, if there is a new one, and the file from ``at`` on with lost lines for these ranges."""
    yield first
    for start, end in ranges:
        yield from _bytes_of(path, at, start)
        yield from _lost_lines(end - start)
        at = end
    yield from _bytes_of(path, at, path.stat().st_size if path.exists() else 0)


def _bytes_of(path: Path, start: int, end: int) -> Iterator[bytes]:
    if start >= end:
        return
    with path.open("rb") as file:
        file.seek(start)
        while chunk := file.read(min(2**20, end - file.tell())):
            yield chunk


def _wide_enough(path: Path, finding: Finding) -> tuple[int, int]:
    """The range, with the line behind it where it is too short for a lost line."""
    start, end = finding.start, finding.end
    for _, line_start, raw in raw_lines(path) if end - start < _SHORTEST else ():
        if line_start >= end and end - start < _SHORTEST:
            end = line_start + len(raw)
    return start, end


def _joined(ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    joined: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _lost_lines(n_bytes: int) -> Iterator[bytes]:
    """Lines of this many bytes in all that say that they were lost."""
    while n_bytes > 0:
        here = n_bytes if n_bytes < MAX_LINE_BYTES else MAX_LINE_BYTES // 2
        yield seal({"kind": LOST, "pad": "x" * (here - _SHORTEST)})
        n_bytes -= here
