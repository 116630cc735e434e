"""A log of a million groups, replayed through recipes: seconds and memory. See README.md.

    OMP_NUM_THREADS=1 python -m benchmarks.replay_scale [--groups 1000000] [--prompts 10000 100000 1000000] [--recipes uniform ...]

The log is made in memory: steps of 512 groups of 8 rollouts, drawn uniformly from prompts in a hundred distributions, scores of 0
or 1 by a fixed pass rate of each prompt, two rollouts in a hundred timed out. Every figure comes from a process of its own: "log"
is what Python and the columns take, "peak" the largest resident memory of the process with log and replay together.

First, on logs of ``--naive`` groups: one Python loop over groups, rollouts and prompts that reckons a part of the same for
``uniform`` (its chances, its belief of the groups and of its plan, what was live, IPS), checked against `replay` in this process.

``--verl 20000`` writes so many groups as verl's files, without texts, and reads them. Our own logs: benchmarks/log_columns.py.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curricula import Curriculum, PromptPool
from curricula.types import Status
from replay.estimators import Value
from replay.evaluate import measures, replay
from replay.importers import read
from replay.passes import Terms, walk
from replay.types import LoggedRun

PER_STEP, ROLLOUTS_EACH, DISTRIBUTIONS = 512, 8, 100
KNAPSACK = 4  # rollouts per group that it may spend: with 8 it asks for more than the log has
FORGETTING = 0.02  # of the belief, per policy version
RECIPES = ("uniform", "dump_ucb", "knapsack", "mopps", "learnability")


def made_log(n_groups: int, n_prompts: int, seed: int = 0) -> LoggedRun:
    rng = np.random.default_rng(seed)
    distribution_N = np.arange(n_prompts) % DISTRIBUTIONS
    pool = PromptPool.from_columns(
        [f"{k:02d}/{i}" for i, k in enumerate(distribution_N.tolist())], [f"level {k:02d}" for k in distribution_N.tolist()]
    )
    rate_N = np.clip(rng.normal(0.5, 0.4, n_prompts), 0, 1)  # a fifth of the prompts is hopeless or solved
    sizes = [min(PER_STEP, n_groups - start) for start in range(0, n_groups, PER_STEP)]
    prompt_G = np.concatenate([rng.choice(n_prompts, size, replace=False) for size in sizes])
    score_GR = rng.random((n_groups, ROLLOUTS_EACH)) < rate_N[prompt_G][:, None]
    late_R = rng.random(score_GR.size) < 0.02
    return LoggedRun(
        source="made",
        pool=pool,
        prompt_G=prompt_G,
        step_G=np.repeat(np.arange(len(sizes)), sizes),
        group_R=np.repeat(np.arange(n_groups), ROLLOUTS_EACH),
        reward_R=np.where(late_R, np.nan, score_GR.ravel()),
        status_R=np.where(late_R, Status.TIMEOUT, Status.OK),
        n_tokens_R=rng.integers(1, 1000, score_GR.size),
        policy_version_R=np.repeat(np.arange(len(sizes)), [ROLLOUTS_EACH * size for size in sizes]),
        propensity_G=np.repeat(np.array(sizes) / n_prompts, sizes),
        arm_probability_G=np.full(n_groups, 1 / DISTRIBUTIONS),
        kept_G=np.ones(n_groups),
    )


def curriculum_of(recipe: str, pool: PromptPool) -> Curriculum:
    known = {"learnability": {"selector": "learnability", "belief": "beta"}}
    return Curriculum.from_recipe(known.get(recipe, recipe), pool)  # type: ignore[arg-type]


def one(recipe: str, n_groups: int, n_prompts: int) -> None:
    run = made_log(n_groups, n_prompts)
    log = peak()
    curriculum = curriculum_of(recipe, run.pool)
    terms = Terms(rollouts_per_group=KNAPSACK if recipe == "knapsack" else None)
    clock = time.perf_counter(), time.process_time()
    replay(run, {recipe: curriculum}, terms)
    seconds, cpu = time.perf_counter() - clock[0], time.process_time() - clock[1]
    print(f"| `{recipe}` | {n_prompts:,} | {seconds:.1f} | {cpu:.1f} | {log:.2f} | {peak():.2f} |", flush=True)


def peak() -> float:
    """Largest resident memory so far, GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


class Naive(NamedTuple):
    """What a loop over groups finds."""

    chance_G: list[float]
    believed_G: list[float]
    live_G: list[float]
    predicted_D: list[float]  # live share of the plan, by the belief
    ips: float


def naive(run: LoggedRun) -> Naive:
    """``uniform`` with its belief, group by group and rollout by rollout, from Python's own lists."""
    prompts, steps, propensities = run.prompt_G.tolist(), run.step_G.tolist(), run.propensity_G.tolist()
    distributions = run.pool.distribution_N.tolist()
    members: list[list[int]] = [[] for _ in range(run.pool.n_distributions)]
    for prompt, k in enumerate(distributions):
        members[k].append(prompt)
    scores: list[list[float]] = [[] for _ in prompts]
    for group, score in zip(run.group_R.tolist(), run.score_R.tolist(), strict=True):
        if not math.isnan(score):
            scores[group].append(score)
    visits, counts = [0] * len(run.pool), [(0.0, 0.0, 0)] * len(run.pool)
    found, by_step, version = Naive([], [], [], [], 0.0), [], 0
    for step, group_ in groupby(range(len(prompts)), key=steps.__getitem__):
        groups = list(group_)
        chance = naive_chances(visits, members, len(groups) / len(members))
        found.predicted_D.append(
            sum(q * naive_live(naive_rate(counts[prompt], version)) for prompt, q in enumerate(chance) if q > 0) / sum(chance)
        )
        total = 0.0
        for g in groups:
            found.believed_G.append(naive_rate(counts[prompts[g]], version))
            found.chance_G.append(chance[prompts[g]])
            found.live_G.append(float(len(scores[g]) > 0 and max(scores[g]) > min(scores[g])))
            total += found.chance_G[g] / propensities[g] * found.live_G[g]
        by_step.append(total / sum(chance))
        for g in groups:
            visits[prompts[g]] += 1
            if scores[g]:
                success, failure, stamp = counts[prompts[g]]
                kept, right = (1 - FORGETTING) ** (step - stamp), sum(scores[g])
                counts[prompts[g]] = kept * success + right, kept * failure + len(scores[g]) - right, step
        version = step
    return found._replace(ips=sum(by_step) / len(by_step))


