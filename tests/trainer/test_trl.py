"""TRL's real GRPOTrainer, on a tiny model, with its prompts and groups chosen by a curriculum."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("trl", reason="needs TRL: pip install 'rl-curricula[trl]'")

from curricula import CurriculaError, Curriculum, Feedback, RolloutPlan, Status
from curricula.hosting import STATE, pool_of
from tests.tiny import save_tiny_model

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests" / "trainer" / "trl_script.py"
QUIET = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONPATH": str(ROOT),
    "PYTHONWARNINGS": "ignore",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_tiny_model(tmp_path_factory.mktemp("model"), hidden=32, layers=1))


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Sums then have one order, in this process as in the others."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def others(model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Other]]:
    """Runs in processes of their own, which go on while other tests run."""
    folder = tmp_path_factory.mktemp("others")
    killed, pair = folder / "killed", folder / "pair"
    to_be_killed = {"kill_at": 3, "config": SAVED, "arguments": WITH_LOG | {"log": str(killed / "log")}}
    of_two = {"config": {"per_device_train_batch_size": 4}, "arguments": BAND | {"log": str(pair / "log")}}
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1", f"--master-port={free_port()}"]
    runs = {
        "killed": Other(killed, [], {"model": model, "output": str(killed)} | to_be_killed),
        "pair": Other(pair, torchrun, {"model": model, "output": str(pair)} | of_two),
    }
    yield runs
    for run in runs.values():
        run.process.terminate()
        run.process.wait(60)


class Other:
    """A run in a process of its own."""

    def __init__(self, folder: Path, launcher: list[str], settings: dict[str, Any]) -> None:
        self.folder, self.output = folder, folder.with_suffix(".txt")
        command = [sys.executable, *launcher, str(SCRIPT), json.dumps(settings)]
        with self.output.open("w") as file:
            self.process = subprocess.Popen(command, env=QUIET, stdout=file, stderr=subprocess.STDOUT)

    def ended(self) -> int:
        code = self.process.wait(240)
        print(self.output.read_text()[-3000:])  # shown where the test fails
        return code


SAVED = {"save_strategy": "steps", "save_steps": 1}
WITH_LOG = {"curriculum": "sec"}
UNEQUAL = {
    "curriculum": {
        "belief": {"name": "beta", "forgetting": 0.0},
        "selector": "sequential",
        "budget": {"name": "knapsack", "value": "plug_in"},
    }
}
BAND = {"curriculum": {"distribution": "dump_ucb", "filter": {"name": "difficulty_band", "low": 0.1, "high": 0.9}}}


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Spied:
    """A run with everything that its curriculum was asked and told."""

    trainer: Any
    seen: list[dict[str, Any]]
    plans: list[RolloutPlan] = field(default_factory=list)
    updates: list[tuple[Feedback, ...]] = field(default_factory=list)


def spied(model: str, output: Path, arguments: dict[str, Any], **config: Any) -> Spied:
    from tests.trainer.trl_script import trainer

    made = trainer(model, str(output), arguments, **config)
    run = Spied(made, [])
    plan, plan_for, update = made.curriculum.plan, made.curriculum.plan_for, made.curriculum.update
    made.curriculum.plan = lambda *a, **k: run.plans.append(plan(*a, **k)) or run.plans[-1]
    made.curriculum.plan_for = lambda *a, **k: run.plans.append(plan_for(*a, **k)) or run.plans[-1]
    made.curriculum.update = lambda feedbacks: run.updates.append(tuple(feedbacks)) or update(feedbacks)
    made.train()
    run.seen = seen(output)
    return run


def seen(folder: Path, process: int = 0) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"seen-{process}.jsonl").read_text().splitlines()]


def by_hand(ids: list[str], rewards: list[float], trains: list[bool]) -> list[float]:
    """(r - mean) / (std + 1e-4) inside each prompt's group; 0 where it does not train."""
    reward = {name: np.array([r for r, other in zip(rewards, ids, strict=True) if other == name]) for name in ids}
    return [
        (r - reward[name].mean()) / (reward[name].std(ddof=1) + 1e-4) if live else 0.0
        for name, r, live in zip(ids, rewards, trains, strict=True)
    ]


