"""Cutting work by length: nothing lost, nothing over the budget, equal turns for all ranks; and what the tensors hold."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.learning import ragged_sequences
from trainer.micro_batches import SPLIT_COST_TOKENS, assemble, deal, split_by_length

lengths = st.lists(st.integers(1, 300), min_size=0, max_size=80).map(lambda given: np.array(given, dtype=np.int64))


def padded(part, length_R):
    return len(part) * int(length_R[part].max())


@settings(max_examples=200, deadline=None)
@given(lengths, st.integers(1, 2000))
def test_every_sequence_once_within_the_budget(length_R, budget):
    parts = split_by_length(length_R, budget)
    assert sorted(np.concatenate([*parts, np.zeros(0, int)])) == list(range(len(length_R)))
    for part in parts:
        assert len(part) == 1 or padded(part, length_R) <= budget
        assert padded(part, length_R) - length_R[part].sum() <= SPLIT_COST_TOKENS


@settings(max_examples=200, deadline=None)
@given(lengths, st.integers(50, 2000), st.integers(1, 5))
def test_ranks_get_equally_many_of_like_size(length_R, budget, n_ranks):
    parts = split_by_length(length_R, budget)
    dealt = deal(parts, length_R, n_ranks)
    assert len(dealt) == n_ranks
    assert len({len(mine) for mine in dealt}) == 1
    everything = [part for mine in dealt for part in mine]
    assert sorted(np.concatenate([*everything, np.zeros(0, int)])) == list(range(len(length_R)))
    if len(length_R) >= n_ranks * max(len(dealt[0]), 1):
        assert all(len(part) for part in everything)  # a rank idles only where single sequences run out


def test_bucketing_wastes_far_less_than_padding_to_the_longest():
    length_R = np.random.default_rng(0).integers(8, 97, 256)
    used = sum(padded(part, length_R) for part in split_by_length(length_R, 16384))
    assert used < 1.15 * length_R.sum() < 256 * length_R.max()


@pytest.mark.parametrize("n_ranks", [1, 3])
def test_no_sequence_means_no_micro_batch(n_ranks):
    none = np.zeros(0, np.int64)
    assert deal(split_by_length(none, 100), none, n_ranks) == [[]] * n_ranks


def test_assembled_tensors_point_at_the_right_tokens():
    sequences = ragged_sequences()
    weight_R = np.linspace(0.1, 1, len(sequences))
    part = np.array([3, 0, 5])
    micro = assemble(sequences, part, weight_R)
    assert micro.place_n == (3, 0, 5)
    start = 0
    for row, i in enumerate(part):
        sequence, n = sequences[i], len(sequences[i].token_ids)
        mine = slice(start, start + n)
        start += n
        whole = [*sequence.prompt_ids, *sequence.token_ids.tolist()]
        assert micro.input_ids[row, : len(whole) - 1].tolist() == whole[:-1]
        assert (micro.input_ids[row, len(whole) - 1 :] == 0).all()
        first = row * micro.input_ids.shape[1] + len(sequence.prompt_ids) - 1
        assert micro.position_T[mine].tolist() == list(range(first, first + n))
        assert micro.target_T[mine].tolist() == sequence.token_ids.tolist()
        assert (micro.sequence_T[mine] == row).all()
        np.testing.assert_array_equal(micro.rollout_T[mine], sequence.rollout_logprob_T)
        assert (micro.advantage_T[mine] == np.float32(sequence.advantage)).all()
        assert (micro.weight_T[mine] == np.float32(weight_R[i])).all()
    assert start == len(micro.target_T)


def test_an_empty_part_is_a_dummy_without_weight():
    micro = assemble(ragged_sequences(), np.zeros(0, np.int64), np.ones(14))
    assert (micro.place_n, micro.input_ids.shape, micro.weight_T.tolist()) == ((), torch.Size([1, 1]), [0.0])
