"""The loss of one micro-batch and what is worth watching about it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from trainer.losses import LOSSES, ClipRange, PolicyLoss, Tokens, importance_weight_T, kl_T
from trainer.micro_batches import MicroBatch
from trainer.settings import LearnerSettings

SUMS = ("loss", "tokens", "clip_fraction", "entropy", "importance_mean", "kl", "mismatch_tokens", "mismatch_mean")
MAXIMA = ("ratio_max", "mismatch_max")


@dataclass(frozen=True, eq=False)
class Scored:
    """What the models say about a micro-batch's completion tokens."""

    logprob_T: Tensor  # carries the gradient
    entropy_T: Tensor
    reference_T: Tensor | None  # log-probabilities under the frozen reference, where a KL term needs them


@dataclass(frozen=True, eq=False)
class Tally:
    """Sums and maxima over micro-batches, one vector each, so that ranks exchange two small tensors."""

    sums: Tensor  # (len(SUMS),) float64
    maxima: Tensor  # (len(MAXIMA),) float64

    @classmethod
    def zero(cls) -> Tally:
        return cls(torch.zeros(len(SUMS), dtype=torch.float64), torch.zeros(len(MAXIMA), dtype=torch.float64))

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.sums + other.sums.cpu(), torch.maximum(self.maxima, other.maxima.cpu()))

    @property
    def loss(self) -> float:
        return float(self.sums[SUMS.index("loss")])

    def metrics(self) -> dict[str, float]:
        """Means per token; a figure that nothing was measured for is absent."""
        total = dict(zip(SUMS, self.sums.tolist(), strict=True))
        highest = dict(zip(MAXIMA, self.maxima.tolist(), strict=True))
        n_tokens, n_fresh = total["tokens"], total["mismatch_tokens"]
        found = {"tokens": n_tokens}
        if n_tokens:
            found |= {name: total[name] / n_tokens for name in ("clip_fraction", "entropy", "importance_mean", "kl")}
            found["ratio_max"] = highest["ratio_max"]
        if n_fresh:
            found |= {"mismatch_mean": total["mismatch_mean"] / n_fresh, "mismatch_max": highest["mismatch_max"]}
        return found


def objective(micro: MicroBatch, scored: Scored, settings: LearnerSettings, version: int) -> tuple[Tensor, Tally]:
    """The micro-batch's share of the loss, and its tally.

    With an importance cap the ratio is taken against the learner's own log-probabilities from before the step (the current ones,
    detached, when the step has one update: no extra pass), and min(learner / rollout, cap) corrects for engine and staleness.
    Without a cap the ratio is taken against the rollout's log-probabilities and corrects for both itself.
    """
    weights_T, old_T = _correction(micro, scored.logprob_T.detach(), settings.importance_cap)
    tokens = Tokens(scored.logprob_T, old_T, micro.advantage_T, micro.sequence_T)
    policy = LOSSES[settings.loss](tokens, ClipRange(settings.clip_low, settings.clip_high, settings.dual_clip))
    loss_T, divergence_T = weights_T * policy.loss_T, torch.zeros_like(old_T)
    if scored.reference_T is not None:
        divergence_T = kl_T(scored.logprob_T, scored.reference_T, settings.kl_estimator)
        loss_T = loss_T + settings.kl_coefficient * divergence_T
    loss = (micro.weight_T * loss_T).sum()
    return loss, _tally(micro, scored, policy, weights_T, divergence_T, loss, version)


def _correction(micro: MicroBatch, current_T: Tensor, cap: float | None) -> tuple[Tensor, Tensor]:
    """Importance weight of each token, and the log-probability that the ratio is taken against."""
    if cap is None:
        return torch.ones_like(current_T), micro.rollout_T
    learner_T = current_T if micro.learner_T is None else micro.learner_T
    return importance_weight_T(learner_T, micro.rollout_T, cap), learner_T


@torch.no_grad()
def _tally(
    micro: MicroBatch, scored: Scored, policy: PolicyLoss, weights_T: Tensor, divergence_T: Tensor, loss: Tensor, version: int
) -> Tally:
    real_T = micro.weight_T > 0  # a dummy's token counts nowhere
    fresh_T = real_T & (micro.version_T == version)  # drawn by exactly these weights: the engine should agree
    gap_T = (scored.logprob_T - micro.rollout_T).abs() * fresh_T
    counted = (real_T, policy.clipped_T, scored.entropy_T, weights_T, divergence_T)
    sums = [loss, *((value_T * real_T).sum() for value_T in counted), fresh_T.sum(), gap_T.sum()]
    maxima = [(policy.ratio_T * real_T).max(), gap_T.max()]
    return Tally(torch.stack([x.double() for x in sums]), torch.stack([x.double() for x in maxima]))
