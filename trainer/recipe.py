"""A run's whole configuration: one YAML file, complete, readable top to bottom.

The dataclasses of the settings are the schema. No environment variables, no inheritance between files; ``--set a.b=c`` changes one
value. Parts that a registry knows (task, curriculum, schedule, optimizer, warm_start) are mappings with a ``name`` here; whoever
builds them checks their keys.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

from curricula.types import CurriculaError, known_or_raise
from rollout.settings import RolloutSettings
from trainer import strict_yaml
from trainer.optimizer import check_optimizer
from trainer.schedules.build import build_rate
from trainer.schedules.clock import Length
from trainer.settings import EvaluationSettings, GrowthSettings, LearnerSettings, ModelSettings, RunSettings, Statistic

SCHEDULE = {"name": "wsd", "peak": 1e-6, "decay": 0.2, "floor": 0.1}  # what docs/learning_rate_study.md comes to


@dataclass(frozen=True)
class Recipe:
    """Everything a run depends on, checked."""

    name: str
    task: dict[str, Any]  # {name: ..., ...}, see rollout.tasks
    seed: int = 0
    model: ModelSettings = field(default_factory=ModelSettings)
    warm_start: dict[str, Any] | None = None  # makes a small model by worked examples, instead of model.path
    curriculum: str | dict[str, Any] = "uniform"  # a named recipe, or one {name: ..., ...} per stage
    growth: GrowthSettings | None = None  # prompts that are added while training
    rollout: RolloutSettings = field(default_factory=RolloutSettings)
    learner: LearnerSettings = field(default_factory=LearnerSettings)
    schedule: dict[str, Any] = field(default_factory=lambda: dict(SCHEDULE))  # of the learning rate
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    run: RunSettings = field(default_factory=RunSettings)

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or self.name.startswith("."):
            raise CurriculaError(f"name: expected a word that can name a folder, got {self.name!r}")
        if self.seed < 0:
            raise CurriculaError(f"seed: expected >= 0, got {self.seed}")
        _require_name("task", self.task)
        _require_name("schedule", self.schedule)
        _check_curriculum(self.curriculum)
        _check_statistics(self)
        _check_evaluated(self.schedule, self.evaluation)
        _require_name("learner.optimizer", self.learner.optimizer)
        check_optimizer(self.learner, self.schedule)
        _check_model(self)

    @property
    def folder(self) -> Path:
        """Where the run writes."""
        return Path(self.run.folder.replace("{name}", self.name))

    @property
    def length(self) -> Length:
        """Of the whole run: the horizons of the learning rate's clocks."""
        return Length(self.run.n_steps, self.run.n_steps * self.learner.updates_per_step, self.run.n_tokens)

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """What the learner measures: what is asked for, and what controllers of the learning rate need."""
        wanted = build_rate(self.schedule, self.length).statistics.union(self.learner.statistics)
        return tuple(word for word in get_args(Statistic) if word in wanted)

    @property
    def resolved(self) -> dict[str, Any]:
        """Every value, defaults included, as plain YAML values."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return plain

    @property
    def fingerprint(self) -> str:
        """Changes when any value changes; not with comments, order of keys or spelled-out defaults."""
        text = json.dumps(self.resolved, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """A recipe file that loads back equal."""
        return strict_yaml.dump(self.resolved)


def _check_evaluated(schedule: Mapping[str, Any], evaluation: EvaluationSettings) -> None:
    plateau = (schedule.get("controllers") or {}).get("plateau") or {}
    if plateau.get("metric") == "held_out" and not evaluation.every:
        raise CurriculaError(
            "schedule.controllers.plateau.metric: held_out needs evaluations while training, and evaluation.every is 0; "
            "set it, for example to 20, or take mean_score"
        )


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file and apply ``a.b=c`` overrides, the value of each read as YAML."""
    data = strict_yaml.load_file(Path(path))
    _raise_all(str(path), _unknown_keys(Recipe, data))
    for text in overrides:
        data = override(data, text)
        _raise_all(f"--set {text}", _unknown_keys(Recipe, data))
    return parse_recipe(data, str(path))


def parse_recipe(data: Any, where: str = "recipe") -> Recipe:
    """Build a recipe from plain values. Errors: CurriculaError that lists every wrong key with its path."""
    _raise_all(where, _unknown_keys(Recipe, data))
    try:
        # JSON mode is strict about types and still takes lists for tuples and mappings for dataclasses
        return _ADAPTER.validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise _joined(where, [_explain(entry) for entry in _once_per_key(error.errors())]) from error