@pytest.mark.parametrize("recipe", ["uniform", "dump_ucb", "sec"])
def test_a_batch_is_the_plan_and_what_it_scored_is_learned_without_lag(model, tmp_path, recipe):
    run = spied(model, tmp_path, {"curriculum": recipe})
    again = Curriculum.from_recipe(recipe, run.trainer.curriculum.pool, seed=run.trainer.args.seed)
    assert len(run.plans) == len(run.updates) == len(run.seen) == 4
    for step, (plan, (feedback,), batch) in enumerate(zip(run.plans, run.updates, run.seen, strict=True)):
        anew = again.plan(step, n_groups=2, n_rollouts=8)  # by a curriculum that has learned from every batch before this one
        assert anew.selection.prompt_B.tolist() == plan.selection.prompt_B.tolist()
        assert np.array_equal(anew.selection.propensity_B, plan.selection.propensity_B)
        again.update(feedback)
        planned = np.repeat(again.pool.ids[plan.selection.prompt_B], plan.n_rollouts_B).tolist()
        assert batch["ids"] == planned
        assert batch["prompts"] == batch["logged_prompts"] == [f"{name[1:]}+{name[1:]}=" for name in planned]
        assert feedback.outcome.reward_R.tolist() == batch["rewards"]
        assert feedback.outcome.policy_version_R.tolist() == [step] * 8
        assert feedback.outcome.n_tokens_R.mean() == pytest.approx(batch["metrics"]["completions/mean_length"])
        assert feedback.outcome.reward_R.mean() == pytest.approx(batch["metrics"]["reward"])
        assert batch["advantages"] == pytest.approx(by_hand(batch["ids"], batch["rewards"], [True] * 8), abs=1e-5)
        assert batch["advantages"] == pytest.approx(batch["advantages_by_trl"], abs=1e-4)  # groups of one size: TRL's own are right
    assert any(np.ptp(batch["advantages"]) > 0 for batch in run.seen)


def test_groups_that_a_filter_rejects_are_replaced(model, tmp_path):
    run = spied(model, tmp_path, BAND | {"max_attempts": 3})
    assert {plan.attempt for plan in run.plans} >= {0, 1}
    assert len(run.updates) == len(run.seen) == 4  # one update per batch, however many attempts
    for feedbacks, batch in zip(run.updates, run.seen, strict=True):
        assert len(feedbacks) <= 3
        kept = [
            (run.trainer.curriculum.pool.ids[prompt], int(n))
            for feedback in feedbacks
            for prompt, n, keep in zip(
                feedback.plan.selection.prompt_B, feedback.plan.n_rollouts_B, feedback.verdict.kept_B, strict=True
            )
            if keep
        ]
        trained = [name for name, live in zip(batch["ids"], batch["trains"], strict=True) if live]
        assert trained == [name for name, n in kept for _ in range(n)]
        assert len(batch["ids"]) == 8  # TRL's batch is full: places without gradient are masked
        assert batch["n_items"] == batch["n_tokens"]
        assert batch["advantages"] == pytest.approx(by_hand(batch["ids"], batch["rewards"], batch["trains"]), abs=1e-5)
        assert batch["logged_advantages"] == pytest.approx(batch["advantages"], abs=1e-6)
        assert sum(len(feedback.outcome.group_R) for feedback in feedbacks) == batch["metrics"]["curriculum/n_rollouts"]
        all_equal = [np.ptp(rewards_of(batch, name)) == 0 for name in batch["ids"]]
        assert batch["metrics"]["frac_reward_zero_std"] == pytest.approx(np.mean(all_equal))
        assert len(batch["lengths"]) == 8
    assert any(sum(batch["trains"]) for batch in run.seen)


def rewards_of(batch: dict[str, Any], name: str) -> list[float]:
    return [reward for reward, other in zip(batch["rewards"], batch["ids"], strict=True) if other == name]


def test_groups_of_different_sizes_get_advantages_of_their_own(model, tmp_path):
    run = spied(model, tmp_path, UNEQUAL, per_device_train_batch_size=24, max_steps=8)
    sizes = {tuple(sorted(plan.n_rollouts_B.tolist())) for plan in run.plans}
    assert any(len(set(size)) > 1 for size in sizes), sizes
    for (feedback,), batch in zip(run.updates, run.seen, strict=True):
        plan = feedback.plan
        assert plan.n_rollouts <= 24
        planned = np.repeat(run.trainer.curriculum.pool.ids[plan.selection.prompt_B], plan.n_rollouts_B).tolist()
        assert batch["ids"][: len(planned)] == planned
        n = len(planned)
        assert batch["trains"] == [True] * n + [False] * (24 - n)
        assert batch["advantages"][:n] == pytest.approx(by_hand(planned, batch["rewards"][:n], [True] * n), abs=1e-5)
        assert batch["advantages"][n:] == [0.0] * (24 - n)
        assert np.isnan(batch["rewards"][n:]).all()  # a place that repeats a rollout has no reward: nothing is counted twice
        assert batch["metrics"]["reward"] == pytest.approx(feedback.outcome.reward_R.mean())


