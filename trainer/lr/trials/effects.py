"""What one update at a rate does to the policy, measured on rollouts that are there already.

A trial starts from the same weights and the same state of the optimiser as every other one, so that rates can be compared: nothing
drifts, no rollout is drawn for it, and what is left of it afterwards is nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.types import Floats
from trainer.losses import MAX_K3, MAX_LOG_RATIO
from trainer.lr.trials.batches import Drawn
from trainer.settings import LearnerSettings
from trainer.types import TrainSequence

MOST_KL = 0.01  # nats per token, old policy to new: where PPO practice stops or brakes (early stopping, KL-adaptive rates)


class Effect(NamedTuple):
    """Of one step of the learner (its ``updates_per_step`` updates) on the batch that it was made with."""

    lr: float
    kl: float  # old policy to new, mean per token that the model drew, nats
    kl_rollout: float  # the same per rollout
    clipped: float  # share of tokens that one more update on the batch would find clipped
    entropy_drop: float  # mean per token, nats
    grad_norm: float  # on the batch, by the new weights


class Change(NamedTuple):
    """New against old log-probabilities."""

    kl: float  # mean per token that the model drew, nats
    kl_rollout: float  # the same per rollout
    clipped: float  # share of tokens


def one_batch(drawn: Drawn, lr: float) -> Effect:
    """Every batch makes one update at this rate, from the start; the effect is the last one's.

    Entropy and gradient behind the update come from one more step, at rate 0, which changes no weight.
    """
    learner, last = drawn.learner, drawn.batches[-1]
    learner.load(drawn.state)
    for batch in drawn.batches[:-1]:
        learner.step(batch, lr)
    old = learner.logprobs(last)
    before = learner.step(last, lr)
    change = change_of(last, old, learner.logprobs(last), drawn.recipe.learner)
    after = learner.step(last, 0.0)
    drop = before.metrics.get("entropy", np.nan) - after.metrics.get("entropy", np.nan)
    return Effect(lr, *change, entropy_drop=drop, grad_norm=after.grad_norm)


def sweep(drawn: Drawn, rates: Sequence[float]) -> list[Effect]:
    """One run of updates from the start, each at the next rate and on the next batch in turn (arXiv 1506.01186's range test).

    Entropy drop and gradient norm are between two visits of a batch, so NaN at the last visits. What came before an update is in
    its figures: batches are older than the weights, and the optimiser has seen lower rates.
    """
    learner, n = drawn.learner, len(drawn.batches)
    learner.load(drawn.state)
    changes, entropy_T, norm_T = [], [], []
    for t, lr in enumerate(rates):
        batch = drawn.batches[t % n]
        old = learner.logprobs(batch)
        report = learner.step(batch, lr)
        changes.append(change_of(batch, old, learner.logprobs(batch), drawn.recipe.learner))
        entropy_T.append(report.metrics.get("entropy", np.nan))
        norm_T.append(report.grad_norm)
    entropy_T, norm_T = entropy_T + [np.nan] * n, norm_T + [np.nan] * n
    return [Effect(lr, *changes[t], entropy_T[t] - entropy_T[t + n], norm_T[t + n]) for t, lr in enumerate(rates)]


def change_of(
    sequences: Sequence[TrainSequence],
    old: Sequence[NDArray[np.float32]],
    new: Sequence[NDArray[np.float32]],
    settings: LearnerSettings,
) -> Change:
    """KL by k3 on tokens that the old policy drew (J. Schulman, 2020), and what the clip of the recipe's loss would cut.

    NaN where a log-probability is not finite.
    """
    moved = moves(sequences, old, new)
    d_T = np.concatenate([*moved, np.zeros(0)])
    if not len(d_T) or not np.isfinite(d_T).all():
        return Change(np.nan, np.nan, np.nan)
    k3_T = np.minimum(np.expm1(d_T) - d_T, MAX_K3)
    if settings.loss == "gspo":  # one ratio per rollout
        moved = [np.full(len(d_t), d_t.mean() if len(d_t) else 0.0) for d_t in moved]
    ratio_T = np.exp(np.concatenate(moved))
    advantage_T = np.concatenate([sequence.drawn_advantages for sequence in sequences])
    cut_T = ((advantage_T > 0) & (ratio_T > 1 + settings.clip_high)) | ((advantage_T < 0) & (ratio_T < 1 - settings.clip_low))
    return Change(float(k3_T.mean()), float(k3_T.sum() / len(sequences)), float(cut_T.mean()))


def moves(
    sequences: Sequence[TrainSequence], old: Sequence[NDArray[np.float32]], new: Sequence[NDArray[np.float32]]
) -> list[Floats]:
    """log new / old of each drawn token, sequence by sequence, cut where the losses cut it."""
    return [
        np.clip((new_T - old_T).astype(np.float64)[_drawn(sequence)], -MAX_LOG_RATIO, MAX_LOG_RATIO)
        for sequence, old_T, new_T in zip(sequences, old, new, strict=True)
    ]


def _drawn(sequence: TrainSequence) -> slice | NDArray[np.bool_]:
    return slice(None) if sequence.drawn_T is None else sequence.drawn_T


def largest_within(effects: Sequence[Effect], most_kl: float = MOST_KL) -> Effect | None:
    """The largest rate below the first one with a KL per token beyond ``most_kl`` (or not finite); None where the lowest is."""
    best = None
    for effect in sorted(effects, key=lambda effect: effect.lr):
        if not effect.kl <= most_kl:
            break
        best = effect
    return best


def rates_between(low: float, high: float, n: int, linear: bool = False) -> Floats:
    """(n,) from low to high, ends included.

    >>> rates_between(1e-7, 1e-4, 101)[[0, 25, 50, 75, 100]]
    array([1.00000000e-07, 5.62341325e-07, 3.16227766e-06, 1.77827941e-05,
           1.00000000e-04])
    """
    return np.linspace(low, high, n) if linear else np.geomspace(low, high, n)
