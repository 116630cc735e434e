"""Prompt texts from templates, plain or as chat messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from curricula.types import CurriculaError

Form = Literal["text", "chat"]
Content = str | list[dict[str, str]]


def refuse_template(where: str, template: str, placeholder: str) -> None:
    """CurriculaError when a template mentions nothing of the prompt."""
    if not re.search(r"\{\w+\}", template):
        raise CurriculaError(
            f"{where}: expected a placeholder such as {{{placeholder}}} in it, got {template!r}; every prompt would be equal"
        )


def fill(template: str, values: Mapping[str, str]) -> str:
    r"""The template with its known placeholders replaced; other braces stay, so ``\boxed{}`` may stand in it.

    >>> fill(r"{question} Answer in \boxed{}.", {"question": "1+1?"})
    '1+1? Answer in \\boxed{}.'
    """
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), template)


def in_form(text: str, form: Form) -> Content:
    """The text itself, or one message of the user."""
    return text if form == "text" else [{"role": "user", "content": text}]
