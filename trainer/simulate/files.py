"""The numbers of a simulation as JSON: everything that its tables and pictures show, and what they were made with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from trainer.simulate import NOTE
from trainer.simulate.compare import Comparison, Recipes, Row
from trainer.simulate.sweep import Regime


def write_comparison(path: Path, recipes: Recipes, comparison: Comparison) -> None:
    """One setting, curves included."""
    _write(path, {"note": NOTE, "recipes": dict(recipes), **_comparison(comparison, curves=True)})


def write_map(path: Path, recipes: Recipes, regimes: Sequence[Regime]) -> None:
    """All settings of a sweep, without curves."""
    entries = [{"regime": dict(regime.values), **_comparison(regime.comparison, curves=False)} for regime in regimes]
    _write(path, {"note": NOTE, "recipes": dict(recipes), "regimes": entries})


def _comparison(comparison: Comparison, curves: bool) -> dict[str, Any]:
    return {
        "setting": dataclasses.asdict(comparison.setting),
        "budget_rollouts": comparison.setting.budget,
        "visits": comparison.setting.visits,
        "seeds": comparison.seeds,
        "rows": [_row(row, curves) for row in comparison.rows],
    }


def _row(row: Row, curves: bool) -> dict[str, Any]:
    whole = {
        "recipe": row.name,
        "final_pass_rate": row.final,
        "difference_to_uniform": row.difference._asdict(),
        "verdict": row.difference.word,
        "area_under_curve": row.area,
        "area_difference_to_uniform": row.area_difference._asdict(),
        "live_group_share": float(row.live_share_S.mean()),
        "updates": float(row.updates_S.mean()),
        "rollouts_to_uniform_final": row.reach,
        "seeds_that_did_not_reach_it": row.censored,
        "final_pass_rate_by_seed": row.curve_ST[:, -1].tolist(),
    }
    return whole | ({"curve_mean": row.curve_ST.mean(axis=0).tolist()} if curves else {})


def _write(path: Path, data: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, default=_plain) + "\n", encoding="utf-8")


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)
