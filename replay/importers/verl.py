"""Rollouts that verl dumps: ``trainer.rollout_data_dir/{step}.jsonl``."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curricula.types import CurriculaError
from replay.builder import UNSAID, RunBuilder, field_of, prompt_of, reward_of, shown, whole_of
from replay.files import first_fields, rows_of
from replay.importers import register
from replay.types import Lack, LoggedRun
from rollout.rows import Place, Row

FIELDS = frozenset({"input", "output", "score", "step"})
UID = re.compile(r"(.*)_([0-9]{1,9})_([0-9]{1,9})", re.DOTALL)
PADDING = re.compile(r"pad[0-9a-f]{32}")  # draws of rows that fill a batch up: no model wrote them, and their score is 0


@register("verl")
@dataclass(frozen=True)
class Verl:
    """One row per trajectory that entered an update; what a filter rejected is not in the dump.

    Newer files have ``uid``, written as draw_session_index: the draw is the group, and of one session's rows the one with the
    highest index counts; the prompt is the input of index 0, later ones go on from it. Rows that verl adds to fill a batch up
    (their uid begins with "pad") are no rollouts and are left out. Older files have no uid: rows of one step with the same
    ``input`` are one group, so two draws of a prompt in one step merge. Validation dumps look the same: read them apart.
    """

    reward_range: tuple[float, float] = (0.0, 1.0)

    looks_for: ClassVar[str] = "JSONL with input, output, score and step"

    def detect(self, path: Path) -> bool:
        return first_fields(path) >= FIELDS

    def read(self, path: Path) -> LoggedRun:
        builder, has_uid = RunBuilder(self.reward_range), False
        sessions: dict[Hashable, tuple[int, int]] = {}  # (step, draw, session) -> highest index so far, place of the rollout
        groups: dict[Hashable, int] = {}
        for place, row in rows_of(path):
            step, reward = whole_of(row, ("step",), place), reward_of(row, ("score",), place)
            has_uid = "uid" in row
            builder.same_kind("uid", "a uid" if has_uid else "no uid", place)
            if not has_uid:
                prompt = prompt_of(row, "input", "all", place)
                builder.rollout(builder.group((step, prompt), prompt, place, step, kept=1), reward, place)
                continue
            draw, session, index = _parts(row, place)
            if PADDING.fullmatch(draw):
                continue
            if index == 0 or (step, draw) not in groups:
                groups[step, draw] = builder.group((step, draw), prompt_of(row, "input", "all", place), place, step, kept=1)
            group = groups[step, draw]
            key = (step, draw, session)
            if key not in sessions:
                sessions[key] = (index, builder.rollout(group, reward, place))
                continue
            highest, rollout = sessions[key]
            if index == highest:
                raise CurriculaError(
                    f"{place}: uid: {shown(row['uid'])} came before in step {step}; expected each uid once per step"
                )
            if index > highest:
                sessions[key] = (index, rollout)
                builder.replace(rollout, reward, place)
        rebuilt: set[Lack] = set() if has_uid else {"group id"}
        return builder.run(f"verl {path}", {"prompt id", "rejected groups", *rebuilt, *UNSAID})


def _parts(row: Row, place: Place) -> tuple[str, int, int]:
    uid = field_of(row, ("uid",), place)
    parts = UID.fullmatch(uid) if isinstance(uid, str) else None
    if parts is None:
        raise CurriculaError(f"{place}: uid: expected draw_session_index with two whole numbers, got {shown(uid)}")
    return parts[1], int(parts[2]), int(parts[3])
