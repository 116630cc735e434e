"""One run of a few steps in a plain loop and inside each host, with made generation and made rewards.

Every driver has the same signature, ``driver(run) -> Ran``, and does what its host does: a host's own code calls the adapter. A run
that does not begin at step 0 goes on from the checkpoint that the run before it left in the folder.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import importlib
import io
import json
import os
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from ray import cloudpickle

from curricula import Curriculum, Feedback
from curricula.hosting import load, outcome_of, pool_of, save
from tests.tiny import save_tiny_model
from tests.trainer.host_code import importable, wheel

GROUP_SIZE, BATCH = 4, 4
STANDINS = str(Path(__file__).parent / "standins")
SKYRL = {"jaxtyping", "vllm", "skyrl.backends", "skyrl_gym", "torchdata", "omegaconf"}
OPENRLHF = {"vllm", "deepspeed", "flash_attn", "peft", "datasets", "pylatexenc", "torchdata"}
SLIME = {"vllm", "sglang", "pylatexenc"}
PRIME_RL = {
    "verifiers",
    "prime_rl.configs",
    "prime_rl.utils",
    "prime_rl.orchestrator.envs",
    "prime_rl.orchestrator.orchestrator",
    "prime_rl.orchestrator.types",
}


def rows(n: int = 24) -> list[dict[str, Any]]:
    prompts, levels = [f"question {i}" for i in range(n)], [f"level {i % 3}" for i in range(n)]
    ids = pool_of(prompts, None, levels).ids.tolist()  # as the pool makes them of the texts: OpenRLHF has no others
    return [{"prompt": p, "id": id, "level": level} for p, id, level in zip(prompts, ids, levels, strict=True)]


def rewards_of(prompt: str, step: int) -> list[float]:
    """Of the rollouts of a prompt in a step: right or wrong, the later levels less often right."""
    chance = (230, 128, 40)[int(prompt.split()[-1]) % 3]
    digest = hashlib.blake2b(f"{prompt} in step {step}".encode(), digest_size=GROUP_SIZE).digest()
    return [float(byte < chance) for byte in digest]


@dataclass(frozen=True)
class Run:
    recipe: Any
    steps: range
    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=rows)
    settings: dict[str, Any] = field(default_factory=dict)  # of the host


@dataclass
class Ran:
    """What a host generated, step by step, and what the curriculum has learned in the end."""

    prompts: list[list[str]] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    trained: list[list[str]] = field(default_factory=list)  # prompts of the groups that the host trains on, where a driver tells
    metrics: dict[str, float] = field(default_factory=dict)

    def ended(self, groups: Any) -> Ran:
        self.state, self.metrics = groups.curriculum.state_dict(), groups.metrics()
        return self


def plain(run: Run) -> Ran:
    pool = pool_of([], [row["id"] for row in run.rows], [row["level"] for row in run.rows])
    curriculum, ran = Curriculum.from_recipe(run.recipe, pool), Ran()
    if run.steps.start:
        load(run.folder, curriculum)
    for step in run.steps:
        plan = curriculum.plan(step, BATCH, BATCH * GROUP_SIZE)
        prompts = [run.rows[row]["prompt"] for row in plan.selection.prompt_B]
        reward_R = np.concatenate([rewards_of(prompt, step) for prompt in prompts])
        outcome = outcome_of(plan, reward_R, np.full(len(reward_R), 5), np.zeros(len(reward_R), bool), step, (0.0, 1.0))
        curriculum.update(Feedback(outcome, curriculum.judge(outcome)))
        ran.prompts.append(prompts)
    save(run.folder, curriculum, {})
    ran.state = curriculum.state_dict()
    return ran


# --- TRL: its trainer on a tiny model; only the rewards are made -----------------------------------------------------------------


@functools.cache
def _tiny_model() -> str:
    return str(save_tiny_model(Path(tempfile.mkdtemp(prefix="hosts-")), hidden=32, layers=1))


def trl(run: Run) -> Ran:
    import datasets
    from trl import GRPOConfig

    from trainer.integrations.trl import CurriculumGRPOTrainer

    ran, trainers = Ran(), []

    def reward(prompts: list[str], **_: Any) -> list[float]:
        chosen = prompts[::GROUP_SIZE]
        ran.prompts.append(chosen)
        return [r for prompt in chosen for r in rewards_of(prompt, trainers[0].state.global_step)]

    config = GRPOConfig(
        output_dir=str(run.folder),
        seed=0,
        per_device_train_batch_size=BATCH * GROUP_SIZE,
        num_generations=GROUP_SIZE,
        max_completion_length=4,
        max_steps=run.steps.stop,
        save_steps=run.steps.stop,
        logging_steps=1000,
        report_to=[],
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    trainers.append(
        CurriculumGRPOTrainer(
            _tiny_model(),
            reward,
            config,
            train_dataset=datasets.Dataset.from_list(run.rows),
            curriculum=run.recipe,
            distribution_column="level",
        )
    )
    trainers[0].train(resume_from_checkpoint=bool(run.steps.start) or None)
    ran.state = trainers[0].curriculum.state_dict()
    return ran


# --- SkyRL: the trainer of its wheel, train() and all that it calls but models and engines ----------------------------------------


class _Trained(dict[str, Any]):
    """What SkyRL's loop does with a training batch between generation and the update."""

    metadata: dict[str, Any]