def test_what_is_thinned_out_or_has_no_reward_does_not_train(model, tmp_path):
    from tests.trainer import trl_script

    def patchy(completions: list[str], **_: Any) -> list[float | None]:
        return [None if i % 4 == 3 else float(i % 2) for i in range(len(completions))]

    patchy.__name__ = "score"
    before, trl_script.score = trl_script.score, patchy
    try:
        made = trl_script.trainer(
            model, str(tmp_path), {"curriculum": {"downsampling": {"name": "pods", "n_kept": 2}}}, max_steps=1
        )
        updates: list[Feedback] = []
        update = made.curriculum.update
        made.curriculum.update = lambda feedbacks: updates.extend(feedbacks) or update(feedbacks)
        made.train()
    finally:
        trl_script.score = before
    (batch,) = seen(tmp_path)
    (feedback,) = updates
    assert feedback.outcome.status_R.tolist() == [Status.OK, Status.OK, Status.OK, Status.INVALID] * 2
    assert batch["trains"] == feedback.verdict.carries_gradient_R.tolist()
    assert sum(batch["trains"]) == 4
    assert not any(batch["trains"][3::4])
    assert [a != 0 for a in batch["advantages"]] == batch["trains"]


def test_budgets_in_rounds_and_batch_wide_scaling(model, tmp_path):
    recipe = {"budget": {"name": "speed", "n_init": 2}, "filter": {"name": "nonzero_variance", "refill": "none"}}
    run = spied(model, tmp_path, {"curriculum": recipe}, scale_rewards="batch", per_device_train_batch_size=32, max_steps=2)
    assert any(feedback.plan.round for feedbacks in run.updates for feedback in feedbacks)
    for (feedback,), batch in zip(run.updates, run.seen, strict=True):
        outcome = feedback.outcome
        n_B = np.bincount(outcome.group_R, minlength=len(feedback.plan))
        assert n_B.tolist() == feedback.plan.n_rollouts_B.tolist()
        kept_R = feedback.verdict.kept_B[outcome.group_R]
        std = outcome.reward_R[kept_R].std(ddof=1) + 1e-4
        mean_B = np.bincount(outcome.group_R, outcome.reward_R, len(n_B)) / np.maximum(n_B, 1)
        expected_R = np.where(kept_R, (outcome.reward_R - mean_B[outcome.group_R]) / std, 0.0)
        trained = [a for a, live in zip(batch["advantages"], batch["trains"], strict=True) if live]
        assert sorted(trained) == pytest.approx(sorted(expected_R[kept_R]), abs=1e-5)


def test_evaluation_is_not_touched(model, tmp_path):
    from tests.trainer import trl_script

    made = trl_script.trainer(model, str(tmp_path), {}, max_steps=1)
    updates: list[Any] = []
    update = made.curriculum.update
    made.curriculum.update = lambda feedbacks: updates.append(feedbacks) or update(feedbacks)
    made.train()
    found = made.evaluate(trl_script.rows(8))
    assert len(updates) == len(seen(tmp_path)) == 1
    assert found["eval_reward"] >= 0


def test_accumulation_and_repeated_use_of_a_batch_teach_once(model, tmp_path):
    changes = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 2, "steps_per_generation": 4, "num_iterations": 2}
    run = spied(model, tmp_path, {"curriculum": "dump_ucb"}, **changes)
    # 4 steps x 2 micro-batches, and every generated batch lasts 4 x 2 of them
    assert len(run.updates) == len(run.seen) == 1
    assert run.updates[0][0].plan.n_rollouts == 16


def test_a_killed_run_goes_on_as_if_it_had_not_been(model, others, tmp_path):
    from tests.trainer.trl_script import trainer

    folder = others["killed"].folder
    arguments = WITH_LOG | {"log": tmp_path / "log"}
    whole = trainer(model, str(tmp_path), arguments, **SAVED)
    whole.train()
    assert others["killed"].ended() == -9
    assert len(seen(folder)) == 3
    checkpoint = folder / "checkpoint-2"  # not the newest: the log has to go back too
    resumed = trainer(model, str(folder), WITH_LOG | {"log": folder / "log"}, **SAVED)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    first, then, uninterrupted = seen(folder)[:2], seen(folder)[3:], seen(tmp_path)
    assert len(uninterrupted) == 4
    for batch, expected in zip(first + then, uninterrupted, strict=True):
        assert (batch["step"], batch["ids"], batch["rewards"]) == (expected["step"], expected["ids"], expected["rewards"])
        assert batch["advantages"] == expected["advantages"]
    states = whole.curriculum.state_dict(), resumed.curriculum.state_dict()
    assert all(np.array_equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))
    assert groups(folder / "log") == groups(tmp_path / "log")


