"""Sources of children by themselves: the same children when asked again, hints around texts and chats."""

from __future__ import annotations

from typing import Any

import pytest

from curricula.types import CurriculaError
from rollout.growth import Occasion, build_source, known_sources, text_key
from rollout.prompts import Prompt, PromptSet, RewardSpec
from rollout.tasks import build_task
from trainer.growth import Grower
from trainer.settings import GrowthSettings

TASK = build_task({"name": "running_total", "levels": [3, 6], "n_train": 20, "n_held_out": 10})
TRAIN, HELD_OUT = TASK.build(0)


def children(source: dict[str, Any], parents: list[Prompt], seed: int = 0, step: int = 4, held_out: Any = ()) -> list[Any]:
    return list(build_source(source).expand(parents, Occasion(TASK, seed, step, frozenset(held_out))))


def test_the_shipped_sources() -> None:
    assert known_sources() == ("easier_levels", "hinted")


def test_easier_levels_depend_on_seed_step_and_parent_alone() -> None:
    source = {"name": "easier_levels", "per_parent": 3}
    one, other = TRAIN.prompts[-2:]
    together = children(source, [other, one])
    assert [child.prompt for child in together[3:]] == [child.prompt for child in children(source, [one])]
    assert [child.parent for child in together] == [other.id] * 3 + [one.id] * 3
    assert len({child.prompt.id for child in together}) == 6
    assert children(source, [one]) != children(source, [one], seed=1)
    assert children(source, [one]) != children(source, [one], step=9)


def test_easier_levels_do_not_draw_what_is_held_out() -> None:
    """Five of the texts that would be drawn are held out; others take their places."""
    source = {"name": "easier_levels", "per_parent": 20, "by": 9}
    parent = TRAIN.prompts[0]
    free = {text_key(child.prompt.content) for child in children(source, [parent])}
    held_out = sorted(free)[:5]
    again = children(source, [parent], held_out=held_out)
    assert len(again) == 20
    assert not {text_key(child.prompt.content) for child in again} & set(held_out)


def test_hints_stand_before_a_text_and_in_the_last_message_of_the_user() -> None:
    prompt = TRAIN.prompts[0]
    (child,) = children({"name": "hinted", "template": "{solution};{answer};{prompt}"}, [prompt])
    assert child.hinted
    assert child.parent == prompt.id
    assert child.prompt.id == f"{prompt.id}/hinted"
    assert child.prompt.content == f"{prompt.answer};{prompt.answer};{prompt.content}"
    assert (child.prompt.answer, child.prompt.extra) == (prompt.answer, prompt.extra)
    chat = [{"role": "system", "content": "Think."}, {"role": "user", "content": "1+1?"}, {"role": "assistant", "content": "Hm"}]
    (child,) = children({"name": "hinted", "template": "({answer}) {prompt}"}, [Prompt("a", "x", chat, 2)])
    assert [message["content"] for message in child.prompt.content] == ["Think.", "(2) 1+1?", "Hm"]


def test_a_solution_may_come_from_a_column() -> None:
    prompts = [Prompt("a", "x", "1+1?", 2, {"worked": "1 and 1 is 2"}), Prompt("b", "x", "1+2?", 3)]
    source = {"name": "hinted", "template": "{solution} {prompt}", "solution_key": "worked"}
    task = build_task({"name": "simulated"})
    (child,) = build_source(source).expand(prompts[:1], Occasion(task, 0, 0))
    assert child.prompt.content == "1 and 1 is 2 1+1?"
    with pytest.raises(CurriculaError, match="prompt 'b' has no solution that a hint could be made of"):
        Grower(GrowthSettings(source), task, PromptSet(prompts, RewardSpec("exact")), PromptSet([], RewardSpec("exact")), 0)
