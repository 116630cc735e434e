"""Live groups that a selection would have had on a real accuracy history, visit by visit.

    python -m benchmarks.offline_history [PATH] [--share 0.25] [--seeds 5] [--json offline_history.json]

The history holds, for every prompt, the pass rate of its 8 rollouts at each visit of one GRPO run (Qwen2.5-Math-1.5B, all prompts
once per epoch; Apache-2.0, ypwang61/One-Shot-RLVR; not part of this project). At every visit each rule picks a share of the prompts
before that visit's results are known, and we count how many of its groups were live (neither all wrong nor all right).

- uniform: every prompt alike.
- beta, sees all: `nearest` to one half by the posterior `beta`, which learns every prompt's result at every visit, as if the rest
  had been rolled out too. It pays for four times the rollouts that it trains on; a bound for what history can tell.
- beta, sees its own: the same policy, which learns its own groups alone, as in a run. It pays for what it trains on.
- smoothed truth: nearest to one half by the mean over the visits around, the coming ones included, this one left out: what somebody
  who knew the pass rates would pick. An estimate of the oracle.
- foresight: live groups first. Only somebody who knows the draws can do that.

What this cannot tell: whether the model would have learned more. The pass rates are those of a model trained on all prompts alike;
under another selection they would have moved otherwise. Visit v of two prompts is not the same step (lengths are ragged). No row
of the table is a speed-up, a saving or an accuracy.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from curricula import Curriculum, Feedback, Outcome, PromptPool
from curricula.types import Floats, Ints, RolloutPlan, Selection, group_ids

HISTORY = Path("../shared/data/one_shot_rlvr/accuracy_history.json")
N_ROLLOUTS = 8
FIRST = 8  # visits before it are left out of the means: every rule has seen something by then, or had its chance
REACH = 3  # visits on either side that the smoothed truth reads
RECIPE = {"belief": "beta", "selector": "nearest", "exploration": 0.0}  # the defaults; a visit counts as one policy version

Pick = Callable[[int], Ints]  # visit -> rows that are rolled out at it


def load(path: Path) -> Floats:
    """(N, V) pass rates, cut to the visits that all prompts have."""
    if not path.is_file():
        raise SystemExit(f"{path}: not there; the history is not part of this project (see the module's docstring)")
    history = json.loads(path.read_text())
    n_visits = min(map(len, history.values()))
    return np.array([rates[:n_visits] for rates in history.values()])


def live(rate: Floats) -> np.ndarray:
    return (rate > 0) & (rate < 1)


def outcome_at(plan: RolloutPlan, rate_NV: Floats, visit: int) -> Outcome:
    """What the history answers to a plan of this visit."""
    n_solved_B = np.rint(rate_NV[plan.selection.prompt_B, visit] * N_ROLLOUTS).astype(np.int64)
    group_R = np.repeat(np.arange(len(plan)), N_ROLLOUTS)
    reward_R = (np.tile(np.arange(N_ROLLOUTS), len(plan)) < n_solved_B[group_R]).astype(np.float64)
    version_R = np.full(len(group_R), visit)
    return Outcome(plan, group_R, reward_R, np.zeros_like(group_R), np.full_like(group_R, 1), version_R)


def beta_picks(rate_NV: Floats, n: int, seed: int, sees_all: bool) -> list[Ints]:
    """Rows that the recipe picks at each visit; it learns its own groups, or everybody's."""
    pool = PromptPool.from_columns([f"{i:06d}" for i in range(len(rate_NV))], ["all"] * len(rate_NV))
    curriculum, picks = Curriculum.from_recipe(RECIPE, pool, seed), []
    for visit in range(rate_NV.shape[1]):
        plan = curriculum.plan(visit, n, n * N_ROLLOUTS)
        picks.append(np.asarray(plan.selection.prompt_B))
        outcome = outcome_at(whole_pool(visit, len(rate_NV)) if sees_all else plan, rate_NV, visit)
        curriculum.update(Feedback(outcome, curriculum.judge(outcome)))
    return picks


def whole_pool(visit: int, n: int) -> RolloutPlan:
    selection = Selection(np.arange(n), np.zeros(n, np.int64), np.ones(n))
    return RolloutPlan(visit, 0, 0, selection, np.full(n, N_ROLLOUTS), group_ids(visit, 0, n), np.ones(1))


def smoothed_picks(rate_NV: Floats, n: int) -> list[Ints]:
    picks = []
    for visit in range(rate_NV.shape[1]):
        around = [v for v in range(max(visit - REACH, 0), min(visit + REACH + 1, rate_NV.shape[1])) if v != visit]
        picks.append(np.argsort(np.abs(rate_NV[:, around].mean(axis=1) - 0.5), kind="stable")[:n])
    return picks


def shares(rate_NV: Floats, picks: list[Ints]) -> Floats:
    """Live share of what was picked, per visit from FIRST on."""
    return np.array([live(rate_NV[rows, visit]).mean() for visit, rows in enumerate(picks)][FIRST:])


def table(rate_NV: Floats, share: float, n_seeds: int) -> dict[str, float]:
    n, n_visits = round(share * len(rate_NV)), rate_NV.shape[1]
    everyone = [np.arange(len(rate_NV))] * n_visits
    foresight = [np.argsort(~live(rate_NV[:, visit]), kind="stable")[:n] for visit in range(n_visits)]

    def beta(sees_all: bool) -> float:
        return float(np.mean([shares(rate_NV, beta_picks(rate_NV, n, seed, sees_all)) for seed in range(n_seeds)]))

    return {
        "uniform": float(shares(rate_NV, everyone).mean()),
        "beta, sees its own": beta(sees_all=False),
        "beta, sees all": beta(sees_all=True),
        "smoothed truth": float(shares(rate_NV, smoothed_picks(rate_NV, n)).mean()),
        "foresight": float(shares(rate_NV, foresight).mean()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", nargs="?", type=Path, default=HISTORY)
    parser.add_argument("--share", type=float, default=0.25)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rate_NV = load(options.path)
    found = table(rate_NV, options.share, options.seeds)
    print(f"{rate_NV.shape[0]} prompts, visits {FIRST} to {rate_NV.shape[1] - 1}, {options.share:g} of the prompts at every visit")
    for name, value in found.items():
        print(f"{name:20s} {value:.3f}")
    print(__doc__[__doc__.index("What this cannot tell") :].strip())
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
