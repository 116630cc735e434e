"""Weights on their way from the learner to the engines: chunks of NumPy arrays under Hugging Face names.

NumPy has no bfloat16, so bfloat16 tensors travel as their bits: **an array of dtype uint16 is bfloat16**. float32 and float16
travel as they are. A chunk of CPU tensors shares their memory until it is stored somewhere (the Ray object store copies), and
arrays that come out of the object store are read-only.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from curricula.types import CurriculaError

if TYPE_CHECKING:
    import torch

Chunk = dict[str, np.ndarray]
DEFAULT_CHUNK_BYTES = 512 * 2**20


def to_chunks(named_tensors: Iterable[tuple[str, torch.Tensor]], max_bytes: int = DEFAULT_CHUNK_BYTES) -> Iterator[Chunk]:
    """Pack tensors in their order into chunks of at most ``max_bytes``; a larger tensor is a chunk of its own.

    A tied weight is sent once, under its first name. Senders give ``model.named_parameters()``, or tensors gathered one by one
    (then they leave out ``lm_head.weight`` of a tied model themselves: copies do not show that they are tied).
    """
    chunk: Chunk = {}
    size = 0
    for name, tensor in _without_repeats(named_tensors):
        array = to_array(tensor)
        if chunk and size + array.nbytes > max_bytes:
            yield chunk
            chunk, size = {}, 0
        chunk[name] = array
        size += array.nbytes
    if chunk:
        yield chunk


def to_array(tensor: torch.Tensor) -> np.ndarray:
    """The tensor as NumPy, without a copy where it is contiguous on the CPU; bfloat16 as uint16 bits."""
    import torch

    flat = tensor.detach().cpu().contiguous()
    if flat.dtype == torch.bfloat16:
        flat = flat.view(torch.uint16)
    elif flat.dtype not in (torch.float32, torch.float16):
        raise CurriculaError(f"weights: a tensor has dtype {flat.dtype}, expected float32, float16 or bfloat16; convert it first")
    array: np.ndarray = flat.numpy()
    return array


def to_tensor(array: np.ndarray) -> torch.Tensor:
    """The inverse of `to_array`; copies only read-only arrays, which torch must not hold."""
    import torch

    tensor = torch.from_numpy(array if array.flags.writeable else array.copy())
    return tensor.view(torch.bfloat16) if tensor.dtype == torch.uint16 else tensor


def to_tensors(chunk: Chunk) -> Iterator[tuple[str, torch.Tensor]]:
    """Name and tensor of everything in a chunk."""
    return ((name, to_tensor(array)) for name, array in chunk.items())


def _without_repeats(named_tensors: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
    """Drop tensors whose memory was sent before. The owner must still be alive: freed memory is used again by other tensors."""
    seen: dict[tuple[Any, ...], weakref.ref[torch.Tensor]] = {}
    for name, tensor in named_tensors:
        place = (tensor.device, tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
        earlier = seen.get(place)
        if tensor.numel() and earlier is not None and earlier() is not None:
            continue
        seen[place] = weakref.ref(tensor)
        yield name, tensor
