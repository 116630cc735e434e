"""Recipes: what loads, and what every kind of mistake is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from curricula.types import CurriculaError
from trainer import strict_yaml
from trainer.recipe import Recipe, load_recipe, parse_recipe

LEAST = "name: small\ntask: {name: running_total}\nmodel: {path: some/model}\n"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def with_parts(**parts: Any) -> Recipe:
    return parse_recipe({"name": "small", "task": {"name": "running_total"}, "model": {"path": "some/model"}, **parts})


def test_the_least_recipe_takes_every_default(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, LEAST))
    assert (recipe.seed, recipe.curriculum, recipe.rollout.budget, recipe.warm_start) == (0, "uniform", 256, None)
    assert recipe.folder == Path("runs/small")


def test_a_resolved_recipe_loads_back_equal(tmp_path: Path) -> None:
    recipe = with_parts(
        learner={"betas": [0.8, 0.95], "dual_clip": 3},
        rollout={"sampling": {"stop": ["1e-6", "\n", "no"]}, "engine": {"options": {"a": {"b": [1, None, 1e-9]}}}},
        model={"path": "x", "lora": {"target_modules": ["q"]}},
        schedule={"name": "wsd", "peak": 1e-6},
    )
    again = load_recipe(written(tmp_path, recipe.to_yaml()))
    assert again == recipe
    assert again.fingerprint == recipe.fingerprint


def test_the_fingerprint_follows_values_only(tmp_path: Path) -> None:
    plain = load_recipe(written(tmp_path, LEAST))
    commented = load_recipe(written(tmp_path, "# a comment\nseed: 0\n" + LEAST))
    assert commented.fingerprint == plain.fingerprint
    assert load_recipe(written(tmp_path, LEAST), ["seed=1"]).fingerprint != plain.fingerprint


def test_numbers_are_read_as_yaml_1_2_does() -> None:
    values = strict_yaml.load("{a: 1e-6, b: no, c: 2026-01-01, d: 010, e: .5, f: -3, g: 1E3, h: ~}", "text")
    assert values == {"a": 1e-6, "b": "no", "c": "2026-01-01", "d": "010", "e": 0.5, "f": -3, "g": 1000.0, "h": None}


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"rolout": {}}, "recipe: unknown key 'rolout'; did you mean 'rollout'?"),
        ({"rollout": {"engin": {}}}, "rollout: unknown key 'engin'; did you mean 'engine'?"),
        ({"rollout": {"engine": {"n_engine": 2}}}, "rollout.engine: unknown key 'n_engine'; did you mean 'n_engines'?"),
        ({"model": {"path": "x", "lora": {"rnk": 1}}}, "model.lora: unknown key 'rnk'; did you mean 'rank'?"),
        ({"rollout": {"max_tokens": 2}}, "rollout: unknown key 'max_tokens'; it belongs at rollout.sampling.max_tokens"),
        ({"rollout": {"groups_per_step": "8"}}, "rollout.groups_per_step: expected a whole number, got '8'"),
        ({"seed": 1.5}, "seed: expected a whole number, got 1.5"),
        ({"seed": -1}, "seed: expected >= 0, got -1"),
        ({"model": {"path": 3}}, "model.path: expected text, got 3"),
        (
            {"model": {"path": "x", "gradient_checkpointing": "yes"}},
            "gradient_checkpointing: expected true or false, got 'yes'",
        ),
        ({"rollout": 3}, "rollout: expected a mapping of keys, got 3"),
        ({"rollout": {"rollouts_per_group": 1}}, "rollout.rollouts_per_group: a group of 1 has no group-relative advantage"),
        ({"rollout": {"engine": {"n_engines": 0}}}, "rollout.engine.n_engines: expected >= 1, got 0"),
        ({"rollout": {"sampling": {"top_p": 0}}}, "rollout.sampling.top_p: expected (0, 1], got 0"),
        ({"learner": {"loss": "clp"}}, "learner.loss: expected 'clip', 'gspo' or 'cispo', got 'clp'; did you mean 'clip'?"),
        ({"learner": {"kl_coefficient": True}}, "learner.kl_coefficient: expected a number, got True"),
        ({"learner": {"betas": [0.9]}}, "learner.betas.1: a value is required here and missing"),
        ({"curriculum": [1]}, "curriculum: expected the name of a recipe or a mapping with a policy per stage, got [1]"),
        ({"curriculum": {"budget": {"max_n": 3}}}, "curriculum.budget: expected a mapping with a name"),
        ({"schedule": {"peak": 1}}, "schedule: expected a mapping with a name"),
        ({"model": {}}, "model.path: expected a Hugging Face name or a folder (or a warm_start that makes a model), got nothing"),
        ({"name": "a/b"}, "name: expected a word that can name a folder, got 'a/b'"),
        ({"run": {"n_steps": 0}}, "run.n_steps: expected >= 1, got 0"),
        ({"evaluation": {"samples_per_prompt": 0}}, "evaluation.samples_per_prompt: expected >= 1, got 0"),
        ({"learner": {"updates_per_step": 0}}, "learner.updates_per_step: expected >= 1, got 0"),
    ],
)
def test_a_mistake_is_told_with_its_place(parts: dict[str, Any], message: str) -> None:
    with pytest.raises(CurriculaError) as caught:
        with_parts(**parts)
    assert message in str(caught.value)


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(CurriculaError, match=r"2 problems\n  seed: .*\n  learner.loss: "):
        with_parts(seed="x", learner={"loss": "y"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\nseed: 2", "line 2, column 1: duplicate key 'seed' (first on line 1)"),
        ("run:\n  n_steps: 1\n  n_steps: 2", "line 3, column 3: duplicate key 'n_steps' (first on line 2)"),
        ("a: &x [1, 2]\nb: [*x, *x]", "line 2, column 5: alias *x is not allowed"),
        ("a: " + "[" * 10_000, "nested deeper than"),
        ("a: !!python/object/apply:os.system [ls]", "is not allowed; write a plain value"),
        ("a: !!binary aGk=", "is not allowed; write a plain value"),
        ("1: 2", "key 1 is not text; put it in quotes"),
        ("a: [1", "line 1, column 6: "),
        ("a: " + "9" * 5000, "digits"),
        ("a: " + "x" * (strict_yaml.MAX_BYTES + 1), "too many for a recipe"),
        ("--- 1\n--- 2", "expected a single document"),
    ],
)
def test_hostile_or_broken_yaml_is_refused_with_its_line(text: str, message: str) -> None:
    with pytest.raises(CurriculaError) as caught:
        strict_yaml.load(text, "recipe.yaml")
    assert str(caught.value).startswith("recipe.yaml: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1, 2]", "word"])
def test_a_file_without_a_mapping_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CurriculaError, match="expected a mapping with the keys name, task"):
        load_recipe(written(tmp_path, text))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CurriculaError, match=r"gone.yaml: cannot be read \(No such file or directory\)"):
        load_recipe(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(CurriculaError, match="expected a text in UTF-8, got byte 0xe9 at 9"):
        load_recipe(tmp_path / "latin.yaml")


def test_overrides_replace_one_value_each(tmp_path: Path) -> None:
    path = written(tmp_path, LEAST + "curriculum: {distribution: {name: dump_ucb}}\n")
    changes = ["run.n_steps=3", "learner.betas=[0.5, 0.6]", "curriculum.distribution.tau=1e-1", "model.path='7'"]
    recipe = load_recipe(path, changes)
    assert (recipe.run.n_steps, recipe.learner.betas, recipe.model.path) == (3, (0.5, 0.6), "7")
    assert recipe.curriculum == {"distribution": {"name": "dump_ucb", "tau": 0.1}}
    assert load_recipe(path, ["curriculum=sec"]).curriculum == "sec"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("run.n_step=3", "--set run.n_step=3: run: unknown key 'n_step'; did you mean 'n_steps'?"),
        ("rn.n_steps=3", "--set rn.n_steps=3: unknown key 'rn'; did you mean 'run'?"),
        ("run.n_steps", "--set run.n_steps: expected key.key=value"),
        ("run..x=3", "--set run..x=3: expected key.key=value"),
        ("name.first=3", "--set name.first=3: 'first' is looked for inside 'small', which has no keys"),
        ("run.n_steps=[1", "--set run.n_steps=[1: line 1"),
        ("run.n_steps=many", "run.n_steps: expected a whole number, got 'many'"),
    ],
)
def test_a_wrong_override_is_named(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(CurriculaError) as caught:
        load_recipe(written(tmp_path, LEAST), [change])
    assert message in str(caught.value)
