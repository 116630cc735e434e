"""Shipped reward functions: right, wrong, unparseable and malicious answers."""

from __future__ import annotations

import doctest
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from curricula.types import CurriculaError, Status
from rollout.prompts import RewardSpec
from rollout.rewards import known_rewards, load_reward
from rollout.settings import VerifierSettings
from rollout.verifier import VerifierPool, VerifyItem

PUZZLES = Path(__file__).parents[3] / "shared/data/logic_rl_kk"


class TestRegistry:
    @pytest.mark.parametrize("name", known_rewards())
    def test_every_file_registers_its_reward(self, name: str) -> None:
        assert callable(load_reward(name))

    @pytest.mark.parametrize("name", [name for name in known_rewards() if name != "running_total"])
    def test_examples_in_docstrings(self, name: str) -> None:
        assert doctest.testmod(importlib.import_module(f"rollout.rewards.{name}")).failed == 0

    def test_loading_one_imports_no_other(self) -> None:
        code = (
            "import sys; from rollout.rewards import known_rewards, load_reward; known_rewards(); load_reward('exact'); "
            "heavy = ('sympy', 'math_verify', 'reasoning_gym', 'torch', 'ray', 'rollout.rewards.math'); "
            "print([name for name in heavy if name in sys.modules])"
        )
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


class TestExact:
    @pytest.mark.parametrize(
        ("completion", "answer", "reward"),
        [("42", "42", 1.0), (" 42\n", 42, 1.0), ("42.", "42", 0.0), ("", "", 1.0), ("4 2", "42", 0.0), ("\u0664", "4", 0.0)],
    )
    def test_equal_but_for_outer_blanks(self, completion: str, answer: object, reward: float) -> None:
        assert load_reward("exact")(completion, answer, {}) == reward

    def test_only_what_follows_the_marker(self) -> None:
        exact, extra = load_reward("exact"), {"after": "Answer:"}
        assert exact("Answer: 1. No: Answer: 2", "2", extra) == 1.0
        assert exact("2", "2", extra) == 0.0


class TestMath:
    @pytest.mark.parametrize(
        ("completion", "answer"),
        [
            (r"\boxed{\frac12}", "0.5"),
            (r"\boxed{1}, wait: \boxed{2}", 2),
            (r"so $x=3$ and \boxed{x=3}", "3"),
            ("The answer is 72.", "6 * 12 = 72\n#### 72"),
            (r"\boxed{\frac{1}{\sqrt{2}}}", r"\frac{\sqrt{2}}{2}"),
            (r"\boxed{5 \text{ cm}}", "5"),
            (r"\boxed{4}", [r"2", r"4"]),
            (r"\boxed{1,000}", "1000"),
        ],
    )
    def test_equal(self, completion: str, answer: object) -> None:
        assert load_reward("math")(completion, answer, {}) == 1.0

    @pytest.mark.parametrize(
        "completion",
        [
            "",
            "I do not know",
            r"\boxed{}",
            r"\boxed{3",
            r"\boxed{73}",
            r"\boxed{72}, no: \boxed{73}",
            r"\boxed{\frac{1}{0}}",
            "\x00\ud83d",
            "7 2",
        ],
    )
    def test_wrong_or_without_an_answer(self, completion: str) -> None:
        assert load_reward("math")(completion, "72", {}) == 0.0

    @pytest.mark.parametrize("answer", ["", " ", "####"])
    def test_unparseable_gold_is_an_error_not_a_zero(self, answer: str) -> None:
        with pytest.raises(CurriculaError, match="is no mathematical expression"):
            load_reward("math")(r"\boxed{1}", answer, {})

    @pytest.mark.parametrize("bomb", ["9**9**9**9", "9^{9^{9^9}}", "10^{99999999}", "2 ** (3 ** (4 ** 5))"])
    def test_powers_too_large_are_no_answers(self, bomb: str) -> None:
        assert load_reward("math")(bomb, "1", {}) == 0.0
        assert load_reward("math")(rf"\boxed{{{bomb}}}", "1", {}) == 0.0
        with pytest.raises(CurriculaError, match="is no mathematical expression"):
            load_reward("math")("1", bomb, {})

    def test_powers_of_the_usual_size_are(self) -> None:
        assert load_reward("math")(r"\boxed{2^{2^3}}", "256", {}) == 1.0
        assert load_reward("math")(r"\boxed{2^{100}}", "1267650600228229401496703205376", {}) == 1.0

    def test_malicious_texts_cost_at_most_their_own_verdict(self) -> None:
        """Ten megabytes, deep nesting and a factorial: the completion beside them is scored."""
        bombs = [
            "1" * 10_000_000,
            "\\boxed{" * 100_000,
            "(" * 100_000,
            r"\boxed{" + "{" * 900 + "1" + "}" * 900 + "}",
            r"\boxed{99999999!}",
        ]
        pool = VerifierPool(VerifierSettings(deadline_s=3.0), RewardSpec("math"))
        pool.submit("bombs", [VerifyItem(bomb, "1", {}) for bomb in bombs] + [VerifyItem(r"\boxed{1}", "1", {})])
        ((_, scores),) = pool.drain()
        pool.close()
        assert all(score.reward == 0.0 or score.status is not Status.OK for score in scores[:-1])
        assert scores[-1].reward == 1.0


