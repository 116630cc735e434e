"""Token-level vectors, gradients against their definitions, and aggregation rules of TRL and verl."""

import math

import numpy as np
import pytest
import torch

from trainer.losses import (
    LOSSES,
    ClipRange,
    Tokens,
    cispo_loss,
    clip_loss,
    gspo_loss,
    importance_weight_T,
    kl_T,
    token_weights,
)


def tokens(log_ratio, advantage, logprob=-0.7, sequence=None):
    logprob_T = torch.full((len(log_ratio),), logprob, requires_grad=True)
    old_T = logprob_T.detach() - torch.tensor(log_ratio)
    sequence_T = torch.zeros(len(log_ratio), dtype=torch.long) if sequence is None else torch.tensor(sequence)
    return Tokens(logprob_T, old_T, torch.tensor(advantage, dtype=torch.float32), sequence_T)


@pytest.mark.parametrize(
    ("advantage", "ratio", "clip", "expected"),
    [
        (1, 1.5, ClipRange(0.2, 0.2, 3), -1.2),
        (1, 0.5, ClipRange(0.2, 0.2, 3), -0.5),
        (-1, 0.5, ClipRange(0.2, 0.2, 3), 0.8),
        (-1, 1.5, ClipRange(0.2, 0.2, 3), 1.5),
        (-1, 5, ClipRange(0.2, 0.2, 3), 3.0),
        (1, 5, ClipRange(0.2, 0.2, 3), -1.2),
        (1, 1.5, ClipRange(0.2, 0.28, 10), -1.28),
        (-1, 5, ClipRange(0.2, 0.28, 10), 5.0),
    ],
)
def test_clip_vectors(advantage, ratio, clip, expected):
    given = tokens([math.log(ratio)], [advantage])
    loss = clip_loss(given, clip)
    assert loss.loss_T.item() == pytest.approx(expected, abs=1e-5)
    loss.loss_T.sum().backward()
    unclipped = loss.loss_T.item() == pytest.approx(-advantage * ratio, abs=1e-5)
    assert loss.clipped_T.item() == (not unclipped)
    assert given.logprob_T.grad.item() == pytest.approx(-advantage * ratio if unclipped else 0.0, abs=1e-5)


def test_gspo_has_one_ratio_per_sequence_and_token_gradients():
    given = tokens([0.1, -0.05, 0.2, 0.3], [1.0, 1.0, 1.0, 2.0], sequence=[0, 0, 0, 1])
    loss = gspo_loss(given, ClipRange(0.5, 0.5))
    np.testing.assert_allclose(loss.ratio_T, [1.086904] * 3 + [math.exp(0.3)], atol=1e-6)
    loss.loss_T.sum().backward()
    np.testing.assert_allclose(given.logprob_T.grad, [-1.086904] * 3 + [-2 * math.exp(0.3)], atol=1e-5)


def test_gspo_gradient_is_that_of_the_sequence_ratio():
    given = tokens([0.1, -0.05, 0.2], [1.0] * 3)
    (gspo_loss(given, ClipRange(0.5, 0.5)).loss_T / 3).sum().backward()
    plain = given.logprob_T.detach().requires_grad_()
    (-(plain - given.old_T).mean().exp()).backward()
    np.testing.assert_allclose(given.logprob_T.grad, plain.grad, rtol=1e-5)


def test_cispo_in_both_conventions():
    given = tokens([math.log(1.5)], [1.0])
    assert cispo_loss(given, ClipRange(0.2, 0.2)).loss_T.item() == pytest.approx(0.84, abs=1e-6)  # verl: clip to 1.2
    assert cispo_loss(given, ClipRange(1.0, 4.0)).loss_T.item() == pytest.approx(1.05, abs=1e-6)  # TRL: cap of 5
    cispo_loss(given, ClipRange(0.2, 0.2)).loss_T.sum().backward()
    assert given.logprob_T.grad.item() == pytest.approx(-1.2, abs=1e-6)  # clipped, but not silent


@pytest.mark.parametrize(("estimator", "expected"), [("k1", 0.5), ("k2", 0.125), ("k3", 0.106531)])
def test_kl_vectors(estimator, expected):
    assert kl_T(torch.tensor([-1.0]), torch.tensor([-1.5]), estimator).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_kl_estimators_are_unbiased(estimator):
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.tensor([0.2, 0.5, 0.3]).log(), torch.tensor([0.3, 0.3, 0.4]).log()
    drawn = torch.multinomial(policy.exp(), 200_000, replacement=True, generator=generator)
    estimate_T = kl_T(policy[drawn], reference[drawn], estimator)
    exact = (policy.exp() * (policy - reference)).sum()
    assert abs(estimate_T.mean() - exact) < 4 * estimate_T.std() / len(drawn) ** 0.5


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_ratios_stay_finite(name):
    given = tokens([900.0, -900.0], [1.0, -1.0])
    loss = LOSSES[name](given, ClipRange(0.2, 0.2, 3.0)).loss_T.sum()
    loss.backward()
    assert loss.isfinite()
    assert given.logprob_T.grad.isfinite().all()
    assert kl_T(torch.tensor([-900.0]), torch.tensor([0.0]), "k3").item() == 10


def test_importance_weights_are_capped_and_carry_no_gradient():
    learner_T = torch.tensor([-1.0, -1.0, 300.0], requires_grad=True)
    weight_T = importance_weight_T(learner_T, torch.tensor([-1.5, -0.5, -300.0]), cap=1.5)
    np.testing.assert_allclose(weight_T, [1.5, math.exp(-0.5), 1.5], rtol=1e-6)
    assert not weight_T.requires_grad


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("token_mean", 10 / 6), ("sequence_mean", 1.5), ("constant", 1.25)],  # verl token-mean; verl seq-mean-token-mean; TRL dr_grpo
)
def test_aggregation_of_token_losses(rule, expected):
    weight_R = token_weights(np.array([2, 4]), rule, constant_tokens=4)
    assert (weight_R * [1 * 2, 2 * 4]).sum() == pytest.approx(expected)
    if rule == "constant":
        assert 2 * expected == 2.5  # verl does not divide by the number of sequences


@pytest.mark.parametrize("rule", ["token_mean", "sequence_mean", "constant"])
def test_empty_completions_weigh_nothing(rule):
    assert token_weights(np.array([0, 0]), rule, 8).tolist() == [0, 0]
    with_empty, without = token_weights(np.array([3, 0, 5]), rule, 8), token_weights(np.array([3, 5]), rule, 8)
    assert with_empty[1] == 0
    if rule != "constant":  # Dr. GRPO divides by the number of sequences, empty ones too
        assert with_empty[[0, 2]].tolist() == without.tolist()
