"""verl 0.7.1's data loader with a curriculum as its sampler, in a process of its own: ``python -m ...verl_sampler_run OUT``.

Real are verl's way of making the sampler, its data set and batches (DataProto), its GRPO advantages, and torchdata's loader with
its saved state. Made up are the rewards.
"""

from __future__ import annotations

import json
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torchdata.stateful_dataloader import StatefulDataLoader
from verl import DataProto, __version__
from verl.trainer.main_ppo import create_rl_sampler
from verl.trainer.ppo.core_algos import compute_grpo_outcome_advantage
from verl.utils.dataset.rl_dataset import RLHFDataset, collate_fn

from curricula import CurriculaError
from tests.tiny import character_tokenizer
from tests.trainer.integrations.verl_data import CHAT_TEMPLATE, write_rows

N = 4  # rollouts of a prompt


class Run:
    """As many of RayPPOTrainer's steps as touch the data loader, in its order."""

    def __init__(self, data: Path, curriculum: Any, **changed: Any) -> None:
        sampler = {
            "class_path": "pkg://trainer.integrations.verl_sampler",
            "class_name": "CurriculumSampler",
            "curriculum": curriculum,
        }
        wanted = {
            "sampler": sampler,
            "train_batch_size": 4,
            "dataloader_num_workers": 0,
            "filter_overlong_prompts": False,
            "return_raw_chat": True,
        }
        self.config = OmegaConf.create(wanted | {"cache_dir": str(data.parent)} | changed)
        tokenizer = character_tokenizer()
        tokenizer.chat_template = CHAT_TEMPLATE
        dataset = RLHFDataset([str(data)], tokenizer, self.config)
        self.sampler = create_rl_sampler(self.config, dataset)
        self.loader = StatefulDataLoader(
            dataset, batch_size=4, num_workers=0, drop_last=True, collate_fn=collate_fn, sampler=self.sampler
        )
        self.chosen: list[list[str]] = []

    def steps(self, n: int, save: Callable[[Any], None] = lambda state: None, back: bool = True) -> Run:
        """Train for so many batches; ``back``: whether the sampler gets them back."""
        while True:
            for rows in self.loader:  # an epoch
                batch = self.rolled_out(rows)
                self.chosen.append([row[0]["content"] for row in rows["raw_prompt"]])
                save(self.loader.state_dict())  # verl's order: before the batch comes back
                if back:
                    self.sampler.update(batch=batch)
                n -= 1
                if not n:
                    return self

    def rolled_out(self, rows: dict[str, Any]) -> DataProto:
        batch = DataProto.from_single_dict(rows)
        batch.non_tensor_batch["uid"] = np.array([str(uuid.uuid4()) for _ in range(len(batch))], dtype=object)
        batch = batch.repeat(repeat_times=N, interleave=True)
        kinds = [int(text[0]["content"][1:]) % 4 for text in batch.non_tensor_batch["raw_prompt"]]
        right = [kind == 1 or (kind == 2 and i % 2 == 0) for i, kind in enumerate(kinds)]  # q1 always, q2 half the time
        scores = torch.zeros(len(batch), 6)
        scores[:, 4] = torch.tensor(right, dtype=torch.float32)
        mask = torch.ones(len(batch), 6)
        mask[:, 5] = 0
        advantages, _ = compute_grpo_outcome_advantage(scores, mask, index=batch.non_tensor_batch["uid"])
        batch.batch["token_level_scores"], batch.batch["response_mask"], batch.batch["advantages"] = scores, mask, advantages
        order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))
        batch.reorder(order)  # as after balancing
        return batch

    @property
    def learned(self) -> dict[str, Any]:
        curriculum = self.sampler.curriculum
        mean_N = curriculum.estimate(np.arange(len(curriculum.pool))).mean_B
        return dict(zip(curriculum.pool.ids.tolist(), mean_N.tolist(), strict=True))


def told(act: Callable[[], Any]) -> str:
    try:
        act()
    except CurriculaError as error:
        return str(error)
    return "nothing was refused"


def refusals(folder: Path, saved: list[Any]) -> dict[str, str]:
    rows = folder / "rows.parquet"
    lost = Run(rows, {"recipe": "uniform"})
    batch = lost.rolled_out(next(iter(lost.loader)))
    unnamed = {**batch.non_tensor_batch}
    batch.non_tensor_batch["extra_info"] = np.array([{"index": 99} for _ in range(len(batch))], dtype=object)
    del unnamed["extra_info"]
    other = Run(write_rows(folder / "other.parquet", 16), {"recipe": "dump_ucb"})

    def resume(run: Run, state: Any) -> None:
        run.loader.load_state_dict(state)
        iter(run.loader)

    plain = StatefulDataLoader(other.loader.dataset, batch_size=4, collate_fn=collate_fn)
    iter(plain)
    return {
        "no recipe": told(lambda: Run(rows, {})),
        "group sizes": told(lambda: Run(rows, {"recipe": "knapsack"})),
        "filter": told(lambda: Run(rows, {"recipe": "nonzero_variance"})),
        "no index": told(lambda: Run(write_rows(folder / "no.parquet", 8, extra_info={"split": "train"}), {"recipe": "uniform"})),
        "too few rows": told(lambda: Run(write_rows(folder / "few.parquet", 2), {"recipe": "uniform"})),
        "other id": told(lambda: lost.sampler.update(batch)),
        "lost id": told(lambda: lost.sampler.update(type("Batch", (), {"non_tensor_batch": unnamed, "batch": batch.batch}))),
        "never updated": told(lambda: Run(rows, {"recipe": "uniform"}).steps(4, back=False)),
        "other data": told(lambda: resume(other, saved[1])),
        "other recipe": told(lambda: resume(Run(rows, {"recipe": "uniform"}), saved[1])),
    }


def main() -> None:
    """Write what the runs did as JSON."""
    folder = Path(sys.argv[1])
    data = write_rows(folder / "rows.parquet", 12)
    saved: list[Any] = []
    straight = Run(data, {"recipe": "dump_ucb", "seed": 5}).steps(8, save=saved.append)
    torch.save(saved[4], folder / "data.pt")
    resumed = Run(data, {"recipe": "dump_ucb", "seed": 5})
    resumed.loader.load_state_dict(torch.load(folder / "data.pt", weights_only=False))
    iter(resumed.loader)
    seen = resumed.learned
    resumed.steps(3)
    fewer = Run(data, {"recipe": "dump_ucb", "seed": 5}).steps(4)  # saved before the fifth batch came back
    out = {
        "version": __version__,
        "chosen": straight.chosen,
        "learned": straight.learned,
        "metrics": straight.sampler.curriculum.metrics(),
        "per_epoch": len(straight.loader),
        "resumed": resumed.chosen,
        "resumed_drawn": resumed.sampler._n_drawn,
        "at_resume": seen,
        "after_four": fewer.learned,
        "refused": refusals(folder, saved),
    }
    (folder / "out.json").write_text(json.dumps(out))


if __name__ == "__main__":
    main()
