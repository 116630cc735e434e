"""verl's own trainer on this machine's processor, in a process of its own: ``python -m tests.trainer.integrations.verl_run OUT``.

Real are verl's trainer with its `fit`, replay buffer, padding, advantages, checkpoints and agent loop worker, TransferQueue on Ray,
and the data set. Made up are what would need a GPU: the completions with their rewards, log-probabilities, and the update.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import ray
import torch
import transfer_queue as tq
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf, open_dict
from tensordict import TensorDict
from verl.experimental.agent_loop.agent_loop import AgentLoopMetrics, AgentLoopOutput
from verl.trainer.ppo.v1 import AgentLoopWorkerTQ, PPOTrainerSync

from curricula import CurriculaError
from tests.tiny import character_tokenizer
from tests.trainer.integrations.verl_data import CHAT_TEMPLATE, write_rows

ROUNDS = {"recipe": {"budget": {"name": "pilot_commit", "n_pilot": 2, "n_commit": 6}}}
HOOK = ("pkg://trainer.integrations.verl", "CurriculumReplayBuffer")


class Rollouts(AgentLoopWorkerTQ.__ray_metadata__.modified_class):  # type: ignore[misc,name-defined]
    """verl's agent loop worker and the manager in front of it, with made-up answers instead of an engine."""

    def __init__(self, config: Any, answer: Any) -> None:
        self.config, self.answer = config, answer
        self.processor = self.reward_loop_worker_handles = None
        self.distillation_enabled = False
        self.background_tasks: set[Any] = set()
        self.asked: list[tuple[str, int]] = []
        self.validated: list[str] = []
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()

    def generate_sequences(self, prompts: TensorDict) -> None:
        rows = super().generate_sequences(prompts)
        asyncio.run_coroutine_threadsafe(rows, self.loop).result()

    async def _run_prompt(self, prompt: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        text = prompt["raw_prompt"][0]["content"]
        if kwargs["trajectory"]["validate"]:
            self.validated.append(text)
        else:
            self.asked.append((text, int(prompt.get("__rollout_n__", 0))))
        await super()._run_prompt(prompt, *args, **kwargs)

    async def _run_agent_loop(self, sampling: Any, trajectory: Any, *, session_id: int, trace: bool = False, **prompt: Any) -> None:
        text = prompt["raw_prompt"][0]["content"]
        outputs = []
        for reward, n_tokens in self.answer(text, trajectory["step"], session_id):
            outputs.append(
                AgentLoopOutput(
                    prompt_ids=[5] * 4,
                    response_ids=[6] * n_tokens,
                    response_mask=[1] * n_tokens,
                    response_logprobs=[0.0] * n_tokens,
                    reward_score=reward,
                    num_turns=2,
                    metrics=AgentLoopMetrics(),
                    extra_fields={
                        "min_global_steps": trajectory["step"] - 1,
                        "max_global_steps": trajectory["step"] - 1,
                        "reward_extra_info": {},
                    },
                )
            )
        await self._agent_loop_postprocess(outputs, trajectory["validate"], session_id=session_id, **prompt)


class Workers:
    """In place of the worker group: log-probabilities of 0, and an update that notes what it would train on."""

    def __init__(self) -> None:
        self._dispatch_info = {"actor": [0]}
        self.updates: list[dict[str, tuple[float, float, bool]]] = []  # key -> reward, advantage, is padding

    def compute_log_prob(self, batch: Any) -> Any:
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["input_ids"])
        zeros = torch.nested.as_nested_tensor([torch.zeros(len(row)) for row in data["input_ids"]], layout=torch.jagged)
        fields = TensorDict({"log_probs": zeros, "entropy": zeros.clone()}, batch_size=len(batch))
        tq.kv_batch_put(keys=batch.keys, partition_id=batch.partition_id, fields=fields)
        return batch

    def update_actor(self, batch: Any) -> Any:
        fields = ["rm_scores", "advantages", "response_mask"]
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=fields)
        rows = zip(batch.keys, batch.tags, data["rm_scores"], data["advantages"], strict=True)
        self.updates.append({k: (float(r.sum()), float(a[0]), bool(t.get("is_padding"))) for k, t, r, a in rows})
        return {"metrics": {"mfu": [0.0], "pg_loss": [0.0], "lr": [0.0], "grad_norm": [1.0]}}

    def save_checkpoint(self, path: str, *_: Any, **__: Any) -> None:
        Path(path).mkdir(parents=True)

    def load_checkpoint(self, **_: Any) -> None: ...

    def __getattr__(self, name: str) -> Any:  # profiling and the like
        return lambda *_, **__: None


class Engines:
    """In place of what moves weights to engines."""

    def sleep_replicas(self) -> None: ...

    def update_weights(self, step: int) -> None: ...


