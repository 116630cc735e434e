"""Coverage of the 95 % intervals of `curricula lr fit` on drawn runs: `python -m benchmarks.score_curve --fits 1000`."""

from __future__ import annotations

import argparse
import time

import numpy as np

from curricula.types import CurriculaError
from trainer.lr.from_logs.sigmoid import Scores, fit_sigmoid

LAST = 100.0
CASES = [  # start, end, C_mid (the run ends at 100), B, evaluations, rollouts each, wander of the pass rate (standard deviation)
    (0.1, 0.8, 30, 1.5, 8, 400, 0.0),
    (0.1, 0.8, 30, 1.5, 16, 400, 0.0),
    (0.1, 0.8, 30, 1.5, 31, 400, 0.0),
    (0.2, 0.6, 20, 2.0, 16, 100, 0.0),
    (0.02, 0.95, 40, 3.0, 16, 400, 0.0),
    (0.1, 0.8, 90, 1.5, 16, 400, 0.0),
    (0.1, 0.8, 30, 1.5, 16, 400, 0.03),
]


def curve(at: np.ndarray, start: float, end: float, middle: float, steepness: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return start + (end - start) / (1 + (middle / at) ** steepness)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=1000)
    n_fits = parser.parse_args().fits
    print(
        "| R0, A, C_mid, B | measured x rollouts | wander | R0 | A | C_mid | B | R(last) | R(2 x last) | width of A | bent | ms |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for start, end, middle, steepness, n_evaluations, n, wander in CASES:
        at = np.linspace(0, LAST, n_evaluations)
        p = curve(at, start, end, middle, steepness)
        truth = np.array([start, end, middle, steepness, *curve(np.array([LAST, 2 * LAST]), start, end, middle, steepness)])
        inside, widths, bent, began = [], [], [], time.process_time()
        for i in range(n_fits):
            rng = np.random.default_rng((i, n_evaluations, n))
            moved = np.clip(p + wander * rng.standard_normal(n_evaluations), 0, 1)
            try:
                found = fit_sigmoid(Scores(at, rng.binomial(n, moved) / n, np.full(n_evaluations, float(n))))
            except CurriculaError:
                continue
            _, low, high = found.predict([LAST, 2 * LAST])
            ranges = [found.start, found.asymptote, found.middle, found.steepness]
            lows, highs = np.append([one.low for one in ranges], low), np.append([one.high for one in ranges], high)
            inside.append((lows <= truth) & (truth <= highs))
            widths.append(found.asymptote.high - found.asymptote.low)
            bent.append(found.bent)
        each = (time.process_time() - began) / n_fits * 1e3
        shares = " | ".join(f"{100 * share:.1f}" for share in np.mean(inside, axis=0))
        print(
            f"| {start}, {end}, {middle}, {steepness} | {n_evaluations} x {n} | {wander} | {shares} | {np.median(widths):.2f} "
            f"| {100 * np.mean(bent):.0f} | {each:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
