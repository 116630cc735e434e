"""Names for what a recipe may choose of one kind. The files of a folder register themselves, so adding one edits no list."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any, TypeVar

C = TypeVar("C", bound=type[Any])


class Registry(dict[str, type[Any]]):
    """Classes by name; complete once `known` has imported the folder."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self._folder, self._imported = folder, False

    def register(self, name: str) -> Callable[[C], C]:
        """Class decorator: makes a frozen dataclass known to recipes."""

        def put(kind: C) -> C:
            self[name] = kind
            return kind

        return put

    def known(self) -> tuple[str, ...]:
        """Names, sorted."""
        if not self._imported:
            folder = importlib.import_module(self._folder)
            for module in sorted(info.name for info in pkgutil.iter_modules(folder.__path__)):
                importlib.import_module(f"{self._folder}.{module}")
            self._imported = True
        return tuple(sorted(self))
