"""What a log holds, counted in one pass: `curricula log info`. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from curricula.types import CurriculaError
from rollout.compacted import begin_of
from rollout.lock import is_held
from rollout.log import ROLLOUTS, SCHEMA, TEXTS, last_commit, read_log, read_texts
from rollout.repair import LOCK, examine


@dataclass
class LogInfo:
    """Counts of one log. Rollouts do not count greedy completions; tokens are drawn ones, greedy completions included."""

    folder: str
    schema: int = SCHEMA
    runs: list[str] = field(default_factory=list)
    being_written: bool = False
    steps: int = 0
    first_step: int | None = None
    last_step: int | None = None
    evaluations: int = 0
    attempts: int = 0
    groups: int = 0
    groups_kept: int = 0
    rollouts: int = 0
    greedy: int = 0
    tokens: int = 0
    prompts: int = 0
    reasons: dict[str, int] = field(default_factory=dict)  # groups by the filter's reason
    statuses: dict[str, int] = field(default_factory=dict)  # rollouts
    finishes: dict[str, int] = field(default_factory=dict)  # rollouts
    groups_by_distribution: dict[str, int] = field(default_factory=dict)
    policy_versions: tuple[int, int] | None = None  # oldest and newest that drew a rollout
    lag: dict[int, int] = field(default_factory=dict)  # rollouts by updates between the weights that drew and the update itself
    texts: int = 0  # groups whose texts are there
    last_commit: tuple[int, int] = (0, 0)  # where it ends, in bytes of all lines of both files
    compacted_bytes: dict[str, int] = field(default_factory=dict)  # of each file's lines, those that are in parts
    bytes_on_disk: dict[str, int] = field(default_factory=dict)  # by file of the folder
    findings: list[str] = field(default_factory=list)  # what is damaged, torn, uncommitted or lost
    damaged: bool = False
    counted_until: str = ""  # why the counts above end early; empty where they do not

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def log_info(folder: Path) -> LogInfo:
    """Everything that can be told of a log without changing it; a damaged one is counted as far as it can be read.

    Errors: CurriculaError where the folder has no log, or one of another schema.
    """
    info = LogInfo(str(folder), being_written=is_held(folder / LOCK))
    info.bytes_on_disk = {file.name: file.lstat().st_size for file in sorted(folder.iterdir()) if file.is_file()}
    found = examine(folder)
    info.findings, info.damaged = [str(finding) for finding in found], any(finding.is_damage for finding in found)
    try:
        _count(info, folder)
    except CurriculaError as error:
        if not info.damaged:
            raise
        info.counted_until = str(error)
    return info


def _count(info: LogInfo, folder: Path) -> None:
    for name in (ROLLOUTS, TEXTS):
        if end := begin_of(folder / name).end:
            info.compacted_bytes[name] = end
    counts = _Counts()
    try:
        for record in read_log(folder):
            counts.add(info, record)
    finally:
        counts.close(info)
    run, committed = last_commit(folder)
    info.last_commit, info.runs = (committed.rollouts, committed.texts), info.runs or [run] * bool(run)
    info.texts = sum(1 for _ in read_texts(folder))


class _Counts:
    """Running counts; groups wait for the record of their attempt, which says from which version it was learned."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.finishes: Counter[str] = Counter()
        self.distributions: Counter[str] = Counter()
        self.lag: Counter[int] = Counter()
        self.prompts: set[str] = set()
        self.versions: Counter[int] = Counter()
        self.runs: dict[str, None] = {}
        self._open: Counter[int] = Counter()

    def add(self, info: LogInfo, record: Mapping[str, Any]) -> None:
        self.runs[record["run"]] = None
        match record["kind"]:
            case "group":
                self._group(info, record)
            case "attempt":
                self._attempt(info, record)
            case "step":
                info.steps += 1
                info.first_step = record["step"] if info.first_step is None else min(info.first_step, record["step"])
                info.last_step = record["step"] if info.last_step is None else max(info.last_step, record["step"])
            case "evaluation":
                info.evaluations += 1

    def close(self, info: LogInfo) -> None:
        info.runs = list(self.runs)
        info.reasons, info.statuses, info.finishes = dict(self.reasons), dict(self.statuses), dict(self.finishes)
        info.groups_by_distribution, info.prompts = dict(sorted(self.distributions.items())), len(self.prompts)
        info.lag = dict(sorted(self.lag.items()))
        info.policy_versions = (min(self.versions), max(self.versions)) if self.versions else None

    def _group(self, info: LogInfo, group: Mapping[str, Any]) -> None:
        info.groups += 1
        info.groups_kept += group["kept"]
        info.rollouts += len(group["rewards"])
        info.tokens += sum(group["n_tokens"])
        if group["greedy"] is not None:
            info.greedy += 1
            info.tokens += group["greedy"]["n_tokens"]
        self.reasons[group["reason"]] += 1
        self.statuses.update(group["statuses"])
        self.finishes.update(group["finish"])
        self.distributions[group["distribution"]] += 1
        self.prompts.add(group["prompt"])
        self._open.update(group["versions"])

    def _attempt(self, info: LogInfo, attempt: Mapping[str, Any]) -> None:
        info.attempts += 1
        learned_from = (attempt["facts"] or {}).get("policy_version")
        if isinstance(learned_from, int):
            for version, n in self._open.items():
                self.lag[learned_from - version] += n
        self.versions += self._open
        self._open.clear()