def config_of(folder: Path, data: Path, recipe: Any, *overrides: str) -> Any:
    """verl's own configuration with the three lines that take the curriculum in, and what keeps it small."""
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose(
            "ppo_trainer",
            [
                f"trainer.v1.sampler.custom_sampler.path={HOOK[0]}",
                f"trainer.v1.sampler.custom_sampler.name={HOOK[1]}",
                f"data.train_files={data}",
                f"data.val_files={data}",
                f"+data.cache_dir={folder}",
                "data.train_batch_size=4",
                "data.max_response_length=32",
                "data.dataloader_num_workers=0",
                "data.filter_overlong_prompts=false",
                "actor_rollout_ref.rollout.n=4",
                "actor_rollout_ref.actor.ppo_mini_batch_size=4",
                "actor_rollout_ref.actor.use_kl_loss=false",
                "algorithm.adv_estimator=grpo",
                "trainer.val_before_train=false",
                "trainer.test_freq=-1",
                "trainer.logger=[console]",
                "trainer.total_training_steps=3",
                "trainer.save_freq=1",
                f"trainer.default_local_dir={folder}/checkpoints",
                "trainer.n_gpus_per_node=1",
                *overrides,
            ],
        )
    with open_dict(config):
        config.trainer.v1.sampler.sampler_kwargs = {"recipe": recipe} if isinstance(recipe, str) else recipe
        config.transfer_queue.enable = True
        config.transfer_queue.backend.SimpleStorage.num_data_storage_units = 1
    OmegaConf.resolve(config)
    return config


class Noting(PPOTrainerSync):
    """verl's trainer, which notes the advantages that verl made before the curriculum's are written over them."""

    def _compute_advantage(self, batch: Any, metrics: dict[str, Any]) -> Any:
        batch = super()._compute_advantage(batch, metrics)
        data = tq.kv_batch_get(keys=batch.keys, partition_id=batch.partition_id, select_fields=["advantages"])
        verls = {key: float(row[0]) for key, row in zip(batch.keys, data["advantages"], strict=True)}
        self.__dict__.setdefault("verls", []).append(verls)
        return batch


def trainer_of(config: Any) -> Any:
    """verl's trainer, its `_setup` done but for workers, engines and reward loops."""
    trainer = Noting(config)
    trainer.replay_buffer.poll_interval = 0.02
    trainer.tokenizer, trainer.processor = character_tokenizer(), None
    trainer.tokenizer.chat_template = CHAT_TEMPLATE
    trainer._init_dataloader()
    trainer._init_dump_executor()
    trainer.actor_rollout_wg, trainer.checkpoint_manager = Workers(), Engines()
    trainer.reward_loop_manager = type("NoRewardLoop", (), {"reward_loop_worker_handles": ()})()
    trainer.resource_pool_manager = type("OneDevice", (), {"get_n_gpus": lambda self: 1})()
    trainer._load_checkpoint()
    trainer.on_init_end()
    return trainer


def fit(config: Any, answer: Any = None, workers: type = Rollouts) -> dict[str, Any]:
    """What a run did: prompts and group sizes asked for, rows trained on, and what the curriculum learned."""
    trainer = trainer_of(config)
    rollouts = workers(config, answer or by_prompt)
    trainer.fit(rollouts)
    curriculum = trainer.replay_buffer.curriculum
    if trainer.replay_buffer.log is not None:
        trainer.replay_buffer.log._log.close()
    return {
        "class": type(trainer).__name__,
        "asked": rollouts.asked,
        "validated": rollouts.validated,
        "updates": trainer.actor_rollout_wg.updates,
        "verls": trainer.verls,
        "metrics": curriculum.metrics(),
        "ids": curriculum.pool.ids.tolist(),
        "mean": curriculum.estimate(np.arange(len(curriculum.pool))).mean_B.tolist(),
        "left_in_queue": len((tq.kv_list("train") or {}).get("train", {})),
        "state": {k: np.asarray(v).tolist() for k, v in curriculum.state_dict().items() if not k.startswith("meta.")},
    }


def by_prompt(text: str, step: int, session: int) -> list[tuple[float, int]]:
    """Prompt 4k is never solved, 4k + 1 always, 4k + 2 half the time, 4k + 3 once in four; answers grow with the session."""
    right = (False, True, session % 2 == 0, session % 4 == 0)[int(text[1:]) % 4]
    return [(float(right), 3 + session)]


def in_turns(text: str, step: int, session: int) -> list[tuple[float, int]]:
    """Of two rows, of which the last has the reward; one rollout of one group breaks, in every step."""
    if text.endswith("2") and session == 1:
        raise RuntimeError("the tool is down")
    return [(0.0, 2), *by_prompt(text, step, session)]


