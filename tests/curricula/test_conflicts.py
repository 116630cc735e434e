"""Combinations that work against each other are named when a curriculum is built."""

from __future__ import annotations

import warnings

import pytest

from curricula import RECIPES, Curriculum
from curricula.conflicts import ConflictWarning, Part, both, parts_of
from curricula.registry import build
from curricula.testing import small_pool


def test_no_shipped_recipe_warns() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConflictWarning)
        for recipe in RECIPES:
            Curriculum.from_recipe(recipe, small_pool())


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"selector": {"name": "greso", "inner": "straddle"}}, "'greso' together with 'straddle'"),
        ({"selector": {"name": "greso", "inner": "adarft"}}, "'greso' together with 'adarft'"),
        ({"selector": "greso", "belief": "rasch"}, "'greso' together with 'rasch'"),
        ({"downsampling": "d3s", "budget": "reinforce_ada"}, "undoes the balance"),
        ({"downsampling": "pods", "filter": "soft_weights"}, "'pods' together with 'soft_weights'"),
        ({"selector": {"name": "skip_solved", "inner": {"name": "nearest", "floor": 0.0}}}, "has floor 0 under 'skip_solved'"),
        ({"budget": {"name": "water_fill", "utility": "v0", "max_n": 128}}, "cap max_n"),
    ],
)
def test_each_known_conflict_is_named(recipe: dict[str, object], message: str) -> None:
    with pytest.warns(ConflictWarning, match=message):
        Curriculum.from_recipe(recipe, small_pool())


def test_policies_inside_policies_and_behind_pacings_are_seen() -> None:
    paced = build("selector", {"name": "nearest", "target": {"pacing": "linear", "first": 0.9, "last": 0.5, "steps": 10}})
    assert [part.name for part in parts_of("selector", paced)] == ["nearest"]
    assert both("a", "b", "why")([Part("selector", "a", None)]) is None
    assert both("a", "b", "why")([Part("selector", "a", None), Part("filter", "b", None)]) == "'a' together with 'b': why"
