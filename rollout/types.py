"""What passes between the dispatcher, the engines, the verifiers and the log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curricula.types import Bools, CurriculaError, Cuts, Floats, Outcome, RolloutPlan, Status, Verdict, frozen_array


class FinishReason(StrEnum):
    """Why a completion ends."""

    STOP = "stop"  # end-of-sequence token or a stop string
    LENGTH = "length"  # max_tokens reached
    CANCELLED = "cancelled"


class EngineDied(RuntimeError):
    """The engine's process is gone or answers no more; its open tickets have to go elsewhere."""


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn. The learner divides its logits by the same temperature."""

    temperature: float = 1.0  # 0 = greedy
    top_p: float = 1.0
    max_tokens: int = 256  # per completion
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise CurriculaError(f"sampling.temperature: expected >= 0, got {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise CurriculaError(f"sampling.top_p: expected (0, 1], got {self.top_p}")
        if self.max_tokens < 1:
            raise CurriculaError(f"sampling.max_tokens: expected >= 1, got {self.max_tokens}")


@dataclass(frozen=True, order=True)
class Ticket:
    """Names one request for ever: the same ticket is issued again when an engine dies, and counted once."""

    group: int  # group id of the plan (evaluation and probe groups are negative)
    round: int = 0  # allocation round
    part: int = 0  # large groups are split over engines
    turn: int = 0  # 0 = the prompt alone; later ones go on with one completion of the part, after a wrong answer
    place: int = 0  # of that completion in its part; 0 in turn 0, but for summaries
    cut: int = 0  # of the summaries behind one completion's cuts, counted from 1; 0 = no summary


@dataclass(frozen=True, eq=False)
class Request:
    """n completions of one prompt."""

    ticket: Ticket
    prompt_ids: tuple[int, ...]
    n: int
    sampling: Sampling
    seed: int  # of this request alone: draws do not depend on what else is in the engine
    prompt_key: str = ""  # prompt id; the simulated engine answers by it
    max_turns: int = 1  # answers that each of the completions may give, the first included
    cuts: Cuts = Cuts()  # where each of the completions is summed up


@dataclass(frozen=True, eq=False)
class Completion:
    """One finished completion: what the model drew, and what it was fed between its turns."""

    token_ids: NDArray[np.int32]  # (T,) including the end-of-sequence token where one was drawn
    logprob_T: NDArray[np.float32]  # (T,) log-probability of each drawn token under the sampling distribution; 0 for fed ones
    text: str  # without special tokens
    finish: FinishReason
    drawn_T: Bools | None = None  # which tokens the model drew; None = all
    n_turns: int = 1  # answers given

    @property
    def n_drawn(self) -> int:
        """Tokens that the model drew."""
        return len(self.token_ids) if self.drawn_T is None else int(np.count_nonzero(self.drawn_T))


@dataclass(frozen=True, eq=False)
class Answer:
    """All completions of one request."""

    ticket: Ticket
    completions: list[Completion]
    policy_version: int  # version of the weights when the request entered the engine (the oldest that it saw)
    engine: str
    seconds: float


@dataclass(frozen=True, eq=False)
class Judged:
    """A completion with what the verifier said."""

    completion: Completion
    status: Status
    reward: float  # NaN where the status is not OK
    policy_version: int
    engine: str = ""
    detail: str = ""  # the verifier's error, first line
    seconds: float = float("nan")  # from the request to the engine's answer, all turns together; NaN = unknown
    summaries: Mapping[int, tuple[Judged, ...]] = field(default_factory=dict)  # by number of the cut; only where it was passed
    cut_score_S: Floats | None = None  # (S,) score in [0, 1] at each cut (see `Outcome`); None = no cuts, or no reward


@dataclass(frozen=True, eq=False)
class Weights:
    """A learner's weights on their way to the engines: references to chunks that an engine reads one after another."""

    version: int
    chunks: list[Any] = field(default_factory=list)  # each: dict name -> numpy array, or a Ray reference to one


@dataclass(frozen=True, eq=False)
class Attempt:
    """One plan and all that came of it. Rollout r of the outcome is the r-th completion of ``judged_B``, read group by group."""

    plan: RolloutPlan
    judged_B: list[list[Judged]]
    outcome: Outcome
    verdict: Verdict
    shaped_R: Floats = field(default=None)  # type: ignore[arg-type]  # (R,) what advantages are made of; the raw reward by default
    greedy_B: list[Judged | None] = field(default=None)  # type: ignore[arg-type]  # (B,) greedy completions; none by default
    baseline_B: Floats = field(default=None)  # type: ignore[arg-type]  # (B,) their shaped rewards, NaN = none; raw ones by default
    credit_RS: Floats = field(default=None)  # type: ignore[arg-type]  # (R, S) advantages between the plan's cuts; (R, 0), none, by default

    def __post_init__(self) -> None:
        if self.credit_RS is None:
            object.__setattr__(self, "credit_RS", np.zeros((len(self.outcome.reward_R), 0)))
        baseline_B = self.outcome.baseline_B if self.baseline_B is None else self.baseline_B
        object.__setattr__(self, "baseline_B", frozen_array(baseline_B, np.float64, "baseline_B", len(self.plan)))
        if self.greedy_B is None:
            object.__setattr__(self, "greedy_B", [None] * len(self.plan))
        reward_R = self.outcome.reward_R
        shaped_R = reward_R if self.shaped_R is None else self.shaped_R
        object.__setattr__(self, "shaped_R", frozen_array(shaped_R, np.float64, "shaped_R", len(reward_R)))

    @property
    def summaries(self) -> list[Judged]:
        """Behind the cuts of all its rollouts."""
        return [one for group in self.judged_B for judged in group for behind in judged.summaries.values() for one in behind]
