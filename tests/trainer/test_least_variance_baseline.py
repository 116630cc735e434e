"""Baselines weighed by gradient norms: unbiased and of less variance, by enumeration of every group of a small bandit."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from curricula.types import CurriculaError, Floats
from rollout.types import Completion, FinishReason
from tests.trainer.recipes import simulated
from tests.trainer.test_batch import PROMPTS, attempt
from tests.trainer.test_real_run import real
from trainer import checkpoint
from trainer.advantages import group_advantages
from trainer.batch import feedback_of, learner_advantages, sequences_of
from trainer.gradient_weights import by_logits, by_tokens
from trainer.loop import run
from trainer.settings import LearnerSettings
from trainer.verify_log import reexecuted, verify_run


class Bandit(NamedTuple):
    """A softmax over answers; an answer has a reward and goes on for some tokens, each a fair coin with a parameter of its own."""

    p_A: Floats
    reward_A: Floats
    n_coins_A: Floats

    @property
    def score_AA(self) -> Floats:
        """Gradient of log p of each answer with respect to the logits."""
        return np.eye(len(self.p_A)) - self.p_A

    @property
    def squared_norm_A(self) -> Floats:
        """Of the whole rollout's score: a fair coin's is (1/2)^2, and coins are uncorrelated."""
        return np.asarray((self.score_AA**2).sum(axis=1) + 0.25 * self.n_coins_A)

    @property
    def gradient_A(self) -> Floats:
        """Of the expected reward with respect to the logits."""
        return np.asarray(self.p_A * (self.reward_A - self.p_A @ self.reward_A))


LONG_ANSWERS_WIN = Bandit(np.array([0.6, 0.3, 0.1]), np.array([0.0, 1.0, 0.3]), np.array([2.0, 40.0, 9.0]))


def moments(bandit: Bandit, kind: str, weight_A: Floats, size: int) -> tuple[Floats, float]:
    """Exact mean of the group's gradient estimate (of the answers' logits), and the trace of its covariance, coins included."""
    mean, square = np.zeros(len(bandit.p_A)), 0.0
    for answers in product(range(len(bandit.p_A)), repeat=size):
        drawn = np.array(answers)
        advantage = group_advantages(
            kind, bandit.reward_A[drawn], np.zeros(size, int), np.ones(size, bool), 1, weight_R=weight_A[drawn]
        )
        probability = float(bandit.p_A[drawn].prod())
        gradient = advantage @ bandit.score_AA[drawn] / size
        mean += probability * gradient
        coins = float((advantage**2 * 0.25 * bandit.n_coins_A[drawn]).sum()) / size**2
        square += probability * (float(gradient @ gradient) + coins)
    return mean, square - float(mean @ mean)


@pytest.mark.parametrize("size", [2, 3, 5])
def test_leaving_the_own_reward_out_is_unbiased_whatever_the_weights(size: int) -> None:
    bandit = LONG_ANSWERS_WIN
    for weight_A in (bandit.squared_norm_A, np.array([5.0, 0.0, 1e-9]), np.ones(3)):
        np.testing.assert_allclose(moments(bandit, "oblr", weight_A, size)[0], bandit.gradient_A, atol=1e-12)
    shrunk = moments(bandit, "dr_grpo", np.ones(3), size)[0]
    np.testing.assert_allclose(shrunk, (1 - 1 / size) * bandit.gradient_A, atol=1e-12)
    published = moments(bandit, "opo", bandit.squared_norm_A, size)[0]
    assert np.abs(published * size / (size - 1) - bandit.gradient_A).max() > 1e-3, "biased, and by no factor"


@pytest.mark.parametrize("size", [4, 6])
def test_variance_is_lower_where_gradients_grow_with_the_reward_and_higher_with_weights_that_mislead(size: int) -> None:
    bandit = LONG_ANSWERS_WIN
    variance = {
        name: moments(bandit, kind, weight_A, size)[1]
        for name, kind, weight_A in (
            ("mean", "rloo", np.ones(3)),
            ("norm", "oblr", bandit.squared_norm_A),
            ("tokens", "oblr", 1 + bandit.n_coins_A),
            ("upside down", "oblr", 1 / bandit.squared_norm_A),
        )
    }
    assert variance["norm"] < 0.9 * variance["mean"]
    assert variance["tokens"] < 0.9 * variance["mean"]
    assert variance["upside down"] > 1.1 * variance["mean"]


def test_equal_weights_are_the_mean_baselines() -> None:
    rng = np.random.default_rng(0)
    group_R, reward_R, scored_R = rng.integers(0, 5, 40), rng.random(40), rng.random(40) < 0.9
    for weighted, plain in (("oblr", "rloo"), ("oblr_logits", "rloo"), ("opo", "dr_grpo")):
        expected = group_advantages(plain, reward_R, group_R, scored_R, 5)
        for weight_R in (None, np.full(40, 7.0), np.zeros(40)):
            np.testing.assert_allclose(group_advantages(weighted, reward_R, group_R, scored_R, 5, weight_R=weight_R), expected)


def test_by_hand() -> None:
    reward_R, weight_R = np.array([1.0, 0.0, 0.0, 1.0]), np.array([6.0, 1.0, 2.0, 1.0])
    group_R, scored_R = np.array([0, 0, 0, 1]), np.ones(4, bool)
    found = group_advantages("opo", reward_R, group_R, scored_R, 2, weight_R=weight_R)
    np.testing.assert_allclose(found, [1 - 6 / 9, -6 / 9, -6 / 9, 0])
    found = group_advantages("oblr", reward_R, group_R, scored_R, 2, weight_R=weight_R)
    np.testing.assert_allclose(found, [1, -6 / 8, -6 / 7, 0], err_msg="one alone has nobody to be compared with")
    assert (group_advantages("oblr", np.full(4, 0.1), np.zeros(4, int), scored_R, 1, weight_R=weight_R) == 0).all()
    with pytest.raises(CurriculaError, match=r"rollout 1 of group 0 has weight -1\.0"):
        group_advantages("oblr", reward_R, group_R, scored_R, 2, weight_R=np.array([1.0, -1, 1, 1]))


def test_the_surprise_of_a_draw_is_on_average_the_squared_gradient_at_the_logits() -> None:
    p_V = np.random.default_rng(1).dirichlet(np.full(6, 0.4))
    squared_V = ((np.eye(6) - p_V) ** 2).sum(axis=1)
    assert p_V @ (1 - p_V) == pytest.approx(p_V @ squared_V, rel=1e-12)


def told(logprobs: list[float], drawn: list[bool] | None = None) -> Completion:
    n = len(logprobs)
    marks = None if drawn is None else np.array(drawn)
    return Completion(np.zeros(n, np.int32), np.array(logprobs, np.float32), "x", FinishReason.STOP, marks)


def test_the_learner_weighs_by_what_engines_said_and_policies_by_tokens() -> None:
    """Rewards (1, 0, 0, -) and (1, 1, 0, 0)."""
    plain = attempt()
    half, certain = float(np.log(0.5)), 0.0
    completions = [
        told([half, half, half, half, 0.0], [True] * 4 + [False]),
        told([half, certain]),
        told([half, half]),
        told([half]),
    ]
    first = [replace(one, completion=completion) for one, completion in zip(plain.judged_B[0], completions, strict=True)]
    outcome = replace(plain.outcome, n_tokens_R=np.array([4, 2, 2, 1, 3, 3, 3, 3]))
    unlike = replace(plain, judged_B=[first, plain.judged_B[1]], outcome=outcome)
    assert by_tokens(unlike).tolist() == [4, 2, 2, 1, 3, 3, 3, 3]
    np.testing.assert_allclose(by_logits(unlike), [2, 0.5, 1, 0.5, 0, 0, 0, 0], atol=1e-6)
    second = [2 / 3, 2 / 3, -2 / 3, -2 / 3]
    np.testing.assert_allclose(learner_advantages(unlike, "oblr"), [1, -4 / 6, -4 / 6, 0, *second])
    np.testing.assert_allclose(learner_advantages(unlike, "oblr_logits"), [1, -2 / 3, -2 / 2.5, 0, *second], atol=1e-6)
    for kind in ("oblr", "oblr_logits"):
        np.testing.assert_allclose(feedback_of(unlike, kind).advantage_R, [1, -4 / 6, -4 / 6, np.nan, *second])
    carried = [s.advantage for s in sequences_of([unlike], "oblr", PROMPTS)]
    np.testing.assert_allclose(carried, [1, -4 / 6, -4 / 6, *second])


def test_what_is_not_defined_is_refused() -> None:
    for settings in ({"aggregation": "sequence_mean"}, {"token_share": 0.5}):
        with pytest.raises(CurriculaError, match=r"learner\.advantage: 'oblr' .* take aggregation token_mean or constant"):
            LearnerSettings(advantage="oblr", **settings)  # type: ignore[arg-type]
        LearnerSettings(advantage="rloo", **settings)  # type: ignore[arg-type]


def test_a_run_verifies_from_its_log(tmp_path: Path) -> None:
    """A curriculum that reads advantages: SEC's arms are paid with them."""
    changes = {
        "curriculum__distribution": {"name": "sec"},
        "learner__advantage": "oblr",
        "run__n_steps": 6,
        "run__checkpoint_every": 3,
    }
    recipe = simulated(tmp_path / "run", **changes)
    run(recipe)
    assert all(found.difference is None for found in verify_run(recipe.folder))
    assert reexecuted(recipe.folder).departure is None


def test_a_real_run_trains_and_verifies(tmp_path: Path, tiny_model_path: Path) -> None:
    changes = {"learner__advantage": "oblr_logits", "curriculum": {"distribution": {"name": "sec"}}, "run__n_steps": 2}
    recipe = real(tmp_path / "run", tiny_model_path, **changes, run__checkpoint_every=2)
    run(recipe)
    assert checkpoint.newest(recipe.folder / "checkpoints") is not None
    assert all(found.difference is None for found in verify_run(recipe.folder))
    assert reexecuted(recipe.folder).departure is None
