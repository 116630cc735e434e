"""`curricula lr compare`."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.cli import main
from trainer.lr.curves import curves_of
from trainer.lr.pictures import files_of

ROOT = Path(__file__).parents[2]


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["lr", "compare", *arguments])
    return int(ended.value.code or 0)


def test_recipes_names_and_schedules_are_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(ROOT / "configs" / "quickstart_cpu.yaml"), "linear", "{name: wsd, decay: 0.5, shape: linear, clock: tokens}"]
    assert call(*words, "--steps", "200", "--out", str(tmp_path / "lr-0.5")) == 0
    assert (tmp_path / "lr-0.5.png").stat().st_size > 10_000
    assert (tmp_path / "lr-0.5.svg").read_text().count("<path") > 3
    said = capsys.readouterr().out
    assert "forecast" in said
    assert "quickstart_cpu" in said
    recipe, line, tokens = curves_of(words, 200)
    assert (recipe.unit, recipe.horizon, tokens.unit, tokens.horizon) == ("updates", 120, "tokens", 0)
    assert line.lr[[0, 200, 400]].tolist() == pytest.approx([1, 0.5, 0])
    assert tokens.lr[[0, 200, 300, 400]].tolist() == pytest.approx([1, 1, 0.5, 0])


def test_a_picture_that_was_given_a_suffix_has_it_once(tmp_path: Path) -> None:
    assert [path.name for path in files_of(tmp_path / "lr.png")] == ["lr.png", "lr.svg"]
    assert [path.name for path in files_of(tmp_path / "v1.2")] == ["v1.2.png", "v1.2.svg"]


def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("linar") == 2
    assert "did you mean 'linear'" in capsys.readouterr().err
