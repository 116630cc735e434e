"""A verifier process: reads completions from its standard input, writes one verdict per completion to its standard output.

The first line of input holds the reward's name and limits; each further line is a JSON list of ``[completion, answer, extra]``.
The reward function runs with standard streams of its own, so nothing that it prints can be taken for a verdict. Memory is limited
and no core files are written. That keeps accidents in, not attackers: a reward function that runs code from a model needs a
container.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import resource
import signal
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np

from curricula.types import CurriculaError, Status
from rollout.rewards import Reward, load_reward

_PR_SET_PDEATHSIG = 1
_LONGEST_DETAIL = 300


def main() -> None:
    """Serve until the input ends."""
    _die_with_parent()
    requests, replies = _claim_streams()
    hello = json.loads(requests.readline())
    try:
        _limit(hello["memory_limit_mb"])
        reward = load_reward(hello["reward"])
    except BaseException as error:  # noqa: BLE001 - the process's edge: whatever a user's module raises becomes a message
        _reply(replies, {"failed": first_line(error)})
        return
    _reply(replies, {"ready": True})
    _silence()
    for line in requests:
        for completion, answer, extra in json.loads(line):
            status, value, detail = verdict(reward, (completion, answer, extra), (hello["low"], hello["high"]))
            _reply(replies, {"status": int(status), "reward": value, "detail": detail})


def verdict(reward: Reward, item: tuple[str, Any, dict[str, Any]], bounds: tuple[float, float]) -> tuple[Status, float | None, str]:
    """Status, reward (None without one) and reason for one completion."""
    try:
        return judged(reward(*item), *bounds)
    except BaseException as error:  # noqa: BLE001 - the process's edge: an exception becomes a status, SystemExit included
        return Status.ERROR, None, first_line(error)


def judged(value: Any, low: float, high: float) -> tuple[Status, float | None, str]:
    """Is this a reward? Numbers inside [low, high], to the rounding error that `curricula.types.Outcome` allows, are."""
    if value is None:
        return Status.INVALID, None, "the reward function returned None"
    if isinstance(value, str | bytes) or not hasattr(value, "__float__"):
        return Status.INVALID, None, f"the reward function returned a {type(value).__name__}, expected a number or None"
    number = float(value)
    if not math.isfinite(number):
        return Status.INVALID, None, f"the reward function returned {number}"
    slack = 1e-9 * (high - low)
    if not low - slack <= number <= high + slack:
        return Status.INVALID, None, f"the reward function returned {number:g}, outside its declared range [{low:g}, {high:g}]"
    return Status.OK, float(np.clip(number, low, high)), ""


def first_line(error: BaseException) -> str:
    """Type and first line of an exception's message; our own messages speak for themselves."""
    line = (str(error).splitlines() or [""])[0]
    if isinstance(error, CurriculaError):
        return line
    if isinstance(error, MemoryError):
        line = f"{line} (beyond rollout.verifier.memory_limit_mb)".lstrip()
    elif _is_short_of_memory():  # libraries turn a MemoryError into errors of their own
        line = f"{line} (the process is close to rollout.verifier.memory_limit_mb)"
    return f"{type(error).__name__}: {line}"[:_LONGEST_DETAIL]


def _is_short_of_memory() -> bool:
    """Is nine tenths of the address space that this process may have in use?"""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    statm = Path("/proc/self/statm")
    if limit == resource.RLIM_INFINITY or not statm.exists():
        return False
    return int(statm.read_text().split()[0]) * resource.getpagesize() > 0.9 * limit


def _claim_streams() -> tuple[IO[str], IO[str]]:
    """Private copies of the pipes; what the reward function sees as input is empty, and its output goes to the error stream."""
    requests = os.fdopen(os.dup(0), "r", encoding="utf-8", errors="surrogatepass", newline="\n")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.dup2(2, 1)
    return requests, replies


def _silence() -> None:
    """From now on the reward function speaks through its return value and its exceptions only."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _limit(memory_mb: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere the kernel takes no address space limit
        resource.setrlimit(resource.RLIMIT_AS, (memory_mb * 2**20,) * 2)


def _die_with_parent() -> None:
    """A driver that is killed takes its verifiers with it, even those that hang."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _reply(replies: IO[str], message: dict[str, Any]) -> None:
    replies.write(json.dumps(message) + "\n")
    replies.flush()


if __name__ == "__main__":
    main()
