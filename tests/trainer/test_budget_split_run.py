"""The recipe ``anytime_reasoner`` end to end: simulated, resumed, verified from its log, and on a real language model."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from curricula.budget_split import budget_advantages, summary_advantages
from curricula.types import CurriculaError
from rollout.log import read_log, read_texts
from tests.trainer.recipes import simulated
from tests.trainer.test_loop import decisions, log_size, records, start, state, wait_for
from tests.trainer.test_real_run import model_bytes, real
from tests.trainer.test_real_run import start as start_real
from trainer import checkpoint
from trainer.cli import main
from trainer.dry_run import dry_run
from trainer.loop import run
from trainer.tables import plan_view
from trainer.verify_log import reexecuted, verify_run

CUTS = [6, 10, 14]
SHAPING = {"name": "budget_split", "budgets": CUTS, "n_summaries": 3, "summary_tokens": 5, "kind": "linear"}
SIMULATED: dict[str, Any] = {
    "task__reward": "tests.trainer.test_budget_split_run:last_character",
    "curriculum": {"shaping": SHAPING},
    "rollout__summary": "in short ",
}


def last_character(completion: str, answer: Any, extra: dict[str, Any]) -> float:
    return float(completion[-1:] == answer)


def rollouts_of(folder: Path) -> list[dict[str, Any]]:
    """One row per rollout of a log, with its group's fields beside its own."""
    own = ("rewards", "shaped", "n_tokens", "finish", "cut_scores", "credits", "summaries")
    return [
        {"group": group["group"], "step": group["step"], **dict(zip(own, values, strict=True))}
        for group in records(folder, "group")
        for values in zip(*(group[name] for name in own), strict=True)
    ]


def passed(rollout: dict[str, Any], cuts: list[int]) -> list[str]:
    n, stopped = rollout["n_tokens"], rollout["finish"] == "length"
    return [str(s) for s, cut in enumerate(cuts) if cut < n or (cut == n and stopped)]


def check_tables(folder: Path, cuts: list[int], probability_S: np.ndarray, n_summaries: int, summary_tokens: int) -> None:
    """Scores, credit and rewards of every rollout, made again from the logged verdicts."""
    rollouts = rollouts_of(folder)
    tables: dict[int, list[list[float]]] = {}
    for rollout in rollouts:
        assert sorted(rollout["summaries"]) == passed(rollout, cuts)
        for behind in rollout["summaries"].values():
            assert len(behind["rewards"]) == n_summaries
            assert max(behind["n_tokens"]) <= summary_tokens
        means = {int(s): float(np.mean(behind["rewards"])) for s, behind in rollout["summaries"].items()}
        assert rollout["cut_scores"] == [means.get(s, rollout["rewards"]) for s in range(len(cuts))]
        assert rollout["shaped"] == pytest.approx(np.dot(rollout["cut_scores"], probability_S))
        tables.setdefault(rollout["group"], []).append(rollout["cut_scores"])
    for group, table in tables.items():
        credit = [rollout["credits"] for rollout in rollouts if rollout["group"] == group]
        assert np.array(credit) == pytest.approx(budget_advantages(np.array(table), probability_S), abs=1e-12)


