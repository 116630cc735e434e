"""Logs as the trainers' own code writes them, read back with the groups and rewards that were put in."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import os
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from curricula.types import Status
from replay.importers import read
from rollout.rows import id_from_text
from tests.replay.wheel_code import definitions

V1 = ("verl==0.9.1", "verl/trainer/ppo/v1/trainer_base.py")
PADDING = ("build_padding_position_ids", "build_padding_routed_experts", "construct_minimal_padding_template")
EOS = 0


class Letters:
    """A tokenizer of one token per letter; the end of the text, id 0, is special and not shown."""

    eos_token_id = pad_token_id = EOS

    def decode(self, ids: Any, skip_special_tokens: bool) -> str:
        assert skip_special_tokens
        return "".join(chr(i) for i in ids if i != EOS)

    def batch_decode(self, rows: Any, skip_special_tokens: bool) -> list[str]:
        return [self.decode(row, skip_special_tokens) for row in rows]


def letters(text: str) -> torch.Tensor:
    return torch.tensor([ord(letter) for letter in text], dtype=torch.int64)


@contextlib.contextmanager
def untimed(*_: Any, **__: Any) -> Iterator[None]:
    yield


@dataclass
class Batch:
    """What verl's trainer hands over: keys and tags of rows that lie in the queue."""

    keys: list[str]
    tags: list[dict[str, Any]]
    partition_id: str = "train"
    fields: Any = None
    extra_info: Any = None

    def __len__(self) -> int:
        return len(self.keys)


@dataclass
class Queue:
    """Holds rows by key in memory, as verl's transfer queue does between processes."""

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)

    def kv_batch_put(self, keys: list[str], partition_id: str, fields: list[dict[str, Any]], tags: Any) -> None:
        self.rows |= dict(zip(keys, fields, strict=True))

    def kv_batch_get(self, keys: list[str], partition_id: str, select_fields: list[str] | None = None) -> Any:
        if select_fields is None:
            return [self.rows[key] for key in keys]
        got: dict[str, Any] = {}
        for name in select_fields:
            column = [self.rows[key][name] for key in keys]
            tensors = isinstance(column[0], torch.Tensor)
            got[name] = torch.nested.nested_tensor(column, layout=torch.jagged) if tensors else np.array(column, dtype=object)
        got["rm_scores"] = got["rm_scores"].to_padded_tensor(padding=0.0)  # rows of unequal length
        return got


def verl_v1_trainer(queue: Queue) -> tuple[Any, Any]:
    """A stand-in with verl 0.9.1's own methods that write the log, and verl's function that fills a batch up."""
    names = ("PPOTrainer._write_generations", "PPOTrainer._dump_generations", "PPOTrainer._log_rollout_data")
    code = definitions(*V1, names, {"os": os, "json": json, "np": np, "tq": queue, "marked_timer": untimed})
    methods = {name.rpartition(".")[2]: function for name, function in code.items()}
    methods["_write_generations"] = staticmethod(methods["_write_generations"])
    trainer = type("Trainer", (), methods)()
    trainer.tokenizer, trainer.global_steps = Letters(), 0
    trainer._dump_executor, trainer._dump_futures = ThreadPoolExecutor(1), []
    padding = definitions(
        V1[0],
        "verl/trainer/ppo/padding_utils.py",
        [*PADDING, "upsample_batch_to_divisible_size"],
        {"torch": torch, "copy": copy, "uuid": uuid, "tq": queue, "KVBatchMeta": Batch, "SYNTHETIC_PADDING_SEQ_LEN": 128}
        | {"list_of_dict_to_tensordict": list, "logger": SimpleNamespace(info=lambda *_: None)}
        | {"compute_position_id_with_mask": lambda mask: mask.cumsum(0) - 1},
    )
    return trainer, padding["upsample_batch_to_divisible_size"]


def put(queue: Queue, uid: str, session: int, outputs: list[tuple[str, str]], reward: float) -> list[str]:
    """One session of a draw: every output has its own prompt, and all of them the session's reward."""
    keys = [f"{uid}_{session}_{index}" for index in range(len(outputs))]
    for key, (prompt, response) in zip(keys, outputs, strict=True):
        scores = torch.zeros(len(response))
        scores[-1] = reward
        queue.rows[key] = {
            "uid": uid,
            "prompts": letters(prompt),
            "responses": letters(response),
            "rm_scores": scores,
            "reward_model": {"style": "rule", "ground_truth": "4"},
            "position_ids": None,
        }
    return keys


