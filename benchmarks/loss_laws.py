"""Whether a loss law's stated error holds on schedules that no fit has seen: `python -m benchmarks.loss_laws --fits 10`.

Drawn curves of constant, cosine and two stages, 4,000 updates, noise of 1e-3 on log loss; the law is then asked for
schedules with a decay of 20 and of 40 %. Then the plan under the published 25M law.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from trainer.schedules import build_schedule
from trainer.schedules.laws.fit import fit_law, loss_curve
from trainer.schedules.laws.law import PUBLISHED, PUBLISHED_ERROR, AnnealingLaw, Law, MultiPowerLaw
from trainer.schedules.laws.plan import plan

PEAK, N, NOISE = 3e-4, 4000, 1e-3
SEEN = {"constant": {}, "cosine": {}, "multistep": {"milestones": [0.5], "factor": 0.3}}
TRUTHS: list[Law] = [PUBLISHED["25M"], AnnealingLaw(3.04, 0.52, 0.5, 4.0, 0.99)]


def rates(name: str, **more: object) -> np.ndarray:
    schedule = build_schedule({"name": name, "peak": PEAK, "warmup": 200, **more}, N)
    return np.array([schedule.lr(t) for t in range(N)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fits", type=int, default=10)
    n_fits = parser.parse_args().fits
    at = np.arange(200, N, 80)
    seen, new = {name: rates(name, **more) for name, more in SEEN.items()}, [rates("wsd", decay=0.2), rates("wsd", decay=0.4)]
    print("| curves drawn from | law fitted | new schedules: off by (rms, worst) | stated error, median | inside | s per fit |")
    print("|---|---|---|---|---|---|")
    for truth in TRUTHS:
        for kind in (AnnealingLaw, MultiPowerLaw):
            off, stated, began = [], [], time.process_time()
            for i in range(n_fits):
                rng = np.random.default_rng(i)
                noisy = [truth.losses(eta, at) * np.exp(NOISE * rng.standard_normal(len(at))) for eta in seen.values()]
                fit = fit_law(kind, [loss_curve(name, seen[name], at, loss) for name, loss in zip(seen, noisy, strict=True)])
                off.append([float(fit.law.losses(eta)[0] - truth.losses(eta)[0]) for eta in new])
                stated.append(fit.error)
            miss = np.abs(off)
            n_inside, each = int((miss < np.array(stated)[:, None]).sum()), (time.process_time() - began) / n_fits
            rms = np.sqrt((miss**2).mean())
            told = f"{rms:.4f}, {miss.max():.4f} | {np.median(stated):.4f} | {n_inside} of {miss.size} | {each:.1f}"
            print(f"| {type(truth).__name__} | {kind.__name__} | {told} |", flush=True)
    print(plan(PUBLISHED["25M"], PUBLISHED_ERROR, PEAK, 24_000, 2_160))


if __name__ == "__main__":
    main()
