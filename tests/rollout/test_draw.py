"""Counter-based draws: independent, repeatable, and from the distribution that is reported."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rollout.engines.draw import Distribution, stream_key, uniforms
from rollout.types import Sampling

CPU = torch.device("cpu")


def streams(n: int, seed: int = 0) -> list[int]:
    return [stream_key(seed, row) for row in range(n)]


def test_uniforms_depend_on_stream_and_position_alone() -> None:
    keys = streams(100)
    together = uniforms(keys, list(range(100)))
    alone = [uniforms([key], [i])[0] for i, key in enumerate(keys)]
    assert together.tolist() == alone
    assert len(set(together)) == 100


@pytest.mark.parametrize("axis", ["row", "seed", "position"])
def test_uniforms_are_uniform_and_uncorrelated_along_every_axis(axis: str) -> None:
    n = 20_000
    keys = {
        "row": streams(n),
        "seed": [stream_key(seed, 0) for seed in range(n)],
        "position": streams(1) * n,
    }[axis]
    u = uniforms(keys, list(range(n)) if axis == "position" else [0] * n)
    assert u.min() > 0
    assert u.max() <= 1
    counts = np.histogram(u, bins=20, range=(0, 1))[0]
    chi2 = ((counts - n / 20) ** 2 / (n / 20)).sum()
    assert abs(chi2 - 19) < 5 * np.sqrt(2 * 19)
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 5 / np.sqrt(n)


@pytest.mark.parametrize("sampling", [Sampling(), Sampling(0.5), Sampling(1.5, 0.8), Sampling(1.0, 0.3)], ids=str)
def test_tokens_are_drawn_as_often_as_their_logprobs_say(sampling: Sampling) -> None:
    n = 20_000
    logits = torch.tensor([2.0, -1.0, 0.5, 1.0, -30.0, 0.0]).expand(n, -1)
    token_R, logprob_R = Distribution.of([sampling] * n, CPU).draw(logits, uniforms(streams(n), [3] * n))
    tokens = token_R.numpy()
    shares = {int(t): float(np.exp(logprob_R.numpy()[tokens == t][0])) for t in np.unique(tokens)}
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-4)  # what was never drawn has no mass
    for token, p in shares.items():
        assert abs((tokens == token).mean() - p) <= 5 * np.sqrt(p * (1 - p) / n)


def test_greedy_takes_the_most_likely_and_the_extremes_of_the_uniform_are_safe() -> None:
    logits = torch.tensor([[-torch.inf, 3.0, 1.0, -torch.inf]]).expand(3, -1)
    mixed = Distribution.of([Sampling(0.0), Sampling(), Sampling()], CPU)
    tokens, logprobs = mixed.draw(logits, np.array([1.0, 2.0**-53, 1.0]))
    assert tokens.tolist() == [1, 1, 2]
    assert torch.isfinite(logprobs).all()


def test_the_most_likely_token_survives_any_top_p() -> None:
    tokens, logprobs = Distribution.of([Sampling(top_p=1e-6)], CPU).draw(torch.zeros(1, 50), np.array([0.9]))
    assert logprobs.exp().item() == pytest.approx(1.0)
    assert tokens.shape == (1,)
