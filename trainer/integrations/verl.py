"""A curriculum inside verl 0.9 (tried with 0.9.1): its V1 trainer (`trainer.use_v1`, the default) in mode sync, with GRPO.

Two lines of verl's configuration take it in, a third names the recipe; the command stays `python -m verl.trainer.main_ppo`:

    trainer.v1.sampler.custom_sampler.path=pkg://trainer.integrations.verl
    trainer.v1.sampler.custom_sampler.name=CurriculumReplayBuffer
    +trainer.v1.sampler.sampler_kwargs.recipe=dump_ucb

verl builds the replay buffer that is named there while it builds the trainer, and hands it a method of that trainer. The buffer
sees every group before anything is thrown away, and it gives the trainer a class (`with_curriculum`) that asks it for prompts
and advantages. The curriculum's state is where verl keeps that of its data loader: in ``data.pt`` of a checkpoint.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import OmegaConf
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl import __version__
from verl.utils import tensordict_utils as tu
from verl.utils.dataset.rl_dataset import collate_fn

from curricula import CurriculaError, Curriculum, Outcome, RolloutPlan
from curricula.hosting import Advantage, Host, HostedStep, curriculum_of, next_step, outcome_of
from curricula.types import Status
from trainer.integrations.verl_config import Settings, check_version, pool_of_dataset, refuse_settings, settings_of
from trainer.integrations.verl_queue import TRAIN, Came, GroupQueue, put_advantages, uids_of

if TYPE_CHECKING:
    from trainer.integrations.verl_log import QueueLog

FIRST, LAST = "0.9.0", "0.9.1"
WHERE = "trainer.v1.sampler.sampler_kwargs"


@dataclass(frozen=True)
class V1Settings(Settings):
    """Of the V1 trainer."""

    max_attempts: int = 4  # plans per step, refills included
    log: str = ""  # folder of this project's rollout log; needs rl-curricula[rollout]


class CurriculumReplayBuffer(GroupQueue):
    """Rolls out what a curriculum plans, until its filter has what the step needs, and hands over what carries gradient."""

    _step: HostedStep

    def __init__(self, **given: Any) -> None:
        check_version(__version__, FIRST, LAST, "older ones have another hook, see trainer.integrations.verl_sampler")
        self.settings = settings_of(V1Settings, OmegaConf.to_container(given["sampler_kwargs"], resolve=True), WHERE)
        trainer: Any = getattr(given["refill_fn"], "__self__", None)
        if not hasattr(trainer, "_next_train_batch"):
            raise CurriculaError(
                f"verl {__version__}: refill_fn is no method of its trainer, through which the curriculum gets at it"
            )
        if isinstance(getattr(trainer, "replay_buffer", None), CurriculumReplayBuffer):
            raise CurriculaError(f"verl: {type(trainer).__name__} has a curriculum already; a trainer takes one")
        refuse_settings(trainer)
        super().__init__(**given)
        self.trainer = trainer
        self._plan: RolloutPlan | None = None  # what is being rolled out
        self._advantage: dict[str, float] = {}  # of the rows that were handed over last, by key
        trainer.__class__ = with_curriculum(type(trainer))

    def begin(self) -> None:
        """Make the curriculum over the trainer's data set, which is there by now."""
        config = self.trainer.config
        pool = pool_of_dataset(self.trainer.train_dataset, self.settings, WHERE)
        self.curriculum = curriculum_of(self.settings.recipe, pool, self.settings.seed)
        self.host = Host("verl", config.actor_rollout_ref.rollout.n, config.data.train_batch_size, config.data.max_response_length)
        self.rule = Advantage("group" if config.algorithm.get("norm_adv_by_std_in_grpo", True) else "none")
        self.log = _log_of(self.settings.log, self.curriculum, self.trainer)

    def first_plan(self) -> RolloutPlan:
        """What the trainer's step begins with."""
        step, expected = self.trainer.global_steps - 1, next_step(self.curriculum)
        if step != expected:
            raise CurriculaError(
                f"verl: step {step + 1} begins, but the curriculum has learned from {expected} step(s); the checkpoint has no "
                "data.pt, or an actor and a data.pt of different steps: resume from a whole one, or start a new run"
            )
        if self.log is not None:
            self.log.begin(None)
        self._step = HostedStep(self.curriculum, self.host, step, self.settings.max_attempts)
        self._plan, self.uids = self._step.next_plan(), set()
        if self._plan is None:
            raise CurriculaError(f"verl: step {step + 1}: nothing to roll out; data.train_batch_size must be at least 1")
        return self._plan

    def sample(self, global_steps: int, partition_id: str, batch_size: int) -> tuple[KVBatchMeta, dict[str, Any]]:
        """verl's call: the rows of a step that train, once the curriculum needs no further rollouts; and numbers for verl's log."""
        if partition_id != TRAIN:
            return super().sample(global_steps, partition_id, batch_size)  # type: ignore[no-any-return]
        keys_R: list[list[str]] = []  # rows of each rollout of the step
        while self._plan is not None:
            came = self.came(self._plan, self.host.group_size)
            keys_R += came.keys_R
            self._step.take(self._outcome(self._plan, came))
            self._plan = self._step.next_plan()
            if self._plan is not None:
                self.trainer._submit_batch_to_rollout(self.rows(self._plan))
        hosted = self._step.finish(self.rule)
        if self.log is not None:
            self.log.write(hosted, keys_R)
        advantage_R, verdict = hosted.advantages(self.rule), hosted.whole.verdict
        train_R = np.flatnonzero(verdict.carries_gradient_R)
        if not len(train_R):  # verl cannot leave a step out: rollouts of advantage 0 go in
            train_R = np.flatnonzero([bool(keys) for keys in keys_R])[: self.host.n_rollouts]
        self._advantage = {key: float(advantage_R[r]) for r in train_R for key in keys_R[r]}
        batch = self.handed_over(list(self._advantage))
        counts = {"groups_rolled_out": len(verdict.kept_B), "groups_trained": int(verdict.kept_B.sum())}
        return batch, {f"curriculum/{name}": float(value) for name, value in (self.curriculum.metrics() | counts).items()}

    def rows(self, plan: RolloutPlan) -> TensorDict:
        """The plan's prompts as verl hands them to its rollout workers; how many rollouts each gets stands in ``__rollout_n__``."""
        place_B = np.flatnonzero(plan.n_rollouts_B)  # a prompt of 0 rollouts would come back as a group without rows
        rows = collate_fn([self.trainer.train_dataset[int(i)] for i in plan.selection.prompt_B[place_B]])
        rows["uid"] = np.array(uids_of(plan), dtype=object)[place_B]
        self.uids |= set(rows["uid"])
        rows["__rollout_n__"] = plan.n_rollouts_B[place_B]
        batch = tu.get_tensordict(rows)
        tu.assign_non_tensor_data(batch, "global_steps", self.trainer.global_steps)
        return batch

    def advantages(self, keys: list[str]) -> list[float]:
        """Of each row of the batch that was handed over last; 0 of rows that fill it up."""
        return [self._advantage.get(key, 0.0) for key in keys]

    def _outcome(self, plan: RolloutPlan, came: Came) -> Outcome:
        lost_R = np.array([not keys for keys in came.keys_R], dtype=np.bool_)
        version, limits = self.trainer.global_steps - 1, self.settings.reward_range
        outcome = outcome_of(plan, came.reward_R, came.n_tokens_R, np.zeros_like(lost_R), version, limits)
        return replace(outcome, status_R=np.where(lost_R, Status.LOST, outcome.status_R))


