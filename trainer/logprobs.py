"""Log-probabilities of chosen tokens from hidden states, without ever holding a (tokens x vocabulary) float32 tensor."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Head = Callable[[Tensor], Tensor]


def token_logprobs(hidden_TH: Tensor, target_T: Tensor, head: Head, temperature: float, chunk_tokens: int) -> tuple[Tensor, Tensor]:
    """Log-probability of each target, and the entropy of each distribution (no gradient), both (T,) float32.

    ``chunk_tokens`` rows of logits exist at a time; with more than one chunk the logits are computed again in the backward pass.
    """
    if len(target_T) <= chunk_tokens:
        return _chunk(hidden_TH, target_T, head, temperature)
    parts = [
        checkpoint(_chunk, hidden, target, head, temperature, use_reentrant=False)
        for hidden, target in zip(hidden_TH.split(chunk_tokens), target_T.split(chunk_tokens), strict=True)
    ]
    logprobs, entropies = zip(*parts, strict=True)
    return torch.cat(logprobs), torch.cat(entropies)


def _chunk(hidden_TH: Tensor, target_T: Tensor, head: Head, temperature: float) -> tuple[Tensor, Tensor]:
    logits_TV = head(hidden_TH).float()
    if temperature != 1.0:
        logits_TV = logits_TV / temperature
    logprob_T = -F.cross_entropy(logits_TV, target_T, reduction="none")
    return logprob_T, _entropy(logits_TV.detach())  # last: a recomputation stops at the cross entropy and skips it


@torch.no_grad()
def _entropy(logits_TV: Tensor) -> Tensor:
    expected_T = (logits_TV.softmax(-1) * logits_TV).sum(-1)
    return logits_TV.logsumexp(-1) - expected_T
