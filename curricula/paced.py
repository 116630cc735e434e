"""Policies whose numbers change while training: any number among the parameters of any policy can follow a pacing.

In a recipe the number is written as a mapping: ``{"name": "difficulty_band", "low": {"pacing": "linear", "first": 0.4, "last": 0.2,
"steps": 200}}``. State never depends on a paced number: it is made with the value that the policy has without the pacing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from curricula.growth import carried_state
from curricula.registry import kind_of
from curricula.stages import Believed, Pacing, Quota, baselines_of, credit_of, cuts_of, stated_tokens_of, turns_of
from curricula.types import Bools, CurriculaError, Cuts, Estimate, Feedback, Floats, Ints, Outcome, PromptPool, Selection, Verdict


class Clock(NamedTuple):
    """State of a pacing that follows the steps: how many were learned from."""

    n_steps: Ints  # () the newest step learned from, plus one


class Clocked:
    """Base of pacings that follow the steps."""

    def init(self, pool: PromptPool) -> Clock:
        return Clock(np.array(0, np.int64))

    def update(self, state: Clock, pool: PromptPool, feedback: Feedback) -> Clock:
        return Clock(np.maximum(state.n_steps, feedback.plan.step + 1))


def share_done(state: Clock, steps: int) -> float:
    """min(1, n / steps)."""
    return min(1.0, float(state.n_steps) / steps)


class Tally(NamedTuple):
    """State of a pacing that follows results: where it stood before the newest step, and what that step has shown so far."""

    settled: Floats  # (S,) after all steps but the newest; the first entry is the value
    step: Ints  # () newest step learned from; -1 before the first
    total: Floats  # () sum of what is measured in it
    n: Ints  # () how many rollouts or groups that are


class Moving(ABC):
    """Base of pacings that follow results: once per step they move by the mean of something measured in it.

    Results of the newest step may come in any number of parcels; they count as one step. Results of older steps come too late.
    """

    @abstractmethod
    def start(self) -> Floats:
        """(S,) value, and whatever else is remembered."""

    @abstractmethod
    def measure(self, outcome: Outcome) -> tuple[float, int]:
        """Sum and number of what is measured."""

    @abstractmethod
    def moved(self, settled: Floats, mean: float) -> Floats:
        """(S,) after a step with this mean."""

    def init(self, pool: PromptPool) -> Tally:
        return Tally(self.start(), np.array(-1, np.int64), np.array(0.0), np.array(0, np.int64))

    def update(self, state: Tally, pool: PromptPool, feedback: Feedback) -> Tally:
        step = feedback.plan.step
        if step < state.step:
            return state
        if step > state.step:
            state = Tally(self._now(state), np.array(step, np.int64), np.array(0.0), np.array(0, np.int64))
        total, n = self.measure(feedback.outcome)
        return state._replace(total=np.asarray(state.total + total), n=np.asarray(state.n + n))

    def value(self, state: Tally) -> float:
        return float(self._now(state)[0])

    def _now(self, state: Tally) -> Floats:
        return self.moved(state.settled, float(state.total) / int(state.n)) if state.n else state.settled


class PacedState(NamedTuple):
    """The policy's own state, and that of every pacing."""

    policy: Any
    pacings: tuple[Any, ...]


