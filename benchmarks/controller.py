"""What deciding and learning cost: plan + judge + update on large pools, against naive forms in the same process.

    OMP_NUM_THREADS=1 python benchmarks/controller.py [--prompts 1000000] [--recipes uniform sec ...] [--json controller.json]
    OMP_NUM_THREADS=1 python benchmarks/controller.py --prompts 10000000 --recipes uniform dump_ucb mopps combined
    OMP_NUM_THREADS=1 python benchmarks/controller.py --prompts 100000 --distributions 10000 --recipes dump_ucb sec discounted_ucb

Medians over steps, in milliseconds, on the machine that runs it, and the process's largest memory; ``cpu_ms`` is the processor time
of the three calls, which says more than the clock where other work is running. The naive selector draws one prompt after another
from a list of weights that is made anew for each, as a pool sampler without arrays does. The knapsack against a heap and dynamic
programming: benchmarks/knapsack.py and the last lines here.
"""

from __future__ import annotations

import argparse
import functools
import heapq
import json
import random
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from curricula import Curriculum, Estimate, Feedback, Outcome, PromptPool, RolloutPlan
from curricula.budget.knapsack import Knapsack
from curricula.draws import draw_quota
from curricula.marginals import plug_in_marginals
from curricula.recipes import RECIPES

SIZES = ((512, 8), (32, 16))  # groups per step, rollouts per group
N_DISTRIBUTIONS = 10


def make_pool(n_prompts: int, n_distributions: int = N_DISTRIBUTIONS) -> PromptPool:
    return PromptPool(
        ids=eight_digits(n_prompts),
        distribution_N=np.arange(n_prompts) % n_distributions,
        distribution_names=tuple(f"level-{k}" for k in range(n_distributions)),
    )


def eight_digits(n: int) -> np.ndarray:
    """Ids 00000000, 00000001, ... without a Python string for each."""
    digit = np.arange(n)[:, None] // 10 ** np.arange(7, -1, -1) % 10
    return (digit.astype(np.uint32) + ord("0")).view("U8")[:, 0]


def answer(plan: RolloutPlan, pass_rate_N: np.ndarray) -> Outcome:
    rng = np.random.default_rng((1, plan.step))
    group_R = np.repeat(np.arange(len(plan)), plan.n_rollouts_B)
    reward_R = (rng.random(len(group_R)) < pass_rate_N[plan.selection.prompt_B][group_R]).astype(np.float64)
    n_tokens_R = rng.integers(10, 500, len(group_R))
    return Outcome(plan, group_R, reward_R, np.zeros_like(group_R), n_tokens_R, np.full_like(group_R, plan.step))


