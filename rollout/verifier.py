"""Verdicts on completions, from processes that can be killed.

A reward function may hang, crash, eat memory or raise. Here that costs the completion its reward, with a status that says why,
and nothing else: not the verdicts beside it, not the worker's place, not the run. No signals and no forks are used, so a pool
works from any thread.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from functools import partial
from typing import Any, NamedTuple

from curricula.types import CurriculaError, Status
from rollout.prompts import RewardSpec
from rollout.settings import VerifierSettings
from rollout.worker_process import WorkerGone, WorkerLate, WorkerProcess

START_TIMEOUT_S = 120.0  # imports of a reward function's module included
_PATIENCE_S = 1.0  # for a worker that closed its pipe to finish ending


class VerifyItem(NamedTuple):
    """One completion and what the reward function compares it with."""

    completion: str
    answer: Any
    extra: dict[str, Any]


class Score(NamedTuple):
    """What the verifier says of one completion."""

    status: Status  # OK, TIMEOUT, ERROR or INVALID
    reward: float  # NaN where the status is not OK
    detail: str = ""  # why there is no reward


class VerifierPool:
    """``n_workers`` processes, one job (the completions of one request) at a time each.

    Errors: CurriculaError when the reward function cannot be loaded; it is tried once before the constructor returns.
    """

    def __init__(self, settings: VerifierSettings, reward: RewardSpec) -> None:
        self._jobs: queue.SimpleQueue[tuple[Any, list[bytes]] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[Any, list[Score]] | BaseException] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._n_open = 0
        self._closed = False
        self._places = [_Place(settings, reward) for _ in range(settings.n_workers)]
        started: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._serve, args=(place, started if i == 0 else None), name=f"verifier-{i}", daemon=True)
            for i, place in enumerate(self._places)
        ]
        for thread in self._threads:
            thread.start()
        if (failure := started.get()) is not None:
            self.close()
            raise failure

    @property
    def n_open(self) -> int:
        """Jobs submitted whose scores `poll` or `drain` has not returned yet."""
        return self._n_open

    def submit(self, key: Hashable, items: Sequence[VerifyItem]) -> None:
        """Queue the completions of one request; returns at once."""
        if self._closed:
            raise CurriculaError("verifier pool: it is closed; no more completions can be verified")
        encoded = [_encoded(item) for item in items]
        with self._lock:
            self._n_open += 1
        self._jobs.put((key, encoded))

    def poll(self) -> list[tuple[Any, list[Score]]]:
        """Jobs that have finished, with one score per item in the items' order; returns at once."""
        finished = []
        while not self._done.empty():
            finished.append(self._take(0.0))
        return finished

    def drain(self, timeout: float | None = None) -> list[tuple[Any, list[Score]]]:
        """Wait for all open jobs; the deadlines bound the wait. With a timeout, what has finished by then."""
        until = None if timeout is None else time.monotonic() + timeout
        finished = []
        while self._n_open:
            try:
                finished.append(self._take(None if until is None else max(until - time.monotonic(), 0.0)))
            except queue.Empty:
                break
        return finished

    def close(self) -> None:
        """Kill the workers; open jobs are dropped."""
        self._closed = True
        for place in self._places:
            place.close()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(timeout=10.0)

    def _take(self, timeout: float | None) -> tuple[Any, list[Score]]:
        done = self._done.get(timeout=timeout)
        if isinstance(done, BaseException):
            raise done
        with self._lock:
            self._n_open -= 1
        return done

    def _serve(self, place: _Place, started: queue.SimpleQueue[BaseException | None] | None) -> None:
        """The life of one place: a thread, because its waits block and workers die with the thread that started them."""
        try:
            if started is not None:
                started.put(place.try_start())
            while (job := self._jobs.get()) is not None:
                key, items = job
                self._done.put((key, place.score(items)))
        except _Closed:
            pass
        except BaseException as error:  # noqa: BLE001 - the thread's edge: the error is raised by poll and drain
            self._done.put(error)
            if started is not None:
                started.put(error)
        finally:
            place.leave()


