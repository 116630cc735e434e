"""How fast logs of other trainers are read, against parsing the same file and throwing the rows away.

    python -m benchmarks.importers [--rows 2048] [--rounds 5] [--formats verl trl ...] [--json importers.json]

Every format gets a synthetic log in a temporary folder: groups of 8, prompts of 600 characters, completions of 3,000 (1,000 tokens
where the format holds tokens). *Plain* is `json.loads` of every line, pyarrow's batches as Python objects, or `torch.load`. Time is
processor time, both taken in turn in one process; the ratio is the median of the rounds' ratios. Memory is what the largest memory
of a fresh process grows by while it reads once (Linux only).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from replay.importers import known_formats, read

GROUP, N_TOKENS, GROUPS_PER_STEP = 8, 1000, 32
Rows = Iterator[tuple[int, int, int, "Sample"]]  # step, group of the step, member, sample


class Sample(NamedTuple):
    """One rollout, as every format tells it in its own words."""

    prompt: str
    response: str
    prompt_tokens: list[int]
    tokens: list[int]
    logprobs: list[float]
    reward: float


class Reading(NamedTuple):
    """One row of the table."""

    format: str
    megabytes: float
    rows_per_s: float
    plain_rows_per_s: float
    ratio: float  # importer's time / plain time
    peak_mb: float
    plain_peak_mb: float


def samples(n_rows: int) -> Rows:
    """Rollouts of texts made of words, as plain as mathematics homework."""
    rng = np.random.default_rng(0)
    words = np.array(["".join(rng.choice(list("abcdefghilmnoprstu"), size)) for size in rng.integers(2, 9, 500)])

    def text(size: int) -> str:
        return " ".join(words[rng.integers(0, 500, size // 3)])[:size]

    for row in range(n_rows):
        group, member = divmod(row, GROUP)
        if member == 0:
            prompt, prompt_tokens = text(600), rng.integers(0, 150_000, 200).tolist()
        tokens, logprobs = rng.integers(0, 150_000, N_TOKENS).tolist(), (-rng.exponential(size=N_TOKENS)).tolist()
        reward = float(rng.integers(0, 2))
        step, at = divmod(group, GROUPS_PER_STEP)
        yield step, at, member, Sample(prompt, text(3000), prompt_tokens, tokens, logprobs, reward)


# --- one log per format


def verl(step: int, group: int, member: int, s: Sample) -> dict[str, Any]:
    return {"input": s.prompt, "output": s.response, "gts": "4", "score": s.reward, "step": step, "uid": f"{group:032x}_{member}_0"}


def verifiers(step: int, group: int, member: int, s: Sample) -> dict[str, Any]:
    said = {"prompt": [{"role": "user", "content": s.prompt}], "completion": [{"role": "assistant", "content": s.response}]}
    return {"example_id": step * GROUPS_PER_STEP + group, "task": "sums", "reward": s.reward, "metrics": {}, "answer": "4"} | said


def nemo_gym(step: int, group: int, member: int, s: Sample) -> dict[str, Any]:
    answer = {"output": [{"content": [{"text": s.response}]}], "usage": {"output_tokens": N_TOKENS}}
    asked = {"input": [{"role": "user", "content": s.prompt}]}
    ids = {"_ng_task_index": step * GROUPS_PER_STEP + group, "_ng_rollout_index": member}
    return ids | {"responses_create_params": asked, "response": answer, "reward": s.reward}


def tinker(step: int, group: int, member: int, s: Sample) -> dict[str, Any]:
    turn = {"step_idx": 0, "ob_len": 200, "ac_len": N_TOKENS, "reward": s.reward, "episode_done": True, "metrics": {}, "logs": {}}
    ids = {"schema_version": 1, "split": "train", "iteration": step, "group_idx": group, "traj_idx": member, "tags": ["sums"]}
    rest = {"final_reward": 0.0, "trajectory_metrics": {}, "steps": [turn] * 4, "final_ob_len": 1200}
    return ids | {"sampling_client_step": step, "total_reward": s.reward} | rest


def trinity(step: int, group: int, member: int, s: Sample) -> dict[str, Any]:
    id = {"batch": step, "task": group, "run": member, "step": 0, "suffix": "a1b2c3"}
    info = {"model_version": step, "task_index": {"index": step * GROUPS_PER_STEP + group, "taskset_id": 0}}
    row = {"eid": id, "type": "single_turn", "prompt_length": 200, "response_length": N_TOKENS, "info": info, "metrics": {}}
    return row | {"prompt_text": s.prompt, "response_text": s.response, "reward": s.reward}


def skyrl(step: int, group: int, member: int, s: Sample) -> dict[str, Any]:
    row = {"input_prompt": s.prompt, "output_response": s.response, "score": s.reward, "stop_reason": "stop"}
    return row | {"env_class": "gsm8k", "env_extras": {"extra_info": {"index": group}}, "data_source": "gsm8k"}


def areal(step: int, group: int, member: int, s: Sample) -> dict[str, Any]:
    ids = {"task_id": step * GROUPS_PER_STEP + group, "sample_idx": member, "seqlen": 200 + N_TOKENS, "prompt_len": 200}
    return ids | {"head_version": -1, "tail_version": step, "reward": s.reward, "prompt": s.prompt, "completion": s.response}


def open_instruct(step: int, group: int, member: int, s: Sample) -> dict[str, Any]:
    ids = {"step": step, "sample_idx": group * GROUP + member, "prompt_idx": group, "dataset": "math", "ground_truth": "4"}
    tokens = {"prompt_tokens": s.prompt_tokens, "response_tokens": s.tokens, "logprobs": s.logprobs}
    return ids | tokens | {"reward": s.reward, "advantage": 0.0, "finish_reason": "stop", "request_info": None}


def nemo_rl(step: int, group: int, member: int, s: Sample) -> dict[str, Any]:
    ids, mask = s.prompt_tokens + s.tokens, [0] * 200 + [1] * N_TOKENS
    per_token = [0.0] * 200 + s.logprobs
    row = {
        "content": [s.prompt, s.response],
        "rewards": s.reward,
        "input_lengths": len(ids),
        "token_ids": ids,
        "token_loss_mask": mask,
    }
    more = {"advantages": [0.5] * len(ids), "generation_logprobs": per_token, "prev_logprobs": per_token}
    return row | more | {"sample_loss_mask": 1.0, "idx": group * GROUP + member}


def prime_rl(step: int, group: int, member: int, s: Sample) -> dict[str, Any]:
    asked = {"message": {"role": "user", "content": s.prompt}, "sampled": False, "token_ids": s.prompt_tokens}
    wrote = {"message": {"role": "assistant", "content": s.response}, "sampled": True, "token_ids": s.tokens}
    wrote |= {"mask": [True] * N_TOKENS, "logprobs": s.logprobs, "parent": 0}
    trace = {"id": "t", "agent": {"name": "solver", "trainable": True}, "nodes": [asked, wrote], "ok": True}
    trace |= {"rewards": {"reward": {"score": s.reward, "weight": 1.0}}, "metrics": {}, "is_completed": True}
    work = {"type": "train", "step": step, "policy": {"start": step, "end": step}}
    ids = {"id": f"{step}-{group}-{member}", "env": {"name": "sums"}, "group": {"id": f"{step}-{group}"}, "run": {"work": work}}
    return ids | {"task": {"type": "sum", "key": f"{step}-{group}", "data": {"prompt": s.prompt}}, "ok": True, "traces": [trace]}


def mapping(step: int, group: int, member: int, s: Sample) -> dict[str, Any]:
    return {"prompt": s.prompt, "completion": s.response, "reward": s.reward, "step": step, "group": group}


def trl(step: int, group: int, member: int, s: Sample) -> dict[str, Any]:
    return {"step": step, "prompt": s.prompt, "completion": s.response, "accuracy": s.reward, "advantage": 0.0}


def slime(step: int, group: int, member: int, s: Sample) -> dict[str, Any]:
    ids = {"group_index": step * GROUPS_PER_STEP + group, "index": group * GROUP + member, "rollout_id": None}
    tokens = {"tokens": s.prompt_tokens + s.tokens, "rollout_log_probs": s.logprobs, "loss_mask": [1] * N_TOKENS}
    said = {"prompt": s.prompt, "response": s.response, "response_length": N_TOKENS, "label": "4", "reward": s.reward}
    return ids | tokens | said | {"weight_versions": [str(step)], "status": "completed", "metadata": {}}


def roll(step: int, group: int, member: int, s: Sample) -> dict[str, Any]:
    id = str(step * GROUPS_PER_STEP + group)
    row = {"id": id, "source": "web", "difficulty": "1", "prompt": s.prompt, "domain": "math", "responses": s.response}
    return row | {"scores": s.reward, "global_step": step, "sampling_params": "{}"}


ROWS: dict[str, Callable[[int, int, int, Sample], dict[str, Any]]] = {
    f.__name__: f
    for f in (verl, verifiers, nemo_gym, tinker, trinity, skyrl, areal, open_instruct, nemo_rl, prime_rl, mapping, trl, slime, roll)
}
NAMES = {"open_instruct": "run_rollouts_000000.jsonl"}
SPECS: dict[str, Any] = {"mapping": {"prompt": "prompt", "step": "step", "group": "group"}}


def write(format: str, n_rows: int, folder: Path) -> Path:
    """The log of a format: a file, or a folder with a file per step where a file is one step."""
    steps: dict[int, list[dict[str, Any]]] = {}
    for step, group, member, sample in samples(n_rows):
        steps.setdefault(step, []).append(ROWS[format](step, group, member, sample))
    if format == "trl":
        import pyarrow as pa
        from pyarrow import parquet

        for step, rows in steps.items():
            parquet.write_table(pa.Table.from_pylist(rows), folder / f"completions_{step:05d}.parquet")
    elif format == "slime":
        import torch

        for step, rows in steps.items():
            torch.save({"rollout_id": step, "samples": rows}, folder / f"{step}.pt")
    elif format == "nemo_rl":
        for step, rows in steps.items():
            jsonl(folder / f"train_data_step{step}.jsonl", rows)
    elif format == "roll":
        columns = [{name: [row[name] for row in rows] for name in rows[0]} for rows in steps.values()]
        jsonl(folder / "rollout_dump_data.step_0.jsonl", columns)
    else:
        path = folder / NAMES.get(format, "log.jsonl")
        jsonl(path, [row for rows in steps.values() for row in rows])
        return path
    return folder


def jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


# --- both ways of reading


def plainly(path: Path) -> None:
    """Every row as Python objects, and nothing done with them."""
    for file in sorted(path.iterdir()) if path.is_dir() else [path]:
        if file.suffix == ".parquet":
            from pyarrow.parquet import ParquetFile

            with ParquetFile(file) as table:
                for batch in table.iter_batches(batch_size=1024):
                    batch.to_pylist()
        elif file.suffix == ".pt":
            import torch

            torch.load(file, map_location="cpu", weights_only=True)
        else:
            with file.open("rb") as lines:
                for line in lines:
                    json.loads(line)


def imported(format: str, path: Path) -> None:
    read(path, SPECS.get(format, format))


def seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def grown(format: str, path: Path, way: str) -> float:
    """Megabytes by which the largest memory of a fresh process grows; what reading imports is loaded before."""
    code = "import sys, pathlib; from benchmarks.importers import grow; grow(sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3])"
    done = subprocess.run([sys.executable, "-c", code, format, str(path), way], capture_output=True, text=True, check=True)
    return float(done.stdout)


def grow(format: str, path: Path, way: str) -> None:
    """The child of `grown`."""
    with tempfile.TemporaryDirectory() as small:
        one = write(format, GROUP, Path(small))
        imported(format, one)
        plainly(one)
    before = largest()
    imported(format, path) if way == "imported" else plainly(path)
    print(largest() - before)


def largest() -> float:
    """Megabytes at this process's highest; getrusage would count its parent's too."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def measure(format: str, n_rows: int, n_rounds: int) -> Reading:
    """One format: both ways in turn, then the memory of each."""
    with tempfile.TemporaryDirectory() as folder:
        path = write(format, n_rows, Path(folder))
        run = read(path, SPECS.get(format, format))
        assert len(run.reward_R) == n_rows, f"{format}: {len(run.reward_R)} of {n_rows} rollouts"
        assert len(run) == n_rows // GROUP, f"{format}: {len(run)} groups"
        times = np.array([[seconds(lambda: imported(format, path)), seconds(lambda: plainly(path))] for _ in range(n_rounds)])
        size = sum(file.stat().st_size for file in (path.iterdir() if path.is_dir() else [path])) / 1e6
        ours, plain = np.median(times, axis=0)
        ratio = float(np.median(times[:, 0] / times[:, 1]))
        peaks = [grown(format, path, way) for way in ("imported", "plain")]
    return Reading(format, size, n_rows / ours, n_rows / plain, ratio, *peaks)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--formats", nargs="+", default=known_formats(), choices=known_formats())
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    readings: list[Mapping[str, Any]] = []
    print(f"{'format':14} {'MB':>6} {'rows/s':>9} {'plain':>9} {'time ratio':>10} {'peak MB':>8} {'plain':>6}")
    for format in given.formats:
        r = measure(format, given.rows // GROUP * GROUP, given.rounds)
        readings.append(r._asdict())
        print(
            f"{r.format:14} {r.megabytes:6.1f} {r.rows_per_s:9,.0f} {r.plain_rows_per_s:9,.0f} {r.ratio:10.2f} "
            f"{r.peak_mb:8.1f} {r.plain_peak_mb:6.1f}",
            flush=True,
        )
    if given.json:
        given.json.write_text(json.dumps(readings))


if __name__ == "__main__":
    main()
