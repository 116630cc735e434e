"""Is what our adapters hook into still there in the newest release of a host? Read from its wheel, which is not installed.

    python -m benchmarks.host_drift [verl ...] [--version 0.9.0] [--path FOLDER_OR_WHEEL]

Downloads the newest wheel of each host (or that version, or reads what lies at a path, such as a checkout) and looks up every name
in `HOSTS`: is it there, does it take the same arguments, does its text still say what we rely on? Exit status 1 if something
moved. Not part of `make test`: the answer changes when a host does a release, not when we change something. A new host is a new
entry of `HOSTS`.
"""

from __future__ import annotations

import argparse
import ast
import copy
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Read = Callable[[str], str | None]  # text of a file of the host, None where there is none


@dataclass(frozen=True)
class Hook:
    """A function, method or class of a host that an adapter overrides, calls or is called by."""

    name: str  # "function", "Class" or "Class.method"
    arguments: str | None = None  # names and defaults in order; None = whatever they are
    says: tuple[str, ...] = ()  # pieces of its source that we rely on


@dataclass(frozen=True)
class Host:
    """What one adapter relies on."""

    wheel: str  # what pip is asked for
    tested: str
    hooks: Mapping[str, Sequence[Hook]]  # by file


HOSTS = {
    "verl": Host(
        "verl",
        "0.9.1",
        {
            "verl/trainer/ppo/v1/trainer_base.py": (
                Hook(
                    "PPOTrainer._build_replay_buffer",
                    "self",
                    ("refill_fn=self._add_prompts_to_generate", "sampler_kwargs=", "custom_sampler.path"),
                ),
                Hook("PPOTrainer._init_dataloader", "self", ("self.train_dataset =", "self.train_dataloader =")),
                Hook("PPOTrainer._next_train_batch", "self, num_prompts=None", ('assign_non_tensor_data(batch, "global_steps"',)),
                Hook("PPOTrainer._fetch_one_gen_batch", "self", ('batch_dict["uid"]', "get_tensordict(batch_dict)")),
                Hook(
                    "PPOTrainer._add_batch_to_generate",
                    "self",
                    ("self._next_train_batch()", "self._submit_batch_to_rollout(batch)"),
                ),
                Hook("PPOTrainer._submit_batch_to_rollout", "self, batch", ('"is_prompt": True', '"status": "pending"')),
                Hook(
                    "PPOTrainer._step_once",
                    "self, metrics, timing_raw, sample_batch_size",
                    ("self.replay_buffer.sample(", "self._compute_advantage(batch"),
                ),
                Hook("PPOTrainer._compute_advantage", "self, batch, metrics", ('"advantages", "returns"', "response_to_nested")),
                Hook("PPOTrainer._save_checkpoint", "self", ("torch.save(self.train_dataloader.state_dict()",)),
                Hook("PPOTrainer._load_checkpoint", "self", ("self.train_dataloader.load_state_dict(",)),
            ),
            "verl/trainer/ppo/v1/replay_buffer.py": (
                Hook("ReplayBuffer.sample", "self, global_steps, partition_id, batch_size"),
                Hook(
                    "ReplayBuffer._sync_metadata_from_transfer_queue",
                    "self",
                    ("self.prompt_global_steps", "self.finished_keys", "self.failure_keys"),
                ),
                Hook("ReplayBuffer._wait_for_next_poll", "self, partition_id, last_debug_time"),
            ),
            "verl/trainer/ppo/v1/agent_loop_tq.py": (
                Hook("AgentLoopWorkerTQ._run_prompt", None, ('prompt.pop("__rollout_n__"',)),
                Hook("AgentLoopWorkerTQ._agent_loop_postprocess", None, ('f"{uid}_{session_id}_{i}"',)),
            ),
            "verl/trainer/ppo/core_algos.py": (
                Hook("compute_grpo_outcome_advantage", None, ("epsilon: float = 1e-6", "torch.std(", "norm_adv_by_std_in_grpo")),
            ),
            "verl/utils/dataset/rl_dataset.py": (
                Hook("collate_fn", "data_list"),
                Hook("RLHFDataset._read_files_and_tokenize", "self", ("self.dataframe",)),
            ),
        },
    ),
    "verl_sampler": Host(
        "verl<0.8",
        "0.7.1",
        {
            "verl/experimental/dataset/sampler.py": (
                Hook("AbstractCurriculumSampler.update", "self, batch"),
                Hook("AbstractSampler.__init__", "self, data_source, data_config"),
            ),
            "verl/trainer/main_ppo.py": (
                Hook("create_rl_sampler", "data_config, dataset", ("class_path", "class_name", "data_source=dataset")),
            ),
            "verl/trainer/ppo/ray_trainer.py": (
                Hook("RayPPOTrainer.fit", "self", ("self.train_dataloader.sampler.update(batch=batch)",)),
            ),
        },
    ),
    "trl": Host(
        "trl",
        "1.16.0",
        {
            "trl/trainer/grpo_trainer.py": (
                Hook(
                    "GRPOTrainer._generate_and_score_completions", "self, inputs", ("self._generate(", "self._calculate_rewards(")
                ),
                Hook("GRPOTrainer._generate", "self, prompts"),
                Hook("GRPOTrainer._calculate_rewards", "self, inputs, prompts, completions, completion_ids_list"),
                Hook(
                    "GRPOTrainer", None, ('"tool_mask"', "self._pending_extra_logs", "num_items_in_batch", "frac_reward_zero_std")
                ),
            ),
        },
    ),
    "skyrl": Host(
        "skyrl",
        "0.3.0",
        {
            "skyrl/train/trainer.py": (
                Hook("RayPPOTrainer._build_train_dataloader_and_compute_training_steps", "self", ("self.train_dataloader",)),
                Hook("RayPPOTrainer.generate", "self, input_batch"),
                Hook("RayPPOTrainer.convert_to_training_input", "self, generator_output, uids"),
                Hook("RayPPOTrainer.load_checkpoints", "self", ("self.train_dataloader.load_state_dict(",)),
                Hook("RayPPOTrainer.train", "self", ("self.generate(", "self.convert_to_training_input(")),
            ),
        },
    ),
    "openrlhf": Host(
        "openrlhf",
        "0.11.2",
        {
            "openrlhf/trainer/ppo_trainer.py": (Hook("PPOTrainer"),),
            "openrlhf/trainer/ppo_utils/samples_generator.py": (
                Hook("SamplesGenerator.generate_samples"),
                Hook("SamplesGenerator._process_response_into_experience", "self, response, **generate_kwargs", ('response["',)),
            ),
        },
    ),
}


