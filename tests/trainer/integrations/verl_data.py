"""Rows as verl's own scripts prepare them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHAT_TEMPLATE = "{% for m in messages %}{{ m['content'] }}{% endfor %}"


def write_rows(path: Path, n: int, **changed: Any) -> Path:
    """Prompts "q0", "q1", ...: by turns hard and easy, numbered in each; ``changed`` fields are the same in all rows."""
    import datasets

    rows = [
        {
            "data_source": "easy" if i % 2 else "hard",
            "prompt": [{"role": "user", "content": f"q{i}"}],
            "reward_model": {"style": "rule", "ground_truth": "4"},
            "extra_info": {"index": i // 2, "split": "train"},
        }
        | changed
        for i in range(n)
    ]
    datasets.Dataset.from_list(rows).to_parquet(str(path))
    return path