class TestReasoningGym:
    def test_the_data_set_scores_its_own_items(self) -> None:
        library = pytest.importorskip("reasoning_gym")
        reward = load_reward("reasoning_gym")
        for name, config in [("chain_sum", {"min_terms": 2, "max_terms": 2}), ("countdown", {}), ("spell_backward", {})]:
            entry = json.loads(json.dumps(library.create_dataset(name, size=1, seed=3, **config)[0]))
            extra = {"dataset": name, "config": config, "entry": entry}
            assert reward(f" {entry['answer']}\n", entry["answer"], extra) == 1.0
            assert reward("no", entry["answer"], extra) < 1.0
            tagged = {**extra, "answer_tag": "answer"}
            assert reward(f"<answer>no</answer> so <answer> {entry['answer']} </answer>", entry["answer"], tagged) == 1.0
            assert reward(entry["answer"], entry["answer"], tagged) < 0.1, "as for no answer"


class TestKnightsAndKnaves:
    GOLD = "(1) Zoey is a knave\n(2) Ethan is a knight"

    @pytest.mark.parametrize(
        ("completion", "reward"),
        [
            ("<think>Zoey is a knight?</think><answer>(1) Zoey is a knave (2) Ethan is a knight</answer>", 1.0),
            ("Assume Zoey is a knight ...</think> (2) ethan is a Knight, (1) ZOEY is a knave.", 1.0),
            ("<answer>Zoey is a knight</answer> <answer>Zoey is a knave, Ethan is a knight", 1.0),
            ("<answer>(1) Zoey is a knave</answer>", 0.0),
            ("<answer>Zoey is a knave, Ethan is a knave</answer>", 0.0),
            ("<answer>Zoey is a knave, Ethan is a knight, Ethan is a knave</answer>", 0.0),
            ("<answer>Zoey is a knave, Ethan is a knight, Michael is a knight</answer>", 0.0),
            ("", 0.0),
        ],
    )
    def test_everybody_rightly_and_nobody_else(self, completion: str, reward: float) -> None:
        assert load_reward("knights_and_knaves")(completion, self.GOLD, {}) == reward
        assert load_reward("knights_and_knaves")(completion, {"solution_text_format": self.GOLD}, {}) == reward

    def test_an_answer_without_identities_is_an_error(self) -> None:
        with pytest.raises(CurriculaError, match="has no line like"):
            load_reward("knights_and_knaves")("", "42", {})

    @pytest.mark.skipif(not PUZZLES.exists(), reason="the shared data set of puzzles is not beside this checkout")
    def test_all_published_puzzles(self) -> None:
        """Every solution is right in its own words, and wrong with one person turned round."""
        parquet = pytest.importorskip("pyarrow.parquet")
        reward = load_reward("knights_and_knaves")
        answers = [
            row["ground_truth"]
            for level in range(3, 8)
            for row in parquet.read_table(PUZZLES / f"{level}ppl/test.parquet").column("reward_model").to_pylist()
        ]
        assert len(answers) == 500
        for answer in answers:
            text = answer["solution_text_format"]
            first, _, rest = text.partition("\n")
            turned = first.replace("knight", "KNAVE").replace("knave", "knight").replace("KNAVE", "knave")
            assert reward(f"<answer>{text}</answer>", answer, {}) == 1.0
            assert reward(f"<answer>{turned}\n{rest}</answer>", answer, {}) == 0.0
