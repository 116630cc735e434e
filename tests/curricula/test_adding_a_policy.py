"""The page on adding a policy, followed to the letter on a copy of the package: two new files, no edited one."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_two_files_of_the_page_are_enough(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "adding_a_policy.md").read_text()
    files = re.findall(r"`([\w/]+\.py)`:\n\n```python\n(.*?)```", page, flags=re.DOTALL)
    assert [name for name, _ in files] == ["curricula/distribution/restless.py", "tests/curricula/test_restless.py"]
    shutil.copytree(ROOT / "curricula", tmp_path / "curricula", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tests" / "curricula").mkdir(parents=True)
    for name, text in files:
        (tmp_path / name).write_text(text)
    shutil.copy(ROOT / "tests" / "curricula" / "test_conformance.py", tmp_path / "tests" / "curricula")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "restless", "tests"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    assert int(re.findall(r"(\d+) passed", done.stdout)[0]) > 20
