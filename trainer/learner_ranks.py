"""The learner on several ranks: a Ray actor each, parameters sharded by torch's FSDP2, gradients summed over all of them.

Every rank is handed all sequences, takes its own micro-batches from the same plan, and weighs their tokens by global denominators,
so the number of ranks changes neither loss nor update. Checkpoints are written by the first rank and read by all of them: the
folder has to be on storage that every node sees.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from torch import Tensor
from torch._C._distributed_c10d import TCPStore
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from curricula.types import CurriculaError
from rollout.types import Weights
from rollout.weights import to_chunks
from trainer.learner import TorchLearner
from trainer.objective import Tally
from trainer.policy_model import PolicyModel
from trainer.settings import LearnerSettings, ModelSettings
from trainer.types import LearnerReport, RankDied, TrainSequence

START_TIMEOUT_S = 600.0  # until every rank has a place in the cluster and has loaded the model
EXCHANGE_TIMEOUT_S = 1800.0  # of one exchange between ranks
GRACE_S = 5.0  # for a dead rank to be known as dead, after another one has lost its connection


class FsdpRanks:
    """One rank's view of the others (a `trainer.learner.Ranks`). Shards are float32 and serve as master weights."""

    def __init__(self, device: torch.device) -> None:
        self.rank, self.size, self.device = dist.get_rank(), dist.get_world_size(), device
        self._mesh = init_device_mesh(device.type, (self.size,))

    def load_dtype(self, settings: ModelSettings) -> torch.dtype:
        return torch.float32

    def shard(self, model: PolicyModel, settings: ModelSettings) -> PolicyModel:
        """Resharded after every forward pass, the root too: between two calls no parameter is seen unsharded, or old."""
        policy = MixedPrecisionPolicy(param_dtype=getattr(torch, settings.dtype), reduce_dtype=torch.float32)
        for module in [*model.layers(), model]:
            fully_shard(module, mesh=self._mesh, mp_policy=policy, reshard_after_forward=True)
        return model

    def total(self, tally: Tally) -> Tally:
        sums, maxima = tally.sums.to(self.device), tally.maxima.to(self.device)
        dist.all_reduce(sums, dist.ReduceOp.SUM)
        dist.all_reduce(maxima, dist.ReduceOp.MAX)
        return Tally(sums.cpu(), maxima.cpu())

    def summed(self, tensor: Tensor) -> Tensor:
        here = tensor.to(self.device)
        dist.all_reduce(here, dist.ReduceOp.SUM)
        return here.cpu()

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def share(self, whole: Tensor, like: Tensor) -> Tensor:
        if not isinstance(like, DTensor):
            return whole.to(like.device)
        return distribute_tensor(whole.to(self.device), like.device_mesh, like.placements, src_data_rank=None)


class RankActor:
    """One rank in a process of its own."""

    def __init__(self, rank: int, size: int) -> None:
        self._rank, self._size = rank, size
        self._store: Any = None
        self._learner: TorchLearner

    def open_store(self) -> tuple[str, int]:
        """Where the ranks meet: host and port, chosen by the system."""
        host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._store = TCPStore(host, 0, self._size, is_master=True, wait_for_workers=False)
        return host, self._store.port

    def start(
        self, meeting: tuple[str, int], model: ModelSettings, settings: LearnerSettings, temperature: float, max_tokens: int
    ) -> int:
        """Meet the others, load the model and keep this rank's shards; the process id."""
        device = _device(settings)
        store = self._store or TCPStore(*meeting, self._size, is_master=False)
        backend, patience = "nccl" if device.type == "cuda" else "gloo", timedelta(seconds=EXCHANGE_TIMEOUT_S)
        dist.init_process_group(backend, store=store, rank=self._rank, world_size=self._size, timeout=patience)
        self._learner = TorchLearner(model, settings, temperature, max_tokens, FsdpRanks(device))
        return os.getpid()

    def step(self, sequences: Sequence[TrainSequence], lr: float) -> LearnerReport:
        return self._learner.step(sequences, lr)

    def logprobs(self, sequences: Sequence[TrainSequence]) -> dict[int, NDArray[np.float32]]:
        return self._learner.my_logprobs(sequences)

    def publish(self) -> list[Any]:
        """References to the chunks, put by the first rank one after another; the others only help to gather."""
        if self._rank == 0:
            return [ray.put(chunk) for chunk in to_chunks(self._learner.named_weights())]
        for _ in self._learner.named_weights():
            pass
        return []

    def publish_release(self) -> list[Any] | None:
        """As `publish`, the weights to release; None where they are the same."""
        if not self._learner.averages:
            return None
        with self._learner.releasing():
            return self.publish()

    def save(self, folder: Path) -> None:
        self._learner.save(folder)

    def load(self, folder: Path) -> int:
        self._learner.load(folder)
        return self._learner.version


