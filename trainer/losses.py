"""Policy-gradient losses per token, KL estimators, importance weights and aggregation: pure functions on flat tensors.

All tensors are (T,) over the completion tokens of a micro-batch. A loss is summed with per-token weights whose denominators are
global (see `token_weights`), so neither micro-batches nor ranks can change it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from curricula.types import Floats, Ints

MAX_LOG_RATIO = 20.0  # |log ratio| beyond this is cut, so that exp() stays finite in float32
MAX_SEQUENCE_LOG_RATIO = 10.0
MAX_K3 = 10.0

Aggregation = Literal["token_mean", "sequence_mean", "constant"]


class Tokens(NamedTuple):
    """What a policy loss reads."""

    logprob_T: Tensor  # under the weights being trained; carries the gradient
    old_T: Tensor  # under the weights that the ratio is taken against
    advantage_T: Tensor
    sequence_T: Tensor  # which sequence of the micro-batch each token belongs to, 0..n-1


class ClipRange(NamedTuple):
    """Ratios between 1 - low and 1 + high are trusted."""

    low: float
    high: float
    dual: float | None = None  # bound on the ratio where the advantage is negative


class PolicyLoss(NamedTuple):
    """A loss with what is worth watching about it."""

    loss_T: Tensor
    ratio_T: Tensor  # detached
    clipped_T: Tensor  # bool: the clip changed this token's gradient


def clip_loss(tokens: Tokens, clip: ClipRange) -> PolicyLoss:
    """PPO's clipped surrogate, asymmetric, with optional dual clip.

    max(-A rho, -A clip(rho, 1 - low, 1 + high)), arXiv 1707.06347; different low and high: arXiv 2503.14476;
    where A < 0 at most -A dual, arXiv 1912.09729.
    """
    return _clipped(_log_ratio(tokens), tokens.advantage_T, clip)


def gspo_loss(tokens: Tokens, clip: ClipRange) -> PolicyLoss:
    """The clipped surrogate with one ratio per sequence, s = exp(mean_t log rho_t), arXiv 2507.18071.

    The ratio of token t is sg(s) rho_t / sg(rho_t): the value is s everywhere, the gradient stays with the token. The paper
    averages over sequences (aggregation "sequence_mean") and clips far closer to 1 than PPO does.
    """
    current_T = tokens.logprob_T - tokens.logprob_T.detach()  # 0, with the token's gradient
    log_s_T = sequence_mean_T(_log_ratio(tokens).detach(), tokens.sequence_T)
    return _clipped((log_s_T + current_T).clamp(max=MAX_SEQUENCE_LOG_RATIO), tokens.advantage_T, clip)


def cispo_loss(tokens: Tokens, clip: ClipRange) -> PolicyLoss:
    """-sg(clip(rho, 1 - low, 1 + high)) A logp, arXiv 2506.13585: a clipped token keeps its gradient, with a bounded weight.

    verl's convention. TRL's min(rho, cap) is the same with low = 1 and high = cap - 1; a cap of 5 is ``low=1, high=4``.
    """
    ratio_T = _log_ratio(tokens).detach().exp()
    bounded_T = ratio_T.clamp(1 - clip.low, 1 + clip.high)
    return PolicyLoss(-bounded_T * tokens.advantage_T * tokens.logprob_T, ratio_T, bounded_T != ratio_T)


LOSSES: Mapping[str, Callable[[Tokens, ClipRange], PolicyLoss]] = {"clip": clip_loss, "gspo": gspo_loss, "cispo": cispo_loss}


def sequence_mean_T(value_T: Tensor, sequence_T: Tensor) -> Tensor:
    """The mean over each sequence's tokens, at each of its tokens."""
    n = int(sequence_T.max()) + 1 if len(sequence_T) else 0
    total = value_T.new_zeros(n).index_add(0, sequence_T, value_T)
    count = torch.bincount(sequence_T, minlength=n)
    return (total / count.clamp(min=1))[sequence_T]


def kl_T(logprob_T: Tensor, reference_T: Tensor, estimator: Literal["k1", "k2", "k3"]) -> Tensor:
    """Estimates of KL(policy, reference) from drawn tokens; with d = log reference - log policy (J. Schulman, 2020):

    k1 = -d (unbiased; as a loss term its expected gradient is zero), k2 = d^2 / 2, k3 = exp(d) - d - 1.
    d is cut at +-20 and k3 at 10.
    """
    d_T = (reference_T - logprob_T).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    if estimator == "k1":
        return -d_T
    if estimator == "k2":
        return d_T.square() / 2
    return (d_T.exp() - d_T - 1).clamp(max=MAX_K3)


def importance_weight_T(learner_T: Tensor, rollout_T: Tensor, cap: float) -> Tensor:
    """min(learner / rollout, cap) per token, without gradient.

    The truncated importance weight that corrects for engines whose numerics or weights differ from the learner's.
    """
    log_ratio_T = (learner_T - rollout_T).detach().clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return log_ratio_T.exp().clamp(max=cap)


def token_weights(n_tokens_R: Ints, rule: Aggregation, constant_tokens: int) -> Floats:
    """(R,) the weight of each token of sequence r; the loss is the sum of weight x token loss over everything.

    ``token_mean`` 1 / all tokens; ``sequence_mean`` 1 / (own tokens x non-empty sequences); ``constant``
    1 / (sequences x constant_tokens), Dr. GRPO as TRL computes it (verl does not divide by the number of sequences).
    Empty completions weigh 0. Pass the whole optimiser batch, also sequences that are not run through the model.
    """
    full_R = n_tokens_R > 0
    if rule == "token_mean":
        weight_R = np.full(len(n_tokens_R), 1.0 / max(int(n_tokens_R.sum()), 1))
    elif rule == "sequence_mean":
        weight_R = 1.0 / (np.maximum(n_tokens_R, 1) * max(int(full_R.sum()), 1))
    else:
        weight_R = np.full(len(n_tokens_R), 1.0 / max(len(n_tokens_R) * constant_tokens, 1))
    return np.where(full_R, weight_R, 0.0)


def _log_ratio(tokens: Tokens) -> Tensor:
    return (tokens.logprob_T - tokens.old_T).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def _clipped(log_ratio_T: Tensor, advantage_T: Tensor, clip: ClipRange) -> PolicyLoss:
    ratio_T = log_ratio_T.exp()
    plain_T = -advantage_T * ratio_T
    bounded_T = -advantage_T * ratio_T.clamp(1 - clip.low, 1 + clip.high)
    clipped_T, loss_T = bounded_T > plain_T, torch.maximum(plain_T, bounded_T)
    if clip.dual is not None:
        most_T = torch.where(advantage_T < 0, -advantage_T * clip.dual, torch.inf)
        clipped_T, loss_T = clipped_T | (loss_T > most_T), torch.minimum(loss_T, most_T)
    return PolicyLoss(loss_T, ratio_T.detach(), clipped_T)