def milliseconds(call: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = call()
    return 1e3 * (time.perf_counter() - start), result


def time_recipe(name: str, pool: PromptPool, n_groups: int, group_size: int, n_steps: int) -> dict[str, float]:
    pass_rate_N = np.random.default_rng(0).beta(0.7, 0.7, len(pool))
    curriculum = Curriculum.from_recipe(name, pool)
    curriculum.plan(0, n_groups, n_groups * group_size)  # what is computed once per pool
    rows = []
    for step in range(n_steps):
        cpu_start = time.process_time()
        plan_ms, plan = milliseconds(lambda step=step: curriculum.plan(step, n_groups, n_groups * group_size))
        cpu_ms = 1e3 * (time.process_time() - cpu_start)
        outcome = answer(plan, pass_rate_N)
        cpu_start = time.process_time()
        judge_ms, verdict = milliseconds(lambda outcome=outcome: curriculum.judge(outcome))
        feedback = Feedback(outcome, verdict)
        update_ms, _ = milliseconds(lambda feedback=feedback: curriculum.update(feedback))
        cpu_ms += 1e3 * (time.process_time() - cpu_start)
        rows.append((plan_ms, judge_ms, update_ms, plan_ms + judge_ms + update_ms, cpu_ms))
    settled = np.array(rows[n_steps // 4 :])  # the seen-group memory has filled
    names = ("plan_ms", "judge_ms", "update_ms", "total_ms", "cpu_ms")
    return dict(zip(names, np.median(settled, axis=0).round(3).tolist(), strict=True))


def naive_draw(n_prompts: int) -> int:
    """One prompt from Python lists of ids and weights."""
    weights = [1.0 if i % 3 else 0.2 for i in range(n_prompts)]
    return random.choices(range(n_prompts), weights)[0]


def print_distribution_stage(pool: PromptPool, recipes: list[str]) -> None:
    """The distribution's own part of a step: probabilities, the draw of the quota, learning from 512 groups."""
    for name in recipes:
        curriculum = Curriculum.from_recipe(name, pool)
        policy, state = curriculum.stages.distribution, curriculum.stages.distribution.init(pool)
        outcome = answer(curriculum.plan(0, 512, 4096), np.full(len(pool), 0.5))
        feedback = Feedback(outcome, curriculum.judge(outcome))
        state = policy.update(state, pool, feedback)
        share_K = policy.probabilities(state, pool)
        rng = np.random.default_rng(0)
        draw = functools.partial(draw_quota, share_K, pool.size_K, 512, rng, pool.name_order_K)
        parts: dict[str, Callable[[], Any]] = {
            "probabilities": functools.partial(policy.probabilities, state, pool),
            "quota": draw,
            "update": functools.partial(policy.update, state, pool, feedback),
        }
        timed = {part: float(np.median([milliseconds(call)[0] for _ in range(30)])) for part, call in parts.items()}
        said = "  ".join(f"{part} {value:.3f}" for part, value in timed.items())
        print(f"{name:20s} distribution stage alone, ms: {said}  together {sum(timed.values()):.3f}")


def heap_knapsack(p: list[float], n_units: int, lo: int, hi: int) -> list[int]:
    """Greedy with a Python heap."""
    n = [lo] * len(p)

    def entry(i: int) -> tuple[float, int, int]:
        x, y = p[i], 1 - p[i]
        return (-x * y * y * (x ** n[i] * y + y ** n[i] * x), n[i], i)

    heap = [entry(i) for i in range(len(p))]
    heapq.heapify(heap)
    for _ in range(n_units - lo * len(p)):
        i = heapq.heappop(heap)[2]
        n[i] += 1
        if n[i] < hi:
            heapq.heappush(heap, entry(i))
    return n


def table_knapsack(p: np.ndarray, n_units: int, lo: int, hi: int) -> np.ndarray:
    """Dynamic programming over prompts x budget, vectorised over the budget."""
    left = n_units - lo * len(p)
    value = np.concatenate([np.zeros((len(p), 1)), plug_in_marginals(p, hi - 1).cumsum(axis=1)], axis=1)[:, lo - 1 :]
    best, choices = np.zeros(left + 1), []
    best[1:] = -np.inf
    for worth in value:
        options = np.full((left + 1, len(worth)), -np.inf)
        for k, v in enumerate(worth[: left + 1]):
            options[k:, k] = best[: left + 1 - k] + v
        choices.append(options.argmax(axis=1))
        best = options.max(axis=1)
    extra = []
    for choice in reversed(choices):
        extra.append(int(choice[left]))
        left -= extra[-1]
    return lo + np.array(extra[::-1])


def time_knapsack(n_groups: int, n_units: int, n_repeats: int, with_table: bool) -> dict[str, float]:
    p = np.random.default_rng(0).beta(0.7, 0.7, n_groups)
    policy, estimate = Knapsack(value="plug_in"), Estimate(p, 1 - p)
    posterior = Knapsack()
    belief = Estimate(1 + 8 * p, 1 + 8 * (1 - p))
    ours_ms = np.median([milliseconds(lambda: policy.shares(estimate, n_units))[0] for _ in range(n_repeats)])
    posterior_ms = np.median([milliseconds(lambda: posterior.shares(belief, n_units))[0] for _ in range(n_repeats)])
    heap_ms, heap = milliseconds(lambda: heap_knapsack(p.tolist(), n_units, 2, 128))
    assert worth(p, np.array(heap)) <= worth(p, policy.shares(estimate, n_units)) * (1 + 1e-12)
    row = {"plug_in_ms": ours_ms, "posterior_ms": posterior_ms, "heap_ms": heap_ms, "heap_ratio": heap_ms / ours_ms}
    if with_table:
        table_ms, table = milliseconds(lambda: table_knapsack(p, n_units, 2, 128))
        assert abs(worth(p, table) - worth(p, policy.shares(estimate, n_units))) < 1e-9
        row |= {"table_ms": table_ms, "table_ratio": table_ms / ours_ms}
    return {key: round(float(value), 3) for key, value in row.items()}


def worth(p: np.ndarray, n: np.ndarray) -> float:
    return float(((1 - p**n - (1 - p) ** n) * p * (1 - p) ** 2).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prompts", type=int, default=1_000_000)
    parser.add_argument("--steps", type=int, default=80)
    parser.add_argument("--distributions", type=int, default=N_DISTRIBUTIONS)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    build_ms, pool = milliseconds(lambda: make_pool(options.prompts, options.distributions))
    once_ms, _ = milliseconds(lambda: (pool.canonical_N, pool.place_N, pool.row_place_N, pool.fingerprint))
    print(f"pool of {options.prompts} prompts: {build_ms:.0f} ms to build, {once_ms:.0f} ms to order and fingerprint, once")
    results: dict[str, Any] = {"prompts": options.prompts, "recipes": {}, "knapsack": {}}
    for n_groups, group_size in SIZES:
        for name in options.recipes:
            row = time_recipe(name, pool, n_groups, group_size, options.steps)
            results["recipes"][f"{name}/{n_groups}x{group_size}"] = row
            print(f"{name:28s} {n_groups:4d} x {group_size:2d}  " + "  ".join(f"{key} {value:7.3f}" for key, value in row.items()))
    naive_ms, _ = milliseconds(lambda: naive_draw(options.prompts))
    print(f"naive selector: {naive_ms:.1f} ms per draw, {512 * naive_ms:.0f} ms for 512 groups")
    if options.distributions > N_DISTRIBUTIONS:
        print_distribution_stage(pool, options.recipes)
    print(f"largest memory of this process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
    for n_groups, n_units in ((512, 4096), (8192, 65536), (100_000, 800_000)):
        row = time_knapsack(n_groups, n_units, 20 if n_groups < 1e5 else 3, with_table=n_groups <= 512)
        results["knapsack"][f"{n_groups}x{n_units}"] = row
        print(f"knapsack {n_groups} groups, {n_units} rollouts: " + "  ".join(f"{key} {value}" for key, value in row.items()))
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
