"""What a prompt pool refuses, and in which words."""

from __future__ import annotations

import numpy as np
import pytest

from curricula import PromptPool
from curricula.types import CurriculaError


def test_duplicate_ids_are_listed() -> None:
    with pytest.raises(
        CurriculaError, match=r"2 prompt id\(s\) appear more than once, first: a, b; give every prompt an id of its own"
    ):
        PromptPool.from_columns(["a", "b", "a", "b", "c"], ["x"] * 5)


def test_a_distribution_without_prompts_is_named() -> None:
    with pytest.raises(CurriculaError, match=r"distribution\(s\) without a prompt: hard; drop them"):
        PromptPool(ids=np.array(["a", "b"]), distribution_N=np.array([0, 0]), distribution_names=("easy", "hard"))


def test_no_prompts_at_all() -> None:
    with pytest.raises(CurriculaError, match="it has no prompts"):
        PromptPool.from_columns([], [])


def test_a_prior_outside_zero_and_one_names_its_row() -> None:
    with pytest.raises(CurriculaError, match=r"row 1 \(b\) has prior pass rate 1\.5, expected \[0, 1\] or NaN"):
        PromptPool.from_columns(["a", "b"], ["x", "x"], prior_pass_rate=[0.5, 1.5])


@pytest.mark.parametrize("parent", [[1, -2], [2, -1], [0, -1]])
def test_a_parent_is_another_row_of_the_pool(parent: list[int]) -> None:
    with pytest.raises(CurriculaError, match=r"has parent -?\d, expected another row of the pool or -1"):
        PromptPool(np.array(["a", "b"]), np.zeros(2, int), ("x",), parent_N=np.array(parent))
