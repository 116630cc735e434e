"""The drift check finds what it is for: between the releases that the tests have anyway, and in a changed copy of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.host_drift import HOSTS, drift, main, reader
from tests.trainer.host_code import wheel
from tests.trainer.integrations.verl_packages import CACHE, environment


@pytest.fixture
def read() -> Callable[[str], str | None]:
    environment("verl")
    return reader(CACHE / "verl")


def test_the_release_that_we_test_has_all_hooks(read: Callable[[str], str | None], capsys: pytest.CaptureFixture[str]) -> None:
    assert drift(HOSTS["verl"], read) == []
    environment("verl-0.7.1")
    assert main(["verl_sampler", "--path", str(CACHE / "verl-0.7.1")]) == 0
    assert "all hooks are there" in capsys.readouterr().out


@pytest.mark.parametrize("host", ["skyrl", "openrlhf"])
def test_wheels_of_other_hosts_have_all_hooks(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([host, "--path", str(wheel(host))]) == 0
    assert "all hooks are there" in capsys.readouterr().out


def test_trl_as_it_is_installed_has_all_hooks(capsys: pytest.CaptureFixture[str]) -> None:
    trl = pytest.importorskip("trl", reason="needs TRL: pip install 'rl-curricula[trl]'")
    assert main(["trl", "--path", str(Path(trl.__file__).parents[1])]) == 0
    assert "all hooks are there" in capsys.readouterr().out


def test_a_release_without_the_hook_is_told(read: Callable[[str], str | None], capsys: pytest.CaptureFixture[str]) -> None:
    """verl 0.8 took the sampler hook out."""
    assert main(["verl_sampler", "--path", str(CACHE / "verl")]) == 1
    assert "verl/experimental/dataset/sampler.py is gone" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (
            "def _next_train_batch(self, num_prompts:",
            "def _next_train_batch(self, seed, num_prompts:",
            "(self, seed, num_prompts=None), was",
        ),
        ("def _compute_advantage", "def _compute_advantages", "PPOTrainer._compute_advantage is gone"),
        ("refill_fn=self._add_prompts_to_generate", "refill_fn=None", "no longer says 'refill_fn=self._add_prompts_to_generate'"),
    ],
)
def test_what_moved_is_named(read: Callable[[str], str | None], before: str, after: str, says: str) -> None:
    def changed(file: str) -> str | None:
        text = read(file)
        return text.replace(before, after) if text is not None else None

    found = drift(HOSTS["verl"], changed)
    assert any(says in one for one in found)
