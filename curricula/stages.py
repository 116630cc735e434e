"""The decisions of a step as protocols, and the record that holds one policy for each.

A policy is a frozen dataclass of hyper-parameters; its state is a NamedTuple of arrays that the `Curriculum` owns.
Deciding is pure. ``update`` may reuse the arrays of the state it is given, so learning costs O(batch), not O(pool).
Randomness comes in as a generator that is seeded by (seed, step, attempt, round, stage); no policy keeps one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from curricula.types import Bools, Cuts, Estimate, Feedback, Floats, Ints, Outcome, PromptPool, Selection, Verdict


class NoState(NamedTuple):
    """State of a policy that learns nothing."""


class Stateless:
    """Base of policies that learn nothing."""

    def init(self, pool: PromptPool) -> NoState:
        return NoState()

    def update(self, state: Any, pool: PromptPool, feedback: Feedback) -> Any:
        return state


class Unlimited:
    """Base of shaping policies that leave the length of completions to the recipe."""

    def limit(self, state: Any, pool: PromptPool, prompt_B: Ints) -> Ints:
        return np.zeros(len(prompt_B), dtype=np.int64)


Tell = Callable[[Ints, Floats], None]  # prompts, and how likely each of them is to be chosen


@dataclass(frozen=True, eq=False)
class Quota:
    """How many prompts of each distribution a plan takes (see `curricula.draws.draw_quota`).

    A selector tells ``tell``, where there is one, the inclusion probabilities that it goes by, of chosen and other prompts alike;
    each prompt once at most. Where it draws something first (candidates, a posterior), they are those after that draw; so may the
    propensities of its selection be, which nobody reads then.
    """

    drawn_K: Ints  # (K,) this time: floor or ceil of the expectation, at most available_K
    expected_K: Floats  # (K,) expectation over the draw
    blocked_N: Bools  # (N,) prompts that may not be chosen (already in flight in this step)
    tell: Tell | None = None  # who wants to know the chances of prompts that are not drawn; see `Curriculum.inclusion`

    @property
    def asked_K(self) -> Bools:
        """(K,) distributions that a selector has to look at: those that give a prompt; where chances are told, all that might."""
        asked: Bools = self.drawn_K > 0 if self.tell is None else self.expected_K > 0
        return asked


def baselines_of(budget: Any, state: Any, pool: PromptPool, selection: Selection, n_B: Ints) -> Bools:
    """(B,) groups that get one greedy completion besides their ``n_B`` rollouts.

    Budget policies say so by a method ``baselines``, which they may leave out: then no group gets one.
    """
    if not hasattr(budget, "baselines"):
        return np.zeros(len(selection), dtype=np.bool_)
    asked_B: Bools = budget.baselines(state, pool, selection, n_B)
    return asked_B


def turns_of(shaping: Any, state: Any, pool: PromptPool, prompt_B: Ints, rng: np.random.Generator) -> Ints:
    """(B,) answers that each rollout of a group may give, the first included: after a wrong one it is told so and goes on.

    Shaping policies say so by a method ``turns``, which they may leave out: then every rollout has one.
    """
    if not hasattr(shaping, "turns"):
        return np.ones(len(prompt_B), dtype=np.int64)
    asked_B: Ints = shaping.turns(state, pool, prompt_B, rng)
    return asked_B


def stated_tokens_of(shaping: Any, state: Any, pool: PromptPool, prompt_B: Ints) -> Ints:
    """(B,) token budget that the prompt of a group should state; 0 = none.

    Shaping policies say so by a method ``stated_tokens``, which they may leave out: then no prompt states one.
    """
    if not hasattr(shaping, "stated_tokens"):
        return np.zeros(len(prompt_B), dtype=np.int64)
    stated_B: Ints = shaping.stated_tokens(state, pool, prompt_B)
    return stated_B


def cuts_of(shaping: Any, state: Any) -> Cuts:
    """Where the completions of a plan are cut short and summed up, so that an outcome has a score at every cut.

    Shaping policies say so by a method ``cuts(state)``, which they may leave out: then nowhere.
    """
    asked: Cuts = shaping.cuts(state) if hasattr(shaping, "cuts") else Cuts()
    return asked


def credit_of(shaping: Any, state: Any, pool: PromptPool, outcome: Outcome, peers_R: Bools) -> Floats:
    """(R, S) advantage of the tokens before each cut and behind the one before it; ``peers_R`` are the rollouts to compare with.

    Shaping policies with cuts say so by a method ``credit``, which they may leave out: then (R, 0), and all tokens of a completion
    have the advantage that the learner makes of its shaped reward.
    """
    if not hasattr(shaping, "credit"):
        return np.zeros((len(outcome.group_R), 0))
    given_RS: Floats = shaping.credit(state, pool, outcome, peers_R)
    return given_RS


Believed = Callable[[Ints], Estimate]  # the belief, bound to its state: prompts (rows of the pool) -> estimate


class Policy(Protocol):
    """What every policy has: a fresh state, and a way to learn."""

    def init(self, pool: PromptPool) -> Any: ...
    def update(self, state: Any, pool: PromptPool, feedback: Feedback) -> Any: ...


class Belief(Policy, Protocol):
    """What is the pass rate of these prompts, and how sure are we?"""

    def estimate(self, state: Any, pool: PromptPool, prompt_B: Ints) -> Estimate: ...


class Distribution(Policy, Protocol):
    """How much of the step does each distribution get? (K,) positive, sums to 1."""

    def probabilities(self, state: Any, pool: PromptPool) -> Floats: ...


class Selector(Policy, Protocol):
    """Which prompts inside the distributions, with which exact inclusion propensity?"""

    def select(self, state: Any, pool: PromptPool, quota: Quota, believed: Believed, rng: np.random.Generator) -> Selection: ...


class Budget(Policy, Protocol):
    """How many rollouts for whom? (B,) each 0 or >= 2; the sum is at most ``n_rollouts``, greedy completions included.

    A method ``baselines(state, pool, selection, n_B)`` may ask for greedy completions, see `baselines_of`. `extend` asks for none.
    """

    def allocate(self, state: Any, pool: PromptPool, selection: Selection, estimate: Estimate, n_rollouts: int) -> Ints: ...

    def extend(self, state: Any, pool: PromptPool, outcome: Outcome, estimate: Estimate) -> Ints | None:
        """(B,) rollouts of one more allocation round, or None when the attempt is complete."""
        ...


class Shaping(Policy, Protocol):
    """What reward does a finished rollout get, and how long may it be? Beliefs, filters and bandits go on reading raw rewards.

    Methods that may be left out: ``turns`` (see `turns_of`), ``cuts`` and ``credit`` (see `cuts_of`, `credit_of`).
    """

    def shape(self, state: Any, pool: PromptPool, outcome: Outcome) -> Floats:
        """(R,) the reward that advantages are made of; NaN where the rollout has none."""
        ...

    def limit(self, state: Any, pool: PromptPool, prompt_B: Ints) -> Ints:
        """(B,) most completion tokens; 0 = as the recipe says."""
        ...


class Filter(Policy, Protocol):
    """Which groups enter the update, and are the others replaced?"""

    def judge(self, state: Any, pool: PromptPool, outcome: Outcome) -> Verdict: ...


class Downsampling(Policy, Protocol):
    """Which rollouts of the kept groups carry gradient? The verdict again, with fewer of them."""

    def thin(self, state: Any, pool: PromptPool, outcome: Outcome, verdict: Verdict) -> Verdict: ...


class Pacing(Policy, Protocol):
    """What value has this scalar now? Any number among a policy's parameters can follow one (see `curricula.paced`)."""

    def value(self, state: Any) -> float: ...


@dataclass(frozen=True)
class Stages:
    """One policy per decision; a field per stage, so a wrong order cannot be written."""

    belief: Belief
    distribution: Distribution
    selector: Selector
    budget: Budget
    shaping: Shaping
    filter: Filter
    downsampling: Downsampling
