"""Any JSONL or Parquet file whose columns are named by hand."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curricula.types import CurriculaError
from replay.builder import UNSAID, RunBuilder, field_of, id_of, prompt_of, reward_of, shown, whole_of
from replay.files import rows_of
from replay.importers import register
from replay.types import Lack, LoggedRun
from rollout.rows import Place, Row


@register("mapping")
@dataclass(frozen=True)
class Mapping:
    """One row per rollout; every setting but ``reward_range`` is the (dotted) name of a column, "" where there is none.

    Without ``group``, rows of one step with the same prompt are one group; without ``step`` as well, neighbouring rows with the
    same prompt. Group ids count inside a step and a distribution. A group has one prompt, one step and one propensity, else its
    row is refused.
    """

    reward: str = "reward"
    prompt: str = "prompt"  # text or chat messages; hashed
    id: str = ""  # the prompt's id; then ``prompt`` is not read
    group: str = ""
    step: str = ""
    distribution: str = ""
    propensity: str = ""  # of the group: how likely its prompt was to be chosen
    tokens: str = ""  # of the completion
    reward_range: tuple[float, float] = (0.0, 1.0)

    looks_for: ClassVar[str] = (
        "nothing by itself; name its columns: prompt or id, reward, group, step, distribution, propensity, tokens"
    )

    def __post_init__(self) -> None:
        for key in ("reward", "prompt", "id", "group", "step", "distribution", "propensity", "tokens"):
            if not isinstance(getattr(self, key), str):
                raise CurriculaError(f"log format 'mapping', {key}: expected the name of a column, got {getattr(self, key)!r}")
        if not self.reward or not (self.prompt or self.id):
            raise CurriculaError("log format 'mapping': expected names of columns for reward and for prompt or id")

    def detect(self, path: Path) -> bool:
        return False

    def read(self, path: Path) -> LoggedRun:
        builder = RunBuilder(self.reward_range)
        before: tuple[str, str] | None = None
        runs = 0  # of neighbouring rows with the same prompt
        for place, row in rows_of(path):
            prompt = self._prompt(builder, row, place)
            runs, before = runs + (prompt != before), prompt
            step = whole_of(row, (self.step,), place) if self.step else -1
            key: Hashable = (step, prompt) if self.step else runs
            if self.group:
                key = (step, prompt[0], id_of(builder, row, (self.group,), place))
            group = builder.group(key, prompt, place, step, self._propensity(row, place))
            tokens = whole_of(row, (self.tokens,), place) if self.tokens else -1
            builder.rollout(group, reward_of(row, (self.reward,), place), place, tokens=tokens)
        lacks: set[Lack] = set(UNSAID)
        if not self.group:
            lacks.add("group id")
        if not self.id:
            lacks.add("prompt id")
        return builder.run(f"mapping {path}", lacks)

    def _prompt(self, builder: RunBuilder, row: Row, place: Place) -> tuple[str, str]:
        distribution = "all"
        if self.distribution:
            distribution = id_of(builder, row, (self.distribution,), place)
        if self.id:
            return distribution, id_of(builder, row, (self.id,), place)
        return prompt_of(row, self.prompt, distribution, place)

    def _propensity(self, row: Row, place: Place) -> float:
        if not self.propensity:
            return math.nan
        value = field_of(row, (self.propensity,), place)
        if value is None:
            return math.nan
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise CurriculaError(f"{place}: {self.propensity}: expected a probability above 0 and up to 1, got {shown(value)}")
        return float(value)
