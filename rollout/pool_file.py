"""A prompt pool straight from JSONL or Parquet files, for loops that are not ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from curricula.datasets import PoolColumns, pool_from_rows
from curricula.types import PromptPool
from rollout.rows import read_rows


def pool_from_file(
    path: str | Path | Iterable[str | Path],
    *,
    prompt: str = "prompt",
    id: str | None = None,
    distribution: str | Sequence[str] | Callable[[Mapping[str, Any]], str] | None = None,
    prior_pass_rate: str | None = None,
    features: Sequence[str] = (),
    repeated: Literal["refuse", "number"] = "refuse",
) -> PromptPool:
    """The pool of one file, or of several one after the other; columns as in `PromptPool.from_dataset`.

    Reads row by row and keeps no texts. Errors: CurriculaError that names file and line.
    """
    paths = [path] if isinstance(path, str | Path) else list(path)
    columns = PoolColumns(prompt, id, distribution, prior_pass_rate, features, repeated)
    return pool_from_rows((row for one in paths for row in read_rows(Path(one))), columns)
