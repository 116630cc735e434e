"""The Ray cluster of a run: an existing one where an address is given, one of this machine otherwise."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from curricula.types import CurriculaError
from trainer.recipe import Recipe

OBJECT_STORE_BYTES = 512 * 2**20  # of a local cluster: weights of a small model and the rollouts of a step


def resources(recipe: Recipe) -> dict[str, float]:
    """CPUs and GPUs that the recipe's actors ask of Ray."""
    engine, learner = recipe.rollout.engine, recipe.learner
    engines = engine.n_engines if engine.placement == "ray" else 0
    ranks = learner.n_ranks if learner.placement == "ray" else 0
    return {
        "CPU": engines * engine.cpus_per_engine + ranks * learner.cpus_per_rank,
        "GPU": engines * engine.gpus_per_engine + ranks * learner.gpus_per_rank,
    }


def needs_ray(recipe: Recipe) -> bool:
    """Does anything of this recipe live in an actor?"""
    return recipe.rollout.engine.placement == "ray" or recipe.learner.placement == "ray"


@contextmanager
def connected(recipe: Recipe, address: str | None) -> Iterator[None]:
    """Ray while the run lasts; a cluster that was there before stays.

    ``address`` None joins the cluster of a submitted job where there is one, else starts a private cluster on the loopback
    interface, without a dashboard (Ray's boundary is the network: an open dashboard runs anybody's code).
    """
    if not needs_ray(recipe):
        yield
        return
    import ray

    if ray.is_initialized():  # the host program's own cluster
        yield
        return
    if address is None and "RAY_ADDRESS" not in os.environ:
        n_cpus = max(os.cpu_count() or 1, int(resources(recipe)["CPU"]) + 1)
        ray.init(
            num_cpus=n_cpus,
            include_dashboard=False,
            log_to_driver=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _node_ip_address="127.0.0.1",
        )
    else:
        _join(address)
    try:
        yield
    finally:
        ray.shutdown()


def _join(address: str | None) -> None:
    import ray

    try:
        ray.init(address=address or "auto", log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise CurriculaError(
            f"Ray cluster at {address or os.environ.get('RAY_ADDRESS')}: could not be joined ({error}); expected "
            "a running head node, e.g. "
            "`ray start --head`, or leave --ray-address out for a cluster on this machine"
        ) from error
