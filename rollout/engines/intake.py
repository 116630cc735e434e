"""What every engine does with a request before and after the work: check it, remember it, answer it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from curricula.types import CurriculaError
from rollout.types import Answer, Completion, Request


@dataclass(eq=False)
class OpenRequest:
    """A request that an engine works on."""

    request: Request
    policy_version: int  # of the weights when it came in
    since: float = field(default_factory=time.monotonic)

    def answer(self, completions: list[Completion], engine: str) -> Answer:
        seconds = time.monotonic() - self.since
        return Answer(self.request.ticket, completions, self.policy_version, engine, seconds)


def refuse_unfit(requests: Sequence[Request], window: int) -> None:
    """CurriculaError naming the tickets whose prompts are empty or leave no room for one token; then none of the call is taken."""
    unfit = [request for request in requests if not 0 < len(request.prompt_ids) < window]
    if unfit:
        shown = ", ".join(f"{request.ticket} ({len(request.prompt_ids)} tokens)" for request in unfit[:5])
        raise CurriculaError(
            f"engine: {len(unfit)} of {len(requests)} prompts do not fit: {shown}; expected 1..{window - 1} tokens; leave long "
            "prompts out (task.drop_long_prompts: true) or enlarge engine.max_model_tokens; none of these requests was taken"
        )


def token_limit(request: Request, window: int) -> int:
    """How many tokens a completion may have: ``max_tokens``, or what the window leaves."""
    return min(request.sampling.max_tokens, window - len(request.prompt_ids))
