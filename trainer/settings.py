"""The model, learner and run parts of a recipe. The dataclasses are the schema: a field here is a key in YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from curricula.stuck import Stuck
from curricula.types import CurriculaError
from rollout.ranges import at_least
from trainer.advantages import WEIGHTED


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters instead of full weights."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.0
    target_modules: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

    def __post_init__(self) -> None:
        at_least("lora", 1, rank=self.rank)
        at_least("lora", 0, alpha=self.alpha, dropout=self.dropout)


@dataclass(frozen=True)
class ModelSettings:
    """The model that is made better."""

    path: str = ""  # Hugging Face name or a folder that from_pretrained reads
    dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of the learner's weights
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    gradient_checkpointing: bool = False
    lora: LoraSettings | None = None


Statistic = Literal["gradient_noise", "update_kl", "update_cosine", "grad_norm_l1"]  # see trainer/learner_statistics.py


@dataclass(frozen=True)
class LearnerSettings:
    """GRPO, its published relatives, and how they are computed."""

    advantage: Literal["grpo", "dr_grpo", "rloo", "remax", "opo", "oblr", "oblr_logits"] = "grpo"  # see trainer.advantages
    loss: Literal["clip", "gspo", "cispo"] = "clip"
    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None  # bound on the ratio for negative advantages (verl's clip_ratio_c)
    aggregation: Literal["token_mean", "sequence_mean", "constant"] = "token_mean"
    constant_tokens: int = 0  # divisor of "constant" per sequence; 0 = sampling.max_tokens
    kl_coefficient: float = 0.0  # > 0 keeps a frozen reference of the starting weights
    kl_estimator: Literal["k1", "k2", "k3"] = "k3"
    importance_cap: float | None = 2.0  # truncated importance weight learner/rollout per token; None = off
    token_share: float = 1.0  # of an update's tokens that carry loss, those with the largest |advantage| x entropy; 1 = all
    updates_per_step: int = 1  # optimiser steps per batch of rollouts (mini-batches, split by group)
    tokens_per_micro_batch: int = 16384  # prompt + completion, padding included
    logprob_chunk_tokens: int = 4096  # rows of the (tokens x vocabulary) matrix at a time
    max_grad_norm: float = 1.0
    optimizer: dict[str, Any] = field(default_factory=lambda: {"name": "adamw"})  # see trainer.optimizers
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    statistics: tuple[Statistic, ...] = ()  # to log beside what controllers of the learning rate need anyway
    n_ranks: int = 1
    placement: Literal["driver", "ray"] = "driver"
    gpus_per_rank: float = 0.0
    cpus_per_rank: float = 1.0

    def __post_init__(self) -> None:
        at_least("learner", 1, updates_per_step=self.updates_per_step, n_ranks=self.n_ranks)
        at_least("learner", 1, tokens_per_micro_batch=self.tokens_per_micro_batch, logprob_chunk_tokens=self.logprob_chunk_tokens)
        at_least("learner", 0, clip_low=self.clip_low, clip_high=self.clip_high, dual_clip=self.dual_clip)
        at_least("learner", 0, kl_coefficient=self.kl_coefficient, importance_cap=self.importance_cap)
        if not 0 < self.token_share <= 1:
            raise CurriculaError(f"learner.token_share: expected a share of the tokens in (0, 1], got {self.token_share}")
        at_least("learner", 0, max_grad_norm=self.max_grad_norm, weight_decay=self.weight_decay)
        if self.advantage in WEIGHTED and (self.aggregation == "sequence_mean" or self.token_share < 1):
            raise CurriculaError(
                f"learner.advantage: {self.advantage!r} weighs a rollout by the gradient of the sum over its tokens, and "
                f"aggregation {self.aggregation!r} with token_share {self.token_share:g} trains on something else; take "
                "aggregation token_mean or constant and token_share 1, or another advantage"
            )
        if self.placement == "driver" and self.n_ranks != 1:
            raise CurriculaError("learner: placement 'driver' holds one rank; use placement 'ray' for several")


@dataclass(frozen=True)
class GrowthSettings:
    """A pool that grows while training: every so many steps, prompts that the model is stuck on get children."""

    source: dict[str, Any]  # {name: ..., ...}, see rollout.growth
    every: int = 10  # steps; rollouts are not drawn ahead across a growth
    when: Stuck = field(default_factory=Stuck)
    most_parents: int = 16  # at a time, the hardest first; each is asked for children once
    most_depth: int = 3  # generations; hinted prompts have no children
    easier_by: float = 0.5  # prior pass rate of a child: p + easier_by x (1 - p) of what is believed of its parent

    def __post_init__(self) -> None:
        at_least("growth", 1, every=self.every, most_parents=self.most_parents, most_depth=self.most_depth)
        if not isinstance(self.source.get("name"), str):
            raise CurriculaError(
                f"growth.source: expected a mapping with a name, for example {{name: hinted}}; got {self.source!r}"
            )
        if not 0 <= self.easier_by <= 1:
            raise CurriculaError(f"growth.easier_by: expected a share in [0, 1], got {self.easier_by}")


@dataclass(frozen=True)
class EvaluationSettings:
    """What is measured on held-out prompts, and when."""

    every: int = 0  # steps; 0 = before the first and after the last only
    prompts_per_distribution: int = 64
    samples_per_prompt: int = 4  # average of k at the training temperature; greedy is always measured

    def __post_init__(self) -> None:
        at_least("evaluation", 0, every=self.every)
        at_least("evaluation", 1, prompts_per_distribution=self.prompts_per_distribution)
        at_least("evaluation", 1, samples_per_prompt=self.samples_per_prompt)


@dataclass(frozen=True)
class RunSettings:
    """How long, in which mode, and where to."""

    n_steps: int = 100  # the most, where n_tokens ends the run
    n_tokens: int = (
        0  # completion tokens of training rollouts after which the run ends, with the step that reaches them; 0 = no limit
    )
    mode: Literal["on_policy", "one_step_ahead"] = "on_policy"
    folder: str = "runs/{name}"
    checkpoint_every: int = 20  # steps
    keep_checkpoints: int = 2
    agreement_tolerance: float = 0.05  # mean |log-prob difference| of engine and learner after the first update

    def __post_init__(self) -> None:
        at_least("run", 0, n_tokens=self.n_tokens)
        at_least("run", 1, n_steps=self.n_steps, checkpoint_every=self.checkpoint_every, keep_checkpoints=self.keep_checkpoints)
