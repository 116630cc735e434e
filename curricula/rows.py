"""Rows of data sets: columns by dotted paths, and the ids of prompts that have none.

Pools, prompt files and imported logs take ids from here, so that the same prompt has the same id in all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

MISSING = object()
CHATML = "<|im_start|>"
_JSON = json.JSONEncoder(ensure_ascii=False, sort_keys=True, default=str)

Row = Mapping[str, Any]


def first(row: Row, paths: Sequence[str]) -> Any:
    """The value of the first of these dotted paths that the row has, or MISSING."""
    for path in paths:
        value = row[path] if path in row else reach(row, path)
        if value is not MISSING:
            return value
    return MISSING


def reach(row: Any, path: str) -> Any:
    """The value at a dotted path, or MISSING; a column whose own name has dots wins."""
    if not isinstance(row, dict) and not isinstance(row, Mapping):  # the former is quicker to tell
        return MISSING
    if path in row:
        return row[path]
    head, dot, rest = path.partition(".")
    return reach(row[head], rest) if dot and head in row else MISSING


def id_from_text(distribution: str, content: Any) -> str:
    """The id of a prompt that has none: a hash of its text (or chat messages) and distribution."""
    text = f"[{_JSON.encode(distribution)}, {_JSON.encode(content)}]"
    return f"{distribution}/{hashlib.sha256(text.encode(errors='surrogatepass')).hexdigest()[:16]}"


def prompt_content(value: Any) -> str | list[dict[str, str]] | None:
    """A prompt as it is hashed: its text, or role and content of its chat messages; None for what is neither.

    One message that already holds a rendered ChatML conversation is text (see `rollout.tasks.prompt_file`).
    """
    if isinstance(value, str):
        return value or None
    if not isinstance(value, Sequence) or not value:
        return None
    if not all(isinstance(message, Mapping) and {"role", "content"} <= message.keys() for message in value):
        return None
    if len(value) == 1 and str(value[0]["content"]).startswith(CHATML):
        return str(value[0]["content"])
    return [{"role": str(message["role"]), "content": str(message["content"])} for message in value]
