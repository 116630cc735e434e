"""Runs that are extended, decayed and branched on their way: exact on resume, recorded, and never at the cost of the trunk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curricula.types import CurriculaError
from rollout.lock import FolderLock
from rollout.log import RolloutLog, read_log
from tests.trainer.recipes import simulated
from trainer import checkpoint
from trainer.cli import main
from trainer.loop import run
from trainer.lr.operations.branching import branch
from trainer.lr.operations.history import SCHEDULE, history
from trainer.lr.operations.recording import Longer, extend, start_decay
from trainer.operations import OPERATIONS, Course, Extend, StartDecay, operation_of, read_operations, record_of_operation
from trainer.recipe import Recipe, load_recipe
from trainer.report import write_report
from trainer.schedules import build_schedule
from trainer.schedules.build import build_rate
from trainer.schedules.clock import Clock, Consumed
from trainer.schedules.rate import LearningRate
from trainer.verify_log import reexecuted, verify_run

SMALL = {"rollout__groups_per_step": 6, "rollout__rollouts_per_group": 4, "evaluation__prompts_per_distribution": 2}
COSINE = {"name": "cosine", "peak": 0.3, "warmup": 2, "floor": 0.1}
INFORMATION = {"name": "wsd", "peak": 0.3, "decay": 0.5, "floor": 0.2, "clock": "informative_rollouts"}


def of(folder: Path, **changes: Any) -> Recipe:
    run_ = {"run__n_steps": 6, "run__checkpoint_every": 2, "run__keep_checkpoints": 9, "schedule": COSINE}
    return simulated(folder, **{**SMALL, **run_, **changes})


@pytest.fixture(scope="module")
def trunks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run on each kind of clock."""
    base = tmp_path_factory.mktemp("trunks")
    run(of(base / "updates"))
    run(of(base / "forecast", schedule=INFORMATION, run__mode="one_step_ahead"))
    return {"updates": base / "updates", "forecast": base / "forecast"}


def copy(trunk: Path, folder: Path) -> Path:
    return Path(shutil.copytree(trunk, folder))


def steps_of(folder: Path) -> list[dict[str, Any]]:
    return [record for record in read_log(folder / "log") if record["kind"] == "step"]


def rates_of(folder: Path) -> list[float]:
    return [float(step["lr"]) for step in steps_of(folder)]


def decisions(folder: Path) -> list[tuple[Any, ...]]:
    groups = [record for record in read_log(folder / "log") if record["kind"] == "group"]
    return [(r["step"], r["group"], r["prompt"], r["n_asked"], r["propensity"], r["rewards"], r["versions"]) for r in groups]


def damage(folder: Path, step: int) -> None:
    file = folder / "checkpoints" / f"step-{step:08d}" / "curriculum.npz"
    file.write_bytes(file.read_bytes()[:-1])


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["lr", *arguments])
    return int(ended.value.code or 0)


# --- the sequence of rates


def rate_of(forecast: bool, n_steps: int) -> LearningRate:
    clock = Clock("tokens", steps=n_steps) if forecast else Clock("tokens", 100.0 * n_steps)
    return LearningRate(build_schedule({**COSINE, "warmup": 0.0}, 1.0 if forecast else 100.0 * n_steps), clock)


