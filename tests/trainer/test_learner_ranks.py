"""Two ranks are one: losses, weights, log-probabilities and checkpoints, on groups of unequal size; and a rank that dies."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import ray
from safetensors.torch import load_file

from curricula.types import CurriculaError
from tests.trainer.learning import MAX_TOKENS, TEMPERATURE, differences, gradients_of, make_learner, ragged_sequences, weights_of
from trainer.learner_ranks import RankDied, RankedLearner
from trainer.settings import LearnerSettings, LoraSettings, ModelSettings, Statistic

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
LR = 1e-3
STEADY = 1e-5  # rate of the weight comparison: Adam turns noise around a zero gradient into steps of this size


@pytest.fixture
def ranked(tiny_model_path):
    learners = []

    def make(n_ranks, model=None, **settings):
        chosen = ModelSettings(path=str(tiny_model_path), **({"dtype": "float32"} | (model or {})))
        spread = LearnerSettings(n_ranks=n_ranks, placement="ray", cpus_per_rank=1, **settings)
        learners.append(RankedLearner(chosen, spread, TEMPERATURE, MAX_TOKENS))
        return learners[-1]

    yield make
    for learner in learners:
        learner.close()


def fetched(learner):
    return {name: array for chunk in learner.weights().chunks for name, array in ray.get(chunk).items()}


def test_two_ranks_give_the_losses_and_weights_of_one(ranked, tiny_model_path, tmp_path):
    two, one = ranked(2, tokens_per_micro_batch=60), make_learner(tiny_model_path)
    for seed in range(3):
        ours, alone = (learner.step(ragged_sequences(seed, version=learner.version), STEADY) for learner in (two, one))
        assert ours.loss == pytest.approx(alone.loss, abs=1e-5)
        assert ours.grad_norm == pytest.approx(alone.grad_norm, rel=1e-4)
        assert ours.metrics == pytest.approx(alone.metrics, rel=1e-4, abs=1e-5)
        assert (ours.n_tokens, ours.n_processed_tokens) == (alone.n_tokens, alone.n_processed_tokens)
    assert two.version == one.version == 3
    assert differences(fetched(two), weights_of(one)) < 5e-6
    for ours_T, alone_T in zip(two.logprobs(ragged_sequences()), one.logprobs(ragged_sequences()), strict=True):
        np.testing.assert_allclose(ours_T, alone_T, atol=1e-4)

    two.save(tmp_path)
    kept = load_file(tmp_path / "optimizer.safetensors")
    assert differences(gradients_of(one), {name: kept[f"exp_avg/{name}"].numpy() for name in gradients_of(one)}) < 1e-6
    resumed = make_learner(tiny_model_path)
    resumed.load(tmp_path)
    assert resumed.version == 3
    assert differences(fetched(two), weights_of(resumed)) == 0
    ours, alone = (learner.step(ragged_sequences(7), STEADY) for learner in (two, resumed))
    assert ours.loss == pytest.approx(alone.loss, abs=1e-5)
    assert differences(fetched(two), weights_of(resumed)) < 5e-6


def test_two_ranks_choose_the_tokens_that_one_would(ranked, tiny_model_path):
    settings = {"token_share": 0.4, "aggregation": "sequence_mean", "tokens_per_micro_batch": 60}
    two, one = ranked(2, **settings), make_learner(tiny_model_path, **settings)
    for sequences in (ragged_sequences(), ragged_sequences()[:1]):  # with one sequence the second rank works on a dummy
        ours, alone = (learner.step(sequences, STEADY) for learner in (two, one))
        assert ours.n_tokens == alone.n_tokens == int(np.ceil(0.4 * sum(len(s.token_ids) for s in sequences)))
        assert ours.loss == pytest.approx(alone.loss, abs=1e-5)
        assert ours.metrics == pytest.approx(alone.metrics, rel=1e-4, abs=1e-5)
    assert differences(fetched(two), weights_of(one)) < 5e-6


def test_two_ranks_measure_what_one_does(ranked, tiny_model_path):
    """Parts are groups, wherever their sequences are; sketches and moments lie on both ranks."""
    settings = {"statistics": get_args(Statistic), "tokens_per_micro_batch": 60}
    two, one = ranked(2, **settings), make_learner(tiny_model_path, **settings)
    for seed in range(3):
        sequences = ragged_sequences(seed)[: 14 if seed else 6]
        ours, alone = (learner.step(sequences, STEADY).metrics for learner in (two, one))
        assert ours == pytest.approx(alone, rel=2e-3, abs=1e-5)
        assert {"gradient_signal", "update_kl", "grad_norm_l1"} | ({"update_cosine"} if seed else set()) <= ours.keys()
        assert ours["update_kl"] > 1e-6
    assert differences(fetched(two), weights_of(one)) < 5e-6


def test_fewer_sequences_than_ranks_no_signal_and_bad_input(ranked, tiny_model_path, tmp_path):
    two, one = (
        ranked(2, kl_coefficient=0.1, updates_per_step=2),
        make_learner(tiny_model_path, kl_coefficient=0.1, updates_per_step=2),
    )
    single = ragged_sequences()[:1]
    for _ in range(2):  # the second rank works on a dummy
        ours, alone = (learner.step(single, STEADY) for learner in (two, one))
        assert ours.loss == pytest.approx(alone.loss, abs=1e-5)
        assert ours.metrics == pytest.approx(alone.metrics, rel=1e-4, abs=1e-5)
    assert differences(fetched(two), weights_of(one)) < 5e-6
    assert two.step([], STEADY).metrics["updates"] == 0
    with pytest.raises(CurriculaError, match="has no prompt"):
        two.step([replace(single[0], prompt_ids=())], LR)
    assert two.step(single, STEADY).metrics["updates"] == 1  # a refused batch does no harm


@pytest.mark.parametrize("model", [{"dtype": "bfloat16"}, {"lora": LoraSettings(rank=4)}], ids=str)
def test_load_on_two_ranks_what_one_rank_saved(ranked, tiny_model_path, tmp_path, model):
    one = make_learner(tiny_model_path, model)
    one.step(ragged_sequences(), LR)
    one.save(tmp_path)
    two = ranked(2, model)
    two.load(tmp_path)
    assert two.version == 1
    assert differences(fetched(two), weights_of(one)) == 0
    two.step(ragged_sequences(1), LR)
    two.save(tmp_path / "again")
    one.load(tmp_path / "again")
    assert one.version == 2
    assert differences(fetched(two), weights_of(one)) == 0


def test_two_ranks_average_what_one_would(ranked, tiny_model_path, tmp_path):
    settings = {"optimizer": {"name": "schedule_free_adamw"}}
    two, one = ranked(2, **settings), make_learner(tiny_model_path, **settings)
    for seed in range(2):
        for learner in (two, one):
            learner.step(ragged_sequences(seed, version=learner.version), STEADY)
    drawn_from, released = fetched(two), two.release_weights()
    assert released.version == 2
    shipped = {name: array for chunk in released.chunks for name, array in ray.get(chunk).items()}
    assert differences(drawn_from, shipped) > 0.02 * STEADY, "x is another place than y"
    assert differences(fetched(two), drawn_from) == 0
    assert differences(drawn_from, weights_of(one)) < 5e-6
    two.save(tmp_path)
    resumed = make_learner(tiny_model_path, **settings)
    resumed.load(tmp_path)
    assert differences(drawn_from, weights_of(resumed)) == 0
    alone = {name: array for chunk in resumed.release_weights().chunks for name, array in chunk.items()}
    assert differences(shipped, alone) == 0
    for learner in (two, resumed):
        learner.step(ragged_sequences(2, version=2), STEADY)
    assert differences(fetched(two), weights_of(resumed)) < 5e-6


def test_a_dead_rank_is_named(ranked):
    two = ranked(2)
    two.step(ragged_sequences(), LR)
    os.kill(two.pids[1], signal.SIGKILL)
    with pytest.raises(RankDied, match=r"learner rank 1 of 2 failed in 'step': .*start again from the last checkpoint"):
        two.step(ragged_sequences(), LR)
