"""From a recipe to the parts of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curricula import Curriculum
from curricula.types import CurriculaError
from rollout.budget_note import BudgetNote, check_note, check_tails, note_of, note_of_words
from rollout.collector import Collector, EncodedPrompts
from rollout.dispatcher import Dispatcher
from rollout.engines.simulated import level_of
from rollout.fleet import Fleet
from rollout.log import RolloutLog
from rollout.producer import Producer
from rollout.prompts import PromptSet, Task, encode
from rollout.settings import EngineSettings
from rollout.tasks import build_task
from rollout.turns import Retry, feedback_ids
from rollout.verifier import VerifierPool
from trainer.baselines import check_baselines
from trainer.cuts import first_cuts, room_for_prompts, summariser_of, summary_ids
from trainer.evaluation import Evaluator
from trainer.growth import Grower, Lineage
from trainer.optimizer import check_installed
from trainer.recipe import Recipe
from trainer.schedules.build import build_rate
from trainer.schedules.rate import LearningRate
from trainer.settings import LearnerSettings
from trainer.types import Learner


@dataclass(frozen=True)
class Encoder:
    """Prompts as token ids, for this run's model."""

    encode: Callable[[PromptSet, bool], EncodedPrompts]  # training prompts; true: leave out what is too long, false: refuse it
    encode_held_out: Callable[[PromptSet, bool], EncodedPrompts]
    window: int  # tokens of prompt and completion together


@dataclass(frozen=True, eq=False)
class Parts:
    """Everything that a run is made of, ready to work."""

    curriculum: Curriculum
    prompts: EncodedPrompts
    fleet: Fleet
    dispatcher: Dispatcher
    producer: Producer
    collector: Collector
    evaluator: Evaluator
    learner: Learner
    rate: LearningRate
    log: RolloutLog
    encoder: Encoder
    lineage: Lineage | None  # of a pool that grows
    grower: Grower | None


@dataclass(frozen=True, eq=False)
class Source:
    """Where judged completions come from."""

    fleet: Fleet
    dispatcher: Dispatcher
    producer: Producer


@dataclass(frozen=True, eq=False)
class Bench:
    """What measures a model."""

    source: Source
    evaluator: Evaluator


def assemble(recipe: Recipe, folder: Path, stack: ExitStack) -> Parts:
    """Build every part; the stack closes them in reverse order. Engines start first, as they take longest."""
    task = build_task(recipe.task)
    train, held_out = task.build(recipe.seed)
    curriculum = Curriculum.from_recipe(recipe.curriculum, train.pool, seed=recipe.seed)
    check_baselines(recipe.learner, curriculum)
    check_installed(recipe.learner)
    check_note(recipe.rollout.budget_note, curriculum.stages)
    rate = build_rate(recipe.schedule, recipe.length)
    grower = grower_of(recipe, task, train, held_out)
    model_path = prepare_model(recipe)
    encoder, drop = encoder_of(recipe, model_path, train), recipe.rollout.drop_long_prompts
    prompts, held_out_prompts = encoder.encode(train, drop), encoder.encode_held_out(held_out, drop)
    if len(prompts.prompt_set) != len(train):
        curriculum = Curriculum.from_recipe(recipe.curriculum, prompts.prompt_set.pool, seed=recipe.seed)
    log = RolloutLog(folder / "log", log_texts=recipe.rollout.log_texts)
    stack.callback(log.close)
    source = start_source(recipe, model_path, train, stack)
    learner = build_learner(recipe, model_path)
    stack.callback(learner.close)
    source.fleet.wait_ready(recipe.rollout.engine.start_timeout_s)
    return Parts(
        curriculum=curriculum,
        prompts=prompts,
        fleet=source.fleet,
        dispatcher=source.dispatcher,
        producer=source.producer,
        collector=Collector(curriculum, prompts, source.producer, recipe.rollout, recipe.seed),
        evaluator=Evaluator(held_out_prompts, recipe.evaluation, recipe.rollout.sampling, recipe.seed),
        learner=learner,
        rate=rate,
        log=log,
        encoder=encoder,
        lineage=Lineage(recipe.growth, curriculum.pool) if recipe.growth else None,
        grower=grower,
    )


def assemble_bench(recipe: Recipe, model_path: str, stack: ExitStack) -> Bench:
    """What measures a model on the recipe's held-out prompts as a run of the recipe does, and nothing else."""
    train, held_out = build_task(recipe.task).build(recipe.seed)
    encoder = encoder_of(recipe, model_path, train)
    prompts = encoder.encode_held_out(held_out, recipe.rollout.drop_long_prompts)
    source = start_source(recipe, model_path, train, stack)
    set_cpu_threads(1)  # as in a run, where the learner has the others: sums of floats depend on it
    source.fleet.wait_ready(recipe.rollout.engine.start_timeout_s)
    return Bench(source, Evaluator(prompts, recipe.evaluation, recipe.rollout.sampling, recipe.seed))


def start_source(recipe: Recipe, model_path: str, train: PromptSet, stack: ExitStack) -> Source:
    """Begin to start the engines, and the verifiers beside them; nothing waits for the engines here."""
    fleet = Fleet.start(recipe.rollout.engine, model_path)
    stack.callback(fleet.close)
    verifier = VerifierPool(recipe.rollout.verifier, train.reward)
    stack.callback(verifier.close)
    dispatcher = Dispatcher(fleet, recipe.rollout.engine)
    retry = retry_of(recipe, model_path, train)
    summariser = summariser_of(recipe, model_path, train)
    producer = Producer(dispatcher, verifier, recipe.rollout.verifier.score_truncated, retry, summariser)
    return Source(fleet, dispatcher, producer)


