"""verl 0.9's queue of rollouts, read and handed on group by group instead of row by row."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
import transfer_queue as tq
from tensordict import TensorDict
from transfer_queue import KVBatchMeta
from verl.trainer.ppo.v1.replay_buffer import ReplayBuffer

from curricula.types import CurriculaError, Floats, Ints, RolloutPlan

TRAIN = "train"  # verl's partition of rollouts to train on


@dataclass(frozen=True, eq=False)
class Came:
    """What came back for a plan, its rollouts group by group."""

    reward_R: Floats  # NaN where none came
    n_tokens_R: Ints  # that the model drew
    keys_R: list[list[str]]  # rows of each rollout in the queue; none where it broke


class GroupQueue(ReplayBuffer):  # type: ignore[misc]
    """verl's replay buffer, which waits for the groups of a plan."""

    uids: set[str]  # groups of the step

    def came(self, plan: RolloutPlan, group_size: int) -> Came:
        """Wait for all groups of the plan; of several rows of one rollout the last has its reward.

        Errors: CurriculaError when groups are lost on the way, or have another size than the plan asks for.
        """
        place = {uid: b for b, uid in enumerate(uids_of(plan)) if plan.n_rollouts_B[b]}
        self._wait_for(set(place))
        keys = sorted((key for key in self.partitions[TRAIN] if key.split("_")[0] in place), key=_parts)
        _refuse_other_sizes(plan, place, keys, group_size)
        first_B = np.cumsum(plan.n_rollouts_B) - plan.n_rollouts_B
        came = Came(np.full(plan.n_rollouts, np.nan), np.zeros(plan.n_rollouts, np.int64), [[] for _ in range(plan.n_rollouts)])
        if keys:
            data = tq.kv_batch_get(keys=keys, partition_id=TRAIN, select_fields=["rm_scores", "response_mask"])
            for key, score, mask in zip(keys, data["rm_scores"], data["response_mask"], strict=True):
                uid, session, _ = _parts(key)
                r = first_B[place[uid]] + session
                came.reward_R[r] = float(score.sum())
                came.n_tokens_R[r] += int(mask.sum())
                came.keys_R[r].append(key)
        return came

    def handed_over(self, keys: list[str]) -> KVBatchMeta:
        """These rows as a batch; all others of the step leave the queue."""
        if not keys:
            raise CurriculaError("verl: no rollout of the step came back; see the rollout workers' errors above")
        tags = self.partitions[TRAIN]
        tq.kv_clear(partition_id=TRAIN, keys=[*self.prompt_global_steps[TRAIN], *(tags.keys() - set(keys))])
        return KVBatchMeta(partition_id=TRAIN, keys=keys, tags=[tags[key] for key in keys])

    def _wait_for(self, uids: set[str]) -> None:
        noted = time.time()
        while True:
            self._sync_metadata_from_transfer_queue()
            lost = sorted(uids - self.prompt_global_steps[TRAIN].keys())
            strange = sorted({key.split("_")[0] for key in self.partitions[TRAIN]} - self.uids)
            if lost or strange:
                raise CurriculaError(
                    f"verl: {len(lost)} group(s) of the plan are not in the queue {lost[:1]}, {len(strange)} there are of no plan "
                    f"{strange[:1]}; the agent loop must keep `uid` as it gets it: it is all that names a group and its prompt"
                )
            if uids <= self.finished_keys[TRAIN] | self.failure_keys[TRAIN]:
                return
            noted = self._wait_for_next_poll(TRAIN, noted)


def put_advantages(batch: KVBatchMeta, advantages: list[float]) -> KVBatchMeta:
    """Write one advantage per row over those that are there."""
    where = {"keys": batch.keys, "partition_id": batch.partition_id}
    masks = tq.kv_batch_get(**where, select_fields=["response_mask"])["response_mask"]
    rows = [value * mask.to(torch.float32) for value, mask in zip(advantages, masks, strict=True)]
    nested = torch.nested.as_nested_tensor(rows, layout=torch.jagged)
    fields = TensorDict({"advantages": nested, "returns": nested.clone()}, batch_size=len(batch))
    return tq.kv_batch_put(**where, fields=fields)


def uids_of(plan: RolloutPlan) -> list[str]:
    """(B,) what verl calls each group of a plan; "_" would end the name too early."""
    return [f"{group}-{plan.round}" for group in plan.group_B]


def _parts(key: str) -> tuple[str, int, int]:
    """The group, the rollout in it and the row of that."""
    uid, session, row = key.rsplit("_", 2)
    return uid, int(session), int(row)


def _refuse_other_sizes(plan: RolloutPlan, place: dict[str, int], keys: list[str], group_size: int) -> None:
    came_B = np.zeros(len(plan), np.int64)
    for uid, session, _ in map(_parts, keys):
        came_B[place[uid]] = max(came_B[place[uid]], session + 1)
    other_B = (plan.n_rollouts_B != group_size) & (plan.n_rollouts_B > 0)
    ignored = bool(other_B.any()) and bool((came_B[other_B] == group_size).all())
    if ignored or (came_B > plan.n_rollouts_B).any():
        raise CurriculaError(
            f"verl: the plan asks for {plan.n_rollouts_B.tolist()} rollouts, {came_B.tolist()} came: the rollout workers do not "
            "read `__rollout_n__`; use verl's AgentLoopWorkerTQ, make yours read it, or choose a recipe with the budget policy even"
        )