@settings(max_examples=30, deadline=None)
@given(st.data(), st.booleans())
def test_resumed_at_any_step_the_rates_are_those_of_one_rate_that_was_told_the_same(data: Any, forecast: bool) -> None:
    """An extension at a, a decay at b, and a resume through JSON before any step, none of which the second run knows of."""
    n, extra = data.draw(st.integers(4, 30)), data.draw(st.integers(1, 30))
    a = data.draw(st.integers(1, n - 1))
    b = data.draw(st.integers(a, n + extra - 1))
    length = data.draw(st.integers(1, 20))
    came = data.draw(st.lists(st.integers(0, 300), min_size=n + extra + length, max_size=n + extra + length))
    cuts = data.draw(st.sets(st.integers(0, n + extra + length), max_size=6))
    units = "steps" if forecast else "tokens"
    told = (
        Extend(a, n + extra, 0, None if forecast else 100.0 * (n + extra)),
        StartDecay(b, float(length if forecast else 100 * length), units, "linear"),
    )

    def operated() -> list[float]:
        rate, course, rates = rate_of(forecast, n), Course(n, pending=told), []
        for step, tokens in enumerate(came):
            if step in cuts:
                saved = json.loads(json.dumps([rate.state_dict(), [record_of_operation(one) for one in course.applied]]))
                rate = rate_of(forecast, n)
                rate.load_state_dict(saved[0])
                applied = [operation_of(one, "here") for one in saved[1]]
                assert tuple(applied) == told[: len(applied)]
                course = Course(n)
                for one in applied:
                    course = course.told(one, forecast)
                course = Course(course.n_steps, 0, course.ends_with_decay, course.applied, told[len(applied) :])
            course = course.apply_due(step, 0, rate)
            if course.is_over(step, 0, rate):
                break
            rates.append(rate.lr(Consumed(tokens=tokens)))
            rate.advance(Consumed(tokens=tokens), course.n_steps - step - 1)
        return rates

    rate, rates, end = rate_of(forecast, n), [], n
    for step, tokens in enumerate(came):
        if step == a:
            before = rate.lr()
            rate.extend_steps(a, n - a, n + extra - a) if forecast else rate.extend(100.0 * (n + extra))
            assert rate.lr() == before
            end = n + extra
        if step == b:
            before = rate.lr()
            rate.decay_steps(b, end - b, length, "linear") if forecast else rate.start_decay(100 * length, "linear")
            assert rate.lr() == before
            end = b + length
        if (forecast and step >= end) or rate.decay_left <= 0:
            break
        rates.append(rate.lr(Consumed(tokens=tokens)))
        rate.advance(Consumed(tokens=tokens), end - step - 1)
    assert operated() == rates


def test_an_extended_forecast_is_the_forecast_of_the_longer_run() -> None:
    """Equal steps: after k of n steps, extended to m, the share is k / m, also when the run was through."""
    for k in (3, 10):
        rate = rate_of(True, 10)
        for step in range(k):
            rate.advance(Consumed(tokens=64), 9 - step)
        rate.extend_steps(k, 10 - k, 40 - k)
        assert rate.state.clock.done == pytest.approx(k / 40)
    with pytest.raises(CurriculaError, match="it goes by a forecast; use extend_steps"):
        rate.extend(2.0)


# --- runs