def test_verl_v1_as_verl_writes_it(tmp_path: Path) -> None:
    queue = Queue()
    trainer, fill_up = verl_v1_trainer(queue)
    told: dict[tuple[int, str], list[float]] = {}
    for step, sizes in ((1, (3, 5)), (2, (2, 4))):  # unequal groups
        keys: list[str] = []
        for prompt, n in zip(("2+2=", "7-3="), sizes, strict=True):
            uid = uuid.uuid4().hex
            rewards = [round(0.25 * (i % 4), 2) for i in range(n)]
            told[step, prompt] = rewards
            for session, reward in enumerate(rewards):
                outputs = [(prompt, "four")] if session else [(prompt, "hm"), (prompt + "hm, so", "it is four")]
                keys += put(queue, uid, session, outputs, reward)
        batch = Batch(keys, [{"seq_len": 1} for _ in keys])
        batch = fill_up(batch, 16, EOS)
        assert len(batch) == 16  # rows that no model wrote are in the log
        order = np.random.default_rng(step).permutation(16)
        batch = Batch([batch.keys[i] for i in order], [batch.tags[i] for i in order])  # as after balancing
        trainer.global_steps = step
        trainer._log_rollout_data(batch, {}, str(tmp_path))
    trainer._dump_executor.shutdown(wait=True)
    for future in trainer._dump_futures:
        future.result()
    assert sum(len(file.read_text().splitlines()) for file in tmp_path.iterdir()) == 32
    run = read(tmp_path)
    assert run.source.startswith("verl ")
    assert "group id" not in run.lacks
    assert sorted(run.pool.ids) == sorted(id_from_text("all", prompt) for prompt in ("2+2=", "7-3="))
    got = {(int(run.step_G[g]), str(run.pool.ids[run.prompt_G[g]])): run.reward_R[run.group_R == g].tolist() for g in range(4)}
    assert got == {(step, id_from_text("all", prompt)): rewards for (step, prompt), rewards in told.items()}
    assert (run.status_R == Status.OK).all()


@pytest.mark.parametrize("wheel", ["verl==0.9.1", "verl==0.7.1"])
def test_older_verl_trainer_as_verl_writes_it(tmp_path: Path, wheel: str) -> None:
    """The trainer without uids: 0.7.1's writes in place, 0.9.1's copy of it in a thread."""
    names = ["RayPPOTrainer._dump_generations", "RayPPOTrainer._log_rollout_data"]
    threaded = wheel == "verl==0.9.1"
    names += ["RayPPOTrainer._write_generations"] * threaded
    code = definitions(wheel, "verl/trainer/ppo/ray_trainer.py", names, {"os": os, "json": json, "marked_timer": untimed})
    methods = {name.rpartition(".")[2]: function for name, function in code.items()}
    if threaded:
        methods["_write_generations"] = staticmethod(methods["_write_generations"])
    trainer = type("Trainer", (), methods)()
    trainer.tokenizer, trainer.global_steps = Letters(), 3
    trainer._dump_executor, trainer._dump_futures = ThreadPoolExecutor(1), []
    prompts = ["7-3=", "2+2=", "2+2=", "7-3=", "2+2="]  # balancing leaves groups scattered
    scores = torch.tensor([[0.0, 1.0], [0.5, 0.0], [0.0, 0.0], [0.0, 0.25], [0.0, 1.0]])

    class Rows:
        batch = {  # noqa: RUF012
            "prompts": torch.stack([letters(p) for p in prompts]),
            "responses": torch.stack([letters("ab")] * 5),
            "token_level_scores": scores,
        }
        non_tensor_batch = {"request_id": np.array(list("vwxyz"), dtype=object)}  # noqa: RUF012

        def __iter__(self) -> Iterator[Any]:
            return iter([SimpleNamespace(non_tensor_batch={"reward_model": {"ground_truth": "4"}})] * 5)

    trainer._log_rollout_data(Rows(), {"acc": [True, False, False, True, True]}, {}, str(tmp_path))
    trainer._dump_executor.shutdown(wait=True)
    for future in trainer._dump_futures:
        future.result()
    run = read(tmp_path)
    groups = {str(run.pool.ids[run.prompt_G[g]]): run.reward_R[run.group_R == g].tolist() for g in range(len(run))}
    assert groups == {id_from_text("all", "7-3="): [1.0, 0.25], id_from_text("all", "2+2="): [0.5, 0.0, 1.0]}
    assert (run.step_G == 3).all()
    assert "group id" in run.lacks


