"""The token budget that a prompt states: its tokens, its place in plain prompts and chats, what collector and learner read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from curricula import Curriculum
from curricula.recipes import read
from curricula.types import CurriculaError
from rollout.budget_note import BudgetNote, check_note, check_tails, note_of, note_of_words
from rollout.collector import Collector, EncodedPrompts
from rollout.prompts import Prompt, PromptSet, RewardSpec, encode
from rollout.settings import RolloutSettings
from tests.rollout.test_collector import Scripted
from tests.tiny import character_tokenizer
from trainer.batch import feedback_of, sequences_of

NOTE = " Think for at most {budget} tokens."
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<eos>\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
FALLING = {"name": "length_budget", "budget": {"pacing": "linear", "first": 100, "last": 50, "steps": 1}}


def prompts(*contents: Any) -> PromptSet:
    return PromptSet([Prompt(f"p{i}", "d", content, "mixed") for i, content in enumerate(contents)], RewardSpec("exact"))


def chat_tokenizer() -> Any:
    tokenizer = character_tokenizer()
    tokenizer.chat_template = TEMPLATE
    return tokenizer


def test_a_plain_prompt_ends_with_the_note() -> None:
    tokenizer, prompt_set = character_tokenizer(), prompts("1+1=")
    note = note_of(NOTE, tokenizer, prompt_set)
    _, (ids,) = encode(prompt_set, tokenizer, 100)
    assert note is not None
    assert tokenizer.decode(note.added(prompt_set.prompts[0], ids, 179)) == "1+1= Think for at most 179 tokens."


def test_in_a_chat_the_note_ends_the_users_message() -> None:
    tokenizer = chat_tokenizer()
    prompt_set = prompts([{"role": "system", "content": "Add."}, {"role": "user", "content": "1+1"}], "plain")
    note = note_of(NOTE, tokenizer, prompt_set)
    prompt_set, ids_N = encode(prompt_set, tokenizer, 100)
    assert note is not None
    check_tails(note, prompt_set, ids_N)
    read_ = [tokenizer.decode(note.added(prompt, ids, 87)) for prompt, ids in zip(prompt_set.prompts, ids_N, strict=True)]
    assert read_ == [
        "<system>Add.<eos>\n<user>1+1 Think for at most 87 tokens.<eos>\n<assistant>",
        "plain Think for at most 87 tokens.",
    ]


def test_a_chat_that_does_not_end_as_the_template_says_is_refused() -> None:
    tokenizer, prompt_set = chat_tokenizer(), prompts([{"role": "user", "content": "1+1"}])
    note = note_of(NOTE, tokenizer, prompt_set)
    assert note is not None
    with pytest.raises(CurriculaError, match=r"rollout.budget_note: prompt 'p0' does not end with a user's message"):
        check_tails(note, prompt_set, [(5, 6, 7)])


def test_each_budget_is_tokenised_once() -> None:
    asked: list[str] = []

    def tokenise(text: str) -> tuple[int, ...]:
        asked.append(text)
        return tuple(map(ord, text))

    note = BudgetNote("<{budget}>", tokenise)
    assert [note.ids(budget) for budget in (12, 7, 12, 7)] == [tuple(map(ord, text)) for text in ("<12>", "<7>", "<12>", "<7>")]
    assert sorted(text for text in asked if text != "<>") == ["<12>", "<7>"]


def test_a_note_longer_than_its_room_is_refused() -> None:
    assert len(BudgetNote("{budget}", lambda text: (0,) * len(text)).ids(10**9)) == 10
    with pytest.raises(CurriculaError, match=r"with a budget of 10{10} it has 11 tokens, the prompts leave room for 10"):
        BudgetNote("{budget}", lambda text: (0,) * len(text)).ids(10**10)


def test_a_note_without_the_number_and_one_that_nobody_states_are_refused() -> None:
    with pytest.raises(CurriculaError, match=r"rollout.budget_note: expected a text with \{budget\} where"):
        RolloutSettings(budget_note="Be brief.")
    with pytest.raises(CurriculaError, match=r"rollout.budget_note: the recipe's shaping policy states no budget"):
        check_note(NOTE, read("hapo")[0])
    check_note(NOTE, read("train_long")[0])
    check_note("", read("hapo")[0])
    assert note_of_words("") is None


def collected(note: BudgetNote | None, step: int = 0) -> tuple[Any, EncodedPrompts, Scripted]:
    """One step of a curriculum that states 100 tokens and, once it has learned from a step, 50."""
    producer, prompt_set = Scripted(), prompts(*(f"{i}+{i}=" for i in range(4)))
    _, ids_N = encode(prompt_set, character_tokenizer(), 100)
    encoded = EncodedPrompts(prompt_set, ids_N, note)
    curriculum = Curriculum.from_recipe({"shaping": FALLING}, prompt_set.pool)
    settings = RolloutSettings(groups_per_step=4, rollouts_per_group=4)
    collector = Collector(curriculum, encoded, producer, settings, 0)
    for before in range(step):
        curriculum.update([feedback_of(attempt, "grpo") for attempt in collector.collect(before)])
    producer.requests.clear()
    (attempt,) = collector.collect(step)
    return attempt, encoded, producer


@pytest.mark.parametrize(("step", "budget"), [(0, 100), (1, 50)])
def test_engines_and_learner_read_the_same_prompt_with_the_budget_of_the_step(step: int, budget: int) -> None:
    tokenizer = character_tokenizer()
    attempt, encoded, producer = collected(note_of(NOTE, tokenizer, prompts("plain")), step)
    assert attempt.plan.stated_tokens_B.tolist() == [budget] * 4
    asked = {request.ticket.group: request.prompt_ids for request in producer.requests}
    told = {tokenizer.decode(ids) for ids in asked.values()}
    assert told == {f"{i}+{i}= Think for at most {budget} tokens." for i in range(4)}
    sequences = sequences_of([attempt], "grpo", encoded)
    assert len(sequences) == 16
    assert all(sequence.prompt_ids == asked[sequence.group] for sequence in sequences)


def test_without_a_note_nothing_is_stated() -> None:
    attempt, encoded, producer = collected(None)
    assert attempt.plan.stated_tokens_B.tolist() == [0] * 4
    assert {request.prompt_ids for request in producer.requests} == set(encoded.ids_N)
    quiet = replace(attempt.plan, stated_tokens_B=np.full(4, 9))
    assert encoded.ids(quiet, 0) == encoded.ids_N[int(quiet.selection.prompt_B[0])]
