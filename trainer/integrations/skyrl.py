"""A curriculum inside SkyRL: a trainer that draws its batches from it.

    from skyrl.train.entrypoints.main_base import BasePPOExp
    from trainer.integrations.skyrl import CurriculumTrainer

    class Experiment(BasePPOExp):
        def get_trainer(self, **parts):  # SkyRL passes its trainer's arguments by name
            return CurriculumTrainer(**parts, curriculum="mopps", distribution_column="data_source")

Tested with SkyRL 0.3.0; another minor release is refused. `docs/hosts.md` says what works and what SkyRL cannot do.

The plan of a step is made when SkyRL asks for a batch, and results go back as soon as they are generated, before dynamic sampling
drops any: there is no lag. Every further batch of a step is another attempt of it. Not for SkyRL's fully asynchronous trainer.
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
    from skyrl.train.trainer import RayPPOTrainer  # type: ignore[import-not-found]
except ImportError as error:
    raise ImportError(f"trainer.integrations.skyrl needs SkyRL: pip install 'skyrl[skyrl-train]' ({error})") from error

TESTED = "0.3"
_DRAWN = "host.drawn"


class PlannedBatches:
    """SkyRL's training data loader: a batch is a plan of the curriculum, an epoch as many batches as the data set would give."""

    def __init__(self, dataset: Any, groups: OpenGroups, batch_size: int) -> None:
        self._dataset = dataset
        self._groups = groups
        self._batch_size = batch_size
        self._n_drawn = 0  # batches, over all epochs
        self.failure: Exception | None = CurriculaError(
            "SkyRL: the checkpoint has no data.pt, so the curriculum cannot go on from it"
        )

    def __len__(self) -> int:
        return len(self._dataset) // self._batch_size

    def __iter__(self) -> Iterator[Any]:
        for _ in range(len(self) - self._n_drawn % len(self)):
            plan = self._groups.draw(self._batch_size)
            self._n_drawn += 1
            yield self._dataset.collate_fn([self._dataset[int(row)] for row in plan.selection.prompt_B])

    def state_dict(self) -> Arrays:
        """For ``data.pt`` in SkyRL's checkpoint."""
        return self._groups.state_dict() | {_DRAWN: np.array(self._n_drawn)}

    def load_state_dict(self, state: Arrays) -> None:
        """Take up a saved state. SkyRL turns errors here into a warning, so they are kept for `CurriculumTrainer` to raise."""
        try:
            if _DRAWN not in state:
                raise CurriculaError("SkyRL: the checkpoint's data.pt is that of a run without a curriculum; start a new run")
            self._groups.load_state_dict({key: value for key, value in state.items() if key != _DRAWN})
            self._n_drawn = int(state[_DRAWN])
            self.failure = None
        except CurriculaError as error:
            self.failure = error
            raise


class CurriculumTrainer(RayPPOTrainer):  # type: ignore[misc]
    """`RayPPOTrainer` whose prompts a curriculum chooses.

    Besides SkyRL's own arguments: ``curriculum``, a recipe's name, a mapping of stages to policies, or a `Curriculum`;
    ``id_column`` and ``distribution_column`` of the data set (default: a hash of the prompt; all prompts are one distribution);
    ``reward_range``.
    Errors: CurriculaError for what SkyRL, its configuration or the data set cannot do.
    """

    def __init__(
        self,
        *args: Any,
        curriculum: str | Recipe | Curriculum = "dump_ucb",
        id_column: str | None = None,
        distribution_column: str | None = None,
        reward_range: tuple[float, float] = (0.0, 1.0),
        **kwargs: Any,
    ) -> None:
        refuse_other_version("skyrl", TESTED)
        self._asked = (curriculum, id_column, distribution_column, reward_range)
        super().__init__(*args, **kwargs)

    def _build_train_dataloader_and_compute_training_steps(self) -> None:
        recipe, id_column, distribution_column, reward_range = self._asked
        cfg, dataset = self.cfg, self.train_dataset
        if dataset is None:
            raise CurriculaError("SkyRL: there is no training data set for a curriculum to choose from")
        batch_size = cfg.trainer.train_batch_size
        if len(dataset) < batch_size:
            raise CurriculaError(f"SkyRL: {len(dataset)} prompts are fewer than trainer.train_batch_size {batch_size}; add some")
        columns = [None if name is None else _column(dataset.dataframe, name) for name in (id_column, distribution_column)]
        curriculum = curriculum_of(recipe, pool_of(dataset.dataframe[dataset.prompt_key], *columns), cfg.trainer.seed)
        n, filters = cfg.generator.n_samples_per_prompt, _filters(cfg.trainer.algorithm)
        self.groups = OpenGroups("SkyRL", curriculum, n, reward_range, filters)
        self.train_dataloader = PlannedBatches(dataset, self.groups, batch_size)
        self.total_training_steps = len(self.train_dataloader) * cfg.trainer.epochs
        if cfg.trainer.max_training_steps is not None:
            self.total_training_steps = min(self.total_training_steps, cfg.trainer.max_training_steps)

    async def generate(self, input_batch: Any) -> Any:
        output = await super().generate(input_batch)
        self._take_back(output.get("trajectory_ids") or input_batch["trajectory_ids"], output)
        return output

    def convert_to_training_input(self, generator_output: Any, uids: list[str]) -> Any:
        """Called once a step, when it has its groups: the curriculum learns from all that were generated for it."""
        self.groups.close()
        self.all_metrics.update({f"curriculum/{name}": value for name, value in self.groups.metrics().items()})
        return super().convert_to_training_input(generator_output, uids)

    def load_checkpoints(self) -> tuple[int, Any]:
        step, path = super().load_checkpoints()
        if path is not None and self.train_dataloader.failure is not None:
            raise self.train_dataloader.failure
        return step, path

    def _take_back(self, trajectories: list[Any], output: Any) -> None:
        """SkyRL's uid is the row of the data set. Of a rollout in several steps the last one has the reward."""
        last = output.get("is_last_step") or [True] * len(trajectories)
        rewards, n_tokens = defaultdict(list), defaultdict(list)
        for trajectory, reward, tokens, ends in zip(trajectories, output["rewards"], output["response_ids"], last, strict=True):
            if ends:
                rewards[trajectory.instance_id].append(float(sum(reward) if isinstance(reward, list) else reward))
                n_tokens[trajectory.instance_id].append(len(tokens))
        for uid, reward_R in rewards.items():
            group = self.groups.group_of(int(uid)) if uid.isdigit() else None
            if group is None:
                raise CurriculaError(
                    f"SkyRL: results of prompt {uid!r}, which this step did not draw; a generator has to keep the trajectory ids "
                    "it gets"
                )
            version = self.global_step - 1
            self.groups.bring(group, reward_R, n_tokens[uid], [version] * len(reward_R))


def _filters(algorithm: Any) -> tuple[str, ...]:
    kind = algorithm.dynamic_sampling.type
    if kind not in (None, "filter"):
        raise CurriculaError(
            f"SkyRL: trainer.algorithm.dynamic_sampling.type {kind!r} trains on groups twice; set it to filter, or to null"
        )
    return ("nonzero_variance",) if kind or algorithm.zero_variance_filter else ("keep_all",)


def _column(rows: Any, name: str) -> list[Any]:
    if name not in rows.column_names:
        raise CurriculaError(f"SkyRL: the data set has no column {name!r}; it has {', '.join(rows.column_names)}")
    return list(rows[name])
