"""One recipe, one seed, one budget: a real `Curriculum` in the loop of `rollout.collector`, without engines, log or Ray.

A run ends when its rollouts are spent, not after so many steps: rejected groups, pilots and refills are paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from curricula import Curriculum
from curricula.groups import score_spreads
from curricula.recipes import Recipe
from curricula.refill import wanted_groups
from curricula.types import Bools, Feedback, Floats, Ints, Outcome, PromptPool, RolloutPlan, Verdict
from trainer.advantages import group_advantages
from trainer.simulate.oracle import oracle_stages
from trainer.simulate.setting import Setting
from trainer.simulate.student import Pupil, Student, make_pool

ORACLE = "oracle"
MOST_IDLE_STEPS = 100  # steps in a row without a rollout, after which the rest of the budget is left unspent
ROLLOUT_STREAM = 2  # of the seed


@dataclass(frozen=True, eq=False)
class Run:
    """What came of one run. The curve has a point before the first step and one after each."""

    spent_T: Ints  # rollouts
    level_T: Floats  # mean true pass rate of the pool
    n_groups: int  # generated
    n_live: int  # of them with rewards that differ
    n_kept: int  # of them trained on
    n_updates: int


class Attempt(NamedTuple):
    """One plan and what came of it."""

    outcome: Outcome
    verdict: Verdict
    solved_R: Bools


def simulate(recipe: str | Recipe, setting: Setting, seed: int) -> Run:
    """Spend the setting's budget by a recipe (or by ``"oracle"``)."""
    return simulate_in(recipe, setting, seed, make_pool(setting, seed))


def simulate_in(recipe: str | Recipe, setting: Setting, seed: int, pool: PromptPool) -> Run:
    """The same in a pool that is made already."""
    return spend(recipe, Student(setting, pool, seed), setting, seed, pool)


def spend(recipe: str | Recipe, student: Pupil, setting: Setting, seed: int, pool: PromptPool) -> Run:
    """The same with any student, who has learned the run's updates afterwards."""
    if recipe == ORACLE:
        curriculum = Curriculum(pool, oracle_stages(student.pass_rates, setting.groups), seed, exploration=0.0)
    else:
        curriculum = Curriculum.from_recipe(recipe, pool, seed)
    return _spend(curriculum, student, setting, seed)


def _spend(curriculum: Curriculum, student: Pupil, setting: Setting, seed: int) -> Run:
    spent, idle, step = 0, 0, 0
    curve = [(0, float(student.pass_rates().mean()))]
    n_groups = n_live = n_kept = 0
    while setting.budget - spent >= 2 and idle < MOST_IDLE_STEPS:
        attempts = collect(curriculum, student, setting, step, setting.budget - spent, seed)
        learn(curriculum, student, attempts)
        cost = sum(attempt.outcome.plan.n_completions for attempt in attempts)
        spent, idle, step = spent + cost, 0 if cost else idle + 1, step + 1
        curve.append((spent, float(student.pass_rates().mean())))
        for attempt in attempts:
            n_groups += len(attempt.outcome.plan)
            n_live += int((score_spreads(attempt.outcome) > 0).sum())
            n_kept += int(attempt.verdict.kept_B.sum())
    spent_T, level_T = zip(*curve, strict=True)
    return Run(np.array(spent_T), np.array(level_T), n_groups, n_live, n_kept, student.version)


