"""Tasks by name, and the checks of their keys."""

from __future__ import annotations

from dataclasses import dataclass, is_dataclass

import pytest

from curricula.types import CurriculaError
from rollout.prompts import Prompt, PromptSet, RewardSpec
from rollout.tasks import build_task, find_task, known_tasks


@dataclass(frozen=True)
class Outside:
    """A task that lives in somebody's own package."""

    n: int
    reward: RewardSpec = RewardSpec("exact")
    shares: tuple[float, ...] = ()

    def build(self, seed: int) -> tuple[PromptSet, PromptSet]:
        return tuple(PromptSet([Prompt(f"{part}/{i}", "all", "?", "1") for i in range(self.n)], self.reward) for part in "ab")  # type: ignore[return-value]


class NoDataclass:
    def build(self, seed: int) -> None: ...


@pytest.fixture(autouse=True)
def _this_module_is_importable(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.syspath_prepend(str(request.path.parent))


@pytest.mark.parametrize("name", known_tasks())
def test_every_file_registers_a_frozen_dataclass(name: str) -> None:
    task = find_task(name)
    assert is_dataclass(task)
    assert task.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert hasattr(task, "build")


def test_a_task_of_ones_own() -> None:
    train, held_out = build_task({"name": "test_tasks:Outside", "n": 2, "reward": "math", "shares": [1, 0.5]}).build(0)
    assert (len(train), len(held_out), train.reward) == (2, 2, RewardSpec("math"))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"n_levels": 3}, r"task: expected a key 'name', got \['n_levels'\]; known: .*prompt_file.*simulated"),
        ({"name": "promt_file"}, "unknown task 'promt_file'; did you mean 'prompt_file'"),
        ({"name": "simulated", "n_level": 3}, "unknown key of task 'simulated': 'n_level'; did you mean 'n_levels'"),
        ({"name": "simulated", "n_levels": "3"}, "task 'simulated', n_levels: expected a whole number, got '3'"),
        ({"name": "simulated", "n_levels": True}, "n_levels: expected a whole number, got True"),
        ({"name": "prompt_file"}, r"task 'prompt_file': missing key\(s\) train"),
        (
            {"name": "prompt_file", "train": "a.jsonl", "reward": {"nam": "math"}},
            "unknown key of task 'prompt_file', reward: 'nam'",
        ),
        (
            {"name": "prompt_file", "train": "a.jsonl", "reward": 3},
            "reward: expected a mapping with the keys name, low, high, got 3",
        ),
        (
            {"name": "prompt_file", "train": "a.jsonl", "form": "chta"},
            "unknown value of task 'prompt_file', form: 'chta'; did you mean 'chat'",
        ),
        ({"name": "prompt_file", "train": "a.jsonl", "prompt_template": "go"}, "expected a placeholder such as {prompt}"),
        ({"name": "no_such_module:Task"}, "task 'no_such_module:Task': cannot be imported"),
        ({"name": "test_tasks:NoDataclass"}, "expected a dataclass with a method 'build'"),
        ({"name": "test_tasks:Outside", "n": 1, "shares": [1, "x"]}, r"shares\[1\]: expected a number, got 'x'"),
    ],
)
def test_mistakes_are_named(spec: dict[str, object], message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        build_task(spec)
