"""One growth of a pool: the children, what the log keeps of them, and how the pool is made larger by them.

Whoever reads a log or goes on with a run takes the children from the log and asks no source.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from curricula.growth import with_children
from curricula.types import CurriculaError, PromptPool
from rollout.growth import Child
from rollout.journal import plain
from rollout.prompts import Prompt


@dataclass(frozen=True)
class Grown:
    """What was added after a step. A prompt is asked for children once."""

    step: int
    parents: tuple[str, ...]  # ids that the source was asked for children of, hardest first
    children: tuple[Child, ...]
    left_out: dict[str, int] = field(default_factory=dict)  # children that were not taken, by reason


def grown_pool(pool: PromptPool, grown: Grown) -> PromptPool:
    """The pool with the children behind its rows."""
    prompts = [child.prompt for child in grown.children]
    if not prompts:
        return pool
    prior = np.array([prompt.prior_pass_rate for prompt in prompts])
    return with_children(pool, [prompt.id for prompt in prompts], [child.parent for child in grown.children], prior)


def refuse_bad_children(children: Sequence[Child], parents: Sequence[str], pool: PromptPool, source: str) -> None:
    """CurriculaError for an id that is there twice, a child of a prompt that was not asked about, a child without a text."""
    where = f"growth.source {source!r}"
    count = Counter([*pool.ids.tolist(), *(child.prompt.id for child in children)])
    for child in children:
        name = child.prompt.id
        if child.parent not in parents:
            raise CurriculaError(
                f"{where}: child {name!r} names the parent {child.parent!r}, which is not among the {len(parents)} prompts that "
                "it was asked about; give each child the id of its own parent"
            )
        if count[name] > 1:
            raise CurriculaError(
                f"{where}: the id {name!r} of a child of {child.parent!r} is taken; give every child an id of its own"
            )
        if not child.prompt.content:
            raise CurriculaError(f"{where}: child {name!r} has no text; leave it out")


def grown_record(grown: Grown) -> dict[str, Any]:
    """What the log keeps (kind ``grown``)."""
    return {
        "step": grown.step,
        "parents": list(grown.parents),
        "children": [
            {
                "id": child.prompt.id,
                "parent": child.parent,
                "distribution": child.prompt.distribution,
                "content": child.prompt.content,
                "answer": child.prompt.answer,
                "extra": child.prompt.extra,
                "prior": child.prompt.prior_pass_rate,
                "hinted": child.hinted,
            }
            for child in grown.children
        ],
        "left_out": grown.left_out,
    }


def read_grown(record: Mapping[str, Any]) -> Grown:
    """A growth from its record."""
    return Grown(
        int(record["step"]), tuple(record["parents"]), tuple(map(_child, record["children"])), dict(record.get("left_out", {}))
    )


def _child(entry: Mapping[str, Any]) -> Child:
    prior = float("nan") if entry["prior"] is None else float(entry["prior"])
    prompt = Prompt(entry["id"], entry["distribution"], entry["content"], entry["answer"], dict(entry["extra"]), prior)
    return Child(prompt, entry["parent"], bool(entry["hinted"]))


def as_logged(grown: Grown, source: str) -> Grown:
    """The growth as a reader of the log will see it, so that a resumed run has the very same prompts."""
    try:
        return read_grown(json.loads(json.dumps(plain(grown_record(grown)), allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise CurriculaError(
            f"growth.source {source!r}: a child's answer or extra does not survive JSON ({error}); give plain values"
        ) from error
