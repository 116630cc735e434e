"""The warm start's optimiser."""

from __future__ import annotations

import pytest
import torch

from trainer.muon import Muon, orthogonal


@pytest.mark.parametrize("shape", [(32, 32), (64, 16), (16, 64)])
def test_orthogonal_keeps_directions_and_levels_singular_values(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrix = torch.randn(shape)
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.mT @ orthogonal(matrix) @ vh.mT
    assert torch.dist(inside, torch.diag(inside.diagonal())) < 1e-3, "other singular vectors"
    assert inside.diagonal().min() > 0.6
    assert inside.diagonal().max() < 1.3


def test_a_step_is_nesterov_momentum_made_orthogonal() -> None:
    torch.manual_seed(1)
    weight, gradients = torch.nn.Parameter(torch.randn(8, 4)), [torch.randn(8, 4) for _ in range(3)]
    optimizer, expected, buffer = Muon([weight], lr=0.1, momentum=0.9), weight.detach().clone(), torch.zeros(8, 4)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        buffer = 0.9 * buffer + 0.1 * gradient
        expected -= 0.1 * 2**0.5 * orthogonal(0.1 * gradient + 0.9 * buffer)
    torch.testing.assert_close(weight.detach(), expected)


def test_it_learns_a_linear_map() -> None:
    torch.manual_seed(2)
    target, weight = torch.randn(6, 6), torch.nn.Parameter(torch.zeros(6, 6))
    optimizer = Muon([weight], lr=0.02)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        x = torch.randn(64, 6)
        loss = (x @ (weight - target).mT).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.05 * losses[0]


def test_a_weight_without_gradient_stays() -> None:
    weight = torch.nn.Parameter(torch.ones(2, 2))
    Muon([weight], lr=1.0).step()
    assert torch.equal(weight, torch.ones(2, 2))
