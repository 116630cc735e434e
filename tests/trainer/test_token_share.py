"""The share of tokens that carry loss: chosen over a whole update, counted in the denominators, gone when it is 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from curricula.types import CurriculaError
from tests.trainer.learning import TEMPERATURE, differences, gradients_of, make_learner, ragged_sequences, weights_of
from trainer.learner import TorchLearner
from trainer.settings import LearnerSettings
from trainer.token_share import top_tokens

LR = 1e-3
SHARE = 0.3


def test_fixture_tok_keep_50pct():
    advantage_T, entropy_T = np.array([1.732] * 3 + [-0.577] * 3), np.array([0.1, 2, 0.5, 2.5, 0.05, 1])
    score_T = np.abs(advantage_T) * entropy_T
    chosen_T = top_tokens(score_T, 0.5)
    assert sorted(np.flatnonzero(chosen_T), key=lambda t: -score_T[t]) == [1, 3, 2]


def test_shares_and_ties():
    assert top_tokens(np.zeros(10), 0.3).nonzero()[0].tolist() == [0, 1, 2], "0.3 x 10 is 3.0000000000000004 or not: three tokens"
    assert top_tokens(np.arange(5.0), 0.01).tolist() == [False] * 4 + [True]
    assert top_tokens(np.arange(5.0), 0.41).sum() == 3
    assert not len(top_tokens(np.zeros(0), 0.5))


def plain_scores(model, sequence):
    """Log-probabilities with gradient, and entropies, of one sequence by a plain forward pass."""
    ids = torch.tensor([*sequence.prompt_ids, *sequence.token_ids.tolist()])
    logits = model(input_ids=ids[None]).logits[0, len(sequence.prompt_ids) - 1 : -1].float() / TEMPERATURE
    log_p = torch.log_softmax(logits, -1)
    entropy_T = -(log_p.exp() * log_p).sum(-1).detach()
    return log_p.gather(1, ids[len(sequence.prompt_ids) :, None])[:, 0], entropy_T


def plain_loss(path, sequences, aggregation, constant=24):
    """(loss, gradient norm, chosen tokens) by the definition, sequence by sequence; no importance weights, no clipping at work."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    scored = [plain_scores(model, s) for s in sequences]
    score = torch.cat([abs(s.advantage) * entropy_T for s, (_, entropy_T) in zip(sequences, scored, strict=True)])
    n_chosen = int(np.ceil(SHARE * len(score)))
    cut = score.sort(descending=True).values[n_chosen - 1]
    chosen = [abs(s.advantage) * entropy_T >= cut for s, (_, entropy_T) in zip(sequences, scored, strict=True)]
    n_full = sum(bool(mask.any()) for mask in chosen)
    total = torch.zeros(())
    for sequence, (logp_T, _), mask in zip(sequences, scored, chosen, strict=True):
        part = -(sequence.advantage * (logp_T - logp_T.detach()).exp() * mask).sum()
        divisor = {"token_mean": n_chosen, "sequence_mean": max(int(mask.sum()), 1) * n_full, "constant": constant * len(sequences)}
        total = total + part / divisor[aggregation]
    total.backward()
    norm = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    return float(total.detach()), float(norm), n_chosen


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant"])
def test_equals_the_definition_written_plainly_however_work_is_cut(tiny_model_path, aggregation):
    sequences = ragged_sequences()
    exact = make_learner(tiny_model_path).logprobs(sequences)
    sequences = [replace(s, rollout_logprob_T=logprob_T) for s, logprob_T in zip(sequences, exact, strict=True)]
    loss, norm, n_chosen = plain_loss(tiny_model_path, sequences, aggregation)
    for cut in ({}, {"tokens_per_micro_batch": 20}):
        learner = make_learner(tiny_model_path, token_share=SHARE, aggregation=aggregation, importance_cap=None, **cut)
        report = learner.step(sequences, LR)
        assert report.loss == pytest.approx(loss, abs=1e-5)
        assert report.grad_norm == pytest.approx(norm, rel=1e-3)
        assert report.n_tokens == n_chosen
        assert report.metrics["tokens"] == sum(len(s.token_ids) for s in sequences)


def test_tokens_of_several_updates_are_chosen_update_by_update(tiny_model_path):
    sequences = ragged_sequences()
    learner = make_learner(tiny_model_path, token_share=0.5, updates_per_step=2)
    report = learner.step(sequences, LR)
    halves = [sum(len(s.token_ids) for s in sequences if s.group % 2 == half) for half in (0, 1)]
    assert report.n_tokens == sum(int(np.ceil(0.5 * n)) for n in halves)
    assert report.metrics["updates"] == 2


def test_sequences_without_advantage_come_last(tiny_model_path):
    sequences = [replace(s, advantage=0.0) if s.group in (1, 2) else s for s in ragged_sequences()]
    n_all, n_live = (sum(len(s.token_ids) for s in some) for some in (sequences, [s for s in sequences if s.advantage]))
    assert n_live < 0.9 * n_all
    most = make_learner(tiny_model_path, token_share=0.9)
    report = most.step(sequences, LR)
    plain = make_learner(tiny_model_path)
    other = plain.step(sequences, LR)
    assert report.n_tokens == other.n_tokens == n_live
    assert report.loss * np.ceil(0.9 * n_all) == pytest.approx(other.loss * n_all, rel=1e-4)
    assert make_learner(tiny_model_path, token_share=0.5).step([replace(s, advantage=0.0) for s in sequences], LR).n_tokens == 0


def test_a_share_of_one_is_the_path_without_it(tiny_model_path, monkeypatch):
    plain = make_learner(tiny_model_path)
    plain.step(ragged_sequences(), LR)
    monkeypatch.setattr(TorchLearner, "_score", lambda *_: pytest.fail("no extra pass"))
    whole = make_learner(tiny_model_path, token_share=1.0)
    whole.step(ragged_sequences(), LR)
    assert differences(weights_of(plain), weights_of(whole)) == 0
    assert differences(gradients_of(plain), gradients_of(whole)) == 0


@pytest.mark.parametrize("bad", [0.0, 1.5, -0.1])
def test_bad_shares_are_refused(bad):
    with pytest.raises(CurriculaError, match=r"learner\.token_share: expected a share .* got"):
        LearnerSettings(token_share=bad)
