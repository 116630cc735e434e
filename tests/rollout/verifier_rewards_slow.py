"""A reward function that takes its time."""

import time
from typing import Any


def slow(completion: str, answer: Any, extra: dict[str, Any]) -> float:
    time.sleep(0.25)
    return 1.0
