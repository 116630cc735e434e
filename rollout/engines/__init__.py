"""The engines behind the seam `rollout.engine.Engine`, by the recipe's ``engine.backend``."""

from __future__ import annotations

from rollout.engine import Engine
from rollout.engines.build import build_engine

__all__ = ["Engine", "build_engine"]
