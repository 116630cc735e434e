"""Greedy baselines: the budget policy asks for them, the learner's advantage needs them."""

from __future__ import annotations

import warnings

from curricula import Curriculum
from curricula.conflicts import ConflictWarning, parts_of
from curricula.types import CurriculaError
from trainer.settings import LearnerSettings


def check_baselines(learner: LearnerSettings, curriculum: Curriculum) -> None:
    """Errors: CurriculaError when the advantage needs greedy completions that nobody asks for. Warns when nobody uses them."""
    asked = any(hasattr(part.policy, "baselines") for part in parts_of("budget", curriculum.stages.budget))
    if learner.advantage == "remax" and not asked:
        raise CurriculaError(
            "learner.advantage: 'remax' measures rollouts against a greedy completion of their prompt, and the recipe's budget "
            "policy never asks for one; take curriculum.budget {name: remax} (others can be its 'inner'), or another advantage"
        )
    if asked and learner.advantage != "remax":
        warnings.warn(
            f"the recipe's budget policy asks for greedy completions that learner.advantage {learner.advantage!r} does not use; "
            "take advantage 'remax', or another budget policy",
            ConflictWarning,
            stacklevel=2,
        )
