"""A curriculum inside somebody else's training loop: what every such host needs, whatever it trains with.

A host makes the pool from its own rows (`pool_of`), says what it can do (`Host`), and for each of its batches walks through a
`HostedStep`: it rolls out every plan that it is given and tells what came of it (`outcome_of`). In the end it has a `HostedBatch`:
which rollout goes into which place of its batch, and with which advantage. State goes into its checkpoints (`save`, `load`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curricula.curriculum import Curriculum
from curricula.fold import join
from curricula.groups import counts
from curricula.recipes import Recipe
from curricula.refill import wanted_groups
from curricula.rows import id_from_text, prompt_content
from curricula.types import (
    Bools,
    CurriculaError,
    Feedback,
    Floats,
    Ints,
    Outcome,
    PromptPool,
    Reason,
    RolloutPlan,
    Status,
    Verdict,
)

STATE = "curriculum.npz"  # in a host's checkpoint folder
ROUNDING = 1e-6  # of the reward range: hosts keep rewards in float32
_HOST = "host."  # keys of the host's own facts in that file


# --- prompts ----------------------------------------------------------------------------------------------------------------------


def prompt_id(prompt: Any, distribution: str = "all") -> str:
    """The id that prompt files and imported logs give to the same text or chat messages in the same distribution.

    >>> prompt_id("2+2=") == prompt_id("2+2="), prompt_id("2+2=") == prompt_id([{"role": "user", "content": "2+2="}])
    (True, False)
    """
    try:
        json.dumps(prompt)  # what has no text has no id that stays
    except TypeError as error:
        raise CurriculaError(f"prompt id: a prompt is no text and no chat messages ({error}); name a column with an id") from None
    content = prompt_content(prompt)
    if content is None:
        raise CurriculaError(
            f"prompt id: expected a text or chat messages with role and content, got {str(prompt)[:80]!r}; name a column with an id"
        )
    return id_from_text(distribution, content)


def pool_of(prompts: Iterable[Any], ids: Sequence[Any] | None = None, distributions: Sequence[Any] | None = None) -> PromptPool:
    """The pool of a host's rows, row for row. Without ``ids`` they are made of the prompts, without ``distributions`` there is one.

    Errors: CurriculaError when two rows have the same id or, without ids, the same prompt.
    """
    rows = list(prompts)
    groups = ["all"] * len(rows if ids is None else ids) if distributions is None else [str(one) for one in distributions]
    names = [prompt_id(*row) for row in zip(rows, groups, strict=True)] if ids is None else [str(one) for one in ids]
    if ids is None and len(set(names)) < len(names):
        first: dict[str, int] = {}
        a, b = next((first[name], i) for i, name in enumerate(names) if first.setdefault(name, i) != i)
        raise CurriculaError(
            f"prompt ids: rows {a} and {b} of the data set have the same prompt, so their texts are no ids "
            f"({len(names) - len(set(names))} such rows); name a column with an id of its own for each row, or drop the repeats"
        )
    return PromptPool.from_columns(names, groups)


def curriculum_of(recipe: str | Recipe | Curriculum, pool: PromptPool, seed: int) -> Curriculum:
    """A curriculum over this pool; one that is given must be of this pool.

    Errors: CurriculaError for an unknown recipe, or a curriculum of other prompts.
    """
    if not isinstance(recipe, Curriculum):
        return Curriculum.from_recipe(recipe, pool, seed)
    if recipe.pool.fingerprint != pool.fingerprint:
        raise CurriculaError(
            f"curriculum: it was made for {len(recipe.pool)} prompts with fingerprint {recipe.pool.fingerprint}, the data set has "
            f"{len(pool)} with {pool.fingerprint}; give a recipe's name, or make its pool with `pool_of` from the same rows"
        )
    return recipe


def next_step(curriculum: Curriculum) -> int:
    """The first step that a curriculum has not learned from; 0 for a fresh one."""
    return int(curriculum.state_dict()["ledger.step"]) + 1


# --- what a host can do, and what came of a plan ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Host:
    """What a plan has to fit."""

    name: str
    group_size: int  # rollouts of a group, as the host is configured
    n_groups: int  # groups of a batch
    max_tokens: int  # the one limit of all completions
    one_size: str = ""  # why every group must have ``group_size`` rollouts; "" = sizes may differ
    one_plan: str = ""  # why a batch is rolled out at once, without refills and further rounds; "" = it may be more

    @property
    def n_rollouts(self) -> int:
        """Places of a batch."""
        return self.n_groups * self.group_size

    def refuse(self, plan: RolloutPlan) -> None:
        """CurriculaError naming what the plan asks for and this host cannot do."""
        if plan.greedy_B.any():
            self._cannot("greedy completions beside the rollouts (budget remax)", "it samples every completion alike")
        if (plan.max_turns_B > 1).any():
            self._cannot("several answers per rollout (shaping multi_attempt)", "a rollout is one completion")
        limit = plan.max_tokens_B[plan.max_tokens_B > 0].min(initial=self.max_tokens)
        if limit < self.max_tokens:
            self._cannot(f"completions of at most {limit} tokens", f"all completions have one limit, {self.max_tokens}")
        if self.one_size and (plan.n_rollouts_B != self.group_size).any():
            self._cannot(f"groups of {sorted(set(plan.n_rollouts_B.tolist()))} rollouts", self.one_size)
        if self.one_plan and (plan.attempt or plan.round):
            self._cannot("further rollouts in the same batch (a filter that refills, or a budget in rounds)", self.one_plan)

    def _cannot(self, what: str, why: str) -> None:
        raise CurriculaError(f"{self.name}: the recipe asks for {what}, but {why}; choose another policy for that stage")


def outcome_of(
    plan: RolloutPlan, reward_R: ArrayLike, n_tokens_R: ArrayLike, cut_R: ArrayLike, version: int, reward_range: tuple[float, float]
) -> Outcome:
    """What came back for a plan, its rollouts group by group.

    ``reward_R`` (R,): NaN or infinite where there is none, which is status INVALID. ``cut_R`` (R,): rollouts that the token limit
    ended and that the host does not train on, which is status TRUNCATED. ``version``: updates that the weights had seen.
    """
    reward_R = np.asarray(reward_R, dtype=np.float64)
    low, high = reward_range
    inside_R = np.clip(reward_R, low, high)
    reward_R = np.where(np.abs(reward_R - inside_R) <= ROUNDING * (high - low), inside_R, reward_R)
    status_R = np.where(np.isfinite(reward_R), Status.OK, Status.INVALID)
    status_R = np.where(np.asarray(cut_R, dtype=np.bool_), Status.TRUNCATED, status_R)
    return Outcome(
        plan=plan,
        group_R=np.repeat(np.arange(len(plan)), plan.n_rollouts_B),
        reward_R=np.where(status_R == Status.OK, reward_R, np.nan),
        status_R=status_R.astype(np.uint8),
        n_tokens_R=np.asarray(n_tokens_R),
        policy_version_R=np.full(len(status_R), version),
        reward_range=reward_range,
    )


@dataclass(frozen=True)
class Advantage:
    """How a host turns rewards into advantages: the reward minus its group's mean, over a standard deviation (ddof 1) + epsilon."""

    scale: Literal["group", "batch", "none"] = "group"  # whose standard deviation; "none" = 1
    epsilon: float = 1e-6

    def of(self, reward_R: Floats, group_R: Ints, peers_R: Bools, n_groups: int) -> Floats:
        """(R,) of the rollouts that are ``peers_R``; 0 for the others and for a peer without another. Equal rewards give exactly 0.

        >>> Advantage("none").of(np.array([1.0, 0.0, 0.5]), np.array([0, 0, 1]), np.ones(3, bool), 2)
        array([ 0.5, -0.5,  0. ])
        """
        reward, group = reward_R[peers_R], group_R[peers_R]
        low_B = np.full(n_groups, np.inf)
        np.minimum.at(low_B, group, reward)
        n_B = counts(group, n_groups)
        above = reward - low_B[group]  # of equal rewards exactly 0, whatever their mean rounds to
        centred = above - (np.bincount(group, above, n_groups) / np.maximum(n_B, 1))[group]
        std = np.ones(len(centred))
        if self.scale == "group":
            std = np.sqrt(np.bincount(group, centred**2, n_groups) / np.maximum(n_B - 1, 1))[group] + self.epsilon
        elif self.scale == "batch" and len(reward) > 1:
            std = np.full(len(centred), reward.std(ddof=1) + self.epsilon)
        advantage_R = np.zeros(len(reward_R))
        advantage_R[peers_R] = centred / std
        return advantage_R