@dataclass(frozen=True)
class Paced:
    """A policy of any stage whose named numbers follow pacings; it has the verbs of the policy that it wraps."""

    policy: Any
    pacings: tuple[tuple[str, Pacing], ...]

    @property
    def follows_rows(self) -> bool:
        return bool(getattr(self.policy, "follows_rows", False))

    @property
    def conditional_propensity(self) -> bool:
        return bool(getattr(self.policy, "conditional_propensity", False))

    def init(self, pool: PromptPool) -> PacedState:
        state = PacedState(self.policy.init(pool), tuple(pacing.init(pool) for _, pacing in self.pacings))
        self.now(state)  # a first value that the policy refuses is said now, not in mid-run
        return state

    def carry(self, state: PacedState, old: PromptPool, new: PromptPool) -> PacedState:
        pacings = (carried_state(p, s, old, new) for (_, p), s in zip(self.pacings, state.pacings, strict=True))
        return PacedState(carried_state(self.policy, state.policy, old, new), tuple(pacings))

    def update(self, state: PacedState, pool: PromptPool, feedback: Feedback) -> PacedState:
        learned = self.now(state).update(state.policy, pool, feedback)
        paced = (p.update(s, pool, feedback) for (_, p), s in zip(self.pacings, state.pacings, strict=True))
        return PacedState(learned, tuple(paced))

    def now(self, state: PacedState) -> Any:
        """The policy with the values of this moment."""
        values = {key: pacing.value(s) for (key, pacing), s in zip(self.pacings, state.pacings, strict=True)}
        values = {key: self._as_declared(key, value) for key, value in values.items()}
        try:
            return replace(self.policy, **values)
        except CurriculaError as error:
            now = ", ".join(f"{key}={value}" for key, value in values.items())
            raise CurriculaError(f"{error}; a pacing led there (now {now})") from error

    def _as_declared(self, key: str, value: float) -> float | int:
        return round(value) if kind_of(type(self.policy), key) is int else float(value)

    # -- the verbs --------------------------------------------------------------------------------------------------------------

    def estimate(self, state: PacedState, pool: PromptPool, prompt_B: Ints) -> Estimate:
        return self.now(state).estimate(state.policy, pool, prompt_B)  # type: ignore[no-any-return]

    def probabilities(self, state: PacedState, pool: PromptPool) -> Floats:
        return self.now(state).probabilities(state.policy, pool)  # type: ignore[no-any-return]

    def select(self, state: PacedState, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection:
        return self.now(state).select(state.policy, pool, quota, believed, rng)  # type: ignore[no-any-return]

    def allocate(self, state: PacedState, pool: PromptPool, selection: Selection, estimate: Estimate, n_rollouts: int) -> Ints:
        return self.now(state).allocate(state.policy, pool, selection, estimate, n_rollouts)  # type: ignore[no-any-return]

    def extend(self, state: PacedState, pool: PromptPool, outcome: Outcome, estimate: Estimate) -> Ints | None:
        return self.now(state).extend(state.policy, pool, outcome, estimate)  # type: ignore[no-any-return]

    def baselines(self, state: PacedState, pool: PromptPool, selection: Selection, n_B: Ints) -> Bools:
        return baselines_of(self.now(state), state.policy, pool, selection, n_B)

    def shape(self, state: PacedState, pool: PromptPool, outcome: Outcome) -> Floats:
        return self.now(state).shape(state.policy, pool, outcome)  # type: ignore[no-any-return]

    def limit(self, state: PacedState, pool: PromptPool, prompt_B: Ints) -> Ints:
        return self.now(state).limit(state.policy, pool, prompt_B)  # type: ignore[no-any-return]

    def turns(self, state: PacedState, pool: PromptPool, prompt_B: Ints, rng: np.random.Generator) -> Ints:
        return turns_of(self.now(state), state.policy, pool, prompt_B, rng)

    def stated_tokens(self, state: PacedState, pool: PromptPool, prompt_B: Ints) -> Ints:
        return stated_tokens_of(self.now(state), state.policy, pool, prompt_B)

    def cuts(self, state: PacedState) -> Cuts:
        return cuts_of(self.now(state), state.policy)

    def credit(self, state: PacedState, pool: PromptPool, outcome: Outcome, peers_R: Bools) -> Floats:
        return credit_of(self.now(state), state.policy, pool, outcome, peers_R)

    def judge(self, state: PacedState, pool: PromptPool, outcome: Outcome) -> Verdict:
        return self.now(state).judge(state.policy, pool, outcome)  # type: ignore[no-any-return]

    def thin(self, state: PacedState, pool: PromptPool, outcome: Outcome, verdict: Verdict) -> Verdict:
        return self.now(state).thin(state.policy, pool, outcome, verdict)  # type: ignore[no-any-return]