def test_tinker_as_its_cookbook_writes_it(tmp_path: Path) -> None:
    def pairs(*columns: Any) -> Any:
        return zip(*columns, strict=True)

    given = {"safezip": pairs, "logger": SimpleNamespace(debug=lambda *_: None)}
    module = "tinker_cookbook/rl/rollout_logging.py"
    code = definitions("tinker-cookbook==0.6.1", module, ["_json_safe", "serialize_rollout_summaries"], given)

    def turn(n_tokens: int, reward: float) -> Any:
        whole = {"ob": SimpleNamespace(length=9), "ac": SimpleNamespace(tokens=[1] * n_tokens), "reward": reward}
        return SimpleNamespace(**whole, episode_done=True, metrics={}, logs={})

    def group(rewards: list[float]) -> Any:
        walks = [
            SimpleNamespace(transitions=[turn(3, 0.0), turn(4 + i, r)], final_ob=SimpleNamespace(length=20))
            for i, r in enumerate(rewards)
        ]
        finals = [np.float64(0.25)] * len(rewards)
        total = [r + 0.25 for r in rewards]
        return SimpleNamespace(
            trajectories_G=walks, final_rewards_G=finals, metrics_G=[{}] * len(rewards), get_total_rewards=lambda: total
        )

    for iteration, sizes in ((9, [[0.0, 0.5]]), (10, [[0.75], [0.0, 0.25, 0.5]])):
        rows = code["serialize_rollout_summaries"](
            split="train",
            iteration=iteration,
            trajectory_groups_P=[group(rewards) for rewards in sizes],
            taglist_P=[["gsm8k", "easy"] for _ in sizes],
            sampling_client_steps_P=[iteration - 1 for _ in sizes],
        )
        folder = tmp_path / f"iteration_{iteration:06d}"
        folder.mkdir()
        text = "\n".join(json.dumps(row) for row in rows) + "\n"
        (folder / "train_rollout_summaries.jsonl").write_text(text)
        (folder / "eval_x_rollout_summaries.jsonl").write_text(text.replace('"train"', '"eval/x"'))
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n')
    run = read(tmp_path)
    assert run.source.startswith("tinker ")
    assert run.step_G.tolist() == [9, 10, 10]
    assert run.group_R.tolist() == [0, 0, 1, 2, 2, 2]
    assert run.reward_R.tolist() == [0.25, 0.75, 1.0, 0.25, 0.5, 0.75]
    assert run.n_tokens_R.tolist() == [7, 8, 7, 7, 8, 9]
    assert run.policy_version_R.tolist() == [8, 8, 9, 9, 9, 9]
    assert run.pool.distribution_names == ("gsm8k+easy",)


def test_trinity_as_trinity_writes_it(tmp_path: Path) -> None:
    wheel = "trinity-rft==0.6.0"
    given = {"dataclass": dataclasses.dataclass, "field": dataclasses.field, "uuid": uuid}
    code = definitions(wheel, "trinity/common/experience.py", ["EID", "Experience.to_dict"], given)
    Experience = type("Experience", (SimpleNamespace,), {"to_dict": code["Experience.to_dict"]})
    names = {"json": json, "os": os, "Experience": Experience, "Task": type("Task", (), {}), "EID": code["EID"], "ray": None}
    storage = definitions(wheel, "trinity/buffer/storage/file.py", ["_Encoder", "FileStorage"], names)["FileStorage"]
    texts = ("prompt_text", "response_text", "messages", "tools", "chosen_messages", "rejected_messages", "truncate_status")

    def experience(batch: int, task: int, run: int, step: int, reward: float | None, **more: Any) -> Any:
        info = {"model_version": batch - 1, "task_index": {"index": 40 + task, "taskset_id": 1}}
        known: dict[str, Any] = dict.fromkeys(texts) | {"prompt_text": f"q{task}", "tokens": torch.zeros(12)} | more
        id = code["EID"](batch=batch, task=task, run=run, step=step)
        return Experience(eid=id, experience_type="single_turn", prompt_length=5, info=info, metrics={}, reward=reward, **known)

    writer = storage(SimpleNamespace(path=str(tmp_path / "out.jsonl")))
    writer.write([experience(3, 0, 1, 0, 1.0), experience(3, 1, 0, 0, 0.0), experience(3, 0, 0, 0, 0.5)])
    writer.write([experience(3, 1, 0, 1, 0.75, prompt_text="q1 and more"), experience(3, 1, 1, 0, None)])
    writer.write([experience(4, 0, 0, 0, 0.0, truncate_status="response_truncated"), experience(4, 0, 1, 0, np.float64(1))])
    writer.release()
    run = read(tmp_path / "out.jsonl")
    assert run.source.startswith("trinity ")
    assert run.pool.ids.tolist() == ["taskset 1/40", "taskset 1/41"]
    assert run.prompt_G.tolist() == [0, 1, 0]
    assert run.step_G.tolist() == [3, 3, 4]
    assert run.group_R.tolist() == [0, 1, 0, 1, 2, 2]
    np.testing.assert_equal(run.reward_R, [1.0, 0.75, 0.5, np.nan, np.nan, 1.0])
    ok, cut, invalid = Status.OK, Status.TRUNCATED, Status.INVALID
    assert run.status_R.tolist() == [ok, ok, ok, invalid, cut, ok]
    assert run.n_tokens_R.tolist() == [7, 14, 7, 7, 7, 7]
    assert run.policy_version_R.tolist() == [2, 2, 2, 2, 3, 3]
    assert not {"prompt id", "group id", "step", "tokens", "policy version"} & run.lacks