class _Closed(Exception):
    """The pool was closed while a worker was to be started."""


class _Place:
    """One place for a worker: starts it, talks to it, replaces it after a failure."""

    def __init__(self, settings: VerifierSettings, reward: RewardSpec) -> None:
        self._settings = settings
        self._reward = reward
        self._worker: WorkerProcess | None = None
        self._lock = threading.Lock()
        self._closed = False

    def try_start(self) -> CurriculaError | None:
        """Why the reward function cannot be loaded, or None when it can."""
        failure = self._failure_of(self._started)
        if failure is None:
            return None
        return CurriculaError(f"verifier for reward {self._reward.name!r}: {failure.detail}")

    def score(self, items: list[bytes]) -> list[Score]:
        """One score per item: a failure costs the item that failed and is followed by a fresh worker."""
        scores: list[Score] = []
        while len(scores) < len(items):
            failure = self._failure_of(partial(self._stream, items, scores))
            if failure is not None:
                scores.append(failure)
        return scores

    def close(self) -> None:
        """Kill the worker, from any thread; none is started any more."""
        with self._lock:
            self._closed = True
            if self._worker is not None:
                self._worker.kill()

    def leave(self) -> None:
        """The thread's last act."""
        if self._worker is not None:
            self._worker.bury()
            self._worker = None

    def _stream(self, items: list[bytes], scores: list[Score]) -> None:
        """Append the missing scores one by one; each deadline counts from the score before."""
        worker, rest = self._started(), items[len(scores) :]
        worker.send(b"[" + b",".join(rest) + b"]\n", self._settings.deadline_s)
        for _ in rest:
            message = json.loads(worker.receive(self._settings.deadline_s))
            reward = float("nan") if message["reward"] is None else float(message["reward"])
            scores.append(Score(Status(message["status"]), reward, message["detail"]))

    def _started(self) -> WorkerProcess:
        if self._worker is not None:
            return self._worker
        with self._lock:
            if self._closed:
                raise _Closed
            worker = self._worker = WorkerProcess("rollout.verifier_worker")
        reward, limit = self._reward, self._settings.memory_limit_mb
        hello = {"reward": reward.name, "low": reward.low, "high": reward.high, "memory_limit_mb": limit}
        worker.send(json.dumps(hello).encode() + b"\n", START_TIMEOUT_S)
        greeting = json.loads(worker.receive(START_TIMEOUT_S))
        if "failed" in greeting:
            raise _Refused(greeting["failed"])
        return worker

    def _failure_of(self, act: Callable[[], object]) -> Score | None:
        """The score of a failed act, after which there is no worker; None when it succeeded."""
        try:
            act()
        except WorkerLate as late:
            status, detail = Status.TIMEOUT, str(late)
            self._bury(0.0)
        except WorkerGone:
            limit = self._settings.memory_limit_mb
            status, detail = (
                Status.ERROR,
                f"the verifier process {self._bury(_PATIENCE_S)} (rollout.verifier.memory_limit_mb = {limit})",
            )
        except _Refused as refused:
            status, detail = Status.ERROR, str(refused)
            self._bury(0.0)
        else:
            return None
        return Score(status, float("nan"), detail)

    def _bury(self, patience_s: float) -> str:
        worker, self._worker = self._worker, None
        return "was not started" if worker is None else worker.bury(patience_s)


class _Refused(Exception):
    """The worker started and could not load the reward function."""


def _encoded(item: VerifyItem) -> bytes:
    try:
        return json.dumps(item).encode("ascii")
    except (TypeError, ValueError, RecursionError) as error:
        raise CurriculaError(
            f"verifier pool: an item cannot be sent to a worker ({error}); a prompt's answer and extra must be JSON values"
        ) from None
