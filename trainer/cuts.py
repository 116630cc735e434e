"""Completions that are summed up at token budgets: the shaping policy asks for it, the recipe has to have words and room."""

from __future__ import annotations

from typing import Any

from curricula.recipes import read
from curricula.stages import cuts_of
from curricula.types import CurriculaError, Cuts, PromptPool
from rollout.prompts import PromptSet
from rollout.summaries import Summariser
from rollout.turns import feedback_ids
from trainer.recipe import Recipe


def first_cuts(recipe: Recipe, pool: PromptPool) -> Cuts:
    """Where the recipe's first plan cuts completions; nowhere, for most recipes.

    Errors: CurriculaError when it cuts them and has no text that asks for a summary, or cuts that no completion can pass.
    """
    shaping = read(recipe.curriculum)[0].shaping
    cuts, rollout = cuts_of(shaping, shaping.init(pool)), recipe.rollout
    if not cuts:
        return cuts
    if not rollout.summary:
        raise CurriculaError(
            f"rollout.summary: curriculum.shaping sums completions up at {', '.join(map(str, cuts.at))} tokens, and the recipe has "
            "no text that asks for it; write one that fits the model and the reward, such as "
            '"\\n</think>\\nThe final answer is"'
        )
    if cuts.at[-1] > rollout.sampling.max_tokens:
        raise CurriculaError(
            f"rollout.sampling.max_tokens: curriculum.shaping cuts completions at {cuts.at[-1]} tokens, the recipe ends them at "
            f"{rollout.sampling.max_tokens}; raise it, or lower the shaping policy's budgets"
        )
    if not rollout.verifier.score_truncated:
        raise CurriculaError(
            "rollout.verifier.score_truncated: false leaves completions that reach their limit without a reward, and so without "
            "summaries, which curriculum.shaping is about; set it to true"
        )
    return cuts


def summariser_of(recipe: Recipe, model_path: str, train: PromptSet) -> Summariser | None:
    """What asks for a summary, as tokens, where the recipe has it; a simulated engine is fed one per word."""
    text = recipe.rollout.summary
    if not text:
        return None
    if recipe.rollout.engine.backend == "simulated":
        return Summariser(text, (0,) * len(text.split()), train.reward)
    from transformers import AutoTokenizer

    return Summariser(text, summary_ids(text, AutoTokenizer.from_pretrained(model_path)), train.reward)


def summary_ids(text: str, tokenizer: Any) -> tuple[int, ...]:
    """Tokens of the text as it stands: it goes on with the model's own message, in a chat too."""
    return feedback_ids(text, tokenizer, chat=False)


def room_for_prompts(cuts: Cuts, n_asking: int, window: int) -> int:
    """Tokens that the window leaves for a prompt when the longest thought before a cut is summed up.

    Errors: CurriculaError when that is none.
    """
    longest = cuts.at[-1] + n_asking + cuts.summary_tokens
    if longest >= window:
        raise CurriculaError(
            f"rollout.engine.max_model_tokens: a window of {window} tokens leaves no room for a prompt beside a completion of "
            f"{cuts.at[-1]}, the {n_asking} of rollout.summary and a summary of {cuts.summary_tokens} tokens; enlarge it, or lower "
            "budgets or summary_tokens of curriculum.shaping"
        )
    return window - longest
