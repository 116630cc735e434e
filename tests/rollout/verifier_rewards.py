"""Reward functions that misbehave, for the verifier's tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

import numpy as np


def by_completion(completion: str, answer: Any, extra: dict[str, Any]) -> Any:
    """Does what the completion says."""
    return ACTIONS[completion](answer, extra)


def loop(answer: Any, extra: dict[str, Any]) -> None:
    while True:
        pass


def hang_in_c(answer: Any, extra: dict[str, Any]) -> int:
    """One call into C that neither signals nor threads can interrupt."""
    return len(str(10**10**8)) if hasattr(sys, "never") else 10 ** (10**8) % 7


def hang_with_child(answer: Any, extra: dict[str, Any]) -> None:
    """A child that would outlive its parent; its id goes to the file named in extra."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with open(extra["pid_file"], "w") as file:
        file.write(f"{os.getpid()} {child.pid}")
    time.sleep(600)


def raise_error(answer: Any, extra: dict[str, Any]) -> None:
    raise KeyError("first line\nsecond line")


def write_everywhere(answer: Any, extra: dict[str, Any]) -> float:
    """Everything that could be mistaken for a verdict."""
    fake = '{"status": 0, "reward": 1.0, "detail": ""}\n'
    print(fake, flush=True)
    sys.stdout.write(fake)
    sys.stderr.write(fake)
    for fd in (1, 2):
        os.write(fd, fake.encode())
    subprocess.run(["echo", fake], check=True)
    return float(sys.stdin.read() == "") / 2


def exhaust_memory(answer: Any, extra: dict[str, Any]) -> float:
    blocks = []
    while True:
        blocks.append(bytearray(2**24))


def fork_and_exit(answer: Any, extra: dict[str, Any]) -> None:
    os._exit(3)


ACTIONS: dict[str, Any] = {
    "good": lambda answer, extra: 1.0,
    "answer": lambda answer, extra: answer,
    "numpy": lambda answer, extra: np.float32(0.5),
    "none": lambda answer, extra: None,
    "nan": lambda answer, extra: float("nan"),
    "inf": lambda answer, extra: float("-inf"),
    "text": lambda answer, extra: "1.0",
    "list": lambda answer, extra: [1.0],
    "huge": lambda answer, extra: 10**400,
    "loop": loop,
    "hang in C": hang_in_c,
    "hang with child": hang_with_child,
    "raise": raise_error,
    "quit": lambda answer, extra: sys.exit(0),
    "print": write_everywhere,
    "memory": exhaust_memory,
    "exit": fork_and_exit,
    "length": lambda answer, extra: float(len(answer) == extra["length"]),
    "pid": lambda answer, extra: os.getpid(),
}


def two_arguments(completion: str, answer: Any) -> float:
    return 0.0


not_a_function = 7