def test_a_run_is_extended_and_decayed_and_has_the_rates_of_the_rate_that_was_told_so(
    trunks: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy(trunks["updates"], tmp_path / "run")
    recipe = of(folder)
    assert call("extend", str(folder), "--steps", "9") == 0
    assert "the run ended with 6 steps; now with 9 steps" in capsys.readouterr().out
    run(recipe, resume=True)
    assert call("decay", str(folder), "--length", "4", "--shape", "linear", "--floor", "0.01") == 0
    summary = run(recipe, resume=True)
    assert (summary.n_steps, summary.stopped_early) == (13, False)

    rate, expected = build_rate(recipe.schedule, recipe.length), []
    for step in range(13):
        before = rate.lr()
        if step == 6:
            rate.extend(9)
        if step == 9:
            rate.start_decay(4, "linear", 0.01)
        assert rate.lr() == before
        expected.append(rate.lr())
        rate.advance(Consumed())
    assert rates_of(folder) == expected
    assert run(recipe, resume=True).n_steps == 13, "a run that has ended has ended"
    assert [checked.difference for checked in verify_run(folder)] == [None] * len(verify_run(folder))
    page = write_report(folder).read_text()
    assert "Dotted lines: extended to 9 steps, horizon 9 (before step 6); decay over 4 updates, linear, floor 0.01" in page
    assert ">13<" in page, "the card of steps"


@pytest.mark.parametrize("clock", ["updates", "forecast"])
def test_from_an_older_checkpoint_the_operation_applies_where_it_was_decided(
    trunks: dict[str, Path], tmp_path: Path, clock: str
) -> None:
    """The newest checkpoint is damaged: the run does its steps again and is, in every decision and rate, the one that was not."""
    whole, damaged = copy(trunks[clock], tmp_path / "whole"), tmp_path / "damaged"
    extend(whole, Longer(n_steps=10))
    copy(whole, damaged)
    damage(damaged, 6)
    changes = {"schedule": INFORMATION, "run__mode": "one_step_ahead"} if clock == "forecast" else {}
    for folder in (whole, damaged):
        run(of(folder, **changes), resume=True)
    assert rates_of(damaged) == rates_of(whole)
    assert len(set(rates_of(whole))) >= 3
    assert decisions(damaged) == decisions(whole)
    rewritten = checkpoint.read(damaged / "checkpoints" / "step-00000006")
    assert rewritten is not None
    assert rewritten.facts["operations"] == []
    assert reexecuted(damaged)[::2] == (10, None)


def test_nothing_is_decided_for_a_moment_that_the_run_has_lost(trunks: dict[str, Path], tmp_path: Path) -> None:
    folder = copy(trunks["updates"], tmp_path / "run")
    extend(folder, Longer(n_steps=10))
    damage(folder, 6)
    with pytest.raises(CurriculaError, match=r"extend is decided for the moment before step 6, .* is of step 4; resume the run"):
        start_decay(folder, 5)


def test_a_decay_of_a_forecast_ends_the_run_so_many_steps_later(trunks: dict[str, Path], tmp_path: Path) -> None:
    folder = copy(trunks["forecast"], tmp_path / "run")
    with pytest.raises(CurriculaError, match=r"so the length counts steps; got 2\.5"):
        start_decay(folder, 2.5)
    recorded = start_decay(folder, 3)
    assert recorded.before.rate.lr() == recorded.after.rate.lr()
    assert run(of(folder, schedule=INFORMATION, run__mode="one_step_ahead"), resume=True).n_steps == 9
    rates = rates_of(folder)
    assert rates[6] == recorded.before.rate.lr()
    assert rates[6] > rates[7] > rates[8] > 0


def test_tokens_end_a_run_later_and_a_decay_counts_them(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    line = {"name": "linear", "peak": 0.3, "floor": 0.1, "clock": "tokens"}
    recipe = of(folder, schedule=line, run__n_tokens=700, run__n_steps=90)
    run(recipe)
    n = len(rates_of(folder))
    recorded = extend(folder, Longer(n_tokens=1400))
    assert recorded.before.rate.lr() == recorded.after.rate.lr()
    assert isinstance(recorded.operation, Extend)
    assert (recorded.operation.n_tokens, recorded.operation.n_steps, recorded.operation.horizon) == (1400, 90, 1400.0)
    run(recipe, resume=True)
    tokens = [step["n_tokens_generated"] for step in steps_of(folder)]
    assert n < len(tokens) < 90
    assert sum(tokens[:-1]) < 1400 <= sum(tokens)
    assert rates_of(folder)[n] == recorded.before.rate.lr()
    before = start_decay(folder, 500, "linear").before
    run(recipe, resume=True)
    after = [step["n_tokens_generated"] for step in steps_of(folder)][len(tokens) :]
    assert sum(after[:-1]) < 500 <= sum(after), "the run ends where the decay ends, whatever n_tokens says"
    assert rates_of(folder)[len(tokens)] == before.rate.lr()


RECORD_AND_DIE = """
import os, signal, sys
from pathlib import Path
from trainer.lr.operations.recording import Longer, extend
extend(Path(sys.argv[1]), Longer(n_steps=8))
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_nothing_and_an_unfinished_line_is_no_operation(trunks: dict[str, Path], tmp_path: Path) -> None:
    folder = copy(trunks["updates"], tmp_path / "run")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", RECORD_AND_DIE, str(folder)], env=environment, check=False, timeout=120)
    assert killed.returncode == -signal.SIGKILL
    assert [str(one) for one in read_operations(folder)] == ["extended to 8 steps, horizon 8"]
    path = folder / OPERATIONS
    line = path.read_bytes()
    path.write_bytes(line + line[:40])
    assert len(read_operations(folder)) == 1
    extend(folder, Longer(n_steps=9))
    assert [one.n_steps for one in read_operations(folder) if isinstance(one, Extend)] == [8, 9]
    assert [file.read_bytes() for file in folder.glob("discarded-*")] == [line[:40]]
    assert run(of(folder), resume=True).n_steps == 9

    path.write_bytes(path.read_bytes()[:-5])  # a line that a checkpoint has behind it
    with pytest.raises(CurriculaError, match=r"begin with the 2 operations that the checkpoint of step 9 has .* restore the file"):
        run(of(folder), resume=True)
    path.write_bytes(b"x" + line[1:] + line)
    with pytest.raises(CurriculaError, match="line 1 at byte 0 is damaged"):
        read_operations(folder)


def test_what_is_no_operation_is_refused_with_the_command_that_is(trunks: dict[str, Path], tmp_path: Path) -> None:
    folder = copy(trunks["updates"], tmp_path / "run")
    with pytest.raises(CurriculaError, match=r"run\.n_steps was 6 .* `curricula lr extend .*run --steps 9`, then resume"):
        run(of(folder, run__n_steps=9), resume=True)
    for longer, message in (
        (Longer(n_steps=6), "the run ends with 6 steps as things stand"),
        (Longer(n_steps=4), r"ends earlier by `curricula lr decay`"),
        (Longer(), "expected --steps"),
        (Longer(n_tokens=900), "runs that run.n_tokens ends"),
        (Longer(n_steps=9, horizon=20.0), "leave --horizon out"),
    ):
        with pytest.raises(CurriculaError, match=message):
            extend(folder, longer)
    for length, shape, floor, message in (
        (0.0, "linear", 0.0, "expected a length above 0"),
        (4.0, "linear", 0.9, "up to the multiplier of the moment"),
        (4.0, "lineer", 0.0, "did you mean 'linear'"),
    ):
        with pytest.raises(CurriculaError, match=message):
            start_decay(folder, length, shape, floor)
    lock = FolderLock(folder / "log" / "lock")
    try:
        with pytest.raises(CurriculaError, match="is writing this run; wait for it or stop it"):
            extend(folder, Longer(n_steps=9))
    finally:
        lock.release()
    assert not (folder / OPERATIONS).exists()
    with pytest.raises(CurriculaError, match="expected the folder of a run"):
        start_decay(tmp_path, 4)


# --- branches


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.mark.parametrize("compacted", [False, True])
def test_a_branch_decays_from_a_kept_checkpoint_and_the_trunk_stays_as_it_is(
    trunks: dict[str, Path], tmp_path: Path, compacted: bool
) -> None:
    trunk, folder = copy(trunks["updates"], tmp_path / "trunk"), tmp_path / "branch"
    if compacted:  # the checkpoint's end of the log lies inside a part then
        log = RolloutLog(trunk / "log")
        log.compact()
        log.close()
    lock = FolderLock(trunk / "log" / "lock")  # as if it were running
    before = state_of(trunk)
    recorded = branch(trunk, 4, folder, 3, "linear", 0.05)
    assert state_of(trunk) == before
    lock.release()
    assert recorded.after.rate.lr() == recorded.before.rate.lr()
    assert run(of(folder), resume=True).n_steps == 7
    assert {name: value for name, value in state_of(trunk).items() if name != "log/lock"} == {
        name: value for name, value in before.items() if name != "log/lock"
    }

    recipe = of(trunk)
    rate, expected = build_rate(recipe.schedule, recipe.length), []
    for step in range(7):
        if step == 4:
            rate.start_decay(3, "linear", 0.05)
        expected.append(rate.lr())
        rate.advance(Consumed())
    assert rates_of(folder) == expected
    assert rates_of(folder)[:5] == rates_of(trunk)[:5]
    assert decisions(folder)[: len(decisions(folder)) // 3] == decisions(trunk)[: len(decisions(folder)) // 3]
    assert {checked.step: checked.difference for checked in verify_run(folder)} == {4: None, 6: None, 7: None}
    assert reexecuted(folder)[::2] == (7, None)
    origin = read_operations(folder)[0]
    assert record_of_operation(origin) == {
        "kind": "branch",
        "step": 4,
        "trunk": str(trunk),
        "log_run": next(read_log(trunk / "log"))["run"],
        "recipe": load_recipe(trunk / "recipe.yaml").fingerprint,
        "at": origin.at,
    }

    extend(trunk, Longer(n_steps=8))
    assert run(recipe, resume=True).n_steps == 8


def test_a_branch_is_whole_or_not_there(trunks: dict[str, Path], tmp_path: Path) -> None:
    trunk = copy(trunks["updates"], tmp_path / "trunk")
    damage(trunk, 4)
    for step, length, message in (
        (3, 2.0, "no checkpoint after 3 steps; there are 3, after 2, 4, 6 steps"),
        (4, 2.0, "damaged"),
        (2, 0.0, "length"),
    ):
        with pytest.raises(CurriculaError, match=message):
            branch(trunk, step, tmp_path / "branch", length)
    with pytest.raises(CurriculaError, match="it is there already"):
        branch(trunk, 2, trunk, 2.0)
    assert [path.name for path in tmp_path.iterdir()] == ["trunk"]
    assert call("branch", str(trunk), "--step", "2", "--out", str(tmp_path / "branch"), "--length", "2") == 0
    assert run(of(tmp_path / "branch"), resume=True).n_steps == 4


# --- show


def test_what_is_to_come_is_what_comes(trunks: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copy(trunks["updates"], tmp_path / "run")
    extend(folder, Longer(n_steps=9))
    found = history(folder)
    assert [point.step for point in found.to_come] == [6, 7, 8]
    assert (found.causes, found.n_applied) == ({SCHEDULE: [(0, 5)]}, 0)
    assert call("show", str(folder)) == 0
    said = capsys.readouterr().out
    assert "1: extended to 9 steps, horizon 9, before step 6" in said
    assert "waits for --resume" in said
    assert (folder / "lr.png").stat().st_size > 10_000
    run(of(folder), resume=True)
    assert rates_of(folder) == [point.lr for point in (*found.past, *found.to_come)]
    after = history(folder)
    assert (after.to_come, after.n_applied, len(after.past)) == ([], 1, 9)


def test_show_names_what_held_the_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schedule = {"name": "constant", "peak": 0.3, "controllers": {"batch_coupling": {"reference": 400}}}
    recipe = of(tmp_path / "run", schedule=schedule, run__n_steps=3)
    run(recipe)
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml())
    assert history(recipe.folder).causes == {SCHEDULE: [(0, 0)], "batch_coupling": [(1, 2)]}
    assert call("show", str(recipe.folder), "--out", str(tmp_path / "picture")) == 0
    assert call("show", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "of_recipe")) == 0
    said = capsys.readouterr().out
    assert "held down by batch coupling" in said
    assert "controllers BatchCoupling(reference=400" in said
    for stem in ("picture", "of_recipe"):
        assert (tmp_path / f"{stem}.svg").read_text().count("<path") > 3
    assert call("show", str(recipe.folder / "log")) == 2
    assert "expected a recipe file, or the folder of a run" in capsys.readouterr().err
