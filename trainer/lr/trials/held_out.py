"""What an update is worth on rollouts that it was not made with, without drawing new ones.

For a rollout that the old policy drew, w = new / old probability of the whole completion. The mean of (w - 1) x advantage
estimates by how much the new policy's expected advantage exceeds the old one's. It is worth nothing once few rollouts carry all of
the weight, which their effective number, (sum w)^2 / sum w^2, tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.statistics import Interval, interval
from curricula.types import Floats
from trainer.losses import MAX_SEQUENCE_LOG_RATIO
from trainer.lr.trials.batches import Drawn
from trainer.lr.trials.effects import change_of, moves
from trainer.lr.trials.forecast import forecast
from trainer.types import TrainSequence

Logprobs = Sequence[NDArray[np.float32]]


class Tried(NamedTuple):
    """A rate."""

    lr: float
    gain_B: Floats  # of each held-out group, in units of the advantage; of a forecast, its jackknife pseudo-values
    kl: float  # old to new, mean per held-out token; largest of the batches
    ess: float  # effective share of the held-out rollouts; smallest of the batches

    @property
    def gain(self) -> Interval:
        """The mean and its 95 % interval over groups."""
        return interval(self.gain_B)


def old_logprobs(drawn: Drawn) -> list[Logprobs]:
    """Of every batch, before any update."""
    drawn.learner.load(drawn.state)
    return [drawn.learner.logprobs(batch) for batch in drawn.batches]


def try_rate(drawn: Drawn, old: Sequence[Logprobs], lr: float, updates: int = 1, until: int = 0) -> Tried:
    """Every batch makes ``updates`` steps from the start, and all the others judge them; groups are averaged over who judged them.

    ``until`` beyond ``updates`` forecasts the gain after so many steps from those that were made (`trainer.lr.trials.forecast`). KL
    and effective share are of the steps that were made.
    """
    gain_FUB, kl, ess = [], [], []
    for fold, batch in enumerate(drawn.batches):
        drawn.learner.load(drawn.state)
        gain_UB = []
        for _ in range(updates):
            drawn.learner.step(batch, lr)
            new = [drawn.learner.logprobs(other) if i != fold else None for i, other in enumerate(drawn.batches)]
            gain_UB.append(np.concatenate([_gains(*each) for each in zip(drawn.batches, old, new, strict=True)]))
        gain_FUB.append(gain_UB)
        for other, before, after in zip(drawn.batches, old, new, strict=True):
            if after is not None:
                kl.append(change_of(other, before, after, drawn.recipe.learner).kl)
                ess.append(effective_share(weights(other, before, after)))
    gain_UB = np.nanmean(np.asarray(gain_FUB), axis=0)
    gain_B = gain_UB[-1] if until <= updates else forecast_gains(gain_UB, until)
    return Tried(lr, gain_B, float(np.max(kl)), float(np.min(ess)))


def weights(sequences: Sequence[TrainSequence], old: Logprobs, new: Logprobs) -> Floats:
    """(R,) new / old probability of each completion, its logarithm cut at +-10; NaN where not finite."""
    log_R = np.array([move_t.sum() for move_t in moves(sequences, old, new)])
    return np.asarray(np.exp(np.clip(log_R, -MAX_SEQUENCE_LOG_RATIO, MAX_SEQUENCE_LOG_RATIO)))


def effective_share(weight_R: Floats) -> float:
    """(sum w)^2 / (R sum w^2), 1 where all are equal.

    >>> effective_share(np.array([1.0, 1.0, 0.0, 0.0]))
    0.5
    """
    return float(weight_R.sum() ** 2 / (len(weight_R) * (weight_R**2).sum()))


def _gains(sequences: Sequence[TrainSequence], old: Logprobs, new: Logprobs | None) -> Floats:
    """(B,) mean of (w - 1) x advantage of each group; NaN for the batch that made the update."""
    group_R = np.unique([sequence.group for sequence in sequences], return_inverse=True)[1]
    if new is None:
        return np.full(int(group_R.max()) + 1, np.nan)
    value_R = (weights(sequences, old, new) - 1.0) * np.array([sequence.advantage for sequence in sequences])
    return np.asarray(np.bincount(group_R, weights=value_R) / np.bincount(group_R))


def forecast_gains(gain_UB: Floats, until: int) -> Floats:
    """(B,) jackknife pseudo-values of the forecast of the mean gain after ``until`` steps.

    Their mean estimates it, their spread is its error, and two rates can be compared group by group.
    """

    def forecast_of(gain_U: Floats) -> float:
        loss_T = np.concatenate([[0.0], -gain_U])
        return -float(forecast(loss_T).at(until))

    n, total_U = gain_UB.shape[1], gain_UB.sum(axis=1)
    whole = forecast_of(total_U / n)
    return np.array([n * whole - (n - 1) * forecast_of((total_U - gain_UB[:, b]) / (n - 1)) for b in range(n)])
