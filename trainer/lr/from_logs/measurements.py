"""What a run's log says of score and compute."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from curricula.types import CurriculaError, Floats, known_or_raise
from trainer.lr.from_logs.sigmoid import FEWEST, Scores
from trainer.observer import EvaluationResult, StepRecord
from trainer.run_log import RunLog

Of = Literal["evaluations", "training"]

MOST_BLOCKS = 30  # of training steps: neighbours err alike, their means less so

UNITS: dict[str, Callable[[StepRecord], float]] = {  # of a step
    "tokens": lambda record: record.n_tokens_generated,
    "rollouts": lambda record: record.n_rollouts,
    "updates": lambda record: record.n_updates,
    "seconds": lambda record: record.seconds,
}
MEANING = {
    "tokens": "completion tokens generated",
    "rollouts": "rollouts generated",
    "updates": "updates",
    "seconds": "seconds of its steps, without evaluations",
}


class Measured(NamedTuple):
    """Scores of a run, and the error that they share."""

    scores: Scores
    prompt_error: float  # standard error over prompts, the same for all points; NaN = not known


def measured(data: RunLog, unit: str, of: str = "evaluations") -> Measured:
    """Mean sampled score over distributions at each evaluation, or the training accuracy over blocks of steps, by compute spent.

    Errors: CurriculaError for an unknown unit, too few of them, steps that are missing or do not say what they spent.
    """
    known_or_raise("unit of compute", unit, tuple(UNITS))
    known_or_raise("scores to fit:", of, ("evaluations", "training"))
    spent_T = np.array([UNITS[unit](record) for record in data.steps], dtype=np.float64)
    if [record.step for record in data.steps] != list(range(len(data.steps))):
        raise CurriculaError(f"{data.folder}: its log lacks some steps, so the compute before a measurement is not known")
    if not np.isfinite(spent_T).all():
        raise CurriculaError(f"{data.folder}: its log does not say the {unit} of every step; choose another --unit")
    return _of_evaluations(data, spent_T) if of == "evaluations" else _of_training(data, spent_T)


def _of_evaluations(data: RunLog, spent_T: Floats) -> Measured:
    done_T = np.append(0.0, spent_T.cumsum())
    found = [one for one in data.evaluations if one.step < len(done_T) and math.isfinite(one.sampled)]
    if len(found) < FEWEST:
        every = max(data.recipe.run.n_steps // 15, 1)
        raise CurriculaError(
            f"{data.folder}: {len(found)} evaluations, expected {FEWEST} or more, for the curve has four constants; train with "
            f"--set evaluation.every={every}, or fit what was seen in training by --of training"
        )
    score_E = np.array([one.sampled for one in found])
    n_E = np.full(len(found), _n_effective(found, data.recipe.evaluation.samples_per_prompt))
    error = float(np.mean([one.standard_error for one in found]))
    return Measured(Scores(done_T[[one.step for one in found]], np.clip(score_E, 0.0, 1.0), n_E), error)


def _n_effective(evaluations: list[EvaluationResult], n_samples: int) -> float:
    """Rollouts of one pass rate that would be as noisy: distributions near 0 or 1 add none, and the mean weighs all alike."""
    alike, split = 0.0, 0.0
    for one in evaluations:
        p_K = np.array([score.sampled for score in one.scores.values()])
        n_K = np.array([score.n_prompts * n_samples for score in one.scores.values()])
        inside_K = (p_K * n_K + 0.5) / (n_K + 1)
        alike += one.sampled * (1 - one.sampled)
        split += float((inside_K * (1 - inside_K) / n_K).sum()) / len(p_K) ** 2
    return max(alike / split, 1.0)


def _of_training(data: RunLog, spent_T: Floats) -> Measured:
    known = np.array([math.isfinite(record.accuracy) and record.n_rollouts > 0 for record in data.steps], dtype=bool)
    steps = np.flatnonzero(known)
    if len(steps) < FEWEST:
        raise CurriculaError(
            f"{data.folder}: {len(steps)} steps with rewards, expected {FEWEST} or more, for the curve has four constants"
        )
    middle_T = spent_T.cumsum() - spent_T  # a step's rollouts are drawn by the weights before its update
    blocks = np.array_split(steps, min(len(steps), MOST_BLOCKS))
    n_T = np.array([record.n_rollouts for record in data.steps], dtype=np.float64)
    accuracy_T = np.array([record.accuracy for record in data.steps])
    score_E = np.array([np.average(accuracy_T[block], weights=n_T[block]) for block in blocks])
    at_E = np.array([np.average(middle_T[block], weights=n_T[block]) for block in blocks])
    return Measured(Scores(at_E, score_E, np.array([n_T[block].sum() for block in blocks])), math.nan)
