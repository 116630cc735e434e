"""The reward of Knights-and-Knaves puzzles."""

from __future__ import annotations

import re
from typing import Any

from curricula.types import CurriculaError
from rollout.rewards import register

IDENTITY = re.compile(r"\b([A-Z][\w'-]*) is an? (knight|knave)\b", re.IGNORECASE)


@register("knights_and_knaves")
def knights_and_knaves(completion: str, answer: Any, extra: dict[str, Any]) -> float:
    """1 where the answer names everybody's identity rightly and says nothing else of anybody, else 0.

    ``answer`` holds lines such as "(1) Zoey is a knave", as text or under ``solution_text_format``. What counts of the
    completion is its last ``<answer>`` block, or what follows ``</think>`` where there is none, or all of it.

    >>> knights_and_knaves("<answer>(1) Zoey is a knave</answer>", "(1) Zoey is a knave", {})
    1.0
    """
    text = answer["solution_text_format"] if isinstance(answer, dict) else str(answer)
    wanted = identities(text)
    if not wanted:
        raise CurriculaError(f"knights_and_knaves: the answer {text[:80]!r} has no line like '(1) Zoey is a knave'")
    return float(identities(final_part(completion)) == wanted)


def identities(text: str) -> dict[str, str] | None:
    """Who is what, names in lower case; None where somebody is both."""
    found: dict[str, str] = {}
    for name, kind in IDENTITY.findall(text):
        if found.setdefault(name.lower(), kind.lower()) != kind.lower():
            return None
    return found


def final_part(completion: str) -> str:
    """What a completion gives as its answer."""
    _, opened, answer = completion.rpartition("<answer>")
    if opened:
        return answer.partition("</answer>")[0]
    return completion.rpartition("</think>")[2]
