"""Reward functions: one file each, registered under the file's name and imported only when asked for.

A reward function has the signature ``(completion: str, answer, extra: dict) -> float | None``. None means "cannot be scored"; it is
never counted as 0. Adding one: a file here with ``@register("its_name")``, or any importable function as "package.module:function".
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

from curricula.types import CurriculaError

Reward = Callable[[str, Any, dict[str, Any]], float | None]
AnyReward = TypeVar("AnyReward", bound=Callable[..., float | None])

_REGISTERED: dict[str, Reward] = {}


def register(name: str) -> Callable[[AnyReward], AnyReward]:
    """Decorator: make a function known under the name of its file."""

    def put(reward: AnyReward) -> AnyReward:
        _REGISTERED[name] = reward
        return reward

    return put


def known_rewards() -> list[str]:
    """Names of the shipped reward functions; imports none of them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load_reward(name: str) -> Reward:
    """The reward function of a registered name, or of "package.module:function".

    Errors: CurriculaError for an unknown name, a module that cannot be imported, a missing function, a wrong signature.
    """
    if ":" in name:
        return _imported(name)
    if name not in known_rewards():
        near = difflib.get_close_matches(name, known_rewards(), n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise CurriculaError(
            f'unknown reward {name!r}; {hint}known: {", ".join(known_rewards())}; or any function as "package.module:function"'
        )
    importlib.import_module(f"{__name__}.{name}")
    if name not in _REGISTERED:
        raise CurriculaError(f"reward {name!r}: its file registers no function of that name; decorate one with @register({name!r})")
    return _REGISTERED[name]


def _imported(path: str) -> Reward:
    module_name, _, function_name = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise CurriculaError(
            f"reward {path!r}: module {module_name!r} cannot be imported ({error}); install it, or start the run from its folder"
        ) from error
    reward = getattr(module, function_name, None)
    if not callable(reward):
        functions = [name for name, value in vars(module).items() if inspect.isfunction(value)]
        near = difflib.get_close_matches(function_name, functions, n=1)
        raise CurriculaError(
            f"reward {path!r}: module {module_name!r} has no function {function_name!r}"
            + (f"; did you mean {near[0]!r}?" if near else f"; it has: {', '.join(functions) or 'none'}")
        )
    _refuse_signature(path, reward)
    return reward  # type: ignore[no-any-return]


def _refuse_signature(path: str, reward: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(reward)
    except ValueError:  # some functions written in C do not tell
        return
    try:
        signature.bind("completion", "answer", {})
    except TypeError as error:
        raise CurriculaError(
            f"reward {path!r}: expected the signature (completion: str, answer, extra: dict) -> float | None, "
            f"got {signature} ({error})"
        ) from None
