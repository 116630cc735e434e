"""A learner's rollouts without a model: item-response skills answer the prompts of the task ``simulated``.

Prompt i of level l is solved with probability sigmoid(skill_l - difficulty_i), difficulty_i = slope * l + spread * z_i, where
z_i is a standard normal number that depends on the prompt's id alone. A hint makes a prompt easier by a fixed number of logits.
Source: ours, the two-parameter logistic model of item response theory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curricula.types import CurriculaError
from rollout.growth.hinted import HINTED
from rollout.settings import EngineSettings
from rollout.types import Answer, Completion, FinishReason, Request, Ticket


@dataclass(frozen=True)
class ItemResponse:
    """How hard the simulated prompts are. ``engine.options`` of a recipe."""

    n_levels: int = 8
    slope: float = 1.0  # difficulty of one level above the one before
    spread: float = 0.8  # standard deviation of difficulty inside a level
    start: float = 0.5  # skill of every level before training
    mean_tokens: int = 100  # completion length
    hint: float = 3.0  # logits by which a hinted prompt is easier than its parent

    def difficulty(self, prompt_id: str) -> float:
        if prompt_id.endswith(HINTED):
            return self.difficulty(prompt_id.removesuffix(HINTED)) - self.hint
        digest = hashlib.blake2b(prompt_id.encode(), digest_size=8).digest()
        uniform = (int.from_bytes(digest, "big") + 0.5) / 2**64
        return self.slope * level_of(prompt_id) + self.spread * NormalDist().inv_cdf(uniform)

    def start_skills(self) -> NDArray[np.float64]:
        return np.full(self.n_levels, self.start)


def level_of(prompt_id: str) -> int:
    """The level of a simulated prompt, from its id ``level-<level>/<number>``."""
    head = prompt_id.split("/", 1)[0].removeprefix("level-")
    if not head.isdigit():
        raise CurriculaError(
            f"simulated engine: prompt id {prompt_id!r} is not level-<level>/<number>; use the task 'simulated' with it"
        )
    return int(head)


class SimulatedEngine:
    """Answers at once; the text is "1" for a solved prompt and "0" otherwise."""

    def __init__(self, settings: EngineSettings, model_path: str, name: str) -> None:
        self._model = ItemResponse(**settings.options)
        self._skills_K = self._model.start_skills()
        self._name = name
        self._version = 0

    def advance(self, requests: Sequence[Request], cancel: Sequence[Ticket], budget_s: float) -> list[Answer]:
        dropped = set(cancel)
        return [self._answer(request) for request in requests if request.ticket not in dropped]

    def load_weights(self, tensors: Iterable[tuple[str, np.ndarray]], version: int) -> None:
        self._skills_K = np.array(dict(tensors)["skill"], dtype=np.float64)
        self._version = version

    def describe(self) -> dict[str, Any]:
        return {"name": self._name, "backend": "simulated"}

    def _answer(self, request: Request) -> Answer:
        logit = self._skills_K[level_of(request.prompt_key)] - self._model.difficulty(request.prompt_key)
        rng = np.random.default_rng(request.seed)
        if request.sampling.temperature == 0:  # the likelier answer
            solved_R = np.full(request.n, logit > 0)
        else:
            solved_R = rng.random(request.n) < 1.0 / (1.0 + np.exp(-logit))
        length_R = np.minimum(rng.poisson(self._model.mean_tokens, request.n) + 1, request.sampling.max_tokens)
        completions = [
            Completion(
                token_ids=np.full(length, int(solved), dtype=np.int32),
                logprob_T=np.zeros(length, dtype=np.float32),
                text=str(int(solved)),
                finish=FinishReason.STOP,
            )
            for solved, length in zip(solved_R, length_R, strict=True)
        ]
        return Answer(request.ticket, completions, self._version, self._name, 0.0)
