"""The groups of this project's own log in pieces: whole columns where the log is compacted, records where it is not.

From compacted parts no object is made per rollout: Parquet columns become NumPy arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curricula.types import Codes, Floats, Ints, Status
from rollout.compacted import begin_of, check_part, fields_of, part_batches, records_in, records_of
from rollout.journal import Line, record_of
from rollout.log import LOST, ROLLOUTS, committed_records, completed
from rollout.log_fields import Record, checked

NEEDED = ("step", "attempt", "round", "prompt", "distribution", "propensity", "probability", "kept")
NEEDED_R = ("rewards", "statuses", "n_tokens", "versions")
STATUS = {status.name.lower(): int(status) for status in Status}


class GroupColumns(NamedTuple):
    """Groups that follow one another, _B in number, with their _R rollouts."""

    prompts: list[str]  # ids in the order of their first group here
    distributions: list[str]  # of these prompts
    prompt_B: Ints  # place in ``prompts``
    step_B: Ints
    attempt_B: Ints
    round_B: Ints
    propensity_B: Floats
    probability_B: Floats
    kept_B: Codes
    size_B: Ints  # rollouts
    reward_R: Floats  # NaN = none
    status_R: Codes
    n_tokens_R: Ints
    version_R: Ints


def logged(folder: Path) -> Iterator[GroupColumns | Record]:
    """All that `rollout.log.read_log` gives but steps and evaluations; a group is in columns or a record of its own.

    Groups keep their order among each other, attempts come after their groups. Errors: as `read_log`.
    """
    path = folder / ROLLOUTS
    begin = begin_of(path)
    for part in begin.parts:
        file = path.parent / part.name
        check_part(file, part)
        yield from (
            _columns(file) if _is_plain(file) else _groups_and_attempts(committed_records(records_in(file, part, fields_of(path))))
        )
    yield from _groups_and_attempts(committed_records(records_of(path, begin._replace(parts=()))))


def _groups_and_attempts(records: Iterator[Record]) -> Iterator[Record]:
    return (record for record in records if record["kind"] in ("group", "attempt"))


def _is_plain(file: Path) -> bool:
    """Whether every group lies in the columns that are needed, and no commit of the part has lost a line."""
    import pyarrow.compute as pc  # type: ignore[import-untyped]

    needed = {*NEEDED, *NEEDED_R}
    for batch in part_batches(file, ["_kind", "_keys"], ["_kind", "_keys"]):
        kind, keys = batch.column("_kind"), batch.column("_keys")
        groups = pc.equal(kind.cast("string"), "group")
        if kind.null_count or LOST in kind.dictionary.to_pylist() or pc.any(pc.and_(groups, keys.is_null())).as_py():
            return False
        if not all(needed <= set(names.split(",")) for names in keys.dictionary.to_pylist()):
            return False
    return True


def _columns(file: Path) -> Iterator[GroupColumns | Record]:
    import pyarrow.compute as pc

    names = ["_kind", "_line", *NEEDED, *NEEDED_R]
    number = 0
    for batch in part_batches(file, names, ["_kind", "prompt", "distribution", "statuses.list.element"]):
        kind = batch.column("_kind").cast("string")
        groups = batch.filter(pc.equal(kind, "group"))
        if groups.num_rows:
            yield _group_columns(groups)
        for at in np.flatnonzero(pc.equal(kind, "attempt").to_numpy(zero_copy_only=False)).tolist():
            place = f"{file}: record {number + at + 1}"
            line = Line(number + at + 1, 0, 0, batch.column("_line")[at].as_py())
            yield completed(checked(record_of(line, file), place))
        number += batch.num_rows


def _group_columns(groups: Any) -> GroupColumns:
    import pyarrow.compute as pc

    prompts, prompt_B = _codes(groups.column("prompt"))
    names, distribution_B = _codes(groups.column("distribution"))
    _, first = np.unique(prompt_B, return_index=True)
    statuses, status_R = _codes(groups.column("statuses").flatten())
    code = np.array([STATUS[status] for status in statuses], dtype=np.uint8)
    return GroupColumns(
        prompts=prompts,
        distributions=[names[k] for k in distribution_B[first].tolist()],
        prompt_B=prompt_B,
        step_B=_numbers(groups.column("step")),
        attempt_B=_numbers(groups.column("attempt")),
        round_B=_numbers(groups.column("round")),
        propensity_B=_numbers(groups.column("propensity")),
        probability_B=_numbers(groups.column("probability")),
        kept_B=_numbers(groups.column("kept")).astype(np.uint8),
        size_B=_numbers(pc.list_value_length(groups.column("rewards"))).astype(np.int64),
        reward_R=_numbers(groups.column("rewards").flatten()).astype(np.float64),
        status_R=code[status_R] if len(status_R) else np.empty(0, np.uint8),
        n_tokens_R=_numbers(groups.column("n_tokens").flatten()),
        version_R=_numbers(groups.column("versions").flatten()),
    )


def _numbers(column: Any) -> np.ndarray:
    """As NumPy; null becomes NaN."""
    array: np.ndarray = column.to_numpy(zero_copy_only=False)
    return array


def _codes(column: Any) -> tuple[list[str], Ints]:
    """The names of a dictionary column in the order of their first row, and each row's place among them."""
    codes = _numbers(column.indices).astype(np.int64)
    used, first = np.unique(codes, return_index=True)
    used = used[np.argsort(first)]
    place = np.empty(len(column.dictionary), dtype=np.int64)
    place[used] = np.arange(len(used))
    names = column.dictionary.take(used).to_pylist() if len(used) else []
    return names, place[codes]
