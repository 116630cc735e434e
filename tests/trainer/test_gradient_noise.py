"""Signal and noise of a gradient against known truth, and against gradients of groups computed one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from curricula.types import CurriculaError
from tests.trainer.learning import make_learner, ragged_sequences
from trainer.gradient_noise import MOST_PARTS, matrices_to_watch, parts_of, signal_and_noise
from trainer.losses import token_weights
from trainer.micro_batches import assemble
from trainer.schedules.noise import norms_of
from trainer.schedules.noise import signal_and_noise as from_norms
from trainer.settings import LoraSettings

LR = 1e-3
D, SIGMA, MU = 50, 2.0, 0.3  # signal 50 x 0.09 = 4.5, noise of one group 50 x 4 = 200


def mean_and_error(values):
    return float(np.mean(values)), float(np.std(values) / np.sqrt(len(values)))


def test_equal_parts_have_no_bias_and_are_the_usual_pair_of_norms():
    rng, found = np.random.default_rng(0), []
    for _ in range(1500):
        groups = MU + SIGMA * rng.standard_normal((32, D))
        parts = groups.reshape(8, 4, D).sum(1) / 32
        noise = signal_and_noise([torch.from_numpy(parts)], np.full(8, 1 / 8))
        found.append((noise.signal, 32 * noise.noise))
        norms = {
            "part_norm_sq": float(((8 * parts) ** 2).sum(1).mean()),
            "norm_sq": float((parts.sum(0) ** 2).sum()),
            "part_groups": 4.0,
            "groups": 32.0,
        }
        assert from_norms(norms) == pytest.approx(found[-1], rel=1e-9, abs=1e-9)
    for values, truth in zip(np.transpose(found), (4.5, 200.0), strict=True):
        mean, error = mean_and_error(values)
        assert abs(mean - truth) < 4 * error
        assert error < 0.02 * truth


def test_shares_of_tokens_have_no_bias_where_longer_groups_are_better_known():
    """Tokens of noise 2 around 0.3 in groups of 1 to 40 tokens: the mean over all tokens has signal 4.5 and noise 200 / tokens."""
    rng, errors = np.random.default_rng(1), []
    for _ in range(1500):
        n_k = rng.integers(1, 41, 16)
        parts = (n_k[:, None] * MU + np.sqrt(n_k)[:, None] * SIGMA * rng.standard_normal((16, D))) / n_k.sum()
        noise = signal_and_noise([torch.from_numpy(parts[:, :20]), torch.from_numpy(parts[:, 20:])], n_k / n_k.sum())
        errors.append((noise.signal - 4.5, noise.noise - 200 / n_k.sum()))
    for values in np.transpose(errors):
        mean, error = mean_and_error(values)
        assert abs(mean) < 4 * error


def test_norms_and_back():
    assert from_norms(norms_of(4.5, 200.0, 32.0)) == pytest.approx((4.5, 200.0))


def test_parts_are_whole_groups_with_their_share_of_the_denominator():
    sequences = ragged_sequences()
    by_token, by_sequence = (parts_of(sequences, rule) for rule in ("token_mean", "sequence_mean"))
    assert [set(by_token.part_R[[s.group == group for s in sequences]]) for group in range(4)] == [{0}, {1}, {2}, {3}]
    assert by_sequence.share_k == pytest.approx([2 / 14, 5 / 14, 3 / 14, 4 / 14])
    assert by_token.share_k.sum() == pytest.approx(1)
    assert by_token.share_k[0] == pytest.approx(
        sum(len(s.token_ids) for s in sequences[:2]) / sum(len(s.token_ids) for s in sequences)
    )
    many = parts_of([replace(sequences[0], group=i) for i in range(3 * MOST_PARTS)], "token_mean")
    assert (many.n_groups, set(np.bincount(many.part_R))) == (3 * MOST_PARTS, {3})


def test_one_part_says_nothing():
    assert signal_and_noise([torch.ones(1, 5)], np.ones(1)) is None
    assert signal_and_noise([torch.ones(2, 5)], np.array([1.0, 0.0])) is None


def by_group(learner, matrices, sequences) -> list[np.ndarray]:
    """The watched matrices' gradients of each group alone, (groups, outputs, inputs): one backward pass per group."""
    n_tokens = np.array([sequence.n_drawn for sequence in sequences])
    weight_R = token_weights(n_tokens, learner._settings.aggregation, 24)
    names = {id(parameter): name for name, parameter in learner._model.causal_lm.named_parameters()}
    found = [[] for _ in matrices]
    for group in range(1 + max(sequence.group for sequence in sequences)):
        places = np.flatnonzero([sequence.group == group for sequence in sequences])
        learner._accumulate(assemble(sequences, places, weight_R))
        for i, matrix in enumerate(matrices):
            found[i].append(learner._masters.tensors[names[id(matrix.weight)]].grad.numpy().copy())
        learner._optimizer.zero_grad()
    return [np.stack(gradients) for gradients in found]


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ({}, {}),
        ({}, {"tokens_per_micro_batch": 30, "aggregation": "sequence_mean", "loss": "gspo", "importance_cap": None}),
        ({}, {"kl_coefficient": 0.1, "tokens_per_micro_batch": 60}),
        ({"gradient_checkpointing": True}, {"tokens_per_micro_batch": 60}),
        ({"lora": LoraSettings(rank=4)}, {}),
        ({"lora": LoraSettings(rank=4, target_modules=("up_proj",))}, {}),
        ({"dtype": "bfloat16"}, {}),
    ],
    ids=str,
)
def test_the_sketch_is_of_the_gradients_of_groups(tiny_model_path, model, settings):
    learner = make_learner(tiny_model_path, model, statistics=("gradient_noise",), **settings)
    plain = make_learner(tiny_model_path, model, **settings)
    sequences = ragged_sequences()
    wanted = by_group(plain, matrices_to_watch(plain._model), sequences)
    metrics = learner.step(sequences, LR).metrics
    sketch = learner._statistics._sketch
    assert len(sketch.sums()) == len(wanted) == 2
    projected = []
    for found, full, directions in zip(sketch.sums(), wanted, sketch._directions, strict=True):
        projected.append(np.einsum("goi,od->gdi", full, directions.float().numpy()))
        tolerance = 0.05 if model.get("dtype") == "bfloat16" else 1e-4
        assert np.abs(found.numpy() - projected[-1]).max() < tolerance * np.abs(projected[-1]).max()
    share_k = parts_of(sequences, learner._settings.aggregation).share_k
    noise = signal_and_noise([torch.from_numpy(gradients) for gradients in projected], share_k)
    assert metrics["gradient_signal"] == pytest.approx(noise.signal, rel=0.05, abs=0.01 * noise.norm_sq)
    assert metrics["gradient_noise"] == pytest.approx(4 * noise.noise, rel=0.05)
    assert (metrics["update_groups"], metrics["group_rollouts"]) == (4, 3.5)


