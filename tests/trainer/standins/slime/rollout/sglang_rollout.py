"""A stand-in for slime's rollout: oversampling, a filter, groups that are cut short, and the hook that sees all that finished."""

from __future__ import annotations

import asyncio
import importlib
from typing import Any


def load_function(path: str | None) -> Any:
    if path is None:
        return None
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


async def generate_and_rm_group(args: Any, group: Any, sampling_params: Any, evaluation: bool = False) -> Any:
    raise NotImplementedError("the test generates")


async def _rollout(args: Any, get_samples: Any) -> tuple[list[Any], list[Any]]:
    keep = load_function(args.dynamic_sampling_filter_path)
    kept: list[Any] = []
    finished: list[Any] = []
    waiting: list[Any] = []
    while len(kept) < args.rollout_batch_size:
        while len(kept) + len(waiting) < args.rollout_batch_size:
            waiting += get_samples(args.over_sampling_batch_size)
        group = await generate_and_rm_group(args, waiting.pop(0), {})
        finished.append(group)
        if keep is None or keep(args, group).keep:
            kept.append(group)
    load_function(args.rollout_all_samples_process_path)(args, finished, get_samples)
    return kept, waiting if args.partial_rollout else []


def generate_rollout(args: Any, rollout_id: int, data_source: Any, evaluation: bool = False) -> Any:
    kept, cut_short = asyncio.run(_rollout(args, data_source.get_samples))
    data_source.add_samples(cut_short)
    return kept