class OfOneSize(Rollouts):
    """Rollout workers that know nothing of group sizes."""

    async def _run_prompt(self, prompt: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        prompt.pop("__rollout_n__", None)
        await super()._run_prompt(prompt, *args, **kwargs)


class Renaming(Rollouts):
    """Rollout workers that give groups names of their own."""

    async def _run_prompt(self, prompt: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        await super()._run_prompt(prompt | {"uid": f"new{prompt['uid']}"}, *args, **kwargs)


def told(act: Any) -> str:
    """The message with which something is refused."""
    try:
        act()
    except CurriculaError as error:
        return str(error)
    return "nothing was refused"


def runs(folder: Path) -> dict[str, Any]:
    data = write_rows(folder / "rows.parquet", 8)
    more = write_rows(folder / "more.parquet", 12)

    def config(name: str, recipe: Any, *overrides: str, rows: Path = data) -> Any:
        return config_of(folder / name, rows, recipe, *overrides)

    dump = f"trainer.rollout_data_dir={folder}/dump"
    steps = "trainer.total_training_steps={}".format
    out: dict[str, Any] = {
        "unequal": fit(config("unequal", {"recipe": "knapsack", "seed": 3}, steps(5), "trainer.test_freq=5")),
        "filtered": fit(
            config(
                "filtered",
                {"recipe": "nonzero_variance", "log": f"{folder}/log"},
                dump,
                rows=more,
            )
        ),
        "rounds": fit(config("rounds", ROUNDS, rows=more)),
        "turns": fit(config("turns", "uniform"), in_turns),
        "straight": fit(config("straight", "combined", steps(4))),
    }
    logged = {"recipe": "combined", "log": f"{folder}/log_resumed"}
    fit(config("resumed", logged, steps(3)))
    shutil.rmtree(
        folder / "resumed/checkpoints/global_step_3"
    )  # died before it was whole: the log knows the step, the checkpoint not
    (folder / "resumed/checkpoints/latest_checkpointed_iteration.txt").write_text("2")
    out["resumed"] = fit(config("resumed", logged, steps(4)))
    out["checkpoint"] = sorted(path.name for path in (folder / "resumed/checkpoints/global_step_2").iterdir())
    out["refused"] = refusals(folder, config)
    return out


def refusals(folder: Path, config: Any) -> dict[str, str]:
    kept = "trainer.resume_mode=resume_path", f"trainer.resume_from_path={folder}/resumed/checkpoints/global_step_2"
    other = write_rows(folder / "other.parquet", 8, data_source="other", extra_info=None)
    twice = write_rows(folder / "twice.parquet", 8, extra_info={"index": 7})
    plain = folder / "plain" / "global_step_2"
    plain.mkdir(parents=True)
    torch.save({"_num_yielded": 2}, plain / "data.pt")
    empty = folder / "empty" / "global_step_2"
    empty.mkdir(parents=True)
    trainer = trainer_of(config("two", "uniform"))
    again = "trainer.resume_mode=resume_path", "trainer.resume_from_path={}".format
    return {
        "unknown recipe": told(lambda: trainer_of(config("a", "dump_ubc"))),
        "unknown key": told(lambda: trainer_of(config("a", {"recipe": "uniform", "reciep": 1}))),
        "no recipe": told(lambda: trainer_of(config("a", {}))),
        "two": told(trainer._build_replay_buffer),
        "mode": told(lambda: trainer_of(config("a", "uniform", "trainer.v1.trainer_mode=colocate_async"))),
        "advantages": told(lambda: trainer_of(config("a", "uniform", "algorithm.adv_estimator=rloo"))),
        "filter": told(lambda: trainer_of(config("a", "uniform", "algorithm.filter_groups.enable=true"))),
        "no id": told(lambda: trainer_of(config("a", "uniform", rows=other))),
        "id twice": told(lambda: trainer_of(config("a", "uniform", rows=twice))),
        "used log": told(lambda: fit(config("e", {"recipe": "uniform", "log": f"{folder}/log"}))),
        "other data": told(lambda: trainer_of(config("a", "combined", *kept, rows=folder / "more.parquet"))),
        "other recipe": told(lambda: trainer_of(config("a", "uniform", *kept))),
        "plain checkpoint": told(lambda: trainer_of(config("a", "uniform", again[0], again[1](plain)))),
        "no data.pt": told(lambda: fit(config("a", "uniform", again[0], again[1](empty)))),
        "one size": told(lambda: fit(config("b", ROUNDS), workers=OfOneSize)),
        "other uid": told(lambda: fit(config("c", "uniform"), workers=Renaming)),
        "greedy": told(lambda: fit(config("d", "remax"))),
    }


def main() -> None:
    """Write what the runs did as JSON."""
    folder = Path(sys.argv[1])
    ray.init(num_cpus=24, include_dashboard=False, object_store_memory=200 * 2**20, log_to_driver=False)
    try:
        tq.init(config_of(folder, folder / "rows.parquet", "uniform").transfer_queue)
        (folder / "out.json").write_text(json.dumps(runs(folder)))
    finally:
        tq.close()
        ray.shutdown()


if __name__ == "__main__":
    main()
