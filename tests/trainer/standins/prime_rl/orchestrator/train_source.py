"""A stand-in for prime-rl's source of tasks: environments, each with a curriculum."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from prime_rl.orchestrator.curriculum import Curriculum


class TrainSource:
    def __init__(self, train_envs: Any) -> None:
        self.envs = list(train_envs)
        self.curricula = {
            env.name: Curriculum(env.config.curriculum, env.tasks if env.num_tasks is None else list(env.tasks))
            for env in self.envs
        }

    def next_task(self, *, step: int) -> Any:
        name = self.envs[step % len(self.envs)].name
        return SimpleNamespace(env_name=name, task=next(self.curricula[name].sampler))

    def on_result(self, group: list[Any]) -> bool:
        return self.curricula[group[0].env.name].on_result(group)

    def state_dict(self) -> dict[str, Any]:
        return {"envs": {name: curriculum.state_dict() for name, curriculum in self.curricula.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, curriculum in self.curricula.items():
            curriculum.load_state_dict(state_dict["envs"][name])
