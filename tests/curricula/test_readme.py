"""What the README says of the policies."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from curricula import RECIPES
from curricula.registry import VERBS, names

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize("stage", VERBS)
def test_every_policy_stands_in_its_stages_row(stage: str) -> None:
    row = next(line for line in README.splitlines() if line.startswith(f"| {stage} |"))
    assert set(re.findall(r"`(\w+)`", row)) - {"token_share"} == set(names(stage))


def test_every_recipe_that_is_named_exists() -> None:
    named = re.search(r"\[\s*recipes\]\(curricula/recipes.py\) by name \(([^)]*)\)", README)
    assert named is not None
    assert set(re.findall(r"`(\w+)`", named[1])) <= set(RECIPES)
