"""State as a flat dict of arrays: what may be saved with ``np.savez`` and loaded without pickle, and the checks on the way back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curricula.types import CurriculaError, PromptPool, id_hashes

Arrays = dict[str, NDArray[Any]]
VERSION = 1
GROWING = ("ledger.group", "ledger.plan")  # their length depends on what was learned


def flatten(states: Mapping[str, Any]) -> Arrays:
    """Every array of every state under ``stage.field``, copied; states inside states have longer names."""
    return {name: np.array(value) for stage, state in states.items() for name, value in _leaves(stage, state)}


def unflatten(states: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """States of the same types with the arrays' values, copied."""
    return {stage: _filled(stage, state, arrays) for stage, state in states.items()}


def _leaves(name: str, state: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(state, tuple):
        yield name, state
        return
    for field, value in zip(_fields(state), state, strict=True):
        yield from _leaves(f"{name}.{field}", value)


def _filled(name: str, state: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if not isinstance(state, tuple):
        return np.array(arrays[name])
    values = [_filled(f"{name}.{field}", value, arrays) for field, value in zip(_fields(state), state, strict=True)]
    return type(state)(*values) if hasattr(state, "_fields") else tuple(values)


def _fields(state: tuple[Any, ...]) -> tuple[Any, ...]:
    return getattr(state, "_fields", tuple(range(len(state))))


def text(value: str) -> NDArray[np.str_]:
    """A string as an array that npz keeps without pickle."""
    return np.array(value, dtype=np.str_)


def prompt_hashes(pool: PromptPool) -> NDArray[np.uint64]:
    """(N,) 64 bits per prompt id, ascending: enough to say how many prompts came and went."""
    return np.sort(id_hashes(pool.ids))


def refuse_other_run(expected: Mapping[str, NDArray[Any]], given: Mapping[str, NDArray[Any]]) -> None:
    """CurriculaError naming the first difference: data set, version, policy, then key, shape, dtype."""
    _refuse_other_keys({key for key in expected if key.startswith("meta.")}, {key for key in given if key.startswith("meta.")})
    _refuse_other_version(given)
    _refuse_other_pool(expected, given)
    _refuse_other_policies(expected, given)
    _refuse_other_keys(set(expected), set(given))
    for key, want in expected.items():
        if not key.startswith("meta."):
            _refuse_other_array(key, want, np.asarray(given[key]))


def _refuse_other_keys(expected: set[str], given: set[str]) -> None:
    if missing := sorted(expected - given):
        raise CurriculaError(f"curriculum state: key {missing[0]!r} is missing; the file is damaged or of another run")
    if unknown := sorted(given - expected):
        raise CurriculaError(f"curriculum state: unknown key {unknown[0]!r}; the file is damaged or of another run")


def _refuse_other_version(given: Mapping[str, NDArray[Any]]) -> None:
    if int(given["meta.version"]) != VERSION:
        version = int(given["meta.version"])
        raise CurriculaError(f"curriculum state: format {version}, expected {VERSION}; load it with the release of the run")


def _refuse_other_pool(expected: Mapping[str, NDArray[Any]], given: Mapping[str, NDArray[Any]]) -> None:
    if str(given["meta.fingerprint"]) == str(expected["meta.fingerprint"]):
        return
    now, then = expected["meta.prompt_hashes"], given["meta.prompt_hashes"]
    n_added, n_removed = (len(np.setdiff1d(a, b)) for a, b in ((now, then), (then, now)))
    what = f"{n_added} prompt(s) were added and {n_removed} removed"
    if not n_added and not n_removed:
        what = "the same prompts are in another order or in other distributions"
    raise CurriculaError(
        f"curriculum state: the data set changed between save and resume: {what} (now {len(now)}, then {len(then)}); "
        "resume with the data of the saved run, or start a new run"
    )


def _refuse_other_policies(expected: Mapping[str, NDArray[Any]], given: Mapping[str, NDArray[Any]]) -> None:
    for key in expected:
        if key.startswith("meta.policy.") or key in ("meta.seed", "meta.exploration"):
            now, then = expected[key].item(), np.asarray(given[key]).item()
            if now != then:
                what = key.removeprefix("meta.").replace("policy.", "")
                raise CurriculaError(
                    f"curriculum state: {what} was {then} and is now {now}; "
                    "resume with the recipe of the saved run, or start a new run"
                )


def _refuse_other_array(key: str, want: NDArray[Any], got: NDArray[Any]) -> None:
    if got.dtype != want.dtype:
        raise CurriculaError(f"curriculum state: key {key!r} has dtype {got.dtype}, expected {want.dtype}")
    if got.shape != want.shape and not (key in GROWING and got.ndim == 1):
        raise CurriculaError(f"curriculum state: key {key!r} has shape {got.shape}, expected {want.shape}")
