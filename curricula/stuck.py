"""Which prompts a learner is stuck on: the parents of what is added to a growing pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.types import Bools, CurriculaError, Estimate, Feedback, Ints, PromptPool

Believed = Callable[[Ints], Estimate]


class Attempts(NamedTuple):
    """How each prompt fared; 9 bytes per prompt."""

    n_groups_N: NDArray[np.int32]  # (N,) groups with a scored rollout
    n_failed_N: NDArray[np.int32]  # (N,) so many groups, up to the latest, had no success
    closed_N: Bools  # (N,) not to become a parent: it was one, or is hinted


def no_attempts(pool: PromptPool) -> Attempts:
    """Nothing rolled out yet."""
    n = len(pool)
    return Attempts(np.zeros(n, np.int32), np.zeros(n, np.int32), np.zeros(n, np.bool_))


def attempted(state: Attempts, feedbacks: Sequence[Feedback]) -> Attempts:
    """With the groups of one step. No success: every scored rollout has the lowest reward.

    Groups that a prompt has in one plan are one. The arrays of the state are reused.
    """
    for feedback in sorted(feedbacks, key=lambda feedback: (feedback.plan.step, feedback.plan.attempt)):
        outcome, ok_R = feedback.outcome, feedback.outcome.ok_R
        prompt_R = outcome.plan.selection.prompt_B[outcome.group_R[ok_R]]
        prompt, place_R = np.unique(prompt_R, return_inverse=True)
        best = np.zeros(len(prompt))
        np.maximum.at(best, place_R, outcome.score_R[ok_R])
        state.n_groups_N[prompt] += 1
        state.n_failed_N[prompt] = np.where(best > 0, 0, state.n_failed_N[prompt] + 1)
    return state


@dataclass(frozen=True)
class Stuck:
    """A prompt is stuck when all of these hold.

    ``all_wrong: 1`` alone is EGSR's rule (arXiv 2505.08364): its latest group had no success. ``{all_wrong: 0, below: 0.1, visits:
    3}`` asks the belief.
    """

    all_wrong: int = 1  # its latest so many groups had no success
    below: float = 1.0  # believed pass rate, at most
    visits: int = 1  # groups so far, at least

    def __post_init__(self) -> None:
        if self.all_wrong < 0 or self.visits < 1:
            raise CurriculaError(f"when: expected all_wrong >= 0 and visits >= 1, got {self.all_wrong} and {self.visits}")
        if not 0 <= self.below <= 1:
            raise CurriculaError(f"when.below: expected a pass rate in [0, 1], got {self.below}")

    def rows(self, state: Attempts, pool: PromptPool, believed: Believed, most: int, most_depth: int) -> Ints:
        """At most ``most`` rows, hardest first: by believed pass rate, then failures in a row, then id.

        A prompt that is ``most_depth`` generations below the data is left out.
        """
        open_N = ~state.closed_N & (state.n_groups_N >= self.visits) & (state.n_failed_N >= self.all_wrong)
        row = np.flatnonzero(open_N & (depth_N(pool) < most_depth))
        mean = believed(row).mean_B if len(row) else np.zeros(0)
        row, mean = row[mean <= self.below], mean[mean <= self.below]
        hardest_first: Ints = row[np.lexsort((pool.ids[row], -state.n_failed_N[row], mean))][:most]
        return hardest_first


def depth_N(pool: PromptPool) -> Ints:
    """(N,) generations between each prompt and the data; 0 for the data's own prompts."""
    depth, ancestor_N = np.zeros(len(pool), np.int64), pool.parent_N
    while (ancestor_N >= 0).any():
        depth += ancestor_N >= 0
        ancestor_N = np.where(ancestor_N >= 0, pool.parent_N[ancestor_N], -1)
    return depth
