"""Rollouts that open-instruct saves: ``{run}_rollouts_{shard}.jsonl``."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from curricula.types import CurriculaError
from replay.builder import UNSAID, RunBuilder, field_of, name_from, reward_of, shown, whole_of
from replay.files import fields_of, matching
from replay.importers import register
from replay.types import LoggedRun
from rollout.rows import Place, Row, id_from_text, read_rows

FIELDS = frozenset({"step", "sample_idx", "prompt_idx", "prompt_tokens", "response_tokens", "reward", "dataset"})
NAME = "*_rollouts_*.jsonl"


@register("open_instruct")
@dataclass(frozen=True)
class OpenInstruct:
    """One row per rollout that entered an update: ``prompt_idx`` is the group's place in the batch of its step.

    Rewards carry the run's ``verification_reward``, 10 by default: name it, ``reward_range: [0, 10]``. A prompt has no id; the hash
    of its tokens is one. The distribution is the row's ``dataset``. With ``mask_truncated_completions`` the run leaves rows out
    before it numbers them, so that one number holds rows of two prompts: refused. So is a sample that comes twice in a step, as a
    resumed run appends it.
    """

    reward_range: tuple[float, float] = (0.0, 1.0)

    looks_for: ClassVar[str] = f"JSONL with {', '.join(sorted(FIELDS))}"

    def detect(self, path: Path) -> bool:
        files = matching(path, NAME)
        return bool(files) and fields_of(files[0]) >= FIELDS

    def read(self, path: Path) -> LoggedRun:
        files = matching(path, NAME)
        runs = sorted({file.name.rpartition("_rollouts_")[0] for file in files})
        if len(runs) != 1:
            raise CurriculaError(f"{path}: expected the files {NAME} of one run, got {', '.join(runs) or 'none'}; read runs apart")
        builder = RunBuilder(self.reward_range)
        seen: set[tuple[int, int]] = set()
        for file in files:
            for place, row in read_rows(file):
                self._add(builder, row, seen, place)
        return builder.run(f"open_instruct {path}", {"prompt id", "rejected groups", *UNSAID})

    def _add(self, builder: RunBuilder, row: Row, seen: set[tuple[int, int]], place: Place) -> None:
        step, sample, at = (whole_of(row, (field,), place) for field in ("step", "sample_idx", "prompt_idx"))
        if (step, sample) in seen:
            raise CurriculaError(
                f"{place}: sample_idx: {sample} came before in step {step}; expected each once; did a resumed run append "
                "to the file?"
            )
        seen.add((step, sample))
        tokens, response = (_tokens(row, field, place) for field in ("prompt_tokens", "response_tokens"))
        distribution = _distribution(row, place)
        prompt = (distribution, id_from_text(distribution, tokens))
        group = builder.group((step, at), prompt, place, step, kept=1)
        builder.rollout(group, reward_of(row, ("reward",), place), place, tokens=len(response))


def _tokens(row: Row, field: str, place: Place) -> Sized:
    value: Any = field_of(row, (field,), place)
    if not isinstance(value, list) or not all(type(part) is int for part in value) or (field == "prompt_tokens" and not value):
        raise CurriculaError(f"{place}: {field}: expected a list of token ids, got {shown(value)}")
    return value


def _distribution(row: Row, place: Place) -> str:
    """The row's data set; several names are one distribution."""
    value: Any = field_of(row, ("dataset",), place)
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise CurriculaError(f"{place}: dataset: expected a name or a list of names, got {shown(value)}")
    return name_from("+".join(names))
