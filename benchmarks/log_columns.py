"""Reading a long log: JSON lines and compacted, into the columns of a LoggedRun. See README.md.

    python -m benchmarks.log_columns --groups 1000000 --folder /tmp/log

The first 20,000 groups are written by the real writer from random attempts of 64 groups of 8 (rewards 0 or 1, two in a hundred
time out, 100,000 prompts in ten distributions), without texts; the rest are their lines again under other steps and group ids, as
writing takes longer than anything measured here. Then `RolloutLog.compact` does its work. Every reading is a process of its own.
"""

from __future__ import annotations

import argparse
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from curricula.types import Outcome, PromptPool, Reason, RolloutPlan, Selection, Status, Verdict, group_ids
from replay.own_run import own_run
from rollout.compacted import sealed
from rollout.journal import scan
from rollout.log import ROLLOUTS, RolloutLog
from rollout.types import Attempt, Completion, FinishReason, Judged

GROUPS, ROLLOUTS_EACH, PROMPTS, LEVELS, WRITTEN = 64, 8, 100_000, 10, 20_032


def write(folder: Path, n_groups: int) -> None:
    rng = np.random.default_rng(0)
    pool = PromptPool.from_columns(
        [f"level-{i % LEVELS}/{i}" for i in range(PROMPTS)], [f"level-{i % LEVELS}" for i in range(PROMPTS)]
    )
    completions = [
        Completion(np.zeros(n, np.int32), rng.normal(-1, 0.1, n).astype(np.float32), "", FinishReason.STOP) for n in range(1, 513)
    ]
    log = RolloutLog(folder, log_texts=0.0)
    for step in range(-(-n_groups // GROUPS)):
        log.append_attempt(pool, attempt(pool, step, min(GROUPS, n_groups - step * GROUPS), completions, rng), {"seed": 0})
        log.append_step({"step": step, "lr": 1e-6})
        if step % 100 == 99:
            log.commit()
    log.commit()
    log.close()


def repeat(folder: Path, times: int) -> None:
    """Append the log's own lines under later steps."""
    path = folder / ROLLOUTS
    lines = [line.payload for line in scan(path)]
    n_steps, steps = WRITTEN // GROUPS, re.compile(rb'"step":(\d+)')
    with path.open("ab") as file:
        for k in range(1, times):
            for line in lines:
                file.write(sealed(moved(line, k * n_steps, steps)))


def moved(payload: bytes, by: int, steps: re.Pattern[bytes]) -> bytes:
    step = steps.search(payload)
    if step is None:
        return payload
    payload = payload.replace(step[0], b'"step":%d' % (int(step[1]) + by), 1)
    group = re.search(rb'"group":(\d+)', payload)
    return payload if group is None else payload.replace(group[0], b'"group":%d' % (int(group[1]) + (by << 32)), 1)


def attempt(pool: PromptPool, step: int, n: int, completions: list[Completion], rng: np.random.Generator) -> Attempt:
    prompt_B = rng.choice(len(pool), n, replace=False)
    selection = Selection(prompt_B, pool.distribution_N[prompt_B], np.full(n, n / len(pool)))
    plan = RolloutPlan(step, 0, 0, selection, np.full(n, ROLLOUTS_EACH), group_ids(step, 0, n), np.full(LEVELS, 1 / LEVELS))
    reward_BR = (rng.random((n, ROLLOUTS_EACH)) < rng.random((n, 1))).astype(np.float64)
    late_BR = rng.random((n, ROLLOUTS_EACH)) < 0.02
    length_BR = rng.integers(0, len(completions), (n, ROLLOUTS_EACH))
    judged_B = [
        [
            Judged(completions[k], Status.TIMEOUT if late else Status.OK, np.nan if late else reward, step, f"engine-{r}")
            for r, (k, late, reward) in enumerate(
                zip(length_BR[b].tolist(), late_BR[b].tolist(), reward_BR[b].tolist(), strict=True)
            )
        ]
        for b in range(n)
    ]
    status_R = np.where(late_BR.ravel(), Status.TIMEOUT, Status.OK)
    reward_R = np.where(late_BR.ravel(), np.nan, reward_BR.ravel())
    outcome = Outcome(
        plan, np.repeat(np.arange(n), ROLLOUTS_EACH), reward_R, status_R, length_BR.ravel() + 1, np.full(n * ROLLOUTS_EACH, step)
    )
    kept_B = (reward_BR.min(1) < reward_BR.max(1)) & (late_BR.sum(1) == 0)
    reason_B = np.where(kept_B, Reason.KEPT, Reason.ALL_EQUAL)
    return Attempt(plan, judged_B, outcome, Verdict(kept_B, reason_B, kept_B[outcome.group_R]))


def read(folder: Path) -> None:
    start = time.perf_counter()
    run = own_run(folder)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    read = f"{len(run):,} groups, {len(run.group_R):,} rollouts: {seconds:.1f} s, peak {peak:.2f} GiB"
    print(f"  {read}; mean reward {np.nanmean(run.reward_R):.4f}")


def measured(what: str, folder: Path) -> None:
    print(f"{what}: {sum(file.stat().st_size for file in folder.iterdir()) / 2**20:,.0f} MiB on disk", flush=True)
    subprocess.run([sys.executable, "-m", "benchmarks.log_columns", "--read", "--folder", str(folder)], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--read", action="store_true", help="Only read what is there.")
    parser.add_argument("--lines", action="store_true", help="Read the JSON lines too, before they are compacted.")
    arguments = parser.parse_args()
    if arguments.read:
        read(arguments.folder)
        return
    if not (arguments.folder / ROLLOUTS).exists():
        start = time.perf_counter()
        write(arguments.folder, min(WRITTEN, arguments.groups))
        repeat(arguments.folder, max(1, round(arguments.groups / WRITTEN)))
        print(f"written in {time.perf_counter() - start:.0f} s", flush=True)
    if arguments.lines:
        measured("JSON lines", arguments.folder)
    start = time.perf_counter()
    log = RolloutLog(arguments.folder)
    log.compact()
    log.close()
    print(f"compacted in {time.perf_counter() - start:.0f} s", flush=True)
    measured("compacted", arguments.folder)


if __name__ == "__main__":
    main()
