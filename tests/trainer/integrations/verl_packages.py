"""Where the releases of verl lie that the tests run, and what happens to a test where they do not."""

from __future__ import annotations

import os
from pathlib import Path

from tests.absent import absent

CACHE = Path(__file__).parents[3] / ".cache"


def environment(*folders: str) -> str:
    """The PYTHONPATH that shows these folders of .cache; skips the test where one is missing, and fails it in CI."""
    missing = [folder for folder in folders if not (CACHE / folder / "installed.txt").exists()]
    if missing:
        absent(f"{', '.join(missing)} not in .cache: `make verl` downloads it")
    return os.pathsep.join(str(CACHE / folder) for folder in folders)
