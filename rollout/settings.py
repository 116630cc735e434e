"""The rollout part of a recipe. The dataclasses are the schema: a field here is a key in YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from curricula.types import CurriculaError
from rollout.budget_note import BUDGET
from rollout.ranges import at_least
from rollout.types import Sampling


@dataclass(frozen=True)
class EngineSettings:
    """One kind of engine and where its copies run."""

    backend: Literal["transformers", "vllm", "simulated"] = "transformers"
    n_engines: int = 1
    placement: Literal["ray", "driver"] = "ray"  # an actor per engine, or inside the driver (one engine only)
    cpus_per_engine: float = 1.0
    gpus_per_engine: float = 0.0  # tensor parallel size is this number where it is above 1
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_tokens: int = 0  # prompt + completion; 0 = the model's own window
    max_concurrent_rollouts: int = 256  # per engine
    start_timeout_s: float = 600.0
    answer_timeout_s: float = 600.0  # no answer for so long while work is open: the engine counts as dead
    max_restarts: int = 10  # per engine and run
    options: dict[str, Any] = field(default_factory=dict)  # handed to the backend as they are, e.g. vLLM engine arguments

    def __post_init__(self) -> None:
        at_least("engine", 1, n_engines=self.n_engines, max_concurrent_rollouts=self.max_concurrent_rollouts)
        at_least("engine", 0, cpus_per_engine=self.cpus_per_engine, gpus_per_engine=self.gpus_per_engine)
        at_least("engine", 0, max_model_tokens=self.max_model_tokens, max_restarts=self.max_restarts)
        if self.placement == "driver" and self.n_engines != 1:
            raise CurriculaError("engine: placement 'driver' holds one engine; use placement 'ray' for several")


@dataclass(frozen=True)
class VerifierSettings:
    """Where rewards are computed, and how long that may take."""

    n_workers: int = 1
    deadline_s: float = 10.0  # per completion
    max_failure_share: float = 0.2  # of one step's rollouts; more stops the run
    score_truncated: bool = True  # False: completions cut at max_tokens get status TRUNCATED and no reward
    memory_limit_mb: int = 2048  # per worker

    def __post_init__(self) -> None:
        at_least("verifier", 1, n_workers=self.n_workers, memory_limit_mb=self.memory_limit_mb)
        if not self.deadline_s > 0:
            raise CurriculaError(f"verifier.deadline_s: expected seconds above 0, got {self.deadline_s}")
        if not 0 <= self.max_failure_share <= 1:
            raise CurriculaError(f"verifier.max_failure_share: expected 0..1, got {self.max_failure_share}")


@dataclass(frozen=True)
class RolloutSettings:
    """How many groups a step has, how they are drawn, and how far refilling may go."""

    groups_per_step: int = 32
    rollouts_per_group: int = 8  # the step's budget is groups_per_step x rollouts_per_group, before refills
    max_attempts: int = 4  # plans per step, the first included
    max_rollouts_per_step: int = 0  # hard cap over all attempts; 0 = max_attempts x the step's budget
    sampling: Sampling = field(default_factory=Sampling)
    engine: EngineSettings = field(default_factory=EngineSettings)
    verifier: VerifierSettings = field(default_factory=VerifierSettings)
    drop_long_prompts: bool = False  # leave prompts out that do not fit the model window; otherwise they are refused
    log_texts: float = 1.0  # share of groups whose completions are logged as text
    feedback: str = "\nThat is not right. Try again.\n"  # after a wrong answer, where shaping allows another; in a chat, a message
    budget_note: str = ""  # ends each prompt, where shaping states a budget: " Think for at most {budget} tokens."; "" = nothing

    summary: str = ""  # behind a completion that was cut short, where shaping cuts: asks for the answer, e.g. "\n</think>\nAnswer:"

    def __post_init__(self) -> None:
        at_least("rollout", 1, groups_per_step=self.groups_per_step, max_attempts=self.max_attempts)
        at_least("rollout", 0, max_rollouts_per_step=self.max_rollouts_per_step)
        if not self.feedback:
            raise CurriculaError("rollout.feedback: expected a text for the model to read after a wrong answer, got nothing")
        if self.budget_note and BUDGET not in self.budget_note:
            raise CurriculaError(
                f"rollout.budget_note: expected a text with {BUDGET} where the number of tokens goes, got {self.budget_note!r}"
            )
        if not 0 <= self.log_texts <= 1:
            raise CurriculaError(f"rollout.log_texts: expected a share in 0..1, got {self.log_texts}")
        if self.rollouts_per_group < 2:
            raise CurriculaError(
                f"rollout.rollouts_per_group: a group of {self.rollouts_per_group} has no group-relative advantage; expected >= 2"
            )

    @property
    def budget(self) -> int:
        return self.groups_per_step * self.rollouts_per_group

    @property
    def rollout_cap(self) -> int:
        return self.max_rollouts_per_step or self.max_attempts * self.budget
