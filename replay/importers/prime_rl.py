"""Episodes that prime-rl logs: ``rollouts/step_{N}/train/all/traces.jsonl``."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from curricula.types import CurriculaError, Status
from replay.builder import UNSAID, RunBuilder, field_of, id_of, name_from, reward_of, shown, whole_of
from replay.files import fields_of, matching
from replay.importers import register
from replay.types import Lack, LoggedRun
from rollout.rows import MISSING, Place, Row, id_from_text, reach, read_rows

FIELDS = frozenset({"env", "task", "ok", "traces"})
SUBSETS = ("all", "effective")


@register("prime_rl")
@dataclass(frozen=True)
class PrimeRl:
    """One row per episode, in the record of the verifiers library (as of its release 0.4); one rollout per episode.

    The rollout is the episode's trainable trace, of which there must be one; where there are several, ``agent`` names whose trace
    counts. Its reward is the sum of score times weight, so ``reward_range`` is the range of that sum. A trace without a score is
    INVALID, a failed one ERROR or TIMEOUT, whatever its score. The step is the one at which the group was dispatched, the policy
    version the oldest that the group saw. A prompt's id is the task's key; it is a hash of the task's fields unless the task set
    gives its own, so it may change with the release of verifiers.

    A folder is read as the trainer lays it out: of its training logs those in ``all``, where groups that a filter rejected are
    too; the groups that entered an update are then known from ``effective``. A file outside of these folders does not say whether
    rejected groups are in it. Evaluations are read one file at a time. Episodes without a group (an evaluation outside of training)
    are one group per prompt.
    """

    subset: str = "all"  # of a folder: every episode, or those that entered an update ("effective")
    agent: str = ""
    reward_range: tuple[float, float] = (0.0, 1.0)

    looks_for: ClassVar[str] = f"JSONL with {', '.join(sorted(FIELDS))}"

    def __post_init__(self) -> None:
        if self.subset not in SUBSETS:
            raise CurriculaError(f"log format 'prime_rl', subset: expected all or effective, got {self.subset!r}")
        if not isinstance(self.agent, str):
            raise CurriculaError(f"log format 'prime_rl', agent: expected the name of an agent, got {self.agent!r}")

    def detect(self, path: Path) -> bool:
        files = self._files(path, self.subset)
        return bool(files) and fields_of(files[0]) >= FIELDS

    def read(self, path: Path) -> LoggedRun:
        files = self._files(path, self.subset)
        if not files:
            raise CurriculaError(
                f"{path}: expected a folder with step_<number>/train/{self.subset}/traces.jsonl below it, got none"
            )
        builder, lacks = RunBuilder(self.reward_range), set[Lack](UNSAID) - {"status"}
        folders, entered = {file.resolve().parent.name for file in files}, self._entered(path)
        seen: set[str] = set()
        for file in files:
            for place, row in read_rows(file):
                _once(row, seen, place)
                lacks |= self._add(builder, row, 1 if folders == {"effective"} else 2, entered, place)
        if folders != {"all"}:  # a file elsewhere does not say which of the two it is
            lacks.add("rejected groups")
        return builder.run(f"prime_rl {path}", lacks)

    def _files(self, path: Path, subset: str) -> list[Path]:
        patterns = (f"**/train/{subset}/traces.jsonl", f"{subset}/traces.jsonl", "traces.jsonl")
        return next((files for pattern in patterns if (files := matching(path, pattern))), [])

    def _entered(self, path: Path) -> frozenset[str]:
        """Groups of a folder of which an episode entered an update; none where the folder does not say."""
        if self.subset == "effective" or not path.is_dir():
            return frozenset()
        files = [file for file in self._files(path, "effective") if file.parent.name == "effective"]
        rows = (row for file in files for _, row in read_rows(file))
        return frozenset(str(id) for row in rows if (id := reach(row, "group.id")) is not MISSING)

    def _add(self, builder: RunBuilder, row: Row, kept: int, entered: frozenset[str], place: Place) -> set[Lack]:
        lacks: set[Lack] = set()
        work = reach(row, "run.work") not in (MISSING, None)
        kind = field_of(row, ("run.work.type",), place) if work else "no training"
        builder.same_kind("run.work.type", shown(kind), place)
        prompt = _prompt(row, place)
        if reach(row, "task.key") in (MISSING, None):
            lacks.add("prompt id")
        builder.same_kind("task.key", "no key" if lacks else "a key", place)
        step = whole_of(row, ("run.work.step",), place) if work else -1
        key: Hashable = prompt
        grouped = reach(row, "group.id") not in (MISSING, None)
        builder.same_kind("group", "a group" if grouped else "no group", place)
        if grouped:
            key = id_of(builder, row, ("group.id",), place)
            kept = int(str(reach(row, "group.id")) in entered) if entered else kept
        else:
            lacks.add("group id")
        status, trace = self._outcome(row, place)
        reward = math.nan if trace is None or status != Status.OK else _reward(trace, place)
        version = reach(row, "run.work.policy.start")
        builder.rollout(
            builder.group(key, prompt, place, step, kept=kept),
            reward,
            place,
            status,
            tokens=-1 if trace is None else _tokens(trace, place),
            version=-1 if version in (MISSING, None) else whole_of(row, ("run.work.policy.start",), place),
        )
        return lacks

    def _outcome(self, row: Row, place: Place) -> tuple[Status, Mapping[str, Any] | None]:
        """The status of the episode, and the trace that counts."""
        traces = field_of(row, ("traces",), place)
        if not isinstance(traces, list) or not all(isinstance(trace, Mapping) for trace in traces):
            raise CurriculaError(f"{place}: traces: expected a list of objects, got {shown(traces)}")
        names = [str(reach(trace, "agent.name"))[:40] for trace in traces]
        chosen = [
            trace
            for name, trace in zip(names, traces, strict=True)
            if _said(trace, "agent.trainable", place) and self.agent in ("", name)
        ]
        failed = [part for part in (row, *chosen) if not _said(part, "ok", place)]
        if not failed and len(chosen) != 1:
            raise CurriculaError(
                f"{place}: traces: expected one trainable trace{f' of agent {self.agent!r}' * bool(self.agent)}, got "
                f"{len(chosen)}; the agents are {', '.join(names) or 'none'}; name the one that counts: agent"
            )
        trace = chosen[0] if len(chosen) == 1 else None
        if not failed:
            return Status.OK, trace
        return Status.TIMEOUT if any(part.get("is_timeout") is True for part in failed) else Status.ERROR, trace


def _once(row: Row, seen: set[str], place: Place) -> None:
    id = field_of(row, ("id",), place)
    if not isinstance(id, str) or id in seen:
        raise CurriculaError(f"{place}: id: expected a text that no earlier episode has, got {shown(id)}; was a log read twice?")
    seen.add(id)


def _prompt(row: Row, place: Place) -> tuple[str, str]:
    named = next((name for path in ("env.name", "env.id") if isinstance(name := reach(row, path), str) and name), "all")
    distribution = name_from(named)
    key = reach(row, "task.key")
    if key in (MISSING, None):
        return distribution, id_from_text(distribution, field_of(row, ("task.data",), place))
    if not isinstance(key, str) or not key:
        raise CurriculaError(f"{place}: task.key: expected a text, got {shown(key)}")
    return distribution, name_from(f"{distribution}/{key}")


def _reward(trace: Mapping[str, Any], place: Place) -> float:
    """Sum of score times weight; NaN where a reward was not computed, and where there is none."""
    rewards = field_of(trace, ("rewards",), place)
    if not isinstance(rewards, Mapping):
        raise CurriculaError(f"{place}: rewards: expected an object of named rewards, got {shown(rewards)}")
    total = 0.0 if rewards else math.nan
    for name, part in rewards.items():
        field = f"rewards.{name_from(name)}"
        if part is None:
            return math.nan
        if not isinstance(part, Mapping):
            raise CurriculaError(f"{place}: {field}: expected an object with score and weight, got {shown(part)}")
        score, weight = (
            reward_of({f"{field}.{key}": field_of(part, (key,), place)}, (f"{field}.{key}",), place) for key in ("score", "weight")
        )
        total += score * weight
    return total


def _tokens(trace: Mapping[str, Any], place: Place) -> int:
    """Tokens that the policy wrote: those of the sampled messages, else what the server counted; -1 where nobody did."""
    nodes = trace.get("nodes")
    if not isinstance(nodes, list) or not all(isinstance(node, Mapping) for node in nodes):
        raise CurriculaError(f"{place}: nodes: expected a list of objects, got {shown(nodes)}")
    masks = [mask for node in nodes if node.get("sampled") is True and isinstance(mask := node.get("mask"), list)]
    counted = sum(value is True for mask in masks for value in mask)
    if counted or reach(trace, "num_output_tokens") in (MISSING, None):
        return counted or -1
    return whole_of(trace, ("num_output_tokens",), place) or -1


def _said(part: Mapping[str, Any], field: str, place: Place) -> bool:
    value = field_of(part, (field,), place)
    if not isinstance(value, bool):
        raise CurriculaError(f"{place}: {field}: expected true or false, got {shown(value)}")
    return value
