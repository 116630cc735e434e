"""Which prompts to roll out, how many rollouts each one gets, and what enters the update. NumPy and the standard library only."""

from curricula.curriculum import Curriculum
from curricula.recipes import RECIPES
from curricula.registry import build, describe, names, register
from curricula.stages import NoState, Quota, Stages, Stateless
from curricula.types import (
    CurriculaError,
    Estimate,
    Feedback,
    Outcome,
    PromptPool,
    Reason,
    Refill,
    RolloutPlan,
    Selection,
    Status,
    Verdict,
    group_ids,
    step_of_group,
)

__all__ = [
    "RECIPES",
    "CurriculaError",
    "Curriculum",
    "Estimate",
    "Feedback",
    "NoState",
    "Outcome",
    "PromptPool",
    "Quota",
    "Reason",
    "Refill",
    "RolloutPlan",
    "Selection",
    "Stages",
    "Stateless",
    "Status",
    "Verdict",
    "build",
    "describe",
    "group_ids",
    "names",
    "register",
    "step_of_group",
]
