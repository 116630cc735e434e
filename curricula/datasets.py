"""A prompt pool from somebody's data set: columns become ids, distributions and numbers; texts are hashed and let go.

A data set is asked for nothing but rows or columns, so Hugging Face's, pandas' and plain lists fit, and none of them is imported.
"""

from __future__ import annotations

import difflib
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from curricula.rows import MISSING, Row, first, id_from_text, prompt_content
from curricula.types import CurriculaError, PromptPool

ROWS_AT_A_TIME = 1000  # of a Hugging Face data set

Distribution = str | Sequence[str] | Callable[[Row], str] | None
Repeated = Literal["refuse", "number"]


@dataclass(frozen=True)
class PoolColumns:
    """Which columns of a data set say what; dotted paths reach into nested ones (see `PromptPool.from_dataset`)."""

    prompt: str = "prompt"
    id: str | None = None
    distribution: Distribution = None
    prior_pass_rate: str | None = None
    features: Sequence[str] = ()
    repeated: Repeated = "refuse"

    def __post_init__(self) -> None:
        if self.repeated not in ("refuse", "number"):
            raise CurriculaError(f"data set: repeated: expected 'refuse' or 'number', got {self.repeated!r}")
        if isinstance(self.features, str):
            object.__setattr__(self, "features", (self.features,))

    @property
    def read(self) -> tuple[str, ...] | None:
        """The columns that must be there; None where a function may look at any."""
        if callable(self.distribution):
            return None
        named = (self.distribution,) if isinstance(self.distribution, str) else tuple(self.distribution or ())
        optional = (self.prior_pass_rate,) if self.prior_pass_rate else ()
        return (self.id or self.prompt, *named, *optional, *self.features)


def pool_from_rows(rows: Iterable[tuple[object, Row]], columns: PoolColumns) -> PromptPool:
    """The pool of rows that come with the place where each stands, for messages. Keeps ids and numbers, no texts."""
    row_of: dict[str, int] = {}  # by id, in the order of the rows
    copies: dict[str, int] = {}
    names: dict[str, int] = {}
    name_N, prior_N, feature_NF = array("q"), array("d"), array("f")
    n_features: int | None = None
    for place, row in rows:
        if not isinstance(row, Mapping):
            raise CurriculaError(f"{place}: expected a row with columns (a mapping), got {_shown(row)}")
        distribution = _distribution(row, columns.distribution, place)
        id = _id(row, columns, distribution, place)
        if id in row_of:
            id = _numbered(id, row_of, copies, columns, place)
        row_of[id] = len(row_of)
        name_N.append(names.setdefault(distribution, len(names)))
        prior_N.append(_prior(row, columns.prior_pass_rate, place) if columns.prior_pass_rate else math.nan)
        numbers = [number for name in columns.features for number in _numbers(row, name, place)]
        if n_features is not None and len(numbers) != n_features:
            raise CurriculaError(f"{place}: {len(numbers)} features, before it were {n_features}; expected as many in every row")
        n_features = len(numbers)
        feature_NF.extend(numbers)
    if not row_of:
        raise CurriculaError("data set: it has no rows; expected one prompt per row")
    return _pool(row_of, names, name_N, prior_N, np.frombuffer(feature_NF, np.float32).reshape(len(row_of), n_features or 0))


def numbered_rows(data: Any, columns: PoolColumns) -> Iterator[tuple[object, Row]]:
    """The rows of a data set with their numbers, from 0 as in the pool.

    ``data``: a Hugging Face data set (also a streamed one), columns by name (a dict of lists, a pandas table), or an iterable of
    mappings. Errors: CurriculaError for what is none of these, and for a missing column with the nearest name.
    """
    if isinstance(data, str | Path):
        raise CurriculaError(f"data set: got the path {str(data)!r}; read files with rollout.pool_file.pool_from_file(path)")
    rows = _row_iterator(data, columns)
    return ((f"row {i}", row) for i, row in enumerate(rows))


def _row_iterator(data: Any, columns: PoolColumns) -> Iterator[Row]:
    if isinstance(data, Mapping):
        splits = [str(name) for name, value in data.items() if hasattr(value, "column_names") or isinstance(value, Mapping)]
        if splits:
            raise CurriculaError(f"data set: it has the splits {', '.join(splits)}; give one of them, dataset[{splits[0]!r}]")
        return _by_column(data, tuple(map(str, data)), columns)
    if hasattr(data, "select_columns") and hasattr(data, "iter"):  # Hugging Face: only the columns that are read are decoded
        return _by_batch(data, columns)
    if hasattr(data, "columns") and hasattr(data, "iloc"):  # pandas
        return _by_column(data, tuple(map(str, data.columns)), columns)
    if not isinstance(data, Iterable) and not hasattr(data, "__getitem__"):
        raise CurriculaError(f"data set: expected rows or columns, got {_shown(data)}; a list of dicts will do")
    return iter(data)


