"""How often the intervals of `curricula replay` hold the truth, through whole recipes, on simulated logs whose truth is known.

    OMP_NUM_THREADS=1 python -m benchmarks.replay_recipes [--runs 200] [--steps 40] [--seed 0] [--logs epochs spending ...]

A recipe trains a simulated student (`trainer.simulate`), so pass rates rise while the log is written, and every decision depends on
what came of the ones before. At each decision the targets, which learn beside the log, are asked how likely each prompt is to be in
their plan; with the student's true pass rates of that step this gives what their groups would have shown on average. That is the
truth, reckoned without `replay`, which then reads the finished log. Nominal is 95 %.

Rows of choices: log, target, what is known of the log's support (``known``: the run's own recipe is at hand; ``possible``: the
target chooses among what the log could choose; ``hidden``: judged by the weights), measure and method; the share of the intervals
that hold the truth with its standard error, bias, mean half length, share of logs refused. Rows of spending: the same for stopping
rules and smaller groups on the logged prompts, and for what the log itself had, against two truths: what the log's plans had on
average at its states, and what its very prompts had. Nothing here is about what training by another recipe would have led to.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, product
from typing import Any, NamedTuple

import numpy as np

from curricula import Curriculum
from curricula.recipes import Recipe
from curricula.statistics import Interval
from curricula.types import Bools, Feedback, Floats, Ints, PromptPool, RolloutPlan
from replay.estimators import NotEstimable, Value
from replay.evaluate import Missing, measures, replay, values_at
from replay.passes import Advantages, Terms, walk
from replay.types import LoggedRun
from trainer.simulate.run import Attempt, collect, learn
from trainer.simulate.setting import Setting
from trainer.simulate.student import Student, make_pool
from trainer.verify_log import feedback_advantages

EVERY = {"name": "learnability", "floor": 1.0}  # every prompt of a distribution alike, whenever it came last
MIXED = {"name": "nonzero_variance", "refill": "resample"}
LOGS: Mapping[str, Recipe] = {
    "epochs": {"distribution": "dump_ucb"},
    "learnability": {"selector": {"name": "learnability", "floor": 0.3}},
    "plr": {"selector": {"name": "prioritized_replay", "floor": 0.3}},
    "refilled": {"distribution": "dump_ucb", "selector": EVERY, "filter": MIXED},
}
TARGETS: Mapping[str, Recipe] = {
    "sec": {"distribution": "sec", "selector": EVERY},
    "nearest": {"selector": {"name": "nearest", "floor": 0.2}},
    "plr": {"selector": {"name": "prioritized_replay", "floor": 0.2}},
}
SPEED = {"name": "speed", "n_init": 4, "n_cont": 12}
ADA = {"name": "reinforce_ada", "n_per_round": 4, "rounds": 4}
WORLD = Setting(groups=16, max_attempts=2, prompts=120, levels=3, rate=0.25)
ADVANTAGES: Advantages = partial(feedback_advantages, "grpo")
Shown = Callable[[Floats], Mapping[str, Floats]]  # true pass rates -> what groups show on average, by measure
Told = tuple[float, Value | NotEstimable | Interval | Missing]  # the truth, and what replay says


class Made(NamedTuple):
    """A log and what is true of it, by measure."""

    run: LoggedRun
    own: Callable[[], Curriculum]
    targets: Mapping[tuple[str, bool], Mapping[str, float]]  # (target, only among what was possible): mean over decisions
    plans: Mapping[str, float]  # what the log's plans had on average, per group
    prompts: Mapping[str, float]  # the same of the prompts that it drew


class Row(NamedTuple):
    """What came of one number over all logs."""

    covered: float  # of the intervals given
    error: float  # standard error of that share
    bias: float
    half: float  # mean half length
    refused: float


def shown(rate: Floats, n: int = WORLD.rollouts) -> Mapping[str, Floats]:
    """What groups of n show."""
    return {"live": 1 - rate**n - (1 - rate) ** n, "learnability": 4 * rate * (1 - rate)}


def spent(rate: Floats) -> Mapping[str, Floats]:
    """What groups of 16, half such groups, and two stopping rules within 16 show and cost."""
    pilots_mixed = shown(rate, 4)["live"]
    ada_rollouts, ada_live = stopped(rate, 4, 4, lambda k, failures: (k >= 2) & (failures >= 2))
    return {
        "logged: live": shown(rate, 16)["live"],
        "half: live": shown(rate, 8)["live"],
        "speed: live": pilots_mixed,
        "speed: rollouts": 4 + 12 * pilots_mixed,
        "reinforce_ada: live": ada_live,
        "reinforce_ada: rollouts": ada_rollouts,
    }


def stopped(rate: Floats, per_round: int, rounds: int, is_done: Callable[[Ints, Ints], Bools]) -> tuple[Floats, Floats]:
    """Expected rollouts and live share of rounds that go on until a rule is content, rollout by rollout."""
    n_most = per_round * rounds
    going = np.zeros((len(rate), n_most + 1))  # by successes
    going[:, 0] = 1.0
    rollouts, live, k = np.zeros(len(rate)), np.zeros(len(rate)), np.arange(n_most + 1)
    for n in range(1, n_most + 1):
        rollouts += going.sum(axis=1)
        right = going * rate[:, None]
        going -= right
        going[:, 1:] += right[:, :-1]
        if n % per_round == 0:
            ends = (is_done(k, n - k) | (n == n_most)) & (k <= n)
            live += going[:, ends & (k > 0) & (k < n)].sum(axis=1)
            going[:, ends] = 0.0
    return rollouts, live


def make(recipe: Recipe, targets: Mapping[str, Recipe], world: Setting, n_steps: int, seed: int, show: Shown = shown) -> Made:
    """Train a student by a recipe, with the targets beside it."""
    pool = make_pool(world, seed)
    student, own = Student(world, pool, seed), Curriculum.from_recipe(recipe, pool, seed)
    beside = {name: Curriculum.from_recipe(target, pool, seed + 1) for name, target in targets.items()}
    names = list(show(np.zeros(1)))
    of_target: dict[tuple[str, bool], list[Floats]] = {(name, only): [] for name in targets for only in (False, True)}
    attempts: list[Attempt] = []
    of_plan, of_prompt = np.zeros(len(names)), np.zeros(len(names))
    for step in range(n_steps):
        value_MN = np.stack(list(show(student.pass_rates()).values()))
        taken = np.empty(0, np.int64)
        collected = collect(own, student, world, step, world.budget, seed)
        for attempt in collected:
            plan = attempt.outcome.plan
            own_N = own.inclusion(step, len(plan), plan.attempt, taken)
            impossible = np.flatnonzero(own_N == 0)
            for name, target in beside.items():
                whole = would_show(target, plan, taken, value_MN)
                of_target[name, False].append(whole)
                same = len(impossible) == len(taken)
                of_target[name, True].append(whole if same else would_show(target, plan, impossible, value_MN))
            of_plan += value_MN @ own_N
            of_prompt += value_MN[:, plan.selection.prompt_B].sum(axis=1)
            taken = np.concatenate([taken, plan.selection.prompt_B])
        learn(own, student, collected)
        for target in beside.values():
            target.update([Feedback(a.outcome, target.judge(a.outcome), ADVANTAGES(a.outcome)) for a in collected])
        attempts += collected
    run = logged(attempts, pool)

    def by_name(values: Floats) -> Mapping[str, float]:
        return dict(zip(names, values.tolist(), strict=True))

    return Made(
        run,
        partial(Curriculum.from_recipe, recipe, pool, seed),
        {key: by_name(np.mean(values, axis=0)) for key, values in of_target.items()},
        by_name(of_plan / len(run)),
        by_name(of_prompt / len(run)),
    )


def would_show(target: Curriculum, plan: RolloutPlan, exclude: Ints, value_MN: Floats) -> Floats:
    """(M,) what the groups of the target's own plan in place of this one show on average."""
    chance_N = target.inclusion(plan.step, len(plan), plan.attempt, exclude)
    return np.asarray(value_MN @ chance_N / chance_N.sum())