@contextmanager
def skyrl_adapter() -> Iterator[Any]:
    with importable(wheel("skyrl"), "skyrl", "0.3.0", SKYRL):
        yield importlib.import_module("trainer.integrations.skyrl")


def skyrl(run: Run) -> Ran:
    import datasets

    with skyrl_adapter() as adapter:
        ran = Ran()
        host = importlib.import_module("skyrl.train.trainer")
        _without_models(host, ran)
        data = object.__new__(importlib.import_module("skyrl.train.dataset").PromptDataset)
        data.dataframe, data.prompt_key, data.env_class_key = datasets.Dataset.from_list(run.rows), "prompt", "env_class"

        class Generator:
            async def generate(self, batch: Any) -> Any:
                step, n = batch["batch_metadata"].global_step - 1, len(batch["prompts"])
                ran.prompts += [[]] * (step + 1 - run.steps.start - len(ran.prompts))
                ran.prompts[-1] = ran.prompts[-1] + batch["prompts"][::GROUP_SIZE]
                reward = [r for prompt in batch["prompts"][::GROUP_SIZE] for r in rewards_of(prompt, step)]
                made = {
                    "prompt_token_ids": [[1]] * n,
                    "response_ids": [[2] * 5] * n,
                    "loss_masks": [[1] * 5] * n,
                    "rewards": reward,
                }
                return made | dict.fromkeys(("stop_reasons", "rollout_logprobs", "rollout_metrics"))

        tracker = SimpleNamespace(log=lambda *_, **__: None, finish=lambda: None)
        arguments = {"curriculum": run.recipe, "id_column": "id", "distribution_column": "level"}
        trainer = adapter.CurriculumTrainer(
            _skyrl_config(run),
            tracker,
            None,
            data,
            None,
            Generator(),
            **arguments,
        )
        loads = lambda *_, **__: None  # noqa: E731
        trainer.dispatch = SimpleNamespace(get_lcm_dp_size=lambda: 1, save_checkpoint=loads, load_checkpoint=loads)
        trainer.dispatch.save_weights_for_sampler = _nothing
        asyncio.run(trainer.train())
        return ran.ended(trainer.groups)


async def _nothing(*_: Any) -> None:
    return None


def _without_models(host: Any, ran: Ran) -> None:
    shim = SimpleNamespace(makedirs=os.makedirs, exists=os.path.exists, open_file=open)
    host.io = shim
    host.asdict = host.validate_consistency_for_latest_checkpoint = lambda *_: {}
    host.get_sampling_params_for_backend = lambda *_: {}

    def convert(self: Any, output: Any, uids: list[str]) -> _Trained:
        ran.trained.append([self.train_dataset.dataframe[int(uid)]["prompt"] for uid in dict.fromkeys(uids)])
        batch = _Trained(rewards=output["rewards"])
        batch.metadata = {"uids": uids}
        return batch

    trainer = host.RayPPOTrainer
    trainer.convert_to_training_input = convert
    trainer.fwd_logprobs_values_reward = trainer.compute_advantages_and_returns = lambda self, batch: batch
    trainer.train_critic_and_policy = lambda self, batch: {}
    trainer.init_weight_sync_state = trainer._cleanup_old_checkpoints = lambda self: None
    trainer.postprocess_generator_output = lambda self, output, uids: (output, uids)