def prepare_model(recipe: Recipe) -> str:
    """Folder or hub name of the starting model; makes it where the recipe has a warm start."""
    if recipe.warm_start is None:
        return recipe.model.path
    from trainer.warm_start import warm_started

    return str(warm_started(recipe))


def build_learner(recipe: Recipe, model_path: str) -> Learner:
    """In the driver, as ranks in Ray actors, or simulated."""
    settings = replace(recipe.learner, statistics=recipe.statistics)
    if recipe.rollout.engine.backend == "simulated":
        from rollout.engines.simulated import ItemResponse
        from trainer.simulated_learner import SimulatedLearner

        return SimulatedLearner(ItemResponse(**recipe.rollout.engine.options))
    model, sampling = replace(recipe.model, path=model_path), recipe.rollout.sampling
    temperature = sampling.temperature or 1.0
    if settings.placement == "ray":
        from trainer.learner_ranks import RankedLearner

        return RankedLearner(model, settings, temperature, sampling.max_tokens)
    from trainer.learner import TorchLearner

    set_cpu_threads(1)
    return TorchLearner(model, settings, temperature, sampling.max_tokens)


def take_cpus(settings: LearnerSettings) -> None:
    """Let torch use cpus_per_rank cores in this thread (the number is each thread's own); the engines need the others."""
    if settings.placement == "driver" and settings.cpus_per_rank:
        set_cpu_threads(int(settings.cpus_per_rank))


def set_cpu_threads(n: int) -> None:
    """Torch's threads for work that this thread starts; nothing where torch is not loaded (a simulated run) or a GPU does the work.

    Only the learner's thread may have more than one: a second team of OpenMP threads in the process makes both of them sleep and
    wake at every operation instead of waiting for it, which halved the learner's speed.
    """
    torch = sys.modules.get("torch")
    if torch is not None and not torch.cuda.is_available():
        torch.set_num_threads(max(1, n))


def grower_of(recipe: Recipe, task: Task, train: PromptSet, held_out: PromptSet) -> Grower | None:
    """Who adds prompts, where the recipe grows its pool."""
    return Grower(recipe.growth, task, train, held_out, recipe.seed) if recipe.growth else None


def encoder_of(recipe: Recipe, model_path: str, train: PromptSet) -> Encoder:
    """Training prompts leave room for summaries, and for the note of a budget, where the recipe has them.

    Errors: CurriculaError when completions leave no room for a prompt.
    """
    cuts = first_cuts(recipe, train.pool)
    if recipe.rollout.engine.backend == "simulated":
        note = note_of_words(recipe.rollout.budget_note)
        window = recipe.rollout.sampling.max_tokens + 1 + (note.most_tokens if note else 0)
        return Encoder(lambda prompts, drop: _levels(prompts, note), lambda prompts, drop: _levels(prompts, None), window)
    from transformers import AutoConfig, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_path)
    window = window_of(recipe.rollout.engine, AutoConfig.from_pretrained(model_path))
    room = window - recipe.rollout.sampling.max_tokens
    if room < 1:
        raise CurriculaError(
            f"rollout.sampling.max_tokens = {recipe.rollout.sampling.max_tokens} leaves no room for a prompt in a "
            f"window of {window} tokens"
        )
    note = note_of(recipe.rollout.budget_note, tokenizer, train)
    train_room = room - (note.most_tokens if note else 0)
    if cuts:
        asking = len(summary_ids(recipe.rollout.summary, tokenizer))
        train_room = min(room, room_for_prompts(cuts, asking, window)) - (note.most_tokens if note else 0)

    def noted(prompts: PromptSet, drop: bool) -> EncodedPrompts:
        prompt_set, ids_N = encode(prompts, tokenizer, train_room, drop)
        if note:
            check_tails(note, prompt_set, ids_N)
        return EncodedPrompts(prompt_set, ids_N, note)

    return Encoder(noted, lambda prompts, drop: EncodedPrompts(*encode(prompts, tokenizer, room, drop)), window)


def retry_of(recipe: Recipe, model_path: str, train: PromptSet) -> Retry:
    """What follows a wrong answer, as tokens; a simulated engine, which reads no tokens, is fed one per word."""
    text = recipe.rollout.feedback
    if recipe.rollout.engine.backend == "simulated":
        return Retry(text, (0,) * len(text.split()), train.reward)
    from transformers import AutoTokenizer

    chat = not isinstance(train.prompts[0].content, str)
    return Retry(text, feedback_ids(text, AutoTokenizer.from_pretrained(model_path), chat), train.reward)


def window_of(engine: EngineSettings, config: Any) -> int:
    """Tokens of prompt and completion together: what the recipe says, or what the model can."""
    own = int(getattr(config, "max_position_embeddings", 0)) or 2**31
    return min(engine.max_model_tokens or own, own)


def _levels(prompt_set: PromptSet, note: BudgetNote | None) -> EncodedPrompts:
    """The simulated learner reads a prompt's level where a model reads tokens. None is too long."""
    return EncodedPrompts(prompt_set, [(level_of(prompt.id),) for prompt in prompt_set.prompts], note)
