"""How well each belief knows a real accuracy history, and how many live groups a selector finds with it.

    python -m benchmarks.beliefs [PATH] [--seen 1 0.3 0.1] [--json beliefs.json]

The history (see benchmarks/offline_history.py) has the pass rate of 8 rollouts for every prompt at every visit. Before each visit
a belief predicts it and a selector picks a quarter of the prompts with it; then a random share of all (``seen``, the same for
every belief) is shown. Means over visits 8 and later:

- excess: mean squared error of the prediction minus the binomial noise of 8 rollouts; 0 = nobody could do better.
- ECE: mean |predicted - observed| over ten bins of the prediction, by size; a constant that is right on average has 0, so read it
  beside the excess.
- one column per selector: the share of its picks that is live (neither all wrong nor all right).

Known bounds: the quarter nearest 0.5 by a discounted Beta posterior that sees every prompt has about 0.95 live, uniform 0.51 (the
data's README, on twice the prompts). Nothing here is an accuracy, a saving or a speed-up. The prompts have no features and are one
distribution, so beliefs over features can only tell the running mean.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.offline_history import FIRST, HISTORY, N_ROLLOUTS, live, load, outcome_at
from curricula import Curriculum, Feedback, PromptPool
from curricula.registry import names
from curricula.types import Floats, Ints, RolloutPlan, Selection, group_ids

SELECTORS = ("uniform", "nearest", "thompson_nearest", "learnability", "sqrt_softmax", "straddle", "dots", "kimi")
PICKED = 0.25  # share of the prompts at every visit
N_BINS = 10


class Walk(NamedTuple):
    """One belief and one selector along the history."""

    predicted_NV: Floats
    live_V: Floats  # live share of the picks


def walk(belief: str, selector: str, rate_NV: Floats, seen: float) -> Walk:
    n, n_visits = rate_NV.shape
    pool = PromptPool.from_columns([f"{i:05d}" for i in range(n)], ["all"] * n)
    curriculum = Curriculum.from_recipe({"belief": belief, "selector": selector, "exploration": 0.0}, pool)
    predicted_NV, live_V, rng = np.zeros_like(rate_NV), np.zeros(n_visits), np.random.default_rng(7)
    for visit in range(n_visits):
        predicted_NV[:, visit] = curriculum.estimate(np.arange(n)).mean_B
        plan = curriculum.plan(visit, round(PICKED * n), 2 * n, attempt=1)
        live_V[visit] = live(rate_NV[plan.selection.prompt_B, visit]).mean()
        outcome = outcome_at(shown(np.flatnonzero(rng.random(n) < seen), visit, seen), rate_NV, visit)
        curriculum.update(Feedback(outcome, curriculum.judge(outcome)))
    return Walk(predicted_NV, live_V)


def shown(prompt: Ints, visit: int, seen: float) -> RolloutPlan:
    """A plan that stands for what somebody else rolled out."""
    selection = Selection(prompt, np.zeros_like(prompt), np.full(len(prompt), seen))
    n_B = np.full(len(prompt), N_ROLLOUTS)
    return RolloutPlan(visit, 0, 0, selection, n_B, group_ids(visit, 0, len(prompt)), np.ones(1))


def excess_error(predicted_NV: Floats, rate_NV: Floats) -> float:
    """Squared error beyond the noise of the observation; rate (1 - rate) n / (n - 1) estimates p (1 - p) without bias."""
    noise = (rate_NV * (1 - rate_NV)).mean() / (N_ROLLOUTS - 1)
    return float(((predicted_NV - rate_NV) ** 2).mean() - noise)


def calibration_error(predicted_NV: Floats, rate_NV: Floats) -> float:
    bin_ = np.minimum((predicted_NV * N_BINS).astype(int), N_BINS - 1).ravel()
    n, predicted, observed = (
        np.bincount(bin_, weights=x, minlength=N_BINS) for x in (np.ones(bin_.size), predicted_NV.ravel(), rate_NV.ravel())
    )
    return float(np.abs(predicted - observed).sum() / n.sum())


def row(belief: str, rate_NV: Floats, seen: float) -> dict[str, float]:
    walks = {selector: walk(belief, selector, rate_NV, seen) for selector in SELECTORS}
    predicted, observed = walks["uniform"].predicted_NV[:, FIRST:], rate_NV[:, FIRST:]
    return {
        "excess": excess_error(predicted, observed),
        "ECE": calibration_error(predicted, observed),
        **{selector: float(walked.live_V[FIRST:].mean()) for selector, walked in walks.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", nargs="?", type=Path, default=HISTORY)
    parser.add_argument("--seen", type=float, nargs="+", default=[1.0, 0.3, 0.1])
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    rate_NV = load(chosen.path)
    found: dict[str, dict[str, dict[str, float]]] = {}
    for seen in chosen.seen:
        found[str(seen)] = {belief: row(belief, rate_NV, seen) for belief in names("belief")}
        columns = ["excess", "ECE", *SELECTORS]
        print(f"\n{len(rate_NV)} prompts, visits {FIRST} to {rate_NV.shape[1] - 1}, {seen:g} of the prompts shown at every visit")
        print("| belief | " + " | ".join(columns) + " |\n|---|" + "---|" * len(columns))
        for belief, figures in found[str(seen)].items():
            cells = [f"{figures['excess']:.4f}", *(f"{figures[column]:.3f}" for column in columns[1:])]
            print(f"| `{belief}` | " + " | ".join(cells) + " |")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
