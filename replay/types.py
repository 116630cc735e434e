"""One record for the logs of every trainer: groups and their rollouts as columns.

Axis suffixes: ``_G`` groups in the order of their decision, ``_R`` rollouts (flat), ``_N`` prompts of the pool.
What a source does not say is NaN, -1 or UNKNOWN, and named in ``lacks``: an estimator that needs it refuses with that name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np

from curricula.types import Codes, CurriculaError, Floats, Ints, PromptPool, Status, frozen_array

Lack = Literal[
    "group id",  # groups were rebuilt from neighbouring rows or equal prompts
    "prompt id",  # ids were made from the prompt's text
    "step",
    "propensity",  # nobody wrote down how likely a prompt was chosen
    "arm probability",
    "rejected groups",  # only what survived a filter was kept
    "status",  # failures cannot be told from wrong answers
    "tokens",
    "policy version",
    "fixed budget",  # how many rollouts a group got depended on their scores: sub-groups of it are no fair sample
]


@dataclass(frozen=True, eq=False)
class LoggedRun:
    """What was decided and what came of it."""

    source: str  # format and path, for messages
    pool: PromptPool  # every prompt that the log names
    prompt_G: Ints  # row of the pool
    step_G: Ints  # -1 = unknown
    group_R: Ints  # place of the rollout's group, 0..G-1
    reward_R: Floats  # raw; NaN where the status is not OK
    status_R: Codes  # Status
    n_tokens_R: Ints  # -1 = unknown
    policy_version_R: Ints  # -1 = unknown
    propensity_G: Floats  # inclusion probability; NaN = unknown
    arm_probability_G: Floats  # of the group's distribution; NaN = unknown
    kept_G: Codes  # 1 entered the update, 0 did not, 2 = unknown
    reward_range: tuple[float, float] = (0.0, 1.0)
    lacks: frozenset[Lack] = field(default_factory=frozenset)
    attempt_G: Ints = field(default=None)  # type: ignore[arg-type]  # refill number inside the step; 0 by default

    def __post_init__(self) -> None:
        put = object.__setattr__
        g, r = len(np.asarray(self.prompt_G)), len(np.asarray(self.group_R))
        if self.attempt_G is None:
            put(self, "attempt_G", np.zeros(g, np.int64))
        columns = {
            "prompt_G": (np.int64, g),
            "step_G": (np.int64, g),
            "propensity_G": (np.float64, g),
            "arm_probability_G": (np.float64, g),
            "kept_G": (np.uint8, g),
            "attempt_G": (np.int64, g),
            "group_R": (np.int64, r),
            "reward_R": (np.float64, r),
            "status_R": (np.uint8, r),
            "n_tokens_R": (np.int64, r),
            "policy_version_R": (np.int64, r),
        }
        for name, (dtype, length) in columns.items():
            put(self, name, frozen_array(getattr(self, name), dtype, f"{self.source}: {name}", length))
        if r and not (self.group_R.min() >= 0 and self.group_R.max() < g):
            raise CurriculaError(f"{self.source}: group_R must lie in 0..{g - 1}")
        if g and not (self.prompt_G.min() >= 0 and self.prompt_G.max() < len(self.pool)):
            raise CurriculaError(f"{self.source}: prompt_G must lie in 0..{len(self.pool) - 1} (rows of the pool)")

    def __len__(self) -> int:
        return len(self.prompt_G)

    @cached_property
    def score_R(self) -> Floats:
        """(R,) reward mapped to [0, 1]; NaN where the status is not OK."""
        low, high = self.reward_range
        return np.where(self.status_R == Status.OK, np.clip((self.reward_R - low) / (high - low), 0.0, 1.0), np.nan)

    def needs(self, *what: Lack) -> None:
        """CurriculaError when the source lacks one of these."""
        missing = [lack for lack in what if lack in self.lacks]
        if missing:
            raise CurriculaError(f"{self.source}: not estimable: the log lacks {', '.join(missing)}")
