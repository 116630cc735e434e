"""The reward of reasoning-gym's data sets: their own verifiers."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import reasoning_gym as library  # type: ignore[import-untyped]

from rollout.rewards import register


@register("reasoning_gym")
def reasoning_gym(completion: str, answer: Any, extra: dict[str, Any]) -> float:
    """What the data set's ``score_answer`` gives.

    ``extra``: ``dataset`` (name), ``config``, ``entry`` (the item), and optionally ``answer_tag``: then only the last
    ``<tag>...</tag>`` block is scored, and a completion without one gets what the data set gives for no answer.
    """
    tag = extra.get("answer_tag", "")
    given = last_block(completion, tag) if tag else completion.strip()
    dataset = _dataset(extra["dataset"], json.dumps(extra.get("config", {}), sort_keys=True))
    return float(dataset.score_answer(given, extra["entry"]))


def last_block(completion: str, tag: str) -> str | None:
    """The content of the last ``<tag>...</tag>``, stripped; None where there is none.

    >>> last_block("<answer>1</answer> or <answer> 2 </answer>", "answer")
    '2'
    """
    before, closed, _ = completion.rpartition(f"</{tag}>")
    _, opened, content = before.rpartition(f"<{tag}>")
    return content.strip() if opened and closed else None


@lru_cache(maxsize=64)
def _dataset(name: str, config: str) -> Any:
    return library.create_dataset(name, **json.loads(config), size=1, seed=0)
