"""A stand-in for slime's samples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Sample:
    prompt: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    group_index: int | None = None
    index: int | None = None
    reward: Any = None
    response: str = ""
    response_length: int = 0
    weight_versions: list[str] = field(default_factory=list)
    label: Any = None

    def get_reward_value(self, args: Any) -> float:
        return self.reward[args.reward_key] if args.reward_key else self.reward
