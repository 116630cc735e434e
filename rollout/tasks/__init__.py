"""Tasks: one file each, registered under the file's name and imported only when a recipe asks for it.

A task is a frozen dataclass of settings with ``build(seed) -> (training prompts, held-out prompts)``; its fields are the keys of
the recipe's ``task``. Adding one: a file here with ``@register("its_name")``, or ``name: package.module:Class`` in the recipe.

Two methods are optional: ``worked_example(prompt) -> str``, a completion without mistakes (warm starts and hints use it), and
``easier(prompt, by, rng) -> Prompt | None``, a new prompt ``by`` levels below this one or at the lowest level, None where it is at
the lowest already (pools that grow by easier levels use it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rollout.catalogue import Catalogue
from rollout.prompts import Task

_TASKS = Catalogue("task", __name__, "build")
register = _TASKS.register


def known_tasks() -> tuple[str, ...]:
    """Names of the shipped tasks; imports none of them."""
    return _TASKS.known()


def build_task(spec: Mapping[str, Any]) -> Task:
    """The task of a recipe: ``{"name": "prompt_file", "train": "train.jsonl", ...}``.

    Errors: CurriculaError for an unknown name, an unknown or missing key, a value of the wrong type.
    """
    task: Task = _TASKS.build(spec)
    return task


def find_task(name: str) -> type:
    """The class behind a task's name; imports ``package.module:Class``."""
    return _TASKS.find(name)
