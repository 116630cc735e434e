"""`curricula replay` on a run of this project and on a log of another trainer."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.trainer.recipes import simulated
from trainer.cli import main
from trainer.loop import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("replay") / "run"
    run(simulated(made, curriculum={"selector": "learnability", "distribution": "uniform"}, run__n_steps=40))
    return made


def replayed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["replay", *arguments])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_a_run_with_its_own_recipe_and_others(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = replayed(capsys, str(folder), "--policy", "uniform", "--policy", "reinforce_ada", "--out", str(tmp_path))
    assert "40 steps, 40 plans decided again as logged, bit for bit" in said
    assert "not told: final accuracy" in said
    found = json.loads((tmp_path / "replay.json").read_text())
    own, uniform, ada = found["evaluations"]
    assert [e["recipe"] for e in (own, uniform, ada)] == ["as logged", "uniform", "reinforce_ada"]
    weight = own["choice"]["values"]["live"]["snips"]["overlap"]["largest_weight"]
    assert weight == pytest.approx(1.0)  # its own propensities
    assert own["choice"]["values"]["live"]["ips"]["value"] == pytest.approx(found["logged"]["values"]["live"]["mean"])
    assert uniform["choice"]["overlap"] < own["choice"]["overlap"]
    assert "not_estimable" in ada["spending"]["live"]
    page = (tmp_path / "replay.html").read_text()
    assert page.count("<svg") >= 5
    assert not re.search(r'(src|href)="(?!#)', page)  # needs nothing else
    assert "What this log does not tell" in page


def test_less_per_group_makes_stopping_rules_estimable(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    replayed(capsys, str(folder), "--policy", "reinforce_ada", "--rollouts", "4", "--out", str(tmp_path))
    found = json.loads((tmp_path / "replay.json").read_text())
    assert 0 < found["evaluations"][1]["spending"]["live"]["mean"] < 1


def test_a_log_of_another_trainer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"input": f"question {p}", "output": "x", "score": float((p + r + step) % 4 == 0), "step": step, "uid": f"{p}_{r}_0"}
        for step in range(12)
        for p in range(step % 3, 9, 2)
        for r in range(4)
    ]
    log = tmp_path / "1.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = replayed(capsys, str(log), "--policy", "uniform", "--policy", "mopps", "--out", str(tmp_path / "out"))
    assert "a log without its recipe" in said
    found = json.loads((tmp_path / "out" / "replay.json").read_text())
    assert "propensity" in found["lacks"]
    assert found["evaluations"][1]["choice"]["values"]["live"]["dr"]["not_estimable"].startswith("the log lacks propensity")
    assert 0 < found["evaluations"][1]["choice"]["overlap"] <= 1


def test_a_log_whose_columns_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"q": f"q{p}", "at": at, "won": float((p + r) % 2)} for at in range(11) for p in range(at % 2, 6, 2) for r in range(4)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = "{id: q, step: at, reward: won}"
    replayed(capsys, str(tmp_path / "log.jsonl"), "--format", columns, "--policy", "uniform", "--out", str(tmp_path / "out"))
    found = json.loads((tmp_path / "out" / "replay.json").read_text())
    assert (found["logged"]["n_steps"], found["logged"]["n_groups"], found["logged"]["n_prompts"]) == (11, 33, 6)


def test_a_log_that_is_none_is_one_red_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.jsonl").write_text("not a log\n")
    with pytest.raises(SystemExit) as stopped:
        main(["replay", str(tmp_path / "log.jsonl")])
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err
