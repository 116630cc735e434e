"""Procedural puzzles of reasoning-gym: endless prompts with difficulty levels and verifiers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, overload

import numpy as np
import reasoning_gym as library  # type: ignore[import-untyped]
from reasoning_gym.coaching import attributes  # type: ignore[import-untyped]
from reasoning_gym.coaching.base_curriculum import (  # type: ignore[import-untyped]
    DefaultCurriculumContext,
    RangeAttributeMode,
)
from reasoning_gym.factory import CURRICULA, DATASETS, create_curriculum  # type: ignore[import-untyped]

from curricula.types import CurriculaError, known_or_raise
from rollout.prompts import Prompt, PromptSet, RewardSpec
from rollout.tasks import register
from rollout.templates import Form, fill, in_form, refuse_template

FIRST_FREE = 2**30  # puzzles above this index are nobody's: easier ones for a growing pool are drawn there
TRIES_PER_PROMPT = 100  # draws of a training prompt that is not held out, before the puzzles count as exhausted


@dataclass(frozen=True)
class Source:
    """One distribution: a data set of reasoning-gym and its configuration."""

    dataset: str
    config: dict[str, Any] = field(default_factory=dict)


@register("reasoning_gym")
@dataclass(frozen=True)
class ReasoningGym:
    """Distributions by hand, or one per level of a data set's difficulty attribute.

    Every level takes its own segment of the attribute (terms 3 at level 1, not 2 to 3), so levels do not overlap; the other
    attributes stay at the curriculum's lowest level unless ``config`` sets them. Held-out and training prompts have different
    indices and different questions. The run's seed does not change the data, so an id means the same prompt in every run.
    """

    distributions: dict[str, Source] = field(default_factory=dict)  # by name
    dataset: str = ""  # instead of distributions: one data set ...
    level_attribute: str = ""  # ... with this attribute of its curriculum ...
    levels: tuple[int, ...] = ()  # ... at these levels; none = at all of them
    config: dict[str, Any] = field(default_factory=dict)  # for every distribution
    prompts_per_distribution: int = 1000
    held_out_per_distribution: int = 100
    seed: int = 0  # of the data
    prompt_template: str = "{question}"  # also: {expression} without blanks, and the item's metadata by name
    form: Form = "text"  # chat: one message of the user, for the tokenizer's chat template
    answer_tag: str = ""  # "answer": only the last <answer>...</answer> of a completion is scored
    reward: RewardSpec = RewardSpec("reasoning_gym")

    def __post_init__(self) -> None:
        if bool(self.distributions) == bool(self.dataset):
            raise CurriculaError(
                "task 'reasoning_gym': expected either distributions or dataset (with level_attribute), not both or none"
            )
        if self.prompts_per_distribution < 1 or self.held_out_per_distribution < 0:
            raise CurriculaError("task 'reasoning_gym': expected prompts_per_distribution >= 1 and held_out_per_distribution >= 0")
        refuse_template("task 'reasoning_gym', prompt_template", self.prompt_template, "question")

    def build(self, seed: int) -> tuple[PromptSet, PromptSet]:
        sources = {name: _Items(self, name, source) for name, source in self._sources().items()}
        train = Lazily([source.train for source in sources.values()])
        held_out = Lazily([source.held_out for source in sources.values()])
        return PromptSet(train, self.reward), PromptSet(held_out, self.reward)

    def easier(self, prompt: Prompt, by: int, rng: np.random.Generator) -> Prompt | None:
        """A new puzzle at a lower level of the attribute; the levels of the recipe need not have it."""
        own = self._level(prompt)
        level = max(own - by, 0)
        if level == own:
            return None
        name, source = _at_level(self.dataset, self.level_attribute, level, self.config)
        made = _Items(replace(self, held_out_per_distribution=0), name, source).at(int(rng.integers(FIRST_FREE, 2**31)))
        return replace(made, extra={**made.extra, "level": level})

    def _level(self, prompt: Prompt) -> int:
        """Of a prompt of the task, or of one that `easier` made."""
        if "level" in prompt.extra:
            return int(prompt.extra["level"])
        if not self.level_attribute:
            raise CurriculaError(
                "task 'reasoning_gym': easier prompts need levels; set dataset and level_attribute instead of distributions"
            )
        n = len(create_curriculum(self.dataset).attributes[self.level_attribute].levels)
        level_of_name = dict(zip(self._sources(), self.levels or range(n), strict=True))
        return level_of_name[prompt.distribution]

    def _sources(self) -> dict[str, Source]:
        if self.distributions:
            return {name: Source(one.dataset, {**self.config, **one.config}) for name, one in self.distributions.items()}
        return levels_of(self.dataset, self.level_attribute, self.levels, self.config)


def levels_of(dataset: str, attribute: str, levels: Sequence[int], config: dict[str, Any]) -> dict[str, Source]:
    """One source per level of a data set's attribute, named like ``chain_sum/terms=3``."""
    known_or_raise("reasoning-gym data set", dataset, sorted(DATASETS))
    if not attribute:
        return {dataset: Source(dataset, dict(config))}
    known_or_raise("reasoning-gym data set with a curriculum", dataset, sorted(CURRICULA))
    curriculum = create_curriculum(dataset)
    known_or_raise(f"attribute of reasoning-gym's {dataset!r}", attribute, sorted(curriculum.attributes))
    n_levels = len(curriculum.attributes[attribute].levels)
    wrong = [level for level in levels if not 0 <= level < n_levels]
    if wrong:
        raise CurriculaError(f"task 'reasoning_gym', levels: {dataset}.{attribute} has the levels 0..{n_levels - 1}, got {wrong}")
    return dict(_at_level(dataset, attribute, level, config) for level in levels or range(n_levels))


