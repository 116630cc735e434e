"""What the learner measures on request: against plain computation, without any trace in the update, and exact on resume."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from curricula.types import CurriculaError
from tests.trainer.learning import differences, make_learner, ragged_sequences, weights_of
from trainer.learner_statistics import sampled
from trainer.recipe import parse_recipe
from trainer.settings import LoraSettings, Statistic

LR = 1e-3
ALL = get_args(Statistic)
METRICS = {"gradient_signal", "gradient_noise", "update_groups", "group_rollouts", "update_kl", "grad_norm_l1"}


def steps(learner, n, first=0):
    return [learner.step(ragged_sequences(seed, version=learner.version), LR).metrics for seed in range(first, first + n)]


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ({}, {"tokens_per_micro_batch": 60, "token_share": 0.5}),
        ({"dtype": "bfloat16"}, {"updates_per_step": 2}),
        ({"lora": LoraSettings(rank=4, dropout=0.1)}, {"kl_coefficient": 0.1}),
        ({"gradient_checkpointing": True}, {"updates_per_step": 2, "importance_cap": None}),
    ],
    ids=str,
)
def test_the_update_is_the_same_to_the_last_bit(tiny_model_path, model, settings):
    plain = make_learner(tiny_model_path, model, **settings)
    watched = make_learner(tiny_model_path, model, statistics=ALL, **settings)
    alone, measured = steps(plain, 3), steps(watched, 3)
    assert differences(weights_of(plain), weights_of(watched)) == 0
    assert [set(metrics) - set(one) for one, metrics in zip(alone, measured, strict=True)] == [
        METRICS,
        *[METRICS | {"update_cosine"}] * 2,
    ]
    assert all(metrics[name] == one[name] for one, metrics in zip(alone, measured, strict=True) for name in one)
    assert all(np.isfinite(list(metrics.values())).all() for metrics in measured)


@pytest.mark.parametrize("statistic", ALL)
def test_only_what_is_asked_for_is_made(tiny_model_path, statistic):
    learner = make_learner(tiny_model_path, statistics=(statistic,))
    found = set(steps(learner, 2)[1]) - set(steps(make_learner(tiny_model_path), 2)[1])
    assert found == (
        {"gradient_signal", "gradient_noise", "update_groups", "group_rollouts"} if statistic == ALL[0] else {statistic}
    )
    hooks = [module for module in learner._model.modules() if module._forward_hooks]
    assert len(hooks) == (2 if statistic == "gradient_noise" else 0)


@pytest.mark.parametrize("updates", [1, 2])
def test_the_divergence_is_that_of_the_whole_step(tiny_model_path, updates):
    learner = make_learner(tiny_model_path, statistics=("update_kl",), updates_per_step=updates)
    sequences = ragged_sequences(group_sizes=(10, 10))
    sample = sampled(sequences)
    before = np.concatenate(learner.logprobs(sample)).astype(np.float64)
    found = learner.step(sequences, LR).metrics["update_kl"]
    d = np.concatenate(learner.logprobs(sample)).astype(np.float64) - before
    assert found == pytest.approx(float((np.expm1(d) - d).mean()), rel=1e-3)
    assert learner.version == updates


def test_fed_tokens_do_not_thin_the_divergence(tiny_model_path):
    sequences = ragged_sequences()
    half = [replace(s, drawn_T=np.arange(len(s.token_ids)) % 2 == 0) for s in sequences]
    learner = make_learner(tiny_model_path, statistics=("update_kl",))
    sample = sampled(half)
    before = learner.logprobs(sample)
    found = learner.step(half, LR).metrics["update_kl"]
    d = np.concatenate(
        [(new - old)[s.drawn_T] for new, old, s in zip(learner.logprobs(sample), before, sample, strict=True)]
    ).astype(np.float64)
    assert found == pytest.approx(float((np.expm1(d) - d).mean()), rel=1e-3)


def test_the_sample_is_even_by_length():
    sequences = ragged_sequences(group_sizes=(16,) * 32)
    lengths = np.array([len(s.prompt_ids) + len(s.token_ids) for s in sequences])
    chosen = np.array([len(s.prompt_ids) + len(s.token_ids) for s in sampled(sequences)])
    assert len(chosen) == 16
    np.testing.assert_allclose(chosen, np.quantile(lengths, (np.arange(16) + 0.5) / 16), atol=1)
    assert len(sampled(sequences[:40])) == 8
    assert len(sampled(sequences[:3])) == 3
    assert sampled([]) == []


def test_the_cosine_is_with_the_step_that_the_weights_made(tiny_model_path):
    learner = make_learner(tiny_model_path, statistics=("update_cosine",), max_grad_norm=1e9)
    masters = learner._masters.tensors
    states = []
    for seed in range(3):
        found = learner.step(ragged_sequences(seed), LR).metrics.get("update_cosine")
        flat = torch.cat([master.detach().double().flatten() for master in masters.values()])
        kept = learner._optimizer.state().tensors
        momentum = torch.cat([kept[f"exp_avg/{name}"].double().flatten() for name in masters])
        states.append((flat, momentum))
    direction = states[0][0] - states[1][0]
    gradient = (states[2][1] - 0.9 * states[1][1]) / 0.1
    assert found == pytest.approx(float(torch.nn.functional.cosine_similarity(gradient, direction, dim=0)), abs=1e-4)
    assert abs(found) > 1e-3


def test_the_cosine_is_refused_where_there_are_no_moments_to_read():
    learner = {"statistics": ["update_cosine"], "optimizer": {"name": "muon"}}
    with pytest.raises(CurriculaError, match=r"update_cosine .* moments of learner.optimizer adamw, which 'muon' does not keep"):
        parse_recipe({"name": "run", "task": {"name": "running_total"}, "model": {"path": "model"}, "learner": learner})


def test_the_l1_norm_is_before_clipping(tiny_model_path):
    clipped = make_learner(tiny_model_path, statistics=("grad_norm_l1",), max_grad_norm=1e-3)
    free = make_learner(tiny_model_path, statistics=("grad_norm_l1",), max_grad_norm=1e9)
    found = [steps(learner, 1)[0]["grad_norm_l1"] for learner in (clipped, free)]
    kept = free._optimizer.state().tensors
    momentum = [kept[f"exp_avg/{name}"] for name in free._masters.tensors]
    assert found == pytest.approx([10 * float(sum(m.abs().sum() for m in momentum))] * 2, rel=1e-4)


def test_a_resumed_learner_measures_what_one_that_never_stopped_measures(tiny_model_path, tmp_path):
    straight, first = (make_learner(tiny_model_path, {"dtype": "bfloat16"}, statistics=ALL) for _ in range(2))
    expected = steps(straight, 4)[2:]
    steps(first, 2)
    first.save(tmp_path)
    second = make_learner(tiny_model_path, {"dtype": "bfloat16"}, statistics=ALL)
    second.load(tmp_path)
    assert steps(second, 2, first=2) == expected


def test_steps_without_an_update_measure_nothing_that_is_not_there(tiny_model_path):
    learner = make_learner(tiny_model_path, statistics=ALL)
    steps(learner, 1)
    sequences = ragged_sequences()
    for nothing in ([], [replace(s, advantage=0.0) for s in sequences]):
        assert not METRICS & set(learner.step(nothing, LR).metrics)
    wild = learner.step([replace(s, advantage=3e38 * (1 if s.advantage > 0 else -1)) for s in sequences], LR).metrics
    assert wild["non_finite_updates"] == 1
    assert np.isfinite([wild[name] for name in (METRICS | {"update_cosine"}) & set(wild)]).all()
    one_group = learner.step([s for s in sequences if s.group == 1], LR).metrics
    assert "gradient_noise" not in one_group
    assert one_group["update_kl"] > 0
