"""Where the prompts of a growing pool come from: one source per file, registered like a task.

A source is a frozen dataclass of settings with ``expand(parents, occasion) -> children``; its fields are the keys of the recipe's
``growth.source``. Adding one: a file here with ``@register("its_name")``, or ``name: package.module:Class`` in the recipe. It may
call a model. An optional ``check(task, prompts)`` is asked once, before the run begins.

A source has to be deterministic given the occasion and the parents: what it made is in the log, but a run that is killed before the
next checkpoint asks again, and only then makes the plans of one that never stopped.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from rollout.catalogue import Catalogue
from rollout.prompts import Prompt, Task
from rollout.templates import Content

_SOURCES = Catalogue("growth.source", __name__, "expand")
register = _SOURCES.register


@dataclass(frozen=True)
class Child:
    """A new prompt, made from another one: in its parent's distribution, with a prior from what is believed of its parent."""

    prompt: Prompt
    parent: str  # id
    hinted: bool = False  # its rollouts are trained on as if its parent had been asked (EGSR)


@dataclass(frozen=True)
class Occasion:
    """What a source may look at beside the parents."""

    task: Task
    seed: int  # of the run
    step: int  # after which the pool grows
    held_out: Collection[str] = field(default=frozenset(), repr=False)  # `text_key` of held-out prompts; no child may be one

    def rng(self, parent: Prompt) -> np.random.Generator:
        """The generator of one parent's children, by (seed, step, parent) alone."""
        return np.random.default_rng(np.random.SeedSequence((self.seed, self.step, zlib.crc32(parent.id.encode()))))


class GrowthSource(Protocol):
    """A frozen dataclass of settings that makes children."""

    def expand(self, parents: Sequence[Prompt], occasion: Occasion) -> Iterable[Child]:
        """Any number of children of each parent, none of another prompt. Ids are new in the pool, and the same when asked again."""
        ...


def known_sources() -> tuple[str, ...]:
    """Names of the shipped sources; imports none of them."""
    return _SOURCES.known()


def build_source(spec: Mapping[str, Any]) -> GrowthSource:
    """The source of a recipe: ``{"name": "easier_levels", "per_parent": 2}``.

    Errors: CurriculaError for an unknown name, an unknown or missing key, a value of the wrong type.
    """
    source: GrowthSource = _SOURCES.build(spec)
    return source


def text_key(content: Content) -> str:
    """What two prompts with the same text share, plain or chat."""
    return json.dumps(content, sort_keys=True)
