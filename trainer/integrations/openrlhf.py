"""A curriculum inside OpenRLHF's PPO trainer: a loader of prompts, and a sample generator that reports every rollout.

OpenRLHF has no option for either, so its command is started from a file of yours, with the same arguments:

    # my_train.py, instead of `python -m openrlhf.cli.train_ppo_ray`
    import runpy

    from trainer.integrations.openrlhf import plug_in

    plug_in("mopps", by_datasource=True)
    runpy.run_module("openrlhf.cli.train_ppo_ray", run_name="__main__")

Tested with OpenRLHF 0.11.2; another minor release is refused. `docs/hosts.md` says what works and what OpenRLHF cannot do.

OpenRLHF knows a prompt by its text alone, so no two prompts may have the same one. A step of the curriculum is one call of its
generator; the loader asks for ``rollout.batch_size`` prompts at once and for one more each time that OpenRLHF drops a group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np

from curricula import Curriculum
from curricula.checkpoint import Arrays
from curricula.hosting import curriculum_of, pool_of
from curricula.recipes import Recipe
from curricula.types import CurriculaError
from trainer.integrations.open_groups import OpenGroups, refuse_other_version

try:
    import ray
    from openrlhf.trainer import ppo_trainer, ppo_trainer_async  # type: ignore[import-not-found]
    from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator  # type: ignore[import-not-found]
except ImportError as error:
    raise ImportError(f"trainer.integrations.openrlhf needs OpenRLHF: pip install openrlhf ({error})") from error

TESTED = "0.11"
_POSITION = "host.position"


class PlannedPrompts:
    """OpenRLHF's loader of prompts, one at a time: in each episode as many as the data set has."""

    def __init__(self, dataset: Any, groups: OpenGroups, batch_size: int) -> None:
        self.dataset = dataset
        self.groups = groups
        self._batch_size = batch_size
        self._queue: list[int] = []  # rows of the newest plan that are not handed out yet
        self._position = 0  # in the episode
        self.open_rows: dict[str, int] = {}  # by prompt, in flight

    def __len__(self) -> int:
        return len(self.dataset)

    def __iter__(self) -> Iterator[Any]:
        while self._position < len(self):
            if not self._queue:
                n = min(self._batch_size, len(self) - self._position) if not self.open_rows else 1
                self._queue = self.groups.draw(n).selection.prompt_B.tolist()
            row = self._queue.pop(0)
            self._position += 1
            self.open_rows[self.dataset.prompts[row]] = row
            yield self.dataset.collate_fn([self.dataset[row]])
        self._position = 0

    def close(self) -> None:
        """The step has what it needs."""
        self.groups.close()
        self._queue.clear()
        self.open_rows.clear()

    def state_dict(self) -> Arrays:
        """For OpenRLHF's client states."""
        return self.groups.state_dict() | {_POSITION: np.array(self._position)}

    def load_state_dict(self, state: Arrays) -> None:
        """Take up a saved state.

        Errors: CurriculaError when it belongs to another data set or recipe, or to a run without a curriculum.
        """
        if _POSITION not in state:
            raise CurriculaError("OpenRLHF: the checkpoint's loader state is that of a run without a curriculum; start a new run")
        self.groups.load_state_dict({key: value for key, value in state.items() if key != _POSITION})
        self._position = int(state[_POSITION])


