"""Prompts with their texts and answers: what a task delivers, what the pool leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

from curricula.types import CurriculaError, PromptPool


@dataclass(frozen=True)
class Prompt:
    """One prompt. Everything in it survives JSON."""

    id: str  # unique in its set, stable across runs
    distribution: str
    content: str | list[dict[str, str]]  # plain text, or chat messages for the tokenizer's template
    answer: Any  # what the reward function compares with
    extra: dict[str, Any] = field(default_factory=dict)  # handed to the reward function
    prior_pass_rate: float = float("nan")


@dataclass(frozen=True)
class RewardSpec:
    """A reward function by name, and the range of what it returns."""

    name: str  # a registered reward ("exact", "math", "reasoning_gym") or "package.module:function"
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True, eq=False)
class PromptSet:
    """Prompts and the reward function that scores their completions."""

    prompts: Sequence[Prompt]
    reward: RewardSpec

    def __len__(self) -> int:
        return len(self.prompts)

    @cached_property
    def pool(self) -> PromptPool:
        """The numbers of these prompts, row for row."""
        return PromptPool.from_columns(
            ids=(prompt.id for prompt in self.prompts),
            distributions=(prompt.distribution for prompt in self.prompts),
            prior_pass_rate=[prompt.prior_pass_rate for prompt in self.prompts],
        )

    def without(self, rows: set[int]) -> PromptSet:
        return PromptSet([prompt for i, prompt in enumerate(self.prompts) if i not in rows], self.reward)


class Task(Protocol):
    """A frozen dataclass of settings that builds its prompts; registered by `rollout.tasks.register`."""

    def build(self, seed: int) -> tuple[PromptSet, PromptSet]:
        """Training prompts and held-out prompts; no prompt is in both."""
        ...


def encode(
    prompt_set: PromptSet, tokenizer: Any, max_tokens: int, drop_long: bool = False
) -> tuple[PromptSet, list[tuple[int, ...]]]:
    """Token ids of every prompt; prompts over ``max_tokens`` are refused, or left out where the recipe says so.

    Errors: CurriculaError naming how many prompts are too long, the first of them, and both remedies.
    """
    ids = [_encode_one(prompt.content, tokenizer) for prompt in prompt_set.prompts]
    long = {i for i, tokens in enumerate(ids) if len(tokens) > max_tokens}
    if not long:
        return prompt_set, ids
    if not drop_long:
        shown = ", ".join(f"{prompt_set.prompts[i].id} ({len(ids[i])} tokens)" for i in sorted(long)[:5])
        raise CurriculaError(
            f"prompts: {len(long)} of {len(ids)} are longer than the {max_tokens} tokens that the model window leaves beside "
            f"sampling.max_tokens and rollout.budget_note, or a summary: {shown}; set rollout.drop_long_prompts: true to leave "
            "them out, or enlarge rollout.engine.max_model_tokens"
        )
    return prompt_set.without(long), [tokens for i, tokens in enumerate(ids) if i not in long]


def _encode_one(content: str | list[dict[str, str]], tokenizer: Any) -> tuple[int, ...]:
    if isinstance(content, str):
        return tuple(tokenizer(content, add_special_tokens=False)["input_ids"])
    text = tokenizer.apply_chat_template(content, tokenize=False, add_generation_prompt=True)
    return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
