"""What a TRL trainer must be like for a curriculum to steer it, and what it then can and cannot do."""

from __future__ import annotations

import warnings
from importlib.metadata import version
from typing import Any

from curricula.hosting import Host
from curricula.types import CurriculaError, PromptPool

TESTED = "1.16."
HOOKS = ("_generate_and_score_completions", "_generate", "_calculate_rewards", "_save_checkpoint", "_load_optimizer_and_scheduler")


def refuse_class(kind: type, ours: type, host: type) -> None:
    """CurriculaError when this TRL lacks what is built upon, or another class changes the same; a warning where it is untested."""
    installed = version("trl")
    if missing := [hook for hook in HOOKS if not hasattr(host, hook)]:
        raise CurriculaError(
            f"TRL {installed} has no GRPOTrainer.{missing[0]}, which a curriculum needs; tested with {TESTED}x: install that"
        )
    if not installed.startswith(TESTED):
        warnings.warn(f"TRL {installed} was not tested with a curriculum ({TESTED}x was); check the first batches", stacklevel=3)
    for other in kind.__mro__:
        if HOOKS[0] in vars(other) and other not in (ours, *host.__mro__):
            raise CurriculaError(
                f"{kind.__name__}: {other.__module__}.{other.__qualname__} overrides {HOOKS[0]} too; only one class can choose the "
                "prompts and set the advantages of a batch: leave one of them out"
            )


def refuse_arguments(trainer: Any) -> None:
    """CurriculaError for arguments of TRL's under which the curriculum's decisions would not be what is trained."""
    args = trainer.args
    if args.remove_unused_columns:
        raise CurriculaError(
            "remove_unused_columns=True drops the columns with prompt ids, distributions and what rewards read; set it to False, "
            "TRL's default"
        )
    if trainer.multi_objective_aggregation != "sum_then_normalize":
        raise CurriculaError(
            f"multi_objective_aggregation={trainer.multi_objective_aggregation!r} has an advantage per reward function, a "
            "curriculum compares their weighted sum; set it to 'sum_then_normalize', TRL's default"
        )
    every = args.steps_per_generation * trainer.num_iterations
    saved = args.save_steps * args.gradient_accumulation_steps
    if args.save_strategy == "steps" and args.save_steps >= 1 and saved % every:
        n_steps = every / args.gradient_accumulation_steps
        warnings.warn(
            f"save_steps={args.save_steps:g} falls inside a generated batch, which lasts {n_steps:g} steps: TRL does not save its "
            "rest, so a resumed run generates the next one early",
            stacklevel=3,
        )


def columns(dataset: Any, id_column: str | None, distribution_column: str | None) -> tuple[Any, Any, Any]:
    """Prompts, and ids and distributions where there are such columns.

    Errors: CurriculaError for a stream, and for columns that are not there.
    """
    names = getattr(dataset, "column_names", None)
    if names is None or not hasattr(dataset, "__len__"):  # a stream has no length
        raise CurriculaError(
            f"train_dataset: a curriculum chooses any row at any time, got a {type(dataset).__name__}; give a datasets.Dataset"
        )
    for argument, name in (("id_column", id_column), ("distribution_column", distribution_column)):
        if name is not None and name not in names:
            raise CurriculaError(
                f"{argument}={name!r}: the data set has only {', '.join(names)}; keep the column through every map and "
                "select_columns, or name another"
            )
    if id_column is None and "id" in names:
        id_column = "id"
    if id_column is None and "prompt" not in names:
        raise CurriculaError("train_dataset: it has no column 'prompt' and no ids; name a column with an id per row by id_column")
    prompts = dataset["prompt"] if "prompt" in names else ()
    ids, distributions = (None if name is None else list(dataset[name]) for name in (id_column, distribution_column))
    return prompts, ids, distributions


def host(trainer: Any) -> Host:
    """What this trainer can do."""
    served = trainer.use_vllm and trainer.args.vllm_mode == "server"
    prepared = trainer.tools or trainer.environment_factories or {"image", "images"} & {*trainer.train_dataset.column_names}
    one_size = "TRL asks its vLLM server for num_generations completions of every prompt (vllm_mode 'colocate' does not)"
    return Host(
        name=f"TRL {version('trl')}",
        group_size=trainer.num_generations,
        n_groups=trainer.args.generation_batch_size // trainer.num_generations,
        max_tokens=trainer.max_completion_length,
        one_size=one_size if served else "",
        one_plan="TRL prepares images, tools and environments once per batch" if prepared else "",
    )


def refuse_small_pool(pool: PromptPool, able: Host) -> None:
    """CurriculaError when one batch needs more prompts than there are."""
    if len(pool) < able.n_groups:
        raise CurriculaError(
            f"train_dataset: {len(pool)} prompts, but one batch has {able.n_groups} groups (generation_batch_size "
            f"{able.n_rollouts} / num_generations {able.group_size}); lower per_device_train_batch_size or "
            "steps_per_generation, or add prompts"
        )
