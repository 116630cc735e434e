"""The log as flat tables for other tools: `curricula log export`.

``groups``: one row per group. ``rollouts``: one row per rollout, with the ids of its group. ``steps``: one row per step. Every
column is a number, a text or a truth value; absent numbers are null, infinities are infinities ("inf" in JSON Lines, which have
none). Names are those of the log, in the singular where a list became one value per row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal, Protocol

from curricula.types import CurriculaError
from rollout.log import read_log

Format = Literal["parquet", "jsonl", "arrow", "csv"]
ROWS = 65_536  # written at a time
WHOLE, NUMBER, TEXT, FLAG = "int64", "float64", "string", "bool"

GROUP_COLUMNS: dict[str, str] = {
    "run": TEXT,
    "step": WHOLE,
    "attempt": WHOLE,
    "round": WHOLE,
    "group": WHOLE,
    "prompt": TEXT,
    "distribution": TEXT,
    "propensity": NUMBER,
    "probability": NUMBER,
    "n_asked": WHOLE,
    "n_rollouts": WHOLE,
    "n_ok": WHOLE,
    "reward_mean": NUMBER,
    "reward_min": NUMBER,
    "reward_max": NUMBER,
    "n_tokens": WHOLE,
    "kept": FLAG,
    "reason": TEXT,
    "weight": NUMBER,
    "max_tokens": WHOLE,
    "max_turns": WHOLE,
    "greedy_reward": NUMBER,
    "greedy_status": TEXT,
    "greedy_n_tokens": WHOLE,
    "prompt_hash": TEXT,
    "n_prompt_tokens": WHOLE,
}
ROLLOUT_COLUMNS: dict[str, str] = {
    "run": TEXT,
    "step": WHOLE,
    "attempt": WHOLE,
    "group": WHOLE,
    "rollout": WHOLE,
    "prompt": TEXT,
    "distribution": TEXT,
    "reward": NUMBER,
    "shaped": NUMBER,
    "status": TEXT,
    "n_tokens": WHOLE,
    "finish": TEXT,
    "logprob_sum": NUMBER,
    "version": WHOLE,
    "engine": TEXT,
    "turns": WHOLE,
    "gradient": FLAG,
    "seconds": NUMBER,
}
_EACH = {  # column of a rollout -> list of the group's record
    "reward": "rewards",
    "shaped": "shaped",
    "status": "statuses",
    "n_tokens": "n_tokens",
    "finish": "finish",
    "logprob_sum": "logprob_sums",
    "version": "versions",
    "engine": "engines",
    "turns": "turns",
    "gradient": "gradient",
    "seconds": "seconds",
}
STEP_COLUMNS: dict[str, str] = {
    "run": TEXT,
    "step": WHOLE,
    "n_attempts": WHOLE,
    "n_groups": WHOLE,
    "n_groups_kept": WHOLE,
    "n_rollouts": WHOLE,
    "n_tokens_generated": WHOLE,
    "n_tokens_trained": WHOLE,
    "reward_mean": NUMBER,
    "accuracy": NUMBER,
    "live_group_share": NUMBER,
    "lr": NUMBER,
    "loss": NUMBER,
    "grad_norm": NUMBER,
    "seconds": NUMBER,
}
TABLES = {"groups": GROUP_COLUMNS, "rollouts": ROLLOUT_COLUMNS, "steps": STEP_COLUMNS}
Row = dict[str, Any]


def export(log: Path, target: Path, format: Format) -> dict[str, int]:
    """Write the three tables of a log into a folder, streaming; returns how many rows each has.

    Errors: CurriculaError where a table is there already, or the log is damaged (the unfinished files are removed).
    """
    files = {name: target / f"{name}.{format}" for name in TABLES}
    if there := [file for file in files.values() if file.exists()]:
        raise CurriculaError(f"{there[0]}: it is there already; export into another folder, or move it away")
    target.mkdir(parents=True, exist_ok=True)
    n_rows = dict.fromkeys(TABLES, 0)
    with ExitStack() as stack:
        for file in files.values():
            stack.callback(_part(file).unlink, missing_ok=True)
        with ExitStack() as writing:
            tables = {name: writing.enter_context(_Table(_part(file), TABLES[name], format)) for name, file in files.items()}
            for name, row in _rows(log):
                tables[name].add(row)
                n_rows[name] += 1
        for file in files.values():
            _part(file).replace(file)
    return n_rows


def _part(file: Path) -> Path:
    return file.with_name(f"{file.name}.part")


def _rows(log: Path) -> Iterator[tuple[str, Row]]:
    n_attempts: dict[int, int] = {}
    for record in read_log(log):
        if record["kind"] == "group":
            yield "groups", _group_row(record)
            yield from (("rollouts", row) for row in _rollout_rows(record))
        elif record["kind"] == "attempt":
            n_attempts = {record["step"]: n_attempts.get(record["step"], 0) + 1}
        elif record["kind"] == "step":
            yield "steps", _step_row(record, n_attempts.get(record["step"], 0))


def _group_row(group: Mapping[str, Any]) -> Row:
    rewards = [_number(reward) for reward in group["rewards"]]
    scored = [reward for reward, status in zip(rewards, group["statuses"], strict=True) if status == "ok" and reward is not None]
    greedy = group["greedy"] or {}
    row = {name: group.get(name) for name in GROUP_COLUMNS}
    return row | {
        "n_rollouts": len(rewards),
        "n_ok": group["statuses"].count("ok"),
        "reward_mean": sum(scored) / len(scored) if scored else None,
        "reward_min": min(scored, default=None),
        "reward_max": max(scored, default=None),
        "n_tokens": sum(group["n_tokens"]),
        "greedy_reward": greedy.get("reward"),
        "greedy_status": greedy.get("status"),
        "greedy_n_tokens": greedy.get("n_tokens"),
    }


def _rollout_rows(group: Mapping[str, Any]) -> Iterator[Row]:
    shared = {name: group[name] for name in ("run", "step", "attempt", "group", "prompt", "distribution")}
    n = len(group["rewards"])
    columns = {name: group.get(source) or [None] * n for name, source in _EACH.items()}
    for r in range(n):
        row = shared | {name: column[r] for name, column in columns.items()}
        yield row | {"rollout": r, "gradient": bool(row["gradient"])}


def _step_row(record: Mapping[str, Any], n_attempts: int) -> Row:
    row = {name: record.get(name) for name in STEP_COLUMNS}
    named = {"n_attempts": n_attempts, "n_groups": record.get("generated_groups"), "n_groups_kept": record.get("kept_groups")}
    return row | named


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


class _Writer(Protocol):
    def write_batch(self, batch: Any) -> None: ...

    def close(self) -> None: ...


class _Table:
    """One file that gets its rows in batches of columns."""

    def __init__(self, path: Path, columns: Mapping[str, str], format: Format) -> None:
        import pyarrow as pa  # type: ignore[import-untyped]

        self._columns = columns
        self._schema = pa.schema([(name, pa.type_for_alias(type)) for name, type in columns.items()])
        self._writer = _writer(path, self._schema, format)
        self._rows: list[Row] = []

    def __enter__(self) -> _Table:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def add(self, row: Row) -> None:
        self._rows.append(row)
        if len(self._rows) >= ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        arrays = [
            pa.array([_plain(row[name], type) for row in self._rows], pa.type_for_alias(type))
            for name, type in self._columns.items()
        ]
        self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        self._rows.clear()


def _plain(value: Any, type: str) -> Any:
    if type == TEXT and value is not None:
        return str(value).encode(errors="replace").decode()  # lone surrogates have no place in these formats
    return _number(value) if type == NUMBER else value


class _JsonLines:
    """JSON Lines in the words of the log: null for absent numbers, "inf" for infinities."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb")

    def write_batch(self, batch: Any) -> None:
        import json

        from rollout.journal import plain

        for row in batch.to_pylist():
            self._file.write(json.dumps(plain(row), separators=(",", ":"), allow_nan=False).encode() + b"\n")

    def close(self) -> None:
        self._file.close()


def _writer(path: Path, schema: Any, format: Format) -> _Writer:
    import pyarrow as pa
    import pyarrow.csv as csv  # type: ignore[import-untyped]
    from pyarrow.parquet import ParquetWriter  # type: ignore[import-untyped]

    makers: dict[str, Callable[[], Any]] = {
        "parquet": lambda: ParquetWriter(path, schema, compression="zstd"),
        "arrow": lambda: pa.ipc.new_file(str(path), schema),
        "csv": lambda: csv.CSVWriter(str(path), schema),
        "jsonl": lambda: _JsonLines(path),
    }
    writer: _Writer = makers[format]()
    return writer
