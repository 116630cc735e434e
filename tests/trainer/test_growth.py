"""Pools that grow inside a run: easier variants (LADDER) and hinted prompts (EGSR), resumed and verified."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curricula import RECIPES
from curricula.types import CurriculaError
from rollout.engines.simulated import ItemResponse, level_of
from rollout.growth import Child, Occasion
from rollout.log import RolloutLog, read_texts
from rollout.prompts import Prompt
from tests.trainer.recipes import beside, simulated
from tests.trainer.test_loop import decisions, log_size, records, start, state, wait_for
from tests.trainer.test_real_run import model_bytes, real
from trainer import checkpoint
from trainer.dry_run import dry_run
from trainer.loop import run
from trainer.recipe import Recipe
from trainer.replay_log.source import source
from trainer.report.build import write_report
from trainer.verify_log import reexecuted, verify_run

LADDER = {"source": {"name": "easier_levels"}, "every": 2, "most_parents": 6, "when": {"all_wrong": 1}}
EGSR = {"source": {"name": "hinted"}, "every": 2, "most_parents": 6}
HARD = {"n_levels": 5, "slope": 2.0, "mean_tokens": 10}


def growing(folder: Path, growth: dict[str, Any] | None, **changes: Any) -> Recipe:
    """Levels 3 and 4 only: nearly nothing is solved at first."""
    task = {"name": "simulated", "n_levels": 5, "lowest_level": 3, "prompts_per_level": 60, "held_out_per_level": 20}
    return simulated(folder, growth=growth, task=task, rollout__engine__options=HARD, **changes)


@dataclass(frozen=True)
class Answers:
    """A source of one's own that answers as it is told."""

    says: str

    def expand(self, parents: Sequence[Prompt], occasion: Occasion) -> Iterable[Child]:
        first = parents[0]
        if self.says == "twice":
            return [Child(replace(first, id="level-1/x"), first.id)] * 2
        if self.says == "taken":
            return [Child(first, first.id)]
        if self.says == "stranger":
            return [Child(replace(first, id="level-1/x"), "level-1/nobody")]
        if self.says == "empty":
            return [Child(replace(first, id="level-1/x", content=""), first.id)]
        if self.says == "bytes":
            return [Child(replace(first, id="level-1/x", answer=b"1", content="other"), first.id)]
        return [Child(replace(parent, id=f"{parent.id}/same"), parent.id) for parent in parents]  # the text of held-out prompts too


