"""Prompts from reasoning-gym: levels that do not overlap, stable ids, nothing held out in training."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from curricula.types import CurriculaError
from rollout.prompts import RewardSpec
from rollout.rewards import load_reward
from rollout.settings import VerifierSettings
from rollout.tasks import build_task
from rollout.verifier import VerifierPool, VerifyItem

pytest.importorskip("reasoning_gym")

LADDER = {"name": "reasoning_gym", "dataset": "chain_sum", "level_attribute": "num_terms", "levels": [0, 1, 3]}
SMALL = {"prompts_per_distribution": 20, "held_out_per_distribution": 5}


def build(**keys: Any) -> Any:
    return build_task({**LADDER, **SMALL, **keys}).build(0)


def by_hand(**distributions: Any) -> Any:
    return build_task({"name": "reasoning_gym", "distributions": distributions, **SMALL}).build(0)


def question(prompt: Any) -> str:
    return str(prompt.extra["entry"]["question"])


class TestLevels:
    def test_one_distribution_per_level_each_of_its_own_size(self) -> None:
        train, held_out = build()
        assert train.pool.distribution_names == ("chain_sum/terms=2", "chain_sum/terms=3", "chain_sum/terms=5")
        assert train.pool.size_K.tolist() == [20] * 3
        assert held_out.pool.size_K.tolist() == [5] * 3
        for prompt in [*train.prompts, *held_out.prompts]:
            assert prompt.extra["entry"]["metadata"]["num_terms"] == int(prompt.distribution[-1])
        assert train.prompts[0].id == "chain_sum/terms=2/000005"
        assert held_out.prompts[0].id == "chain_sum/terms=2/000000"

    def test_levels_default_to_all_of_them(self) -> None:
        train, _ = build(levels=[], prompts_per_distribution=1)
        assert train.pool.n_distributions == 11

    def test_config_sets_the_other_attributes(self) -> None:
        train, _ = build(config={"min_digits": 3, "max_digits": 3}, prompt_template="{expression}=")
        first = train.prompts[0].content
        assert len(first) == len("123+456=")

    def test_one_distribution_without_a_level_attribute(self) -> None:
        train, _ = build(level_attribute="", levels=[])
        assert train.pool.distribution_names == ("chain_sum",)


class TestPrompts:
    def test_the_same_in_every_run(self) -> None:
        one, other = build()[0], build_task({**LADDER, **SMALL}).build(99)[0]
        assert one.pool.fingerprint == other.pool.fingerprint
        assert [prompt.content for prompt in one.prompts] == [prompt.content for prompt in other.prompts]
        assert [prompt.content for prompt in one.prompts] != [prompt.content for prompt in build(seed=1)[0].prompts]

    def test_more_training_prompts_leave_the_held_out_ones(self) -> None:
        assert [p.content for p in build()[1].prompts] == [p.content for p in build(prompts_per_distribution=40)[1].prompts]

    def test_no_question_is_on_both_sides_even_where_few_exist(self) -> None:
        """Sums of two one-digit terms: about 180 questions, 40 of them held out, so plain index ranges would overlap."""
        train, held_out = build(levels=[0], prompts_per_distribution=300, held_out_per_distribution=40)
        hidden = {question(prompt) for prompt in held_out.prompts}
        assert not hidden & {question(prompt) for prompt in train.prompts}
        ids = [prompt.id for prompt in [*train.prompts, *held_out.prompts]]
        assert len(set(ids)) == len(ids) == 340

    def test_too_few_questions_are_named(self) -> None:
        train, _ = by_hand(
            coin={"dataset": "chain_sum", "config": {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1}}
        )
        assert len(train.prompts[0:3]) == 3
        spec = {**LADDER, "levels": [0], "prompts_per_distribution": 5, "held_out_per_distribution": 5000}
        train, _ = build_task(spec).build(0)
        with pytest.raises(CurriculaError, match=r"'chain_sum/terms=2': nearly every question is held out"):
            list(train.prompts)

    def test_made_only_when_looked_at(self) -> None:
        """A million prompts cost nothing before they are read."""
        train, _ = build(prompts_per_distribution=1_000_000, levels=[1])
        assert train.prompts[999_999].id == "chain_sum/terms=3/1000004"
        assert train.prompts[-1] is train.prompts[999_999]

    def test_template_form_and_expression(self) -> None:
        train, _ = build(prompt_template="{expression}=", form="chat")
        (message,) = train.prompts[0].content
        assert message["role"] == "user"
        left = message["content"].removesuffix("=")
        assert " " not in left
        assert sum(int(term) for term in left.replace("-", "+-").split("+")) == int(train.prompts[0].answer)

    @pytest.mark.parametrize("name", ["chain_sum", "countdown", "gcd", "spell_backward", "mini_sudoku", "basic_arithmetic"])
    def test_scored_in_a_verifier_process(self, name: str) -> None:
        train, _ = by_hand(only={"dataset": name})
        prompts = train.prompts[:3]
        assert train.reward == RewardSpec("reasoning_gym")
        assert [load_reward("reasoning_gym")(p.answer, p.answer, json.loads(json.dumps(p.extra))) for p in prompts] == [1.0] * 3

    def test_countdown_through_the_pool(self) -> None:
        train, _ = by_hand(three={"dataset": "countdown", "config": {"min_numbers": 3, "max_numbers": 3}})
        pool = VerifierPool(VerifierSettings(deadline_s=2.0), train.reward)
        prompt = train.prompts[0]
        pool.submit(0, [VerifyItem(text, prompt.answer, prompt.extra) for text in (str(prompt.answer), "1+1", "9**9**9**9")])
        ((_, scores),) = pool.drain()
        pool.close()
        assert scores[0].reward == 1.0
        assert scores[1].reward < 0.1
        assert not scores[2].reward > 0.1, "no reward, whichever way the bomb ended"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"dataset": "chain_sun"}, "unknown reasoning-gym data set 'chain_sun'; did you mean 'chain_sum'"),
        ({"level_attribute": "terms"}, "unknown attribute of reasoning-gym's 'chain_sum' 'terms'"),
        ({"levels": [0, 11]}, r"chain_sum.num_terms has the levels 0..10, got \[11\]"),
        (
            {"config": {"min_digit": 1}},
            r"distribution 'chain_sum/terms=2': reasoning-gym's 'chain_sum' refuses the configuration .*min_digit",
        ),
        ({"config": {"min_digits": 4, "max_digits": 2}}, "refuses the configuration"),
        ({"distributions": {"a": {"dataset": "gcd"}}}, "expected either distributions or dataset"),
        ({"prompts_per_distribution": 0}, "expected prompts_per_distribution >= 1"),
        (
            {"dataset": "spell_backward", "level_attribute": "word_len", "levels": [4]},
            "reasoning-gym fails on item 0 with the configuration",
        ),
        ({"dataset": "arc_agi", "level_attribute": "", "levels": []}, "items of 'arc_agi' do not survive JSON"),
    ],
)
def test_mistakes_are_named(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        build(**keys)


class TestEasier:
    def test_a_new_puzzle_of_a_lower_level_that_is_scored(self) -> None:
        task = build_task({**LADDER, **SMALL, "levels": [1, 3]})
        train, held_out = task.build(0)
        reward, rng = load_reward(train.reward.name), np.random.default_rng(0)
        taken = {prompt.id for prompt in [*train.prompts, *held_out.prompts]}
        for prompt in (train.prompts[0], train.prompts[-1]):  # 3 and 5 terms
            own = prompt.extra["entry"]["metadata"]["num_terms"]
            child = task.easier(prompt, 1, rng)
            grandchild = task.easier(child, 1, rng)
            assert child.extra["entry"]["metadata"]["num_terms"] == own - 1
            assert child.id not in taken
            assert reward(child.answer, child.answer, json.loads(json.dumps(child.extra))) == 1.0
            assert (grandchild is None) == (own == 3), "the lowest level of the data set has two terms"
        assert grandchild.extra["entry"]["metadata"]["num_terms"] == 3
        assert grandchild.extra["level"] == 1
        assert task.easier(train.prompts[-1], 9, rng).extra["level"] == 0

    def test_distributions_by_hand_have_no_levels(self) -> None:
        task = build_task({"name": "reasoning_gym", "distributions": {"sums": "chain_sum"}, **SMALL})
        with pytest.raises(CurriculaError, match="easier prompts need levels; set dataset and level_attribute"):
            task.easier(task.build(0)[0].prompts[0], 1, np.random.default_rng(0))
