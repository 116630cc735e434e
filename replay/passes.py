"""A recipe's way through a logged run: at every logged state, what it would have chosen, spent and kept.

The recipe's curriculum learns every logged group, as if it had watched the run. Before each decision of the log it is asked,
knowing what the run knew then:

- which prompts it would have chosen: the inclusion probability of every logged prompt in its own plan;
- what it believes of the logged prompts;
- what it would have spent on them, by its budget and stopping rules: it is given the logged rollouts of a group in random order,
  as many as it asks for, until it asks for no more. The rollouts of a group are exchangeable, so these are fair sub-groups;
- which of the groups so shortened it would have kept.

It learns from the whole logged groups, not from the shortened ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula import Curriculum
from curricula.curriculum import Prospect
from curricula.types import Bools, CurriculaError, Feedback, Floats, Ints, Outcome
from replay.decisions import Decision, decisions
from replay.estimators import expected_powers
from replay.spending import spend
from replay.types import LoggedRun

SMALL_POOL = 20_000  # prompts up to which the prediction for the recipe's whole plan is summed, not drawn
Advantages = Callable[[Outcome], Floats]  # (R,) as the run gave them to its curriculum
Ahead = Callable[[int], bool]  # did the run plan this step before it had learned from the one before it?


class Predicted(NamedTuple):
    """What a belief predicts of a measure."""

    of_G: Floats  # of the logged groups
    mean_D: Floats  # mean over the recipe's plan


@dataclass(frozen=True, eq=False)
class Pass:
    """What a recipe would have done. _G in the order of the run's groups, _D decisions of the log, _K distributions."""

    decision_G: Ints
    chance_G: Floats  # of the group's prompt to be in the recipe's plan
    believed_G: Floats  # pass rate, before the group came
    size_D: Floats  # groups in the recipe's plan
    share_DK: Floats  # of the recipe's plan, by distribution
    told_G: Bools  # are there as many logged rollouts as the recipe asks for? what follows is NaN or 0 where not
    rollouts_G: Ints  # that it would have spent on the group; where not told, at least that many
    tokens_G: Ints  # of those rollouts
    live_G: Bools  # does the shortened group have different scores?
    kept_G: Bools  # by its filter
    gradient_G: Ints  # rollouts that carry gradient
    n_rounds: int  # most allocation rounds that any group had
    unsupported: float | None  # share of its choices that the log could not make; None = not known
    power_D2: Floats | None  # (D, 2) what sums of squared and cubed weights come to on average; None = not known
    predicted: Mapping[str, Predicted]  # what the belief makes of a group of the decision's size: live, learnability


def never(step: int) -> bool:
    """A run that learns from every step before it plans the next."""
    return False


@dataclass(frozen=True)
class Terms:
    """How the run went on, and what is asked of the recipes."""

    ahead: Ahead = never
    advantages: Advantages | None = None
    own: Callable[[], Curriculum] | None = None  # a fresh curriculum of the run itself: it knows what the log could choose
    rollouts_per_group: int | None = None  # what a recipe may spend on average; None = what the log spent on the decision
    possible_only: bool = False  # let recipes choose only among what the log could have chosen at that decision
    confidence: float = 0.95


def walk(run: LoggedRun, curriculum: Curriculum, terms: Terms | None = None) -> Pass:
    """Take a fresh curriculum through a logged run.

    Errors: CurriculaError when the curriculum has another pool, the log no steps, or ``possible_only`` is asked of a log of which
    it is not known what it could choose.
    """
    terms = terms or Terms()
    if curriculum.pool is not run.pool and curriculum.pool.fingerprint != run.pool.fingerprint:
        raise CurriculaError(f"{run.source}: replay needs a curriculum of the log's own pool (LoggedRun.pool)")
    columns, logger = _Columns(run), _Logger(run, terms)
    waiting: list[Decision] = []  # learned from at the next step, or one later where the run planned ahead
    in_flight: list[Decision] = []
    step = -1
    for decision in decisions(run):
        if decision.step != step:
            due = in_flight
            in_flight = waiting if waiting and terms.ahead(decision.step) else []
            due = due if in_flight else [*due, *waiting]
            _learn(curriculum, due, terms.advantages)
            logger.learn(due)
            waiting, step = [], decision.step
        taken = [*in_flight, *waiting]
        exclude = np.concatenate([np.empty(0, np.int64), *(run.prompt_G[other.group_B] for other in taken)])
        columns.add(curriculum, decision, exclude, logger.chances(decision, exclude), terms)
        waiting.append(decision)
    return columns.done()


def _learn(curriculum: Curriculum, decided: list[Decision], advantages: Advantages | None) -> None:
    feedbacks = [
        Feedback(d.outcome, curriculum.judge(d.outcome), None if advantages is None else advantages(d.outcome)) for d in decided
    ]
    if feedbacks:
        curriculum.update(feedbacks)


class _Logger:
    """The run's own curriculum beside the log, where it is known and decides as logged."""

    def __init__(self, run: LoggedRun, terms: Terms) -> None:
        self._run, self._terms = run, terms
        self._own = terms.own() if terms.own else None

    def chances(self, decision: Decision, exclude: Ints) -> Floats | None:
        """(N,) how likely the log was to choose each prompt; None where that is not known."""
        if self._own is not None:
            chance_N = self._own.inclusion(decision.step, len(decision.group_B), decision.attempt, exclude)
            logged_B = self._run.propensity_G[decision.group_B]
            if np.allclose(chance_N[self._run.prompt_G[decision.group_B]], logged_B, rtol=1e-9, atol=0.0):
                return chance_N
            self._own = None  # a selector that draws candidates first, or a run that was stopped ahead of its weights
        if self._terms.possible_only:
            raise CurriculaError(
                f"{self._run.source}: step {decision.step}: what the log could choose is not known (the run's own recipe does not "
                "give its propensities again); replay without possible_only"
            )
        return None

    def learn(self, decided: list[Decision]) -> None:
        if self._own is not None:
            _learn(self._own, decided, self._terms.advantages)


