"""Which tokens of an update carry loss: the other half of D3S (arXiv 2509.22115), the first being rollouts that carry none.

Tokens of an update are numbered sequence by sequence, in the caller's order, so the choice does not depend on how they are cut into
micro-batches or dealt to ranks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from curricula.types import Bools, Floats, Ints
from trainer.micro_batches import MicroBatch


def top_tokens(score_T: Floats, share: float) -> Bools:
    """(T,) the share with the highest scores, one token at least; of equal scores the earlier one.

    >>> top_tokens(np.array([0.1732, 3.464, 0.866, 1.4425, 0.02885, 0.577]), 0.5)
    array([False,  True,  True,  True, False, False])
    """
    n_kept = min(max(int(np.ceil(share * len(score_T) - 1e-9)), 1), len(score_T))
    chosen_T = np.zeros(len(score_T), dtype=np.bool_)
    chosen_T[np.argsort(-score_T, kind="stable")[:n_kept]] = True
    return chosen_T


def in_order(plan: Sequence[MicroBatch], values: Sequence[Tensor], n_tokens: Ints) -> Tensor:
    """(T,) values of the micro-batches' tokens in the update's order; 0 for tokens that are not in these micro-batches."""
    value_T = torch.zeros(int(n_tokens.sum()), dtype=torch.float64)
    for micro, given_T in zip(plan, values, strict=True):
        place_t = torch.from_numpy(_places(micro, n_tokens))
        value_T[place_t] = given_T[: len(place_t)].double()
    return value_T


def with_weights(plan: Sequence[MicroBatch], weight_T: Floats, n_tokens: Ints) -> list[MicroBatch]:
    """The micro-batches with these weights; a dummy keeps its zero."""
    weight = torch.from_numpy(weight_T.astype(np.float32))
    return [replace(micro, weight_T=weight[_places(micro, n_tokens)]) if micro.place_n else micro for micro in plan]


def _places(micro: MicroBatch, n_tokens: Ints) -> Ints:
    """(t,) number of each of the micro-batch's tokens in the update."""
    start_R = np.cumsum(n_tokens) - n_tokens
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(start_R[i], start_R[i] + n_tokens[i]) for i in micro.place_n)])
