"""Stop strings: which token may complete one, and has it?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class StopStrings:
    """Decides after each token whether a completion has reached a stop string.

    Decoding every completion at every token would cost more than a small model's forward pass. A stop string can only end in a
    token whose text contains it or begins with one of its ends, so all other tokens are answered from a table.
    """

    def __init__(self, stop: Sequence[str], tokenizer: Any) -> None:
        self.stop = tuple(stop)
        self._tokenizer = tokenizer
        self._may_end = [self._could_end(text) for text in _token_texts(tokenizer)] if stop else []

    def reached(self, token_ids: list[int]) -> bool:
        if not self.stop or not self._may_end[token_ids[-1]]:
            return False
        text = self._tokenizer.decode(token_ids, skip_special_tokens=True)
        return any(stop in text for stop in self.stop)

    def _could_end(self, text: str) -> bool:
        if "\ufffd" in text:  # a piece of a multi-byte character: its own text says nothing
            return True
        return any(stop in text or any(text.startswith(stop[i:]) for i in range(len(stop))) for stop in self.stop)


def _token_texts(tokenizer: Any) -> list[str]:
    """Text that each token adds; seen behind another token, as some tokenizers swallow a leading blank at the start."""
    anchor = tokenizer("a", add_special_tokens=False)["input_ids"]
    lead = len(tokenizer.decode(anchor))
    return [text[lead:] for text in tokenizer.batch_decode([[*anchor, token] for token in range(len(tokenizer))])]
