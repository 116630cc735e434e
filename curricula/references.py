"""The newest prompts that came back, with what came of them: what beliefs that compare prompts answer from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.evidence import Evidence
from curricula.growth import row_in
from curricula.types import Bools, Floats, Ints, PromptPool


class References(NamedTuple):
    """A ring of W places; an empty place has prompt -1."""

    prompt_W: NDArray[np.int64]
    success_W: Floats  # sum of the scores
    n_W: Floats  # scored rollouts
    n_written: NDArray[np.int64]  # () prompts ever written


def no_references(size: int) -> References:
    """An empty ring."""
    return References(np.full(size, -1, np.int64), np.zeros(size), np.zeros(size), np.array(0, np.int64))


def remembered(state: References, seen: Evidence, once: bool = False) -> References:
    """The ring with these prompts written over the oldest places; with ``once``, older entries of the same prompts go."""
    if once:
        state.prompt_W[np.isin(state.prompt_W, seen.prompt_B)] = -1
    size, n_new = len(state.prompt_W), len(seen.prompt_B)
    stays = np.arange(max(0, n_new - size), n_new)
    place = (int(state.n_written) + stays) % size
    state.prompt_W[place] = seen.prompt_B[stays]
    state.success_W[place] = seen.success_B[stays]
    state.n_W[place] = seen.n_B[stays]
    return state._replace(n_written=state.n_written + np.int64(n_new))


def filled(state: References) -> Bools:
    """(W,) places that hold something."""
    there: Bools = state.prompt_W >= 0
    return there


def ages(state: References) -> Ints:
    """(W,) how many prompts were written after each."""
    size = len(state.prompt_W)
    return (int(state.n_written) - 1 - np.arange(size)) % size


def carried_references(state: References, old: PromptPool, new: PromptPool) -> References:
    """The ring in a larger pool, where prompts have other rows."""
    there = filled(state)
    prompt_W = np.full_like(state.prompt_W, -1)
    prompt_W[there] = row_in(old, new)[state.prompt_W[there]]
    return state._replace(prompt_W=prompt_W)
