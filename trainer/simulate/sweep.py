"""The regime map: in which worlds a recipe beats uniform, ties with it, or loses to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from curricula.types import CurriculaError
from trainer.simulate.compare import Comparison
from trainer.simulate.setting import Setting

Axes = Mapping[str, Sequence[float]]


@dataclass(frozen=True, eq=False)
class Regime:
    """One world of a sweep, and the comparison in it."""

    values: Mapping[str, float]  # of the swept numbers
    comparison: Comparison


def read_axes(texts: Sequence[str]) -> Axes:
    """The axes of a sweep.

    >>> read_axes(["spread=1,2", "noise=0,0.1"])
    {'spread': [1.0, 2.0], 'noise': [0.0, 0.1]}
    """
    axes: dict[str, list[float]] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        if not equals or key.strip() in axes:
            raise CurriculaError(f"--sweep {text}: expected name=value,value,... and every name once, for example spread=0.5,1,2")
        axes[key.strip()] = [_number(value, text) for value in values.split(",")]
    return axes


def settings_of(base: Setting, axes: Axes) -> list[tuple[dict[str, float], Setting]]:
    """Every combination of the axes' values, with the setting it leads to.

    ``visits`` comes last, for the pool that it asks for depends on the other numbers.
    """
    found = []
    for values in product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        setting = base
        for key in sorted(chosen, key=lambda key: key == "visits"):
            setting = setting.with_value(key, chosen[key])
        found.append((chosen, setting))
    return found


def _number(value: str, text: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise CurriculaError(f"--sweep {text}: {value!r} is no number") from error
