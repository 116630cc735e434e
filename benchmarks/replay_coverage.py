"""How often the intervals of replay.estimators hold the truth, and what they refuse, on simulated logs.

    python -m benchmarks.replay_coverage [--runs 4000] [--seed 0] [--steps 60]

A log picks 16 of 120 prompts per step with known inclusion probabilities; a group is live when its 4 rollouts differ; the target
wants other prompts. The truth is the target's expected live share at the states of that very log. One row per case and method:
share of intervals that hold the truth, share of logs refused, mean length of the intervals, root mean squared error and bias.
`hidden` is the case without the propensities of the whole pool. Nominal is 95 %; nothing here is about training.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from curricula.types import Floats, Ints
from replay.estimators import Decisions, Limits, Method, NotEstimable, Target, Value, estimate, target_of_inclusion

N_PROMPTS, N_GROUPS, N_ROLLOUTS = 120, 16, 4
CASES = ("uniform", "adaptive", "learning", "skewed", "thin", "poor", "none")
SLOPE = {"thin": -0.9, "poor": -3.0}  # how much the target prefers easy prompts
METHODS: tuple[Method, ...] = ("ips", "snips", "dr")
NO_LIMITS = Limits(2, 0.0, 0.0, 1.0, 1.0, np.inf)


class Logs(NamedTuple):
    """Several simulated logs of one case."""

    prompt_STB: Ints  # S logs of T steps
    value_STB: Floats
    propensity_STN: Floats
    live_STN: Floats  # true chance of every prompt to be live
    target_N: Floats  # the target's inclusion probabilities

    @property
    def truth_S(self) -> Floats:
        value_S: Floats = (self.live_STN @ self.target_N).mean(axis=1) / self.target_N.sum()
        return value_S


class Row(NamedTuple):
    """What came of one method on one case."""

    covered: float  # share of the intervals given
    refused: float
    length: float
    rmse: float
    bias: float


def inclusions(weight: Floats, n: int = N_GROUPS) -> Floats:
    """Probabilities in proportion to the weights, none above 1, that sum to n along the last axis."""
    chance = n * weight / weight.sum(axis=-1, keepdims=True)
    for _ in range(50):
        full = chance >= 1
        left = n - full.sum(axis=-1, keepdims=True)
        rest = np.where(full, 0.0, chance)
        chance = np.where(full, 1.0, rest * left / np.maximum(rest.sum(axis=-1, keepdims=True), 1e-300))
    return np.asarray(np.minimum(chance, 1.0), dtype=np.float64)


def drawn(chance_SN: Floats, rng: np.random.Generator) -> Ints:
    """(S, B) prompts, each with exactly its probability, by one systematic draw along a random order."""
    order = np.argsort(rng.random(chance_SN.shape), axis=1)
    edge = np.cumsum(np.take_along_axis(chance_SN, order, axis=1), axis=1) + rng.random((len(chance_SN), 1))
    edge = np.floor(np.concatenate([edge[:, :1] - np.take_along_axis(chance_SN, order, axis=1)[:, :1], edge], axis=1) + 1e-9)
    taken = np.diff(edge, axis=1) > 0
    assert (taken.sum(axis=1) == N_GROUPS).all()
    return order[taken].reshape(len(chance_SN), N_GROUPS)


def simulate(case: str, n_logs: int, n_steps: int, seed: int) -> Logs:
    """``n_logs`` logs of one case."""
    rng = np.random.default_rng((seed, CASES.index(case)))
    hard_N = np.linspace(-3, 3, N_PROMPTS)
    target_N = inclusions(np.exp(SLOPE.get(case, -0.5) * hard_N))
    weight_SN = np.tile(weights_of(case, hard_N), (n_logs, 1))
    seen_SN = np.ones((n_logs, N_PROMPTS))
    live_SN = np.full((n_logs, N_PROMPTS), 0.5)
    skill_S = np.zeros(n_logs)
    rows = np.arange(n_logs)[:, None]
    columns: list[tuple[Ints, Floats, Floats, Floats]] = []
    for _ in range(n_steps):
        p_SN = 1 / (1 + np.exp(hard_N - skill_S[:, None]))
        chance_SN = 1 - p_SN**N_ROLLOUTS - (1 - p_SN) ** N_ROLLOUTS
        if case in ("adaptive", "learning"):  # likes what was live so far, with a share for every prompt
            weight_SN = 0.2 + live_SN / seen_SN
        propensity_SN = inclusions(weight_SN)
        prompt_SB = drawn(propensity_SN, rng)
        value_SB = (rng.random(prompt_SB.shape) < chance_SN[rows, prompt_SB]).astype(np.float64)
        columns.append((prompt_SB, value_SB, propensity_SN, chance_SN))
        live_SN[rows, prompt_SB] += value_SB
        seen_SN[rows, prompt_SB] += 1
        if case == "learning":  # what was live teaches
            skill_S = skill_S + 0.06 * value_SB.mean(axis=1)
    prompt, value, propensity, chance = zip(*columns, strict=True)
    return Logs(np.stack(prompt, 1), np.stack(value, 1), np.stack(propensity, 1), np.stack(chance, 1), target_N)


def weights_of(case: str, hard_N: Floats) -> Floats:
    """What the log prefers."""
    slope = {"skewed": 0.4, "thin": 0.5, "poor": 1.2}
    if case in slope:
        return np.asarray(np.exp(slope[case] * hard_N), dtype=np.float64)
    if case == "none":
        return (hard_N > -1).astype(np.float64)
    return np.ones_like(hard_N)


def estimates(logs: Logs, method: Method, hidden: bool, limits: Limits) -> Iterator[tuple[float, Value | NotEstimable]]:
    """(truth, answer) of every log."""
    rng = np.random.default_rng(99)
    n_logs, n_steps, _ = logs.prompt_STB.shape
    step_G = np.repeat(np.arange(n_steps), N_GROUPS)
    guess_N = np.clip(logs.live_STN[:, 0].mean(axis=0) + rng.normal(0, 0.15, N_PROMPTS), 0, 1)  # a model that is somewhat wrong
    for s in range(n_logs):
        prompt_G = logs.prompt_STB[s].ravel()
        logged = Decisions(logs.value_STB[s].ravel(), logs.propensity_STN[s, step_G, prompt_G], step_G)
        known = None if hidden else logs.propensity_STN[s]
        target: Target = target_of_inclusion(logs.target_N, prompt_G, step_G, known, guess_N)
        yield float(logs.truth_S[s]), estimate(logged, target, method, prediction_G=guess_N[prompt_G], limits=limits)


def row(logs: Logs, method: Method, hidden: bool = False, limits: Limits | None = None) -> Row:
    """Coverage and the rest over all logs."""
    given = []
    answers = list(estimates(logs, method, hidden, limits or Limits()))
    for truth, answer in answers:
        if not isinstance(answer, NotEstimable):
            given.append((truth, answer.value, answer.low, answer.high))
    if not given:
        return Row(np.nan, 1.0, np.nan, np.nan, np.nan)
    truth, value, low, high = np.array(given).T
    return Row(
        covered=float(np.mean((low <= truth) & (truth <= high))),
        refused=1 - len(given) / len(answers),
        length=float(np.mean(high - low)),
        rmse=float(np.sqrt(np.mean((value - truth) ** 2))),
        bias=float(np.mean(value - truth)),
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--cases", nargs="*", default=CASES)
    parser.add_argument("--no-limits", action="store_true", help="show what the limits spare us")
    given = parser.parse_args()
    limits = NO_LIMITS if given.no_limits else Limits()
    print("case       method  hidden  covered  refused   length     rmse     bias")
    for case in given.cases:
        logs = simulate(case, given.runs, given.steps, given.seed)
        for method in METHODS:
            for hidden in (False, True):
                r = row(logs, method, hidden, limits)
                print(f"{case:10} {method:7} {hidden!s:6} " + " ".join(f"{number:8.4f}" for number in r))


if __name__ == "__main__":
    main()
