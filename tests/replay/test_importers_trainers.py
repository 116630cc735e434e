"""Logs of prime-rl, NeMo-RL, open-instruct, slime and AReaL: each format's corners, and damaged files."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import pickle
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from curricula.types import CurriculaError, Status
from replay.importers import build, known_formats, read
from replay.types import LoggedRun
from rollout.rows import id_from_text

Rows = list[dict[str, Any]]
NO_TRAINER_SAYS = {"propensity", "arm probability"}
needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="PyTorch reads slime's files")


def jsonl(path: Path, rows: Rows) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def groups(run: LoggedRun) -> list[tuple[int, str, list[float]]]:
    """Step, prompt and rewards of each group; NaN as None."""
    return [
        (
            int(run.step_G[g]),
            str(run.pool.ids[run.prompt_G[g]]),
            [None if math.isnan(r) else float(r) for r in run.reward_R[run.group_R == g]],
        )
        for g in range(len(run))
    ]


# --- what each trainer writes


def trace(
    rewards: dict[str, Any], ok: bool = True, agent: str = "agent", trainable: bool = True, n_tokens: int = 3
) -> dict[str, Any]:
    return {
        "version": 1,
        "agent": {"name": agent, "trainable": trainable},
        "nodes": [
            {"message": {"role": "user", "content": "q"}, "sampled": False, "token_ids": [], "mask": []},
            {
                "parent": 0,
                "message": {"role": "assistant", "content": "a"},
                "sampled": True,
                "token_ids": [1] * n_tokens,
                "mask": [True] * n_tokens,
                "advantages": [0.7] * n_tokens,
            },
        ],
        "rewards": rewards,
        "metrics": {},
        "is_completed": True,
        "ok": ok,
        "is_timeout": False,
        "errors": [],
        "num_output_tokens": 0,
    }


def scored(right: float, style: float = 0.5) -> dict[str, Any]:
    return {"right": {"score": right, "weight": 1.0}, "style": {"score": style, "weight": -0.5}}


def episode(id: str, group: str, traces: Rows, ok: bool = True, key: str = "k1", step: int = 3) -> dict[str, Any]:
    return {
        "id": id,
        "env": {"id": "gsm8k", "name": "sums"},
        "task": {"type": "T", "data": {"idx": 0, "prompt": "q"}, "key": key, "hash": "h"},
        "group": {"id": group},
        "run": {"type": "train", "id": "r", "work": {"type": "train", "step": step, "policy": {"start": 2, "end": 4}}},
        "ok": ok,
        "is_timeout": False,
        "errors": [],
        "traces": traces,
        "num_output_tokens": 0,
    }


PRIME: Rows = [
    episode("e1", "g2", [trace(scored(1.0, 0.0))], key="k2"),
    episode("e2", "g1", [trace(scored(1.0))], step=1),
    episode("e3", "g1", [trace(scored(1.0), ok=False)], ok=False, step=1),  # failed after it was scored
    episode("e4", "g1", [], ok=False, step=1) | {"is_timeout": True},  # failed before there was a trace
    episode("e5", "g1", [trace({"right": None})], step=1),
]


def nemo(prompt: list[int], written: int, reward: float, idx: int, pad: int = 2, **more: Any) -> dict[str, Any]:
    n, m = len(prompt), written
    values = {
        "content": ["q", "a", "Environment: correct"],
        "rewards": reward,
        **more,
        "input_lengths": n + m + 1,
        "token_ids": [*prompt, *range(50, 50 + m), 9, *[0] * pad],
        "token_loss_mask": [*[0] * n, *[1] * m, 0, *[0] * pad],
        "sample_loss_mask": 1.0,
        "advantages": [0.0] * (n + m + 1 + pad),
        "generation_logprobs": [0.0] * (n + m + 1 + pad),
        "prev_logprobs": [0.0] * (n + m + 1 + pad),
    }
    return {key: [value] for key, value in values.items()} | {"idx": idx}


NEMO: Rows = [nemo([1, 2], 3, 1.0, 0), nemo([1, 2], 1, 0.0, 1), nemo([1], 2, 0.5, 2), nemo([1], 4, 1.0, 3)]


def open_row(step: int, sample: int, prompt: list[int], reward: float, **more: Any) -> dict[str, Any]:
    return {
        "step": step,
        "sample_idx": sample,
        "prompt_idx": sample // 2,
        "prompt_tokens": prompt,
        "response_tokens": [7] * (sample + 1),
        "reward": reward,
        "advantage": 0.0,
        "finish_reason": "stop",
        "dataset": "gsm8k",
        "ground_truth": [4],
        "request_info": None,
        "logprobs": [math.nan],
    } | more


OPEN: Rows = [
    open_row(1, 0, [1], 10.0),
    open_row(1, 1, [1], 0.0),
    open_row(1, 2, [1], 10.0),  # the same prompt, drawn again
    open_row(1, 3, [1], 2.5),
    open_row(0, 0, [2, 3], 0.0, dataset=["math", "ifeval"]),
    open_row(0, 1, [2, 3], 10.0, dataset=["math", "ifeval"]),
]
TEN = {"name": "open_instruct", "reward_range": [0, 10]}


def areal_row(version: int, task: int, sample: int, reward: float, prompt: str = "q", length: int = 9) -> dict[str, Any]:
    return {
        "task_id": task,
        "sample_idx": sample,
        "seqlen": length,
        "prompt_len": 5,
        "head_version": -1,
        "tail_version": version,
        "reward": reward,
        "prompt": prompt,
        "completion": "a",
    }


AREAL: Rows = [areal_row(10, 3, 0, 1.0), areal_row(10, 3, 2, 0.0, length=5)]


def sample(index: int, group: int, reward: Any, status: str = "completed", **more: Any) -> dict[str, Any]:
    return {
        "group_index": group,
        "index": index,
        "rollout_id": None,
        "prompt": f"q{group % 10}",
        "tokens": [1, 2, 3],
        "response": "a",
        "response_length": 2,
        "label": "4",
        "reward": reward,
        "loss_mask": None,
        "weight_versions": ["3", "2"],
        "rollout_log_probs": [-0.5, -0.1],
        "status": status,
        "metadata": {"id": f"m{group}", "source": "sums"},
        "remove_sample": False,
    } | more


SLIME: Rows = [
    sample(0, 10, 1.0),
    sample(1, 10, 0.25, "truncated"),
    sample(2, 10, None, "truncated"),
    sample(3, 10, 0.0, "failed"),
    sample(4, 11, 0.0, "aborted"),
    sample(5, 11, 1, "pending"),
    sample(6, 11, None, "pending"),
    sample(7, 11, None),
]


def saved(path: Path, samples: Rows, step: Any = 4) -> Path:
    torch = pytest.importorskip("torch")
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"rollout_id": step, "samples": samples}, path)
    return path


# name -> file name, rows, settings, for what holds of every format of rows
FORMATS: dict[str, tuple[str, Rows, dict[str, Any]]] = {
    "prime_rl": ("traces.jsonl", PRIME, {}),
    "nemo_rl": ("train_data_step7.jsonl", NEMO, {}),
    "open_instruct": ("run_rollouts_000000.jsonl", OPEN, {"reward_range": [0, 10]}),
    "areal": ("3.jsonl", AREAL, {}),
}


def one(tmp_path: Path, name: str, rows: Rows | None = None) -> tuple[Path, dict[str, Any]]:
    """A file of the format, and how it is named."""
    file, own, more = FORMATS[name]
    return jsonl(tmp_path / file, own if rows is None else rows), {"name": name, **more}


# --- prime-rl


def test_prime_rl_sums_weighted_rewards_and_keeps_failures(tmp_path: Path) -> None:
    run = read(jsonl(tmp_path / "all" / "traces.jsonl", PRIME))
    assert groups(run) == [(1, "sums/k1", [0.75, None, None, None]), (3, "sums/k2", [1.0])]
    assert run.group_R.tolist() == [1, 0, 0, 0, 0]
    assert run.status_R.tolist() == [Status.OK, Status.OK, Status.ERROR, Status.TIMEOUT, Status.INVALID]
    assert run.n_tokens_R.tolist() == [3, 3, 3, -1, 3]
    assert run.policy_version_R.tolist() == [2] * 5
    assert run.pool.distribution_names == ("sums",)
    assert run.kept_G.tolist() == [2, 2]
    assert run.lacks == NO_TRAINER_SAYS | {"tokens"}  # of the one without a trace


def prime_run(folder: Path) -> None:
    """As the trainer lays it out, with its metrics and evaluations beside."""
    jsonl(folder / "metrics.jsonl", [{"step": 1}])
    for step in (10, 2):
        rows = [
            episode(f"{step}{i}", f"g{step}{i // 2}", [trace(scored(i % 2, 0.0))], step=step, key=f"k{i // 2}") for i in range(4)
        ]
        jsonl(folder / f"rollouts/step_{step}/train/all/traces.jsonl", rows)
        jsonl(folder / f"rollouts/step_{step}/train/effective/traces.jsonl", rows[2:])
        jsonl(folder / f"rollouts/step_{step}/eval/all/traces.jsonl", [row | {"id": "x" + row["id"]} for row in rows])


@pytest.mark.parametrize("below", [".", "rollouts"])
def test_prime_rl_reads_a_run_and_says_which_groups_entered(tmp_path: Path, below: str) -> None:
    prime_run(tmp_path)
    run = read(tmp_path / below)
    assert groups(run) == [(step, f"sums/k{i}", [0.0, 1.0]) for step in (2, 10) for i in (0, 1)]
    assert run.kept_G.tolist() == [0, 1, 0, 1]
    assert run.lacks == NO_TRAINER_SAYS
    effective = read(tmp_path / below, {"name": "prime_rl", "subset": "effective"})
    assert groups(effective) == [(2, "sums/k1", [0.0, 1.0]), (10, "sums/k1", [0.0, 1.0])]
    assert effective.kept_G.tolist() == [1, 1]
    assert effective.lacks == NO_TRAINER_SAYS | {"rejected groups"}


def test_prime_rl_reads_parts_of_a_run(tmp_path: Path) -> None:
    prime_run(tmp_path)
    step = tmp_path / "rollouts" / "step_2"
    assert len(read(step)) == len(read(step / "train")) == len(read(step / "train" / "all")) == 2
    assert "rejected groups" not in read(step / "train" / "all").lacks
    assert read(step / "train" / "effective" / "traces.jsonl").kept_G.tolist() == [1]
    elsewhere = jsonl(tmp_path / "copy.jsonl", PRIME)
    assert "rejected groups" in read(elsewhere).lacks
    (step / "none").mkdir()
    with pytest.raises(CurriculaError, match=r"expected a folder with step_<number>/train/all/traces\.jsonl below it, got none"):
        read(tmp_path / "rollouts" / "step_2" / "none", "prime_rl")


def test_prime_rl_takes_the_agent_that_it_is_told(tmp_path: Path) -> None:
    two = [
        trace(scored(1.0, 0.0), agent="solver"),
        trace(scored(0.25, 0.0), agent="judge"),
        trace({}, agent="user", trainable=False),
    ]
    path = jsonl(tmp_path / "a.jsonl", [episode("e", "g", two)])
    with pytest.raises(
        CurriculaError, match=r"line 1: traces: expected one trainable trace, got 2; the agents are solver, judge, user"
    ):
        read(path)
    with pytest.raises(CurriculaError, match=r"expected one trainable trace of agent 'user', got 0"):
        read(path, {"name": "prime_rl", "agent": "user"})
    assert groups(read(path, {"name": "prime_rl", "agent": "judge"})) == [(3, "sums/k1", [0.25])]


def test_prime_rl_without_groups_and_keys_says_so(tmp_path: Path) -> None:
    rows = [
        {key: value for key, value in row.items() if key not in ("group", "run")} | {"task": {"data": {"prompt": f"q{i}"}}}
        for i, row in zip((1, 2, 1), PRIME, strict=False)
    ]
    run = read(jsonl(tmp_path / "a.jsonl", rows))
    assert [sorted(r for r in rewards if r is not None) for _, _, rewards in groups(run)] == [[1.0], [0.75]]
    assert run.group_R.tolist() == [0, 1, 0]
    assert {"group id", "prompt id", "step", "policy version"} <= run.lacks
    assert run.pool.ids[0] == id_from_text("sums", {"prompt": "q1"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, r"id: expected a text that no earlier episode has, got 'e1' \(str\); was a log read twice\?"),
        ({"id": 7}, r"id: expected a text that no earlier episode has, got 7"),
        ({"id": "e6", "group": None}, r"group: expected a group as in .*line 1, got no group"),
        ({"id": "e6", "group": {"id": 2}}, r"group\.id: expected text as in .*line 1, got a whole number"),
        ({"id": "e6", "task": {"data": {}}}, r"task\.key: expected a key as in .*line 1, got no key"),
        ({"id": "e6", "task": {"key": 3}}, r"task\.key: expected a text, got 3"),
        ({"id": "e6", "task": {"key": "k3"}}, r"another prompt than in the earlier rows of its group"),
        ({"id": "e6", "run": {"work": {"type": "train", "step": 4}}}, r"another step than in the earlier rows of its group"),
        (
            {"id": "e6", "run": {"work": {"type": "eval", "step": 3}}},
            r"run\.work\.type: expected 'train' \(str\) as in .*line 1, got 'eval'",
        ),
        ({"id": "e6", "run": {"type": "eval"}}, r"run\.work\.type: expected 'train' .*got 'no training'"),
        ({"id": "e6", "ok": 1}, r"ok: expected true or false, got 1 \(int\)"),
        ({"id": "e6", "traces": {}}, r"traces: expected a list of objects, got \{\}"),
        ({"id": "e6", "traces": [trace([])]}, r"rewards: expected an object of named rewards, got \[\]"),
        ({"id": "e6", "traces": [trace({"a": 1.0})]}, r"rewards\.a: expected an object with score and weight, got 1\.0"),
        ({"id": "e6", "traces": [trace({"a": {"score": 1.0}})]}, r"no field 'weight'; it has score"),
        ({"id": "e6", "traces": [trace({"a": {"score": "1", "weight": 1}})]}, r"rewards\.a\.score: expected a number, got '1'"),
        ({"id": "e6", "traces": [trace(scored(3.0))]}, r"reward 2\.75 lies outside 0\.\.1; .*reward_range"),
    ],
)
def test_prime_rl_mistakes(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CurriculaError, match=r"a\.jsonl: line 6: " + message):
        read(jsonl(tmp_path / "a.jsonl", [*PRIME, PRIME[0] | change]))


def test_prime_rl_as_verifiers_writes_it(tmp_path: Path) -> None:
    vf = pytest.importorskip("verifiers.v1", reason="the verifiers package is not installed")
    agent = importlib.import_module("verifiers.v1.configs.agent")
    rows: Rows = []
    for i, (group, right, ok) in enumerate([("a", 1.0, True), ("b", 0.0, True), ("a", None, False), ("a", 0.5, True)]):
        task = vf.TraceTask(type="T", data=vf.WireTaskData(idx=0, prompt=f"q{group}"), key=f"key{group}")
        one = vf.WireTrace(task=task, agent=vf.AgentInfo(config=agent.WireAgentConfig()), ok=ok, is_completed=True)
        answer = vf.AssistantMessage(content="a")
        one.nodes = [
            vf.MessageNode(message=vf.UserMessage(content="q")),
            vf.MessageNode(parent=0, sampled=True, message=answer, token_ids=[1] * i, mask=[True] * i, advantages=[0.1] * i),
        ]
        if right is None:
            one.rewards["right"] = None
        else:
            one.record_reward("right", right, 0.5)
            one.record_reward("style", 1.0, 0.25)
            assert one.reward == right * 0.5 + 0.25
        work = vf.TrainWorkInfo(step=5, policy=vf.PolicySpan(start=3, end=4))
        whole = vf.WireEpisode(task=task, env=vf.EnvInfo(id="e"), ok=ok, traces=[one], group=vf.GroupInfo(id=group))
        whole.record_run(vf.TrainRunInfo(id="r", work=work))
        rows.append(whole.to_record())
    run = read(jsonl(tmp_path / "all" / "traces.jsonl", rows))
    assert groups(run) == [(5, "e/keya", [0.75, None, 0.5]), (5, "e/keyb", [0.25])]
    assert run.status_R.tolist() == [Status.OK, Status.OK, Status.ERROR, Status.OK]
    assert run.n_tokens_R.tolist() == [-1, 1, 2, 3]
    assert run.policy_version_R.tolist() == [3] * 4


# --- NeMo-RL


@pytest.mark.parametrize("listed", [True, False])
def test_nemo_rl_rebuilds_groups_from_prompt_tokens(tmp_path: Path, listed: bool) -> None:
    rows = NEMO if listed else [{key: value if key == "idx" else value[0] for key, value in row.items()} for row in NEMO]
    run = read(jsonl(tmp_path / "train_data_step7.jsonl", rows))
    a, b = id_from_text("all", [1, 2]), id_from_text("all", [1])
    assert groups(run) == [(7, a, [1.0, 0.0]), (7, b, [0.5, 1.0])]
    assert run.n_tokens_R.tolist() == [3, 1, 2, 4]
    assert run.kept_G.tolist() == [1, 1]
    assert run.lacks == NO_TRAINER_SAYS | {"group id", "prompt id", "status", "policy version"}


def test_nemo_rl_reads_a_folder_in_order_and_leaves_validation_out(tmp_path: Path) -> None:
    for step in (10, 9):
        jsonl(tmp_path / f"train_data_step{step}.jsonl", [nemo([1, 2], 3, step / 10, 0, agent_ref={"name": f"agent{step}"})])
    jsonl(tmp_path / "val_data_step9.jsonl", [{"content": ["q"], "rewards": [1.0], "idx": 0}])
    run = read(tmp_path)
    assert [(step, rewards) for step, _, rewards in groups(run)] == [(9, [0.9]), (10, [1.0])]
    assert run.pool.distribution_names == ("agent10", "agent9")
    renamed = read((tmp_path / "train_data_step9.jsonl").rename(tmp_path / "a.jsonl"))
    assert "step" in renamed.lacks


def test_nemo_rl_with_dynamic_sampling_reads_the_rewards_of_the_row(tmp_path: Path) -> None:
    rows = [nemo([1, 2], 3, reward, i, filtered_rewards=filtered) for i, (reward, filtered) in enumerate([(0.0, 1.0), (0.0, 0.25)])]
    rows[1]["rewards"] = []  # the other batch was shorter
    run = read(jsonl(tmp_path / "train_data_step1.jsonl", rows))
    assert [rewards for _, _, rewards in groups(run)] == [[1.0, 0.25]]
    assert "rejected groups" in run.lacks
    with pytest.raises(CurriculaError, match=r"line 2: filtered_rewards: expected it as in .*line 1, got none of it"):
        read(jsonl(tmp_path / "train_data_step2.jsonl", [rows[0], NEMO[1]]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": []}, r"rewards: expected one value in a list, got 0 values; were columns of unequal lengths logged\?"),
        ({"rewards": [1.0, 0.0]}, r"rewards: expected one value in a list, got 2 values"),
        ({"token_ids": []}, r"token_ids: expected one value in a list, got 0 values"),
        ({"token_ids": [[1, 2]]}, r"token_loss_mask: expected 2 values, one per token, got 8"),
        ({"token_ids": [[1, "2"]]}, r"token_ids: expected a list of whole numbers"),
        ({"token_loss_mask": [[0.5] * 8]}, r"token_loss_mask: expected a list of whole numbers"),
        ({"token_loss_mask": [[math.nan] * 8]}, r"token_loss_mask: expected a list of whole numbers"),
        ({"token_loss_mask": [[1] * 8]}, r"token_loss_mask: expected a prompt, then tokens of the policy"),
        ({"input_lengths": [4]}, r"token_loss_mask: .* all before input_lengths = 4; got 8 tokens"),
        ({"rewards": 1.0}, r"rewards: expected a list of one as in .*line 1, got a plain value"),
        ({"idx": 7}, r"idx: expected 4, the row's number in its file, got 7 \(int\); are rows missing"),
        ({"rewards": ["1"]}, r"rewards: expected a number, got '1'"),
    ],
)
def test_nemo_rl_mistakes(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = jsonl(tmp_path / "train_data_step7.jsonl", [*NEMO, nemo([1, 2], 3, 1.0, 4) | change])
    with pytest.raises(CurriculaError, match=r"train_data_step7\.jsonl: line 5: " + message):
        read(path)


def test_nemo_rl_without_tokens_is_refused(tmp_path: Path) -> None:
    rows = [{key: value for key, value in row.items() if not key.startswith("token_")} for row in NEMO]
    with pytest.raises(CurriculaError, match=r"line 1: no field 'token_ids'; it has content, rewards"):
        read(jsonl(tmp_path / "train_data_step7.jsonl", rows))


# --- open-instruct


def test_open_instruct_keeps_draws_apart_and_names_its_scale(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "run_rollouts_000000.jsonl", OPEN)
    with pytest.raises(CurriculaError, match=r"line 1: reward 10 lies outside 0\.\.1; .*name the range .*reward_range"):
        read(path)
    run = read(path, TEN)
    a, b = id_from_text("gsm8k", [1]), id_from_text("math+ifeval", [2, 3])
    assert groups(run) == [(0, b, [0.0, 10.0]), (1, a, [10.0, 0.0]), (1, a, [10.0, 2.5])]
    assert run.score_R.tolist() == [1.0, 0.0, 1.0, 0.25, 0.0, 1.0]
    assert run.n_tokens_R.tolist() == [1, 2, 3, 4, 1, 2]
    assert run.pool.distribution_names == ("gsm8k", "math+ifeval")
    assert run.lacks == NO_TRAINER_SAYS | {"prompt id", "rejected groups", "status", "policy version"}


def test_open_instruct_reads_the_shards_of_one_run(tmp_path: Path) -> None:
    jsonl(tmp_path / "run_metadata.jsonl", [{"run_name": "run", "git_commit": "c", "model_name": "m", "timestamp": "t"}])
    jsonl(tmp_path / "run_rollouts_000001.jsonl", OPEN[4:])
    jsonl(tmp_path / "run_rollouts_000000.jsonl", OPEN[:4])
    assert build("open_instruct").detect(tmp_path)
    assert read(tmp_path, TEN).group_R.tolist() == [1, 1, 2, 2, 0, 0]
    jsonl(tmp_path / "other_rollouts_000000.jsonl", OPEN[:4])
    with pytest.raises(CurriculaError, match=r"rollouts_\*\.jsonl of one run, got other, run; read runs apart"):
        read(tmp_path, TEN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, r"sample_idx: 1 came before in step 0; .*did a resumed run append"),
        (
            {"sample_idx": 2, "prompt_tokens": [5]},
            r"another prompt than in the earlier rows of its group",
        ),  # truncated rows left out
        ({"sample_idx": 2, "prompt_tokens": []}, r"prompt_tokens: expected a list of token ids, got \[\]"),
        ({"sample_idx": 2, "response_tokens": "abc"}, r"response_tokens: expected a list of token ids, got 'abc'"),
        ({"sample_idx": 2, "response_tokens": [1.5]}, r"response_tokens: expected a list of token ids"),
        ({"sample_idx": 2, "dataset": []}, r"dataset: expected a name or a list of names, got \[\]"),
        ({"sample_idx": 2, "dataset": None}, r"dataset: expected a name or a list of names, got None"),
        ({"sample_idx": "2"}, r"sample_idx: expected a whole number from 0 on, got '2'"),
        ({"sample_idx": 2, "reward": "10"}, r"reward: expected a number, got '10'"),
    ],
)
def test_open_instruct_mistakes(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CurriculaError, match=r"rollouts_000000\.jsonl: line 7: " + message):
        read(jsonl(tmp_path / "run_rollouts_000000.jsonl", [*OPEN, OPEN[-1] | change]), TEN)


# --- AReaL


def test_areal_reads_versions_and_tasks_in_order(tmp_path: Path) -> None:
    jsonl(tmp_path / "rollout" / "10" / "3.jsonl", AREAL)
    jsonl(tmp_path / "rollout" / "2" / "11.jsonl", [areal_row(2, 11, i, i / 2) for i in range(3)])
    jsonl(tmp_path / "rollout" / "2" / "3.jsonl", [areal_row(2, 3, 0, 0.0, "other")])  # numbered from 0 again after a restart
    run = read(tmp_path / "rollout")
    q, other = id_from_text("all", "q"), id_from_text("all", "other")
    assert groups(run) == [(2, other, [0.0]), (2, q, [0.0, 0.5, 1.0]), (10, q, [1.0, 0.0])]
    assert run.n_tokens_R.tolist() == [4, 4, 4, 4, 4, 0]
    assert run.kept_G.tolist() == [2, 2, 2]
    assert run.lacks == NO_TRAINER_SAYS | {"prompt id", "status", "policy version"}
    assert len(read(tmp_path / "rollout" / "2")) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, r"sample_idx: 2 of task 3 came before at version 10; .*several workers or a restarted run"),
        ({"sample_idx": 3, "prompt": "q, a, and on"}, r"another prompt than in the earlier rows of its group"),
        ({"sample_idx": 3, "prompt_len": 6}, r"prompt_len: expected at most seqlen = 5, got 6"),
        ({"sample_idx": 3, "tail_version": -1}, r"tail_version: expected a whole number from 0 on, got -1"),
        ({"sample_idx": 3, "reward": [1.0]}, r"reward: expected a number, got \[1\.0\]"),
        ({"sample_idx": 3, "prompt": None}, r"prompt: expected text or chat messages, got None"),
    ],
)
def test_areal_mistakes(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CurriculaError, match=r"3\.jsonl: line 3: " + message):
        read(jsonl(tmp_path / "3.jsonl", [*AREAL, AREAL[-1] | change]))


# --- slime


def test_slime_groups_statuses_and_versions(tmp_path: Path) -> None:
    run = read(saved(tmp_path / "4.pt", SLIME))
    q0, q1 = id_from_text("all", "q0"), id_from_text("all", "q1")
    assert groups(run) == [(4, q0, [1.0, 0.25, None, None]), (4, q1, [None, 1.0, None, None])]
    ok, cut, lost = Status.OK, Status.TRUNCATED, Status.LOST
    assert run.status_R.tolist() == [ok, ok, cut, Status.ERROR, lost, ok, lost, Status.INVALID]
    assert run.n_tokens_R.tolist() == [2] * 8
    assert run.policy_version_R.tolist() == [2] * 8
    assert run.kept_G.tolist() == [1, 1]
    assert run.lacks == NO_TRAINER_SAYS | {"prompt id", "rejected groups"}


def test_slime_takes_the_fields_that_it_is_told(tmp_path: Path) -> None:
    path = saved(tmp_path / "4.pt", [sample(i, 10, {"acc": i / 2, "style": 7}, weight_versions=["default"]) for i in range(3)])
    with pytest.raises(
        CurriculaError, match=r"4\.pt: sample 1: reward: a mapping of acc, style; name the entry that counts: reward_key"
    ):
        read(path)
    run = read(path, {"name": "slime", "reward_key": "acc", "id": "metadata.id", "distribution": "metadata.source"})
    assert groups(run) == [(4, "m10", [0.0, 0.5, 1.0])]
    assert run.pool.distribution_names == ("sums",)
    assert run.lacks == NO_TRAINER_SAYS | {"policy version", "rejected groups"}
    with pytest.raises(CurriculaError, match=r"sample 1: no field 'reward\.accuracy'"):
        read(path, {"name": "slime", "reward_key": "accuracy"})
    with pytest.raises(CurriculaError, match=r"sample 1: reward: expected a mapping with 'acc', got 1\.0"):
        read(saved(tmp_path / "5.pt", SLIME), {"name": "slime", "reward_key": "acc"})


def test_slime_joins_the_parts_of_one_rollout(tmp_path: Path) -> None:
    parts = [
        sample(i, 10, reward, rollout_id=rollout) for i, (reward, rollout) in enumerate([(1.0, 8), (1.0, 8), (0.5, 9), (1, 8)])
    ]
    run = read(saved(tmp_path / "4.pt", parts))
    assert groups(run) == [(4, id_from_text("all", "q0"), [1.0, 0.5])]
    assert run.n_tokens_R.tolist() == [6, 2]
    with pytest.raises(CurriculaError, match=r"sample 5: rollout_id: expected the group, reward and status of the earlier samples"):
        read(saved(tmp_path / "5.pt", [*parts, sample(4, 10, 0.0, rollout_id=8)]))


def test_slime_reads_a_folder_and_leaves_evaluations_out(tmp_path: Path) -> None:
    for step in (10, 9):
        saved(tmp_path / f"{step}.pt", [sample(0, 10, step / 10)], step)
    evaluation = saved(tmp_path / "eval_9.pt", [sample(0, 10, 0.5)], 9)
    run = read(tmp_path)
    assert [(step, rewards) for step, _, rewards in groups(run)] == [(9, [0.9]), (10, [1.0])]
    assert run.source.endswith("(1 evaluations left out)")
    with pytest.raises(CurriculaError, match=r"eval_9\.pt: expected \.pt files of training rollouts, got evaluations only"):
        read(evaluation)
    saved(tmp_path / "copy_9.pt", SLIME, 9)
    with pytest.raises(CurriculaError, match=r"rollout_id: 9 is that of .*pt too; expected one file per step"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"group_index": None}, r"group_index: expected a whole number from 0 on, got None"),
        ({"status": "done"}, r"status: expected completed, truncated, pending, aborted, failed, got 'done'"),
        ({"status": ["failed"]}, r"status: expected completed"),
        ({"reward": "1"}, r"reward: expected a number, got '1'"),
        ({"response_length": -1}, r"response_length: expected a whole number from 0 on, got -1"),
        ({"prompt": ""}, r"prompt: expected text or chat messages, got ''"),
        ({"prompt": "another"}, r"another prompt than in the earlier rows of its group"),
        ({"reward": 5.0}, r"reward 5 lies outside 0\.\.1"),
    ],
)
def test_slime_mistakes(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(CurriculaError, match=r"4\.pt: sample 9: " + message):
        read(saved(tmp_path / "4.pt", [*SLIME, sample(8, 10, 1.0) | change]))


@needs_torch
def test_slime_refuses_what_is_no_rollout_file(tmp_path: Path) -> None:
    import torch

    path = tmp_path / "4.pt"
    for held, message in [
        ({"weight": torch.zeros(2)}, "expected a mapping with samples, a list of mappings, got dict without"),
        ([SLIME], "got list without"),
        ({"rollout_id": 4, "samples": {"a": 1}}, "got dict without"),
        ({"rollout_id": "4", "samples": SLIME}, "rollout_id: expected a whole number from 0 on, got '4'"),
        ({"rollout_id": 4, "samples": []}, "it has no rows"),
    ]:
        torch.save(held, path)
        with pytest.raises(CurriculaError, match=message):
            read(path)
    torch.save({"rollout_id": 4, "samples": SLIME}, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CurriculaError, match=r"4\.pt: cannot be read as a file of torch\.save \(File is not a zip file\)"):
        read(path)


class Bomb:
    """Unpickling it makes a folder."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


