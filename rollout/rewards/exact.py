"""The reward of an exact answer."""

from __future__ import annotations

from typing import Any

from rollout.rewards import register


@register("exact")
def exact(completion: str, answer: Any, extra: dict[str, Any]) -> float:
    """1 where completion and answer are equal but for outer blanks, else 0.

    With ``extra["after"]``, a marker such as "Answer:", only what follows its last occurrence counts; without the marker, 0.

    >>> exact(" 42\\n", 42, {}), exact("6 * 7: Answer: 42", "42", {"after": "Answer:"})
    (1.0, 1.0)
    """
    marker = extra.get("after", "")
    found = completion.rpartition(marker) if marker else ("", " ", completion)
    return float(bool(found[1]) and found[2].strip() == str(answer).strip())
