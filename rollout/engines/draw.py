"""Drawing tokens: counter-based randomness and the sampling distribution.

The uniform number behind a token depends on (request seed, row, position) alone: no generator is carried along, so a request draws
the same tokens whatever else is in the batch, and again after a restart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rollout.types import Sampling

if TYPE_CHECKING:
    import torch

GOLDEN = 0x9E3779B97F4A7C15
MASK = 2**64 - 1


def scramble(value: int) -> int:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): a bijection of 64-bit numbers whose outputs pass for random."""
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def stream_key(seed: int, row: int) -> int:
    """Names the random stream of one completion."""
    return scramble((scramble(seed & MASK) + (row + 1) * GOLDEN) & MASK)


def uniforms(key_R: Sequence[int], position_R: Sequence[int]) -> NDArray[np.float64]:
    """(R,) number ``position`` of each stream, in (0, 1]: the SplitMix64 sequence that starts at the key."""
    counter = np.asarray(position_R, np.uint64) + np.uint64(1)
    value = np.asarray(key_R, np.uint64) + counter * np.uint64(GOLDEN)
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    value = value ^ (value >> np.uint64(31))
    result: NDArray[np.float64] = ((value >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53
    return result


@dataclass(frozen=True, eq=False)
class Distribution:
    """How the rows of a batch are sampled; None where no row needs the operation."""

    temperature_R: torch.Tensor | None  # (R, 1)
    greedy_R: torch.Tensor | None  # (R,) bool
    top_p_R: torch.Tensor | None  # (R, 1)

    @classmethod
    def of(cls, samplings: Sequence[Sampling], device: torch.device) -> Distribution:
        import torch

        temperature = [s.temperature or 1.0 for s in samplings]  # greedy rows report log-probabilities at temperature 1
        top_p = [s.top_p if s.temperature else 1.0 for s in samplings]
        greedy = [s.temperature == 0 for s in samplings]
        return cls(
            torch.tensor(temperature, device=device)[:, None] if any(t != 1 for t in temperature) else None,
            torch.tensor(greedy, device=device) if any(greedy) else None,
            torch.tensor(top_p, device=device)[:, None] if any(p != 1 for p in top_p) else None,
        )

    def draw(self, logits_RV: torch.Tensor, uniform_R: NDArray[np.float64]) -> tuple[torch.Tensor, torch.Tensor]:
        """(R,) tokens by inversion of the distribution, and their (R,) float32 log-probabilities after temperature and top-p."""
        import torch

        logits = logits_RV.float()
        if self.temperature_R is not None:
            logits = logits / self.temperature_R
        if self.top_p_R is not None:
            logits = nucleus(logits, self.top_p_R)
        cumulative = torch.softmax(logits, -1).cumsum_(-1)
        target = torch.as_tensor(uniform_R, dtype=torch.float32, device=logits.device)[:, None] * cumulative[:, -1:]
        token_R = torch.searchsorted(cumulative, target)
        if self.greedy_R is not None:
            token_R = torch.where(self.greedy_R[:, None], logits.argmax(-1, keepdim=True), token_R)
        logprob_R = logits.gather(-1, token_R) - logits.logsumexp(-1, keepdim=True)
        return token_R[:, 0], logprob_R[:, 0]


def nucleus(logits_RV: torch.Tensor, top_p_R: torch.Tensor) -> torch.Tensor:
    """Mask all but the smallest set of most likely tokens whose probability reaches top-p (Holtzman et al., arXiv:1904.09751)."""
    import torch

    sorted_RV, order_RV = logits_RV.sort(-1, descending=True)
    probability = torch.softmax(sorted_RV, -1)
    before = probability.cumsum(-1) - probability  # mass of the strictly more likely tokens; 0 for the first
    outside = torch.empty_like(before, dtype=torch.bool).scatter_(-1, order_RV, before >= top_p_R)
    return logits_RV.masked_fill(outside, -torch.inf)