@needs_torch
@pytest.mark.parametrize("where", ["top", "samples", "reward", "metadata"])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, where: str) -> None:
    import torch

    marker, path = tmp_path / "made", tmp_path / "4.pt"
    bomb = Bomb(marker)
    held: Any = {
        "top": bomb,
        "samples": {"rollout_id": 4, "samples": bomb},
        "reward": {"rollout_id": 4, "samples": [sample(0, 1, bomb)]},
        "metadata": {"rollout_id": 4, "samples": [sample(0, 1, 1.0, metadata={"id": bomb})]},
    }[where]
    torch.save(held, path)
    for format in (None, "slime"):
        with pytest.raises(
            CurriculaError, match=r"4\.pt: expected plain values and tensors, got an object of \w+\.mkdir; .*refused"
        ):
            read(path, format)
        assert not marker.exists()
    torch.load(path, weights_only=False)  # the file is what it is meant to be
    assert marker.exists()


@needs_torch
def test_a_bare_malicious_pickle_runs_nothing(tmp_path: Path) -> None:
    marker, path = tmp_path / "made", tmp_path / "4.pt"
    path.write_bytes(pickle.dumps(Bomb(marker)))
    with pytest.raises(CurriculaError, match=r"File is not a zip file"):
        read(path)
    with zipfile.ZipFile(path, "w") as archive:  # a zip, but not one of torch.save
        archive.writestr("4/data.pkl", pickle.dumps(Bomb(marker)))
    with pytest.raises(CurriculaError, match=r"4\.pt: "):
        read(path)
    assert not marker.exists()