def _skyrl_config(run: Run) -> Any:
    kind = run.settings.get("dynamic_sampling")
    sampling = Namespace(type=kind, max_sample_batches=5, min_replace_ratio=0.3)
    algorithm = Namespace(use_kl_in_reward=False, dynamic_sampling=sampling, zero_variance_filter=False)
    trainer = Namespace(
        placement=Namespace(colocate_all=False, policy_num_gpus_per_node=1, policy_num_nodes=1),
        policy=Namespace(torch_profiler_config=Namespace(enable=False)),
        critic=Namespace(model=Namespace(path=None)),
        algorithm=algorithm,
        train_batch_size=BATCH,
        epochs=run.settings.get("epochs", 9),
        max_training_steps=run.steps.stop,
        seed=0,
        resume_mode="latest" if run.steps.start else "none",
        ckpt_path=str(run.folder),
        ckpt_interval=run.steps.stop,
        **dict.fromkeys(("enable_ray_gpu_monitor", "eval_before_train", "dump_data_batch", "update_ref_every_epoch"), False),
        **dict.fromkeys(("eval_interval", "print_example_interval", "hf_save_interval"), 0),
    )
    generator = Namespace(
        n_samples_per_prompt=GROUP_SIZE,
        step_wise_trajectories=False,
        inference_engine=Namespace(backend="none", enable_ray_prometheus_stats=False),
        sampling_params={},
    )
    return Namespace(trainer=trainer, generator=generator, environment=Namespace(env_class="none"))


# --- OpenRLHF: the trainer and the generator of its wheel, fit() and generate_samples() -------------------------------------------


@contextmanager
def openrlhf_adapter() -> Iterator[Any]:
    with importable(wheel("openrlhf", "openrlhf-0.11.2.data/purelib"), "openrlhf", "0.11.2", OPENRLHF):
        yield importlib.import_module("trainer.integrations.openrlhf")


def openrlhf(run: Run) -> Ran:
    with openrlhf_adapter() as adapter:
        ran, checkpoints, args = Ran(), _Checkpoints(run.folder), _openrlhf_args(run)
        host = importlib.import_module("openrlhf.trainer.ppo_trainer")
        samples = importlib.import_module("openrlhf.trainer.ppo_utils.samples_generator")
        prompts = importlib.import_module("openrlhf.datasets").PromptDataset
        ready = SimpleNamespace(wait=lambda refs, **_: (refs[:1], refs[1:]), get=lambda ref: ref)
        host.ray = samples.ray = ready
        samples.SamplingParams = Namespace
        strategy = SimpleNamespace(args=args, is_rank_0=lambda: False)
        given = prompts([{"input": row["prompt"], "datasource": row["level"]} for row in run.rows], None, strategy)
        host.prepare_datasets = lambda *_: (SimpleNamespace(dataset=given), None, 99)
        host.get_tokenizer = host.RemoteExperienceMaker = lambda *_, **__: None
        adapter.plug_in(run.recipe, by_datasource=True)
        step_now, evaluating = [run.steps.start], [False]

        class Engine:
            """One engine, which answers as OpenRLHF's executor does."""

            get_num_unfinished_requests = SimpleNamespace(remote=lambda: 0)

            def __init__(self) -> None:
                self.generate_responses = SimpleNamespace(remote=self._answers)

            def _answers(self, prompt: str, label: str, num_samples: int, **_: Any) -> list[dict[str, Any]]:
                assert num_samples == GROUP_SIZE
                if not evaluating[0]:
                    ran.prompts += [[]] * (step_now[0] + 1 - run.steps.start - len(ran.prompts))
                    ran.prompts[-1] = [*ran.prompts[-1], prompt]
                same = {"prompt": prompt, "label": label, "observation_tokens": [1] * 8, "action_ranges": [(3, 8)]}
                rewards = rewards_of(prompt, step_now[0])
                return [same | {"reward": reward, "scores": reward, "rollout_log_probs": None} for reward in rewards]

        in_actor = cloudpickle.loads(cloudpickle.dumps(host.PPOTrainer.__ray_metadata__.modified_class))  # as Ray sends it there
        trainer = in_actor("model", strategy, checkpoints, None, None, None, [Engine()], max_len=64, max_new_tokens=32)
        trainer.broadcast_to_vllm = lambda: None

        def train_step(experiences: Any, global_step: int) -> Any:
            ran.trained.append(list(dict.fromkeys(prompt for one in experiences for prompt in one.prompts)))
            evaluating[0] = True
            trainer.samples_generator.eval_dataloader = [([""], [row["prompt"]], [""], [None]) for row in run.rows[:3]]
            assert len(trainer.samples_generator.generate_eval_samples()) == 3 * GROUP_SIZE
            evaluating[0] = False
            step_now[0] += 1
            return {}, global_step + 1

        trainer.train_step = train_step
        trainer.save_logs_and_checkpoints = _stopping(trainer.save_logs_and_checkpoints, run.steps.stop)
        with contextlib.suppress(_Stop):
            trainer.fit()
        return ran.ended(trainer.prompts_dataloader.groups)


