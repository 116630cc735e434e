"""What verl's configuration and rows say to a curriculum, for both of verl's hooks: settings, prompt ids, versions."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from curricula.hosting import pool_of, prompt_id
from curricula.types import CurriculaError, PromptPool, known_or_raise

OWN = "data_source/extra_info.index"  # verl's own way of naming a row: where it comes from, and its number there


@dataclass(frozen=True)
class Settings:
    """The curriculum's part of verl's configuration."""

    recipe: Any  # name of a recipe, or a mapping of stages to policies
    seed: int = 0
    reward_range: tuple[float, float] = (0.0, 1.0)
    prompt_id: str = OWN  # fields of a row, joined by "/"; a dot goes into a field
    distribution: str = "data_source"

    def __post_init__(self) -> None:
        if len(self.reward_range) != 2:
            raise CurriculaError(f"reward_range: expected two numbers, lowest and highest reward, got {self.reward_range!r}")
        object.__setattr__(self, "reward_range", (float(self.reward_range[0]), float(self.reward_range[1])))


AnySettings = TypeVar("AnySettings", bound=Settings)


def settings_of(kind: type[AnySettings], given: Mapping[str, Any], where: str) -> AnySettings:
    """The settings that stand under ``where`` in verl's configuration.

    Errors: CurriculaError for a key that there is not, and without a recipe.
    """
    for key in given:
        known_or_raise(f"key of {where}:", str(key), tuple(field.name for field in fields(kind)))
    if not given.get("recipe"):
        raise CurriculaError(f"{where}: expected the name of a recipe, got none; add e.g. +{where}.recipe=dump_ucb")
    return kind(**given)


def pool_of_dataset(dataset: Any, settings: Settings, where: str) -> PromptPool:
    """The pool of a data set as verl keeps it (after its length filter), row for row."""
    table = getattr(dataset, "dataframe", None)
    if table is None:
        raise CurriculaError(
            f"{where}: the data set {type(dataset).__name__} has no `dataframe`; expected verl's RLHFDataset or a subclass of it"
        )
    ids = ids_of(lambda name: table[name] if name in table.column_names else None, settings, "data set")
    source = settings.distribution
    distributions = _column(lambda name: table[name] if name in table.column_names else None, source, "data set", "distribution")
    try:
        return pool_of(ids, ids, distributions)
    except CurriculaError as error:
        raise CurriculaError(
            f"{error}. Ids are made of {settings.prompt_id}: set {where}.prompt_id to a field that is one"
        ) from None


def ids_of(column: Callable[[str], Iterable[Any] | None], settings: Settings, where: str) -> list[str]:
    """One id per row, of the fields that the settings name.

    Errors: CurriculaError when a field is not there: verl would go on with number 0 for all of them.
    """
    parts = [_column(column, path, where, "prompt_id") for path in settings.prompt_id.split("/")]
    return ["/".join(_text(value) for value in values) for values in zip(*parts, strict=True)]


def check_version(found: str, first: str, last: str, otherwise: str) -> None:
    """Refuse a verl older than ``first``; warn of one that is newer than ``last``, the newest that was tried.

    Errors: CurriculaError with what to do ``otherwise``.
    """
    if _numbers(found) < _numbers(first):
        raise CurriculaError(f"verl {found}: expected {first} to {last}; {otherwise}")
    if _numbers(found) > _numbers(last):
        warnings.warn(
            f"verl {found} is newer than {last}, the newest that this was tried with; `python -m benchmarks.host_drift verl` tells "
            "whether what it hooks into is still there",
            stacklevel=3,
        )


def refuse_settings(trainer: Any) -> None:
    """CurriculaError naming the setting of verl 0.9 under which a curriculum would not do what its recipe says."""
    config = trainer.config
    reward, algorithm = config.reward.reward_model, config.algorithm
    wrong = {
        "trainer.v1.trainer_mode=sync": (
            trainer.trainer_mode != "sync",
            "the other modes prefetch, so that a plan would be made before what it learns from",
        ),
        "trainer.v1.sync without parameter_sync_step": (trainer.parameter_sync_step != 1, "a step is one batch of groups"),
        "algorithm.adv_estimator=grpo": (algorithm.adv_estimator != "grpo", "advantages are those of whole groups"),
        "algorithm.use_kl_in_reward=false": (algorithm.use_kl_in_reward, "it changes rewards after the curriculum saw them"),
        "algorithm.filter_groups.enable=false": (
            _is_on(algorithm, "filter_groups", "enable"),
            "the recipe's filter decides, e.g. nonzero_variance",
        ),
        "trainer.v1.sampler.sync_refill_failed_groups=false": (
            _is_on(config.trainer.v1.sampler, "sync_refill_failed_groups"),
            "the recipe's filter decides what is replaced",
        ),
        "reward.reward_model.enable_resource_pool=true": (
            reward.enable and not reward.enable_resource_pool,
            "a colocated reward model gives rewards when the choice is over",
        ),
        "skip.rollout_tq.enable=false": (_is_on(config, "skip", "rollout_tq", "enable"), "old rollouts answer old plans"),
    }
    for expected, (is_wrong, why) in wrong.items():
        if is_wrong:
            raise CurriculaError(f"verl: a curriculum needs {expected}: {why}")


def _is_on(config: Any, *path: str) -> bool:
    for key in path:
        config = config.get(key) if config is not None else None
    return bool(config)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)[:3]]


def _column(column: Callable[[str], Iterable[Any] | None], path: str, where: str, setting: str) -> Sequence[Any]:
    name, *inside = path.split(".")
    found = column(name)
    if found is None:
        raise CurriculaError(f"{where}: no field {name!r}, of which the curriculum's {setting} is made; keep it, or name another")
    values = list(found)
    for key in inside:
        values = [value.get(key) if isinstance(value, Mapping) else None for value in values]
    lost = next((i for i, value in enumerate(values) if value is None), None)
    if lost is not None:
        raise CurriculaError(
            f"{where}: row {lost} has no {path} ({sum(value is None for value in values)} of {len(values)} rows), of which the "
            f"curriculum's {setting} is made; write it when the rows are prepared, or name another field"
        )
    return values


def _text(value: Any) -> str:
    return str(value) if isinstance(value, str | int | np.integer) else prompt_id(value)
