"""A stand-in: prime-rl's orchestrator makes its task source by this name."""

from prime_rl.orchestrator.train_source import TrainSource

__all__ = ["TrainSource"]