@pytest.fixture(autouse=True)
def _this_module_is_importable(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.syspath_prepend(str(request.path.parent))


@pytest.mark.parametrize("mode", ["on_policy", "one_step_ahead"])
@pytest.mark.parametrize("growth", [LADDER, EGSR], ids=["ladder", "egsr"])
def test_a_pool_grows_and_the_log_gives_every_checkpoint_and_decision(tmp_path: Path, growth: dict[str, Any], mode: str) -> None:
    folder = tmp_path / "run"
    run(growing(folder, growth, run__mode=mode, run__n_steps=11, run__checkpoint_every=3, run__keep_checkpoints=9))
    grown = records(folder, "grown")
    assert len(grown) >= 3
    assert {record["step"] % 2 for record in grown} == {1}
    children = [child for record in grown for child in record["children"]]
    parents = [parent for record in grown for parent in record["parents"]]
    assert len(parents) == len(set(parents)), "a prompt is asked once"
    drawn = {record["prompt"] for record in records(folder, "group")}
    assert drawn & {child["id"] for child in children}
    steps = records(folder, "step")
    assert steps[-1]["metrics"]["n_prompts"] == 120 + len(children)
    checks = verify_run(folder)
    assert [(checked.step, checked.difference) for checked in checks] == [(3, None), (6, None), (9, None), (11, None)]
    assert reexecuted(folder)[::2] == (11, None)


@pytest.mark.parametrize("name", [*RECIPES])
def test_every_recipe_grows_its_pool_and_verifies(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    options = {"run__n_steps": 6, "run__checkpoint_every": 3, **beside(name)}
    run(growing(folder, {**LADDER, "when": {"all_wrong": 0}}, curriculum=dict(RECIPES[name]), **options))
    assert records(folder, "grown")[0]["children"]
    assert [(checked.step, checked.difference) for checked in verify_run(folder)] == [(3, None), (6, None)]
    assert reexecuted(folder)[::2] == (6, None)


@pytest.mark.parametrize("mode", ["on_policy", "one_step_ahead"])
@pytest.mark.parametrize("growth", [LADDER, EGSR], ids=["ladder", "egsr"])
def test_a_run_resumed_at_any_checkpoint_goes_on_as_if_it_had_never_stopped(
    tmp_path: Path, growth: dict[str, Any], mode: str
) -> None:
    options = {"run__mode": mode, "run__n_steps": 12, "run__checkpoint_every": 3, "run__keep_checkpoints": 9}
    straight = growing(tmp_path / "straight", growth, **options)
    run(straight)
    for stop in (3, 6, 9):
        resumed = growing(tmp_path / f"from-{stop}", growth, **options)
        shutil.copytree(straight.folder, resumed.folder)
        for later in checkpoint.valid_folders(resumed.folder / "checkpoints"):
            if int(later.name.removeprefix("step-")) > stop:
                shutil.rmtree(later)
        run(resumed, resume=True)
        same_run(resumed, straight)
        assert reexecuted(resumed.folder)[::2] == (12, None)


def test_a_compacted_log_gives_the_same_children(tmp_path: Path) -> None:
    recipe = growing(tmp_path / "run", LADDER, run__n_steps=8, run__checkpoint_every=3)
    run(recipe)
    before, decided = grown_of(recipe), decisions(recipe)
    log = RolloutLog(recipe.folder / "log")
    log.compact()
    log.close()
    shutil.rmtree(recipe.folder / "checkpoints" / "step-00000008")
    run(recipe, resume=True)
    assert (grown_of(recipe), decisions(recipe)) == (before, decided)
    assert [checked.difference for checked in verify_run(recipe.folder)] == [None, None]
    with pytest.raises(CurriculaError, match="this run's pool grew while it trained, and replay through other policies needs one"):
        source(recipe.folder)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["on_policy", "one_step_ahead"])
def test_a_killed_run_grows_as_the_uninterrupted_one(tmp_path: Path, mode: str) -> None:
    options = {"run__mode": mode, "run__n_steps": 24, "run__checkpoint_every": 5}
    straight = growing(tmp_path / "straight", LADDER, **options)
    run(straight)
    killed = growing(tmp_path / "killed", LADDER, **options)
    process = start(killed, "fresh")
    for share in (0.15, 0.3, 0.5, 0.7, 0.9):
        wait_for(partial(lambda at: log_size(killed) >= at, share * log_size(straight)))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = start(killed, "resume")
    assert process.wait(timeout=120) == 0
    same_run(killed, straight)


def test_easier_variants_and_hints_give_signal_where_hard_prompts_alone_have_none(tmp_path: Path) -> None:
    """On the simulated learner."""
    options = {"run__n_steps": 24, "run__checkpoint_every": 24, "curriculum": "uniform", "schedule__peak": 0.5}
    ladder = {**LADDER, "source": {"name": "easier_levels", "by": 2}, "most_parents": 24}
    live = {}
    for name, growth in (("alone", None), ("ladder", ladder), ("egsr", {**EGSR, "most_parents": 24})):
        run(growing(tmp_path / name, growth, **options))
        live[name] = np.mean([record["live_group_share"] for record in records(tmp_path / name, "step")[10:]])
    assert live["alone"] < 0.05
    assert live["ladder"] > 0.4
    assert live["egsr"] > 0.15


def test_children_are_in_their_parents_distribution_with_what_was_believed_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(growing(folder, {**LADDER, "easier_by": 0.25, "most_parents": 30}, run__n_steps=18))
    children = [child for record in records(folder, "grown") for child in record["children"]]
    by_id = {child["id"]: child for child in children}
    for child in children:
        parent = by_id.get(child["parent"])
        assert child["distribution"] == (parent["distribution"] if parent else child["parent"].partition("/")[0])
        assert level_of(child["id"]) == level_of(child["parent"]) - 1 == int(child["content"])
        assert 0.25 < child["prior"] < 0.6
    assert any(child["parent"] in by_id for child in children), "children become parents"


def test_hinted_prompts_are_drawn_as_they_are_and_have_no_children(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(growing(folder, EGSR, run__n_steps=11))
    grown = records(folder, "grown")
    children = {child["id"]: child for record in grown for child in record["children"]}
    assert not children.keys() & {parent for record in grown for parent in record["parents"]}
    hinted = [record for record in read_texts(folder / "log") if record["prompt"] in children]
    assert hinted
    for record in hinted:
        child = children[record["prompt"]]
        assert record["content"] == f"Hint: the answer is 1. Show how one gets there.\n\n{level_of(child['parent'])}"
    groups = records(folder, "group")
    drawn: dict[bool, list[float]] = {True: [], False: []}
    for group in groups:
        drawn[group["prompt"] in children] += group["rewards"]
    assert np.mean(drawn[True]) > np.mean(drawn[False]) + 0.1


def test_a_hint_makes_a_simulated_prompt_easier_by_its_logits() -> None:
    model = ItemResponse(hint=2.5)
    assert model.difficulty("level-3/000012/hinted") == model.difficulty("level-3/000012") - 2.5


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ("twice", r"growth\.source 'test_growth:Answers': the id 'level-1/x' of a child of 'level-.*' is taken"),
        ("taken", r"the id 'level-.*' of a child of .* is taken; give every child an id of its own"),
        ("stranger", r"child 'level-1/x' names the parent 'level-1/nobody', which is not among the \d prompts"),
        ("empty", r"child 'level-1/x' has no text; leave it out"),
        ("bytes", r"a child's answer or extra does not survive JSON"),
    ],
)
def test_bad_children_are_named(tmp_path: Path, says: str, message: str) -> None:
    growth = {**LADDER, "source": {"name": "test_growth:Answers", "says": says}}
    with pytest.raises(CurriculaError, match=message):
        run(growing(tmp_path / "run", growth, run__n_steps=4))


