"""Where the releases of verl lie that the tests run, and what happens to a test where they do not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CACHE = Path(__file__).parents[3] / ".cache"


def environment(*folders: str) -> str:
    """The PYTHONPATH that shows these folders of .cache; skips the test where one is missing, and fails it in CI."""
    missing = [folder for folder in folders if not (CACHE / folder / "installed.txt").exists()]
    if missing:
        reason = f"{', '.join(missing)} not in .cache: `make verl` downloads it"
        if os.environ.get("CI", "").lower() in ("1", "true"):
            pytest.fail(f"{reason}; CI must run the tests against it", pytrace=False)
        pytest.skip(reason)
    return os.pathsep.join(str(CACHE / folder) for folder in folders)
