"""Prompt files in verl's schema, in TRL's, and with mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curricula.types import CurriculaError
from rollout.rewards import load_reward
from rollout.tasks import build_task

PUZZLES = Path(__file__).parents[3] / "shared" / "data" / "logic_rl_kk" / "3ppl"


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def trl_rows(n: int = 200) -> list[dict[str, Any]]:
    return [{"prompt": f"What is {i} + {i}?", "answer": str(2 * i), "level": "low" if i < 100 else "high"} for i in range(n)]


def verl_rows(n: int = 50) -> list[dict[str, Any]]:
    return [
        {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": f"{i}+1"}],
            "reward_model": {"style": "rule", "ground_truth": str(i + 1)},
            "extra_info": {"index": i, "level": i % 3},
        }
        for i in range(n)
    ]


def test_trl_schema_with_a_share_held_out(tmp_path: Path) -> None:
    task = build_task(
        {"name": "prompt_file", "train": write(tmp_path / "a.jsonl", trl_rows()), "distribution_column": "level", "reward": "exact"}
    )
    train, held_out = task.build(0)
    assert len(train) + len(held_out) == 200
    assert 5 <= len(held_out) <= 40
    assert not set(train.pool.ids) & set(held_out.pool.ids)
    assert train.pool.distribution_names == ("high", "low")
    assert [prompt.id for prompt in task.build(7)[1].prompts] == [prompt.id for prompt in held_out.prompts]


def test_verl_schema_in_parquet_with_a_nested_distribution(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(verl_rows()), tmp_path / "a.parquet")
    task = build_task(
        {"name": "prompt_file", "train": str(tmp_path / "a.parquet"), "distribution_column": "extra_info.level", "reward": "exact"}
    )
    train, _ = task.build(0)
    assert train.pool.distribution_names == ("0", "1", "2")
    first = train.prompts[0]
    assert first.content == [{"role": "user", "content": f"{first.extra['index']}+1"}]
    assert first.answer == str(first.extra["index"] + 1)


def test_a_template_goes_around_text(tmp_path: Path) -> None:
    spec = {
        "name": "prompt_file",
        "train": write(tmp_path / "a.jsonl", trl_rows()),
        "prompt_template": "Q: {prompt} A:",
        "form": "chat",
    }
    train, _ = build_task({**spec, "reward": "exact"}).build(0)
    assert train.prompts[0].content == [
        {"role": "user", "content": f"Q: {trl_rows()[int(train.prompts[0].answer) // 2]['prompt']} A:"}
    ]


def test_a_rendered_conversation_in_one_message_is_text(tmp_path: Path) -> None:
    text = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n"
    rows = [{"prompt": [{"role": "user", "content": text}], "answer": "2", "data_source": "x"}, *verl_rows()]
    train, held_out = build_task({"name": "prompt_file", "train": write(tmp_path / "a.jsonl", rows), "reward": "exact"}).build(0)
    content = [prompt.content for prompt in (*train.prompts, *held_out.prompts) if prompt.distribution == "x"]
    assert content == [text]


def test_rewards_outside_zero_and_one_are_declared_with_their_range(tmp_path: Path) -> None:
    reward = {"name": "exact", "low": -1.0, "high": 3.0}
    train, _ = build_task({"name": "prompt_file", "train": write(tmp_path / "a.jsonl", trl_rows()), "reward": reward}).build(0)
    assert (train.reward.low, train.reward.high) == (-1.0, 3.0)


@pytest.mark.skipif(not PUZZLES.exists(), reason="the shared data set of puzzles is not beside this checkout")
def test_knights_and_knaves_in_verl_format() -> None:
    spec = {"name": "prompt_file", "train": str(PUZZLES / "train.parquet"), "held_out": str(PUZZLES / "test.parquet")}
    train, held_out = build_task({**spec, "reward": "knights_and_knaves"}).build(0)
    assert (len(train), len(held_out)) == (900, 100)
    prompt = train.prompts[0]
    reward = load_reward("knights_and_knaves")
    solution = str(prompt.answer if isinstance(prompt.answer, str) else prompt.answer["solution_text_format"])
    assert reward(f"<answer>{solution}</answer>", prompt.answer, prompt.extra) == 1.0
    assert reward("<answer>(1) Nobody is a knight</answer>", prompt.answer, prompt.extra) == 0.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"it has no rows"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", r"a Git LFS pointer, not the data"),
        ('{"prompt": "a", "answer": "1"}\n{"prompt": "b", "ans', r"line 2: not JSON"),
        ("[1]\n", r"line 1: expected a JSON object"),
        (
            '{"question": "a", "answer": "1"}\n',
            r"line 1: no column 'prompt'; it has question, answer; name the right one in task\.prompt_column",
        ),
        ('{"prompt": "a", "reply": "1"}\n', r"no column 'reward_model\.ground_truth' or 'answer' .*task\.answer_column"),
        ('{"prompt": "a", "answer": null}\n', r"line 1: the answer is null"),
        ('{"prompt": 3, "answer": "1"}\n', r"expected text or chat messages"),
        ('{"prompt": "a", "answer": "1"}\n' * 2, r"appears more than once"),
    ],
)
def test_mistakes_name_file_and_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(CurriculaError, match=message) as caught:
        build_task({"name": "prompt_file", "train": str(path), "reward": "exact"}).build(0)
    assert "bad.jsonl" in str(caught.value)


def test_an_unfinished_parquet_file_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(verl_rows()), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    with pytest.raises(CurriculaError, match=r"a\.parquet: cannot be read as Parquet"):
        build_task({"name": "prompt_file", "train": str(tmp_path / "a.parquet"), "reward": "exact"}).build(0)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CurriculaError, match="there is no such file"):
        build_task({"name": "prompt_file", "train": str(tmp_path / "none.jsonl")}).build(0)
