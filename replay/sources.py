"""Any log: this project's own, or that of another trainer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curricula.types import PromptPool
from replay.importers import read
from replay.own_run import log_folder, own_run
from replay.types import LoggedRun


def load(path: str | Path, format: str | Mapping[str, Any] | None = None, pool: PromptPool | None = None) -> LoggedRun:
    """The log at ``path``: the folder of a run of this project, or a file or folder in one of the known formats.

    ``format`` as in `replay.importers.read`; ``pool`` is the one that a run of this project chose from.
    """
    path = Path(path)
    if format is None and log_folder(path) is not None:
        return own_run(path, pool)
    return read(path, format)