class _Stop(Exception):
    pass


def _stopping(after: Callable[..., None], last: int) -> Callable[..., None]:
    def save_and_stop(global_step: int, *args: Any) -> None:
        after(global_step, *args)
        if global_step == last:
            raise _Stop

    return save_and_stop


class _Checkpoints:
    """In the place of OpenRLHF's actors, which write and read client states with torch."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "_actor" / "client_states.pt"

    def async_run_method(self, method_name: str, client_states: Any = None, **_: Any) -> list[Any]:
        if method_name == "save_checkpoint":
            self._file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(client_states, self._file)
        return [torch.load(self._file, weights_only=False)]


def _openrlhf_args(run: Run) -> Any:
    drops = run.settings.get("dynamic_filtering", False)
    advantage = Namespace(is_correction_level="off")
    return Namespace(
        data=Namespace(input_key="input", label_key=None, apply_chat_template=False, disable_fast_tokenizer=False),
        rollout=Namespace(batch_size=BATCH, n_samples_per_prompt=GROUP_SIZE, vllm_generate_batch_size=None),
        algo=Namespace(
            dynamic_filtering_enable=drops,
            dynamic_filtering_range=[0, 1],
            advantage=advantage,
            kl=Namespace(target=None, init_coef=0),
        ),
        train=Namespace(seed=0, num_episodes=run.settings.get("epochs", 9)),
        eval=Namespace(steps=-1),
        ckpt=Namespace(save_steps=1, path=str(run.folder), load_enable=run.steps.start > 0, best_metric_key=""),
        logger=Namespace(logging_steps=1, wandb=Namespace(key=None), tensorboard_dir=None),
        vllm=Namespace(enable_sleep=False),
    )


# --- slime: its rollout function and data source, from its source tree or as stand-ins --------------------------------------------


@contextmanager
def slime_adapter(entry: str) -> Iterator[Any]:
    with importable(entry, "slime", "0.3.1", SLIME if entry != STANDINS else ()):
        yield importlib.import_module("trainer.integrations.slime")


def slime_data(adapter: Any, run: Run) -> Any:
    """The data source as slime makes it."""
    run.folder.mkdir(parents=True, exist_ok=True)
    file = run.folder / "prompts.jsonl"
    file.write_text("".join(json.dumps({"text": row["prompt"], "metadata": row}) + "\n" for row in run.rows))
    source = importlib.import_module("slime.rollout.data_source")
    source.load_tokenizer = source.load_processor = lambda *_, **__: None
    settings = {"recipe": run.recipe, "id_key": "id", "distribution_key": "level"}
    return type("Data", (adapter.CurriculumData,), settings)(_slime_args(run, file))


def slime(run: Run, entry: str = STANDINS) -> Ran:
    with slime_adapter(entry) as adapter:
        ran, data = Ran(), slime_data(adapter, run)
        host = importlib.import_module("slime.rollout.sglang_rollout")
        step_now = [0]

        async def made(args: Any, group: Any, sampling_params: Any, evaluation: bool = False) -> Any:
            ran.prompts += [[]] * (step_now[0] + 1 - run.steps.start - len(ran.prompts))
            ran.prompts[-1] = [*ran.prompts[-1], group[0].prompt]
            for sample, reward in zip(group, rewards_of(group[0].prompt, step_now[0]), strict=True):
                sample.reward, sample.response, sample.response_length = reward, "words", 5
            return group

        async def workers(_: str) -> Any:
            return {"workers": []}

        host.generate_and_rm_group = made
        host.load_tokenizer = host.load_processor = lambda *_, **__: None
        host.get_rollout_num_engines, host.get, host.abort_servers_until_idle = lambda _: 1, workers, _nothing
        if run.steps.start:
            data.load(run.steps.start - 1)
        for step in run.steps:
            step_now[0] = step
            out = host.generate_rollout(data.args, step, data)
            ran.trained.append([group[0].prompt for group in getattr(out, "samples", out)])
            data.save(step)
        return ran.ended(data.groups)


def _slime_args(run: Run, file: Path) -> Namespace:
    none = (
        "dump_details",
        "rollout_max_prompt_len",
        "multimodal_keys",
        "label_key",
        "tool_key",
        "buffer_filter_path",
        "reward_key",
    )
    unused = (
        "rollout_temperature",
        "rollout_top_k",
        "rollout_max_response_len",
        "rollout_stop",
        "rollout_stop_token_ids",
        "hf_checkpoint",
    )
    return Namespace(
        **dict.fromkeys(
            (*none, *unused, "hf_checkpoint", "rollout_sample_filter_path", "sglang_dp_size", "rollout_skip_special_tokens")
        ),
        rollout_top_p=1.0,
        sglang_server_concurrency=8,
        sglang_router_ip="127.0.0.1",
        sglang_router_port=1,
        rollout_global_dataset=True,
        rollout_shuffle=True,
        rollout_seed=0,
        prompt_data=str(file),
        input_key="text",
        metadata_key="metadata",
        apply_chat_template=False,
        apply_chat_template_kwargs=None,
        n_samples_per_prompt=GROUP_SIZE,
        rollout_batch_size=BATCH,
        over_sampling_batch_size=run.settings.get("over_sampling", BATCH),
        partial_rollout=run.settings.get("partial_rollout", False),
        data_source_path="my_data.Data",
        dynamic_sampling_filter_path=run.settings.get("filter"),
        rollout_all_samples_process_path=run.settings.get("hook", "trainer.integrations.slime.take_back"),
        save=str(run.folder),
        load=str(run.folder),
    )


# --- prime-rl: its task source and curriculum, from its source tree or as stand-ins -----------------------------------------------


@contextmanager
def prime_rl_adapter(entry: str) -> Iterator[Any]:
    with importable(entry, "prime_rl", "0.8.0", PRIME_RL if entry != STANDINS else ()):
        if entry != STANDINS:
            kinds = ("CurriculumConfig", "StandardSamplerConfig", "DifficultyPoolSamplerConfig", "AdvRangeGateConfig")
            configs = importlib.import_module("prime_rl.configs.orchestrator")
            made = {name: type(name, (), {}) for name in kinds}
            made["CurriculumConfig"].sampler, made["CurriculumConfig"].gates = made["StandardSamplerConfig"](), {}
            vars(configs).update(made)
            source = importlib.import_module("prime_rl.orchestrator.train_source")
            source.TaskRequest = SimpleNamespace
            importlib.import_module("prime_rl.orchestrator.orchestrator").TrainSource = source.TrainSource
        yield importlib.import_module("trainer.integrations.prime_rl")


def prime_rl_source(adapter: Any, run: Run) -> Any:
    """The task source as prime-rl's orchestrator makes it."""
    tasks = [SimpleNamespace(key=row["id"], data=SimpleNamespace(prompt=row["prompt"], level=row["level"])) for row in run.rows]
    config = SimpleNamespace(ratio=1.0, curriculum=None, group_size=GROUP_SIZE)
    adapter.plug_in(run.recipe, n_groups=BATCH, distribution=lambda task: task.data.level)
    envs = [SimpleNamespace(name="made", tasks=iter(tasks), num_tasks=len(tasks), config=config)]
    return importlib.import_module("prime_rl.orchestrator.orchestrator").TrainSource(envs)


