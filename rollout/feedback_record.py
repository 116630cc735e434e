"""Plans and feedback as plain values for a line of JSON, and back, bit for bit.

Arrays go as their bytes in base64 with dtype and shape, records by the names of their fields, so a field that a later release
adds comes back as its default from an older line.
"""

from __future__ import annotations

import base64
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from curricula.types import CurriculaError, Cuts, Feedback, Outcome, Refill, RolloutPlan, Selection, Verdict

_RECORDS: dict[str, type] = {kind.__name__: kind for kind in (Feedback, Outcome, RolloutPlan, Selection, Verdict, Cuts)}


def packed(value: Any) -> Any:
    """The value in terms of JSON."""
    if isinstance(value, np.ndarray):
        data = base64.b64encode(np.ascontiguousarray(value).tobytes()).decode("ascii")
        return {"dtype": value.dtype.str, "shape": list(value.shape), "base64": data}
    if is_dataclass(value) and type(value).__name__ in _RECORDS:
        return {"record": type(value).__name__, "fields": {f.name: packed(getattr(value, f.name)) for f in fields(value)}}
    if isinstance(value, Refill):
        return {"refill": int(value)}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, tuple | list):
        return {"tuple": [packed(item) for item in value]}
    if value is None or isinstance(value, int | float | str):
        return value
    raise CurriculaError(f"feedback: expected arrays, numbers and text, got {type(value).__name__}")


def unpacked(value: Any) -> Any:
    """What was packed. Errors: CurriculaError where the parts of a record do not fit."""
    if not isinstance(value, dict):
        return value
    if "base64" in value:
        flat = np.frombuffer(base64.b64decode(value["base64"]), dtype=np.dtype(value["dtype"]))
        return flat.reshape(value["shape"])
    if "record" in value:
        return _RECORDS[value["record"]](**{name: unpacked(item) for name, item in value["fields"].items()})
    if "refill" in value:
        return Refill(value["refill"])
    return tuple(unpacked(item) for item in value["tuple"])
