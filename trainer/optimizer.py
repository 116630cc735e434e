"""Optimisers by name: what ``learner.optimizer`` of a recipe means, and how the learner drives it.

A choice is a frozen dataclass of the optimiser's own settings, in a file of its own in trainer/optimizers, where it registers
itself; the whole folder is imported, so no list is edited to add one. Betas and weight decay are the learner's. Nothing here loads
torch before an optimiser is built: a recipe can be checked without it.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from curricula.types import CurriculaError, known_or_raise
from trainer.registry import Registry

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainer.settings import LearnerSettings

Tensors = Mapping[str, "Tensor"]  # by name of parameter
Share = Callable[["Tensor", "Tensor"], "Tensor"]  # this rank's part of a whole tensor, laid out like another one


class Saved(NamedTuple):
    """An optimiser's state: tensors under ``KEY/NAME``, where NAME is a parameter's or the optimiser's own, and plain numbers."""

    tensors: dict[str, Tensor]
    numbers: dict[str, float]


class Optimizer(Protocol):
    """Moves master weights by their gradients."""

    averages: bool  # evaluates and ships other weights than those that rollouts are drawn from

    def step(self, lr: float, loss: float) -> None: ...
    def zero_grad(self) -> None: ...

    def metrics(self) -> dict[str, float]:
        """What the newest step's rate was made of, for the log."""
        ...

    def releasing(self) -> AbstractContextManager[None]:
        """Within it the masters are the weights to evaluate and to ship; after it they are what they were, to the last bit."""
        ...

    def state(self) -> Saved: ...
    def load(self, saved: Saved, version: int, share: Share) -> None: ...


@dataclass(frozen=True)
class Fit:
    """Where an optimiser makes sense."""

    schedules: tuple[str, ...] = ()  # none named: any
    peak: tuple[float, float] | None = None  # where the rate is a factor on a step size that the optimiser finds itself
    warmup: bool = True
    ranks: bool = True  # the state can be spread over ranks
    why: str = ""  # of the limits above
    not_grpo: str = ""  # why a GRPO run cannot use it; then it is for other loops


class Choice(ABC):
    """Base of the choices."""

    package: ClassVar[str] = ""  # of the extra `optimizers`, if not torch's own
    fit: ClassVar[Fit] = Fit()

    @abstractmethod
    def build(self, masters: Tensors, settings: LearnerSettings) -> Optimizer:
        """Errors: CurriculaError when the package is missing."""


OPTIMIZERS = Registry("trainer.optimizers")
register = OPTIMIZERS.register


def known_optimizers() -> tuple[str, ...]:
    """Names, sorted."""
    return OPTIMIZERS.known()


def chosen(mapping: Mapping[str, Any]) -> Choice:
    """The optimiser of a recipe: ``{name: prodigy, d_coef: 0.5}``.

    Errors: CurriculaError for unknown names and keys, and values of another kind than the defaults.
    """
    given = dict(mapping)
    name = given.pop("name", None)
    known_or_raise("learner.optimizer", str(name), known_optimizers())
    defaults = {field.name: field.default for field in fields(OPTIMIZERS[str(name)])}
    for key, value in given.items():
        known_or_raise(f"key of learner.optimizer {name!r}", str(key), list(defaults))
        kind = type(defaults[key])
        if type(value) is not kind and not (kind is float and type(value) is int):
            raise CurriculaError(f"learner.optimizer.{key}: expected {_KINDS[kind]}, got {value!r}")
    choice: Choice = OPTIMIZERS[str(name)](**given)
    return choice


def check_optimizer(settings: LearnerSettings, schedule: Mapping[str, Any]) -> None:
    """CurriculaError where a GRPO run cannot use the recipe's optimiser, or not with this schedule or on so many ranks."""
    name, fit = settings.optimizer.get("name"), chosen(settings.optimizer).fit
    if fit.not_grpo:
        raise CurriculaError(f"learner.optimizer {name!r} is not for GRPO: {fit.not_grpo}")
    peak, warmup = schedule.get("peak", 0.0), schedule.get("warmup", 0)
    if fit.schedules and schedule["name"] not in fit.schedules:
        raise CurriculaError(f"schedule.name: {name} wants {' or '.join(fit.schedules)}, got {schedule['name']!r}: {fit.why}")
    if fit.peak and not fit.peak[0] <= peak <= fit.peak[1]:
        wanted = " to ".join(f"{limit:g}" for limit in dict.fromkeys(fit.peak))
        raise CurriculaError(f"schedule.peak: {name} wants {wanted}, got {peak:g}: {fit.why}")
    if not fit.warmup and warmup:
        raise CurriculaError(f"schedule.warmup: {name} wants none, got {warmup:g}: {fit.why}")
    if not fit.ranks and settings.n_ranks > 1:
        raise CurriculaError(
            f"learner.n_ranks: {name} works on one rank, got {settings.n_ranks}: it needs sums over whole tensors, and its package "
            "cannot take them over shards; use another learner.optimizer"
        )