def logged(attempts: Sequence[Attempt], pool: PromptPool) -> LoggedRun:
    """The log of these attempts."""
    outcomes = [attempt.outcome for attempt in attempts]
    plans = [outcome.plan for outcome in outcomes]
    first_P = np.cumsum([0, *map(len, plans)])
    return LoggedRun(
        source="simulated",
        pool=pool,
        prompt_G=np.concatenate([p.selection.prompt_B for p in plans]),
        step_G=np.concatenate([np.full(len(p), p.step) for p in plans]),
        attempt_G=np.concatenate([np.full(len(p), p.attempt) for p in plans]),
        group_R=np.concatenate([o.group_R + first for o, first in zip(outcomes, first_P, strict=False)]),
        reward_R=np.concatenate([o.reward_R for o in outcomes]),
        status_R=np.concatenate([o.status_R for o in outcomes]),
        n_tokens_R=np.concatenate([o.n_tokens_R for o in outcomes]),
        policy_version_R=np.concatenate([o.policy_version_R for o in outcomes]),
        propensity_G=np.concatenate([p.selection.propensity_B for p in plans]),
        arm_probability_G=np.concatenate([p.probability_K[p.selection.distribution_B] for p in plans]),
        kept_G=np.concatenate([a.verdict.kept_B for a in attempts]),
    )