def _at_level(dataset: str, attribute: str, level: int, config: dict[str, Any]) -> tuple[str, Source]:
    curriculum = create_curriculum(dataset)
    curriculum.set_attr_level(attribute, level)
    highest_segment = DefaultCurriculumContext(mode=RangeAttributeMode.UPPER_BOUND)
    generated = vars(curriculum.generate_configuration(context=highest_segment))
    values = {name: generated[name] for name in _fields_of(curriculum.attributes[attribute])}
    base = {key: generated[key] for one in curriculum.attributes.values() for key in _fields_of(one)}
    plain = all(isinstance(value, int | float | str) for value in values.values())
    shown = "-".join(str(value) for value in dict.fromkeys(values.values())) if plain else f"level-{level}"
    return f"{dataset}/{attribute.removeprefix('num_')}={shown}", Source(dataset, {**base, **config, **values})


def _fields_of(attribute: Any) -> tuple[str, ...]:
    if isinstance(attribute, attributes.RangeAttributeDefinition):
        return attribute.lower_field_name, attribute.upper_field_name
    return (attribute.field_name,)


class _Items:
    """One distribution's prompts, made by index: held-out ones first, then training ones."""

    def __init__(self, task: ReasoningGym, name: str, source: Source) -> None:
        self._task = task
        self._name = name
        self._source = source
        self._where = f"task 'reasoning_gym', distribution {name!r}"
        self._dataset = self._create()
        self.held_out = [self._prompt(i, self._entry(i)) for i in range(task.held_out_per_distribution)]
        self._held_out_questions = {prompt.extra["entry"]["question"] for prompt in self.held_out}
        self.train = Memoised(self._train_prompt, task.prompts_per_distribution)
        self._refuse_what_json_changes()

    def _create(self) -> Any:
        known_or_raise("reasoning-gym data set", self._source.dataset, sorted(DATASETS))
        size = self._task.held_out_per_distribution + self._task.prompts_per_distribution
        try:
            return library.create_dataset(self._source.dataset, **self._source.config, size=size, seed=self._task.seed)
        except (TypeError, ValueError, AssertionError) as error:
            raise CurriculaError(
                f"{self._where}: reasoning-gym's {self._source.dataset!r} refuses the configuration {self._source.config} ({error})"
            ) from error

    def at(self, index: int) -> Prompt:
        """The prompt of any index, held out or not."""
        return self._prompt(index, self._entry(index))

    def _train_prompt(self, row: int) -> Prompt:
        """The row's own index, or the first of its replacements whose question is not held out."""
        n = self._task.prompts_per_distribution
        first = self._task.held_out_per_distribution + row
        for index in range(first, first + n * TRIES_PER_PROMPT, n):
            entry = self._entry(index)
            if entry["question"] not in self._held_out_questions:
                return self._prompt(index, entry)
        raise CurriculaError(
            f"{self._where}: nearly every question is held out already; it has too few different ones: lower "
            "held_out_per_distribution, or widen its config"
        )

    def _entry(self, index: int) -> dict[str, Any]:
        try:
            entry: dict[str, Any] = self._dataset[index]
        except (ValueError, IndexError, KeyError, AttributeError, TypeError) as error:
            raise CurriculaError(
                f"{self._where}: reasoning-gym fails on item {index} with the configuration {self._source.config} ({error!r}); "
                "other attributes may have to follow this one: set them in config"
            ) from error
        return entry

    def _prompt(self, index: int, entry: dict[str, Any]) -> Prompt:
        task = self._task
        text = fill(task.prompt_template, _values(entry))
        return Prompt(
            id=f"{self._name}/{index:06d}",
            distribution=self._name,
            content=in_form(text, task.form),
            answer=entry["answer"],
            extra={"dataset": self._source.dataset, "config": self._source.config, "entry": entry, "answer_tag": task.answer_tag},
        )

    def _refuse_what_json_changes(self) -> None:
        """Some data sets' verifiers need Python objects that do not survive the way to a verifier process."""
        entry = self._entry(0)
        try:
            copy = json.loads(json.dumps(entry))
            same = self._dataset.score_answer(entry["answer"], entry) == self._dataset.score_answer(entry["answer"], copy)
        except TypeError:
            same = False
        if not same:
            raise CurriculaError(
                f"{self._where}: items of {self._source.dataset!r} do not survive JSON, so they cannot be scored in a verifier "
                "process; choose another data set"
            )


