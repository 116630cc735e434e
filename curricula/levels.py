"""Distributions as levels, easiest first: by a stated order, by name, or by pass rate."""

from __future__ import annotations

import re
from typing import Literal

import numpy as np

from curricula.types import CurriculaError, Floats, Ints, PromptPool, known_or_raise

LevelOrder = Literal["name", "prior_pass_rate"]


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key under which numbers inside names count as numbers.

    >>> sorted(["level-10", "level-2", "level-1"], key=natural_key)
    ['level-1', 'level-2', 'level-10']
    """
    parts = re.split(r"([0-9]+)", name)
    return (*((1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts if part), (-1, 0, name))


def natural_order(pool: PromptPool) -> Ints:
    """(K,) distribution indices in the natural order of their names."""
    return np.array(sorted(range(pool.n_distributions), key=lambda k: natural_key(pool.distribution_names[k])), dtype=np.int64)


def named_order(pool: PromptPool, names: tuple[str, ...], key: str) -> Ints:
    """(K,) distribution indices in the order of ``names``. Errors: CurriculaError unless they are the pool's, each once."""
    for name in names:
        known_or_raise(f"distribution in {key}:", name, pool.distribution_names)
    missing = sorted(set(pool.distribution_names) - set(names))
    if missing or len(set(names)) != len(names):
        what = f"{missing[0]!r} is missing" if missing else "a name comes twice"
        raise CurriculaError(f"{key}: expected every distribution of the pool once, easiest first; {what}")
    return np.array([pool.distribution_names.index(name) for name in names], dtype=np.int64)


def level_order(pool: PromptPool, names: tuple[str, ...], by: LevelOrder, key: str) -> Ints:
    """(K,) distribution indices, easiest first: as named, or else by ``by``."""
    if names:
        return named_order(pool, names, key)
    return natural_order(pool) if by == "name" else easiest_first(pool, prior_means(pool))


def easiest_first(pool: PromptPool, pass_rate_K: Floats) -> Ints:
    """(K,) distribution indices by falling pass rate; equals in natural order; unknown ones (NaN) last.

    >>> pool = PromptPool.from_columns("abc", ["x-1", "x-2", "x-3"])
    >>> easiest_first(pool, np.array([0.2, np.nan, 0.9]))
    array([2, 0, 1])
    """
    natural = natural_order(pool)
    rate = np.where(np.isnan(pass_rate_K), -np.inf, pass_rate_K)[natural]
    return natural[np.argsort(-rate, kind="stable")]


def prior_means(pool: PromptPool) -> Floats:
    """(K,) mean stated pass rate of the prompts that have one; NaN where none has."""
    known_N = ~np.isnan(pool.prior_pass_rate_N)
    arm = pool.distribution_N[known_N]
    total_K = np.bincount(arm, weights=pool.prior_pass_rate_N[known_N], minlength=pool.n_distributions)
    with np.errstate(invalid="ignore"):
        return total_K / np.bincount(arm, minlength=pool.n_distributions)