def test_lengths_in_the_sketch_are_right_in_the_mean():
    """Over the random directions, of which every matrix has its own."""
    from trainer.gradient_noise import GradientSketch

    layers = [torch.nn.Linear(40, 48, bias=False) for _ in range(300)]
    sketch, gradient = GradientSketch(layers), torch.randn(48, 40, generator=torch.Generator().manual_seed(1))
    squares = [float((sketch._directions_of(i, gradient.T).T @ gradient).square().sum()) for i in range(300)]
    mean, error = mean_and_error(np.array(squares) / float(gradient.square().sum()))
    assert abs(mean - 1) < 4 * error
    assert error < 0.01


def test_groups_without_signal_count_as_groups_that_pull_nowhere(tiny_model_path):
    learner = make_learner(tiny_model_path, statistics=("gradient_noise",))
    sequences = ragged_sequences()
    quiet = [replace(s, advantage=0.0) if s.group in (0, 2) else s for s in sequences]
    metrics = learner.step(quiet, LR).metrics
    full = make_learner(tiny_model_path, statistics=("gradient_noise",)).step([s for s in quiet if s.group in (1, 3)], LR).metrics
    assert (metrics["update_groups"], full["update_groups"]) == (4, 2)
    assert metrics["gradient_noise"] > 0


def test_a_model_without_a_matrix_to_watch_is_refused(tiny_model_path):
    learner = make_learner(tiny_model_path)
    for parameter in learner._model.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(CurriculaError, match="found no trained matrix in the blocks of Qwen3ForCausalLM"):
        matrices_to_watch(learner._model)
