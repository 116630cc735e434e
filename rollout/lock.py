"""One writer per folder: a lock that goes when its process goes, and a file that says who holds it."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
from pathlib import Path
from typing import Any

from curricula.types import CurriculaError
from rollout.journal import refuse_special

_UNSUPPORTED = {errno.ENOTSUP, errno.ENOSYS, errno.ENOLCK}  # some network file systems have no locks


class FolderLock:
    """Held until `release` or the end of the process, whichever way it ends.

    The kernel's lock decides; pid and host in the file are for the message, and decide alone where the file system has no
    locks: there a dead pid on this host is stale, and a writer on another host has to be removed by hand.

    Errors: CurriculaError naming pid and host of the other writer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        refuse_special(path)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            self._take()
        except BaseException:
            os.close(self._fd)
            raise

    def release(self) -> None:
        os.ftruncate(self._fd, 0)
        os.close(self._fd)

    def _take(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in _UNSUPPORTED or not _is_stale(_holder_in(self._fd)):
                raise self._refusal() from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode(), 0)

    def _refusal(self) -> CurriculaError:
        holder = _holder_in(self._fd)
        return CurriculaError(
            f"{self.path.parent}: process {holder.get('pid', '?')} on host {holder.get('host', '?')} is writing this run; wait for "
            f"it or stop it, or give this run a folder of its own (if that process is gone for certain, delete {self.path.name})"
        )


def is_held(path: Path) -> bool:
    """Whether a process holds the lock now; changes nothing, and answers from pid and host where the file system has no locks."""
    if not path.is_file():
        return False
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            return True
        return not _is_stale(_holder_in(fd))
    finally:
        os.close(fd)
    return False


def _holder_in(fd: int) -> dict[str, Any]:
    try:
        holder = json.loads(os.pread(fd, 4096, 0) or b"{}")
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_stale(holder: dict[str, Any]) -> bool:
    if not holder:
        return True
    if holder.get("host") != socket.gethostname() or not isinstance(holder.get("pid"), int):
        return False
    try:
        os.kill(holder["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
