"""How the tables of `curricula lr` look."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table


def headed(texts: Sequence[str], numbers: Sequence[str], caption: str | None = None) -> Table:
    """Columns of texts, which may be folded, then columns of numbers, to the right and never folded."""
    table = Table(box=SIMPLE_HEAD, caption=caption, caption_justify="left")
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table
