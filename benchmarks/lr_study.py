"""Which schedule of the learning rate goes with which curriculum, on the quickstart's task at equal tokens.

    python -m benchmarks.lr_study peaks --folder runs/lr_study      # peak of each schedule, on seeds of its own
    python -m benchmarks.lr_study runs --folder runs/lr_study       # schedules x curricula on paired seeds, with those peaks
    python -m benchmarks.lr_study averages --folder runs/lr_study   # the mean of the last checkpoints of the constant runs
    python -m benchmarks.lr_study show --folder runs/lr_study       # tables, picture and JSON into docs/learning_rate

Every run is the quickstart (its model, task and curriculum) with half of its groups, in a process with one core, on policy; it
ends with the step that reaches the budget of completion tokens. Runs that are there already are not made again, so the commands
can be stopped and begun anew. Two at a time; about a minute each.

Runs of one seed share the starting model, the training prompts and the held-out prompts; differences are paired by seed, with
Student's t over seeds. Accuracy: the mean of four samples on each of 100 held-out prompts per distribution.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from curricula.statistics import Interval, interval
from curricula.types import CurriculaError

RECIPE = "configs/quickstart_cpu.yaml"
N_TOKENS = 340_000  # 80 to 120 steps, as completions are long
TUNING_SEEDS, SEEDS = (100, 101), (0, 1, 2, 3, 4)
PEAKS = (1.5e-4, 3e-4, 6e-4, 9e-4, 1.2e-3)

SCHEDULES: dict[str, dict[str, Any]] = {
    "constant": {"name": "constant"},
    "linear": {"name": "linear"},
    "wsd": {"name": "wsd", "decay": 0.2, "shape": "one_minus_sqrt", "floor": 0.1},
    "rex": {"name": "rex"},
    "linear_information": {"name": "linear", "clock": "informative_rollouts"},
}
TUNED_AS = {"linear_information": "linear"}  # the same shape has the same peak
CURRICULA: dict[str, dict[str, Any] | None] = {  # None = the quickstart's own
    "uniform": {"name": "uniform"},
    "dump": None,
    "easy_to_hard": {"name": "e2h", "steps": 120},
}
PAIRS = [(schedule, curriculum) for curriculum in CURRICULA for schedule in SCHEDULES]
AVERAGE = "constant_average"  # of the last checkpoints of the constant runs
HARD = ("ops-10", "ops-12", "ops-14")


@dataclass(frozen=True)
class Cell:
    """One run."""

    schedule: str
    curriculum: str
    peak: float
    seed: int

    @property
    def name(self) -> str:
        return f"{self.schedule}-{self.curriculum}-{self.peak:.2g}-seed{self.seed}"

    def overrides(self) -> Iterator[str]:
        shape = {"clock": "tokens", "warmup": 0.04, "peak": self.peak, **SCHEDULES[self.schedule]}
        distribution = CURRICULA[self.curriculum]
        yield f"seed={self.seed}"
        yield f"schedule={json.dumps(shape)}"
        if distribution is not None:
            yield f"curriculum.distribution={json.dumps(distribution)}"
        yield "rollout.groups_per_step=16"
        yield "rollout.engine.placement=driver"
        yield "rollout.log_texts=0.0"
        yield "run.mode=on_policy"
        yield "run.n_steps=200"
        yield f"run.n_tokens={N_TOKENS}"
        yield "run.checkpoint_every=10"
        yield f"run.keep_checkpoints={6 if self.schedule == 'constant' else 1}"


class Result(NamedTuple):
    """How a run ended."""

    accuracy: dict[str, float]  # by distribution, sampled
    greedy: float
    tokens: int
    updates: int
    informative_share: float  # of the rollouts


def run_cells(cells: Sequence[Cell], folder: Path, processes: int) -> None:
    """Make the runs that are not there yet."""
    missing = [cell for cell in cells if not (folder / cell.name / "result.json").exists()]
    print(f"{len(cells) - len(missing)} of {len(cells)} runs are there", flush=True)
    for seed in sorted({cell.seed for cell in missing}):
        command("warm-start", RECIPE, "--set", f"seed={seed}", "--set", cache_of(folder))
    with ThreadPoolExecutor(processes) as pool:
        for cell, result in zip(missing, pool.map(lambda cell: run_cell(cell, folder), missing), strict=True):
            print(f"{cell.name}: {np.mean(list(result.accuracy.values())):.1%} after {result.tokens:,} tokens", flush=True)


def run_cell(cell: Cell, folder: Path) -> Result:
    here = folder / cell.name
    sets = [word for text in (*cell.overrides(), cache_of(folder)) for word in ("--set", text)]
    resume = ["--resume"] if (here / "recipe.yaml").exists() else []
    command("train", RECIPE, "--folder", str(here), *sets, *resume)
    result = result_of(here)
    (here / "result.json").write_text(json.dumps(result._asdict()))
    return result


def cache_of(folder: Path) -> str:
    return f"warm_start.cache={folder / 'models'}"


def command(*words: str) -> None:
    """One of the command line's, on one core."""
    done = subprocess.run(
        [sys.executable, "-m", "trainer.cli", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise CurriculaError(f"{' '.join(words)} ended with {done.returncode}:\n{done.stderr[-2000:]}")


def result_of(run: Path) -> Result:
    from trainer.run_log import read_run_log

    data = read_run_log(run)
    scores = data.evaluations[-1].scores
    return Result(
        accuracy={name: score.sampled for name, score in scores.items()},
        greedy=float(np.mean([score.greedy for score in scores.values()])),
        tokens=sum(step.n_tokens_generated for step in data.steps),
        updates=len(data.steps),
        informative_share=float(np.mean([step.live_group_share for step in data.steps])),
    )


def tuning_cells() -> list[Cell]:
    """Every schedule that has a peak of its own at every peak, uniform."""
    schedules = [name for name in SCHEDULES if name not in TUNED_AS]
    return [Cell(name, "uniform", peak, seed) for seed in TUNING_SEEDS for peak in PEAKS for name in schedules]


def tuned(folder: Path) -> dict[str, float]:
    """The best peak of each schedule."""
    found = {cell: read(cell, folder) for cell in tuning_cells()}
    if None in found.values():
        raise CurriculaError(f"{folder}: runs of the peaks are missing; make them with `python -m benchmarks.lr_study peaks`")
    best = {name: max(PEAKS, key=lambda peak: tuning_mean(found, name, peak)) for name in SCHEDULES if name not in TUNED_AS}
    return best | {name: best[like] for name, like in TUNED_AS.items()}


def tuning_mean(found: Mapping[Cell, Result | None], name: str, peak: float) -> float:
    results = [result for cell, result in found.items() if (cell.schedule, cell.peak) == (name, peak)]
    return float(np.mean([np.mean(list(result.accuracy.values())) for result in results if result is not None]))


def study_cells(folder: Path, seeds: Sequence[int]) -> list[Cell]:
    """Seed by seed, so that what is there when one stops is paired."""
    peaks = tuned(folder)
    return [Cell(schedule, curriculum, peaks[schedule], seed) for seed in seeds for schedule, curriculum in PAIRS]


def read(cell: Cell, folder: Path) -> Result | None:
    path = folder / cell.name / "result.json"
    return Result(**json.loads(path.read_text())) if path.exists() else None


def make_averages(folder: Path, seeds: Sequence[int]) -> None:
    """Mean weights of the last checkpoints of each constant run, measured as the run was."""
    for cell in study_cells(folder, seeds):
        here, target = folder / cell.name, folder / cell.name.replace("constant", AVERAGE, 1)
        run = read(cell, folder)
        if cell.schedule != "constant" or run is None or (target / "result.json").exists():
            continue
        command("lr", "average", str(here), "--last", "6", "--out", str(target / "model"))
        command("evaluate", str(here), "--model", str(target / "model"), "--json", str(target / "scores.json"))
        scores = json.loads((target / "scores.json").read_text())["scores"]
        accuracy = {name: score["sampled"] for name, score in scores.items()}
        greedy = float(np.mean([score["greedy"] for score in scores.values()]))
        (target / "result.json").write_text(json.dumps(run._replace(accuracy=accuracy, greedy=greedy)._asdict()))


Measure = Mapping[tuple[str, str], np.ndarray]  # (schedule, curriculum) -> (S,) by seed


def measures(folder: Path, seeds: Sequence[int], names: Sequence[str] = ()) -> Measure:
    """Mean accuracy over distributions (``names``: some of them), for the seeds that all runs of the pair have."""
    found: dict[tuple[str, str], list[float]] = {}
    for cell in study_cells(folder, seeds):
        for schedule in (cell.schedule, AVERAGE) if cell.schedule == "constant" else (cell.schedule,):
            result = read(Cell(schedule, cell.curriculum, cell.peak, cell.seed), folder)
            value = np.mean([v for k, v in result.accuracy.items() if not names or k in names]) if result else np.nan
            found.setdefault((schedule, cell.curriculum), []).append(float(value))
    return {pair: np.array(values) for pair, values in found.items() if not np.isnan(values).any()}


def differences(measure: Measure) -> dict[tuple[str, str], Interval]:
    """Of each schedule to the constant rate under the same curriculum, in points."""
    return {
        (schedule, curriculum): interval(100 * (value_S - measure["constant", curriculum]))
        for (schedule, curriculum), value_S in measure.items()
        if schedule != "constant"
    }


def interactions(measure: Measure) -> dict[tuple[str, str], Interval]:
    """How much more a schedule gains over the constant rate under a curriculum than under uniform, in points."""
    gain = {pair: 100 * (value_S - measure["constant", pair[1]]) for pair, value_S in measure.items() if pair[0] != "constant"}
    return {
        (schedule, curriculum): interval(gain_S - gain[schedule, "uniform"])
        for (schedule, curriculum), gain_S in gain.items()
        if curriculum != "uniform"
    }


def over_curricula(measure: Measure) -> dict[str, Interval]:
    """Of each schedule to the constant rate, the mean over curricula of each seed, in points."""
    return {
        schedule: interval(np.mean([100 * (measure[schedule, name] - measure["constant", name]) for name in CURRICULA], axis=0))
        for schedule in dict.fromkeys(schedule for schedule, _ in measure)
        if schedule != "constant" and all((schedule, name) in measure for name in CURRICULA)
    }


def show(folder: Path, seeds: Sequence[int], out: Path) -> None:
    whole, hard = measures(folder, seeds), measures(folder, seeds, HARD)
    show_peaks(folder)
    print(f"accuracy after {N_TOKENS:,} tokens, seeds {list(seeds)}; differences to the constant rate in points, 95 % intervals")
    apart, hard_apart, more = differences(whole), differences(hard), interactions(whole)
    for pair, value_S in whole.items():
        line = f"  {pair[1]:<14}{pair[0]:<20}{value_S.mean():6.1%}  hardest three {hard[pair].mean():6.1%}"
        if pair in apart:
            line += f"   {told(apart[pair])}   hardest {told(hard_apart[pair])}"
        print(line + (f"   more than uniform {told(more[pair])}" if pair in more else ""))
    hard_over = over_curricula(hard)
    for schedule, found in over_curricula(whole).items():
        print(f"  all curricula {schedule:<20}{told(found)}   hardest {told(hard_over[schedule])}")
    show_pairs(whole)
    out.mkdir(parents=True, exist_ok=True)
    (out / "study.json").write_text(json.dumps(results_of(folder, seeds), indent=1) + "\n")
    print(draw(apart, hard_apart, out / "study"))


def show_peaks(folder: Path) -> None:
    tuning, peaks = {cell: read(cell, folder) for cell in tuning_cells()}, tuned(folder)
    print("accuracy by peak, uniform, mean of the tuning seeds")
    for name in (name for name in SCHEDULES if name not in TUNED_AS):
        values = "  ".join(f"{peak:.2g}: {tuning_mean(tuning, name, peak):.1%}" for peak in PEAKS)
        print(f"  {name:<20}{values}   -> {peaks[name]:.2g}")


def show_pairs(measure: Measure) -> None:
    """What else the study is asked: clocks, the decays against each other, and the curricula under each schedule."""
    for curriculum in CURRICULA:
        for one, other in (("linear_information", "linear"), ("wsd", "linear")):
            apart = interval(100 * (measure[one, curriculum] - measure[other, curriculum]))
            print(f"  {curriculum:<14}{one} - {other}: {told(apart)}")
    for schedule in SCHEDULES:
        for curriculum in (name for name in CURRICULA if name != "uniform"):
            apart = interval(100 * (measure[schedule, curriculum] - measure[schedule, "uniform"]))
            print(f"  {schedule:<20}{curriculum} - uniform: {told(apart)}")


def results_of(folder: Path, seeds: Sequence[int]) -> dict[str, Any]:
    cells = [*tuning_cells(), *study_cells(folder, seeds)]
    cells += [replace(cell, schedule=AVERAGE) for cell in cells if cell.schedule == "constant"]
    found = {cell.name: read(cell, folder) for cell in cells}
    return {name: result._asdict() for name, result in found.items() if result is not None}


def told(found: Interval) -> str:
    return f"{found.mean:+5.1f} [{found.low:+5.1f}, {found.high:+5.1f}]"


def draw(apart: Mapping[tuple[str, str], Interval], hard: Mapping[tuple[str, str], Interval], stem: Path) -> Path:
    """Differences with their intervals, one panel per curriculum."""
    from trainer.lr.pictures import files_of, picture
    from trainer.report.style import ordered_colours

    curricula = [name for name in CURRICULA if any(pair[1] == name for pair in apart)]
    schedules = list(dict.fromkeys(schedule for schedule, _ in apart))
    colours = ordered_colours(2)
    with picture(stem, 0.6 + 0.5 * len(schedules)) as figure:
        axes = figure.subplots(1, len(curricula), sharex=True, sharey=True, squeeze=False)[0]
        for axis, curriculum in zip(axes, curricula, strict=True):
            for shift, (label, found, colour) in enumerate(
                (("all distributions", apart, colours[0]), ("hardest three", hard, colours[1]))
            ):
                _dots(axis, [found.get((schedule, curriculum)) for schedule in schedules], 0.25 * shift - 0.12, colour, label)
            axis.axvline(0, color="0.5", linewidth=0.8)
            axis.set_title(curriculum.replace("_", " "), loc="left")
            axis.set_xlabel("points above the constant rate")
        axes[0].set_yticks(range(len(schedules)), [name.replace("_", " ") for name in schedules])
        axes[0].invert_yaxis()
        axes[-1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return files_of(stem)[0]


def _dots(axis: Axes, found: Sequence[Interval | None], shift: float, colour: str, label: str) -> None:
    rows = [(row, one) for row, one in enumerate(found) if one is not None]
    at, mean = [row + shift for row, _ in rows], [one.mean for _, one in rows]
    half = [one.high - one.mean for _, one in rows]
    axis.errorbar(mean, at, xerr=half, fmt="o", color=colour, markersize=4, linewidth=1.2, label=label)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=["peaks", "runs", "averages", "show"])
    parser.add_argument("--folder", type=Path, default=Path("runs/lr_study"))
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("docs/learning_rate"))
    given = parser.parse_args()
    if given.what == "peaks":
        run_cells(tuning_cells(), given.folder, given.processes)
    elif given.what == "runs":
        run_cells(study_cells(given.folder, given.seeds), given.folder, given.processes)
    elif given.what == "averages":
        make_averages(given.folder, given.seeds)
    else:
        show(given.folder, given.seeds, given.out)


if __name__ == "__main__":
    main()
