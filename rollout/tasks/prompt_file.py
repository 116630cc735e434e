"""Prompts from JSONL or Parquet files, in verl's schema, in TRL's, or with columns of your own.

Columns are named by dotted paths, so ``extra_info.level`` reaches into verl's nested column. Where a column is not named, the
usual ones are looked for: the answer in ``reward_model.ground_truth`` (verl), ``answer``, ``solution`` or ``ground_truth``; the
distribution in ``data_source``. A prompt is text or a list of chat messages. One message that already holds a rendered ChatML
conversation (Logic-RL's files do) is text: a chat template around it would open the conversation twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curricula.rows import prompt_content
from curricula.types import CurriculaError
from rollout.prompts import Prompt, PromptSet, RewardSpec
from rollout.rows import MISSING, Place, Row, first, id_from_text, read_rows
from rollout.tasks import register
from rollout.templates import Form, fill, in_form, refuse_template

ANSWERS = ("reward_model.ground_truth", "answer", "solution", "ground_truth")
DISTRIBUTIONS = ("data_source",)


@register("prompt_file")
@dataclass(frozen=True)
class PromptFile:
    """One distribution per value of ``distribution_column``.

    Without an id column, a prompt's id is a hash of its text and distribution.
    """

    train: str
    held_out: str = ""  # a file of its own; without it, a share of the training file
    held_out_share: float = 0.1  # by a hash of the prompt's id, so that a prompt stays on its side
    prompt_column: str = "prompt"
    answer_column: str = ""
    distribution_column: str = ""
    id_column: str = ""
    prior_column: str = ""  # pass rate in [0, 1] that is known before the run
    prompt_template: str = "{prompt}"  # around prompts that are text
    form: Form = "text"  # chat: text becomes one message of the user, for the tokenizer's chat template
    reward: RewardSpec = RewardSpec("math")

    def __post_init__(self) -> None:
        if not 0 < self.held_out_share < 1:
            raise CurriculaError(f"task 'prompt_file', held_out_share: expected a share between 0 and 1, got {self.held_out_share}")
        refuse_template("task 'prompt_file', prompt_template", self.prompt_template, "prompt")

    def build(self, seed: int) -> tuple[PromptSet, PromptSet]:
        train = self._prompts(Path(self.train))
        if self.held_out:
            held_out = self._prompts(Path(self.held_out))
            seen = {prompt.id for prompt in held_out}
            train = [prompt for prompt in train if prompt.id not in seen]
        else:
            held_out = [prompt for prompt in train if _share_of(prompt.id) < self.held_out_share]
            train = [prompt for prompt in train if _share_of(prompt.id) >= self.held_out_share]
        for name, part in (("training", train), ("held-out", held_out)):
            if not part:
                raise CurriculaError(
                    f"task 'prompt_file': no {name} prompts are left from {self.train}; check held_out and held_out_share"
                )
        return PromptSet(train, self.reward), PromptSet(held_out, self.reward)

    def _prompts(self, path: Path) -> list[Prompt]:
        prompts = [self._prompt(row, place) for place, row in read_rows(path)]
        if not prompts:
            raise CurriculaError(f"{path}: it has no rows; expected one prompt per line or row")
        _refuse_duplicates(path, prompts, self.id_column)
        return prompts

    def _prompt(self, row: Row, place: Place) -> Prompt:
        content = self._content(column(row, (self.prompt_column,), place, "prompt_column"), place)
        answer = column(row, (self.answer_column,) if self.answer_column else ANSWERS, place, "answer_column")
        if answer is None:
            raise CurriculaError(
                f"{place}: the answer is null; expected what the reward {self.reward.name!r} compares with; fill or drop the row"
            )
        distribution = self._distribution(row, place)
        prior = column(row, (self.prior_column,), place, "prior_column") if self.prior_column else None
        return Prompt(
            id=self._id(row, place, content, distribution),
            distribution=distribution,
            content=content,
            answer=_plain(answer),
            extra=_plain(dict(row.get("extra_info") or {})),
            prior_pass_rate=float("nan") if prior is None else float(prior),
        )

    def _content(self, value: Any, place: Place) -> str | list[dict[str, str]]:
        if isinstance(value, str) and value:
            return in_form(fill(self.prompt_template, {"prompt": value}), self.form)
        if (content := prompt_content(value)) is not None:
            return content
        raise CurriculaError(
            f"{place}: column {self.prompt_column!r}: expected text or chat messages with role and content, got {str(value)[:80]!r}"
        )

    def _distribution(self, row: Row, place: Place) -> str:
        if self.distribution_column:
            return str(column(row, (self.distribution_column,), place, "distribution_column"))
        found = first(row, DISTRIBUTIONS)
        return "all" if found in (MISSING, None) else str(found)

    def _id(self, row: Row, place: Place, content: Any, distribution: str) -> str:
        if self.id_column:
            return str(column(row, (self.id_column,), place, "id_column"))
        return id_from_text(distribution, content)


def column(row: Row, paths: Sequence[str], place: Place, setting: str) -> Any:
    """The value of the first of these dotted paths that the row has."""
    value = first(row, paths)
    if value is MISSING:
        raise CurriculaError(
            f"{place}: no column {' or '.join(map(repr, paths))}; it has {', '.join(map(str, row))}; name the "
            f"right one in task.{setting}"
        )
    return value


def _plain(value: Any) -> Any:
    """What survives JSON; dates and the like become text."""
    return json.loads(json.dumps(value, default=str))


def _refuse_duplicates(path: Path, prompts: Sequence[Prompt], id_column: str) -> None:
    seen: set[str] = set()
    for prompt in prompts:
        if prompt.id in seen:
            source = f"column {id_column!r}" if id_column else "a hash of prompt and distribution"
            raise CurriculaError(
                f"{path}: prompt id {prompt.id!r} ({source}) appears more than once; drop repeated rows or name a "
                "unique task.id_column"
            )
        seen.add(prompt.id)


def _share_of(prompt_id: str) -> float:
    return int.from_bytes(hashlib.blake2b(prompt_id.encode(), digest_size=8).digest(), "big") / 2**64
