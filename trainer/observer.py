"""What a run tells about itself while it goes: the records, and the protocol of whoever listens.

The log, TensorBoard, the progress display and the report share these records. Listeners never change a run: one that fails is
reported once and left out from then on.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Protocol


@dataclass(frozen=True)
class StepRecord:
    """One step in numbers. Rewards are raw; pass rates and accuracy are rewards mapped to [0, 1], over rollouts with a reward."""

    step: int
    n_steps: int  # of the whole run
    reward_mean: float  # over all rollouts generated in the step, rejected groups included
    accuracy: float  # the same rollouts, mapped to [0, 1]
    live_group_share: float  # of generated groups: rewards differ, so there is a signal
    kept_groups: int  # that entered the update
    generated_groups: int
    n_rollouts: int
    n_tokens_generated: int  # completion tokens
    n_tokens_trained: int  # completion tokens that carried loss
    lr: float
    probability: dict[str, float]  # of each distribution, at the first plan of the step
    pass_rate: dict[str, float]  # by distribution; NaN = not drawn in this step
    reward: dict[str, float] = field(default_factory=dict)  # raw, by distribution
    reasons: dict[str, int] = field(default_factory=dict)  # groups by the filter's reason, lower case
    statuses: dict[str, int] = field(default_factory=dict)  # rollouts by status, lower case
    n_rollouts_B: tuple[int, ...] = ()  # rollouts of each generated group
    pass_rate_B: tuple[float, ...] = ()  # of each generated group, same order
    seconds: float = math.nan  # wall time of the step
    phase_seconds: dict[str, float] = field(default_factory=dict)  # time by phase; phases may overlap
    loss: float = math.nan
    grad_norm: float = math.nan
    metrics: dict[str, float] = field(default_factory=dict)  # the learner's and the curriculum's

    @property
    def n_updates(self) -> int:
        """Optimiser updates: as many as the learner says; where it says nothing, one if there is a loss."""
        return int(self.metrics.get("updates", 0.0 if math.isnan(self.loss) else 1.0))


@dataclass(frozen=True)
class DistributionScore:
    """Held-out accuracy in one distribution."""

    greedy: float
    sampled: float  # average of k at the training temperature
    standard_error: float  # of ``sampled``, over prompts
    n_prompts: int
    greedy_standard_error: float = math.nan  # of ``greedy``, over prompts


@dataclass(frozen=True)
class EvaluationResult:
    """Held-out accuracy by distribution, after ``step`` updates."""

    step: int
    scores: dict[str, DistributionScore]

    @property
    def sampled(self) -> float:
        """Mean over distributions."""
        return _mean([score.sampled for score in self.scores.values()])

    @property
    def greedy(self) -> float:
        """Mean over distributions."""
        return _mean([score.greedy for score in self.scores.values()])

    @property
    def standard_error(self) -> float:
        """Of ``sampled``: prompts of different distributions are independent draws."""
        return _error_of_mean([score.standard_error for score in self.scores.values()])

    @property
    def greedy_standard_error(self) -> float:
        """Of ``greedy``."""
        return _error_of_mean([score.greedy_standard_error for score in self.scores.values()])


@dataclass(frozen=True)
class RunSummary:
    """How a run ended."""

    folder: str
    n_steps: int  # done in all, those before a resume included
    seconds: float  # of this process
    evaluations: list[EvaluationResult]  # of this process, in order
    stopped_early: bool  # asked to stop (SIGTERM, SIGINT) before the last step


def to_dict(record: StepRecord | EvaluationResult) -> dict[str, Any]:
    """A record as the log keeps it."""
    return asdict(record)


def read_step(data: Mapping[str, Any]) -> StepRecord:
    """A step record from the log, which keeps more beside it."""
    return StepRecord(**_own_fields(StepRecord, data))


def read_evaluation(data: Mapping[str, Any]) -> EvaluationResult:
    """An evaluation from the log."""
    scores = {name: DistributionScore(**_own_fields(DistributionScore, score)) for name, score in data["scores"].items()}
    return EvaluationResult(int(data["step"]), scores)


class Observer(Protocol):
    """Listens to a run. Calls come from the loop's thread, in order; they should return at once.

    ``facts`` holds the recipe, the run's folder and the first step.
    """

    def on_start(self, facts: Mapping[str, Any]) -> None: ...

    def on_phase(self, name: str) -> None: ...

    def on_step(self, record: StepRecord) -> None: ...

    def on_evaluation(self, result: EvaluationResult) -> None: ...

    def on_end(self, summary: RunSummary) -> None: ...


class Silent:
    """An observer that ignores everything; base of those that listen to a part."""

    def on_start(self, facts: Mapping[str, Any]) -> None:
        """Called once, before the first step."""

    def on_phase(self, name: str) -> None:
        """A phase of the step begins."""

    def on_step(self, record: StepRecord) -> None:
        """A step is complete."""

    def on_evaluation(self, result: EvaluationResult) -> None:
        """Held-out prompts were measured."""

    def on_end(self, summary: RunSummary) -> None:
        """The run is over, or was asked to stop."""


class Observers:
    """Several observers as one."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)

    def on_start(self, facts: Mapping[str, Any]) -> None:
        self._tell(lambda observer: observer.on_start(facts))

    def on_phase(self, name: str) -> None:
        self._tell(lambda observer: observer.on_phase(name))

    def on_step(self, record: StepRecord) -> None:
        self._tell(lambda observer: observer.on_step(record))

    def on_evaluation(self, result: EvaluationResult) -> None:
        self._tell(lambda observer: observer.on_evaluation(result))

    def on_end(self, summary: RunSummary) -> None:
        self._tell(lambda observer: observer.on_end(summary))

    def _tell(self, call: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            try:
                call(observer)
            except Exception as error:  # noqa: BLE001 - the run's edge: a display must not stop hours of training
                self._observers.remove(observer)
                warnings.warn(
                    f"{type(observer).__name__} failed and is left out from now on: {error!r}", RuntimeWarning, stacklevel=3
                )


def _own_fields(cls: type, data: Mapping[str, Any]) -> dict[str, Any]:
    names = {f.name: f.type for f in fields(cls)}
    return {key: _as_declared(names[key], value) for key, value in data.items() if key in names}


def _as_declared(declared: Any, value: Any) -> Any:
    """The log's JSON has no tuples, writes NaN as null and infinities as text."""
    kind = str(declared)
    if kind.startswith("tuple"):
        return tuple(_number(entry) for entry in value)
    if kind.startswith("dict"):
        return {key: _number(entry) for key, entry in value.items()}
    return _number(value)


def _number(value: Any) -> Any:
    if value is None:
        return math.nan
    return float(value) if isinstance(value, str) else value


def _error_of_mean(errors: Sequence[float]) -> float:
    return math.sqrt(sum(error**2 for error in errors)) / len(errors) if errors else math.nan


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