def test_what_is_held_out_stays_out(tmp_path: Path) -> None:
    """The texts of simulated prompts are their levels, so every child here has the text of a held-out prompt."""
    growth = {**LADDER, "source": {"name": "test_growth:Answers", "says": "held out"}}
    run(growing(tmp_path / "run", growth, run__n_steps=4))
    grown = records(tmp_path / "run", "grown")
    assert [(record["children"], record["left_out"]) for record in grown] == [([], {"held_out": len(grown[0]["parents"])})]
    assert reexecuted(tmp_path / "run")[::2] == (4, None)


@pytest.mark.parametrize(
    ("growth", "message"),
    [
        ({"source": {"name": "hintd"}}, "unknown growth.source 'hintd'; did you mean 'hinted'"),
        ({"source": {}}, r"growth\.source: expected a mapping with a name"),
        (
            {"source": {"name": "hinted", "templat": "x"}},
            "'hinted': 'templat'; did you mean 'template'",
        ),
        ({"source": {"name": "hinted", "template": "{prompt}"}}, r"expected \{prompt\} and a guide"),
        ({"source": {"name": "hinted", "template": "{prompt} {solution}"}}, "prompt 'level-3/000000' has no solution"),
        ({"source": {"name": "easier_levels", "by": 0}}, "growth.source.by: expected >= 1|by: expected"),
        ({**LADDER, "every": 0}, r"growth\.every: expected"),
        ({**LADDER, "easier_by": 2.0}, r"growth\.easier_by: expected a share"),
        ({**LADDER, "when": {"below": 7.0}}, r"growth\.when\.below: expected a pass rate in \[0, 1\], got 7\.0"),
        ({**LADDER, "when": {"belw": 0.5}}, r"growth\.when: unknown key 'belw'; did you mean 'below'"),
    ],
)
def test_mistakes_in_the_recipe_are_named_before_anything_starts(tmp_path: Path, growth: dict[str, Any], message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        dry_run(growing(tmp_path / "run", growth))


def test_a_task_without_levels_has_no_easier_prompts(tmp_path: Path) -> None:
    data = tmp_path / "prompts.jsonl"
    data.write_text("".join(f'{{"prompt": "what is {i}?", "answer": ""}}\n' for i in range(200)))
    task = {"name": "prompt_file", "train": str(data)}
    with pytest.raises(CurriculaError, match=r"the task PromptFile makes no easier prompts .* source of your own"):
        dry_run(simulated(tmp_path / "run", growth=LADDER, task=task))
    with pytest.raises(CurriculaError, match=r"growth\.source 'hinted': prompt .* has no answer that a hint could be made of"):
        dry_run(simulated(tmp_path / "run", growth=EGSR, task=task))


@pytest.mark.parametrize("name", ["easier_levels", "hinted"])
def test_a_real_model_trains_on_children_and_resumes(tmp_path: Path, tiny_model_path: Path, name: str) -> None:
    growth = {"source": {"name": name}, "every": 1, "most_parents": 4, "when": {"all_wrong": 0}}
    options = {"growth": growth, "run__n_steps": 4, "run__checkpoint_every": 2, "curriculum": "uniform", "task__n_train": 3}
    straight = real(tmp_path / "straight", tiny_model_path, **options)
    run(straight)
    children = {child["id"]: child for record in records(straight.folder, "grown") for child in record["children"]}
    drawn = [record for record in records(straight.folder, "group") if record["prompt"] in children]
    assert sum(map(sum, (record["gradient"] for record in drawn))) > 0, "children are trained on"
    assert all(child["hinted"] == (name == "hinted") for child in children.values())
    assert [(checked.step, checked.difference) for checked in verify_run(straight.folder)] == [(2, None), (4, None)]
    assert reexecuted(straight.folder)[::2] == (4, None)
    resumed = real(tmp_path / "resumed", tiny_model_path, **options)
    shutil.copytree(straight.folder, resumed.folder)
    shutil.rmtree(resumed.folder / "checkpoints" / "step-00000004")
    run(resumed, resume=True)
    assert decisions(resumed) == decisions(straight)
    assert grown_of(resumed) == grown_of(straight)
    assert model_bytes(resumed) == model_bytes(straight)


@pytest.mark.parametrize("drop", [True, False])
def test_children_that_do_not_fit_follow_the_recipe(tmp_path: Path, tiny_model_path: Path, drop: bool) -> None:
    growth = {"source": {"name": "hinted", "template": "{answer}" + "!" * 100 + "{prompt}"}, "every": 1, "when": {"all_wrong": 0}}
    options = {"growth": growth, "rollout__drop_long_prompts": drop, "rollout__engine__max_model_tokens": 60, "run__n_steps": 2}
    recipe = real(tmp_path / "run", tiny_model_path, curriculum="uniform", **options)
    if not drop:
        with pytest.raises(CurriculaError, match=r"prompts: 4 of 4 are longer than the 48 tokens .* rollout\.drop_long_prompts"):
            run(recipe)
        return
    run(recipe)
    (grown,) = records(recipe.folder, "grown")
    assert (len(grown["parents"]), grown["children"], grown["left_out"]) == (4, [], {"too_long": 4})


def test_the_report_counts_the_prompts(tmp_path: Path) -> None:
    run(growing(tmp_path / "run", LADDER, run__n_steps=6))
    n_prompts = int(records(tmp_path / "run", "step")[-1]["metrics"]["n_prompts"])
    assert f"120 → {n_prompts:,}" in write_report(tmp_path / "run").read_text()


def same_run(one: Recipe, other: Recipe) -> None:
    assert decisions(one) == decisions(other)
    assert grown_of(one) == grown_of(other)
    ours, theirs = state(one), state(other)
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        np.testing.assert_array_equal(ours[key], value, err_msg=key)


def grown_of(recipe: Recipe) -> list[dict[str, Any]]:
    unlike = ("run", "crc32")
    return [{key: value for key, value in record.items() if key not in unlike} for record in records(recipe.folder, "grown")]
