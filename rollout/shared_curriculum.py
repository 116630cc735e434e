"""One curriculum for every process of a Ray cluster: a named actor that survives its death, and a small client.

::

    serve("dump_ucb", pool, name="sums", folder="runs/sums/curriculum")  # once
    curriculum = connect("sums")  # in any process of the cluster
    plan = curriculum.plan(step=0, n_groups=8, n_rollouts=64)

The actor does one call after another, so all clients see one order of decisions and lessons. What it answers, it has written to
its folder before (`rollout.durable_curriculum`); Ray restarts it after a crash and sends open calls again: every call is safe to
repeat. A client waits for each of its answers, so it has one call with the actor at a time: nothing piles up.
The actor runs on the node that served it, where the folder is; on a shared file system it may come back on another one.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import ArrayLike, NDArray
from ray.exceptions import GetTimeoutError, PendingCallsLimitExceeded, RayActorError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from curricula.recipes import Recipe
from curricula.types import (
    CurriculaError,
    Estimate,
    Feedback,
    Floats,
    Ints,
    Outcome,
    PromptPool,
    RolloutPlan,
    Verdict,
    known_or_raise,
)
from rollout.durable_curriculum import DurableCurriculum, prepare

NAMESPACE = "curricula"  # a name means the same curriculum to every job of the cluster
LONGEST_QUEUE = 1000  # calls of one process that may wait; the client below never has more than one per thread


class CurriculumActor:
    """A `DurableCurriculum` in a process of its own. It is opened by the first call, so that what is wrong reaches a client."""

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._durable: DurableCurriculum | None = None

    @property
    def _open(self) -> DurableCurriculum:
        if self._durable is None or self._durable.closed:
            self._durable = DurableCurriculum(self._folder)
        return self._durable

    def facts(self) -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "node": ray.get_runtime_context().get_node_id(),
            "folder": str(self._folder),
            "pool": self._open.pool.fingerprint,
            "n_prompts": len(self._open.pool),
            "n_entries": self._open.n_entries,
        }

    def pool(self) -> PromptPool:
        return self._open.pool

    def plan(self, *arguments: Any) -> RolloutPlan:
        return self._open.plan(*arguments)

    def update(self, feedbacks: Sequence[Feedback]) -> None:
        self._open.update(feedbacks)

    def ask(self, method: str, *arguments: Any) -> Any:
        """A pure method of the curriculum."""
        return getattr(self._open.curriculum, method)(*arguments)

    def close(self) -> None:
        self._open.close()


class SharedCurriculum:
    """A client: what a loop asks of a `Curriculum`, answered by the one that the whole cluster shares.

    Errors of every call: CurriculaError as the curriculum raised it; one that says so when the curriculum is gone for good, or
    gave no answer in ``timeout_s`` seconds (Ray restarts it meanwhile; asking again is safe).
    """

    def __init__(self, actor: Any, name: str, timeout_s: float) -> None:
        self.name = name
        self._actor = actor
        self._timeout_s = timeout_s

    def plan(
        self, step: int, n_groups: int, n_rollouts: int, attempt: int | None = None, exclude: Iterable[int] | Ints = ()
    ) -> RolloutPlan:
        """A plan of this client's own: the step's next attempt, without the prompts of the step's other plans.

        With ``attempt``, the plan of that number: every client that asks with the same numbers gets the same one, now and after a
        restart; ranks that share a plan, and loops that resume, name it. Plans further back than 64 steps are refused.
        """
        rows = np.asarray(exclude if isinstance(exclude, np.ndarray) else list(exclude), dtype=np.int64)
        plan: RolloutPlan = self._call("plan", step, n_groups, n_rollouts, attempt, rows, uuid.uuid4().hex)
        return plan

    def extend(self, outcome: Outcome) -> RolloutPlan | None:
        """One more allocation round for the groups of a plan, or None."""
        more: RolloutPlan | None = self._call("ask", "extend", outcome)
        return more

    def judge(self, outcome: Outcome) -> Verdict:
        """Which groups enter the update, and which of their rollouts carry gradient."""
        verdict: Verdict = self._call("ask", "judge", outcome)
        return verdict

    def shape(self, outcome: Outcome) -> Floats:
        """(R,) the reward that advantages are made of."""
        shaped_R: Floats = self._call("ask", "shape", outcome)
        return shaped_R

    def update(self, feedbacks: Feedback | Sequence[Feedback]) -> None:
        """Learn. Returns when it is on disk and learned; each group counts once, whichever clients send it how often.

        Errors: CurriculaError for feedback of a plan that this curriculum did not make.
        """
        self._call("update", [feedbacks] if isinstance(feedbacks, Feedback) else list(feedbacks))

    def estimate(self, prompt: ArrayLike) -> Estimate:
        """What is believed of the pass rate of these prompts (rows of the pool)."""
        estimate: Estimate = self._call("ask", "estimate", np.atleast_1d(np.asarray(prompt, dtype=np.int64)))
        return estimate

    def probabilities(self) -> Floats:
        """(K,) share of each distribution in the next plan."""
        share_K: Floats = self._call("ask", "probabilities")
        return share_K

    def metrics(self) -> dict[str, float]:
        """Numbers for a log, as `Curriculum.metrics`."""
        numbers: dict[str, float] = self._call("ask", "metrics")
        return numbers

    def state(self) -> Mapping[str, NDArray[Any]]:
        """The whole state, as `Curriculum.state_dict`; a plain curriculum of the same recipe and pool may load it."""
        arrays: Mapping[str, NDArray[Any]] = self._call("ask", "state_dict")
        return arrays

    def pool(self) -> PromptPool:
        """The pool whose rows the plans name."""
        pool: PromptPool = self._call("pool")
        return pool

    def facts(self) -> dict[str, Any]:
        """Process, node and folder of the actor, fingerprint and size of its pool, plans and updates so far."""
        facts: dict[str, Any] = self._call("facts")
        return facts

    def stop(self) -> None:
        """End the actor for every client; its folder keeps all, and `serve` goes on from there."""
        self._call("close")
        ray.kill(self._actor, no_restart=True)

    def _call(self, method: str, *arguments: Any) -> Any:
        asked = arguments[0] if method == "ask" else method
        try:
            return ray.get(getattr(self._actor, method).remote(*arguments), timeout=self._timeout_s)
        except RayTaskError as error:
            if isinstance(error.cause, CurriculaError):
                raise error.cause from None
            raise
        except (GetTimeoutError, PendingCallsLimitExceeded) as error:
            raise CurriculaError(
                f"shared curriculum {self.name!r}: no answer to {asked!r} in {self._timeout_s:g} s; it is busy, restarting, or "
                "its node is gone; ask again (nothing counts twice), or connect with a larger timeout_s"
            ) from error
        except RayActorError as error:
            raise CurriculaError(
                f"shared curriculum {self.name!r} is gone ({type(error).__name__}): it was stopped, or its cluster ended; serve it "
                "again from its folder, which has everything that was acknowledged"
            ) from error


def serve(
    recipe: str | Recipe,
    pool: PromptPool,
    name: str,
    folder: str | Path,
    *,
    seed: int = 0,
    snapshot_every: int = 64,
    timeout_s: float = 60.0,
) -> SharedCurriculum:
    """Start the curriculum of this folder under a name, new or as it was left; it stays when this process ends, until `stop`.

    ``snapshot_every``: plans and updates between two saved states, which is what a restart has to learn again. Each saved state
    has the size of the curriculum's (tens of bytes per prompt).

    Errors: CurriculaError when the name is taken, or the folder belongs to another recipe, seed, pool or live process.
    """
    _refuse_without_ray()
    if not name:
        raise CurriculaError("shared curriculum: expected a name, got ''")
    taken = CurriculaError(
        f"shared curriculum {name!r}: the name is taken on this cluster; connect({name!r}) to use that one, stop it, or choose "
        "another name"
    )
    if name in _names():
        raise taken
    where = Path(folder).resolve()
    prepare(where, recipe, pool, seed, snapshot_every)
    try:
        actor: Any = ray.remote(CurriculumActor).options(**_options(name)).remote(str(where))
    except ValueError as error:  # another process was quicker
        raise taken from error
    served = SharedCurriculum(actor, name, timeout_s)
    try:
        served.facts()
    except BaseException:
        ray.kill(actor, no_restart=True)
        raise
    return served


def connect(name: str, pool: PromptPool | None = None, *, timeout_s: float = 60.0) -> SharedCurriculum:
    """The curriculum that is served under this name; ``pool``: the one that its plans must be about.

    Errors: CurriculaError when there is none of that name (with the nearest one), or it serves another pool.
    """
    _refuse_without_ray()
    try:
        actor = ray.get_actor(name, namespace=NAMESPACE)
    except ValueError as error:
        try:
            known_or_raise("shared curriculum", name, _names())
        except CurriculaError as unknown:
            raise CurriculaError(f"{unknown}; serve it first, on the same cluster") from error
        raise CurriculaError(f"shared curriculum {name!r} has just been stopped") from error
    client = SharedCurriculum(actor, name, timeout_s)
    if pool is not None and (facts := client.facts())["pool"] != pool.fingerprint:
        raise CurriculaError(
            f"shared curriculum {name!r}: it serves another pool ({facts['n_prompts']} prompts, fingerprint {facts['pool']}) than "
            f"this process has ({len(pool)} prompts, {pool.fingerprint}); make both from the same data, in the same order"
        )
    return client


def _refuse_without_ray() -> None:
    if not ray.is_initialized():
        raise CurriculaError("shared curriculum: this process is on no Ray cluster; call ray.init(address=...) first")


def _names() -> tuple[str, ...]:
    return tuple(one["name"] for one in ray.util.list_named_actors(all_namespaces=True) if one["namespace"] == NAMESPACE)


def _options(name: str) -> dict[str, Any]:
    """What the actor asks of Ray: no CPU of its own, this node if it lives, restarts and repeated calls without end."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return {
        "name": name,
        "namespace": NAMESPACE,
        "lifetime": "detached",
        "num_cpus": 0,
        "max_restarts": -1,
        "max_task_retries": -1,
        "max_pending_calls": LONGEST_QUEUE,
        "scheduling_strategy": here,
    }
