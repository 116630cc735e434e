"""Evaluations of the verifiers library: ``results.jsonl``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curricula.types import Status
from replay.builder import UNSAID, RunBuilder, id_of, name_from, prompt_of, reward_of
from replay.files import first_fields, rows_of
from replay.importers import register
from replay.types import Lack, LoggedRun


@register("verifiers")
@dataclass(frozen=True)
class Verifiers:
    """One row per rollout; the rollouts of one example are one group, of one policy.

    The file has no group column: rows are put together by task and ``example_id``, so an example that was evaluated twice is one
    group. Older files have ``id`` instead, which is the row's number divided by the rollouts per example and names other examples
    than the row holds: there the prompt's text decides, and ``id`` is not used. A row with an ``error`` is of status ERROR.
    """

    reward_range: tuple[float, float] = (0.0, 1.0)

    looks_for: ClassVar[str] = "JSONL with prompt, completion, reward, task or metrics, and example_id or id"

    def detect(self, path: Path) -> bool:
        fields = first_fields(path)
        return (
            {"prompt", "completion", "reward"} <= fields
            and bool({"task", "metrics"} & fields)
            and bool({"example_id", "id"} & fields)
        )

    def read(self, path: Path) -> LoggedRun:
        builder, has_ids, errors_told = RunBuilder(self.reward_range), False, True
        for place, row in rows_of(path):
            task = row.get("task")
            distribution = name_from(task) if isinstance(task, str) and task else "all"
            has_ids = "example_id" in row
            builder.same_kind("the row's id", "an example_id" if has_ids else "no example_id", place)
            prompt = prompt_of(row, "prompt", distribution, place)
            if has_ids:
                text, prompt = prompt[1], (distribution, name_from(f"{distribution}/{id_of(builder, row, ('example_id',), place)}"))
                builder.same_text(prompt[1], text, place)
            errors_told &= "error" in row
            failed = bool(row.get("error"))
            group = builder.group(prompt, prompt, place)
            builder.rollout(group, reward_of(row, ("reward",), place), place, Status.ERROR if failed else Status.OK)
        lacks: set[Lack] = {"group id", *UNSAID}
        if errors_told:
            lacks.remove("status")
        if not has_ids:
            lacks.add("prompt id")
        return builder.run(f"verifiers {path}", lacks)
