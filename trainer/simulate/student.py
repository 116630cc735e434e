"""The simulated learner: an item-response model whose skills follow their own policy gradient.

Prompt i of level l is solved with probability sigmoid(skill_l - difficulty_i), the model of `rollout.engines.simulated`. A skill's
score function is (solved - p) per rollout, so the gradient of a GRPO step is the mean over its rollouts of
advantage x (solved - p). Without verifier noise that is sqrt(r (1 - r)) for a large group of pass rate r, half of its mean
|advantage|, and 0 for a group without signal. Where the verifier errs, the advantage is made of its verdict and the score of the
truth: a dead group that only looks alive teaches nothing. Source: ours.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from curricula.types import Bools, Floats, Ints, PromptPool
from rollout.engines.simulated import ItemResponse, level_of
from trainer.simulate.setting import Setting
from trainer.simulated_learner import transfer

JITTER_STREAM = 1  # of the seed; the rollouts' streams begin with the step


def make_pool(setting: Setting, seed: int) -> PromptPool:
    """The prompts of one seed; the same for every recipe."""
    levels = [i % setting.levels for i in range(setting.prompts)]
    ids = [f"level-{level:03d}/{seed}-{i:07d}" for i, level in enumerate(levels)]
    return PromptPool.from_columns(ids, [prompt_id.split("/")[0] for prompt_id in ids])


class Pupil(Protocol):
    """Whoever answers and learns in a simulated run."""

    version: int

    def pass_rates(self) -> Floats: ...

    def answer(self, prompt_R: Ints, rng: np.random.Generator) -> tuple[Bools, Floats]: ...

    def learn(self, prompt_R: Ints, solved_R: Bools, advantage_R: Floats) -> None: ...


class Student:
    """Answers prompts, and learns from advantages."""

    def __init__(self, setting: Setting, pool: PromptPool, seed: int) -> None:
        model = ItemResponse(setting.levels, setting.slope, setting.spread, setting.start)
        self._setting, self._seed = setting, seed
        self._difficulty_N = np.array([model.difficulty(prompt_id) for prompt_id in pool.ids.tolist()])
        self._level_N = np.array([level_of(prompt_id) for prompt_id in pool.ids.tolist()], dtype=np.int64)
        self._transfer_KK = transfer(setting.levels, setting.transfer)
        self._skill_K = model.start_skills()
        self.version = 0

    def pass_rates(self) -> Floats:
        """(N,) true pass rate of every prompt now."""
        return np.asarray(1.0 / (1.0 + np.exp(self._difficulty_N - self._skill_K[self._level_N])))

    def answer(self, prompt_R: Ints, rng: np.random.Generator) -> tuple[Bools, Floats]:
        """(R,) solved or not, and (R,) the reward that the verifier gives."""
        p_R = 1.0 / (1.0 + np.exp(self._difficulty_N[prompt_R] - self._skill_K[self._level_N[prompt_R]]))
        solved_R = rng.random(len(prompt_R)) < p_R
        wrong_R = rng.random(len(prompt_R)) < self._setting.noise
        return solved_R, (solved_R ^ wrong_R).astype(np.float64)

    def learn(self, prompt_R: Ints, solved_R: Bools, advantage_R: Floats) -> None:
        """One update by the rollouts that carry gradient, all drawn since the update before.

        Divided by their number, an update of few groups is as large as one of many; by a constant, rollouts count alike everywhere.
        """
        p_R = self.pass_rates()[prompt_R]
        whole = self._setting.groups * self._setting.rollouts
        share_R = advantage_R * (solved_R - p_R) / (whole if self._setting.constant else max(len(prompt_R), 1))
        gradient_K = np.bincount(self._level_N[prompt_R], weights=share_R, minlength=len(self._skill_K))
        self._skill_K = self._skill_K + self._setting.rate * self._step_noise() * gradient_K @ self._transfer_KK
        self.version += 1

    def _step_noise(self) -> float:
        """Update t of a seed has the same noise in every recipe's run."""
        rng = np.random.default_rng((self._seed, JITTER_STREAM, self.version))
        return float(np.exp(self._setting.jitter * rng.standard_normal()))
