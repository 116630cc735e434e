"""A curriculum inside slime: a data source, and a hook that slime calls with every group, dropped ones too.

    # my_data.py
    from trainer.integrations.slime import CurriculumData

    class Data(CurriculumData):
        recipe = "mopps"
        distribution_key = "level"

    python train.py ... --data-source-path my_data.Data \\
        --rollout-all-samples-process-path trainer.integrations.slime.take_back

Where the recipe has a filter, add ``--dynamic-sampling-filter-path trainer.integrations.slime.keep_group``. Tested with slime 0.3
(commit 624b824 of August 2026, not on PyPI); any other release is refused. `docs/hosts.md` says what works and what slime cannot.

slime tells its data source no rollout id, so a step of the curriculum is what lies between two calls of the hook. Answers cut short
by ``--partial-rollout`` come back in a later step; without it their groups are given up.
"""

from __future__ import annotations

import copy
import weakref
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from curricula import Curriculum
from curricula.hosting import curriculum_of, load, pool_of, save
from curricula.recipes import Recipe
from curricula.types import CurriculaError
from trainer.integrations.open_groups import BY_GROUP, OpenGroups, refuse_other_version

try:
    from slime.rollout.data_source import RolloutDataSourceWithBuffer  # type: ignore[import-not-found]
    from slime.rollout.filter_hub.base_types import DynamicFilterOutput  # type: ignore[import-not-found]
except ImportError as error:
    raise ImportError(f"trainer.integrations.slime needs slime: install it from its repository ({error})") from error

TESTED = "0.3"
GROUP = "curriculum_group"  # in the metadata of every sample
HERE = "trainer.integrations.slime"
_sources: weakref.WeakValueDictionary[int, CurriculumData] = weakref.WeakValueDictionary()  # by id of the run's arguments


class CurriculumData(RolloutDataSourceWithBuffer):  # type: ignore[misc]
    """slime's own data source, except that a curriculum chooses the prompts. Settings are class attributes.

    Errors: CurriculaError for what slime, its arguments or the data set cannot do.
    """

    recipe: str | Recipe | Curriculum = "dump_ucb"
    id_key: str | None = None  # in a row's metadata: a unique id; None = a hash of the prompt
    distribution_key: str | None = None  # in a row's metadata; None = all prompts are one distribution
    reward_range: tuple[float, float] = (0.0, 1.0)

    def __init__(self, args: Namespace) -> None:
        refuse_other_version("slime", TESTED)
        _refuse_settings(args)
        super().__init__(args)
        if not self.dataset:
            raise CurriculaError("slime: there are no prompts; a curriculum needs --rollout-global-dataset and --prompt-data")
        self._rows = self.dataset.origin_samples  # in the order of the file, however slime shuffles
        ids = None if self.id_key is None else self._column(self.id_key)
        names = None if self.distribution_key is None else self._column(self.distribution_key)
        curriculum = curriculum_of(self.recipe, pool_of([row.prompt for row in self._rows], ids, names), args.rollout_seed)
        filters = ("keep_all",) if args.dynamic_sampling_filter_path is None else BY_GROUP
        self.groups = OpenGroups("slime", curriculum, args.n_samples_per_prompt, self.reward_range, filters)
        _sources[id(args)] = self

    def get_samples(self, num_samples: int) -> list[list[Any]]:
        """Groups that were cut short first, then those that the curriculum chooses."""
        samples: list[list[Any]] = self._get_samples_from_buffer(num_samples)
        if len(samples) == num_samples:
            return samples
        plan = self.groups.draw(num_samples - len(samples))
        pairs = zip(plan.selection.prompt_B, plan.group_B, strict=True)
        return samples + [self._group(self._rows[row], int(group)) for row, group in pairs]

    def take_back(self, groups: Sequence[Sequence[Any]]) -> None:
        """Every group that came to its end in this rollout, kept or dropped."""
        for samples in groups:
            self.groups.bring(*self._results(samples))
        self.groups.close(keep_open=self.args.partial_rollout)

    def keeps(self, samples: Sequence[Any]) -> bool:
        """Whether the recipe's filter keeps a finished group; nothing is learned from it yet."""
        return self.groups.keeps(*self._results(samples))

    def save(self, rollout_id: int) -> None:
        super().save(rollout_id)
        self.groups.learn()
        save(_folder(self.args.save, rollout_id), self.groups.curriculum, {"step": self.groups.next_step})

    def load(self, rollout_id: int | None = None) -> None:
        super().load(rollout_id)
        if self.args.load is not None and rollout_id is not None and rollout_id >= 0:
            facts = load(_folder(self.args.load, rollout_id), self.groups.curriculum)
            self.groups.resume_at(int(facts["step"]))

    def _column(self, key: str) -> list[Any]:
        missing = next((i for i, row in enumerate(self._rows) if key not in row.metadata), None)
        if missing is not None:
            raise CurriculaError(
                f"slime: row {missing} of the data set has no {key!r} in its metadata (--metadata-key {self.args.metadata_key}); "
                f"it has {', '.join(sorted(self._rows[missing].metadata)) or 'nothing'}"
            )
        return [row.metadata[key] for row in self._rows]

    def _group(self, row: Any, group: int) -> list[Any]:
        samples = [copy.deepcopy(row) for _ in range(self.args.n_samples_per_prompt)]
        for sample in samples:
            sample.group_index, sample.index = self.sample_group_index, self.sample_index
            sample.metadata[GROUP] = group
            self.sample_index += 1
        self.sample_group_index += 1
        return samples

    def _results(self, samples: Sequence[Any]) -> tuple[int, list[float], list[int], list[int]]:
        """Group, rewards, tokens and policy versions. A rollout that was split into several samples is judged by its last one."""
        ends = [sample[-1] if isinstance(sample, list) else sample for sample in samples]
        if any(GROUP not in sample.metadata for sample in ends):
            raise CurriculaError(
                f"slime: a sample came back without {GROUP!r} in its metadata, so its prompt is lost; a custom generate function "
                "has to keep the metadata of the sample it is given"
            )
        rewards = [float("nan") if end.reward is None else float(end.get_reward_value(self.args)) for end in ends]
        versions = [end.weight_versions[-1] if end.weight_versions else "" for end in ends]
        known = [int(version) if str(version).isdigit() else self.groups.step for version in versions]
        return ends[0].metadata[GROUP], rewards, [end.response_length for end in ends], known


