"""A child process that is spoken to line by line, with a deadline on every wait, and killed with its children."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class WorkerLate(Exception):
    """No answer before the deadline."""


class WorkerGone(Exception):
    """The process has ended."""


class WorkerProcess:
    """A Python module run as a process of its own session; `send` and `receive` belong to one thread, `kill` to any."""

    def __init__(self, module: str) -> None:
        requests, self._requests = os.pipe()
        self._replies, replies = os.pipe()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by `bury`
        search_path = os.pathsep.join(path or os.getcwd() for path in sys.path)
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=requests,
            stdout=replies,
            stderr=self._errors,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": search_path} | dict.fromkeys(_ONE_THREAD, "1"),
        )
        os.close(requests)
        os.close(replies)
        os.set_blocking(self._requests, False)
        self._received = bytearray()
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, line: bytes, seconds: float) -> None:
        """Write one line. Errors: WorkerLate when the process does not read it in time, WorkerGone when it has ended."""
        until, rest = time.monotonic() + seconds, memoryview(line)
        while rest:
            _wait(self._requests, select.POLLOUT, until, seconds)
            try:
                rest = rest[os.write(self._requests, rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                raise WorkerGone from None

    def receive(self, seconds: float) -> bytes:
        """One line. Errors: WorkerLate when none comes in time, WorkerGone when none can come any more."""
        until = time.monotonic() + seconds
        while (end := self._received.find(b"\n")) < 0:
            _wait(self._replies, select.POLLIN, until, seconds)
            chunk = os.read(self._replies, 2**16)
            if not chunk:
                raise WorkerGone
            self._received += chunk
        line = bytes(self._received[:end])
        del self._received[: end + 1]
        return line

    def kill(self) -> None:
        """End the process and its children (its process group); returns at once."""
        with self._lock:
            if self._process.returncode is None:  # not reaped, so the id is still its own
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, signal.SIGKILL)

    def bury(self, patience_s: float = 0.0) -> str:
        """Kill, reap and close; how the process ended, in words (its own where it left any).

        A process that is ending by itself gets ``patience_s`` to finish, so that its own exit code is reported.
        """
        ended = self._ends_within(patience_s)
        self.kill()
        with self._lock:
            code = self._process.wait()
        os.close(self._requests)
        os.close(self._replies)
        words = self._last_words()
        self._errors.close()
        return (_ending(code) if ended else "was killed") + (f": {words}" if words else "")

    def _ends_within(self, seconds: float) -> bool:
        """Looks without reaping: the process's id has to stay its own until its children are killed."""
        until = time.monotonic() + seconds
        while os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if time.monotonic() >= until:
                return False
            time.sleep(0.01)
        return True

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""


def _wait(fd: int, event: int, until: float, seconds: float) -> None:
    poller = select.poll()
    poller.register(fd, event)
    if not poller.poll(max(until - time.monotonic(), 0.0) * 1000):
        raise WorkerLate(f"no answer within {seconds:g} s")


def _ending(code: int) -> str:
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended itself with exit code {code}"