def test_simulated_thoughts_are_summed_up_scored_and_charged(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(simulated(folder, **SIMULATED, run__n_steps=5))
    check_tables(folder, CUTS, np.array(CUTS) / sum(CUTS), 3, 5)
    rollouts = rollouts_of(folder)
    assert {len(rollout["summaries"]) for rollout in rollouts} == {0, 1, 2}, "a simulated completion always ends by itself"
    assert max(rollout["n_tokens"] for rollout in rollouts) == 14, "the last budget is the limit"
    assert any(any(rollout["credits"]) for rollout in rollouts)
    for attempt, step in zip(records(folder, "attempt"), records(folder, "step"), strict=True):
        of_step = [rollout for rollout in rollouts if rollout["step"] == step["step"]]
        drawn = [n for rollout in of_step for behind in rollout["summaries"].values() for n in behind["n_tokens"]]
        assert (attempt["cuts"], attempt["n_summaries"], attempt["summary_tokens"]) == (CUTS, 3, 5)
        assert (attempt["n_summaries_made"], attempt["n_summary_tokens"]) == (len(drawn), sum(drawn))
        assert (step["metrics"]["n_summaries"], step["metrics"]["n_summary_tokens"]) == (len(drawn), sum(drawn))
        assert step["n_tokens_generated"] == sum(rollout["n_tokens"] for rollout in of_step) + sum(drawn)
        assert step["n_rollouts"] == len(of_step) == 96, "summaries are no rollouts"
        means = np.mean([rollout["cut_scores"] for rollout in of_step], axis=0)
        assert [step["metrics"][f"score_at/{cut}"] for cut in CUTS] == pytest.approx(means)
    texts = [
        text for record in read_texts(folder / "log") for one in record["summaries"] for behind in one.values() for text in behind
    ]
    assert set(texts) == {"in short 0", "in short 1"}
    assert len(texts) == sum(attempt["n_summaries_made"] for attempt in records(folder, "attempt"))


def test_a_log_of_summaries_gives_checkpoints_and_decisions(tmp_path: Path) -> None:
    """With refills, further rounds and a paced policy beside them."""
    last = {"pacing": "linear", "first": 1, "last": 0, "steps": 4}
    parts = {"shaping": {**SHAPING, "last_share": last}, "budget": "reinforce_ada", "filter": "difficulty_band"}
    folder = tmp_path / "run"
    run(simulated(folder, **{**SIMULATED, "curriculum": parts}, run__n_steps=6, run__checkpoint_every=3))
    assert [(checked.step, checked.difference) for checked in verify_run(folder)] == [(3, None), (6, None)]
    replayed = reexecuted(folder)
    assert (replayed.n_steps, replayed.departure) == (6, None)
    as_written = [list(read_log(folder / "log")), list(read_texts(folder / "log"))]
    with pytest.raises(SystemExit) as ended:
        main(["log", "compact", str(folder)])
    assert ended.value.code == 0
    assert [list(read_log(folder / "log")), list(read_texts(folder / "log"))] == as_written
    assert reexecuted(folder) == replayed
    recipe = (folder / "recipe.yaml").read_text()
    (folder / "recipe.yaml").write_text(recipe.replace("n_summaries: 3", "n_summaries: 2"))
    departure = reexecuted(folder).departure
    assert departure is not None
    assert departure.startswith("step 0: attempt 0: cuts.n_summaries was 3, the replay has 2")


def test_groups_without_cuts_log_nothing_of_them_and_read_as_empty(tmp_path: Path) -> None:
    run(simulated(tmp_path / "run", run__n_steps=2))
    lines = [json.loads(line) for line in (tmp_path / "run" / "log" / "rollouts.jsonl").read_text().splitlines()]
    assert not any(key in line for line in lines for key in ("cut_scores", "credits", "summaries"))
    attempt, group = (next(r for r in read_log(tmp_path / "run" / "log") if r["kind"] == kind) for kind in ("attempt", "group"))
    assert (attempt["cuts"], attempt["n_summaries"], attempt["n_summary_tokens"]) == ([], 0, 0)
    n = len(group["rewards"])
    assert (group["cut_scores"], group["credits"], group["summaries"]) == ([[]] * n, [[]] * n, [{}] * n)
    assert "n_summaries" not in records(tmp_path / "run", "step")[0]["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["on_policy", "one_step_ahead"])
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path, mode: str) -> None:
    options: dict[str, Any] = {**SIMULATED, "run__n_steps": 20, "run__checkpoint_every": 3, "run__mode": mode}
    straight, killed = simulated(tmp_path / "straight", **options), simulated(tmp_path / "killed", **options)
    run(straight)
    process = start(killed, "fresh")
    for share in (0.3, 0.7):
        wait_for(lambda share=share: log_size(killed) >= share * log_size(straight))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process = start(killed, "resume")
    assert process.wait(timeout=120) == 0
    assert decisions(killed) == decisions(straight)
    assert rollouts_of(killed.folder) == rollouts_of(straight.folder)
    for key, value in state(straight).items():
        np.testing.assert_array_equal(state(killed)[key], value, err_msg=key)
    assert reexecuted(killed.folder)[::2] == (20, None)


REAL: dict[str, Any] = {
    "curriculum": {"shaping": {"name": "budget_split", "budgets": [4, 8, 12], "n_summaries": 2, "summary_tokens": 5}},
    "rollout__summary": "\n= ",
    "run__n_steps": 4,
    "schedule__peak": 3e-3,
}


def check_real_run(folder: Path) -> None:
    """The learner scores what the engine drew, in thoughts and behind every cut: only behind the very same prefix do they agree."""
    check_tables(folder, [4, 8, 12], np.full(3, 1 / 3), 2, 5)
    steps, rollouts = records(folder, "step"), rollouts_of(folder)
    assert max(rollout["n_tokens"] for rollout in rollouts) == 12
    assert any(len(rollout["summaries"]) == 3 for rollout in rollouts)
    assert [step["metrics"]["updates"] for step in steps] == [1, 1, 1, 1]
    assert max(step["metrics"]["mismatch_max"] for step in steps) < 1e-3
    for step in steps:
        of_step = [rollout for rollout in rollouts if rollout["step"] == step["step"]]
        thoughts = sum(rollout["n_tokens"] for rollout in of_step if any(live(rollout)))
        summaries = [behind for rollout in of_step for behind in rollout["summaries"].values()]
        trained = [
            n for s in summaries for n, a in zip(s["n_tokens"], summary_advantages(np.array(s["rewards"])), strict=True) if a != 0
        ]
        assert trained
        assert step["n_tokens_trained"] == thoughts + sum(trained)
    texts = [
        text for record in read_texts(folder / "log") for one in record["summaries"] for behind in one.values() for text in behind
    ]
    assert texts
    assert all(text.startswith("\n= ") for text in texts)


def live(rollout: dict[str, Any]) -> list[bool]:
    """Segments with tokens and credit."""
    starts = [0, 4, 8]
    return [credit != 0 and first < rollout["n_tokens"] for credit, first in zip(rollout["credits"], starts, strict=True)]


def test_a_real_model_learns_from_thoughts_and_summaries(tmp_path: Path, tiny_model_path: Path) -> None:
    recipe = real(tmp_path / "run", tiny_model_path, **REAL)
    run(recipe)
    check_real_run(recipe.folder)
    assert reexecuted(recipe.folder)[::2] == (4, None)
    assert [checked.difference for checked in verify_run(recipe.folder)] == [None, None]


@pytest.mark.slow
def test_a_killed_run_on_a_real_model_ends_with_the_same_weights(tmp_path: Path, tiny_model_path: Path) -> None:
    straight, killed = (real(tmp_path / name, tiny_model_path, **REAL) for name in ("straight", "killed"))
    assert start_real(straight, "fresh").wait(timeout=200) == 0
    process = start_real(killed, "fresh")
    wait_for(lambda: len(checkpoint.valid_folders(killed.folder / "checkpoints")) > 0, timeout_s=120)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert start_real(killed, "resume").wait(timeout=200) == 0
    assert decisions(killed) == decisions(straight)
    assert rollouts_of(killed.folder) == rollouts_of(straight.folder)
    assert model_bytes(killed) == model_bytes(straight)


@pytest.mark.ray
@pytest.mark.vllm
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_summaries_by_real_vllm_in_a_ray_actor(tmp_path: Path, tiny_model_path: Path, ray_session: None) -> None:
    engine = {"rollout__engine__backend": "vllm", "rollout__engine__placement": "ray", "run__agreement_tolerance": 1e-3}
    recipe = real(tmp_path / "run", tiny_model_path, **REAL, **engine)
    run(recipe)
    check_real_run(recipe.folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rollout__summary": ""}, r"rollout\.summary: curriculum\.shaping sums completions up at 4, 8, 12 tokens"),
        ({"rollout__sampling__max_tokens": 11}, r"rollout\.sampling\.max_tokens: .* at 12 tokens, the recipe ends them at 11"),
        ({"rollout__verifier__score_truncated": False}, r"rollout\.verifier\.score_truncated: .* set it to true"),
    ],
)
def test_what_a_recipe_lacks_is_said_before_anything_starts(
    tmp_path: Path, tiny_model_path: Path, changes: dict[str, Any], message: str
) -> None:
    recipe = real(tmp_path / "run", tiny_model_path, **{**REAL, **changes})
    for build in (run, dry_run):
        with pytest.raises(CurriculaError, match=message):
            build(recipe)


def test_a_window_without_room_for_a_summary_is_refused_and_one_with_little_refuses_long_prompts(
    tmp_path: Path, tiny_model_path: Path
) -> None:
    """12 tokens of thought, 3 that ask and 5 of summary."""
    with pytest.raises(CurriculaError, match=r"a window of 20 tokens leaves no room .* completion of 12, the 3 of .* summary of 5"):
        run(real(tmp_path / "none", tiny_model_path, **REAL, rollout__engine__max_model_tokens=20))
    with pytest.raises(CurriculaError, match=r"longer than the 2 tokens that the model window leaves"):
        run(real(tmp_path / "little", tiny_model_path, **REAL, rollout__engine__max_model_tokens=22))


def test_the_first_look_at_a_recipe_says_what_summaries_may_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = Console(width=200)
    shown.print(plan_view(dry_run(simulated(tmp_path / "run", **SIMULATED))))
    assert (
        "summaries      9 per rollout at most, of 5 tokens: 4,320 tokens per step more, without refills" in capsys.readouterr().out
    )
    shown.print(plan_view(dry_run(simulated(tmp_path / "run"))))
    assert "summaries" not in capsys.readouterr().out