def check_installed(settings: LearnerSettings) -> None:
    """CurriculaError where the optimiser's package is missing on this machine."""
    if package := chosen(settings.optimizer).package:
        needed(package)


def needed(package: str) -> Any:
    """The module of a package of the extra ``optimizers``."""
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise CurriculaError(
            f"learner.optimizer: the package {package} cannot be imported ({error}); pip install 'rl-curricula[optimizers]'"
        ) from error


class Driven:
    """Torch optimisers with one parameter group each, over masters or over the tensors inside them.

    ``keys`` are the tensors that they keep for a parameter, ``numbers`` what they keep in their group, ``count`` what they keep of
    the number of updates.
    """

    averages = False

    def __init__(
        self,
        masters: Tensors,
        optimizers: Sequence[torch.optim.Optimizer],
        keys: Sequence[str],
        numbers: Sequence[str] = (),
        count: Callable[[int, Tensor], dict[str, Any]] = lambda version, part: {},
        parts: Tensors | None = None,
    ) -> None:
        self._masters, self._parts = masters, masters if parts is None else parts
        self._optimizers, self._keys, self._numbers, self._count = tuple(optimizers), keys, numbers, count
        self._state_of = {id(part): one.state for one in optimizers for part in one.param_groups[0]["params"]}

    def step(self, lr: float, loss: float) -> None:
        self._hand_over()
        for optimizer in self._optimizers:
            optimizer.param_groups[0]["lr"] = lr
            self._move(optimizer, loss)

    def _move(self, optimizer: torch.optim.Optimizer, loss: float) -> None:
        optimizer.step()

    def _hand_over(self) -> None:
        """Gradients of the masters, where the optimisers work on the tensors inside."""
        for name, master in self._masters.items():
            if (part := self._parts[name]) is not master:
                part.grad = None if master.grad is None else inside(master.grad)

    def zero_grad(self) -> None:
        for tensor in (*self._masters.values(), *self._parts.values()):
            tensor.grad = None

    def metrics(self) -> dict[str, float]:
        return {}

    @contextmanager
    def releasing(self) -> Iterator[None]:
        if not self.averages:
            yield
            return
        before = {name: inside(part).to("cpu", copy=True) for name, part in self._parts.items()}
        try:
            self._go_to_average()
            yield
        finally:  # what was there, not what a way back would compute: that differs in the last bits
            for name, part in self._parts.items():
                inside(part).copy_(before[name])
            self._come_back()

    def _go_to_average(self) -> None:
        """Put the weights to release where the masters are."""

    def _come_back(self) -> None:
        """After the masters are what they were."""

    def state(self) -> Saved:
        tensors = {
            f"{key}/{name}": state[key]
            for name, part in self._parts.items()
            for state in (self._state_of[id(part)].get(part, {}),)
            for key in self._keys
            if key in state
        }
        return Saved(tensors, {key: group[key] for group in self._groups() for key in self._numbers})

    def load(self, saved: Saved, version: int, share: Share) -> None:
        for name, part in self._parts.items():
            self._state_of[id(part)].pop(part, None)  # of updates that the saved state has not seen
            kept = {key: share(saved.tensors[f"{key}/{name}"], part) for key in self._keys if f"{key}/{name}" in saved.tensors}
            if kept:
                self._state_of[id(part)][part] = {**self._count(version, part), **kept}
        for group in self._groups():
            group.update({key: saved.numbers[key] for key in self._numbers})

    def _groups(self) -> list[dict[str, Any]]:
        return [optimizer.param_groups[0] for optimizer in self._optimizers]


def inside(tensor: Tensor) -> Tensor:
    """A tensor that shares its memory and is not sharded: this rank's part, which is the whole where there is one rank."""
    flat = tensor.detach()
    local: Tensor = flat.to_local() if hasattr(flat, "to_local") else flat
    return local


def whole_parts(masters: Tensors) -> dict[str, Tensor]:
    """The tensors inside the masters, for packages that know nothing of shards; plain masters stay what they are."""
    return {name: inside(master) if hasattr(master, "to_local") else master for name, master in masters.items()}


_KINDS: dict[type, str] = {float: "a number", int: "a whole number", bool: "true or false"}
