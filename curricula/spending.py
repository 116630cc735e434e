"""The exact way to spend rollouts where they are worth most.

A sum of functions with falling marginals is maximised by taking the largest marginals first (Fox 1966): `spend` where a table of
them is small, `spend_many` where it is not. Where marginals rise, dynamic programming is exact and `climb` is what a greedy does.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from curricula.marginals import Walk, table
from curricula.types import CurriculaError, Estimate, Floats, Ints

Marginals = Callable[[int], Floats]  # n_columns -> (B, n_columns), column c: worth of rollout first + c + 1; falls along a row

MANY = 4096  # rows from which on a table of marginals costs more than a search for the price
CHUNK = 16384  # rows walked together: their arrays fit in the cache
SAMPLE = 4096  # rows that tell about where the price lies
SIGMAS = 4.0  # half the width of the first bracket around the price
DEAREST = 2 * 10**8  # additions of a dynamic program: about a second


def spend(marginals: Marginals, n_units: int, n_columns: int) -> Ints:
    """(B,) units per row that maximise the summed marginals, at most ``n_columns`` each.

    Few columns are tried first: where no row takes all of them, none would take a later, smaller one either.
    """
    width = min(n_columns, 16)
    while True:
        taken_B = take_largest(marginals(width), n_units)
        if width == n_columns or taken_B.max(initial=0) < width:
            return taken_B
        width = min(n_columns, 2 * width)


def take_largest(marginal_BC: Floats, n_units: int) -> Ints:
    """(B,) how many of each row's marginals are among the ``n_units`` largest; ties to lower columns, then to upper rows."""
    n_rows, n_columns = marginal_BC.shape
    if n_units >= marginal_BC.size:
        return np.full(n_rows, n_columns, dtype=np.int64)
    if n_units <= 0:
        return np.zeros(n_rows, dtype=np.int64)
    place = marginal_BC.size - n_units
    least = np.partition(marginal_BC, place, axis=None)[place]
    taken_B: Ints = np.count_nonzero(marginal_BC > least, axis=1)
    tied_rows = np.nonzero(least == marginal_BC.T)[1]
    taken_B += np.bincount(tied_rows[: n_units - taken_B.sum()], minlength=n_rows)
    return taken_B


def spend_within(marginal_BC: Floats, n_units: int, cost_B: Floats, limit: float) -> Ints:
    """(B,) units per row that maximise the summed marginals, at most ``n_units``, of cost at most ``limit`` together.

    Two limits have two prices, so a unit of row i has the price (1 - m) x mean cost + m x cost_i with m in [0, 1], and the units
    with the most worth per price are taken: exact but for the last units, of which some no longer fit. Marginals must fall.
    """
    free_B = take_largest(marginal_BC, n_units)
    if float(free_B @ cost_B) <= limit:
        return free_B
    best_B = _affordable(marginal_BC / cost_B[:, None], n_units, cost_B, limit)
    if best_B.sum() < n_units:
        return best_B
    low, high = 0.0, 1.0
    for _ in range(30):
        m = 0.5 * (low + high)
        taken_B = take_largest(marginal_BC / ((1 - m) * cost_B.mean() + m * cost_B)[:, None], n_units)
        if float(taken_B @ cost_B) <= limit:
            high, best_B = m, taken_B
        else:
            low = m
    return best_B


def _affordable(worth_BC: Floats, n_units: int, cost_B: Floats, limit: float) -> Ints:
    """(B,) at most ``n_units`` of most worth per cost, in that order, leaving out those that no longer fit."""
    order = np.argsort(-worth_BC.T.ravel(), kind="stable")  # ties to lower columns, then to upper rows
    rows, left = order % len(cost_B), limit * (1 + 1e-12)
    taken_B = np.zeros(len(cost_B), dtype=np.int64)
    while len(rows) and n_units > 0:  # as often as there are different costs: what does not fit once never will
        total = np.cumsum(cost_B[rows])
        n_fit = min(int(np.searchsorted(total, left, side="right")), n_units)
        n_units -= n_fit
        taken_B += np.bincount(rows[:n_fit], minlength=len(cost_B))
        left -= float(total[n_fit - 1]) if n_fit else 0.0
        rows = rows[n_fit:]
        rows = rows[cost_B[rows] <= left]
    return taken_B


