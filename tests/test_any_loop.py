"""The page on other people's loops runs as it stands, and so does the loop that is written by hand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "any_loop.md"


def run(program: list[str], folder: Path) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *program], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)


def test_data_set_and_ten_lines_as_they_stand(tmp_path: Path) -> None:
    data, loop, _ = blocks()
    says = re.search(r"print\(.*\)  # (.*)", data)
    assert says is not None
    (tmp_path / "page.py").write_text(data + loop + "print(int(curriculum.metrics()['n_seen_prompts']) > 8)\n")
    assert run(["page.py"], tmp_path).splitlines() == [says[1], "True"]
    assert (tmp_path / "curriculum.npz").is_file()


@pytest.mark.ray
def test_the_shared_curriculum_as_it_stands(tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text("".join(blocks()))
    assert run(["page.py"], tmp_path).splitlines()[-1] == "40 0"
    assert (tmp_path / "curriculum" / "served.json").is_file()


@pytest.mark.parametrize("recipe", ["dump_ucb", "combined"])
def test_grpo_by_hand_shortened(tmp_path: Path, recipe: str) -> None:
    said = run([str(ROOT / "examples" / "grpo_by_hand.py"), "--steps", "6", "--recipe", recipe], tmp_path)
    assert "the next plan is the same" in said
    rows = re.findall(r"^(\w+) +(\d+) rollouts +right before +(\d+)% +after +(\d+)%$", said, flags=re.MULTILINE)
    assert [kind for kind, *_ in rows] == ["copy", "next", "reverse", "sum"]
    assert 6 * 256 <= sum(int(n) for _, n, *_ in rows) <= 6 * 1024


def test_the_hand_written_loop_takes_nothing_of_ours_but_curricula() -> None:
    text = (ROOT / "examples" / "grpo_by_hand.py").read_text()
    assert not re.search(r"(from|import) (rollout|replay|trainer)\b", text)
    assert 10 <= text.count("# <- curriculum") <= 16
