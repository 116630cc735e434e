"""The rollouts of verl's queue in this project's log, rejected ones too. Needs the rollout package."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import transfer_queue as tq

from curricula import Curriculum
from curricula.hosting import HostedBatch
from trainer.integrations.hosted_log import HostedLog, Written
from trainer.integrations.verl_queue import TRAIN


class QueueLog:
    """One commit per step of verl's trainer."""

    def __init__(self, folder: str, curriculum: Curriculum, trainer: Any) -> None:
        self._log = HostedLog(Path(folder), curriculum, "verl")
        self._trainer = trainer
        self._begun = False

    @property
    def position(self) -> list[int]:
        """The end of the last step, for a checkpoint."""
        return [int(number) for number in self._log.position]

    def begin(self, position: Sequence[int] | None) -> None:
        """Go on from a checkpoint's position; from the start where there is none and nothing was begun."""
        if position is not None or not self._begun:
            self._log.begin(position)
        self._begun = True

    def write(self, hosted: HostedBatch, keys_R: list[list[str]]) -> None:
        """All that was rolled out for a step, while its rows are in the queue."""
        rows = {int(row) for one in hosted.attempts for row in one.plan.selection.prompt_B}
        data_set = self._trainer.train_dataset
        contents = {row: data_set.dataframe[row][data_set.prompt_key] for row in rows}
        self._log.write(hosted, self._written(keys_R), contents, self._trainer.global_steps - 1)

    def _written(self, keys_R: list[list[str]]) -> list[Written]:
        keys = [key for of_one in keys_R for key in of_one]
        if not keys:
            return [Written(0, [], "", False) for _ in keys_R]
        data = tq.kv_batch_get(keys=keys, partition_id=TRAIN, select_fields=["prompts", "responses", "response_mask"])
        rows = dict(zip(keys, zip(data["prompts"], data["responses"], data["response_mask"], strict=True), strict=True))
        return [self._one([rows[key] for key in of_one]) for of_one in keys_R]

    def _one(self, rows: list[Any]) -> Written:
        """The rows of one rollout as one text: what was written in them, one behind the other."""
        if not rows:
            return Written(0, [], "", False)
        ids = np.concatenate([response.numpy() for _, response, _ in rows])
        drawn = np.concatenate([mask.numpy() for _, _, mask in rows])
        cut = len(rows[-1][1]) >= self._trainer.config.data.max_response_length
        text = self._trainer.tokenizer.decode(ids.tolist(), skip_special_tokens=True)
        return Written(len(rows[0][0]), ids.tolist(), text, cut, drawn.tolist())
