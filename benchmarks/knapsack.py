"""The exact knapsack for up to a million prompts, against the whole table of marginals, a heap and dynamic programming.

    OMP_NUM_THREADS=1 python -m benchmarks.knapsack [--json knapsack.json]

Medians of five, in milliseconds; eight rollouts per prompt on average, two to 128 each. The heap runs once, up to 100,000 prompts,
dynamic programming up to 512; both in the same process on the same pass rates. Objectives are compared, not only times.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.controller import heap_knapsack, milliseconds, table_knapsack, worth
from curricula import Estimate
from curricula.budget.knapsack import Knapsack
from curricula.spending import spend

SIZES = (512, 8192, 100_000, 1_000_000)
LO, HI = 2, 128


def whole_table(policy: Knapsack, estimate: Estimate, n_units: int) -> np.ndarray:
    """As it was before the search for the price: every marginal of every prompt, the largest taken."""
    n_rows = len(estimate.alpha_B)
    return LO + spend(lambda c: policy.marginals(estimate, LO - 1 + c)[:, LO - 1 :], n_units - LO * n_rows, HI - LO)


def measure(n_groups: int, n_repeats: int) -> dict[str, float]:
    p = np.random.default_rng(0).beta(0.7, 0.7, n_groups)
    n_units, row = 8 * n_groups, {}
    for value, estimate in (("plug_in", Estimate(p, 1 - p)), ("posterior", Estimate(1 + 8 * p, 1 + 8 * (1 - p)))):
        policy = Knapsack(value=value)
        ours = [milliseconds(lambda policy=policy, estimate=estimate: policy.shares(estimate, n_units)) for _ in range(n_repeats)]
        row[f"{value}_ms"] = float(np.median([ms for ms, _ in ours]))
        if n_groups <= 100_000:
            table_ms, table = milliseconds(lambda policy=policy, estimate=estimate: whole_table(policy, estimate, n_units))
            assert (table == ours[0][1]).all()
            row[f"{value}_whole_table_ms"] = table_ms
    if n_groups <= 100_000:
        plug_in = Knapsack(value="plug_in").shares(Estimate(p, 1 - p), n_units)
        row["heap_ms"], heap = milliseconds(lambda: heap_knapsack(p.tolist(), n_units, LO, HI))
        assert abs(worth(p, np.array(heap)) - worth(p, plug_in)) < 1e-9 * n_groups
    if n_groups <= 512:
        row["program_ms"], program = milliseconds(lambda: table_knapsack(p, n_units, LO, HI))
        assert abs(worth(p, program) - worth(p, plug_in)) < 1e-9
    return {key: round(value, 3) for key, value in row.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = {}
    for n_groups in SIZES:
        results[str(n_groups)] = row = measure(n_groups, options.repeats)
        print(f"{n_groups:8d} prompts  " + "  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
