"""EGSR (arXiv 2505.08364): where nothing is solved, ask again with the expert's answer in the prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from curricula.types import CurriculaError
from rollout.growth import Child, Occasion, register
from rollout.prompts import Prompt, PromptSet, Task
from rollout.templates import Content, fill, refuse_template

HINTED = "/hinted"  # ends the id of a hinted prompt


@register("hinted")
@dataclass(frozen=True)
class Hinted:
    """One child per parent: its text with the answer, or a worked solution, as a guide.

    Rollouts are drawn from the hinted text and trained on as if from the parent's: the learner's sequence begins with the parent's
    tokens, and the log-probabilities that the update starts from are the learner's own under them, as the engine's belong to
    another prompt. The child is a prompt of its own, so its groups are never mixed with its parent's.

    ``{solution}`` is the task's worked example, or ``solution_key`` of the prompt's extra columns. In a chat the template is put
    around the last message of the user.
    """

    template: str = "Hint: the answer is {answer}. Show how one gets there.\n\n{prompt}"  # also: {solution}
    solution_key: str = "solution"

    def __post_init__(self) -> None:
        refuse_template("growth.source 'hinted', template", self.template, "prompt")
        if "{prompt}" not in self.template or not ("{answer}" in self.template or "{solution}" in self.template):
            raise CurriculaError(
                "growth.source 'hinted', template: expected {prompt} and a guide, {answer} or {solution}; got "
                f"{self.template!r}"
            )

    def check(self, task: Task, prompts: PromptSet) -> None:
        """Every prompt may become a parent, so every one has to have what the template asks for."""
        for prompt in prompts.prompts:
            self._guide(prompt, task)

    def expand(self, parents: Sequence[Prompt], occasion: Occasion) -> Iterator[Child]:
        for parent in parents:
            content = _around(parent.content, self.template, self._guide(parent, occasion.task))
            yield Child(replace(parent, id=parent.id + HINTED, content=content), parent.id, hinted=True)

    def _guide(self, prompt: Prompt, task: Task) -> dict[str, str]:
        guide = {}
        if "{answer}" in self.template:
            guide["answer"] = self._known(prompt, "answer", prompt.answer)
        if "{solution}" in self.template:
            worked = task.worked_example(prompt) if hasattr(task, "worked_example") else prompt.extra.get(self.solution_key)
            guide["solution"] = self._known(prompt, "solution", worked)
        return guide

    def _known(self, prompt: Prompt, word: str, value: Any) -> str:
        if value is None or value == "":
            raise CurriculaError(
                f"growth.source 'hinted': prompt {prompt.id!r} has no {word} that a hint could be made of; expected one for every "
                f"prompt, as template has {{{word}}}: take data with {word}s, or another template"
            )
        return str(value)


def _around(content: Content, template: str, guide: dict[str, str]) -> Content:
    if isinstance(content, str):
        return fill(template, {**guide, "prompt": content})
    last = max(i for i, message in enumerate(content) if message["role"] == "user")
    text = fill(template, {**guide, "prompt": content[last]["content"]})
    return [{**message, "content": text} if i == last else message for i, message in enumerate(content)]
