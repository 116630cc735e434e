"""A curriculum inside verl 0.5 to 0.7.1 (tried with 0.7.1), through the sampler hook of their data loader.

Three lines of verl's configuration take it in, a fourth names the recipe:

    data.sampler.class_path=pkg://trainer.integrations.verl_sampler
    data.sampler.class_name=CurriculumSampler
    data.dataloader_num_workers=0
    +data.sampler.curriculum.recipe=dump_ucb

verl asks for a batch of rows, and gives the batch back with rewards and advantages once it has trained on it. So a curriculum
chooses prompts here, and learns; every prompt gets ``rollout.n`` rollouts and everything is trained on. verl saves a
checkpoint before it gives the batch of that step back: a resumed run has not learned from the last step before the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from curricula import CurriculaError, Curriculum, Feedback, RolloutPlan
from curricula.hosting import curriculum_of, outcome_of
from curricula.registry import name_of
from curricula.types import Ints
from trainer.integrations.verl_config import Settings, check_version, ids_of, pool_of_dataset, settings_of

FIRST, LAST = "0.5.0", "0.7.1"
WHERE = "data.sampler.curriculum"
FIXED = {"budget": "even", "shaping": "raw", "filter": "keep_all", "downsampling": "none"}  # stages that verl leaves no choice in

try:
    from verl.experimental.dataset.sampler import AbstractCurriculumSampler
except ImportError:
    raise CurriculaError(
        f"verl {version('verl')} has no curriculum sampler; {FIRST} to {LAST} have one. For 0.9 see trainer.integrations.verl"
    ) from None


class CurriculumSampler(AbstractCurriculumSampler):  # type: ignore[misc]
    """Gives verl's data loader the rows that a curriculum chooses, batch by batch."""

    def __init__(self, data_source: Sized, data_config: DictConfig) -> None:
        check_version(version("verl"), FIRST, LAST, "use trainer.integrations.verl with 0.9")
        given = OmegaConf.to_container(data_config.sampler.get("curriculum", OmegaConf.create({})), resolve=True)
        self.settings = settings_of(Settings, given if isinstance(given, Mapping) else {}, WHERE)
        self.n_prompts = int(data_config.get("gen_batch_size", None) or data_config.train_batch_size)
        self.n_rows = len(data_source)
        if self.n_rows < self.n_prompts:
            raise CurriculaError(
                f"verl: a batch has {self.n_prompts} prompts, the data set {self.n_rows}; expected at least one batch"
            )
        pool = pool_of_dataset(data_source, self.settings, WHERE)
        self.curriculum = curriculum_of(self.settings.recipe, pool, self.settings.seed)
        _refuse_stages(self.curriculum)
        self._row = {str(name): i for i, name in enumerate(pool.ids)}
        self._n_drawn = 0  # batches
        self._open: list[RolloutPlan] = []  # batches that did not come back yet

    def __len__(self) -> int:
        return self.n_rows

    def __iter__(self) -> Iterator[int]:
        """The rows of what is left of an epoch: as many batches as a pass over the data set has."""
        for _ in range(self.n_rows // self.n_prompts - self._n_drawn % (self.n_rows // self.n_prompts)):
            yield from self._plan().selection.prompt_B.tolist()

    def update(self, batch: Any) -> None:
        """verl's call: a batch that was trained on, with ``token_level_scores`` and ``advantages`` (R, T) and the rows' fields."""
        fields = batch.non_tensor_batch
        row_R = self._rows_of(ids_of(fields.get, self.settings, "batch"))
        mask = batch.batch["response_mask"].float()
        reward_R = batch.batch["token_level_scores"].sum(-1).double().cpu().numpy()
        advantage_R = ((batch.batch["advantages"] * mask).sum(-1) / mask.sum(-1).clamp(min=1)).double().cpu().numpy()
        n_tokens_R = mask.sum(-1).long().cpu().numpy()
        feedbacks = []
        for plan in self._open:
            mine_R = np.flatnonzero(np.isin(row_R, plan.selection.prompt_B))
            place_R = np.argmax(plan.selection.prompt_B == row_R[mine_R, None], axis=1)
            mine_R = mine_R[np.argsort(place_R, kind="stable")]
            came = replace(plan, n_rollouts_B=np.bincount(place_R, minlength=len(plan)))
            whole_R = np.zeros(len(mine_R), dtype=np.bool_)
            outcome = outcome_of(came, reward_R[mine_R], n_tokens_R[mine_R], whole_R, plan.step, self.settings.reward_range)
            feedbacks.append(Feedback(outcome, self.curriculum.judge(outcome), advantage_R[mine_R]))
        self.curriculum.update(feedbacks)
        self._open = []

    def state_dict(self) -> dict[str, Any]:
        """For verl's data loader, which puts it into ``data.pt``."""
        return {"curriculum": self.curriculum.state_dict(), "n_drawn": self._n_drawn}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a saved state; what was drawn and never came back before it was saved stays unlearned."""
        if "curriculum" not in state:
            raise CurriculaError("verl: data.pt of the checkpoint has no curriculum's state; start a new run")
        self.curriculum.load_state_dict(state["curriculum"])
        self._n_drawn, self._open = int(state["n_drawn"]), []

    def _plan(self) -> RolloutPlan:
        taken = [int(row) for plan in self._open for row in plan.selection.prompt_B]
        plan = self.curriculum.plan(self._n_drawn, self.n_prompts, 2 * self.n_prompts, exclude=taken)
        if len(plan) < self.n_prompts:
            raise CurriculaError(
                f"verl asks for {self.n_prompts} prompts, {len(plan)} of {self.n_rows} are left: {len(taken)} are in "
                f"{len(self._open)} batches that verl did not give back; the trainer must call sampler.update(batch)"
            )
        self._n_drawn += 1
        self._open.append(plan)
        return plan

    def _rows_of(self, ids: list[str]) -> Ints:
        row_R = np.array([self._row.get(name, -1) for name in ids])
        drawn = np.concatenate([np.empty(0, np.int64), *(plan.selection.prompt_B for plan in self._open)])
        lost = np.flatnonzero(~np.isin(row_R, drawn))
        if len(lost):
            raise CurriculaError(
                f"batch: row {lost[0]} has prompt id {ids[lost[0]]!r}, of no prompt that was drawn and not given back yet "
                f"({len(lost)} such rows); rows must keep {self.settings.prompt_id} on their way through the trainer"
            )
        return row_R


def _refuse_stages(curriculum: Curriculum) -> None:
    for stage, only in FIXED.items():
        name = name_of(stage, getattr(curriculum.stages, stage))
        if name != only:
            raise CurriculaError(
                f"verl {version('verl')}: the recipe's {stage} is {name}, expected {only}: every prompt gets rollout.n rollouts "
                "and all are trained on; choose a recipe of belief, distribution and selector alone, or use verl 0.9"
            )
