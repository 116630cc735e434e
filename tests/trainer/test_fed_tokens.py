"""Tokens that were fed to the model between its turns are context: no loss, no figure, no count, no importance weight sees them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from curricula.types import CurriculaError
from tests.trainer.learning import differences, gradients_of, make_learner, plain_logprobs, ragged_sequences, weights_of
from trainer.micro_batches import assemble

LR = 1e-3


def with_fed_tokens(sequences, seed=0):
    """About a third of the tokens fed, never the first or the last of a completion; wild log-probabilities at their places."""
    rng = np.random.default_rng(seed)
    made = []
    for sequence in sequences:
        n = len(sequence.token_ids)
        drawn_T = rng.random(n) < 0.65
        drawn_T[[0, -1]] = True
        made.append(replace(sequence, drawn_T=drawn_T, rollout_logprob_T=np.where(drawn_T, sequence.rollout_logprob_T, -90)))
    assert sum(not s.drawn_T.all() for s in made) > len(made) / 2
    return [replace(s, rollout_logprob_T=s.rollout_logprob_T.astype(np.float32)) for s in made]


def exact(path, sequences):
    """With the learner's own log-probabilities where tokens were drawn."""
    return [replace(s, rollout_logprob_T=p) for s, p in zip(sequences, make_learner(path).logprobs(sequences), strict=True)]


def plain_step(path, sequences, aggregation, constant=24):
    """(loss, gradient norm) by the definition, token by token over the drawn ones."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    n_drawn = [int(s.drawn_T.sum()) for s in sequences]
    total = torch.zeros(())
    for sequence, n in zip(sequences, n_drawn, strict=True):
        divisor = {"token_mean": sum(n_drawn), "sequence_mean": n * len(sequences), "constant": constant * len(sequences)}
        for t, logp in enumerate(plain_logprobs(model, sequence)):
            if sequence.drawn_T[t]:
                ratio = (logp - logp.detach()).exp()
                total = total - sequence.advantage * ratio / divisor[aggregation]
    total.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return float(total.detach()), float(norm)


def test_assembled_tensors_hold_drawn_tokens_alone():
    sequences = with_fed_tokens(ragged_sequences())
    part = np.array([3, 0, 5])
    micro = assemble(sequences, part, np.linspace(0.1, 1, len(sequences)))
    plain = assemble([replace(s, drawn_T=None) for s in sequences], part, np.linspace(0.1, 1, len(sequences)))
    torch.testing.assert_close(micro.input_ids, plain.input_ids)
    drawn_T = torch.from_numpy(np.concatenate([sequences[i].drawn_T for i in part]))
    assert not drawn_T.all()
    for name in ("position_T", "target_T", "sequence_T", "rollout_T", "advantage_T", "weight_T", "version_T"):
        assert getattr(micro, name).tolist() == getattr(plain, name)[drawn_T].tolist(), name


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant"])
def test_loss_and_gradient_are_those_of_the_drawn_tokens(tiny_model_path, aggregation):
    sequences = exact(tiny_model_path, with_fed_tokens(ragged_sequences()))
    loss, norm = plain_step(tiny_model_path, sequences, aggregation)
    for cut in ({}, {"tokens_per_micro_batch": 20}):
        learner = make_learner(tiny_model_path, aggregation=aggregation, importance_cap=None, **cut)
        report = learner.step(sequences, LR)
        assert report.loss == pytest.approx(loss, abs=1e-5)
        assert report.grad_norm == pytest.approx(norm, rel=1e-3)
        assert report.n_tokens == sum(int(s.drawn_T.sum()) for s in sequences) == report.metrics["tokens"]
        assert report.n_processed_tokens == sum(len(s.prompt_ids) + len(s.token_ids) for s in sequences)
        assert report.metrics["mismatch_max"] < 1e-4


def test_what_stands_at_fed_places_beside_the_tokens_is_never_read(tiny_model_path):
    one, other = make_learner(tiny_model_path, kl_coefficient=0.1), make_learner(tiny_model_path, kl_coefficient=0.1)
    sequences = with_fed_tokens(ragged_sequences())
    zeroed = [replace(s, rollout_logprob_T=s.rollout_logprob_T * s.drawn_T) for s in sequences]
    reports = [one.step(sequences, LR), other.step(zeroed, LR)]
    assert reports[0].metrics == reports[1].metrics
    assert differences(gradients_of(one), gradients_of(other)) == 0
    assert differences(weights_of(one), weights_of(other)) == 0


def test_marks_that_say_all_drawn_are_no_marks_bit_for_bit(tiny_model_path):
    one, other = make_learner(tiny_model_path, updates_per_step=2), make_learner(tiny_model_path, updates_per_step=2)
    sequences = ragged_sequences()
    marked = [replace(s, drawn_T=np.ones(len(s.token_ids), np.bool_)) for s in sequences]
    assert one.step(sequences, LR).metrics == other.step(marked, LR).metrics
    assert differences(weights_of(one), weights_of(other)) == 0


def test_log_probabilities_stand_at_the_places_of_their_tokens(tiny_model_path):
    sequences = with_fed_tokens(ragged_sequences())
    whole = make_learner(tiny_model_path).logprobs([replace(s, drawn_T=None) for s in sequences])
    for sequence, all_T, found_T in zip(sequences, whole, make_learner(tiny_model_path).logprobs(sequences), strict=True):
        np.testing.assert_allclose(found_T, np.where(sequence.drawn_T, all_T, 0), atol=1e-5)


@pytest.mark.parametrize("updates", [1, 2])
def test_a_share_of_tokens_is_a_share_of_the_drawn_ones(tiny_model_path, updates):
    sequences = with_fed_tokens(ragged_sequences())
    n_drawn = [sum(s.n_drawn for s in sequences if s.group % updates == part) for part in range(updates)]
    report = make_learner(tiny_model_path, token_share=0.5, updates_per_step=updates).step(sequences, LR)
    assert report.n_tokens == sum(int(np.ceil(0.5 * n)) for n in n_drawn)
    whole = make_learner(tiny_model_path, token_share=1.0).step(sequences, LR)
    almost = make_learner(tiny_model_path, token_share=1 - 1e-12).step(sequences, LR)
    assert almost.loss == pytest.approx(whole.loss, abs=1e-6)


def test_marks_of_another_length_are_refused(tiny_model_path):
    sequence = ragged_sequences()[0]
    bad = replace(sequence, drawn_T=np.ones(len(sequence.token_ids) + 1, np.bool_))
    with pytest.raises(CurriculaError, match="whether the model drew them; expected one mark per token"):
        make_learner(tiny_model_path).step([bad], LR)
