"""What the twin reads of a log: solved and scored rollouts per group, in the order of the steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from curricula.types import Bools, CurriculaError, Floats, Ints, PromptPool, Status
from replay.types import LoggedRun


@dataclass(frozen=True, eq=False)
class Counts:
    """Groups with two scores or more; failed rollouts are left out, never counted as wrong. ``_T``: the log's steps in order."""

    source: str
    pool: PromptPool
    n_steps: int
    step_G: Ints  # place of the group's step, 0..T-1, ascending
    prompt_G: Ints
    n_G: Ints  # scored rollouts
    k_G: Ints  # of them solved
    trained_G: Bools  # entered the update; where the log does not say, all did
    attempt_G: Ints
    caveats: tuple[str, ...] = ()  # what the log leaves open

    def __len__(self) -> int:
        return len(self.n_G)

    @property
    def distribution_G(self) -> Ints:
        """(G,)"""
        return self.pool.distribution_N[self.prompt_G]

    @property
    def live_G(self) -> Bools:
        """(G,) groups whose rewards differ."""
        return np.asarray((self.k_G > 0) & (self.k_G < self.n_G))

    def before(self, step: int) -> Counts:
        """The first ``step`` steps."""
        return self._where(self.step_G < step, step)

    def signal_TK(self) -> Floats:
        """(T, K) gradient of each distribution's ability in each step, as the log's own rewards make it.

        A group of n rollouts with pass rate r gives n sqrt(r (1 - r) (n - 1) / n), the sum of advantage x solved of GRPO
        (`trainer.simulate.student`); the step's sum is divided by the rollouts in its update.
        """
        k = self.pool.n_distributions
        value_G = np.where(self.trained_G, group_signal(self.k_G, self.n_G), 0.0)
        sum_TK = np.bincount(self.step_G * k + self.distribution_G, value_G, self.n_steps * k).reshape(self.n_steps, k)
        size_T = np.bincount(self.step_G, np.where(self.trained_G, self.n_G, 0), self.n_steps)
        return np.asarray(sum_TK / np.maximum(size_T, 1)[:, None])

    def kept_shares(self) -> tuple[float, float]:
        """Which share of live and of dead groups entered the updates: whether a filter was at work."""
        live_G = self.live_G
        dead = float(self.trained_G[~live_G].mean()) if (~live_G).any() else 1.0
        return float(self.trained_G[live_G].mean()), dead

    def _where(self, keep_G: Bools, n_steps: int) -> Counts:
        columns = ("step_G", "prompt_G", "n_G", "k_G", "trained_G", "attempt_G")
        return replace(self, n_steps=n_steps, **{name: getattr(self, name)[keep_G] for name in columns})


def group_signal(solved: Ints, scored: Ints) -> Floats:
    """Sum of advantage x solved over a group of binary rewards; 0 where all are equal.

    >>> group_signal(np.array([3, 4]), np.array([4, 4])).round(3)
    array([1.5, 0. ])
    """
    return np.asarray(np.sqrt(solved * (scored - solved) * (scored - 1) / np.maximum(scored, 1)))


def update_signal(solved_B: Ints, scored_B: Ints, kept: tuple[float, float]) -> Floats:
    """(..., B) what each group of one update adds to its distribution's ability, before rate and transfer.

    ``kept``: the shares of live and dead groups that enter, see `Counts.kept_shares`; groups enter in these parts.
    """
    part_B = np.where((solved_B > 0) & (solved_B < scored_B), *kept)
    size = (part_B * scored_B).sum(axis=-1, keepdims=True)
    return np.asarray(part_B * group_signal(solved_B, scored_B) / np.maximum(size, 1))


def counts_of(run: LoggedRun) -> Counts:
    """The log's groups.

    Errors: CurriculaError for a log without steps, with fewer than two, with scores other than 0 and 1, without one group whose
    rewards differ, or with such groups alone (what a filter let through says nothing about the rest).
    """
    run.needs("step")
    _refuse_graded(run)
    ok_R = run.status_R == Status.OK
    n_G = np.bincount(run.group_R[ok_R], minlength=len(run))
    k_G = np.bincount(run.group_R[ok_R], run.score_R[ok_R], minlength=len(run)).astype(np.int64)
    order = np.argsort(run.step_G, kind="stable")
    order = order[n_G[order] >= 2]
    steps, step_G = np.unique(run.step_G[order], return_inverse=True)
    if len(steps) < 2:
        raise CurriculaError(
            f"{run.source}: the twin learns from how pass rates change between steps: expected groups of two scores or more in at "
            f"least 2 steps, got {len(steps)}"
        )
    prompt_G, attempt_G = run.prompt_G[order], run.attempt_G[order]
    found = Counts(run.source, run.pool, len(steps), step_G, prompt_G, n_G[order], k_G[order], run.kept_G[order] != 0, attempt_G)
    return replace(found, caveats=_caveats(run, found))


def _refuse_graded(run: LoggedRun) -> None:
    score_R = run.score_R
    graded = np.flatnonzero(np.isfinite(score_R) & (score_R != 0) & (score_R != 1))
    if len(graded):
        r = int(graded[0])
        low, high = run.reward_range
        raise CurriculaError(
            f"{run.source}: step {run.step_G[run.group_R[r]]}, prompt {run.pool.ids[run.prompt_G[run.group_R[r]]]!r}: reward "
            f"{run.reward_R[r]:g}; the twin's learner solves a prompt or does not: expected {low:g} or {high:g} only, got others "
            f"in {len(graded)} of {len(score_R)} rollouts; log whether each was solved, or name the true reward_range"
        )


def _caveats(run: LoggedRun, counts: Counts) -> tuple[str, ...]:
    live_share = float(counts.live_G.mean())
    if live_share == 0:
        raise CurriculaError(
            f"{run.source}: all rewards are equal in every group: nothing was learned from, so no rate can be fitted"
        )
    if live_share == 1 and "rejected groups" in run.lacks:
        raise CurriculaError(
            f"{run.source}: rewards differ in every group and the log lacks rejected groups: it holds what a filter let through, "
            "which says nothing about the pass rate of the rest; log the rejected groups too"
        )
    said = []
    if "rejected groups" in run.lacks:
        said.append("the log does not say whether groups were rejected; if a filter took some out, all pass rates here are wrong")
    if (run.kept_G == 2).any():
        said.append("the log does not say which groups entered the update; all are taken to have")
    if (dropped := len(run) - len(counts)) > 0:
        said.append(f"{dropped} of {len(run)} groups have fewer than two scores and are left out")
    live_kept, dead_kept = counts.kept_shares()
    if live_kept - dead_kept > 0.1:
        said.append(
            "the log's updates leave groups without signal out and are divided by what remains, so they are larger steps than "
            "those of recipes that keep all groups: part of such a difference is the learning rate, not the choice of prompts"
        )
    return tuple(said)