# --- one batch --------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Attempt:
    outcome: Outcome
    verdict: Verdict
    shaped_R: Floats


class HostedStep:
    """The attempts of one batch: first plan, further rounds, refills, and the one update.

    >>> pool = pool_of(["2+2=", "3+4=", "9*9="])
    >>> step = HostedStep(Curriculum.from_recipe("uniform", pool), Host("demo", group_size=4, n_groups=2, max_tokens=64), step=0)
    >>> while (plan := step.next_plan()) is not None:
    ...     step.take(outcome_of(plan, [0.0, 1.0] * 4, [5] * 8, [False] * 8, version=0, reward_range=(0, 1)))
    >>> step.finish(Advantage()).advantages(Advantage("none")).tolist()
    [-0.5, 0.5, -0.5, 0.5, -0.5, 0.5, -0.5, 0.5]
    """

    def __init__(self, curriculum: Curriculum, host: Host, step: int, max_attempts: int = 4) -> None:
        self._curriculum = curriculum
        self._host = host
        self._step = step
        self._max_attempts = max_attempts
        self._open: Outcome | None = None  # of the attempt that may get a further round
        self._closed: list[_Attempt] = []

    def next_plan(self) -> RolloutPlan | None:
        """What to roll out now; None when the batch has what it needs, or nothing more can be had.

        Errors: CurriculaError when the host cannot do what the plan asks for, or there is no prompt to plan.
        """
        plan = self._further_round() or self._next_attempt()
        if plan is not None:
            self._host.refuse(plan)
        return plan

    def take(self, came: Outcome) -> None:
        """What came of the plan that `next_plan` gave last."""
        self._open = came if self._open is None else _both(self._open, came)

    def finish(self, rule: Advantage) -> HostedBatch:
        """Settle the batch and let the curriculum learn from it, from raw rewards and from rejected groups too."""
        attempts = _admitted(self._closed, self._host.n_groups, self._host.n_rollouts)
        feedbacks = tuple(Feedback(one.outcome, one.verdict, _whole_group(rule, one.outcome)) for one in attempts)
        self._curriculum.update(feedbacks)
        return HostedBatch(feedbacks, tuple(one.shaped_R for one in attempts))

    def _further_round(self) -> RolloutPlan | None:
        if self._open is None:
            return None
        more = self._curriculum.extend(self._open)
        if more is None:
            verdict, shaped_R = self._curriculum.judge(self._open), self._curriculum.shape(self._open)
            self._closed.append(_Attempt(self._open, verdict, shaped_R))
            self._open = None
        return more

    def _next_attempt(self) -> RolloutPlan | None:
        n_attempts, n_groups = len(self._closed), self._host.n_groups
        if n_attempts:
            n_groups = wanted_groups([one.verdict for one in self._closed], n_groups)
        if n_groups == 0 or n_attempts == self._max_attempts:
            return None
        taken = np.concatenate([np.empty(0, np.int64), *(one.outcome.plan.selection.prompt_B for one in self._closed)])
        n_rollouts = n_groups * self._host.group_size
        plan = self._curriculum.plan(self._step, n_groups, n_rollouts, n_attempts, exclude=taken)
        if plan.n_carried:  # what earlier batches left has no place in this one
            plan = self._curriculum.plan_for(plan.selection, self._step, n_rollouts, n_attempts)
        if not n_attempts and not plan.n_rollouts:
            raise CurriculaError(
                f"step {self._step}: the curriculum planned no rollout at all; the pool or the budget is too small"
            )
        return replace(plan, stated_tokens_B=np.zeros(len(plan), np.int64)) if plan.n_rollouts else None  # nobody states budgets