def groups(log: Path) -> list[tuple[Any, ...]]:
    from rollout.log import read_log

    wanted = (
        "step",
        "prompt",
        "propensity",
        "rewards",
        "statuses",
        "n_tokens",
        "versions",
        "gradient",
        "prompt_hash",
        "n_prompt_tokens",
    )
    return [
        tuple(record[name] if not isinstance(record[name], list) else tuple(record[name]) for name in wanted)
        for record in read_log(log)
        if record["kind"] == "group"
    ]


def test_two_processes_are_told_the_same(others):
    folder = others["pair"].folder
    assert others["pair"].ended() == 0
    batches = list(zip(seen(folder, 0), seen(folder, 1), strict=True))
    assert len(batches) == 4
    for one, other in batches:
        ids, trains = one["ids"] + other["ids"], one["trains"] + other["trains"]
        assert one["rewards"] == other["rewards"]
        assert one["logged_advantages"] == other["logged_advantages"]
        assert one["n_items"] == other["n_items"] == one["n_tokens"] + other["n_tokens"]
        expected = by_hand(ids, one["rewards"], trains)
        assert one["advantages"] + other["advantages"] == pytest.approx(expected, abs=1e-5)
        assert one["prompts"] + other["prompts"] == [f"{name[1:]}+{name[1:]}=" for name in ids]
    logged = groups(folder / "log")
    assert len(logged) == sum(one["metrics"]["curriculum/n_groups"] for one, _ in batches)
    assert max(one["metrics"]["curriculum/n_attempts"] for one, _ in batches) > 1
    trained = [prompt for _, prompt, *_, gradient, _, _ in logged for _ in range(sum(gradient))]
    assert sorted(trained) == sorted(
        name for pair in batches for batch in pair for name, live in zip(batch["ids"], batch["trains"], strict=True) if live
    )


