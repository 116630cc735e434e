"""Policies by stage and name. A policy registers itself; its folder is imported whole, so no list is edited to add one."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from curricula.checkpoint import flatten
from curricula.stages import Belief, Budget, Distribution, Downsampling, Filter, Pacing, Selector, Shaping
from curricula.types import CurriculaError, PromptPool, known_or_raise

# The verb that every policy of a stage has, in the order in which data passes.
VERBS = {
    "belief": "estimate",
    "distribution": "probabilities",
    "selector": "select",
    "budget": "allocate",
    "shaping": "shape",
    "filter": "judge",
    "downsampling": "thin",
    "pacing": "value",
}
STAGES = tuple(stage for stage in VERBS if stage != "pacing")  # a pacing drives a parameter of the others
PROTOCOLS = {
    Belief: "belief",
    Distribution: "distribution",
    Selector: "selector",
    Budget: "budget",
    Shaping: "shaping",
    Filter: "filter",
    Downsampling: "downsampling",
    Pacing: "pacing",
}
_registered: dict[str, dict[str, type]] = {stage: {} for stage in VERBS}
P = TypeVar("P", bound=type)


def register(stage: str, name: str) -> Callable[[P], P]:
    """Class decorator: makes a frozen dataclass known as policy ``name`` of ``stage``."""
    known_or_raise("stage", stage, tuple(VERBS))

    def add(policy: P) -> P:
        there = _registered[stage].setdefault(name, policy)
        if there.__qualname__ != policy.__qualname__ or there.__module__ != policy.__module__:
            raise CurriculaError(f"registry: {stage} policy {name!r} exists already in {there.__module__}; choose another name")
        return policy

    return add


def names(stage: str) -> tuple[str, ...]:
    """Registered names of a stage, sorted."""
    known_or_raise("stage", stage, tuple(VERBS))
    _import_folder(stage)
    return tuple(sorted(_registered[stage]))


def build(stage: str, spec: Any) -> Any:
    """The policy that a recipe names: ``"even"`` or ``{"name": "dump_ucb", "tau": 0.2}``; a policy stays as it is.

    The name is a registered one or ``"package.module:Class"``. A parameter that is itself a policy is written in the same way, and
    a number may be a pacing: ``{"name": "dump_ucb", "bonus": {"pacing": "linear", "first": 1, "last": 0, "steps": 100}}``.
    Errors: CurriculaError for an unknown name, an unknown key or a value of the wrong type, naming stage, key and what is known.

    >>> build("budget", {"name": "knapsack", "max_n": 64}).max_n
    64
    """
    if is_dataclass(spec) and not isinstance(spec, type):
        return spec
    if not isinstance(spec, str | Mapping):
        raise CurriculaError(f"{stage}: expected a policy's name or a mapping with a key 'name', got {spec!r}")
    given = {"name": spec} if isinstance(spec, str) else dict(spec)
    name = given.pop("name", None)
    if not isinstance(name, str):
        raise CurriculaError(f"{stage}: expected a key 'name', got {sorted(given)}; known: {', '.join(names(stage))}")
    policy = find(stage, name)
    _refuse_bad_keys(stage, name, policy, given)
    paced: dict[str, Any] = {
        key: given.pop(key) for key, value in tuple(given.items()) if isinstance(value, Mapping) and "pacing" in value
    }
    where = f"{stage} policy {name!r}, "
    if paced and stage == "pacing":
        raise CurriculaError(f"{where}{min(paced)}: the numbers of a pacing cannot follow pacings themselves")
    if missing := [f.name for f in fields(policy) if f.name in paced and f.default is MISSING and f.default_factory is MISSING]:
        raise CurriculaError(f"{where}{missing[0]}: a number without a default cannot follow a pacing")
    built = policy(**{key: _checked(where + key, kind_of(policy, key), value) for key, value in given.items()})
    return _paced(where, built, paced) if paced else built


def find(stage: str, name: str) -> type:
    """The class behind a name; imports ``package.module:Class``."""
    if ":" in name:
        return _outside(stage, name)
    known_or_raise(f"{stage} policy", name, names(stage))
    return _registered[stage][name]


def parameters(policy: Any) -> dict[str, Any]:
    """Hyper-parameters of a policy (class or instance) as plain values; a class gives its defaults."""
    if not isinstance(policy, type):
        return {f.name: getattr(policy, f.name) for f in fields(policy)}
    return {f.name: f.default_factory() if f.default_factory is not MISSING else f.default for f in fields(policy)}


def name_of(stage: str, policy: Any) -> str:
    """The registered name of a policy, or ``module:Class``."""
    _import_folder(stage)
    for name, known in _registered[stage].items():
        if type(policy) is known:
            return name
    return f"{type(policy).__module__}:{type(policy).__qualname__}"


@dataclass(frozen=True)
class Description:
    """One line of ``curricula policies``."""

    stage: str
    name: str
    summary: str  # first line of the docstring
    source: str  # see `source_of`
    defaults: dict[str, Any]
    state_bytes_per_prompt: float
    state_bytes_per_distribution: float


def describe() -> list[Description]:
    """Every registered policy, stage by stage."""
    return [_description(stage, name) for stage in VERBS for name in names(stage)]


def _description(stage: str, name: str) -> Description:
    policy = find(stage, name)
    text = policy.__doc__ or ""
    summary = text.strip().splitlines()[0]
    return Description(stage, name, summary, source_of(text), parameters(policy), *_state_growth(policy()))


def source_of(docstring: str) -> str:
    """Where a rule comes from: the arXiv ids that its docstring names; else what its first line ends with, a source or "ours".

    >>> source_of("Weights for arms. EXP3.S (Auer et al. 2002)."), source_of("Equal shares. Ours; a baseline.")
    ('EXP3.S (Auer et al. 2002)', 'ours')
    """
    if ids := dict.fromkeys(re.findall(r"arXiv\s+(\d{4}\.\d{4,5})", docstring)):
        return ", ".join(ids)
    _, *further = re.split(r"\. (?=[^\W\d])", docstring.strip().partition("\n")[0])
    named = further[-1].removesuffix(".") if further else "Ours"
    return "ours" if named.startswith("Ours") else named


def _state_growth(policy: Any) -> tuple[float, float]:
    """Bytes of state per further prompt and per further distribution, read off three small pools."""
    base, more_prompts, more_distributions = (_state_bytes(policy, n, k) for n, k in ((64, 2), (128, 2), (64, 4)))
    return (more_prompts - base) / 64, (more_distributions - base) / 2


def _state_bytes(policy: Any, n_prompts: int, n_distributions: int) -> int:
    pool = PromptPool.from_columns(map(str, range(n_prompts)), (str(i % n_distributions) for i in range(n_prompts)))
    return sum(array.nbytes for array in flatten({"state": policy.init(pool)}).values())


@cache
def _import_folder(stage: str) -> None:
    folder = importlib.import_module(f"curricula.{stage}")
    for module in sorted(info.name for info in pkgutil.iter_modules(folder.__path__)):
        importlib.import_module(f"curricula.{stage}.{module}")


def _outside(stage: str, name: str) -> type:
    module, _, attribute = name.partition(":")
    try:
        policy = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise CurriculaError(f"{stage} policy {name!r}: cannot be imported ({error}); write package.module:Class") from error
    if not (isinstance(policy, type) and is_dataclass(policy) and hasattr(policy, VERBS[stage])):
        raise CurriculaError(f"{stage} policy {name!r}: expected a dataclass with a method {VERBS[stage]!r}, got {policy!r}")
    return policy


def _refuse_bad_keys(stage: str, name: str, policy: type, given: Mapping[str, Any]) -> None:
    known = tuple(f.name for f in fields(policy))
    for key in given:
        if not known:
            raise CurriculaError(f"{stage} policy {name!r} has no parameters, got {key!r}")
        known_or_raise(f"key of {stage} policy {name!r}:", key, known)
    missing = [f.name for f in fields(policy) if f.default is MISSING and f.default_factory is MISSING and f.name not in given]
    if missing:
        raise CurriculaError(f"{stage} policy {name!r}: missing key(s) {', '.join(missing)}")


def kind_of(policy: type, key: str) -> Any:
    """The declared type of a hyper-parameter."""
    return get_type_hints(policy).get(key, Any)


def _checked(where: str, kind: Any, value: Any) -> Any:
    """The value, if it fits its declaration: numbers, text, switches and choices; anything else is the policy's own business."""
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise CurriculaError(f"{where}: expected one of {', '.join(map(repr, get_args(kind)))}, got {value!r}")
        return value
    if kind in PROTOCOLS:
        return build(PROTOCOLS[kind], value)
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        kinds = get_args(kind)
        each = [kinds[0]] * len(value) if kinds[1:] == (...,) else list(kinds)
        if len(each) != len(value):
            raise CurriculaError(f"{where}: expected {len(each)} values, got {value!r}")
        return tuple(_checked(f"{where}[{i}]", one, item) for i, (one, item) in enumerate(zip(each, value, strict=True)))
    accepted = {float: (int, float), int: (int,), bool: (bool,), str: (str,)}.get(kind)
    if accepted is None:
        return value
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise CurriculaError(f"{where}: expected {kind.__name__}, got {value!r} ({type(value).__name__})")
    return kind(value)


def _paced(where: str, policy: Any, paced: Mapping[str, Mapping[str, Any]]) -> Any:
    from curricula.paced import Paced

    for key in paced:
        if kind_of(type(policy), key) not in (int, float):
            raise CurriculaError(f"{where}{key}: only a number can follow a pacing")
    return Paced(policy, tuple((key, _pacing(where + key, spec)) for key, spec in paced.items()))


def _pacing(where: str, spec: Mapping[str, Any]) -> Any:
    given = dict(spec)
    name = given.pop("pacing")
    if not isinstance(name, str) or "name" in given:
        raise CurriculaError(f"{where}: expected {{'pacing': name, ...}}, got {dict(spec)!r}; known: {', '.join(names('pacing'))}")
    try:
        return build("pacing", {"name": name, **given})
    except CurriculaError as error:
        raise CurriculaError(f"{where}: {error}") from error
