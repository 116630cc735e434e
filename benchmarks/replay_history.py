"""Replay on a real history, whose truth is known: recipes on all of it, and estimates from a quarter of it. See README.md.

    python -m benchmarks.replay_history [PATH] [--seeds 20] [--json replay_history.json]

The history (see benchmarks/offline_history.py) has the pass rate of 8 rollouts for 605 prompts at every visit of one GRPO run. Here
visit 8, 9, ... is step 0, 1, ... of a logged run. That is an assumption: the visits of two prompts with one number were not made by
the same weights (the history has no steps, and its lengths differ). Which rollout of a group was right is not in it either;
rollouts are exchangeable, so the first k stand for the k right ones, and replay shuffles them. Distributions are bins of the mean
pass rate of visits 0 to 7, which no number below counts.

- all: every prompt at every visit, propensity 1. How many groups would be live at half the rollouts (`knapsack` gives 2 to 8 per
  group), how many a filter keeps, how well a belief that sees everything predicts (excess squared error over binomial noise).
- picked: live share of the quarter that a selection prefers, by its inclusion probabilities; it learns every prompt's result.
- a quarter: at every visit 151 prompts drawn uniformly, propensity 151/605; the recipe learns those alone. IPS, SNIPS and DR say
  from them what the recipe's groups would have shown. The truth is known, as the history has every prompt at every visit; "held" is
  how often the 95 % interval holds it over ``--seeds`` draws.

Nothing here is an accuracy, a saving or a speed-up: the pass rates are those of a model trained on all prompts alike.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.offline_history import FIRST, HISTORY, N_ROLLOUTS, live, load
from curricula import Curriculum, Feedback, PromptPool
from curricula.types import Floats, Ints
from replay.decisions import decisions
from replay.estimators import Value
from replay.evaluate import Evaluation, replay
from replay.passes import Terms
from replay.types import LoggedRun

SHARE = 0.25
BINS = {"hopeless": 0.02, "hard": 0.25, "middling": 0.6, "easy": 0.9, "solved": 1.0}  # pass rate up to which
EVERYONE = {"name": "uniform", "over": "prompts"}  # distributions by their size
ALIKE: Mapping[str, Any] = {"distribution": EVERYONE, "exploration": 0.0}
BY_BINS: Mapping[str, Mapping[str, Any]] = {"uniform": ALIKE, "dump_ucb": {"distribution": "dump_ucb"}}
BY_PROMPT: Mapping[str, Mapping[str, Any]] = {  # the prompts are one distribution for these
    "mopps": {"belief": "visit_beta", "selector": "thompson_nearest", "exploration": 0.0},
    "nearest": {"belief": "beta", "selector": "nearest", "exploration": 0.0},
}
SPENDING: Mapping[str, Mapping[str, Any]] = {
    "even": ALIKE,
    "knapsack": {**ALIKE, "budget": {"name": "knapsack", "max_n": N_ROLLOUTS}},
    "difficulty_band": {**ALIKE, "filter": "difficulty_band"},
}


def pool_of(rate_NV: Floats, by_bins: bool) -> PromptPool:
    bin_N = np.digitize(rate_NV[:, :FIRST].mean(axis=1), list(BINS.values())[:-1], right=True)
    names = [list(BINS)[k] for k in bin_N.tolist()] if by_bins else ["all"] * len(rate_NV)
    return PromptPool.from_columns([f"{i:04d}" for i in range(len(rate_NV))], names)


def logged_run(rate_NV: Floats, by_bins: bool = True, share: float = 1.0, seed: int = 0) -> LoggedRun:
    """Visits from FIRST on as steps; of each a uniform draw of this share of the prompts."""
    n, rng = len(rate_NV), np.random.default_rng(seed)
    n_steps, per_step = rate_NV.shape[1] - FIRST, round(share * n)
    prompt_G = np.concatenate([np.sort(rng.choice(n, per_step, replace=False)) for _ in range(n_steps)])
    step_G = np.repeat(np.arange(n_steps), per_step)
    pool, g = pool_of(rate_NV, by_bins), n_steps * per_step
    n_solved_G = np.rint(rate_NV[prompt_G, FIRST + step_G] * N_ROLLOUTS).astype(np.int64)
    return LoggedRun(
        source="one_shot_rlvr, visits as steps",
        pool=pool,
        prompt_G=prompt_G,
        step_G=step_G,
        group_R=np.repeat(np.arange(g), N_ROLLOUTS),
        reward_R=(np.arange(N_ROLLOUTS) < n_solved_G[:, None]).ravel().astype(np.float64),
        status_R=np.zeros(g * N_ROLLOUTS),
        n_tokens_R=np.full(g * N_ROLLOUTS, -1),
        policy_version_R=np.repeat(step_G, N_ROLLOUTS),
        propensity_G=np.full(g, per_step / n),
        arm_probability_G=(pool.size_K / n)[pool.distribution_N[prompt_G]],
        kept_G=np.full(g, 2),
        lacks=frozenset({"tokens", "policy version"}),
    )


def picked(run: LoggedRun, recipe: Mapping[str, Any], rate_NV: Floats, n_groups: int) -> Floats:
    """(T,) live share of what the recipe picks at each step of the log, over the whole pool; it learns what was logged."""
    curriculum, shares = Curriculum.from_recipe(recipe, run.pool), []
    live_NV = live(rate_NV).astype(np.float64)
    for decision in decisions(run):
        chance_N = curriculum.inclusion(decision.step, n_groups)
        shares.append(chance_N @ live_NV[:, FIRST + decision.step] / chance_N.sum())
        curriculum.update(Feedback(decision.outcome, curriculum.judge(decision.outcome)))
    return np.array(shares)


def spent(rate_NV: Floats, rollouts_per_group: int) -> Mapping[str, Evaluation]:
    """Budgets and filters on the whole history."""
    run = logged_run(rate_NV)
    fresh = {name: Curriculum.from_recipe(recipe, run.pool) for name, recipe in SPENDING.items()}
    return {found.recipe: found for found in replay(run, fresh, Terms(rollouts_per_group=rollouts_per_group)).evaluations}


@dataclass(frozen=True)
class Checked:
    """An estimate from a quarter of the history beside the truth."""

    truth: float
    value: float
    low: float
    high: float

    @property
    def holds(self) -> bool:
        return self.low <= self.truth <= self.high


def checked(rate_NV: Floats, seed: int) -> dict[str, dict[str, Checked | str]]:
    """Recipe -> method -> what it says of the live share; the reason where it refuses."""
    found: dict[str, dict[str, Checked | str]] = {}
    for by_bins, recipes in ((True, BY_BINS), (False, BY_PROMPT)):
        run = logged_run(rate_NV, by_bins, SHARE, seed)
        n = len(run) // (int(run.step_G[-1]) + 1)
        told = replay(run, {name: Curriculum.from_recipe(recipe, run.pool) for name, recipe in recipes.items()})
        for evaluation in told.evaluations:
            truth = float(picked(run, recipes[evaluation.recipe], rate_NV, n).mean())
            found[evaluation.recipe] = {
                method: Checked(truth, value.value, value.low, value.high) if isinstance(value, Value) else value.reason
                for method, value in evaluation.choice.values["live"].items()
            }
    return found


def stays_wrong(rate_NV: Floats) -> float:
    """P(all wrong at the next visit | all wrong)"""
    wrong = rate_NV == 0
    return float(wrong[:, 1:][wrong[:, :-1]].mean())


def all_of_it(rate_NV: Floats) -> dict[str, dict[str, float]]:
    """What needs no estimate."""
    n = round(SHARE * len(rate_NV))
    rows: dict[str, dict[str, float]] = {}
    for by_bins, recipes in ((True, BY_BINS), (False, BY_PROMPT)):
        run = logged_run(rate_NV, by_bins)
        for name, recipe in recipes.items():
            (found,) = replay(run, {name: Curriculum.from_recipe(recipe, run.pool)}).evaluations
            rows[name] = {"picked": float(picked(run, recipe, rate_NV, n).mean()), "excess": found.calibration.excess}
    return rows


def summary(draws: Sequence[Mapping[str, Mapping[str, Checked | str]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Over draws: mean truth, mean error, mean half width, share of intervals that held, refusals."""
    rows: dict[str, dict[str, dict[str, float]]] = {}
    for name, methods in draws[0].items():
        rows[name] = {}
        for method in methods:
            told = [value for draw in draws if isinstance(value := draw[name][method], Checked)]
            columns: Ints | Floats = np.array([[v.truth, v.value - v.truth, (v.high - v.low) / 2, v.holds] for v in told])
            means = columns.mean(axis=0) if len(told) else np.full(4, np.nan)
            keys = ("truth", "error", "half width", "held")
            rows[name][method] = {**dict(zip(keys, means.tolist(), strict=True)), "refused": 1 - len(told) / len(draws)}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, default=HISTORY)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rate_NV = load(chosen.path)
    print(f"{len(rate_NV)} prompts, visits {FIRST} to {rate_NV.shape[1] - 1} as steps (an assumption)")
    print(f"live {live(rate_NV[:, FIRST:]).mean():.3f}, P(all wrong next | all wrong) {stays_wrong(rate_NV):.3f}")
    print("\n| half the rollouts | told | per group | live | kept |\n|---|---|---|---|---|")
    for name, found in spent(rate_NV, N_ROLLOUTS // 2).items():
        s = found.spending
        print(f"| `{name}` | {s.told:.3f} | {_mean(s.rollouts)} | {_mean(s.live)} | {_mean(s.kept)} |")
    whole = all_of_it(rate_NV)
    print("\n| sees all | live share of its quarter | excess |\n|---|---|---|")
    for name, row in whole.items():
        print(f"| `{name}` | {row['picked']:.3f} | {row['excess']:.4f} |")
    draws = [checked(rate_NV, seed) for seed in range(chosen.seeds)]
    rows = summary(draws)
    print("\n| a quarter logged | truth | method | error | half width | held | refused |\n|---|---|---|---|---|---|---|")
    for name, methods in rows.items():
        for method, row in methods.items():
            figures = f"{row['error']:+.4f} | {row['half width']:.4f} | {row['held']:.2f} | {row['refused']:.2f}"
            print(f"| `{name}` | {row['truth']:.3f} | `{method}` | {figures} |")
    if chosen.json:
        every = [{r: {m: asdict(v) if isinstance(v, Checked) else v for m, v in by.items()} for r, by in d.items()} for d in draws]
        chosen.json.write_text(json.dumps({"all": whole, "quarter": rows, "draws": every}, indent=1) + "\n")


def _mean(value: object) -> str:
    return f"{value.mean:.3f}" if hasattr(value, "mean") else str(value)


if __name__ == "__main__":
    main()
