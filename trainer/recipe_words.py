"""Curriculum recipes as words of a command line: names, or files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from curricula.recipes import RECIPES, Recipe, read
from curricula.types import CurriculaError, known_or_raise
from trainer import strict_yaml


def read_recipes(words: Sequence[str]) -> dict[str, str | Recipe]:
    """Recipes by name or by YAML file (its ``curriculum``); without a word, every named one that is not ``*_published``.

    Errors: CurriculaError for an unknown name, a file without a curriculum, or one that does not build.
    """
    recipes: dict[str, str | Recipe] = {}
    for word in words or [name for name in RECIPES if not name.endswith("_published")]:
        is_file = word.endswith((".yaml", ".yml"))
        label = Path(word).stem if is_file else word
        if label in recipes:
            raise CurriculaError(f"two recipes are called {label!r}; give the file another name")
        recipes[label] = _curriculum_of(Path(word)) if is_file else word
        if not is_file:
            known_or_raise("recipe", word, tuple(RECIPES))
        read(recipes[label])
    return recipes


def _curriculum_of(path: Path) -> str | dict[str, object]:
    data = strict_yaml.load_file(path)
    found = data.get("curriculum") if isinstance(data, Mapping) else None
    if not isinstance(found, str | Mapping):
        raise CurriculaError(f"{path}: expected a key 'curriculum' with a recipe's name or a policy per stage")
    return found if isinstance(found, str) else dict(found)
