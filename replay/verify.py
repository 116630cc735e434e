"""Is a checkpoint what its log says? The log is folded into a fresh curriculum, and the two states are compared bit for bit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula import Curriculum
from curricula.types import CurriculaError
from replay.own_log import Advantages, LoggedStep, logged_steps
from rollout.grown import grown_pool


class Difference(NamedTuple):
    """Where two states part."""

    key: str
    place: int  # in the flattened array; -1 where shape or dtype differ
    folded: str
    saved: str

    def __str__(self) -> str:
        where = f"{self.key}[{self.place}]" if self.place >= 0 else self.key
        return f"{where}: the log gives {self.folded}, the checkpoint has {self.saved}"


def fold_log(
    curriculum: Curriculum,
    folder: Path,
    until: int,
    advantages: Advantages | None = None,
    listen: Callable[[LoggedStep], None] | None = None,
) -> int:
    """Let a fresh curriculum learn the log's steps below ``until``, and grow where the run's did; returns how many there were.

    ``listen`` hears of every step that was learned.
    """
    n_steps = 0
    for logged in logged_steps(folder, curriculum.pool, advantages):
        if logged.step >= until:
            break
        curriculum.update(logged.feedbacks)
        if logged.grown is not None:
            curriculum.grow(grown_pool(curriculum.pool, logged.grown))
        if listen is not None:
            listen(logged)
        n_steps += 1
    return n_steps


def first_difference(folded: Mapping[str, NDArray[Any]], saved: Mapping[str, NDArray[Any]]) -> Difference | None:
    """The first key and place at which two states differ in any bit; None where they are the same.

    Errors: CurriculaError when they have other keys.
    """
    if set(folded) != set(saved):
        other = sorted(set(folded) ^ set(saved))
        raise CurriculaError(
            f"states of other curricula: key {other[0]!r} is in one of them only; verify with the run's own recipe"
        )
    for key in sorted(folded):
        ours, theirs = np.asarray(folded[key]), np.asarray(saved[key])
        if (ours.shape, ours.dtype) != (theirs.shape, theirs.dtype):
            return Difference(key, -1, f"{ours.dtype} {ours.shape}", f"{theirs.dtype} {theirs.shape}")
        if ours.tobytes() != theirs.tobytes():
            equal = np.asarray(ours == theirs) | (_nan(ours) & _nan(theirs))
            place = int(np.flatnonzero(~equal.ravel())[0]) if not equal.all() else 0
            return Difference(key, place, repr(ours.ravel()[place]), repr(theirs.ravel()[place]))
    return None


def _nan(array: NDArray[Any]) -> NDArray[np.bool_]:
    return np.isnan(array) if array.dtype.kind == "f" else np.zeros(array.shape, dtype=np.bool_)