def test_slime_objects_of_other_packages_are_named(tmp_path: Path) -> None:
    path = saved(tmp_path / "4.pt", [sample(0, 1, 1.0, status=Status.OK)])
    with pytest.raises(
        CurriculaError, match=r"got an object of curricula\.types\.Status; loading it could run code, so it is refused"
    ):
        read(path)


def test_slime_needs_torch_only_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "4.pt", SLIME)
    code = "import sys; from replay.importers import known_formats; known_formats(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        CurriculaError, match=r"4\.pt: PyTorch reads this file and is not installed; install rl-curricula\[rollout\]"
    ):
        read(path)


def test_every_truncation_of_a_slime_file_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path / "4.pt", SLIME[:2])
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CurriculaError, match=r"4\.pt"):
            read(path)


def test_every_flipped_byte_of_a_slime_file_is_refused_or_changes_nothing(tmp_path: Path) -> None:
    path = saved(tmp_path / "4.pt", SLIME[:2])
    whole, content = read(path), path.read_bytes()
    refused = 0
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ (1 << at % 8)]) + content[at + 1 :])
        try:
            run = read(path)
        except CurriculaError:
            refused += 1
            continue
        assert groups(run) == groups(whole), f"byte {at}"
    assert refused > 300


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_changed_pickles_with_right_checksums_never_raise_anything_else(tmp_path: Path, data: st.DataObject) -> None:
    path = saved(tmp_path / "4.pt", SLIME[:2])
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    values = bytearray(parts["4/data.pkl"])
    for _ in range(data.draw(st.integers(1, 4))):  # any byte, or one that is an opcode
        values[data.draw(st.integers(0, len(values) - 1))] = data.draw(st.integers(0, 255) | st.sampled_from(b"RcGoQstbX.}]uU(tq"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, bytes(values) if name == "4/data.pkl" else content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the loader warns of a pickle protocol that a changed byte names
        try:
            run = read(path)
        except CurriculaError as error:
            assert "4.pt: " in str(error)  # noqa: PT017 - either is right, another error is not
            return
    assert np.isnan(run.reward_R[run.status_R != Status.OK]).all()


# --- all of them


def fitting(path: Path) -> list[str]:
    """The formats that detect it; one that cannot read it at all does not."""

    def fits(name: str) -> bool:
        try:
            return build(name).detect(path)
        except CurriculaError:
            return False

    return [name for name in known_formats() if fits(name)]


OTHERS: dict[str, dict[str, Any]] = {
    "verifiers": {"example_id": 0, "task": "t", "prompt": "q", "completion": "a", "reward": 1.0, "metrics": {}},
    "nemo_gym": {"_ng_task_index": 0, "_ng_rollout_index": 0, "reward": 1.0},
    "verl": {"input": "q", "output": "a", "score": 1.0, "step": 1, "uid": "u_0_0"},
}


@pytest.mark.parametrize("name", [*FORMATS, *OTHERS])
def test_rows_fit_one_format_only(tmp_path: Path, name: str) -> None:
    rows = FORMATS[name][1] if name in FORMATS else [OTHERS[name]]
    assert fitting(jsonl(tmp_path / "a.jsonl", rows)) == [name]


def test_folders_fit_one_format_only(tmp_path: Path) -> None:
    prime_run(tmp_path / "prime_rl")
    jsonl(tmp_path / "areal" / "10" / "3.jsonl", AREAL)
    jsonl(tmp_path / "open_instruct" / "run_metadata.jsonl", [{"run_name": "run"}])
    jsonl(tmp_path / "open_instruct" / "run_rollouts_000000.jsonl", OPEN)
    jsonl(tmp_path / "nemo_rl" / "train_data_step7.jsonl", NEMO)
    saved(tmp_path / "slime" / "eval_4.pt", SLIME)
    saved(tmp_path / "slime" / "4.pt", SLIME)
    for folder in sorted(tmp_path.iterdir()):
        assert fitting(folder) == [folder.name]
        named = TEN if folder.name == "open_instruct" else None
        assert read(folder, named).source.startswith(f"{folder.name} ")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "prime_rl", "subset": "some"}, r"log format 'prime_rl', subset: expected all or effective, got 'some'"),
        ({"name": "prime_rl", "agent": 3}, r"agent: expected the name of an agent, got 3"),
        ({"name": "slime", "id": 3}, r"log format 'slime', id: expected a name, got 3"),
        ({"name": "areal", "step": "s"}, r"unknown key of log format 'areal': 'step'"),
        ({"name": "nemo-rl"}, r"unknown log format 'nemo-rl'; did you mean 'nemo_rl'"),
    ],
)
def test_wrong_settings(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(CurriculaError, match=message):
        build(spec)


@pytest.mark.parametrize(
    ("name", "pattern"),
    [("areal", "<version>/<task>.jsonl"), ("nemo_rl", "train_data_step"), ("open_instruct", "_rollouts_"), ("slime", ".pt files")],
)
def test_a_folder_without_files_of_the_format_says_what_was_expected(tmp_path: Path, name: str, pattern: str) -> None:
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(CurriculaError, match=rf"expected .*{pattern}.*got none"):
        read(tmp_path, name)


@pytest.mark.parametrize("name", FORMATS)
def test_a_missing_field_is_named_with_its_line(tmp_path: Path, name: str) -> None:
    optional = {
        "prime_rl": {"is_timeout", "errors", "num_output_tokens", "group", "run", "env"},
        "nemo_rl": {"content", "idx", "sample_loss_mask", "advantages", "generation_logprobs", "prev_logprobs"},
        "open_instruct": {"advantage", "finish_reason", "ground_truth", "request_info", "logprobs"},
        "areal": {"head_version", "completion"},
    }[name]
    row = FORMATS[name][1][0]
    for field in row.keys() - optional:
        path, format = one(tmp_path, name, [{key + "_x" * (key == field): value for key, value in row.items()}])
        with pytest.raises(CurriculaError, match=rf"line 1: no field '{field}"):
            read(path, format)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda content: b"", "it has no rows"),
        (lambda content: content[:-9], r"line \d: not JSON .*torn"),
        (lambda content: content.decode().encode("utf-16"), "line 1: not JSON"),
        (lambda content: content.replace(b'"', b'"\xe9', 1), "line 1: not JSON .*utf-8"),
        (lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer, not the data"),
        (lambda content: content + b"<PLACEHOLDER ROW>\n", r"line \d: a placeholder .*not data"),
        (lambda content: b"\0" * 99, "line 1: not JSON"),
        (lambda content: b"[1]\n" + content, "line 1: expected a JSON object"),
    ],
)
def test_foreign_bytes(tmp_path: Path, name: str, damage: Callable[[bytes], bytes], message: str) -> None:
    path, format = one(tmp_path, name)
    path.write_bytes(damage(path.read_bytes()))
    for spec in (None, format):
        with pytest.raises(CurriculaError, match=message if spec else rf"{path.name}"):
            read(path, spec)