def main(arguments: Sequence[str]) -> int:
    """Exit status of the command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("hosts", nargs="*", metavar="host", help=f"of {', '.join(HOSTS)}; all of them by default")
    parser.add_argument("--version", help="this release instead of the newest")
    parser.add_argument("--path", type=Path, help="a wheel or a folder instead of a download")
    options = parser.parse_args(arguments)
    moved = False
    for name in options.hosts or HOSTS:
        if name not in HOSTS:
            parser.error(f"unknown host {name!r}; known: {', '.join(HOSTS)}")
        with tempfile.TemporaryDirectory() as folder:
            path = options.path or downloaded(HOSTS[name].wheel, options.version, Path(folder))
            drifts = drift(HOSTS[name], reader(path))
        print(f"{name}: {path.name}, tested {HOSTS[name].tested}: {'; '.join(drifts) if drifts else 'all hooks are there'}")
        moved |= bool(drifts)
    return int(moved)


def drift(host: Host, read: Read) -> list[str]:
    """What is no longer as the adapter needs it, one sentence each."""
    found = []
    for file, hooks in host.hooks.items():
        text = read(file)
        if text is None:
            found.append(f"{file} is gone")
            continue
        tree = ast.parse(text)
        for hook in hooks:
            node = _node(tree, hook.name)
            if node is None:
                found.append(f"{file}: {hook.name} is gone")
                continue
            given = _arguments(node)
            if hook.arguments is not None and given != hook.arguments:
                found.append(f"{file}: {hook.name}({given}), was ({hook.arguments})")
            source = ast.get_source_segment(text, node) or ""
            found += [f"{file}: {hook.name} no longer says {piece!r}" for piece in hook.says if piece not in source]
    return found


def reader(path: Path) -> Read:
    """Files of an unpacked host, or of its wheel."""
    if path.is_dir():
        return lambda file: (path / file).read_text() if (path / file).is_file() else None
    archive = zipfile.ZipFile(path)
    names = {
        name.partition(".data/purelib/")[2] or name: name for name in archive.namelist()
    }  # wheels that are not pure have it so
    return lambda file: archive.read(names[file]).decode() if file in names else None


def downloaded(wheel: str, version: str | None, folder: Path) -> Path:
    """The newest wheel, or that of a version."""
    name = wheel.partition("<")[0]
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
    ]
    done = subprocess.run([*command, f"{name}=={version}" if version else wheel], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{wheel} cannot be downloaded:\n{done.stderr.strip()[-2000:]}")
    return next(folder.glob("*.whl"))


def _node(tree: ast.Module, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    inside: Sequence[ast.stmt] = tree.body
    node = None
    for part in name.split("."):
        node = next((n for n in inside if isinstance(n, kinds) and n.name == part), None)
        if node is None:
            return None
        inside = node.body
    return node


def _arguments(node: ast.AST) -> str:
    """Names and defaults, without types."""
    if isinstance(node, ast.ClassDef):
        return ""
    assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    bare = copy.deepcopy(node.args)
    for argument in ast.walk(bare):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    return ast.unparse(bare)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