def test_the_log_can_be_replayed(model, tmp_path):
    from replay.sources import load

    run = spied(model, tmp_path, BAND | {"log": tmp_path / "log"}, max_steps=2)
    logged = load(tmp_path / "log")
    assert len(logged.pool) <= 24
    n_groups = sum(len(feedback.plan) for feedbacks in run.updates for feedback in feedbacks)
    assert len(groups(tmp_path / "log")) == n_groups
    done = subprocess.run(
        [sys.executable, "-m", "trainer.cli", "replay", str(tmp_path / "log"), "--policy", "uniform"],
        env=QUIET, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_checkpoints_of_other_data_or_settings_are_refused(model, tmp_path):
    from tests.trainer import trl_script

    trl_script.trainer(model, str(tmp_path), {}, max_steps=1, save_strategy="steps", save_steps=1).train()
    saved = tmp_path / "checkpoint-1"
    other = trl_script.trainer(model, str(tmp_path), {})
    other.train_dataset = trl_script.rows(30)
    other.curriculum = Curriculum.from_recipe("dump_ucb", pool_of(other.train_dataset["prompt"]), seed=other.args.seed)
    with pytest.raises(CurriculaError, match="the data set changed between save and resume"):
        other.train(resume_from_checkpoint=str(saved))
    with pytest.raises(CurriculaError, match="num_generations was 4 and is now 2"):
        trl_script.trainer(model, str(tmp_path), {}, num_generations=2).train(resume_from_checkpoint=str(saved))
    with pytest.raises(CurriculaError, match="distribution was dump_ucb"):
        trl_script.trainer(model, str(tmp_path), {"curriculum": "sec"}).train(resume_from_checkpoint=str(saved))
    (saved / STATE).unlink()
    with pytest.raises(CurriculaError, match="written without a curriculum"):
        trl_script.trainer(model, str(tmp_path), {}).train(resume_from_checkpoint=str(saved))


def test_mistakes_are_named(model, tmp_path):
    from datasets import Dataset

    from tests.trainer import trl_script
    from trainer.integrations import trl_settings
    from trainer.integrations.trl import CurriculumGRPOTrainer

    def make(arguments: dict[str, Any] | None = None, kind: type = CurriculumGRPOTrainer, **config: Any) -> Any:
        return trl_script.trainer(model, str(tmp_path), arguments or {}, kind, **config)

    class Another(CurriculumGRPOTrainer):
        def _generate_and_score_completions(self, inputs: Any) -> Any:
            return super()._generate_and_score_completions(inputs)

    with pytest.raises(CurriculaError, match=r"Another overrides _generate_and_score_completions too"):
        make(kind=Another)
    with pytest.raises(CurriculaError, match="id_column='uid': the data set has only prompt, id, level"):
        make({"id_column": "uid"})
    with pytest.raises(CurriculaError, match="remove_unused_columns=True drops the columns with prompt ids"):
        make(remove_unused_columns=True)
    with pytest.raises(CurriculaError, match=r"24 prompts, but one batch has 32 groups"):
        make(per_device_train_batch_size=64, num_generations=2)
    with pytest.raises(CurriculaError, match="sum_then_normalize"):
        make(multi_objective_aggregation="normalize_then_sum")
    stream = trl_script.rows().to_iterable_dataset()
    assert stream.column_names == ["prompt", "id", "level"]
    with pytest.raises(CurriculaError, match="chooses any row at any time, got a IterableDataset"):
        trl_settings.columns(stream, None, None)
    with pytest.raises(CurriculaError, match="unknown recipe 'dump_ucp'"):
        make({"curriculum": "dump_ucp"})
    with pytest.warns(UserWarning, match=r"save_steps=1 falls inside a generated batch, which lasts 2 steps"):
        first = make(num_iterations=2, save_strategy="steps", save_steps=1)
    with pytest.raises(CurriculaError, match="steers another trainer already"):
        make({"curriculum": first.curriculum})
    with pytest.raises(CurriculaError, match="made for 2 prompts"):
        make({"curriculum": Curriculum.from_recipe("uniform", pool_of(["a", "b"]))})
    with pytest.raises(CurriculaError, match=r"greedy completions beside the rollouts \(budget remax\)"):
        make({"curriculum": "remax"}).train()
    with pytest.raises(CurriculaError, match="declare the reward function's reward_range"):
        make({"reward_range": (0.0, 0.5)}, max_steps=2).train()
    with pytest.raises(CurriculaError, match="rows 0 and 2 of the data set have the same prompt"):
        pool_of(Dataset.from_dict({"prompt": ["a", "b", "a"]})["prompt"])


def test_what_a_vllm_server_cannot_vary_is_refused_with_the_reason(model, tmp_path, monkeypatch):
    """Its client needs a GPU; the refusal comes before anything is generated."""
    from tests.trainer import trl_script
    from trainer.integrations import trl_settings

    made = trl_script.trainer(model, str(tmp_path), UNEQUAL, per_device_train_batch_size=24, max_steps=8)
    monkeypatch.setattr(made, "use_vllm", True)
    assert made.args.vllm_mode == "colocate"
    assert trl_settings.host(made).one_size == ""
    made.args.vllm_mode = "server"
    made._host = trl_settings.host(made)
    monkeypatch.setattr(made, "use_vllm", False)
    with pytest.raises(CurriculaError, match=r"groups of \[.*\] rollouts, but TRL asks its vLLM server for num_generations"):
        made.train()


def test_another_version_of_trl_warns_and_one_without_the_hooks_is_refused(monkeypatch):
    from trl import GRPOTrainer

    from trainer.integrations import trl_settings
    from trainer.integrations.trl import CurriculumGRPOTrainer

    monkeypatch.setattr(trl_settings, "version", lambda _: "1.99.0")
    with pytest.warns(UserWarning, match=r"TRL 1\.99\.0 was not tested"):
        trl_settings.refuse_class(CurriculumGRPOTrainer, CurriculumGRPOTrainer, GRPOTrainer)
    with pytest.raises(CurriculaError, match=r"TRL 1\.99\.0 has no GRPOTrainer\._generate_and_score_completions"):
        trl_settings.refuse_class(CurriculumGRPOTrainer, CurriculumGRPOTrainer, object)


def test_without_trl_the_import_says_what_to_install():
    code = "import sys; sys.modules['trl'] = sys.modules['torch'] = None; import trainer.integrations.trl"
    done = subprocess.run([sys.executable, "-c", code], env=QUIET, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "ImportError: trainer.integrations.trl needs TRL: pip install 'rl-curricula[trl]'" in done.stderr


def test_the_example_of_the_documentation_runs(model, tmp_path, monkeypatch):
    text = (ROOT / "docs" / "trl.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert 'MODEL = "Qwen/Qwen3-0.6B"' in code
    code = (
        code.replace('"Qwen/Qwen3-0.6B"', repr(model))
        .replace("max_steps=500", "max_steps=2")
        .replace("save_steps=100", "save_steps=2")
        .replace("1024", "8")
    )
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/trl.md", "exec"), {"__name__": "__main__"})
    assert (tmp_path / "grpo" / "checkpoint-2" / STATE).is_file()