@needs_torch
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "File is not a zip file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "a Git LFS pointer, not the data"),
        (b"<PLACEHOLDER ROW>\n", "File is not a zip file"),
    ],
)
def test_foreign_bytes_in_a_slime_file(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "4.pt").write_bytes(content)
    with pytest.raises(CurriculaError, match=rf"4\.pt: .*{message}"):
        read(tmp_path / "4.pt")


@pytest.mark.parametrize("name", FORMATS)
def test_every_truncation_is_refused_or_ends_between_rows(tmp_path: Path, name: str) -> None:
    path, format = one(tmp_path, name, FORMATS[name][1][:2])
    whole, content = read(path, format), path.read_bytes()
    ends = {at for i, byte in enumerate(content) if byte == ord("\n") for at in (i, i + 1)}
    for length in range(len(content)):
        path.write_bytes(content[:length])
        try:
            run = read(path, format)
        except CurriculaError:
            assert length not in ends, f"{length} bytes"
            continue
        assert length in ends, f"{length} bytes"
        n = len(run.reward_R)  # rows are in the file's order
        np.testing.assert_equal(run.reward_R, whole.reward_R[:n])
        np.testing.assert_equal(run.status_R, whole.status_R[:n])


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_flipped_bytes_never_raise_anything_else(tmp_path: Path, name: str, data: st.DataObject) -> None:
    path, format = one(tmp_path, name)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    for spec in (None, format):
        try:
            run = read(path, spec)
        except CurriculaError:
            continue
        ok, (low, high) = run.status_R == Status.OK, run.reward_range
        assert np.isnan(run.reward_R[~ok]).all()
        assert ((run.reward_R[ok] >= low) & (run.reward_R[ok] <= high)).all()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from([0, 1, 2, 10**400]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["id", "name", "score", "ok"]), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_any_value_in_any_field_is_read_or_refused_by_line(tmp_path: Path, name: str, data: st.DataObject) -> None:
    rows: Rows = json.loads(json.dumps(FORMATS[name][1][:2]))
    for _ in range(data.draw(st.integers(1, 3))):  # anywhere in the second row
        at: Any = rows[1]
        while True:
            key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
                at[key] = data.draw(JSON)
                break
            at = at[key]
    path, format = one(tmp_path, name, rows)
    try:
        read(path, format)
    except CurriculaError as error:
        assert f"{path.name}: line " in str(error), error  # noqa: PT017 - either is right, silence about the line is not


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_value_in_a_slime_sample_is_read_or_refused_by_sample(tmp_path: Path, data: st.DataObject) -> None:
    fields = data.draw(st.lists(st.sampled_from(sorted(SLIME[1])), min_size=1, max_size=3))
    path = saved(tmp_path / "4.pt", [SLIME[0], SLIME[1] | {field: data.draw(JSON) for field in fields}])
    for format in ("slime", {"name": "slime", "reward_key": "score", "id": "metadata.id", "distribution": "label"}):
        try:
            read(path, format)
        except CurriculaError as error:
            assert "4.pt: sample " in str(error), error  # noqa: PT017 - either is right, silence about the sample is not