def _values(entry: dict[str, Any]) -> dict[str, str]:
    question = entry["question"]
    expression = entry["metadata"].get("expression") or question.rpartition(":")[2].strip().rstrip("=.?")
    metadata = {key: str(value) for key, value in entry["metadata"].items()}
    return {**metadata, "question": question, "expression": "".join(str(expression).split())}


class Memoised(Sequence[Prompt]):
    """Prompts made on first use and kept."""

    def __init__(self, make: Any, n: int) -> None:
        self._make = make
        self._made: list[Prompt | None] = [None] * n

    def __len__(self) -> int:
        return len(self._made)

    @overload
    def __getitem__(self, row: int) -> Prompt: ...
    @overload
    def __getitem__(self, row: slice) -> list[Prompt]: ...
    def __getitem__(self, row: int | slice) -> Prompt | list[Prompt]:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        made = self._made[row]
        if made is None:
            made = self._made[row] = self._make(row % len(self))
        return made


class Lazily(Sequence[Prompt]):
    """Several sequences of prompts one behind the other."""

    def __init__(self, parts: Sequence[Sequence[Prompt]]) -> None:
        self._parts = parts
        self._places = [(part, i) for part in parts for i in range(len(part))]

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[Prompt]:
        for part in self._parts:
            yield from part

    @overload
    def __getitem__(self, row: int) -> Prompt: ...
    @overload
    def __getitem__(self, row: slice) -> list[Prompt]: ...
    def __getitem__(self, row: int | slice) -> Prompt | list[Prompt]:
        if isinstance(row, slice):
            return [part[i] for part, i in self._places[row]]
        part, i = self._places[row]
        return part[i]
