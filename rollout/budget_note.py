"""What a prompt says of the tokens that a completion should take, where the shaping policy states a budget."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from curricula.conflicts import parts_of
from curricula.stages import Stages
from curricula.types import CurriculaError
from rollout.prompts import Prompt, PromptSet

BUDGET = "{budget}"
MOST_DIGITS = 9  # of a budget that room is kept for
CONTENT = "here stands the question"

Ids = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class BudgetNote:
    """A text for the end of a prompt, with ``{budget}`` where the number of tokens goes; tokenised once per budget.

    A prompt of plain text ends with the note; in a chat the note ends the user's message, so it goes before ``tail``: what the
    tokenizer's template puts behind a message.
    """

    text: str
    tokenise: Callable[[str], Ids]
    tail: Ids = ()
    _known: dict[int, Ids] = field(default_factory=dict)

    def ids(self, budget: int) -> Ids:
        """The note's tokens. Errors: CurriculaError when they are more than `most_tokens`, for which the prompts leave room."""
        if budget not in self._known:
            ids = self.tokenise(self.text.replace(BUDGET, str(budget)))
            if len(ids) > self.most_tokens:
                raise CurriculaError(
                    f"rollout.budget_note: with a budget of {budget} it has {len(ids)} tokens, the prompts leave room for "
                    f"{self.most_tokens}; state a budget of at most {MOST_DIGITS} digits"
                )
            self._known[budget] = ids
        return self._known[budget]

    @property
    def most_tokens(self) -> int:
        """Room for the note with any budget: as if each digit stood alone."""
        return len(self.tokenise(self.text.replace(BUDGET, ""))) + MOST_DIGITS + 1

    def added(self, prompt: Prompt, ids: Ids, budget: int) -> Ids:
        """The prompt's tokens with the note for this budget."""
        end = len(ids) - (0 if isinstance(prompt.content, str) else len(self.tail))
        return (*ids[:end], *self.ids(budget), *ids[end:])


def note_of(text: str, tokenizer: Any, prompt_set: PromptSet) -> BudgetNote | None:
    """The note of a recipe for these prompts; None where the recipe has none."""
    if not text:
        return None

    def tokenise(part: str) -> Ids:
        return tuple(tokenizer(part, add_special_tokens=False)["input_ids"])

    if all(isinstance(prompt.content, str) for prompt in prompt_set.prompts):
        return BudgetNote(text, tokenise)
    message = [{"role": "user", "content": CONTENT}]
    whole: str = tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
    return BudgetNote(text, tokenise, tokenise(whole.partition(CONTENT)[2]))


def note_of_words(text: str) -> BudgetNote | None:
    """The note where nobody reads tokens: one per word."""
    return BudgetNote(text, lambda part: (0,) * len(part.split())) if text else None


def check_note(text: str, stages: Stages) -> None:
    """Errors: CurriculaError for a note under shaping that states no budget, which no prompt would ever carry."""
    if text and not any(hasattr(part.policy, "stated_tokens") for part in parts_of("shaping", stages.shaping)):
        raise CurriculaError(
            "rollout.budget_note: the recipe's shaping policy states no budget that it could tell; take curriculum.shaping "
            "{name: length_budget, ...}, or leave the note out"
        )


def check_tails(note: BudgetNote, prompt_set: PromptSet, ids_N: list[Ids]) -> None:
    """Errors: CurriculaError for a chat prompt whose tokens do not end as a user's message does: where would its note go?"""
    for prompt, ids in zip(prompt_set.prompts, ids_N, strict=True):
        if not isinstance(prompt.content, str) and ids[len(ids) - len(note.tail) :] != note.tail:
            raise CurriculaError(
                f"rollout.budget_note: prompt {prompt.id!r} does not end with a user's message as the tokenizer's chat template "
                "writes it, so the note has no place; let its last message be the user's, or leave the note out"
            )
