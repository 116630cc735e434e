"""A decay that begins when no distribution learns any more: exact against the schedule, continuous, resumable, and in runs."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curricula.types import CurriculaError
from rollout.log import read_log
from tests.trainer.recipes import simulated
from trainer import checkpoint
from trainer.loop import run
from trainer.report import write_report
from trainer.schedules.build import build_rate
from trainer.schedules.clock import Consumed, Length
from trainer.schedules.rate import LearningRate
from trainer.schedules.triggers.progress_stalls import ProgressStalls

WSD: dict[str, Any] = {"name": "wsd", "peak": 1.0, "warmup": 5, "decay": 20, "floor": 0.1}
STALLS: dict[str, Any] = {"name": "progress_stalls", "window": 6, "patience": 4}


def rate_of(when: dict[str, Any] | None, **changes: Any) -> LearningRate:
    schedule = WSD | changes | ({"decay_when": when} if when else {})
    return build_rate(schedule, Length(100, 100))


def told(rate: LearningRate, pass_rates: dict[str, float]) -> float:
    """One update at the rate that is due; the rate."""
    lr = rate.lr()
    rate.advance(Consumed(), metrics={f"pass_rate/{name}": value for name, value in pass_rates.items()})
    return lr


def rising(t: int) -> dict[str, float]:
    return {"easy": 0.9, "hard": 0.009 * t + 0.05}


def risen_until(step: int) -> Any:
    return lambda t: {"easy": 0.9, "hard": 0.05 + 0.02 * min(t, step)}


def rates(rate: LearningRate, pass_rates: Any, n: int = 110) -> list[float]:
    return [told(rate, pass_rates(t)) for t in range(n)]


def test_a_trigger_that_never_fires_leaves_the_schedule_to_the_last_bit() -> None:
    plain, waiting = rate_of(None), rate_of(STALLS)
    assert rates(waiting, rising) == rates(plain, rising)
    found = waiting.explain()
    assert found.decay == "at_the_latest from 80 of 100 updates"
    assert found.still_learning == ("hard",)
    assert waiting.metrics()["lr/decay_from/at_the_latest"] == 0.8


def test_it_fires_when_the_last_distribution_stalls_and_the_way_down_is_continuous() -> None:
    rate = rate_of(STALLS)
    found = rates(rate, risen_until(30))
    assert rate.state.decay is not None
    start = rate.state.decay.start
    # six values that are alike but for the first one or two are no rise beyond one standard error; four in a row, then
    assert 30 + 4 <= start <= 30 + 6 + 4
    wsd = rate_of(None)
    shifted = [wsd.schedule.lr(80 + t) for t in range(21)]
    assert found[int(start) : int(start) + 21] == pytest.approx(shifted, rel=1e-12), "the schedule's own decay, earlier"
    assert set(found[int(start) + 20 :]) == {found[-1]}
    assert found[-1] == pytest.approx(0.1)
    assert rate.explain().decay == f"progress_stalls from {start:g} of 100 updates"
    assert rate.explain().still_learning == ()
    assert rate.metrics()["lr/decay_from/progress_stalls"] == pytest.approx(start / 100)


def test_a_distribution_that_was_not_drawn_yet_is_waited_for_and_one_that_no_longer_is_is_not() -> None:
    served_late = rate_of(STALLS)
    late = rates(served_late, lambda t: {"easy": 0.9 if t < 40 else math.nan, "hard": math.nan if t < 40 else 0.2}, 79)
    assert served_late.state.decay is not None
    assert served_late.state.decay.start == 40 + 6 + 3, "hard is known after six values, and calm four observations in a row"
    assert late[5:49] == [1.0] * 44
    never = rate_of(STALLS)
    rates(never, lambda t: {"easy": 0.9, "hard": math.nan}, 79)
    assert never.state.decay is None
    left = rate_of(STALLS)  # it was rising when the curriculum left it
    rates(left, lambda t: {"easy": 0.02 * t if t < 20 else math.nan, "hard": 0.5}, 79)
    assert left.state.decay is not None
    assert left.state.decay.start == 20 + 6 + 3


def test_a_decay_that_time_forces_while_something_learns_ends_at_its_own_floor() -> None:
    third = 1 / 3
    held = rate_of({**STALLS, "floor_while_learning": third})
    assert rates(held, rising) == pytest.approx(rates(rate_of(None, floor=third), rising), rel=1e-12)
    later = rate_of({**STALLS, "floor_while_learning": third})
    found = rates(later, lambda t: {"easy": 0.9, "hard": 0.009 * min(t, 84)}, 120)
    assert later.state.decay is not None
    assert 84 < later.state.decay.start < 98
    steps = np.diff(found[5:])
    assert (steps <= 1e-12).all(), "it never rises"
    assert found[-1] == pytest.approx(0.1)
    assert found[int(later.state.decay.start)] > third


@pytest.mark.parametrize("reads", ["training", "held_out"])
def test_resume_is_exact_wherever_it_was_cut(reads: str) -> None:
    when = {**STALLS, "floor_while_learning": 0.4, "reads": reads}

    def go_on(rate: LearningRate, first: int) -> list[float]:
        found = []
        for t in range(first, 110):
            found.append(told(rate, risen_until(70)(t)))
            if t % 2:
                rate.observe({f"held_out/{name}": value for name, value in risen_until(70)(t).items()})
        return found

    straight = go_on(rate_of(when), 0)
    assert len(set(straight)) > 20
    for cut in range(0, 110, 7):
        before, after = rate_of(when), rate_of(when)
        for t in range(cut):
            told(before, risen_until(70)(t))
            if t % 2:
                before.observe({f"held_out/{name}": value for name, value in risen_until(70)(t).items()})
        after.load_state_dict(json.loads(json.dumps(before.state_dict())))
        assert go_on(after, cut) == straight[cut:]


def test_states_of_another_trigger_are_refused_and_older_ones_load() -> None:
    rate = rate_of(None)
    rates(rate, rising, 90)
    rate.start_decay(5, floor=0.1)
    old = rate.state_dict()
    del old["decay_when"]
    old["decay"] = old["decay"][:5]  # before decays had causes
    again = rate_of(None)
    again.load_state_dict(json.loads(json.dumps(old)))
    assert again.lr() == rate.lr()
    assert again.explain().decay == "by_hand from 90 of 100 updates"
    with pytest.raises(CurriculaError, match="the state has decay_when None, this run DecayWhen"):
        rate_of(STALLS).load_state_dict(old)
    with pytest.raises(CurriculaError, match=r"decay_when DecayWhen.*window=6.*this run DecayWhen.*window=8"):
        rate_of({**STALLS, "window": 8}).load_state_dict(rate_of(STALLS).state_dict())


def test_extending_watches_afresh() -> None:
    rate = rate_of(STALLS)
    rates(rate, lambda t: {"a": 0.5}, 30)
    assert rate.state.decay is not None
    before = rate.lr()
    rate.extend(400)
    assert rate.lr() == pytest.approx(before)
    rates(rate, rising, 20)
    assert rate.state.decay is None


def test_mistakes_are_refused() -> None:
    for when, changes, message in (
        ("progress_stalls", {}, "expected a mapping with a name"),
        ({"name": "progress_stals"}, {}, "did you mean 'progress_stalls'"),
        ({**STALLS, "windw": 3}, {}, "did you mean 'window'"),
        ({**STALLS, "below": "1e-2"}, {}, r"schedule\.decay_when\.below: expected a number, got '1e-2'"),
        ({**STALLS, "window": 3}, {}, "a window of 4 or more"),
        ({**STALLS, "reads": "heldout"}, {}, "did you mean 'held_out'"),
        ({**STALLS, "floor_while_learning": 1.5}, {}, "floor_while_learning: expected a share"),
        (STALLS, {"floor": 0.0}, "a floor above 0, at which the run goes on after an early decay"),
        (STALLS, {"shape": "half_life", "half_life": 3}, "not half_life"),
    ):
        with pytest.raises(CurriculaError, match=message):
            rate_of(when, **changes)  # type: ignore[arg-type]
    with pytest.raises(CurriculaError, match="expected the schedule wsd"):
        build_rate({"name": "linear", "peak": 1.0, "decay_when": STALLS}, Length(100, 100))


def test_noise_is_no_progress_and_progress_in_noise_is_seen() -> None:
    rng = np.random.default_rng(0)
    stalls = ProgressStalls(window=20, patience=1)
    still = 0
    for _ in range(200):
        state = stalls.begin()
        for value in 0.5 + 0.08 * rng.standard_normal(20):
            state = stalls.observe(state, {"pass_rate/a": value})
        still += bool(stalls.learning(state))
    assert still < 0.15 * 200  # one standard error and the threshold: below 16 % of a normal
    seen = 0
    for _ in range(200):
        state = stalls.begin()
        for value in np.linspace(0.3, 0.6, 20) + 0.08 * rng.standard_normal(20):
            state = stalls.observe(state, {"pass_rate/a": value})
        seen += bool(stalls.learning(state))
    assert seen > 0.9 * 200


def in_a_run(folder: Path, **changes: Any) -> Any:
    schedule = {
        "name": "wsd",
        "peak": 0.5,
        "decay": 6,
        "floor": 0.3,
        "decay_when": {"name": "progress_stalls", "window": 6, "patience": 3},
    }
    fixed = {
        "task__n_levels": 3,
        "rollout__engine__options": {"n_levels": 3, "mean_tokens": 10, "start": 1.0},
        "curriculum": {"distribution": {"name": "uniform"}, "filter": {"name": "keep_all"}},
        "schedule": schedule,
        "run__n_steps": 44,
        "run__checkpoint_every": 11,
        "run__keep_checkpoints": 9,
    }
    return simulated(folder, **(fixed | changes))


def began(folder: Path) -> tuple[list[float], dict[str, float]]:
    """Rates by step, and where on the clock a decay began."""
    steps = [record for record in read_log(folder / "log") if record["kind"] == "step"]
    found = {
        key.removeprefix("lr/decay_from/"): value for step in steps for key, value in step["metrics"].items() if "decay_from" in key
    }
    return [step["lr"] for step in steps], found


def test_in_runs_it_waits_for_what_comes_late_and_fires_earlier_where_all_is_learned(tmp_path: Path) -> None:
    uniform = in_a_run(tmp_path / "uniform")
    late = in_a_run(tmp_path / "late", curriculum__distribution={"name": "staged", "steps": [14, 10, 20]})
    run(uniform)
    run(late)
    (even, when_even), (hard_last, when_late) = began(uniform.folder), began(late.folder)
    assert set(when_even) == {"progress_stalls"}
    assert when_even["progress_stalls"] < 24 / 44
    assert min(hard_last[:30]) == 0.5, "nothing decays before the last stage has been served for a window"
    assert all(where >= 30 / 44 for where in when_late.values())
    assert min(even) == pytest.approx(0.15)
    assert "The decay began at" in write_report(uniform.folder).read_text()
    again = in_a_run(tmp_path / "again")
    shutil.copytree(uniform.folder, again.folder)
    cut = int(when_even["progress_stalls"] * 44) // 11 * 11
    for saved in checkpoint.valid_folders(again.folder / "checkpoints"):
        if int(saved.name.removeprefix("step-")) > max(cut, 11):
            shutil.rmtree(saved)
    run(again, resume=True)
    assert began(again.folder) == (even, when_even), "resumed before the decay, it begins where it began"
