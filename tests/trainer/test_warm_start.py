"""The model that the demo begins with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from curricula.types import CurriculaError
from trainer.recipe import Recipe, parse_recipe
from trainer.warm_start import warm_started, warmed_folder


def recipe(cache: Path, task: dict[str, Any] | None = None, **settings: Any) -> Recipe:
    easy = {"name": "running_total", "levels": [2], "n_train": 200, "n_held_out": 20}
    shape = {"name": "tiny", "layers": 1, "hidden": 64, "heads": 2, "cache": str(cache), **settings}
    return parse_recipe({"name": "warm", "task": task or easy, "warm_start": shape})


def test_a_taught_model_loads_and_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    chosen = recipe(tmp_path, max_steps=60, check_every=30, target=0.9)
    folder = warm_started(chosen)
    assert folder == warmed_folder(chosen)
    assert [check["step"] for check in json.loads((folder / "warm_start.json").read_text())] == [30, 60]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    prompt = tokenizer("3a+4b-2=", return_tensors="pt")["input_ids"]
    assert prompt.shape == (1, 8)
    first = model(prompt).logits[0, -1].softmax(-1)[tokenizer.convert_tokens_to_ids("a")]
    assert first > 0.5, "every example begins with the first operation's letter"
    before = folder.stat().st_mtime_ns
    assert "below the target of 0.9" in capsys.readouterr().err
    assert warm_started(chosen) == folder
    assert folder.stat().st_mtime_ns == before
    assert capsys.readouterr().out == ""


def test_another_setting_is_another_model(tmp_path: Path) -> None:
    assert warmed_folder(recipe(tmp_path)) != warmed_folder(recipe(tmp_path, target=0.5))


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(CurriculaError, match="did you mean 'layers'"):
        warm_started(recipe(tmp_path, layer=2))
    with pytest.raises(CurriculaError, match=r"has no worked examples; name a model in model\.path instead"):
        warm_started(recipe(tmp_path, task={"name": "simulated"}))
