"""Advantages of single tokens reach the loss, the choice of tokens and the checks; one for all tokens is what it was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from curricula.types import CurriculaError
from tests.trainer.learning import differences, gradients_of, make_learner, plain_logprobs, ragged_sequences, weights_of
from tests.trainer.test_fed_tokens import exact, with_fed_tokens
from trainer.micro_batches import assemble

LR = 1e-3


def with_advantages(sequences, seed=5):
    """Normal ones for most sequences; every third keeps one for all its tokens."""
    rng = np.random.default_rng(seed)
    given = [rng.normal(size=len(s.token_ids)) for s in sequences]
    return [s if i % 3 == 0 else replace(s, advantage_T=a) for i, (s, a) in enumerate(zip(sequences, given, strict=True))]


def by_token(sequence):
    n = len(sequence.token_ids)
    return np.full(n, sequence.advantage) if sequence.advantage_T is None else sequence.advantage_T


def plain_step(path, sequences):
    """(loss, gradient norm) of the token mean by its definition, over drawn tokens."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    drawn = [np.ones(len(s.token_ids), np.bool_) if s.drawn_T is None else s.drawn_T for s in sequences]
    total = torch.zeros(())
    for sequence, drawn_T in zip(sequences, drawn, strict=True):
        for t, logp in enumerate(plain_logprobs(model, sequence)):
            if drawn_T[t]:
                total = total - float(by_token(sequence)[t]) * (logp - logp.detach()).exp() / sum(d.sum() for d in drawn)
    total.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return float(total.detach()), float(norm)


@pytest.mark.parametrize("fed", [False, True])
def test_a_step_is_the_definition(tiny_model_path, fed):
    sequences = ragged_sequences()
    sequences = with_advantages(exact(tiny_model_path, with_fed_tokens(sequences) if fed else sequences))
    loss, norm = plain_step(tiny_model_path, sequences)
    report = make_learner(tiny_model_path, aggregation="token_mean", tokens_per_micro_batch=64).step(sequences, LR)
    assert report.loss == pytest.approx(loss, abs=1e-5)
    assert report.grad_norm == pytest.approx(norm, rel=1e-4)


def test_one_for_all_is_the_same_bit_for_bit_as_equal_ones_for_each(tiny_model_path):
    plain = ragged_sequences()
    each = [replace(s, advantage_T=np.full(len(s.token_ids), s.advantage)) for s in plain]
    learners = [make_learner(tiny_model_path) for _ in range(2)]
    reports = [learner.step(given, LR) for learner, given in zip(learners, (plain, each), strict=True)]
    assert (reports[0].loss, reports[0].grad_norm, reports[0].metrics) == (
        reports[1].loss,
        reports[1].grad_norm,
        reports[1].metrics,
    )
    assert differences(weights_of(learners[0]), weights_of(learners[1])) == 0


def test_micro_batches_hold_those_of_drawn_tokens_in_their_order():
    sequences = with_advantages(with_fed_tokens(ragged_sequences()))
    part = np.array([4, 0, 2])
    micro = assemble(sequences, part, np.ones(len(sequences)))
    expected = np.concatenate([by_token(sequences[i])[sequences[i].drawn_T] for i in part])
    np.testing.assert_array_equal(micro.advantage_T.numpy(), expected.astype(np.float32))


def test_a_sequence_is_passed_over_only_where_every_drawn_token_has_none(tiny_model_path):
    one, other, *_ = with_fed_tokens([s for s in ragged_sequences() if len(s.token_ids) > 5])
    fed_only = replace(one, advantage_T=np.where(one.drawn_T, 0.0, 3.0))
    cancelling = replace(other, advantage=0.0, advantage_T=np.where(np.arange(len(other.token_ids)) == 0, 1.0, 0.0))
    report = make_learner(tiny_model_path).step([fed_only, cancelling], LR)
    assert report.metrics["skipped_sequences"] == 1
    assert report.n_tokens == cancelling.n_drawn
    assert report.grad_norm > 0


def test_a_share_of_tokens_is_chosen_by_their_own_advantages(tiny_model_path):
    """All the weight on one token of each sequence: the others are left out before any of them."""
    sequences = [s for s in ragged_sequences() if len(s.token_ids) > 3]
    spiked = [replace(s, advantage_T=np.where(np.arange(len(s.token_ids)) == 2, 2.0, 0.0)) for s in sequences]
    total = sum(len(s.token_ids) for s in spiked)
    report = make_learner(tiny_model_path, token_share=len(spiked) / total).step(spiked, LR)
    assert report.n_tokens == len(spiked)
    alone = make_learner(tiny_model_path)
    alone.step([replace(s, drawn_T=np.arange(len(s.token_ids)) == 2) for s in spiked], LR)
    chosen = make_learner(tiny_model_path, token_share=len(spiked) / total)
    chosen.step(spiked, LR)
    assert differences(gradients_of(alone), gradients_of(chosen)) < 1e-6


def test_odd_ones_are_refused(tiny_model_path):
    learner = make_learner(tiny_model_path)
    sequence = next(s for s in ragged_sequences() if len(s.token_ids) > 2)
    with pytest.raises(CurriculaError, match=r"tokens but 1 advantages; expected one per token"):
        learner.step([replace(sequence, advantage_T=np.ones(1))], LR)
    with pytest.raises(CurriculaError, match="not finite"):
        learner.step([replace(sequence, advantage_T=np.full(len(sequence.token_ids), np.nan))], LR)
