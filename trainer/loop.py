"""The run: collect, learn, publish, remember, step after step.

Two modes. ``on_policy``: the rollouts of a step are drawn by the weights that it updates. ``one_step_ahead``: the rollouts of
step t + 1 are drawn while the learner works on step t, so they are one policy version old; the pipeline is drained before every
checkpoint, so that a resumed run makes the plans of one that never stopped.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from curricula import Curriculum
from curricula.registry import STAGES, name_of
from curricula.types import CurriculaError, Feedback
from rollout.collector import EncodedPrompts
from rollout.grown import Grown
from rollout.log import read_growths
from rollout.types import Attempt
from trainer import checkpoint
from trainer.agreement import Agreement, check_agreement, probe_prompts
from trainer.assembly import Parts, assemble, take_cpus
from trainer.batch import feedback_of, sequences_of, with_own_logprobs
from trainer.cluster import connected
from trainer.consumption import consumed_of, controller_metrics
from trainer.growth import GROWTH, Lineage, prompts_of, without_long
from trainer.observer import EvaluationResult, Observer, Observers, RunSummary, to_dict
from trainer.recipe import Recipe
from trainer.resume import start_folder
from trainer.step_summary import summarise_step
from trainer.types import LearnerReport

MOST_EMPTY_STEPS = 25  # steps in a row without any group that carries signal, after which the run stops


def run(recipe: Recipe, *, resume: bool = False, ray_address: str | None = None, observer: Observer | None = None) -> RunSummary:
    """Train by the recipe; returns when the steps are done or the run was asked to stop (SIGTERM, SIGINT).

    Errors: CurriculaError for whatever the user can mend. The last committed checkpoint is intact after any of them.
    """
    folder = recipe.folder
    start = start_folder(recipe, folder, resume)
    with ExitStack() as stack:
        stack.enter_context(connected(recipe, ray_address))
        stop = stack.enter_context(stop_requests())
        parts = assemble(recipe, folder, stack)
        return Run(recipe, folder, parts, observer or Observers([]), stop).execute(start)


@dataclass
class Clock:
    """Seconds of the current step by phase."""

    seconds: dict[str, float]

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class Run:
    """One run's progress. All decisions are the curriculum's; this class only keeps the order of events."""

    def __init__(self, recipe: Recipe, folder: Path, parts: Parts, observer: Observer, stop: threading.Event) -> None:
        self._recipe = recipe
        self._folder = folder
        self._parts = parts
        self._observer = observer
        self._stop = stop
        self._clock = Clock({})
        self._empty_steps = 0
        self._probes: list[tuple[int, ...]] = []
        self._evaluations: list[EvaluationResult] = []
        self._learned_from = 0  # policy version that the newest step's update began with
        self._facts = facts_of(recipe, parts.curriculum)  # in every attempt of the log

    def execute(self, start: checkpoint.Checkpoint | None) -> RunSummary:
        first = self._restore(start)
        began = time.perf_counter()
        self._observer.on_start({"recipe": self._recipe, "folder": str(self._folder), "first_step": first})
        self._check_agreement()
        if first == 0:
            self._evaluate(0)
        done = self._steps(first)
        summary = RunSummary(
            folder=str(self._folder),
            n_steps=done,
            seconds=time.perf_counter() - began,
            stopped_early=done < self._recipe.run.n_steps,
            evaluations=list(self._evaluations),
        )
        self._observer.on_end(summary)
        return summary

    def _steps(self, first: int) -> int:
        """Steps first..n_steps - 1; returns how many steps the run has done in all."""
        ahead: list[Attempt] | None = None
        with ThreadPoolExecutor(1, "learner", initializer=take_cpus, initargs=(self._recipe.learner,)) as pool:
            for step in range(first, self._recipe.run.n_steps):
                self._clock = Clock({})
                began = time.perf_counter()
                attempts = ahead if ahead is not None else self._collect(step)
                feedbacks = [feedback_of(attempt, self._recipe.learner.advantage) for attempt in attempts]
                learning = pool.submit(self._learn, attempts)
                ahead = self._collect_ahead(step + 1, attempts) if self._runs_ahead(step) else None
                self._finish(step, attempts, feedbacks, learning, began)
                if self._stop.is_set() and ahead is None:
                    self._save(step + 1)
                    return step + 1
        return self._recipe.run.n_steps

    def _runs_ahead(self, step: int) -> bool:
        run = self._recipe.run
        drains = self._saves_after(step) or self._grows_after(step)
        return run.mode == "one_step_ahead" and step + 1 < run.n_steps and not drains and not self._stop.is_set()

    def _saves_after(self, step: int) -> bool:
        run = self._recipe.run
        return (step + 1) % run.checkpoint_every == 0 or step + 1 == run.n_steps

    def _grows_after(self, step: int) -> bool:
        return self._parts.lineage is not None and self._parts.lineage.due(step) and step + 1 < self._recipe.run.n_steps

    def _evaluates_after(self, step: int) -> bool:
        every = self._recipe.evaluation.every
        return step + 1 == self._recipe.run.n_steps or (every > 0 and (step + 1) % every == 0)

    def _collect(self, step: int) -> list[Attempt]:
        self._observer.on_phase("rollouts")
        with self._clock.phase("rollouts"):
            return self._parts.collector.collect(step)

    def _collect_ahead(self, step: int, in_flight: Sequence[Attempt]) -> list[Attempt]:
        """Rollouts of the next step while the learner works; the prompts of this step are left out."""
        taken = [int(i) for attempt in in_flight for i in attempt.plan.selection.prompt_B]
        with self._clock.phase("rollouts"):
            return self._parts.collector.collect(step, exclude=taken)

    def _learn(self, attempts: Sequence[Attempt]) -> LearnerReport | None:
        """One update; None when no rollout carries gradient (then the learning rate's clock stands still too)."""
        self._learned_from = self._parts.learner.version
        sequences = sequences_of(attempts, self._recipe.learner.advantage, self._parts.prompts)
        if not any(sequence.mean_abs_advantage for sequence in sequences):
            return None
        learner = self._parts.learner
        with self._clock.phase("learn"):
            return learner.step(with_own_logprobs(sequences, learner), self._parts.rate.lr(consumed_of(attempts)))

    def _finish(
        self,
        step: int,
        attempts: Sequence[Attempt],
        feedbacks: Sequence[Feedback],
        learning: Future[LearnerReport | None],
        began: float,
    ) -> None:
        with self._clock.phase("wait"):
            report = learning.result()
        with self._clock.phase("curriculum"):
            self._parts.curriculum.update(feedbacks)
            if self._parts.lineage is not None:
                self._parts.lineage.learn(feedbacks)
        rate = self._parts.rate.metrics()
        if report is not None:
            self._tick(step, attempts, report, began)
            self._publish()
        self._note_empty(step, report, attempts)
        self._log_attempts(attempts)
        if self._grows_after(step):
            self._grow(step)
        self._remember(step, attempts, report, began, rate)
        if self._evaluates_after(step):
            self._evaluate(step + 1)
        if self._saves_after(step):
            self._save(step + 1)

    def _tick(self, step: int, attempts: Sequence[Attempt], report: LearnerReport, began: float) -> None:
        """Tell the learning rate what the update consumed. Steps without one leave its clock where it is."""
        updates, steps_left = self._parts.learner.version - self._learned_from, self._recipe.run.n_steps - step - 1
        consumed = consumed_of(attempts, updates, time.perf_counter() - began)
        self._parts.rate.advance(consumed, steps_left, controller_metrics(consumed, report))

    def _publish(self) -> None:
        self._observer.on_phase("publish")
        with self._clock.phase("publish"):
            self._parts.fleet.publish(self._parts.learner.weights())
        if self._parts.learner.version == 1:
            self._check_agreement()

    def _check_agreement(self) -> Agreement | None:
        """Before the first update and after it, with the same probes (a cache of old weights shows only then)."""
        if self._recipe.rollout.engine.backend == "simulated":
            return None
        if not self._probes:
            self._probes = probe_prompts(self._parts.prompts.ids_N, self._parts.encoder.window)
        return check_agreement(
            self._parts.dispatcher,
            self._parts.learner,
            self._probes,
            self._recipe.rollout.sampling,
            self._recipe.rollout.engine.n_engines,
            self._recipe.run.agreement_tolerance,
        )

    def _note_empty(self, step: int, report: LearnerReport | None, attempts: Sequence[Attempt]) -> None:
        self._empty_steps = self._empty_steps + 1 if report is None else 0
        if self._empty_steps >= MOST_EMPTY_STEPS:
            scores = [attempt.outcome.score_R for attempt in attempts]
            mean = sum(float(score.sum()) for score in scores) / max(sum(len(score) for score in scores), 1)
            raise CurriculaError(
                f"step {step}: the last {MOST_EMPTY_STEPS} steps had no group with signal (mean score of this step "
                f"{mean:.3f}): the data are "
                f"{'too hard' if mean < 0.5 else 'too easy'} for this model; mend the task's levels, warm-start the "
                "model, or raise "
                "rollout.rollouts_per_group or rollout.max_attempts"
            )

    def _grow(self, step: int) -> None:
        """Add what the source makes of the prompts that the model is stuck on. Nothing is in flight."""
        parts = self._parts
        self._observer.on_phase("growth")
        with self._clock.phase("growth"):
            if parts.lineage is None or parts.grower is None or not (rows := parts.lineage.parents(parts.curriculum.estimate)):
                return
            parents = [parts.prompts.prompt_set.prompts[row] for row in rows]
            grown = parts.grower.children(step, parents, parts.curriculum.pool, parts.curriculum.estimate)
            encoded = parts.encoder.encode(prompts_of(grown, parts.prompts), self._recipe.rollout.drop_long_prompts)
            grown = without_long(grown, encoded.prompt_set)
            parts.log.append_grown(grown)
            self._take(parts.lineage, grown, encoded)

    def _take(self, lineage: Lineage, grown: Grown, encoded: EncodedPrompts) -> None:
        """Go on with a growth's children; their rows follow those of the pool."""
        self._parts.curriculum.grow(lineage.take(grown))
        prompts = self._parts.prompts.with_children(encoded, lineage.trained_as(grown))
        self._parts.collector.take_prompts(prompts)
        self._parts = replace(self._parts, prompts=prompts)

    def _log_attempts(self, attempts: Sequence[Attempt]) -> None:
        """Stage them, before the pool that they were planned from grows."""
        pool, prompts = self._parts.curriculum.pool, self._parts.prompts
        facts = {**self._facts, "policy_version": self._learned_from}
        with self._clock.phase("log"):
            for attempt in attempts:
                self._parts.log.append_attempt(pool, attempt, facts, prompts.prompt_set.prompts, prompts.ids_N)

    def _remember(
        self, step: int, attempts: Sequence[Attempt], report: LearnerReport | None, began: float, rate: dict[str, float]
    ) -> None:
        log, pool = self._parts.log, self._parts.curriculum.pool
        self._clock.seconds["deciding"] = self._parts.collector.take_deciding_s()
        self._clock.seconds["step"] = time.perf_counter() - began
        lr = report.lr if report else self._parts.rate.lr(consumed_of(attempts))
        metrics = {**self._parts.curriculum.metrics(), "n_prompts": float(len(pool)), **rate}
        record = summarise_step(step, self._recipe.run.n_steps, pool, attempts, report, lr, self._clock.seconds, metrics)
        log.append_step(to_dict(record))
        log.commit()
        self._observer.on_step(record)

    def _evaluate(self, step: int) -> None:
        self._observer.on_phase("evaluate")
        result = self._parts.evaluator.evaluate(step, self._parts.producer)
        self._evaluations.append(result)
        self._parts.log.append_evaluation(to_dict(result))
        self._parts.log.commit()
        self._observer.on_evaluation(result)

    def _save(self, step: int) -> None:
        self._observer.on_phase("checkpoint")
        facts = {
            "step": step,
            "log_position": self._parts.log.commit(),
            "recipe": self._recipe.fingerprint,
            "rate": self._parts.rate.state_dict(),
        }
        checkpoint.write(
            self._folder / "checkpoints",
            facts,
            self._parts.curriculum.state_dict(),
            self._save_learner,
            self._recipe.run.keep_checkpoints,
        )

    def _save_learner(self, folder: Path) -> None:
        self._parts.learner.save(folder)
        if self._parts.lineage is not None:
            np.savez(folder / GROWTH, **self._parts.lineage.state_dict())  # type: ignore[arg-type]

    def _restore(self, start: checkpoint.Checkpoint | None) -> int:
        """Bring every part back to the checkpoint; the step to go on with."""
        if start is None:
            self._parts.log.truncate_to(self._parts.log.beginning)
            return 0
        self._restore_growth(start)
        self._parts.curriculum.load_state_dict(start.curriculum_state())
        self._parts.learner.load(start.folder)
        self._restore_rate(start)
        self._parts.log.truncate_to(start.facts["log_position"])
        self._parts.fleet.publish(self._parts.learner.weights())
        return start.step

    def _restore_rate(self, start: checkpoint.Checkpoint) -> None:
        if "rate" in start.facts:
            self._parts.rate.load_state_dict(start.facts["rate"])
        else:
            self._parts.rate.catch_up(self._parts.learner.version)

    def _restore_growth(self, start: checkpoint.Checkpoint) -> None:
        """The pool as it was: its children are in the log, how its prompts fared beside the learner."""
        lineage = self._parts.lineage
        if lineage is None:
            return
        for grown in read_growths(self._folder / "log", before=start.step):
            children = prompts_of(grown, self._parts.prompts)
            self._take(lineage, grown, self._parts.encoder.encode(children, False))
        lineage.load_state_dict(start.arrays(GROWTH))


def facts_of(recipe: Recipe, curriculum: Curriculum) -> dict[str, Any]:
    """What decided, for whoever reads the log without its recipe."""
    policies = {stage: name_of(stage, getattr(curriculum.stages, stage)) for stage in STAGES}
    return {"seed": recipe.seed, "recipe": recipe.fingerprint, "policies": policies, "exploration": curriculum.exploration}


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def request(number: int, frame: FrameType | None) -> None:
        if event.is_set():
            raise SystemExit(128 + number)
        event.set()

    before = {number: signal.signal(number, request) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
