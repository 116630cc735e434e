"""The command line: what it prints, what it writes, and what a user is told."""

from __future__ import annotations

import contextlib
import inspect
import io
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from rich.console import Console
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.trainer.made_run import made_run
from tests.trainer.recipes import simulated
from trainer.cli import app, main
from trainer.observer import EvaluationResult, Observer, Observers, RunSummary, Silent, StepRecord
from trainer.progress import LiveProgress, PlainProgress, Tally, progress, step_line
from trainer.report.data import read_run
from trainer.tensorboard import TensorBoard


def call(*arguments: str) -> int:
    """The exit code of a command line."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return int(exit_.value.code or 0)


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    path = tmp_path / "simulated.yaml"
    path.write_text(simulated(tmp_path / "run", run__n_steps=4, run__checkpoint_every=2).to_yaml())
    return path


def test_the_commands_are_frozen() -> None:
    names = sorted(command.callback.__name__ for command in app.registered_commands if command.callback)
    others = ["evaluate", "plan", "policies", "replay", "report", "simulate", "train", "twin", "warm_start"]
    assert names == ["advise", "demo", *others]
    train = next(
        command.callback for command in app.registered_commands if command.callback and command.callback.__name__ == "train"
    )
    assert list(inspect.signature(train).parameters) == ["recipe", "overrides", "resume", "ray_address", "folder"]


def test_train_then_resume(recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("train", str(recipe_file)) == 0
    out = capsys.readouterr().out
    assert "step 4/4" in out
    assert "mean over distributions" in out
    assert f"report: {tmp_path}/run/report.html" in out
    assert call("train", str(recipe_file)) == 2
    assert "a run is there already; go on with --resume" in capsys.readouterr().err
    (tmp_path / "run" / "report.html").unlink()
    assert call("train", str(recipe_file), "--resume") == 0
    assert (tmp_path / "run" / "report.html").is_file()
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("step/accuracy")] == [0, 1, 2, 3]


def test_demo_takes_a_folder_of_its_own(recipe_file: Path, tmp_path: Path) -> None:
    for taken in ("run", "run-2"):
        (tmp_path / taken).mkdir()
    assert call("demo", str(recipe_file), "--set", "run.n_steps=1") == 0
    assert (tmp_path / "run-3" / "report.html").is_file()
    assert not any((tmp_path / "run").iterdir())


def test_report_of_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("report", str(tmp_path)) == 2
    assert "expected the folder of a run, as `curricula train` writes it" in capsys.readouterr().err


def test_plan_shows_pool_arms_costs_and_starts_nothing(
    recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("plan", str(recipe_file), "--set", "run.n_steps=10") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "first plan: 12 groups, 96 rollouts" in out
    assert "level-0" in out
    assert "300 prompts in 5 distributions, 100 held out" in out
    assert "2 of 250 rollouts each" in out  # 5 distributions x 10 prompts x (4 sampled + 1 greedy)
    assert "1,460" in out  # 10 steps x 96 + 2 x 250
    assert "asked of Ray nothing" in out
    assert not (tmp_path / "run").exists()


def test_plan_imports_neither_ray_nor_torch(recipe_file: Path) -> None:
    code = f"""
import sys
from trainer.cli import main
try:
    main(["plan", {str(recipe_file)!r}])
except SystemExit as exit_:
    assert not exit_.code, exit_.code