def _by_column(data: Any, known: Sequence[str], columns: PoolColumns) -> Iterator[Row]:
    names = _needed(known, columns)
    lengths = {name: len(data[name]) for name in names}
    if len(set(lengths.values())) > 1:
        raise CurriculaError(f"data set: columns of different lengths: {', '.join(f'{n} {c}' for n, c in lengths.items())}")
    return (dict(zip(names, values, strict=True)) for values in zip(*(data[name] for name in names), strict=True))


def _by_batch(data: Any, columns: PoolColumns) -> Iterator[Row]:
    known = data.column_names
    if known is not None:  # a stream may not know its columns before its first row
        data = data.select_columns(list(_needed(known, columns)))
    for batch in data.iter(batch_size=ROWS_AT_A_TIME):
        names = list(batch)
        yield from (dict(zip(names, values, strict=True)) for values in zip(*(batch[name] for name in names), strict=True))


def _needed(known: Sequence[str], columns: PoolColumns) -> tuple[str, ...]:
    """The top-level columns that are read; CurriculaError for one that is not there."""
    if columns.read is None:
        return tuple(known)
    tops = []
    for name in columns.read:
        top = name if name in known else name.partition(".")[0]
        if top not in known:
            raise _no_column("data set", name, known)
        tops.append(top)
    usual = ("data_source",) if columns.distribution is None and "data_source" in known else ()
    return tuple(dict.fromkeys((*tops, *usual)))


def _value(row: Row, name: str, place: object) -> Any:
    value = first(row, (name,))
    if value is MISSING:
        raise _no_column(str(place), name, [str(key) for key in row])
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _distribution(row: Row, of: Distribution, place: object) -> str:
    if of is None:
        found = first(row, ("data_source",))
        return "all" if found in (MISSING, None) else str(found)
    if callable(of):
        return _name(of(row), "the function that names distributions", place)
    if isinstance(of, str):
        return _name(_value(row, of, place), f"column {of!r}", place)
    return "/".join(_name(_value(row, name, place), f"column {name!r}", place) for name in of)


def _name(value: Any, source: str, place: object) -> str:
    plain = isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
    if not plain or value == "":
        raise CurriculaError(f"{place}: {source}: expected the name of a distribution (text or a number), got {_shown(value)}")
    return str(value)


def _id(row: Row, columns: PoolColumns, distribution: str, place: object) -> str:
    if columns.id is not None:
        value = _value(row, columns.id, place)
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            raise CurriculaError(f"{place}: column {columns.id!r}: expected an id (text or a whole number), got {_shown(value)}")
        return str(value)
    value = _value(row, columns.prompt, place)
    content = prompt_content(value)
    if content is None:
        raise CurriculaError(
            f"{place}: column {columns.prompt!r}: expected text or chat messages with role and content, got {_shown(value)}"
        )
    return id_from_text(distribution, content)


def _numbered(id: str, row_of: Mapping[str, int], copies: dict[str, int], columns: PoolColumns, place: object) -> str:
    """Another id for the same one come again, by a number behind it; CurriculaError naming both rows where that is not wanted."""
    if columns.repeated == "refuse":
        source = f"column {columns.id!r}" if columns.id is not None else f"a hash of column {columns.prompt!r} and the distribution"
        raise CurriculaError(
            f"{place}: prompt id {id!r} ({source}) was there before, in row {row_of[id]} of the data (the first is 0); drop "
            "repeated rows, name a unique id column, or keep all with repeated='number'"
        )
    while (candidate := f"{id}#{copies.setdefault(id, 2)}") in row_of:
        copies[id] += 1
    return candidate


def _prior(row: Row, name: str, place: object) -> float:
    value = _value(row, name, place)
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 <= value <= 1 or math.isnan(value)):
        raise CurriculaError(f"{place}: column {name!r}: expected a pass rate in [0, 1] or null, got {_shown(value)}")
    return float(value)


def _numbers(row: Row, name: str, place: object) -> list[float]:
    value = _value(row, name, place)
    numbers = value if isinstance(value, list | tuple) else [value]
    for number in numbers:
        if not isinstance(number, int | float) or not math.isfinite(number):
            raise CurriculaError(f"{place}: column {name!r}: expected a finite number or a list of them, got {_shown(value)}")
    return [float(number) for number in numbers]


def _pool(ids: Iterable[str], names: Mapping[str, int], name_N: array[int], prior_N: array[float], feature_NF: Any) -> PromptPool:
    ordered = sorted(names)
    rank = {name: k for k, name in enumerate(ordered)}
    place_K = np.fromiter((rank[name] for name in names), np.int64, len(names))
    return PromptPool(
        ids=np.asarray(list(ids), dtype=np.str_),
        distribution_N=place_K[np.asarray(name_N)],
        distribution_names=tuple(ordered),
        prior_pass_rate_N=np.asarray(prior_N),
        features_NF=feature_NF if feature_NF.shape[1] else None,
    )


def _no_column(where: str, name: str, known: Sequence[str]) -> CurriculaError:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return CurriculaError(f"{where}: no column {name!r}{hint}; it has {', '.join(map(str, known[:20])) or 'none'}")


def _shown(value: Any) -> str:
    return f"{repr(value)[:60]} ({type(value).__name__})"
