"""A small model to begin with: made from a config, taught worked examples until it gets some of them right, kept for the next run.

GRPO needs rewards that differ inside groups, so a model has to solve some prompts before it can be improved. Any task with a method
``worked_example(prompt) -> completion`` can be warmed up.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from curricula.types import CurriculaError, known_or_raise
from rollout.prompts import Prompt, PromptSet
from rollout.rewards import load_reward
from rollout.tasks import build_task
from trainer.muon import Muon
from trainer.recipe import Recipe

VERSION = 3  # of this recipe for models; a new one makes old cached models unused
PAD, END = "<pad>", "<eos>"
WARM_UP_STEPS = 30


@dataclass(frozen=True)
class WarmStartSettings:
    """``warm_start`` of a recipe.

    The model's shape and how long it is taught. The defaults take about half a minute on two cores.
    """

    name: str = "tiny"
    layers: int = 2
    hidden: int = 128
    heads: int = 4
    window: int = 256  # tokens
    rope_theta: float = 100.0  # short sequences: small wavelengths
    target: float = 0.26  # mean sampled accuracy over distributions at which teaching ends
    max_steps: int = 600
    check_every: int = 10  # steps; every second one after a quarter of the target, as accuracy then climbs within a few
    batch: int = 64
    matrix_lr: float = 0.02  # Muon
    other_lr: float = 2e-3  # AdamW: embeddings and norms
    checked_prompts: int = 48  # per distribution
    cache: str = ".cache/models"


def warmed_settings(recipe: Recipe) -> WarmStartSettings:
    """The recipe's warm start. Errors: CurriculaError for unknown keys."""
    given = dict(recipe.warm_start or {})
    for key in given:
        known_or_raise("key of warm_start", key, [field.name for field in dataclasses.fields(WarmStartSettings)])
    settings = WarmStartSettings(**given)
    known_or_raise("warm start", settings.name, ["tiny"])
    return settings


def warmed_folder(recipe: Recipe) -> Path:
    """Where the model is, or will be: named by everything that it depends on."""
    settings = warmed_settings(recipe)
    facts = {"version": VERSION, "task": recipe.task, "seed": recipe.seed, **dataclasses.asdict(settings)}
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    return Path(settings.cache) / f"{settings.name}-{digest}"


def warm_started(recipe: Recipe) -> Path:
    """Folder of the recipe's model, which transformers and vLLM load; made if it is not there."""
    folder = warmed_folder(recipe)
    if (folder / "warm_start.json").exists():
        return folder
    task = build_task(recipe.task)
    if not hasattr(task, "worked_example"):
        raise CurriculaError(
            f"warm_start: the task {recipe.task['name']!r} has no worked examples; name a model in model.path instead"
        )
    settings = warmed_settings(recipe)
    train, held_out = task.build(recipe.seed)
    pupil = Pupil.new(settings, [*train.prompts, *held_out.prompts], task.worked_example, recipe.seed)
    history = pupil.learn(train, recipe.seed)
    if not history or history[-1]["accuracy"] < settings.target:
        reached = f"{history[-1]['accuracy']:.2f}" if history else "unknown"
        print(
            f"warm start: {settings.max_steps} steps ended at accuracy {reached}, below the target of {settings.target:g}; it "
            "is used as it is. Raise warm_start.max_steps, or lower warm_start.target.",
            file=sys.stderr,
        )
    pupil.save(folder, history)
    return folder


