"""Pools that grow while training: how what was learned moves to a pool with more prompts.

The axis suffix of a state's field says how it is carried: ``_N`` prompt by prompt id, ``_K`` distribution by name, anything else as
it is. A policy whose arrays follow another order has a method ``carry(state, old, new)`` of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from curricula.types import CurriculaError, Floats, Ints, PromptPool


def carried_state(policy: Any, state: Any, old: PromptPool, new: PromptPool) -> Any:
    """The state of a policy for the new pool: the old values where there were any, fresh ones for what was added."""
    if hasattr(policy, "carry"):
        return policy.carry(state, old, new)
    return carried_fields(state, policy.init(new), old, new)


def carried_fields(state: Any, fresh: Any, old: PromptPool, new: PromptPool) -> Any:
    """Field by field, by axis suffix; states inside states too."""
    if not isinstance(state, tuple):
        return state
    names = getattr(state, "_fields", range(len(state)))
    values = [_carried(str(name), value, blank, old, new) for name, value, blank in zip(names, state, fresh, strict=True)]
    return type(state)(*values) if hasattr(state, "_fields") else tuple(values)


def _carried(name: str, value: Any, fresh: Any, old: PromptPool, new: PromptPool) -> Any:
    if isinstance(value, tuple):
        return carried_fields(value, fresh, old, new)
    axis = name.rpartition("_")[2]
    if axis.startswith("N"):
        fresh[row_in(old, new)] = value
        return fresh
    if axis.startswith("K"):
        fresh[distribution_in(old, new)] = value
        return fresh
    return value


def row_in(old: PromptPool, new: PromptPool) -> Ints:
    """(N_old,) the row of every old prompt in the new pool. Errors: CurriculaError when one is gone or changed its distribution."""
    order = np.argsort(new.ids)
    place = np.minimum(np.searchsorted(new.ids[order], old.ids), len(new) - 1)
    row = order[place]
    gone = new.ids[row] != old.ids
    if gone.any():
        raise CurriculaError(
            f"growing pool: {int(gone.sum())} prompt(s) of the old pool are not in the new one, first: {old.ids[gone][0]}; "
            "a pool may only grow: keep the rows, and choose among them by a selector"
        )
    moved = distribution_in(old, new)[old.distribution_N] != new.distribution_N[row]
    if moved.any():
        raise CurriculaError(f"growing pool: prompt {old.ids[moved][0]} changed its distribution; give it a new id")
    found: Ints = row.astype(np.int64)
    return found


def distribution_in(old: PromptPool, new: PromptPool) -> Ints:
    """(K_old,) the index of every old distribution in the new pool. Errors: CurriculaError when one is gone."""
    place = {name: k for k, name in enumerate(new.distribution_names)}
    missing = [name for name in old.distribution_names if name not in place]
    if missing:
        raise CurriculaError(f"growing pool: distribution {missing[0]!r} of the old pool is not in the new one")
    return np.array([place[name] for name in old.distribution_names], dtype=np.int64)


def children(pool: PromptPool, ids: list[str], parent_ids: list[str], belief_mean_N: Floats, easier_by: float = 0.0) -> PromptPool:
    """The pool with one new prompt per entry, in the parent's distribution; its prior is the parent's believed pass rate.

    ``easier_by`` moves the prior towards 1, see `inherited`. LADDER (arXiv 2503.00735) adds easier variants, EGSR (arXiv
    2505.08364) hinted ones. ``parent_N`` of the pool keeps the lineage; the texts are the host's.

    Errors: CurriculaError for a parent that the pool lacks, or an id that it has.
    """
    return with_children(pool, ids, parent_ids, inherited(belief_mean_N[rows_of(pool, parent_ids)], easier_by))


def inherited(believed: Floats, easier_by: float) -> Floats:
    """The children's prior pass rates, p + easier_by x (1 - p) of what is believed of their parents.

    >>> inherited(np.array([0.0, 0.5]), 0.5)
    array([0.5 , 0.75])
    """
    return np.clip(believed + easier_by * (1.0 - believed), 0.0, 1.0)


def with_children(pool: PromptPool, ids: list[str], parent_ids: list[str], prior: Floats) -> PromptPool:
    """The pool with these prompts behind its own, each in its parent's distribution, with this prior pass rate.

    Errors: as `children`.
    """
    if len(ids) != len(parent_ids):
        raise CurriculaError(f"children: expected one parent for each of {len(ids)} ids, got {len(parent_ids)}")
    parent = rows_of(pool, parent_ids)
    features = None if pool.features_NF is None else np.concatenate([pool.features_NF, pool.features_NF[parent]])
    return PromptPool(
        ids=np.concatenate([pool.ids, np.asarray(ids, dtype=np.str_)]),
        distribution_N=np.concatenate([pool.distribution_N, pool.distribution_N[parent]]),
        distribution_names=pool.distribution_names,
        prior_pass_rate_N=np.concatenate([pool.prior_pass_rate_N, prior]),
        features_NF=features,
        parent_N=np.concatenate([pool.parent_N, parent]),
    )


def rows_of(pool: PromptPool, parent_ids: list[str]) -> Ints:
    """The rows of parents. Errors: CurriculaError naming the first that the pool lacks."""
    place = {str(name): row for row, name in enumerate(pool.ids)}
    unknown = [name for name in parent_ids if name not in place]
    if unknown:
        raise CurriculaError(f"children: the pool has no prompt {unknown[0]!r} to be a parent")
    return np.array([place[name] for name in parent_ids], dtype=np.int64)
