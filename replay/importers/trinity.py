"""Experiences of Trinity-RFT as JSON lines: the file at ``data_processor.experience_pipeline.input_save_path``."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from curricula.types import CurriculaError, Status
from replay.builder import UNSAID, RunBuilder, field_of, prompt_of, reward_of, shown, whole_of
from replay.files import first_fields, rows_of
from replay.importers import register
from replay.types import Lack, LoggedRun
from rollout.rows import MISSING, Place, Row, reach

FIELDS = frozenset({"eid", "type", "prompt_length", "response_length"})
COUNTS = (("eid.batch",), ("eid.run",), ("eid.step",))
INDEX, VERSION = "info.task_index", "info.model_version"
CUT_PROMPT, CUT_RESPONSE = "prompt_truncated", "response_truncated"


@register("trinity")
@dataclass(frozen=True)
class Trinity:
    """One row per experience; ``eid`` holds batch and task, which name the group, run (the rollout) and step inside the run.

    Of a run with several steps the reward of the last counts, and their tokens are added up. The prompt is the place in its task
    set (``info.task_index``); where the file has none, the text decides. Runs that failed are absent. Rows stand in the order in
    which they came, before operators and filters saw them. Cut prompts, and cut responses to which Trinity gave 0 without scoring
    them, have the status TRUNCATED; experiences without a reward are INVALID. The SQL store is not read.
    """

    reward_range: tuple[float, float] = (0.0, 1.0)

    looks_for: ClassVar[str] = f"JSONL with {', '.join(sorted(FIELDS))}"

    def detect(self, path: Path) -> bool:
        return first_fields(path) >= FIELDS

    def read(self, path: Path) -> LoggedRun:
        builder, has_ids = RunBuilder(self.reward_range), False
        runs: dict[Hashable, tuple[int, int]] = {}  # (batch, task, run) -> highest step so far, place of the rollout
        groups: dict[Hashable, int] = {}
        for place, row in rows_of(path):
            batch, run, step = (whole_of(row, field, place) for field in COUNTS)
            task = _task(row, place)
            has_ids = reach(row, INDEX) is not MISSING
            builder.same_kind("the prompt", INDEX if has_ids else f"no {INDEX}", place)
            if (batch, task) not in groups or has_ids or step == 0:  # a later step's text goes on from the prompt's
                groups[batch, task] = builder.group((batch, task), _prompt(row, place, has_ids), place, batch)
            reward, status = _reward(row, place)
            tokens, version = whole_of(row, ("response_length",), place), _version(row, place)
            if (batch, task, run) not in runs:
                at = builder.rollout(groups[batch, task], reward, place, status, tokens, version)
                runs[batch, task, run] = (step, at)
                continue
            highest, at = runs[batch, task, run]
            if step == highest:
                raise CurriculaError(
                    f"{place}: eid: batch {batch}, task {shown(task)}, run {run}, step {step} came before; expected each once; "
                    "did the run resume into the same file, or does its workflow not number its steps?"
                )
            builder.add_tokens(at, tokens)
            if step > highest:
                runs[batch, task, run] = (step, at)
                builder.replace(at, reward, place, status)
        lacks: set[Lack] = {*UNSAID}
        if not has_ids:
            lacks.add("prompt id")
        return builder.run(f"trinity {path}", lacks)


def _task(row: Row, place: Place) -> Any:
    task = field_of(row, ("eid.task",), place)
    if isinstance(task, bool) or not isinstance(task, int | str) or task == "":
        raise CurriculaError(f"{place}: eid.task: expected a number or a name, got {shown(task)}")
    return task


def _prompt(row: Row, place: Place, has_ids: bool) -> tuple[str, str]:
    if not has_ids:
        return prompt_of(row, "prompt_text" if "prompt_text" in row else "messages", "all", place)
    index = whole_of(row, (f"{INDEX}.index",), place)
    told = reach(row, f"{INDEX}.taskset_id") is not MISSING
    distribution = f"taskset {whole_of(row, (f'{INDEX}.taskset_id',), place)}" if told else "all"
    return distribution, f"{distribution}/{index}"


def _reward(row: Row, place: Place) -> tuple[float, Status]:
    reward = reward_of({"reward": row.get("reward")}, ("reward",), place)
    cut = row.get("truncate_status")
    unscored = cut == CUT_PROMPT or (cut == CUT_RESPONSE and reward == 0)
    return reward, Status.TRUNCATED if unscored else Status.OK


def _version(row: Row, place: Place) -> int:
    return -1 if reach(row, VERSION) in (MISSING, None) else whole_of(row, (VERSION,), place)