class Pupil:
    """A model, its tokenizer, and the worked examples it is taught."""

    def __init__(self, model: Any, tokenizer: Any, worked_example: Any, settings: WarmStartSettings) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._worked_example = worked_example
        self._settings = settings

    @classmethod
    def new(cls, settings: WarmStartSettings, prompts: Sequence[Prompt], worked_example: Any, seed: int) -> Pupil:
        """Random weights by the seed; one token per character of the prompts and examples."""
        characters = sorted(set("".join(f"{prompt.content}{worked_example(prompt)}" for prompt in prompts)))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = tiny_model(settings, 2 + len(characters))
        return cls(model, character_tokenizer(characters), worked_example, settings)

    def learn(self, train: PromptSet, seed: int) -> list[dict[str, float]]:
        """Teach until the target; accuracy on training prompts at every check (held-out prompts decide nothing)."""
        settings, rng = self._settings, np.random.default_rng(seed)
        optimizers = self._optimizers()
        history: list[dict[str, float]] = []
        pause = settings.check_every
        for step in range(1, settings.max_steps + 1):
            rate = min(1.0, step / WARM_UP_STEPS)
            self._teach(self._batch(train, rng), optimizers, rate)
            if step % pause == 0:
                accuracy = self.accuracy(train, seed)
                history.append({"step": step, "accuracy": float(np.mean(list(accuracy.values()))), **accuracy})
                print(
                    f"warm start: step {step}, sampled accuracy {history[-1]['accuracy']:.2f} (until {settings.target:g})",
                    flush=True,
                )
                pause = 2 if history[-1]["accuracy"] > settings.target / 4 else settings.check_every
                if history[-1]["accuracy"] >= settings.target:
                    break
        return history

    @torch.no_grad()
    def accuracy(self, prompts: PromptSet, seed: int) -> dict[str, float]:
        """Share of rewarded completions by distribution, one sample per prompt."""
        reward = load_reward(prompts.reward.name)
        found = {}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for k, name in enumerate(prompts.pool.distribution_names):
                asked = [prompts.prompts[i] for i in prompts.pool.members(k)[: self._settings.checked_prompts]]
                texts = self._complete(
                    [str(prompt.content) for prompt in asked], 2 + max(len(self._worked_example(prompt)) for prompt in asked)
                )
                found[name] = float(
                    np.mean([reward(text, prompt.answer, prompt.extra) or 0.0 for text, prompt in zip(texts, asked, strict=True)])
                )
        return found

    def save(self, folder: Path, history: Sequence[dict[str, float]]) -> None:
        """The folder appears whole or not at all."""
        partial = folder.with_name(f".{folder.name}-{os.getpid()}")
        self._model.save_pretrained(partial)
        self._tokenizer.save_pretrained(partial)
        (partial / "warm_start.json").write_text(json.dumps(list(history), indent=1))
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(partial, folder)

    def _complete(self, texts: Sequence[str], max_tokens: int) -> list[str]:
        batch = self._tokenizer(list(texts), return_tensors="pt", padding=True, padding_side="left", return_token_type_ids=False)
        drawn = self._model.generate(**batch, do_sample=True, top_k=0, max_new_tokens=max_tokens)
        return list(self._tokenizer.batch_decode(drawn[:, batch["input_ids"].shape[1] :], skip_special_tokens=True))

    def _optimizers(self) -> list[torch.optim.Optimizer]:
        named = list(self._model.named_parameters())
        matrices = [parameter for name, parameter in named if parameter.ndim == 2 and "embed" not in name and "lm_head" not in name]
        chosen = {id(parameter) for parameter in matrices}
        others = [parameter for _, parameter in named if id(parameter) not in chosen]
        settings = self._settings
        return [
            Muon(matrices, lr=settings.matrix_lr),
            torch.optim.AdamW(others, lr=settings.other_lr, betas=(0.9, 0.98), weight_decay=0.0),
        ]

    def _batch(self, train: PromptSet, rng: np.random.Generator) -> list[tuple[list[int], int]]:
        """Token ids of prompt and example, and where the example begins; every distribution equally likely, sorted by length."""
        pool = train.pool
        rows = [int(rng.choice(pool.members(k))) for k in rng.integers(pool.n_distributions, size=self._settings.batch)]
        return sorted((self._encoded(train.prompts[row]) for row in rows), key=lambda pair: len(pair[0]))

    def _encoded(self, prompt: Prompt) -> tuple[list[int], int]:
        start = self._tokenizer(str(prompt.content))["input_ids"]
        example = self._tokenizer(self._worked_example(prompt))["input_ids"]
        return [*start, *example, self._tokenizer.eos_token_id], len(start)

    def _teach(self, batch: Sequence[tuple[list[int], int]], optimizers: Sequence[torch.optim.Optimizer], rate: float) -> None:
        n_tokens = sum(len(ids) - start for ids, start in batch)
        half = len(batch) // 2
        for part in (batch[:half], batch[half:]):  # short and long examples apart: less padding
            ids, target = _padded(part)
            logits = self._model(input_ids=ids, use_cache=False).logits
            (
                F.cross_entropy(logits.flatten(0, 1).float(), target.flatten(), ignore_index=-100, reduction="sum") / n_tokens
            ).backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        for optimizer, base in zip(optimizers, (self._settings.matrix_lr, self._settings.other_lr), strict=True):
            optimizer.param_groups[0]["lr"] = base * rate
            optimizer.step()
            optimizer.zero_grad()


def tiny_model(settings: WarmStartSettings, vocabulary: int) -> Any:
    """A Qwen3 with random weights in float32 (head_dim 32 is the smallest that vLLM's CPU attention takes)."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=vocabulary,
        hidden_size=settings.hidden,
        intermediate_size=3 * settings.hidden,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=max(1, settings.heads // 2),
        head_dim=32,
        max_position_embeddings=settings.window,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
        rope_parameters={"rope_type": "default", "rope_theta": settings.rope_theta},
    )
    return Qwen3ForCausalLM(config).float()


def character_tokenizer(characters: Sequence[str]) -> Any:
    """One token per character."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate([PAD, END, *characters])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=PAD))
    raw.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token=PAD, eos_token=END)


def _padded(batch: Sequence[tuple[list[int], int]]) -> tuple[Tensor, Tensor]:
    """Right-padded ids, and targets that are -100 outside the examples."""
    width = max(len(ids) for ids, _ in batch)
    ids_BT = torch.zeros(len(batch), width, dtype=torch.long)
    target_BT = torch.full((len(batch), width), -100)
    for row, (ids, start) in enumerate(batch):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        target_BT[row, start - 1 : len(ids) - 1] = torch.tensor(ids[start:])
    return ids_BT, target_BT