def episodes_of(task: Any, rewards: list[float]) -> list[Any]:
    agent = SimpleNamespace(trainable=True)
    traces = [SimpleNamespace(agent=agent, has_error=np.isnan(r), reward=r, num_output_tokens=5) for r in rewards]
    env = SimpleNamespace(name="made")
    return [SimpleNamespace(task=task, env=env, traces=[trace], group=SimpleNamespace(id="g"), run=None) for trace in traces]


def prime_rl(run: Run, entry: str = STANDINS) -> Ran:
    with prime_rl_adapter(entry) as adapter:
        ran, source = Ran(), prime_rl_source(adapter, run)
        file = run.folder / "progress.pt"
        if run.steps.start:
            source.load_state_dict(torch.load(file, weights_only=False)["train_source"])
        for step in run.steps:
            tasks = [source.next_task(step=step).task for _ in range(BATCH)]
            ran.prompts.append([task.data.prompt for task in tasks])
            admitted = [source.on_result(episodes_of(task, rewards_of(task.data.prompt, step))) for task in tasks]
            ran.trained.append([task.data.prompt for task, kept in zip(tasks, admitted, strict=True) if kept])
        run.folder.mkdir(parents=True, exist_ok=True)
        buffer = io.BytesIO()
        torch.save({"train_source": source.state_dict()}, buffer)
        file.write_bytes(buffer.getvalue())
        return ran.ended(source.curricula["made"].sampler.groups)
