"""Training data that NeMo-RL logs: ``<log_dir>/train_data_step{N}.jsonl``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from curricula.types import CurriculaError
from replay.builder import UNSAID, RunBuilder, field_of, name_from, reward_of, shown, whole_of
from replay.files import fields_of, matching
from replay.importers import register
from replay.types import Lack, LoggedRun
from rollout.rows import Place, Row, id_from_text, reach, read_rows

FIELDS = frozenset({"content", "rewards", "input_lengths"})
NAME = "train_data_step*.jsonl"
FILTERED = "filtered_rewards"


@register("nemo_rl")
@dataclass(frozen=True)
class NemoRl:
    """One row per rollout of a step's batch; the step stands in the file's name only.

    A row has no id of its prompt or group: the tokens before the first one that the policy wrote are the prompt, and rows of one
    step with the same prompt are one group, as the trainer's own baselines are; the same prompt drawn twice in a step merges.
    With dynamic sampling a row has ``filtered_rewards`` too: those belong to the row, while ``rewards`` belongs to another batch,
    of another length, and is not read. As of the release of August 2026 every value is a list of one; plain values are read too.
    The distribution is the agent's name where a row has one. Rewards are those after the trainer's reward shaping.
    """

    reward_range: tuple[float, float] = (0.0, 1.0)

    looks_for: ClassVar[str] = f"JSONL with {', '.join(sorted(FIELDS))}"

    def detect(self, path: Path) -> bool:
        files = matching(path, NAME)
        return bool(files) and fields_of(files[0]) >= FIELDS

    def read(self, path: Path) -> LoggedRun:
        files = matching(path, NAME)
        if not files:
            raise CurriculaError(f"{path}: expected a folder with files {NAME}, got none")
        builder, dynamic = RunBuilder(self.reward_range), False
        for file in files:
            step = _step(file)
            for number, (place, row) in enumerate(read_rows(file)):
                dynamic = FILTERED in row
                builder.same_kind(FILTERED, "it" if dynamic else "none of it", place)
                _in_place(row, number, place)
                self._add(builder, row, step, place)
        lacks: set[Lack] = {"group id", "prompt id", *UNSAID}
        if dynamic:
            lacks.add("rejected groups")
        return builder.run(f"nemo_rl {path}", lacks)

    def _add(self, builder: RunBuilder, row: Row, step: int, place: Place) -> None:
        listed = isinstance(field_of(row, ("rewards",), place), list)
        builder.same_kind("rewards", "a list of one" if listed else "a plain value", place)
        field = FILTERED if FILTERED in row else "rewards"
        reward = reward_of({field: _value(row, field, listed, place)}, (field,), place)
        ids, mask = (_tokens(_value(row, field, listed, place), field, place) for field in ("token_ids", "token_loss_mask"))
        if len(ids) != len(mask):
            raise CurriculaError(f"{place}: token_loss_mask: expected {len(ids)} values, one per token, got {len(mask)}")
        length = whole_of({"input_lengths": _value(row, "input_lengths", listed, place)}, ("input_lengths",), place)
        written = [at for at, counts in enumerate(mask) if counts]
        start = written[0] if written else length
        if not 0 < start <= len(ids) or (written and written[-1] >= length):
            raise CurriculaError(
                f"{place}: token_loss_mask: expected a prompt, then tokens of the policy, all before input_lengths = {length}; got "
                f"{len(mask)} tokens, the first of the policy at {start}"
            )
        named = reach({"agent_ref": _value(row, "agent_ref", listed, place)}, "agent_ref.name") if "agent_ref" in row else None
        distribution = name_from(named) if isinstance(named, str) and named else "all"
        prompt = (distribution, id_from_text(distribution, ids[:start]))
        builder.rollout(builder.group((step, prompt), prompt, place, step, kept=1), reward, place, tokens=len(written))


def _step(file: Path) -> int:
    found = re.search(r"train_data_step(\d{1,18})\.", file.name)
    return int(found[1]) if found else -1


def _in_place(row: Row, number: int, place: Place) -> None:
    """Rows are numbered in their file: a missing or doubled one shows."""
    if "idx" in row and whole_of(row, ("idx",), place) != number:
        raise CurriculaError(
            f"{place}: idx: expected {number}, the row's number in its file, got {shown(row['idx'])}; are rows missing, or two "
            "dumps in one file?"
        )


def _value(row: Row, field: str, listed: bool, place: Place) -> Any:
    value = field_of(row, (field,), place)
    if not listed:
        return value
    if not isinstance(value, list) or len(value) != 1:
        came = f"{len(value)} values" if isinstance(value, list) else shown(value)
        raise CurriculaError(f"{place}: {field}: expected one value in a list, got {came}; were columns of unequal lengths logged?")
    return value[0]


def _tokens(value: Any, field: str, place: Place) -> Sequence[int]:
    """Token ids or a mask: whole numbers, which a tensor of fractions may have turned into 1.0."""
    if not isinstance(value, list) or not all(isinstance(part, int) or _is_whole(part) for part in value):
        raise CurriculaError(f"{place}: {field}: expected a list of whole numbers, got {shown(value)}")
    return [int(part) for part in value]


def _is_whole(part: object) -> bool:
    return isinstance(part, float) and part.is_integer()