@pytest.mark.parametrize("name", FORMATS)
def test_texts_are_not_kept_and_a_long_line_is_read(tmp_path: Path, name: str) -> None:
    big: dict[str, Callable[[int], dict[str, Any]]] = {
        "prime_rl": lambda i: episode(f"e{i}", f"g{i}", [trace(scored(1.0))]) | {"info": "x" * 50_000},
        "nemo_rl": lambda i: nemo([1, i], 3, 1.0, i) | {"content": [["x" * 50_000]]},
        "open_instruct": lambda i: open_row(i, 0, [i], 1.0) | {"request_info": "x" * 50_000},
        "areal": lambda i: areal_row(i, 0, 0, 1.0, prompt=f"{i}" + "x" * 50_000),
    }
    path, format = one(tmp_path, name, [])
    with path.open("w") as file:
        for i in range(200):
            file.write(json.dumps(big[name](i)) + "\n")
    tracemalloc.start()
    run = read(path, format)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(run) == 200
    assert peak < 4_000_000 < path.stat().st_size
    long = json.dumps(big[name](0)).replace("x" * 50_000, "x" * 10_000_000)
    path.write_text(long + "\n")
    assert path.stat().st_size > 10_000_000
    assert read(path, format).reward_R.tolist() == run.reward_R[:1].tolist()


def test_ten_megabytes_of_tokens_are_read(tmp_path: Path) -> None:
    n = 2_000_000
    run = read(jsonl(tmp_path / "run_rollouts_000000.jsonl", [open_row(0, 0, [1] * n, 10.0, response_tokens=[7] * n)]), TEN)
    assert run.n_tokens_R.tolist() == [n]
