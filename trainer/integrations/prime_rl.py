"""A curriculum inside prime-rl: a task sampler, and a gate that admits what the recipe's filter keeps.

prime-rl's configuration accepts its own samplers and gates alone, so its orchestrator is started from a file of yours:

    # my_orchestrator.py, run wherever prime-rl's `orchestrator` command would be
    from trainer.integrations.prime_rl import plug_in

    plug_in("mopps", n_groups=64, distribution=lambda task: task.data.level)
    from prime_rl.orchestrator.orchestrator import main

    main()

Tested with prime-rl 0.8 (commit 559b447 of August 2026, not on PyPI); any other release is refused. `docs/hosts.md` says what works
and what prime-rl cannot do. Every training environment gets a curriculum of its own; how they mix stays prime-rl's ``ratio``.

prime-rl asks for one task at a time, while others are in flight. The curriculum plans ``n_groups`` at once, without those in
flight, and learns before each plan from all that came back. Groups that prime-rl cancels as stale are never told: they are lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from curricula import Curriculum
from curricula.hosting import curriculum_of, pool_of
from curricula.recipes import Recipe
from curricula.types import CurriculaError
from trainer.integrations.open_groups import BY_GROUP, OpenGroups, refuse_other_version

try:
    from prime_rl.orchestrator import orchestrator  # type: ignore[import-not-found]
    from prime_rl.orchestrator.curriculum import AdmissionGate, StandardSampler, TaskSampler  # type: ignore[import-not-found]
    from prime_rl.orchestrator.train_source import TrainSource  # type: ignore[import-not-found]
except ImportError as error:
    raise ImportError(f"trainer.integrations.prime_rl needs prime-rl: install it from its repository ({error})") from error

TESTED = "0.8"
GATE = "curriculum"


class CurriculumSampler(TaskSampler):  # type: ignore[misc]
    """Hands out tasks by plans of ``n_groups``; tasks are known by their keys."""

    def __init__(self, tasks: Sequence[Any], groups: OpenGroups, n_groups: int) -> None:
        self.tasks = tuple(tasks)
        self.groups = groups
        self._n_groups = n_groups
        self._row_of = {task.key: row for row, task in enumerate(self.tasks)}
        self._queue: deque[int] = deque()  # rows of the newest plan that are not handed out yet
        self._verdicts: dict[str, bool] = {}  # of groups whose gate was not asked yet
        self._began = False

    def __next__(self) -> Any:
        if not self._queue:
            if self._began:
                self.groups.close(keep_open=True)
            self._queue.extend(self.groups.draw(self._n_groups).selection.prompt_B.tolist())
            self._began = True
        return self.tasks[self._queue.popleft()]

    def observe(self, group: list[Any]) -> None:
        """A finished group, admitted or not; rollouts with an error have no reward."""
        key = group[0].task.key
        if key not in self._row_of:
            raise CurriculaError(
                f"prime-rl: results of task {key!r}, which is none of the {len(self.tasks)} of this environment; an environment "
                "has to keep the task's key"
            )
        traces = [trace for episode in group for trace in episode.traces if trace.agent.trainable]
        rewards = [np.nan if trace.has_error else float(trace.reward) for trace in traces]
        drawn = self.groups.group_of(self._row_of[key])
        self._verdicts[key] = False
        if drawn is None:
            self.groups.count_stray()
        elif traces:
            n_tokens = [trace.num_output_tokens for trace in traces]
            self._verdicts[key] = self.groups.bring(drawn, rewards, n_tokens, _versions(group))

    def keeps(self, key: str) -> bool:
        """The verdict on the group that was observed last for this task."""
        return self._verdicts.pop(key, False)

    def state_dict(self) -> dict[str, Any]:
        return dict(self.groups.state_dict())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.groups.load_state_dict(state_dict)
        self._queue.clear()
        self._began = False

    def metrics(self) -> dict[str, float]:
        return self.groups.metrics()


class CurriculumGate(AdmissionGate):  # type: ignore[misc]
    """Admits the groups that the recipe's filter keeps. prime-rl asks it after the sampler has seen the group."""

    def __init__(self, sampler: CurriculumSampler) -> None:
        self._sampler = sampler

    def admit(self, group: list[Any]) -> bool:
        return self._sampler.keeps(group[0].task.key)


class CurriculumTrainSource(TrainSource):  # type: ignore[misc]
    """prime-rl's source of tasks with a curriculum per environment."""

    def __init__(self, train_envs: Any, *, settings: dict[str, Any]) -> None:
        super().__init__(train_envs)
        for env in self.envs:
            host = self.curricula[env.name]
            if type(host.sampler) is not StandardSampler:
                raise CurriculaError(
                    f"prime-rl: environment {env.name} has a {type(host.sampler).__name__} as well; remove its config"
                )
            if host.sampler.tasks is None:
                raise CurriculaError(
                    f"prime-rl: environment {env.name} has no end of tasks; a curriculum needs a finite list of them"
                )
            if GATE in host.gates:
                raise CurriculaError(f"prime-rl: environment {env.name} has a gate named {GATE!r} already; rename it")
            host.sampler = _sampler(host.sampler.tasks, env.config.group_size, **settings)
            host.gates[GATE] = CurriculumGate(host.sampler)


def plug_in(
    recipe: str | Recipe = "dump_ucb",
    *,
    n_groups: int,
    distribution: Callable[[Any], str] | None = None,
    seed: int = 0,
    reward_range: tuple[float, float] = (0.0, 1.0),
) -> None:
    """Make prime-rl's orchestrator take its training tasks from this recipe; before its `main`, once.

    ``n_groups``: tasks per plan, sensibly prime-rl's batch_size / group_size. ``distribution``: name of a task's distribution.
    Errors: CurriculaError for another release of prime-rl, and for a second call.
    """
    refuse_other_version("prime-rl", TESTED)
    if orchestrator.TrainSource is not TrainSource:
        raise CurriculaError("prime-rl: another task source is plugged in already; call plug_in once")
    settings = {"recipe": recipe, "n_groups": n_groups, "distribution": distribution, "seed": seed, "reward_range": reward_range}
    orchestrator.TrainSource = partial(CurriculumTrainSource, settings=settings)


def _sampler(
    tasks: Sequence[Any],
    group_size: int,
    *,
    recipe: str | Recipe | Curriculum,
    n_groups: int,
    distribution: Callable[[Any], str] | None,
    seed: int,
    reward_range: tuple[float, float],
) -> CurriculumSampler:
    names = None if distribution is None else [distribution(task) for task in tasks]
    curriculum = curriculum_of(recipe, pool_of([], [task.key for task in tasks], names), seed)
    return CurriculumSampler(tasks, OpenGroups("prime-rl", curriculum, group_size, reward_range, BY_GROUP), n_groups)


def _versions(group: list[Any]) -> list[int] | None:
    """Policy version per rollout where prime-rl says it; None where an episode of the group has none."""
    versions = []
    for episode in group:
        span = getattr(getattr(getattr(episode, "run", None), "work", None), "policy", None)
        if span is None:
            return None
        versions += [int(span.start) for trace in episode.traces if trace.agent.trainable]
    return versions