def _both(before: Outcome, more: Outcome) -> Outcome:
    """Two rounds of an attempt as one, the rollouts of the later round behind those of the earlier one."""
    columns = ("group_R", "reward_R", "status_R", "n_tokens_R", "policy_version_R", "n_turns_R")
    both = {name: np.concatenate([getattr(before, name), getattr(more, name)]) for name in columns}
    return replace(before, plan=before.plan.joined(more.plan), **both)


def _whole_group(rule: Advantage, outcome: Outcome) -> Floats:
    advantage_R = rule.of(outcome.reward_R, outcome.group_R, outcome.ok_R, len(outcome.plan))
    return np.where(outcome.ok_R, advantage_R, np.nan)


def _admitted(attempts: Sequence[_Attempt], n_groups: int, n_rollouts: int) -> list[_Attempt]:
    """The kept groups, in plan order, that fit into so many groups and places; those behind them become SURPLUS."""
    admitted = []
    for one in attempts:
        verdict, group_R = one.verdict, one.outcome.group_R
        n_B = counts(group_R[verdict.carries_gradient_R], len(verdict.kept_B))
        stays_B = verdict.kept_B & (np.cumsum(verdict.kept_B) <= n_groups) & (np.cumsum(n_B) <= n_rollouts)
        surplus_B = verdict.kept_B & ~stays_B
        n_groups -= int(stays_B.sum())
        n_rollouts = 0 if surplus_B.any() else n_rollouts - int(n_B.sum())
        verdict = replace(
            verdict,
            kept_B=stays_B,
            reason_B=np.where(surplus_B, Reason.SURPLUS, verdict.reason_B),
            carries_gradient_R=verdict.carries_gradient_R & stays_B[group_R],
        )
        admitted.append(replace(one, verdict=verdict))
    return admitted


