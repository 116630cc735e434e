"""A stand-in for slime's data source with a buffer: rows of a JSONL file, and groups that were cut short."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from slime.utils.types import Sample


class RolloutDataSourceWithBuffer:
    def __init__(self, args: Any) -> None:
        self.args, self.buffer = args, []
        self.sample_group_index = self.sample_index = 0
        rows = [json.loads(line) for line in Path(args.prompt_data).read_text().splitlines()]
        samples = [Sample(row[args.input_key], row[args.metadata_key]) for row in rows]
        self.dataset = SimpleNamespace(origin_samples=samples)

    def _get_samples_from_buffer(self, num_samples: int) -> list[list[Sample]]:
        taken, self.buffer = self.buffer[:num_samples], self.buffer[num_samples:]
        return taken

    def add_samples(self, samples: list[list[Sample]]) -> None:
        self.buffer += samples

    def save(self, rollout_id: int) -> None:
        self._path(self.args.save, rollout_id).parent.mkdir(parents=True, exist_ok=True)
        self._path(self.args.save, rollout_id).write_text(json.dumps([self.sample_group_index, self.sample_index]))

    def load(self, rollout_id: int | None = None) -> None:
        if self.args.load is not None and self._path(self.args.load, rollout_id).exists():
            self.sample_group_index, self.sample_index = json.loads(self._path(self.args.load, rollout_id).read_text())

    @staticmethod
    def _path(folder: str, rollout_id: int | None) -> Path:
        return Path(folder) / "rollout" / f"state_{rollout_id}.json"
