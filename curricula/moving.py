"""A number that follows the mean score of the batches: once per step, however the step's groups come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from curricula.groups import scored
from curricula.types import Feedback, Floats, Ints


class Moving(NamedTuple):
    """The number before and after the newest step, and that step's scores so far."""

    before: Floats  # ()
    now: Floats  # ()
    step: Ints  # () newest step learned from; -1 before the first
    total: Floats  # () sum of its scores
    n_scored: Ints  # ()


def starting_at(value: float) -> Moving:
    """Nothing learned yet."""
    return Moving(np.array(value), np.array(value), np.array(-1, np.int64), np.array(0.0), np.array(0, np.int64))


def moved(state: Moving, feedback: Feedback, move: Callable[[float, float], float]) -> Moving:
    """The number after this feedback: ``move(number before the step, mean score of the step)``.

    A step that comes back in parts moves the number once, by the mean of all its parts. Steps older than the newest come too late.
    """
    step, (score, _) = feedback.plan.step, scored(feedback.outcome)
    if step < int(state.step) or not len(score):
        return state
    same = step == int(state.step)
    before = float(state.before if same else state.now)
    total = float(state.total) * same + float(score.sum())
    n_scored = int(state.n_scored) * same + len(score)
    now = move(before, total / n_scored)
    return Moving(np.array(before), np.array(now), np.array(step, np.int64), np.array(total), np.array(n_scored, np.int64))
