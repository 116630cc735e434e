"""The numbers of a twin as JSON: what its tables and pictures show, and what they rest on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from trainer.twin import NOTE
from trainer.twin.counts import Counts
from trainer.twin.fit import Twin
from trainer.twin.forward import Recipes, RollForward, Row, range_of
from trainer.twin.holdout import FORECASTS, HoldOut


def write_twin(
    path: Path,
    label: str,
    counts: Counts,
    found: HoldOut,
    fitted: Twin | None = None,
    result: RollForward | None = None,
    recipes: Recipes | None = None,
) -> Path:
    """One file; where the twin was not run forward, ``fit`` and ``roll_forward`` are null."""
    data = {
        "label": label,
        "note": NOTE,
        "caveats": list(counts.caveats),
        "log": {"source": counts.source, "steps": counts.n_steps, "groups": len(counts), "rollouts": int(counts.n_G.sum())},
        "hold_out": _holdout(found),
        "fit": None if fitted is None else _fit(fitted),
        "roll_forward": None if result is None else {"label": label, "recipes": dict(recipes or {}), **_forward(result)},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data, indent=1, default=_plain) + "\n", encoding="utf-8")
    return path


def _holdout(found: HoldOut) -> dict[str, Any]:
    return {
        "passed": found.passed,
        "complaints": list(found.complaints),
        "first_step": found.first_step,
        "distributions": list(found.names_K),
        "window_edges": found.edge_W1,
        "rollouts": found.n_WK,
        "pass_rate_came": _no_nan(found.seen_WK),
        "pass_rate_forecast": {name: _no_nan(found.forecast_FWK[i]) for i, name in enumerate(FORECASTS)},
        "pass_rate_twin_90": {"low": _no_nan(found.low_WK), "high": _no_nan(found.high_WK)},
        "share_of_cells_in_90": found.inside,
        "live_share_came": found.live_W,
        "live_share_twin": {"mean": found.live_twin_W, "low": found.live_low_W, "high": found.live_high_W},
        "log_loss_nats_per_rollout": dict(zip(FORECASTS, found.loss_F.tolist(), strict=True)),
        "log_loss_floor": found.floor,
        "rate_95": found.rate,
    }


def _fit(twin: Twin) -> dict[str, Any]:
    numbers = {"rate": "rate_D", "spread": "spread_D", "ability_before": "ability_DK", "ability_after": "end_DK"}
    found = {key: dict(zip(("median", "low", "high"), twin.range(name), strict=True)) for key, name in numbers.items()}
    reach, n = np.unique(twin.reach_D, return_counts=True)
    reaches = {f"{place:g}": int(count) for place, count in zip(reach, n, strict=True)}
    return {"draws": len(twin), **found, "draws_by_reach": reaches, "dispersion": twin.dispersion}


def _forward(result: RollForward) -> dict[str, Any]:
    setting = result.setting
    return {
        "from": result.start,
        "draws": result.n_draws,
        "seeds": result.n_seeds,
        "steps": setting.steps,
        "groups_per_step": setting.groups,
        "rollouts_per_group": setting.rollouts,
        "max_attempts": setting.max_attempts,
        "distributions": list(result.names_K),
        "simulated_pass_rate_before": range_of(result.begin_S)._asdict(),
        "rows": [_row(row) for row in result.rows],
    }


def _row(row: Row) -> dict[str, Any]:
    low, median, high = np.quantile(row.end_SK, [0.05, 0.5, 0.95], axis=0)
    return {
        "recipe": row.name,
        "simulated_pass_rate": range_of(row.end_S)._asdict(),
        "simulated_pass_rate_by_distribution": {"median": median, "low": low, "high": high},
        "minus_uniform": range_of(row.difference_S)._asdict(),
        "live_group_share": range_of(row.live_S)._asdict(),
        "rollouts": range_of(row.rollouts_S.astype(np.float64))._asdict(),
        "simulated_pass_rate_each": row.end_S,
        "curve_median": np.median(row.curve_SP, axis=0),
    }


def _no_nan(value: np.ndarray) -> list[Any]:
    """NaN (a cell without rollouts) as null."""
    return [[None if np.isnan(cell) else float(cell) for cell in line] for line in value]


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else repr(value)