def naive_rate(counts: tuple[float, float, int], version: int) -> float:
    success, failure, stamp = counts
    kept = (1 - FORGETTING) ** (version - stamp)
    return (1 + kept * success) / (2 + kept * (success + failure))


def naive_live(rate: float) -> float:
    return 1 - float(rate**ROLLOUTS_EACH) - float((1 - rate) ** ROLLOUTS_EACH)


def naive_chances(visits: list[int], members: list[list[int]], expected: float) -> list[float]:
    """Of every prompt: the least visited of each distribution first."""
    chance = [0.0] * len(visits)
    for prompts in members:
        left, before = sorted({visits[prompt] for prompt in prompts}), 0
        while before < math.ceil(expected):
            here = [prompt for prompt in prompts if visits[prompt] == left[0]]
            for prompt in here:
                chance[prompt] = min(max(expected - before, 0.0), len(here)) / len(here)
            left, before = left[1:], before + len(here)
    return chance


def compare(n_groups: int, n_prompts: int) -> None:
    run = made_log(n_groups, n_prompts)
    start = time.process_time()
    found = naive(run)
    slow = time.process_time() - start
    start = time.process_time()
    told = replay(run, {"uniform": curriculum_of("uniform", run.pool)})
    fast = time.process_time() - start
    walked = walk(run, curriculum_of("uniform", run.pool))
    assert np.allclose(walked.chance_G, found.chance_G, rtol=1e-6, atol=0.02)  # the loop leaves the quota's rounding out
    assert np.allclose(walked.believed_G, found.believed_G, rtol=1e-5)
    assert np.array_equal(measures(run)["live"], found.live_G)
    value = told.evaluations[0].choice.values["live"]["ips"]
    assert isinstance(value, Value)
    assert abs(value.value - found.ips) < 0.2 * value.standard_error, (value, found.ips)
    assert np.allclose(walked.predicted["live"].mean_D, found.predicted_D, atol=0.01)
    print(
        f"{n_groups:,} groups, {n_prompts:,} prompts: loop {slow:.2f}, replay {fast:.2f} processor seconds, ratio {slow / fast:.1f}"
    )


def verl(n_groups: int) -> None:
    """Write and read verl's files: a row per rollout."""
    run = made_log(n_groups, 10_000)
    prompt_R, step_R, score_R = run.prompt_G[run.group_R].tolist(), run.step_G[run.group_R].tolist(), run.score_R.tolist()
    with tempfile.TemporaryDirectory() as folder:
        for step, rows in groupby(range(len(step_R)), key=step_R.__getitem__):
            with (Path(folder) / f"{step + 1}.jsonl").open("w") as file:
                for r in rows:
                    score = 0.0 if math.isnan(score_R[r]) else score_R[r]  # verl knows no timeouts
                    uid = f"{r // ROLLOUTS_EACH}_{r % ROLLOUTS_EACH}_0"
                    row = {"input": f"prompt {prompt_R[r]}", "output": "", "score": score, "step": step + 1, "uid": uid}
                    file.write(json.dumps(row) + "\n")
        del run, prompt_R, step_R, score_R
        start, before = time.process_time(), peak()
        found = read(Path(folder), "verl")
        seconds = time.process_time() - start
    rows = f"{len(found):,} groups, {len(found.group_R):,} rows"
    print(f"verl: {rows} in {seconds:.1f} processor seconds, {before:.2f} to {peak():.2f} GiB")


def alone(*words: str | int) -> None:
    """This module once more, in a process of its own."""
    subprocess.run([sys.executable, "-m", "benchmarks.replay_scale", *map(str, words)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=1_000_000)
    parser.add_argument("--prompts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--naive", type=int, default=20_480, help="Groups of the log for the comparison; 0 = none.")
    parser.add_argument("--verl", type=int, default=0, help="Groups to write and read as verl's files.")
    parser.add_argument("--alone", action="store_true", help="In this process: one recipe, one pool.")
    chosen = parser.parse_args()
    if chosen.alone:
        one(chosen.recipes[0], chosen.groups, chosen.prompts[0])
        return
    if chosen.naive:
        for n_prompts in chosen.prompts[:2]:
            compare(chosen.naive, n_prompts)
    if chosen.verl:
        verl(chosen.verl)
    print(f"\n{chosen.groups:,} groups of {ROLLOUTS_EACH}, {PER_STEP} a step; load average {os.getloadavg()[0]:.1f}")
    print("| recipe | prompts | seconds | processor seconds | log, GiB | peak, GiB |\n|---|---|---|---|---|---|")
    for n_prompts in chosen.prompts:
        for recipe in chosen.recipes:
            alone("--alone", "--groups", chosen.groups, "--prompts", n_prompts, "--recipes", recipe)


if __name__ == "__main__":
    main()