def take_back(args: Namespace, all_samples: Sequence[Sequence[Any]], data_source: Any) -> None:
    """For ``--rollout-all-samples-process-path``. slime hands over the data source's bound ``get_samples``."""
    _source(args, getattr(data_source, "__self__", data_source)).take_back(all_samples)


def keep_group(args: Namespace, samples: Sequence[Any], **_: Any) -> Any:
    """For ``--dynamic-sampling-filter-path``: slime drops what the recipe's filter drops, and draws anew as it always does."""
    kept = _source(args, _sources.get(id(args))).keeps(samples)
    return DynamicFilterOutput(keep=kept, reason=None if kept else "curriculum")


def _source(args: Namespace, source: Any) -> CurriculumData:
    if not isinstance(source, CurriculumData):
        raise CurriculaError(
            f"slime: this hook belongs to a curriculum's data source, and the run's is {args.data_source_path}; set "
            "--data-source-path to a class that extends CurriculumData"
        )
    return source


def _folder(checkpoints: str, rollout_id: int) -> Path:
    return Path(checkpoints) / "rollout" / f"curriculum_{rollout_id}"


def _refuse_settings(args: Namespace) -> None:
    if id(args) in _sources:
        raise CurriculaError("slime: this run has a curriculum already; one data source per run")
    hook, dropper = args.rollout_all_samples_process_path, args.dynamic_sampling_filter_path
    if hook != f"{HERE}.take_back":
        raise CurriculaError(
            f"slime: results reach the curriculum by --rollout-all-samples-process-path {HERE}.take_back, got {hook}"
        )
    if dropper not in (None, f"{HERE}.keep_group"):
        raise CurriculaError(
            f"slime: {dropper} drops groups behind the curriculum's back; set --dynamic-sampling-filter-path {HERE}.keep_group "
            "and the filter in the recipe"
        )
