"""Verifier processes against reward functions that hang, crash, print and eat memory."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from curricula.types import CurriculaError, Status
from rollout.prompts import RewardSpec
from rollout.settings import VerifierSettings
from rollout.verifier import Score, VerifierPool, VerifyItem

ANY_NUMBER = (-1e9, 1e9)
SHORT = 1.5  # seconds for verdicts that never come


@pytest.fixture(autouse=True)
def _reward_module_is_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def pool_of(
    reward: str = "verifier_rewards:by_completion", deadline_s: float = 30.0, n_workers: int = 1, **settings: Any
) -> VerifierPool:
    low, high = ANY_NUMBER
    return VerifierPool(VerifierSettings(n_workers=n_workers, deadline_s=deadline_s, **settings), RewardSpec(reward, low, high))


@pytest.fixture(scope="module")
def patient() -> Iterator[VerifierPool]:
    """One pool for all tests that kill nothing by deadline."""
    sys.path.insert(0, str(Path(__file__).parent))
    pool = pool_of(memory_limit_mb=1024)
    yield pool
    pool.close()
    sys.path.remove(str(Path(__file__).parent))


def scores(pool: VerifierPool, *items: VerifyItem | str) -> list[Score]:
    pool.submit("job", [VerifyItem(item, None, {}) if isinstance(item, str) else item for item in items])
    ((key, found),) = pool.drain()
    assert key == "job"
    assert len(found) == len(items)
    assert all(math.isnan(score.reward) == (score.status is not Status.OK) for score in found)
    return found


class TestVerdicts:
    def test_numbers_are_rewards(self, patient: VerifierPool) -> None:
        found = scores(patient, "good", VerifyItem("answer", -3, {}), VerifyItem("answer", True, {}), "numpy")
        assert [score.reward for score in found] == [1.0, -3.0, 1.0, 0.5]

    @pytest.mark.parametrize(
        ("action", "detail"),
        [
            ("none", "returned None"),
            ("nan", "returned nan"),
            ("inf", "returned -inf"),
            ("text", "returned a str, expected a number"),
            ("list", "returned a list, expected a number"),
        ],
    )
    def test_what_is_no_number_is_invalid(self, patient: VerifierPool, action: str, detail: str) -> None:
        (score,) = scores(patient, action)
        assert score.status is Status.INVALID
        assert detail in score.detail

    def test_out_of_range_is_invalid(self, patient: VerifierPool) -> None:
        (score,) = scores(patient, VerifyItem("answer", 2e9, {}))
        assert score.status is Status.INVALID
        assert "2e+09, outside its declared range [-1e+09, 1e+09]" in score.detail

    def test_exceptions_are_errors_with_their_first_line(self, patient: VerifierPool) -> None:
        found = scores(patient, "raise", "quit", "huge", "good")
        assert [score.status for score in found] == [Status.ERROR, Status.ERROR, Status.ERROR, Status.OK]
        assert found[0].detail == "KeyError: 'first line\\nsecond line'"
        assert "second" not in found[1].detail
        assert found[2].detail.startswith("OverflowError: ")

    def test_prints_are_not_verdicts(self, patient: VerifierPool) -> None:
        assert [score.reward for score in scores(patient, "print", VerifyItem("answer", 0.25, {}), "print")] == [0.5, 0.25, 0.5]

    def test_death_of_the_worker_costs_one_item(self, patient: VerifierPool) -> None:
        found = scores(patient, "good", "exit", "good")
        assert [score.status for score in found] == [Status.OK, Status.ERROR, Status.OK]
        assert "ended itself with exit code 3" in found[1].detail

    def test_memory_is_limited(self, patient: VerifierPool) -> None:
        found = scores(patient, "memory", "good")
        assert [score.status for score in found] == [Status.ERROR, Status.OK]
        assert "MemoryError" in found[0].detail or "was killed" in found[0].detail

    def test_ten_megabytes_pass(self, patient: VerifierPool) -> None:
        text = "\u00e9" * 10_000_000
        found = scores(patient, VerifyItem("length", text, {"length": len(text)}), "good")
        assert [score.reward for score in found] == [1.0, 1.0]

    def test_lone_surrogates_pass(self, patient: VerifierPool) -> None:
        assert scores(patient, VerifyItem("length", "\ud83d", {"length": 1}))[0].reward == 1.0

    def test_no_items_no_scores(self, patient: VerifierPool) -> None:
        assert scores(patient) == []

    def test_what_is_not_json_is_refused_at_once(self, patient: VerifierPool) -> None:
        with pytest.raises(CurriculaError, match="must be JSON values"):
            patient.submit("job", [VerifyItem("good", {1, 2}, {})])
        assert patient.n_open == 0


class TestDeadline:
    @pytest.mark.parametrize("action", ["loop", "hang in C"])
    def test_a_hang_costs_its_own_item(self, action: str) -> None:
        pool = pool_of(deadline_s=SHORT)
        found = scores(pool, "good", action, VerifyItem("answer", 0.25, {}))
        pool.close()
        assert [score.status for score in found] == [Status.OK, Status.TIMEOUT, Status.OK]
        assert found[1].detail == f"no answer within {SHORT} s"
        assert found[2].reward == 0.25

    def test_children_are_killed_too(self, tmp_path: Path) -> None:
        pool = pool_of(deadline_s=SHORT)
        (score,) = scores(pool, VerifyItem("hang with child", None, {"pid_file": str(tmp_path / "pid")}))
        pool.close()
        assert score.status is Status.TIMEOUT
        worker, child = (int(pid) for pid in (tmp_path / "pid").read_text().split())
        assert _gone(worker)
        assert _gone(child)

    def test_deadline_counts_per_completion(self) -> None:
        """Together longer than the deadline, one by one shorter."""
        pool = pool_of("verifier_rewards_slow:slow", deadline_s=1.0)
        found = scores(pool, *["x"] * 6)
        pool.close()
        assert {score.status for score in found} == {Status.OK}


class TestPool:
    def test_works_from_any_thread(self) -> None:
        def use() -> list[Score]:
            pool = pool_of("exact", n_workers=2)
            try:
                return scores(pool, VerifyItem("4", 4, {}))
            finally:
                pool.close()

        with ThreadPoolExecutor(2) as threads:
            assert [future.result()[0].reward for future in [threads.submit(use), threads.submit(use)]] == [1.0, 1.0]

        async def main() -> list[Score]:
            return await asyncio.get_running_loop().run_in_executor(None, use)

        assert asyncio.run(main())[0].reward == 1.0

    def test_workers_share_the_jobs_and_nothing_is_lost(self) -> None:
        pool = pool_of("exact", n_workers=2)
        for n in range(100):
            pool.submit(n, [VerifyItem(str(n), n, {}), VerifyItem("no", n, {})])
        assert pool.n_open == 100
        found = dict(pool.poll()) | dict(pool.drain())
        assert pool.n_open == 0
        assert {n: [score.reward for score in scored] for n, scored in found.items()} == {n: [1.0, 0.0] for n in range(100)}
        pool.close()

    def test_drain_with_a_timeout_returns_what_is_there(self) -> None:
        pool = pool_of(deadline_s=60.0)
        pool.submit("quick", [VerifyItem("good", None, {})])
        pool.submit("hangs", [VerifyItem("loop", None, {})])
        found = pool.drain(timeout=5.0)
        assert [key for key, _ in found] == ["quick"]
        assert pool.n_open == 1
        pool.close()
        assert not any(thread.is_alive() for thread in pool._threads)

    def test_a_worker_killed_from_outside_is_replaced(self) -> None:
        pool = pool_of()
        (score,) = scores(pool, "pid")
        os.kill(int(score.reward), signal.SIGKILL)
        found = scores(pool, "good", "good")
        pool.close()
        assert found[0].status is Status.ERROR
        assert "was killed by SIGKILL" in found[0].detail
        assert found[1].status is Status.OK

    def test_a_closed_pool_refuses_work(self) -> None:
        pool = pool_of("exact")
        pool.close()
        pool.close()
        with pytest.raises(CurriculaError, match="it is closed"):
            pool.submit("job", [])

    @pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
    def test_a_killed_driver_takes_hanging_verifiers_with_it(self, tmp_path: Path) -> None:
        import subprocess

        path = os.pathsep.join([str(Path(__file__).parent), os.getcwd()])
        code = (
            "import sys, time\nfrom test_verifier import *\npool = pool_of(deadline_s=600.0)\n"
            "pool.submit(0, [VerifyItem('hang with child', None, {'pid_file': sys.argv[1]})])\ntime.sleep(600)"
        )
        driver = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "pid")], env={**os.environ, "PYTHONPATH": path})
        worker, child = _pids(tmp_path / "pid")
        driver.kill()
        driver.wait()
        os.kill(child, signal.SIGKILL)
        assert _gone(worker)

    def test_threads_end_with_the_pool(self) -> None:
        before = threading.active_count()
        pool = pool_of("exact", n_workers=3)
        pool.close()
        assert threading.active_count() == before


class TestLoading:
    @pytest.mark.parametrize(
        ("reward", "message"),
        [
            ("exakt", r"unknown reward 'exakt'; did you mean 'exact'\?.*\"package.module:function\""),
            ("no_such_package.rewards:score", "module 'no_such_package.rewards' cannot be imported .*No module named"),
            ("verifier_rewards:by_completions", r"has no function 'by_completions'; did you mean 'by_completion'\?"),
            ("verifier_rewards:not_a_function", "has no function 'not_a_function'"),
            (
                "verifier_rewards:two_arguments",
                r"expected the signature \(completion: str, answer, extra: dict\).*got \(completion",
            ),
            ("verifier_rewards_broken:score", "ZeroDivisionError: division by zero"),
        ],
    )
    def test_a_reward_that_cannot_be_loaded_stops_the_start(self, reward: str, message: str) -> None:
        with pytest.raises(CurriculaError, match=message) as caught:
            pool_of(reward)
        assert f"verifier for reward {reward!r}" in str(caught.value)

    def test_too_little_memory_for_the_imports(self) -> None:
        with pytest.raises(CurriculaError, match=r"reward 'math': \w+: .*(beyond|close to) rollout\.verifier\.memory_limit_mb"):
            pool_of("math", memory_limit_mb=64)


def _gone(pid: int) -> bool:
    """Ended within ten seconds, or a zombie that waits for its parent."""
    for _ in range(1000):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.01)
    return False


def _pids(path: Path) -> tuple[int, int]:
    for _ in range(3000):
        if path.exists() and len(path.read_text().split()) == 2:
            break
        time.sleep(0.01)
    worker, child = path.read_text().split()
    return int(worker), int(child)
