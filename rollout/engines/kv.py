"""Keys and values of the rows that are being decoded, written in place, and the attention that reads them.

One buffer per layer of shape (rows, key-value heads, columns, head dimension). All rows end in the same column, so prompts are
padded on the left. A finished row is overwritten by the last one, a new row is appended: neither copies the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers.cache_utils import Cache, CacheLayerMixin
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

ATTENTION = "curricula_rows"
SPARE_COLUMNS = 64

Layers = list[tuple[torch.Tensor, torch.Tensor]]  # per layer keys and values, (U, heads, P, D)


@dataclass
class Extent:
    """The part of the buffers that is in use."""

    rows: int = 0
    first: int = 0  # column of the oldest token of any row
    end: int = 0  # column that the next token takes

    @property
    def width(self) -> int:
        return self.end - self.first


class RowLayer(CacheLayerMixin):
    """One layer's buffers."""

    keys: torch.Tensor
    values: torch.Tensor

    def __init__(self, extent: Extent) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.extent = extent

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Write one token per row; views on all that the rows have."""
        e = self.extent
        self.keys[: e.rows, :, e.end : e.end + 1] = key_states
        self.values[: e.rows, :, e.end : e.end + 1] = value_states
        return self.keys[: e.rows, :, e.first : e.end + 1], self.values[: e.rows, :, e.first : e.end + 1]

    def move_to(self, extent: Extent, rows: int, columns: int, like: torch.Tensor) -> None:
        """New buffers of this capacity that hold the old rows, with their ends in column ``extent.end``."""
        self.keys = self._moved(self.keys, extent, rows, columns, like)
        self.values = self._moved(self.values, extent, rows, columns, like)
        self.is_initialized = True

    def _moved(self, old: torch.Tensor | None, to: Extent, rows: int, columns: int, like: torch.Tensor) -> torch.Tensor:
        new = like.new_zeros(rows, like.shape[1], columns, like.shape[3])  # zeros: a masked NaN would still spread
        e = self.extent
        if old is not None and e.rows:
            new[: e.rows, :, to.end - e.width : to.end] = old[: e.rows, :, e.first : e.end]
        return new

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing: buffers come from `move_to`."""

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.extent.width + query_length, 0

    def get_seq_length(self) -> int:
        return self.extent.width

    def get_max_length(self) -> int:
        return -1


class RowCache(Cache):
    """The buffers of all layers and the place of every row in them."""

    def __init__(self, n_layers: int, max_rows: int) -> None:
        self.extent = Extent()
        self.buffers = [RowLayer(self.extent) for _ in range(n_layers)]
        super().__init__(layers=list(self.buffers))
        self.max_rows = max_rows
        self.start_R: list[int] = []  # first column of each row
        self._row_capacity = self._column_capacity = 0

    def append(self, prefilled: Layers, source_R: list[int], length_R: list[int]) -> None:
        """Add rows; row i continues prompt ``source_R[i]`` of the prefilled layers and owns their last ``length_R[i]`` columns."""
        e, n, width = self.extent, len(source_R), prefilled[0][0].shape[2]
        self._reserve(e.rows + n, width, prefilled[0][0])
        index = torch.tensor(source_R, device=prefilled[0][0].device)
        for layer, (keys, values) in zip(self.buffers, prefilled, strict=True):
            layer.keys[e.rows : e.rows + n, :, e.end - width : e.end] = keys[index]
            layer.values[e.rows : e.rows + n, :, e.end - width : e.end] = values[index]
        e.rows += n
        self._set_starts(self.start_R + [e.end - length for length in length_R])

    def drop(self, rows: list[int]) -> list[int]:
        """Remove rows; returns for every row that is left the row that it was."""
        gone = set(rows)
        left = self.extent.rows - len(gone)
        holes = sorted(row for row in gone if row < left)
        movers = [row for row in range(left, self.extent.rows) if row not in gone]
        was = list(range(left))
        for hole, mover in zip(holes, movers, strict=True):
            was[hole] = mover
        self._copy_rows(movers, holes)
        self.extent.rows = left
        self._set_starts([self.start_R[row] for row in was])
        return was

    def clear(self) -> None:
        """Remove all rows; the buffers stay, as making them anew costs as much as many tokens."""
        self.extent.rows = 0
        self._set_starts([])

    def grow(self) -> None:
        """Make sure that the next token has a column."""
        e = self.extent
        if e.end == self._column_capacity:
            self._reserve(e.rows, e.width, self.buffers[0].keys)

    def mask(self, dtype: torch.dtype, device: torch.device) -> torch.Tensor | None:
        """(R, 1, 1, width + 1) additive mask of the padding for one new token; None where there is none."""
        e = self.extent
        if all(start == e.first for start in self.start_R):
            return None
        column = torch.arange(e.first, e.end + 1, device=device)
        padding = column < torch.tensor(self.start_R, device=device)[:, None]
        return torch.zeros(padding.shape, dtype=dtype, device=device).masked_fill_(padding, -torch.inf)[:, None, None, :]

    def _set_starts(self, start_R: list[int]) -> None:
        self.start_R = start_R
        self.extent.first = min(start_R, default=self.extent.end)

    def _copy_rows(self, sources: list[int], targets: list[int]) -> None:
        if not sources:
            return
        e = self.extent
        for layer in self.buffers:
            for buffer in (layer.keys, layer.values):
                buffer[targets, :, e.first : e.end] = buffer[sources, :, e.first : e.end]

    def _reserve(self, rows: int, width: int, like: torch.Tensor) -> None:
        """Room for so many rows, the oldest ``width`` columns long, and for one column more; padding that nobody needs is cut."""
        e = self.extent
        fits = rows <= self._row_capacity and max(width, e.end) < self._column_capacity
        if fits and not e.rows:
            e.first = e.end = width
        if fits and e.end >= width:
            return
        to = Extent(e.rows, 0, max(e.width, width))
        self._row_capacity = max(self._row_capacity, rows, min(self.max_rows, 2 * rows))
        self._column_capacity = to.end + max(SPARE_COLUMNS, to.end // 2)
        for layer in self.buffers:
            layer.move_to(to, self._row_capacity, self._column_capacity, like)
        moved = [start + to.end - e.end for start in self.start_R]
        e.end = to.end
        self._set_starts(moved)


def row_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of one new token per row: the heads that share a key head are its queries, so keys are never repeated in memory."""
    if query.shape[2] > 1:
        return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
    rows, heads, _, dim = query.shape
    grouped = query.reshape(rows, key.shape[1], heads // key.shape[1], dim)
    mixed = scaled_dot_product_attention(grouped, key, value, attn_mask=attention_mask, scale=scaling)
    return mixed.reshape(rows, 1, heads, dim), None


AttentionInterface.register(ATTENTION, row_attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)