def with_curriculum(base: type) -> type:
    """A trainer class of verl of which three methods ask the curriculum; an object of ``base`` can be made one of it."""

    class CurriculumTrainer(base):  # type: ignore[misc]
        replay_buffer: CurriculumReplayBuffer

        def _init_dataloader(self) -> None:
            super()._init_dataloader()
            self.replay_buffer.begin()
            self.train_dataloader = LoaderState(self.replay_buffer)

        def _next_train_batch(self, num_prompts: int | None = None) -> TensorDict:
            return self.replay_buffer.rows(self.replay_buffer.first_plan())

        def _compute_advantage(self, batch: KVBatchMeta, metrics: dict[str, Any]) -> KVBatchMeta:
            batch = super()._compute_advantage(batch, metrics)
            return put_advantages(batch, self.replay_buffer.advantages(batch.keys))

    CurriculumTrainer.__name__ = f"Curriculum{base.__name__}"
    return CurriculumTrainer


@dataclass(frozen=True)
class LoaderState:
    """Stands where verl's data loader was, of which it saves and loads the state."""

    buffer: CurriculumReplayBuffer

    def state_dict(self) -> dict[str, Any]:
        log = self.buffer.log
        return {"curriculum": self.buffer.curriculum.state_dict(), "log": None if log is None else log.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if "curriculum" not in state:
            raise CurriculaError(
                "verl: data.pt of the checkpoint has no curriculum's state, only that of a data loader; start a new run"
            )
        self.buffer.curriculum.load_state_dict(state["curriculum"])
        if self.buffer.log is not None:
            self.buffer.log.begin(state["log"])


def _log_of(folder: str, curriculum: Curriculum, trainer: Any) -> QueueLog | None:
    if not folder:
        return None
    from trainer.integrations.verl_log import QueueLog

    return QueueLog(folder, curriculum, trainer)
