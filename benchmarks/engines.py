"""Tokens per second of the engines on the same requests, in one run: ``python benchmarks/engines.py [--json out.json] [--quick]``.

- our transformers engine against ``generate`` of transformers (which reports no log-probabilities);
- our vLLM engine against vLLM's own offline loop, ``LLM.generate``, on the same requests with the same sampling parameters.

The two of a pair share a process and take turns; each pair has a process of its own, since vLLM changes the process that
imports it. The model has random weights and no end-of-sequence token, so all do the same work. One thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from rollout.engines import build_engine
from rollout.settings import EngineSettings
from rollout.types import Request, Sampling, Ticket
from tests.tiny import character_tokenizer, finish, save_tiny_model

PROMPTS, SAMPLES, TOKENS, WINDOW = 64, 8, 64, 256
Contender = Callable[[], int]  # runs once, returns the completion tokens it made


def requests(n_prompts: int) -> list[Request]:
    tokenizer = character_tokenizer()
    ids = [tuple(tokenizer(f"12+{i}=")["input_ids"]) for i in range(n_prompts)]
    return [Request(Ticket(i), prompt, SAMPLES, Sampling(max_tokens=TOKENS), seed=i) for i, prompt in enumerate(ids)]


def endless_model(folder: Path) -> str:
    """A 0.8 M model that never stops by itself."""
    from transformers import AutoConfig, GenerationConfig

    save_tiny_model(folder, hidden=128, layers=4)
    config = AutoConfig.from_pretrained(folder)
    config.eos_token_id = None
    config.save_pretrained(folder)
    GenerationConfig(pad_token_id=0).save_pretrained(folder)
    tokenizer = character_tokenizer()
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    return str(folder)


def settings(backend: str, dtype: str) -> EngineSettings:
    rows = PROMPTS * SAMPLES
    return EngineSettings(backend, dtype=dtype, max_concurrent_rollouts=rows, max_model_tokens=WINDOW)  # type: ignore[arg-type]


def count(answers: dict[Any, Any]) -> int:
    return sum(len(c.token_ids) for answer in answers.values() for c in answer.completions)


def transformers_pair(path: str, dtype: str, work: list[Request]) -> dict[str, Contender]:
    import torch
    from transformers import AutoModelForCausalLM

    engine: Any = build_engine(settings("transformers", dtype), path, "engine")
    model = AutoModelForCausalLM.from_pretrained(path, dtype=getattr(torch, dtype)).to(engine.device).eval()
    prompts = [r.prompt_ids for r in work for _ in range(r.n)]
    width = max(map(len, prompts))
    ids = torch.tensor([[0] * (width - len(p)) + list(p) for p in prompts], device=engine.device)

    def generate() -> int:
        out = model.generate(ids, attention_mask=(ids != 0).long(), do_sample=True, top_k=0, max_new_tokens=TOKENS)
        return int((out.shape[1] - width) * len(out))

    return {"TransformersEngine": lambda: count(finish(engine, work)), "HF generate": generate}


def vllm_pair(path: str, dtype: str, work: list[Request]) -> dict[str, Contender]:
    """Both drive one engine core, so model, arguments and memory are the same by construction."""
    from rollout.engines import vllm_engine

    started: list[Any] = []

    def start(arguments: dict[str, Any]) -> Any:
        from vllm import LLM

        started.append(LLM(**arguments))
        return started[0].llm_engine

    vllm_engine._start = start
    engine = build_engine(settings("vllm", dtype), path, "engine")

    def generate() -> int:
        prompts = [{"prompt_token_ids": list(r.prompt_ids)} for r in work]
        params = [vllm_engine._sampling_params(r, WINDOW) for r in work]
        return sum(len(c.token_ids) for output in started[0].generate(prompts, params, use_tqdm=False) for c in output.outputs)

    return {"VllmEngine": lambda: count(finish(engine, work)), "LLM.generate": generate}


PAIRS = {"transformers": transformers_pair, "vllm": vllm_pair}


def measure(contenders: dict[str, Contender], repeats: int) -> dict[str, list[float]]:
    """Tokens per second of each, taking turns after one warm-up."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(repeats + 1):
        for name, run in contenders.items():
            begin = time.perf_counter()
            tokens = run()
            if turn:
                rates[name].append(tokens / (time.perf_counter() - begin))
    return rates


def child(backend: str, dtype: str, path: str, quick: bool) -> None:
    work = requests(16 if quick else PROMPTS)
    rates = measure(PAIRS[backend](path, dtype, work), repeats=2 if quick else 5)
    print("RESULT " + json.dumps(rates))


def run_pair(backend: str, dtype: str, path: str, quick: bool) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", backend, dtype, path, *(["--quick"] if quick else [])]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise SystemExit(done.stderr[-3000:])
    rates = json.loads(line.removeprefix("RESULT "))
    ours, theirs = rates
    ratios = [a / b for a, b in zip(rates[ours], rates[theirs], strict=True)]
    medians = {name: statistics.median(values) for name, values in rates.items()}
    return {"dtype": dtype, "tokens_per_s": medians, "ratio": statistics.median(ratios), "ratios": ratios}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--child", nargs=3)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child, arguments.quick)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = endless_model(Path(folder) / "model")
        results = [run_pair(backend, dtype, path, arguments.quick) for backend in PAIRS for dtype in ("float32", "bfloat16")]
    for result in results:
        (ours, mine), (theirs, other) = result["tokens_per_s"].items()
        print(f"{result['dtype']:9} {ours:19} {mine:8.0f} tok/s   {theirs:13} {other:8.0f} tok/s   ratio {result['ratio']:.2f}")
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
