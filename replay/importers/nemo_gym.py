"""Rollouts as NeMo Gym collects them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curricula.types import CurriculaError
from replay.builder import UNSAID, RunBuilder, name_from, reward_of, whole_of
from replay.files import first_fields, rows_of
from replay.importers import register
from replay.types import LoggedRun
from rollout.rows import MISSING, reach

TASK, ROLLOUT, TOKENS = "_ng_task_index", "_ng_rollout_index", "response.usage.output_tokens"


@register("nemo_gym")
@dataclass(frozen=True)
class NemoGym:
    """One row per rollout; ``_ng_task_index`` is the group and the prompt, ``_ng_rollout_index`` counts inside it.

    The distribution is the agent's name where a row has one. The same pair twice is two collections in one file: refused.
    """

    reward_range: tuple[float, float] = (0.0, 1.0)

    looks_for: ClassVar[str] = f"JSONL with {TASK}, {ROLLOUT} and reward"

    def detect(self, path: Path) -> bool:
        return {TASK, ROLLOUT, "reward"} <= first_fields(path)

    def read(self, path: Path) -> LoggedRun:
        builder = RunBuilder(self.reward_range)
        seen: set[tuple[str, int, int]] = set()
        for place, row in rows_of(path):
            task, rollout = whole_of(row, (TASK,), place), whole_of(row, (ROLLOUT,), place)
            agent = reach(row, "agent_ref.name")
            distribution = name_from(agent) if isinstance(agent, str) and agent else "all"
            if (distribution, task, rollout) in seen:
                raise CurriculaError(
                    f"{place}: {ROLLOUT}: {TASK} {task} with {ROLLOUT} {rollout} came before; expected each pair once; were two "
                    "collections put into one file?"
                )
            seen.add((distribution, task, rollout))
            prompt = (distribution, f"{distribution}/{task}")
            tokens = -1 if reach(row, TOKENS) in (MISSING, None) else whole_of(row, (TOKENS,), place)
            builder.rollout(builder.group(prompt, prompt, place), reward_of(row, ("reward",), place), place, tokens=tokens)
        return builder.run(f"nemo_gym {path}", UNSAID)