class _Columns:
    """Gathers a pass, decision by decision."""

    def __init__(self, run: LoggedRun) -> None:
        self._run = run
        g = len(run)
        self._whole = {name: np.zeros(g, np.int64) for name in ("decision", "rollouts", "tokens", "gradient")}
        self._numbers = {name: np.full(g, np.nan) for name in ("chance", "believed", *PREDICTIONS)}
        self._flags = {name: np.zeros(g, np.bool_) for name in ("told", "live", "kept")}
        self._size_D: list[float] = []
        self._predicted_D: dict[str, list[float]] = {name: [] for name in PREDICTIONS}
        self._share_DK: list[Floats] = []
        self._rounds = 0
        self._lost: float | None = 0.0  # groups of its plans that the log could not choose
        self._power_D2: list[Floats] = []

    def add(self, curriculum: Curriculum, decision: Decision, exclude: Ints, logged_N: Floats | None, terms: Terms) -> None:
        selection, place = decision.outcome.plan.selection, decision.group_B
        n_groups, n_B = len(place), decision.outcome.plan.n_rollouts_B
        if terms.possible_only and logged_N is not None:
            exclude = np.flatnonzero(logged_N == 0)
        prospect = curriculum.prospect(decision.step, n_groups, decision.attempt, exclude)
        chance_N = prospect.chance_N
        size = float(chance_N.sum())
        if logged_N is None:
            self._lost = None
        elif self._lost is not None:
            self._lost += float(chance_N[logged_N == 0].sum())
            self._power_D2.append(expected_powers(chance_N, logged_N))
        share_K = np.bincount(curriculum.pool.distribution_N, weights=chance_N, minlength=curriculum.pool.n_distributions)
        n = round(float(n_B.mean()))
        rate_B = believed_rates(curriculum, selection.prompt_B)
        self._numbers["chance"][place] = chance_N[selection.prompt_B]
        self._numbers["believed"][place] = rate_B
        self._whole["decision"][place] = len(self._size_D)
        self._size_D.append(size)
        self._share_DK.append(share_K / max(size, 1e-12))
        rate, weight = _planned(curriculum, prospect)
        for name, predict in PREDICTIONS.items():
            self._numbers[name][place] = predict(rate_B, n)
            self._predicted_D[name].append(float(weight @ predict(rate, n) / weight.sum()) if len(rate) else np.nan)
        budget = n_groups * terms.rollouts_per_group if terms.rollouts_per_group else int(n_B.sum())
        spent = spend(curriculum, decision.outcome, budget)
        for name, value in (("told", spent.told_B), ("live", spent.live_B), ("kept", spent.kept_B)):
            self._flags[name][place] = value
        for name, count in (("rollouts", spent.rollouts_B), ("tokens", spent.tokens_B), ("gradient", spent.gradient_B)):
            self._whole[name][place] = count
        self._rounds = max(self._rounds, spent.rounds)

    def done(self) -> Pass:
        return Pass(
            decision_G=self._whole["decision"],
            chance_G=self._numbers["chance"],
            believed_G=self._numbers["believed"],
            size_D=np.array(self._size_D),
            share_DK=np.array(self._share_DK),
            told_G=self._flags["told"],
            rollouts_G=self._whole["rollouts"],
            tokens_G=self._whole["tokens"],
            live_G=self._flags["live"],
            kept_G=self._flags["kept"],
            gradient_G=self._whole["gradient"],
            n_rounds=self._rounds,
            unsupported=None if self._lost is None else self._lost / max(sum(self._size_D), 1e-12),
            power_D2=None if self._lost is None else np.array(self._power_D2),
            predicted={name: Predicted(self._numbers[name], np.array(self._predicted_D[name])) for name in PREDICTIONS},
        )


def live_chance(rate: Floats, n: int) -> Floats:
    """Chance that n rollouts at these pass rates are neither all right nor all wrong.

    >>> live_chance(np.array([0.0, 0.5]), 2)
    array([0. , 0.5])
    """
    return np.asarray(1.0 - rate**n - (1.0 - rate) ** n)


def learnability_of(rate: Floats, n: int) -> Floats:
    """4 p (1 - p), whatever the size."""
    return np.asarray(4.0 * rate * (1.0 - rate))


PREDICTIONS: Mapping[str, Callable[[Floats, int], Floats]] = {"live": live_chance, "learnability": learnability_of}


def _planned(curriculum: Curriculum, prospect: Prospect) -> tuple[Floats, Floats]:
    """Believed rates in the recipe's plan and their weights: of every prompt in a small pool, else of one drawn plan."""
    if len(prospect.chance_N) <= SMALL_POOL:
        prompt = np.flatnonzero(prospect.chance_N)
        return believed_rates(curriculum, prompt), prospect.chance_N[prompt]
    return believed_rates(curriculum, prospect.prompt_B), np.ones(len(prospect.prompt_B))


def believed_rates(curriculum: Curriculum, prompt: Ints) -> Floats:
    """(B,) believed pass rates; NaN where the belief knows nothing at all, not even a prior."""
    estimate = curriculum.estimate(prompt)
    total = estimate.alpha_B + estimate.beta_B
    rate_B: Floats = np.divide(estimate.alpha_B, total, out=np.full(len(prompt), np.nan), where=total > 0)
    return rate_B