print([name for name in ("ray", "torch", "vllm", "transformers", "matplotlib") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_policies_lists_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("policies") == 0
    out = capsys.readouterr().out
    for word in ("belief", "distribution", "selector", "budget", "filter", "dump_ucb", "sec", "knapsack", "difficulty_band"):
        assert word in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("curriculum.distribution.name=dump_ubc", "unknown distribution policy 'dump_ubc'; did you mean 'dump_ucb'?"),
        ("curriculum.distribution.tua=1", "'tua'; did you mean 'tau'?"),
        ("curriculum.distribution.tau=hot", "tau: expected float, got 'hot'"),
        ("curriculum=knapsak", "unknown recipe 'knapsak'; did you mean 'knapsack'?"),
        ("curriculum.fliter.name=keep_all", "'fliter'; did you mean 'filter'?"),
        ("schedule.name=cosin", "unknown schedule 'cosin'; did you mean 'cosine'?"),
        ("schedule.warmpu=3", "'warmpu'; did you mean 'warmup'?"),
        ("task.name=simulatde", "unknown task 'simulatde'; did you mean 'simulated'?"),
        ("task.n_level=3", "'n_level'; did you mean 'n_levels'?"),
        ("rn.n_steps=3", "--set rn.n_steps=3: unknown key 'rn'; did you mean 'run'?"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(
    recipe_file: Path, change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("plan", str(recipe_file), "--set", change) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_recipe_without_a_warm_start_cannot_be_warmed(recipe_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("warm-start", str(recipe_file)) == 2
    assert "it has no warm_start" in capsys.readouterr().err


class Broken(Silent):
    """A display whose disk is full."""

    calls = 0

    def on_step(self, record: StepRecord) -> None:
        self.calls += 1
        raise OSError("no space left")


class Listening(Silent):
    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_step(self, record: StepRecord) -> None:
        self.steps.append(record.step)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_run(tmp_path_factory.mktemp("cli") / "run", n_steps=12, n_distributions=3, n_groups=4)


def test_a_failing_observer_is_reported_once_and_stops_nothing(run_folder: Path) -> None:
    broken, listening = Broken(), Listening()
    observers = Observers([broken, listening])
    first, *later = read_run(run_folder).steps
    with pytest.warns(RuntimeWarning, match="Broken failed and is left out from now on: OSError"):
        observers.on_step(first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for record in later:
            observers.on_step(record)
    assert broken.calls == 1
    assert listening.steps == list(range(12))


def test_plain_progress_prints_a_line_per_few_steps(run_folder: Path) -> None:
    run = read_run(run_folder)
    console = Console(file=io.StringIO(), width=40)
    with progress(console, every=5) as shown:
        assert isinstance(shown, PlainProgress)
        told(shown, run.steps, run.evaluations)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[1] for line in lines if line.startswith("step")] == ["1/12", "6/12", "11/12", "12/12"]
    assert lines[-1].startswith("held out after 12 steps: sampled 0.")


def test_live_progress_draws_bars_and_lets_go_of_the_terminal(run_folder: Path) -> None:
    run = read_run(run_folder)
    console = Console(file=io.StringIO(), force_terminal=True, width=110)
    with contextlib.suppress(KeyError), progress(console) as shown:
        assert isinstance(shown, LiveProgress)
        told(shown, run.steps, run.evaluations, ends=False)
        raise KeyError("the run fails")
    out = console.file.getvalue()  # type: ignore[attr-defined]
    assert "ops-2" in out
    assert "█" in out
    assert out.count("\x1b[?25l") == out.count("\x1b[?25h") == 1  # the cursor is hidden and shown again


def told(observer: Observer, steps: list[StepRecord], evaluations: list[EvaluationResult], ends: bool = True) -> None:
    observer.on_start({"recipe": simulated(Path("runs/x")), "folder": "x", "first_step": 0})
    observer.on_phase("rollouts")
    for record in steps:
        observer.on_step(record)
    observer.on_evaluation(evaluations[-1])
    if ends:
        observer.on_end(RunSummary("x", len(steps), 1.0, evaluations, stopped_early=False))


def test_rates_and_time_left_come_from_recent_steps(run_folder: Path) -> None:
    now = [0.0]
    tally = Tally(clock=lambda: now[0])
    records = read_run(run_folder).steps
    for record in records[:6]:
        now[0] += 99.0  # the record's own seconds count, not the display's clock
        tally.add(record)
    tokens = sum(record.n_tokens_generated for record in records[:6])
    assert tally.tokens_per_second == pytest.approx(tokens / (6 * 1.5))
    assert tally.seconds_left == pytest.approx(6 * 1.5)
    assert step_line(tally).startswith("step  6/12")


def test_a_resumed_tensorboard_hides_what_was_undone(run_folder: Path, tmp_path: Path) -> None:
    run = read_run(run_folder)
    for first, steps in ((0, run.steps[:8]), (4, run.steps[4:6])):
        board = TensorBoard(tmp_path)
        board.on_start({"first_step": first})
        for record in steps:
            board.on_step(record)
        board.on_end(RunSummary("x", 1, 1.0, [], stopped_early=False))
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("learner/lr")] == [0, 1, 2, 3, 4, 5]
