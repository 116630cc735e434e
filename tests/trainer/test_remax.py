"""ReMax end to end: the learner trains on r - r(greedy), on simulated and on real engines, and the greedy completion never."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curricula import Curriculum
from curricula.conflicts import ConflictWarning
from curricula.testing import small_pool
from curricula.types import CurriculaError
from rollout.log import read_texts
from tests.trainer.recipes import simulated
from tests.trainer.test_batch import PROMPTS, attempt
from tests.trainer.test_loop import decisions, records, state
from tests.trainer.test_real_run import real
from trainer import checkpoint
from trainer.advantages import group_advantages
from trainer.baselines import check_baselines
from trainer.batch import feedback_of, learner_advantages, sequences_of
from trainer.dry_run import dry_run
from trainer.learner import TorchLearner
from trainer.loop import run
from trainer.settings import LearnerSettings
from trainer.simulate.run import collect, simulate
from trainer.simulate.setting import Setting
from trainer.simulate.student import Student, make_pool
from trainer.simulated_learner import SimulatedLearner
from trainer.types import TrainSequence

NAN = float("nan")
REMAX: dict[str, Any] = {"curriculum": "remax", "learner__advantage": "remax"}


def test_the_advantage_is_the_reward_above_the_baseline() -> None:
    reward_R, group_R = np.array([1.0, 0, 0.25, NAN, 1, 1, 0]), np.array([1, 1, 0, 0, 2, 1, 3])
    scored_R, baseline_B = np.isfinite(reward_R), np.array([0.75, 1.0, 0.0, NAN])
    advantage_R = group_advantages("remax", reward_R, group_R, scored_R, 4, baseline_B)
    assert advantage_R.tolist() == [0, -1, -0.5, 0, 1, 0, 0], "one score is enough; without score or baseline it is 0"
    assert group_advantages("remax", reward_R, group_R, scored_R, 4).tolist() == [0] * 7


def test_the_learner_measures_shaped_by_shaped_and_policies_raw_by_raw() -> None:
    """Rewards (1, 0, 0, -) and (1, 1, 0, 0)."""
    plain = attempt()
    outcome = replace(plain.outcome, baseline_B=np.array([0.0, 1.0]))
    raw = replace(plain, outcome=outcome, baseline_B=outcome.baseline_B)
    assert learner_advantages(raw, "remax").tolist() == [1, 0, 0, 0, 0, 0, -1, -1]
    assert [s.advantage for s in sequences_of([raw], "remax", PROMPTS)] == [1, 0, 0, 0, 0, -1, -1]
    shaped_R = np.array([0.5, 0, 0.25, NAN, 1, 0.5, 0, 0])
    weighted = replace(plain.verdict, weight_B=np.array([2.0, 1.0]))
    shaped = replace(plain, outcome=outcome, verdict=weighted, shaped_R=shaped_R, baseline_B=np.array([0.25, 0.75]))
    assert learner_advantages(shaped, "remax").tolist() == [0.5, -0.5, 0, 0, 0.25, -0.25, -0.75, -0.75]
    given = feedback_of(shaped, "remax").advantage_R
    np.testing.assert_array_equal(given, [1, 0, 0, NAN, 0, 0, -1, -1])
    for other in ("grpo", "dr_grpo", "rloo"):
        np.testing.assert_array_equal(learner_advantages(raw, other), learner_advantages(plain, other))


def test_an_advantage_without_greedy_completions_is_refused_before_anything_starts(tmp_path: Path) -> None:
    recipe = simulated(tmp_path / "run", learner__advantage="remax")
    message = r"learner\.advantage: 'remax' .* never asks for one; take curriculum\.budget \{name: remax\}"
    with pytest.raises(CurriculaError, match=message):
        run(recipe)
    with pytest.raises(CurriculaError, match=message):
        dry_run(recipe)


@pytest.mark.filterwarnings("error::curricula.conflicts.ConflictWarning")
def test_greedy_completions_that_nobody_uses_are_named() -> None:
    asking = Curriculum.from_recipe("remax", small_pool())
    with pytest.warns(ConflictWarning, match=r"learner\.advantage 'grpo' does not use"):
        check_baselines(LearnerSettings(), asking)
    check_baselines(LearnerSettings(advantage="remax"), asking)
    check_baselines(LearnerSettings(), Curriculum.from_recipe("uniform", small_pool()))
    linear = {"pacing": "linear", "first": 4, "last": 2, "steps": 2}
    paced = Curriculum.from_recipe({"budget": {"name": "knapsack", "max_n": linear}}, small_pool())
    check_baselines(LearnerSettings(), paced)
    with pytest.raises(CurriculaError, match="never asks"):
        check_baselines(LearnerSettings(advantage="remax"), paced)


def trained_on(monkeypatch: pytest.MonkeyPatch, learner: Any) -> list[TrainSequence]:
    """What the learner is given, over all steps."""
    given: list[TrainSequence] = []
    step = learner.step

    def noted(self: Any, sequences: Sequence[TrainSequence], lr: float) -> Any:
        given.extend(sequences)
        return step(self, sequences, lr)

    monkeypatch.setattr(learner, "step", noted)
    return given


def check_groups(groups: list[dict[str, Any]], given: list[TrainSequence]) -> list[float]:
    """Every group has its greedy completion, and trains on reward - greedy reward; the advantages."""
    expected = [
        (group["group"], r - group["greedy"]["reward"], n)
        for group in groups
        for r, n in zip(group["rewards"], group["n_tokens"], strict=True)
    ]
    assert [(s.group, s.advantage, len(s.token_ids)) for s in given] == expected
    return [advantage for _, advantage, _ in expected]


def test_a_simulated_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = trained_on(monkeypatch, SimulatedLearner)
    recipe = simulated(tmp_path / "run", **REMAX, run__n_steps=6)
    run(recipe)
    groups, attempts, steps = (records(recipe.folder, kind) for kind in ("group", "attempt", "step"))
    advantages = check_groups(groups, given)
    assert {-1.0, 0.0, 1.0} == set(advantages)
    assert {len(group["rewards"]) for group in groups} == {7}, "one of eight is the greedy one"
    assert {(a["n_rollouts"], a["n_greedy"], a["n_unspent"]) for a in attempts} == {(84, 12, 0)}
    for step in steps:
        mine = [group for group in groups if group["step"] == step["step"]]
        assert step["n_rollouts"] == 84
        assert step["n_tokens_generated"] == sum(sum(group["n_tokens"]) + group["greedy"]["n_tokens"] for group in mine)
        assert step["metrics"]["n_greedy"] == 12
        assert step["metrics"]["greedy_reward_mean"] == pytest.approx(np.mean([group["greedy"]["reward"] for group in mine]))
        assert step["reward_mean"] == pytest.approx(np.mean([group["rewards"] for group in mine])), "of the rollouts alone"


def test_a_run_that_lost_its_last_checkpoint_repeats_itself(tmp_path: Path) -> None:
    recipe = simulated(tmp_path / "run", **REMAX, run__n_steps=8)
    run(recipe)
    straight = decisions(recipe), [group["greedy"] for group in records(recipe.folder, "group")], state(recipe)
    newest = checkpoint.newest(recipe.folder / "checkpoints")
    assert newest is not None
    assert newest.step == 8
    shutil.rmtree(newest.folder)
    run(recipe, resume=True)
    again = decisions(recipe), [group["greedy"] for group in records(recipe.folder, "group")], state(recipe)
    assert again[:2] == straight[:2]
    assert again[2].keys() == straight[2].keys()
    for key, value in straight[2].items():
        np.testing.assert_array_equal(again[2][key], value, err_msg=key)


def test_a_real_run(tmp_path: Path, tiny_model_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = trained_on(monkeypatch, TorchLearner)
    recipe = real(tmp_path / "run", tiny_model_path, **REMAX, run__n_steps=3, run__checkpoint_every=3)
    run(recipe)
    groups = records(recipe.folder, "group")
    advantages = check_groups(groups, given)
    assert len(groups) == 12
    assert len(advantages) == 12 * 3, "three rollouts and a greedy completion of each prompt"
    assert min(advantages) < 0 < max(advantages)
    first = [texts for texts in read_texts(recipe.folder / "log") if texts["step"] == 0]
    assert [texts["greedy"] for texts in first] == [decoded(tiny_model_path, texts["content"]) for texts in first]
    assert not any(texts["greedy"] in texts["completions"] for texts in first)


def decoded(model_path: Path, prompt: str) -> str:
    """The most likely token, twelve times, by transformers itself."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_path)
    model: Any = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32)
    ids = torch.tensor([tokenizer.encode(prompt)])
    new = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12)[0, ids.shape[1] :]
    return str(tokenizer.decode(new, skip_special_tokens=True))


def test_simulate_pays_for_greedy_completions_and_learns_from_them() -> None:
    setting = Setting(steps=6, groups=4, rollouts=6, prompts=40, levels=4)
    pool = make_pool(setting, 0)
    student, curriculum = Student(setting, pool, 0), Curriculum.from_recipe("remax", pool)
    (one,) = collect(curriculum, student, setting, 0, setting.budget, 0)
    expected = student.pass_rates()[one.outcome.plan.selection.prompt_B] > 0.5
    assert one.outcome.baseline_B.tolist() == expected.tolist()
    assert one.outcome.plan.n_rollouts == 20
    done = simulate("remax", setting, 0)
    assert done.spent_T.tolist() == [24 * t for t in range(7)]
    assert done.level_T[-1] > done.level_T[0]