class ReportingGenerator(SamplesGenerator):  # type: ignore[misc]
    """OpenRLHF's generator, which tells the loader what came of every training prompt, dropped groups included."""

    _inbox: dict[str, list[tuple[float, int]]] | None = None  # (reward, tokens) by prompt while training samples are made

    def generate_samples(self, **generate_kwargs: Any) -> Any:
        self._inbox = defaultdict(list)
        try:
            made = super().generate_samples(**generate_kwargs)
            self._report(self._inbox)
        finally:
            self._inbox = None
        return made

    def _process_response_into_experience(self, response: Any, **generate_kwargs: Any) -> Any:
        if self._inbox is not None:
            reward = response.get("reward")
            n_tokens = sum(end - start for start, end in response["action_ranges"])
            self._inbox[response["prompt"]].append((np.nan if reward is None else float(reward), n_tokens))
        return super()._process_response_into_experience(response, **generate_kwargs)

    def _report(self, inbox: dict[str, list[tuple[float, int]]]) -> None:
        loader = self.prompts_dataloader
        for prompt, rollouts in inbox.items():
            if prompt not in loader.open_rows:
                raise CurriculaError(
                    f"OpenRLHF: results of a prompt that was not drawn, {prompt[:60]!r}; an agent has to return the prompt it "
                    "was given"
                )
            row = loader.open_rows[prompt]
            rewards, n_tokens = zip(*rollouts, strict=True)
            loader.groups.bring(loader.groups.group_of(row), rewards, n_tokens)
        if inbox:
            loader.close()


class NotAsynchronous:
    """In the place of OpenRLHF's asynchronous trainer, which would train without the curriculum and not say so."""

    @staticmethod
    def remote(*_: Any, **__: Any) -> None:
        raise CurriculaError("OpenRLHF: no curriculum under --train.async_enable; its trainer has no place for one: docs/hosts.md")


def plug_in(
    recipe: str | Recipe = "dump_ucb", *, by_datasource: bool = False, reward_range: tuple[float, float] = (0.0, 1.0)
) -> None:
    """Make OpenRLHF's command train with this recipe; before the command, once.

    ``by_datasource``: the data set's ``datasource`` column names the distributions; else there is one.
    Errors: CurriculaError for another release of OpenRLHF, and for a second call.
    """
    refuse_other_version("openrlhf", TESTED)
    if ppo_trainer_async.PPOTrainerAsync is NotAsynchronous:
        raise CurriculaError("OpenRLHF: a curriculum is plugged in already; call plug_in once")

    class CurriculumPPOTrainer(ppo_trainer.PPOTrainer.__ray_metadata__.modified_class):  # type: ignore[misc]
        """OpenRLHF's trainer, whose prompts a curriculum chooses."""

        def __init__(self, pretrain: str, strategy: Any, *args: Any, **kwargs: Any) -> None:
            super().__init__(pretrain, strategy, *args, **kwargs)
            old: Any = self.samples_generator  # type: ignore[has-type]
            dataset = self.prompts_dataloader.dataset  # type: ignore[has-type]
            self.prompts_dataloader = planned(dataset, strategy.args, recipe, by_datasource, reward_range)
            self.samples_generator = ReportingGenerator(
                strategy, self.prompts_dataloader, self.eval_dataloader, old.tokenizer, old.vllm_engines
            )

    ppo_trainer.PPOTrainer = ray.remote(CurriculumPPOTrainer)
    ppo_trainer_async.PPOTrainerAsync = NotAsynchronous


def planned(
    dataset: Any, args: Any, recipe: str | Recipe | Curriculum, by_datasource: bool, reward_range: tuple[float, float]
) -> PlannedPrompts:
    """The loader for OpenRLHF's data set and arguments."""
    if n_repeats := len(dataset.prompts) - len(set(dataset.prompts)):
        raise CurriculaError(f"OpenRLHF: {n_repeats} prompts are repeats, and it knows prompts by their texts alone; drop them")
    drops, bounds = args.algo.dynamic_filtering_enable, tuple(args.algo.dynamic_filtering_range)
    if drops and bounds != (0, 1):
        raise CurriculaError(f"OpenRLHF: algo.dynamic_filtering_range is {bounds}; the filter that recipes have needs (0, 1)")
    pool = pool_of(dataset.prompts, None, dataset.datasources if by_datasource else None)
    filters = ("nonzero_variance",) if drops else ("keep_all",)
    curriculum = curriculum_of(recipe, pool, args.train.seed)
    groups = OpenGroups("OpenRLHF", curriculum, args.rollout.n_samples_per_prompt, reward_range, filters)
    return PlannedPrompts(dataset, groups, args.rollout.batch_size)
