"""The reward of mathematical answers, through math-verify."""

from __future__ import annotations

import logging
import re
from functools import lru_cache
from math import log10
from typing import Any

from math_verify import parse, verify  # type: ignore[import-untyped]

from curricula.types import CurriculaError
from rollout.rewards import register

LONGEST_ANSWER = 2000  # characters of an expression; longer ones are no answers, and parsers are slow on them
LARGEST_EXPONENT = 10_000  # the parser evaluates powers of numbers; a larger one is no answer but an accident
_POWERS = re.compile(r"\d+(?:\s*(?:\^|\*\*)\s*[{(]*\s*\d+)+")


logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its own deadline is off


@register("math")
def math(completion: str, answer: Any, extra: dict[str, Any]) -> float:
    r"""1 where the completion's answer equals ``answer`` mathematically, else 0.

    The completion's answer is its last ``\boxed{...}``; without one, whatever math-verify finds in its last 2,000 characters.
    ``answer`` is a number, an expression in LaTeX or plain, a worked solution that ends in "#### 72", or a list of such, any of
    which is right. A completion without a parseable answer gets 0; one that crashes the parser has status error.

    Errors: CurriculaError when ``answer`` cannot be parsed.
    """
    given = parsed(completion_answer(completion))
    golds = [gold(str(one)) for one in (answer if isinstance(answer, list) else [answer])]
    return float(any(verify(one, given, timeout_seconds=None, raise_on_error=True) for one in golds)) if given else 0.0


def completion_answer(completion: str) -> str:
    r"""The last boxed expression as math, or the end of the completion.

    >>> completion_answer(r"so \boxed{1}, no: \boxed{\frac{1}{2}}.")
    '$\\frac{1}{2}$'
    """
    boxed = last_boxed(completion)
    if boxed is None:
        return completion[-LONGEST_ANSWER:]
    return f"${boxed}$" if len(boxed) <= LONGEST_ANSWER else ""


def last_boxed(text: str) -> str | None:
    r"""What stands in the last ``\boxed{...}``, braces balanced; None where there is none or it never closes."""
    start = text.rfind(r"\boxed{")
    if start < 0:
        return None
    depth, begin = 0, start + len(r"\boxed")
    for i in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[i], 0)
        if depth == 0:
            return text[begin + 1 : i]
    return None


@lru_cache(maxsize=4096)
def gold(answer: str) -> list[Any]:
    """The parsed answer of the data; what follows "####" where a worked solution is given."""
    text = answer.rpartition("####")[2].strip()
    boxed = last_boxed(text)
    found = parsed(f"${boxed if boxed is not None else text.strip('$')}$") or parsed(text)
    if not found:
        raise CurriculaError(
            f"math: the answer {answer[:80]!r} of the data is no mathematical expression; mend it or drop the prompt"
        )
    return found


def parsed(text: str) -> list[Any]:
    """math-verify's candidates. The verifier process has a deadline, so the library's own (it needs signals) stays off."""
    if explodes(text):
        return []
    found: list[Any] = parse(text, parsing_timeout=None, raise_on_error=True)
    return found


def explodes(text: str) -> bool:
    """Is there a power of numbers whose exponent passes LARGEST_EXPONENT? Towers are read from the right.

    >>> explodes("2^{2^3} + 3**9999"), explodes("9**9**9**9"), explodes("10^{99999}")
    (False, True, True)
    """
    return any(_exponent([int(n) for n in re.findall(r"\d+", chain)]) > LARGEST_EXPONENT for chain in _POWERS.findall(text))


def _exponent(tower: list[int]) -> float:
    exponent: float = tower[-1]
    for base in reversed(tower[1:-1]):
        if exponent > LARGEST_EXPONENT:
            break
        exponent = 10.0 ** min(exponent * log10(max(base, 1)), 300)
    return exponent
