"""Ranges of settings, checked where the value is born."""

from __future__ import annotations

from curricula.types import CurriculaError


def at_least(part: str, least: float, **values: float | None) -> None:
    """CurriculaError naming the first key of ``part`` below ``least``; None is a value left out.

    >>> at_least("run", 1, n_steps=0)
    Traceback (most recent call last):
    curricula.types.CurriculaError: run.n_steps: expected >= 1, got 0
    """
    for name, value in values.items():
        if value is not None and not value >= least:
            raise CurriculaError(f"{part}.{name}: expected >= {least:g}, got {value}")
