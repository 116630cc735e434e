"""Weights travel bit for bit, once, in bounded chunks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from curricula.types import CurriculaError
from rollout.weights import to_array, to_chunks, to_tensor, to_tensors
from tests.tiny import tiny_model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_model_survives_the_journey_bit_for_bit(dtype: torch.dtype) -> None:
    model = tiny_model().to(dtype)
    chunks = list(to_chunks(model.named_parameters(), max_bytes=20_000))
    arrived = {name: tensor for chunk in chunks for name, tensor in to_tensors(chunk)}
    assert len(chunks) > 3
    assert arrived.keys() == dict(model.named_parameters()).keys()
    assert all(tensor.dtype == dtype and torch.equal(tensor, arrived[name]) for name, tensor in model.named_parameters())


def test_chunks_keep_to_their_size_except_for_one_large_tensor() -> None:
    tensors = [(str(i), torch.zeros(size)) for i, size in enumerate([10, 10, 10, 500, 10])]
    chunks = list(to_chunks(tensors, max_bytes=100))
    assert [list(chunk) for chunk in chunks] == [["0", "1"], ["2"], ["3"], ["4"]]
    assert list(to_chunks([], max_bytes=100)) == []


def test_a_tied_head_is_sent_once_and_an_untied_one_too() -> None:
    def names(tied: bool) -> set[str]:
        model = tiny_model(tied=tied)
        return {name for chunk in to_chunks(model.state_dict().items()) for name in chunk}

    assert names(tied=False) - names(tied=True) == {"lm_head.weight"}


def test_tensors_made_on_the_way_are_not_taken_for_repeats() -> None:
    temporary = ((str(i), torch.full((64,), float(i))) for i in range(50))  # the allocator gives the same memory again and again
    received = {name: array.copy() for chunk in to_chunks(temporary, max_bytes=256) for name, array in chunk.items()}
    assert [received[str(i)][0] for i in range(50)] == list(range(50))


def test_cpu_memory_is_shared_and_read_only_arrays_are_copied() -> None:
    tensor = torch.arange(4.0)
    array = to_array(tensor)
    assert array.ctypes.data == tensor.data_ptr()
    assert to_tensor(array).data_ptr() == tensor.data_ptr()
    array.flags.writeable = False
    assert to_tensor(array).data_ptr() != tensor.data_ptr()
    assert torch.equal(to_tensor(array), tensor)


def test_bfloat16_travels_as_uint16_bits() -> None:
    tensor = torch.tensor([1.0, -2.5, float("inf")], dtype=torch.bfloat16)
    array = to_array(tensor)
    assert array.dtype == np.uint16
    assert array.tolist() == [0x3F80, 0xC020, 0x7F80]
    assert torch.equal(to_tensor(array), tensor)


def test_other_types_are_refused() -> None:
    with pytest.raises(CurriculaError, match=r"torch.int64.*expected float32, float16 or bfloat16"):
        list(to_chunks([("a", torch.arange(3))]))
