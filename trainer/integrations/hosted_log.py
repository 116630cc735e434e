"""A host's rollouts in this project's log, which `curricula replay`, `advise` and `log` read. Needs the rollout package."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curricula import Curriculum
from curricula.hosting import HostedBatch
from curricula.registry import STAGES, name_of
from curricula.types import CurriculaError, Feedback, Floats, Status
from rollout.log import LogPosition, RolloutLog
from rollout.prompts import Prompt
from rollout.types import Attempt, Completion, FinishReason, Judged


class Written(NamedTuple):
    """What a model wrote, as hosts keep it."""

    n_prompt_tokens: int
    token_ids: Sequence[int]
    text: str
    cut: bool  # ended by the token limit
    drawn: Sequence[int] | None = None  # 1 for tokens that the model drew; None = all
    logprobs: Sequence[float] | None = None  # of its tokens; None = unknown


class HostedLog:
    """The log of a hosted curriculum; one commit per batch.

    Errors: CurriculaError when another process writes it.
    """

    def __init__(self, folder: Path, curriculum: Curriculum, host: str) -> None:
        self._log = RolloutLog(folder)
        self._pool = curriculum.pool
        policies = {stage: name_of(stage, getattr(curriculum.stages, stage)) for stage in STAGES}
        self._facts = {"host": host, "seed": curriculum.seed, "policies": policies, "exploration": curriculum.exploration}
        self.close = self._log.close

    @property
    def position(self) -> LogPosition:
        """The end of the last batch."""
        return self._log.position

    def begin(self, position: Sequence[int] | None) -> None:
        """Go on from where a checkpoint was written, or from the start of an empty log.

        Errors: CurriculaError when a new run meets the log of another, or the log does not have the position.
        """
        if position is not None:
            self._log.truncate_to(position)
        elif self._log.position != self._log.beginning:
            raise CurriculaError(
                f"{self._log.folder}: it has the log of a run; resume that run from its checkpoint, or choose another folder"
            )

    def write(self, batch: HostedBatch, written_R: Sequence[Written], contents: Mapping[int, Any], version: int) -> None:
        """All attempts of a batch, with what was written for each of its rollouts; ``contents`` are prompts by row of the pool."""
        start = 0
        for feedback, shaped_R in zip(batch.attempts, batch.shaped, strict=True):
            n = len(feedback.outcome.group_R)
            self._append(feedback, shaped_R, written_R[start : start + n], contents, version)
            start += n
        self._log.commit()

    def _append(
        self, feedback: Feedback, shaped_R: Floats, written_R: Sequence[Written], contents: Mapping[int, Any], version: int
    ) -> None:
        outcome = feedback.outcome
        judged_B: list[list[Judged]] = [[] for _ in range(len(feedback.plan))]
        for r, group in enumerate(outcome.group_R):
            judged_B[group].append(_judged(feedback, r, written_R[r]))
        rows = feedback.plan.selection.prompt_B
        n_tokens = {int(rows[group]): range(written_R[r].n_prompt_tokens) for r, group in enumerate(outcome.group_R)}
        prompts = {int(row): self._prompt(int(row), contents[int(row)]) for row in rows}
        attempt = _by_group(feedback, judged_B, shaped_R)
        facts = {**self._facts, "policy_version": version}
        self._log.append_attempt(self._pool, attempt, facts, _ByRow(prompts), _ByRow(n_tokens))  # type: ignore[arg-type]

    def _prompt(self, row: int, content: Any) -> Prompt:
        distribution = self._pool.distribution_names[self._pool.distribution_N[row]]
        return Prompt(str(self._pool.ids[row]), distribution, json.loads(json.dumps(content, default=str)), answer=None)


class _ByRow(dict[int, Any]):
    """What the log looks up by row of the pool, for the rows of one plan alone."""

    def __missing__(self, row: int) -> Any:
        return ()


def _by_group(feedback: Feedback, judged_B: list[list[Judged]], shaped_R: Floats) -> Attempt:
    """As the log wants it: rollouts group by group, which further rounds may have mixed."""
    outcome, verdict = feedback.outcome, feedback.verdict
    order = np.argsort(outcome.group_R, kind="stable")
    columns = ("group_R", "reward_R", "status_R", "n_tokens_R", "policy_version_R", "n_turns_R")
    outcome = replace(outcome, **{name: getattr(outcome, name)[order] for name in columns})
    verdict = replace(verdict, carries_gradient_R=verdict.carries_gradient_R[order])
    return Attempt(outcome.plan, judged_B, outcome, verdict, shaped_R[order])


def _judged(feedback: Feedback, r: int, written: Written) -> Judged:
    outcome, n = feedback.outcome, len(written.token_ids)
    logprob_T = np.full(n, np.nan) if written.logprobs is None else np.asarray(written.logprobs, dtype=np.float64)
    completion = Completion(
        token_ids=np.asarray(written.token_ids, dtype=np.int32),
        logprob_T=logprob_T.astype(np.float32),
        text=written.text,
        finish=FinishReason.LENGTH if written.cut else FinishReason.STOP,
        drawn_T=None if written.drawn is None else np.asarray(written.drawn, dtype=np.bool_),
    )
    return Judged(completion, Status(int(outcome.status_R[r])), float(outcome.reward_R[r]), int(outcome.policy_version_R[r]))
