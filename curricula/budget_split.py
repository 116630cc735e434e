"""Credit for thoughts that are scored at several token budgets: AnytimeReasoner's BRPO, arXiv 2505.13438.

Each completion of a group is cut at S budgets, A summary answers are asked for behind each cut, and scored. The tables here are
(G, S): the mean score of completion g at budget s; one that ends before a budget keeps its score for all that follow. The
advantages belong to the thinking tokens of segment s, between cut s - 1 and cut s; the summaries have `summary_advantages`. The
shaping policy ``budget_split`` makes them for one group of an `Outcome` at a time; a host loop may as well call them itself.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from curricula.types import CurriculaError, Floats, Ints

ROUNDING = 1e-12  # of the largest score: what is left of equal scores; an optimiser that scales its steps would learn from it


def budget_probabilities(budget_S: Ints, kind: Literal["uniform", "linear", "base"] = "uniform") -> Floats:
    """(S,) how much each budget counts: alike, in proportion to its tokens, or the last alone.

    >>> budget_probabilities(np.array([2000, 4000, 6000, 8000]), "linear")
    array([0.1, 0.2, 0.3, 0.4])
    """
    if len(budget_S) == 0 or (np.diff(budget_S, prepend=0) <= 0).any():
        raise CurriculaError(f"budget split: expected rising budgets > 0, got {budget_S}")
    weight_S = {"uniform": np.ones(len(budget_S)), "linear": budget_S.astype(np.float64), "base": np.eye(len(budget_S))[-1]}[kind]
    return np.asarray(weight_S / weight_S.sum())


def budget_returns(score_GS: Floats, probability_S: Floats) -> Floats:
    """(G, S) expected score over the budgets from s on: the sum over u >= s of P_u x score at u."""
    _refuse_bad_table(score_GS, probability_S)
    return np.cumsum((score_GS * probability_S)[:, ::-1], axis=1)[:, ::-1]


def budget_advantages(score_GS: Floats, probability_S: Floats) -> Floats:
    """(G, S) the return less its baseline: (s x own + (S - s) x group) / S, s counted from 0.

    Own is the completion's earlier scores, later ones weighing more (2^u), times the probability that is left; group is the mean
    return of the group. So the baseline leans on the group first, and on what the completion has shown already later.
    Equal rows of equal scores give exactly 0.
    """
    return_GS = budget_returns(score_GS, probability_S)
    n = len(probability_S)
    weight_S = np.exp2(np.arange(n) - n)  # only ratios matter; small ones do not overflow
    before_GS, before_S = (np.cumsum(x, axis=-1) - x for x in (score_GS * weight_S, weight_S))
    left_S = np.cumsum(probability_S[::-1])[::-1]
    own_GS = before_GS / np.where(before_S > 0, before_S, 1.0) * left_S
    s = np.arange(n)
    return _without_rounding(return_GS - (s * own_GS + (n - s) * return_GS.mean(0)) / n, score_GS)


def summary_advantages(score_GSA: Floats) -> Floats:
    """(G, S, A) score of each summary less the mean over the summaries behind the same cut."""
    return _without_rounding(score_GSA - score_GSA.mean(-1, keepdims=True), score_GSA)


def _without_rounding(advantage: Floats, score: Floats) -> Floats:
    return np.where(np.abs(advantage) <= ROUNDING * np.abs(score).max(initial=0.0), 0.0, advantage)


def _refuse_bad_table(score_GS: Floats, probability_S: Floats) -> None:
    if score_GS.ndim != 2 or score_GS.shape[1] != len(probability_S) or len(score_GS) == 0 or not np.isfinite(score_GS).all():
        raise CurriculaError(
            f"budget split: expected finite scores of shape (completions, {len(probability_S)} budgets), got shape {score_GS.shape}"
        )