def choices(made: Made, targets: Mapping[str, Recipe], seed: int) -> Iterator[tuple[tuple[str, ...], Told]]:
    """((target, support, measure, method), what is told) of a log."""
    measured = measures(made.run)
    for name, target in targets.items():
        truth = {only: made.targets[name, only] for only in (False, True)}
        for only in (False, True) if truth[True] != truth[False] else (False,):
            terms = Terms(advantages=ADVANTAGES, own=made.own, possible_only=only)
            walked = walk(made.run, Curriculum.from_recipe(target, made.run.pool, seed + 1), terms)
            supports = (
                {"possible": walked} if only else {"known": walked, "hidden": replace(walked, unsupported=None, power_D2=None)}
            )
            for (support, seen), (measure, expected) in product(supports.items(), truth[only].items()):
                for method, said in values_at(made.run, measure, measured[measure], seen, terms).items():
                    yield (name, support, measure, method), (expected, said)


def spending(made: Made) -> Iterator[tuple[tuple[str, ...], Told]]:
    """((measure, which truth), what is told) of a log of groups of 16."""
    budgets: Mapping[str, tuple[Any, int | None]] = {"speed": (SPEED, None), "reinforce_ada": (ADA, None), "half": ("even", 8)}
    for name, (budget, size) in budgets.items():
        curriculum = Curriculum.from_recipe({"budget": budget}, made.run.pool)
        replayed = replay(made.run, {name: curriculum}, Terms(advantages=ADVANTAGES, rollouts_per_group=size))
        spent = replayed.evaluations[0].spending
        said = {f"{name}: live": spent.live, f"{name}: rollouts": spent.rollouts, "logged: live": replayed.logged.values["live"]}
        for measure in said if name == "half" else list(said)[:2]:
            if measure in made.plans:
                yield (measure, "plans"), (made.plans[measure], said[measure])
                yield (measure, "prompts"), (made.prompts[measure], said[measure])


def row(told: Sequence[Told]) -> Row:
    """Coverage and the rest over all logs."""
    given = [
        (truth, said.value if isinstance(said, Value) else said.mean, said.low, said.high)
        for truth, said in told
        if isinstance(said, (Value, Interval))
    ]
    if not given:
        return Row(np.nan, np.nan, np.nan, np.nan, 1.0)
    truth, value, low, high = np.array(given).T
    covered = float(np.mean((low <= truth) & (truth <= high)))
    return Row(
        covered,
        float(np.sqrt(covered * (1 - covered) / len(given))),
        float(np.mean(value - truth)),
        float(np.mean(high - low) / 2),
        1 - len(given) / len(told),
    )


def table(told: Iterable[tuple[tuple[str, ...], Told]]) -> dict[tuple[str, ...], Row]:
    """A row per key, in the order of their first coming."""
    found: dict[tuple[str, ...], list[Told]] = {}
    for key, one in told:
        found.setdefault(key, []).append(one)
    return {key: row(all_told) for key, all_told in found.items()}


def study(name: str, n_runs: int, n_steps: int, seed: int) -> dict[tuple[str, ...], Row]:
    """The rows of one kind of log."""
    made = ((s, make(LOGS[name], TARGETS, WORLD, n_steps, s)) for s in range(seed, seed + n_runs))
    return table(chain.from_iterable(choices(log, TARGETS, s) for s, log in made))


def spending_study(n_runs: int, n_steps: int, seed: int) -> dict[tuple[str, ...], Row]:
    """The rows of spending, on logs of groups of 16 that DUMP's rule chose."""
    world, recipe = replace(WORLD, rollouts=16), {"distribution": "dump_ucb", "selector": EVERY}
    made = (make(recipe, {}, world, n_steps, s, spent) for s in range(seed, seed + n_runs))
    return table(chain.from_iterable(map(spending, made)))


def show_rows(name: str, rows: Mapping[tuple[str, ...], Row]) -> None:
    """Print them."""
    for key, r in rows.items():
        print(f"{name:13} {'  '.join(f'{word:12}' for word in key)} " + " ".join(f"{number:8.4f}" for number in r), flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--logs", nargs="*", default=[*LOGS, "spending"], choices=[*LOGS, "spending"])
    given = parser.parse_args()
    print(f"{'':13} {'':54}  covered    error     bias     half  refused")
    for name in given.logs:
        study_of = spending_study if name == "spending" else partial(study, name)
        show_rows(name, study_of(given.runs, given.steps, given.seed))


if __name__ == "__main__":
    main()
