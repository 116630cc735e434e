"""Evaluations that SkyRL dumps: ``<export_path>/dumped_evals/global_step_{step}_evals/<data source>.jsonl``."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from curricula.types import CurriculaError
from replay.builder import UNSAID, RunBuilder, field_of, id_of, name_from, prompt_of, reward_of, shown
from replay.files import first_fields, log_files
from replay.importers import register
from replay.types import Lack, LoggedRun
from rollout.rows import Place, Row, read_rows

FIELDS = frozenset({"input_prompt", "output_response", "score", "env_class"})
TOTALS = "aggregated_results.jsonl"  # means of the evaluation, in the same folder
STEP = re.compile(r"global_step_(\d{1,18})_evals")


@register("skyrl")
@dataclass(frozen=True)
class SkyRL:
    """One row per trajectory; rows of one evaluation with the same prompt are one group, of one policy.

    ``score`` is a number or one reward per token, which are added up. The step stands in the folder's name only: elsewhere it is
    unknown. ``id`` names a (dotted) column with the prompt's id, such as "env_extras.extra_info.index". Step-wise evaluations write
    a row per turn and do not say which turns belong together: they are not for this importer. What training itself dumps is a
    pickle without prompts or groups, and is refused.
    """

    id: str = ""
    reward_range: tuple[float, float] = (0.0, 1.0)

    looks_for: ClassVar[str] = f"JSONL with {', '.join(sorted(FIELDS))} (evaluations), or a folder of global_step_*_evals folders"

    def __post_init__(self) -> None:
        if not isinstance(self.id, str):
            raise CurriculaError(f"log format 'skyrl', id: expected the name of a column, got {self.id!r}")

    def detect(self, path: Path) -> bool:
        files = _files(path)
        return bool(files) and first_fields(files[0]) >= FIELDS

    def read(self, path: Path) -> LoggedRun:
        builder = RunBuilder(self.reward_range)
        for file in _files(path):
            found = STEP.fullmatch(file.parent.name)
            step = int(found[1]) if found else -1
            for place, row in read_rows(file):
                prompt = self._prompt(builder, row, place)
                builder.rollout(builder.group((file.parent, prompt), prompt, place, step), _score(row, place), place)
        lacks: set[Lack] = {"group id", *UNSAID}
        if not self.id:
            lacks.add("prompt id")
        return builder.run(f"skyrl {path}", lacks)

    def _prompt(self, builder: RunBuilder, row: Row, place: Place) -> tuple[str, str]:
        source = row.get("data_source")
        distribution = name_from(source) if isinstance(source, str) and source else "all"
        prompt = prompt_of(row, "input_prompt", distribution, place)
        if not self.id:
            return prompt
        id = name_from(f"{distribution}/{id_of(builder, row, (self.id,), place)}")
        builder.same_text(id, prompt[1], place)
        return distribution, id


def _files(path: Path) -> Sequence[Path]:
    """The files of one evaluation or of several, in the order of their steps."""
    if path.suffix == ".pkl" or (path.is_dir() and any(path.glob("global_step_*_training_input.pkl"))):
        raise CurriculaError(
            f"{path}: a pickle of a training batch: loading one runs whatever code it holds, and it has tensors without prompts or "
            "groups; read evaluations (trainer.dump_eval_results=true) instead"
        )
    if not path.is_dir():
        return [path]
    inside = [folder for folder in path.iterdir() if STEP.fullmatch(folder.name) and folder.is_dir()]
    folders = sorted(inside, key=lambda folder: int(folder.name.split("_")[2])) or [path]
    return [file for folder in folders for file in log_files(folder) if file.name != TOTALS]


def _score(row: Row, place: Place) -> float:
    score = field_of(row, ("score",), place)
    if not isinstance(score, list):
        return reward_of(row, ("score",), place)
    if not score:
        raise CurriculaError(f"{place}: score: expected a number or the tokens' rewards, got {shown(score)}")
    parts = [reward_of({"score": part}, ("score",), place) for part in score]
    return math.fsum(parts) if all(map(math.isfinite, parts)) else math.nan