# --- many rows --------------------------------------------------------------------------------------------------------------------


def spend_many(walk: Callable[[slice], Walk], n_rows: int, n_units: int, first: int, n_columns: int) -> Ints:
    """(B,) what `take_largest` says of columns first, ..., first + n_columns - 1 of a walk, without the table.

    A sample of the rows says within which bracket the price lies: the least marginal that is taken. Every row is then walked
    until its marginals fall below the bracket; marginals above it are counted, those inside it are kept and ranked. A bracket
    that misses the price is widened. Needs marginals that never rise along a row.
    """
    if n_units >= n_rows * n_columns:
        return np.full(n_rows, n_columns, dtype=np.int64)
    if n_units <= 0:
        return np.zeros(n_rows, dtype=np.int64)
    sample = slice(0, n_rows, max(1, n_rows // SAMPLE))
    width = min(n_columns, 16)
    sigmas, tiny = SIGMAS, float(np.nextafter(0.0, 1.0))  # a marginal of 0 is never inside: see _share_out
    while True:
        sampled = table(walk(sample), first + width)[:, first:]
        low, high = _bracket(sampled, n_units / n_rows, sigmas)
        if width < n_columns and sampled[:, -1].max() >= low:
            width = min(n_columns, 2 * width)
            continue
        low = max(low, tiny)
        taken_B, worth, rows = _count(walk, n_rows, (first, n_columns), (low, high))
        n_short = n_units - int(taken_B.sum())  # of the marginals from low up
        if n_short >= 0 and low == tiny:
            return _share_out(taken_B, n_short, n_columns)
        if -len(worth) <= n_short <= 0:
            taken_B -= np.bincount(rows[_least(worth, -n_short)], minlength=n_rows)
            return taken_B
        sigmas *= 4


def _bracket(sampled: Floats, units_per_row: float, sigmas: float) -> tuple[float, float]:
    """A lower and an upper bound of the price, from a table of some rows; (0, inf) when all units or none are within the error."""
    m, n = len(sampled), sampled.size
    worth = np.sort(sampled, axis=None)
    n_units = units_per_row * m
    price = worth[min(max(n - round(n_units), 0), n - 1)]
    slack = sigmas * (1 + np.sqrt(m) * float(np.count_nonzero(sampled >= price, axis=1).std()))
    low, high = n - int(np.ceil(n_units + slack)), n - int(np.floor(n_units - slack))
    return (float(worth[low]) if low > 0 else 0.0), (float(worth[max(high, 0)]) if high < n else np.inf)


def _count(
    walk: Callable[[slice], Walk], n_rows: int, columns: tuple[int, int], bracket: tuple[float, float]
) -> tuple[Ints, Floats, Ints]:
    """(B,) marginals from the bracket's low end up; and worth and row of those inside it, by column, then by row."""
    taken_B = np.zeros(n_rows, dtype=np.int64)
    inside: list[list[tuple[Floats, Ints]]] = [[] for _ in range(columns[1])]
    for start in range(0, n_rows, CHUNK):
        part = slice(start, min(start + CHUNK, n_rows))
        _walk_down(walk(part), taken_B[part], start, (columns[0], bracket), inside)
    found = list(chain.from_iterable(inside))
    if not found:
        return taken_B, np.empty(0), np.empty(0, dtype=np.int64)
    return taken_B, np.concatenate([worth for worth, _ in found]), np.concatenate([rows for _, rows in found])


def _walk_down(
    walk: Walk,
    taken: Ints,
    start: int,
    bounds: tuple[int, tuple[float, float]],
    inside: list[list[tuple[Floats, Ints]]],
) -> None:
    """Count into ``taken`` and collect into ``inside``; rows that fell below the bracket are dropped now and then."""
    first, (low, high) = bounds
    for _ in range(first):
        walk.column()
    rows = np.arange(len(taken))
    n_before = 0  # columns that every remaining row has above the low end, at the last drop
    n_since = np.zeros(len(rows), dtype=np.int16)
    for column_inside in inside:
        worth = walk.column()
        stays = worth >= low
        n_since += stays
        among = np.flatnonzero(stays & (worth <= high))
        if len(among):
            column_inside.append((worth[among], start + rows[among]))
        n_staying = np.count_nonzero(stays)
        if n_staying < 0.8 * len(rows):
            taken[rows] = n_before + n_since
            staying = np.flatnonzero(stays)
            rows, n_before = rows[staying], n_before + int(n_since.max(initial=0))
            n_since = np.zeros(len(rows), dtype=np.int16)
            walk.keep(staying)
        if not n_staying:
            return
    taken[rows] = n_before + n_since


def _least(worth: Floats, n_least: int) -> Ints:
    """Places of the ``n_least`` smallest; of equals, the later ones."""
    if n_least == 0:
        return np.empty(0, dtype=np.int64)
    last = np.partition(worth, n_least - 1)[n_least - 1]
    below, tied = np.flatnonzero(worth < last), np.flatnonzero(worth == last)
    return np.concatenate([below, tied[len(tied) - (n_least - len(below)) :]])


def _share_out(taken_B: Ints, n_units: int, n_columns: int) -> Ints:
    """Units that are worth nothing to anybody, by column, then by row: every row is filled to the same level."""
    n_at_C = np.cumsum(np.bincount(taken_B, minlength=n_columns + 1)[:n_columns])  # rows whose marginal in this column is 0
    level = int(np.searchsorted(np.cumsum(n_at_C), n_units, side="right"))
    filled_B = np.maximum(taken_B, level)
    n_left = n_units - int((filled_B - taken_B).sum())
    filled_B[np.flatnonzero(taken_B <= level)[:n_left]] += 1
    return filled_B


# --- marginals that rise ----------------------------------------------------------------------------------------------------------


def falls(marginal_BC: Floats) -> bool:
    """Does no row rise? A rise within rounding does not count."""
    rise = np.diff(marginal_BC, axis=1)
    return bool((rise <= 1e-12 * np.abs(marginal_BC[:, :-1])).all())


def climb(marginal_BC: Floats, n_units: int) -> Ints:
    """(B,) what a greedy takes that looks one unit ahead, exact or not.

    Once it took a unit it goes on along the row while that is worth more, so a unit is reached at the least worth before it.
    """
    return take_largest(np.minimum.accumulate(marginal_BC, axis=1), n_units)


def program(marginal_BC: Floats, n_units: int) -> Ints:
    """(B,) the best way to spend all units, whatever the marginals do, by dynamic programming over rows and units.

    Errors: CurriculaError where it would take more than about a second.
    """
    n_rows, n_columns = marginal_BC.shape
    n_units = min(n_units, n_rows * n_columns)
    n_additions = n_rows * (n_columns + 1) * (n_units + 1)
    if n_additions > DEAREST:
        raise CurriculaError(
            f"the marginals of this utility rise, and an exact plan of {n_units} further rollouts for {n_rows} prompts, at most "
            f"{n_columns} each, takes {n_additions:.1e} additions (limit {DEAREST:.0e}); lower max_n, plan fewer groups, "
            "or take solver 'greedy'"
        )
    best = np.full(n_units + 1, -np.inf)
    best[0] = 0.0
    choice = np.zeros((n_rows, n_units + 1), dtype=np.int32)
    for row, marginal in enumerate(marginal_BC):
        before, best = best, best.copy()
        for k, worth in enumerate(np.cumsum(marginal)[:n_units], start=1):
            reached = before[:-k] + worth
            better = reached > best[k:]
            best[k:][better] = reached[better]
            choice[row, k:][better] = k
    taken_B = np.zeros(n_rows, dtype=np.int64)
    for row in range(n_rows - 1, -1, -1):
        taken_B[row] = choice[row, n_units]
        n_units -= int(taken_B[row])
    return taken_B


def by_id(id_B: NDArray[np.str_], estimate: Estimate, shares: Callable[[Estimate], Ints]) -> Ints:
    """(B,) rollouts as ``shares`` deals them to prompts in the order of their ids, so that ties do not hang on rows."""
    order = np.argsort(id_B)
    n_B = np.zeros(len(id_B), dtype=np.int64)
    n_B[order] = shares(Estimate(estimate.alpha_B[order], estimate.beta_B[order]))
    return n_B
