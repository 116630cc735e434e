"""A replay for programs: plain numbers, lists and texts, for JSON. Keys and units are those of the records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from replay.estimators import NotEstimable
from replay.evaluate import NEVER_TOLD, Missing, Replay

VERSION = 1


def document(found: Replay) -> dict[str, Any]:
    """The whole replay. A number that the log does not tell is ``{"not_estimable": reason}``; one without bounds is null.

    >>> plain(Missing("the log lacks tokens"))
    {'not_estimable': 'the log lacks tokens'}
    """
    return {"version": VERSION, "what_no_log_tells": dict(NEVER_TOLD), **plain(found)}


def plain(value: Any) -> Any:
    """Records as mappings, arrays as lists, numbers that JSON does not have as null."""
    if isinstance(value, Missing | NotEstimable):
        return {"not_estimable": value.reason}
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if math.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value