@dataclass(frozen=True, eq=False)
class HostedBatch:
    """Everything that was rolled out for a batch, attempt after attempt (R over all of them), and what trains."""

    attempts: tuple[Feedback, ...]
    shaped: tuple[Floats, ...]  # per attempt, what advantages are made of

    @cached_property
    def whole(self) -> Feedback:
        """All attempts as one: their groups and rollouts one behind the other."""
        return join(self.attempts)

    def advantages(self, rule: Advantage) -> Floats:
        """(R,) what each rollout is trained with: of the shaped reward, times its group's weight; 0 without gradient.

        A verdict that renormalises compares a rollout with those that carry gradient, any other one with its whole group.
        """
        outcome, verdict = self.whole.outcome, self.whole.verdict
        gradient_R, group_R = verdict.carries_gradient_R, outcome.group_R
        peers_R = gradient_R if verdict.renormalise else outcome.ok_R & verdict.kept_B[group_R]
        advantage_R = rule.of(np.concatenate(self.shaped), group_R, peers_R, len(verdict.kept_B))
        return np.where(gradient_R, advantage_R * verdict.weight_B[group_R], 0.0)

    def metrics(self) -> dict[str, float]:
        """Numbers for a host's log; counts are of the whole batch, before anything was left out."""
        outcome, verdict = self.whole.outcome, self.whole.verdict
        return {
            "n_attempts": float(len(self.attempts)),
            "n_groups": float(len(verdict.kept_B)),
            "n_kept_groups": float(np.count_nonzero(verdict.kept_B)),
            "n_rollouts": float(len(outcome.group_R)),
            "n_trained_rollouts": float(np.count_nonzero(verdict.carries_gradient_R)),
            "mean_reward": float(outcome.reward_R[outcome.ok_R].mean()) if outcome.ok_R.any() else float("nan"),
        }

    def places(self, n: int) -> tuple[Ints, Bools]:
        """(n,) which rollout goes into each place of a host's batch, and whether it is there for the first time.

        Where as many were rolled out as there are places, each stays where it is. Otherwise those with gradient come first, then
        the others; places that are left repeat the first rollout, for the host to mask.
        """
        gradient_R = self.whole.verdict.carries_gradient_R
        order = np.arange(len(gradient_R))
        if len(order) > n:
            order = np.concatenate([order[gradient_R], order[~gradient_R]])
        place_P = np.concatenate([order[:n], np.zeros(max(0, n - len(order)), np.int64)])
        return place_P, np.arange(n) < len(order)


# --- state beside a host's checkpoint ---------------------------------------------------------------------------------------------


def save(folder: Path, curriculum: Curriculum, facts: Mapping[str, ArrayLike]) -> None:
    """Write the curriculum's state and the host's facts (numbers) into a checkpoint folder: whole, or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = curriculum.state_dict() | {f"{_HOST}{name}": np.asarray(value) for name, value in facts.items()}
    partial = folder / f".partial-{STATE}"
    with partial.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, folder / STATE)


def load(folder: Path, curriculum: Curriculum) -> dict[str, NDArray[Any]]:
    """Take up the state of a checkpoint folder; the host's facts.

    Errors: CurriculaError when there is none, or it belongs to other data or another recipe.
    """
    path = folder / STATE
    if not path.is_file():
        raise CurriculaError(
            f"{path}: not there; the checkpoint was written without a curriculum, or not to its end: resume from a whole one, or "
            "start a new run"
        )
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    curriculum.load_state_dict({key: value for key, value in arrays.items() if not key.startswith(_HOST)})
    return {key.removeprefix(_HOST): value for key, value in arrays.items() if key.startswith(_HOST)}