def override(data: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The data with one value replaced; ``text`` is ``a.b=c``.

    >>> override({"run": {"n_steps": 100}}, "run.n_steps=3")
    {'run': {'n_steps': 3}}
    """
    path, equals, value = text.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise CurriculaError(f"--set {text}: expected key.key=value, for example run.n_steps=10")
    return _replaced(data, keys, strict_yaml.load(value, f"--set {text}"), text)


def _replaced(data: Any, keys: Sequence[str], value: Any, text: str) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise CurriculaError(f"--set {text}: {keys[0]!r} is looked for inside {data!r}, which has no keys; set the whole value")
    key, *rest = keys
    inner = value if not rest else _replaced({} if data.get(key) is None else data[key], rest, value, text)
    return {**data, key: inner}


def _unknown_keys(schema: type, data: Any, path: str = "") -> Iterator[str]:
    if not isinstance(data, Mapping):
        if not path:
            yield f"expected a mapping with the keys {', '.join(get_type_hints(schema))}; got {_shown(data)}"
        return  # inside the recipe, the type check says what was expected
    hints = get_type_hints(schema)
    for key, value in data.items():
        here = f"{path}.{key}" if path else key
        if key not in hints:
            yield _unknown_key(schema, path, key)
        elif (inner := _settings_class(hints[key])) is not None:
            yield from _unknown_keys(inner, value, here)


def _unknown_key(schema: type, path: str, key: str) -> str:
    where = f"{path}: " if path else ""
    places = [place for place in _places(Recipe) if place.rpartition(".")[2] == key]
    if places:
        return f"{where}unknown key {key!r}; it belongs at {' or '.join(places)}"
    try:
        known_or_raise("key", key, list(get_type_hints(schema)))
    except CurriculaError as error:
        return f"{where}{error}"
    return ""


def _places(schema: type, path: str = "") -> Iterator[str]:
    """Dotted names of every key of the schema."""
    for key, hint in get_type_hints(schema).items():
        here = f"{path}.{key}" if path else key
        yield here
        if (inner := _settings_class(hint)) is not None:
            yield from _places(inner, here)


def _settings_class(hint: Any) -> type | None:
    """The dataclass in a hint such as ``LoraSettings | None``."""
    candidates = (hint, *get_args(hint))
    return next((c for c in candidates if isinstance(c, type) and dataclasses.is_dataclass(c)), None)


def _require_name(where: str, mapping: Mapping[str, Any]) -> None:
    if not isinstance(mapping.get("name"), str):
        raise CurriculaError(f"{where}: expected a mapping with a name, for example {{name: ...}}; got {dict(mapping)!r}")


def _check_curriculum(curriculum: str | Mapping[str, Any]) -> None:
    if isinstance(curriculum, str):
        return
    for stage, policy in curriculum.items():
        if isinstance(policy, Mapping):
            _require_name(f"curriculum.{stage}", policy)


def _check_model(recipe: Recipe) -> None:
    if recipe.model.path or recipe.warm_start is not None or recipe.rollout.engine.backend == "simulated":
        return
    raise CurriculaError("model.path: expected a Hugging Face name or a folder (or a warm_start that makes a model), got nothing")


def _check_statistics(recipe: Recipe) -> None:
    if recipe.statistics and recipe.rollout.engine.backend == "simulated":
        raise CurriculaError(
            f"learner.statistics: {', '.join(recipe.statistics)} (asked for there, or needed by a controller of the schedule) "
            "cannot be measured with rollout.engine.backend simulated, whose learner has no gradients; leave them out"
        )
    if "update_cosine" in recipe.statistics and recipe.learner.optimizer.get("name") != "adamw":
        raise CurriculaError(
            "learner.statistics: update_cosine (asked for there, or needed by a controller of the schedule) is read from the "
            f"moments of learner.optimizer adamw, which {recipe.learner.optimizer.get('name')!r} does not keep; leave it out"
        )


_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "dataclass_type": "a mapping of keys",
    "tuple_type": "a list",
    "list_type": "a list",
    "too_long": "a shorter list",
}


def _explain(entry: Mapping[str, Any]) -> str:
    where, kind, got = _place(entry), entry["type"], _shown(entry["input"])
    if kind == "value_error":
        return _own_words(where, str(entry["ctx"]["error"]))
    if kind == "missing":
        return f"{where}: a value is required here and missing"
    if kind == "literal_error":
        return f"{where}: expected {entry['ctx']['expected']}, got {got}{_near(entry)}"
    if where == "curriculum":
        return f"curriculum: expected the name of a recipe or a mapping with a policy per stage, got {got}"
    return f"{where}: expected {_WANTED.get(kind, entry['msg'])}, got {got}"


def _place(entry: Mapping[str, Any]) -> str:
    """The dotted key of an error; the branches of the union in ``curriculum`` are not keys."""
    parts = [str(part) for part in entry["loc"]]
    return "curriculum" if parts[:1] == ["curriculum"] else ".".join(parts)


def _own_words(where: str, message: str) -> str:
    """Settings name their own keys, the last part of ``where`` first or not at all."""
    parent, _, leaf = where.rpartition(".")
    if message.startswith((f"{where}.", f"{where}:")):
        return message
    if message.startswith((f"{leaf}.", f"{leaf}:")):
        return f"{parent}.{message}"
    return f"{where}: {message}" if where else message


def _once_per_key(entries: Iterable[Any]) -> list[Any]:
    return list({_place(entry): entry for entry in entries}.values())


def _near(entry: Mapping[str, Any]) -> str:
    import difflib

    known = [word.strip("'") for word in entry["ctx"]["expected"].replace(" or ", ", ").split(", ")]
    near = difflib.get_close_matches(str(entry["input"]), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _raise_all(where: str, problems: Iterable[str]) -> None:
    found = list(problems)
    if found:
        raise _joined(where, found)


def _joined(where: str, problems: Sequence[str]) -> CurriculaError:
    if len(problems) == 1:
        return CurriculaError(f"{where}: {problems[0]}")
    return CurriculaError(f"{where}: {len(problems)} problems\n" + "\n".join(f"  {problem}" for problem in problems))


_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(Recipe)