def _device(settings: LearnerSettings) -> torch.device:
    if settings.gpus_per_rank == 0:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise CurriculaError(f"learner.gpus_per_rank is {settings.gpus_per_rank}, but torch sees no GPU in a rank's process")
    torch.cuda.set_device(0)  # Ray shows a rank its own GPU only
    return torch.device("cuda", 0)


class RankedLearner:
    """A `Learner` over ``n_ranks`` actors. RankDied when one of them is gone: go on from the last checkpoint."""

    def __init__(self, model: ModelSettings, settings: LearnerSettings, temperature: float, max_tokens: int) -> None:
        self.version = 0
        actor: Any = ray.remote(RankActor)
        placed = actor.options(num_cpus=settings.cpus_per_rank, num_gpus=settings.gpus_per_rank)
        self._actors = [placed.remote(rank, settings.n_ranks) for rank in range(settings.n_ranks)]
        try:
            meeting = ray.get(self._actors[0].open_store.remote(), timeout=START_TIMEOUT_S)
            self.pids: list[int] = self._all("start", meeting, model, settings, temperature, max_tokens, timeout_s=START_TIMEOUT_S)
        except GetTimeoutError as error:
            self.close()
            raise CurriculaError(
                f"learner: {settings.n_ranks} ranks of {settings.cpus_per_rank:g} CPUs and {settings.gpus_per_rank:g} GPUs did "
                f"not start within {START_TIMEOUT_S:g} s; the cluster has {_summary()}: ask for less, or add nodes"
            ) from error

    def step(self, sequences: Sequence[TrainSequence], lr: float) -> LearnerReport:
        report: LearnerReport = self._all("step", ray.put(list(sequences)), lr)[0]
        self.version += int(report.metrics["updates"])
        return report

    def logprobs(self, sequences: Sequence[TrainSequence]) -> list[NDArray[np.float32]]:
        found = {place: logprob_T for part in self._all("logprobs", ray.put(list(sequences))) for place, logprob_T in part.items()}
        return [found.get(place, np.zeros(0, np.float32)) for place in range(len(sequences))]

    def weights(self) -> Weights:
        return Weights(self.version, self._all("publish")[0])

    def release_weights(self) -> Weights | None:
        chunks = self._all("publish_release")[0]
        return None if chunks is None else Weights(self.version, chunks)

    def save(self, folder: Path) -> None:
        self._all("save", Path(folder).absolute())

    def load(self, folder: Path) -> None:
        self.version = self._all("load", Path(folder).absolute())[0]

    def close(self) -> None:
        for actor in self._actors:
            ray.kill(actor)
        self._actors = []

    def _all(self, method: str, *arguments: Any, timeout_s: float | None = None) -> list[Any]:
        """The same call on every rank, and its values; the first failure ends the wait."""
        calls = [getattr(actor, method).remote(*arguments) for actor in self._actors]
        pending = calls
        while pending:
            done, pending = ray.wait(pending, num_returns=1, timeout=timeout_s)
            if not done:
                raise GetTimeoutError(method)
            if _failure(done[0]) is not None:
                self._raise_cause(method, calls)
        return ray.get(calls)

    def _raise_cause(self, method: str, calls: list[Any]) -> None:
        """CurriculaError as the ranks raised it; RankDied, and all ranks stopped, for everything else.

        A rank that lost its connection fails before Ray knows that the other one is dead: the dead one is the cause.
        """
        done, _ = ray.wait(calls, num_returns=len(calls), timeout=GRACE_S)
        failures = [(calls.index(call), failure) for call in done if (failure := _failure(call)) is not None]
        rank, cause = min(failures, key=lambda pair: not isinstance(pair[1], RayActorError))
        if isinstance(cause, RayTaskError) and isinstance(cause.cause, CurriculaError):
            raise cause.cause
        size = len(self._actors)
        self.close()
        raise RankDied(
            f"learner rank {rank} of {size} failed in {method!r}: {_last_line(cause)}; "
            "start again from the last checkpoint (--resume)"
        ) from cause


def _failure(call: Any) -> RayError | None:
    try:
        ray.get(call)
    except RayError as error:
        return error
    return None


def _last_line(error: Exception) -> str:
    return str(error).strip().splitlines()[-1 if isinstance(error, RayTaskError) else 0]


def _summary() -> str:
    total = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return f"{total.get('CPU', 0):g} CPUs and {total.get('GPU', 0):g} GPUs"