def collect(curriculum: Curriculum, student: Pupil, setting: Setting, step: int, left: int, seed: int) -> list[Attempt]:
    """All attempts of a step, in order; together they cost at most ``left`` rollouts."""
    attempts: list[Attempt] = []
    while (n := groups_wanted(attempts, setting)) > 0 and left >= 2:
        plan = _plan(curriculum, setting, step, min(n, max(left // setting.rollouts, 1)), left, attempts)
        if len(plan) == 0:  # no prompt left for this step
            break
        attempts.append(_roll_out(curriculum, student, plan, seed))
        left -= attempts[-1].outcome.plan.n_completions
    return admit(attempts, setting.groups)


def groups_wanted(attempts: Sequence[Attempt], setting: Setting) -> int:
    """How many groups the next attempt asks for, by the collector's rule."""
    if not attempts:
        return setting.groups
    if len(attempts) >= setting.max_attempts:
        return 0
    spent = sum(attempt.outcome.plan.n_completions for attempt in attempts)
    cap = setting.max_attempts * setting.groups * setting.rollouts
    return min(wanted_groups([attempt.verdict for attempt in attempts], setting.groups), (cap - spent) // setting.rollouts)


def admit(attempts: Sequence[Attempt], n_groups: int) -> list[Attempt]:
    """The first ``n_groups`` kept groups in plan order stay in the update, as in the collector."""
    admitted, room = [], n_groups
    for attempt in attempts:
        verdict = attempt.verdict
        stays_B = verdict.kept_B & (np.cumsum(verdict.kept_B) <= room)
        room -= int(stays_B.sum())
        carries_R = verdict.carries_gradient_R & stays_B[attempt.outcome.group_R]
        admitted.append(attempt._replace(verdict=replace(verdict, kept_B=stays_B, carries_gradient_R=carries_R)))
    return admitted


def learn(curriculum: Curriculum, student: Pupil, attempts: Sequence[Attempt]) -> None:
    """One update by what carries gradient (none where no advantage does), then the curriculum's own."""
    prompts, solved, advantages = [], [], []
    for attempt in attempts:
        carries_R = attempt.verdict.carries_gradient_R
        prompts.append(attempt.outcome.plan.selection.prompt_B[attempt.outcome.group_R[carries_R]])
        solved.append(attempt.solved_R[carries_R])
        advantages.append(_credit(curriculum, attempt)[carries_R])
    if prompts and np.any(np.concatenate(advantages)):
        student.learn(np.concatenate(prompts), np.concatenate(solved), np.concatenate(advantages))
    curriculum.update([Feedback(attempt.outcome, attempt.verdict, _raw(attempt.outcome)) for attempt in attempts])


def _plan(
    curriculum: Curriculum, setting: Setting, step: int, n_groups: int, left: int, attempts: Sequence[Attempt]
) -> RolloutPlan:
    """The next plan; what earlier steps left unspent may add to it, but never beyond ``left``."""
    n_rollouts, taken = min(n_groups * setting.rollouts, left), _taken(attempts)
    plan = curriculum.plan(step, n_groups, n_rollouts, attempt=len(attempts), exclude=taken)
    if plan.n_completions + plan.n_unspent > left:
        n_rollouts = max(left - plan.n_carried, 0)
        plan = curriculum.plan(step, n_groups, n_rollouts, attempt=len(attempts), exclude=taken)
    return plan


def _taken(attempts: Sequence[Attempt]) -> Ints:
    return np.concatenate([np.empty(0, np.int64), *(attempt.outcome.plan.selection.prompt_B for attempt in attempts)])


def _roll_out(curriculum: Curriculum, student: Pupil, plan: RolloutPlan, seed: int) -> Attempt:
    """Every allocation round of an attempt."""
    attempt = _answered(student, plan, seed)
    while (more := curriculum.extend(attempt.outcome)) is not None:
        fresh = _answered(student, more, seed)
        attempt = _joined(attempt, fresh, plan := plan.joined(more))
    return attempt._replace(verdict=curriculum.judge(attempt.outcome))


def _answered(student: Pupil, plan: RolloutPlan, seed: int) -> Attempt:
    rng = np.random.default_rng((seed, ROLLOUT_STREAM, plan.step, plan.attempt, plan.round))
    group_R = np.repeat(np.arange(len(plan)), plan.n_rollouts_B)
    solved_R, reward_R = student.answer(plan.selection.prompt_B[group_R], rng)
    outcome = _outcome(plan, group_R, reward_R, student.version)
    if plan.greedy_B.any():  # the likelier answer, on which the verifier never errs
        greedy_B = student.pass_rates()[plan.selection.prompt_B] > 0.5
        outcome = replace(outcome, baseline_B=np.where(plan.greedy_B, greedy_B, np.nan))
    return Attempt(outcome, _NOTHING, solved_R)


def _joined(first: Attempt, more: Attempt, plan: RolloutPlan) -> Attempt:
    group_R = np.concatenate([first.outcome.group_R, more.outcome.group_R])
    reward_R = np.concatenate([first.outcome.reward_R, more.outcome.reward_R])
    version = int(first.outcome.policy_version_R.max(initial=0))
    outcome = replace(_outcome(plan, group_R, reward_R, version), baseline_B=first.outcome.baseline_B)
    return Attempt(outcome, _NOTHING, np.concatenate([first.solved_R, more.solved_R]))


def _outcome(plan: RolloutPlan, group_R: Ints, reward_R: Floats, version: int) -> Outcome:
    n = len(group_R)
    return Outcome(plan, group_R, reward_R, np.zeros(n, np.uint8), np.full(n, N_TOKENS), np.full(n, version))


def _credit(curriculum: Curriculum, attempt: Attempt) -> Floats:
    """(R,) advantages that the learner sees."""
    outcome, verdict = attempt.outcome, attempt.verdict
    peers_R = verdict.carries_gradient_R if verdict.renormalise else outcome.ok_R
    shaped_R, baseline_B = curriculum.shape(outcome), _shaped_baselines(curriculum, outcome)
    advantage_R = group_advantages(_kind(outcome), shaped_R, outcome.group_R, peers_R, len(outcome.plan), baseline_B)
    return np.asarray(advantage_R * verdict.weight_B[outcome.group_R])


def _shaped_baselines(curriculum: Curriculum, outcome: Outcome) -> Floats:
    """(B,) as the collector shapes them: each greedy completion as if it were the one rollout of its group."""
    asked, baseline_B = np.flatnonzero(outcome.plan.greedy_B), outcome.baseline_B.copy()
    if len(asked):
        baseline_B[asked] = curriculum.shape(_outcome(outcome.plan, asked, baseline_B[asked], 0))
    return baseline_B


def _raw(outcome: Outcome) -> Floats:
    """(R,) advantages of all that was generated: what policies learn from."""
    n_groups = len(outcome.plan)
    return group_advantages(_kind(outcome), outcome.reward_R, outcome.group_R, outcome.ok_R, n_groups, outcome.baseline_B)


def _kind(outcome: Outcome) -> str:
    """Who asks for greedy completions measures by them."""
    return "remax" if outcome.plan.greedy_B.any() else "grpo"


N_TOKENS = 100  # of every completion: lengths carry no information here
_NOTHING = Verdict(np.empty(0, np.bool_), np.empty(0, np.uint8), np.empty(0, np.bool_))
