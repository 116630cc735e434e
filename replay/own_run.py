"""This project's own log as one `LoggedRun`, like the logs of any other trainer."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from curricula.types import CurriculaError, PromptPool, Status
from replay.columns import STATUS, GroupColumns, logged
from replay.types import Lack, LoggedRun
from rollout.log import ROLLOUTS


def log_folder(path: Path) -> Path | None:
    """The folder of the log when ``path`` is a run of this project, or such a log itself; else None."""
    return next((folder for folder in (path, path / "log") if (folder / ROLLOUTS).is_file()), None)


def own_run(path: Path, pool: PromptPool | None = None) -> LoggedRun:
    """A run's log as columns. ``pool`` is the one that the run chose from; without it the prompts that the log names.

    A log in which groups got further allocation rounds lacks "fixed budget": how large they are depended on their scores.
    Errors: CurriculaError for a folder without a log, a damaged log, one without groups, or one of another pool.
    """
    folder = log_folder(path)
    if folder is None:
        raise CurriculaError(f"{path}: expected the folder of a run or of its log, found no {ROLLOUTS}")
    columns = Columns()
    for piece in logged(folder):
        if isinstance(piece, GroupColumns):
            columns.extend(piece)
        elif piece["kind"] == "group":
            columns.add(piece)
        else:
            columns.close(folder, piece, pool)
    return columns.run(folder, pool)


class Columns:
    """Numbers of the groups as they come; 25 bytes per rollout."""

    def __init__(self) -> None:
        self._distribution_of: dict[str, str] = {}  # by prompt, in the order of their first group
        self._row: dict[str, int] = {}
        self._prompt_G, self._step_G, self._attempt_G, self._kept_G = array("q"), array("q"), array("q"), array("B")
        self._propensity_G, self._probability_G, self._size_G = array("d"), array("d"), array("q")
        self._reward_R, self._status_R, self._tokens_R, self._version_R = array("d"), array("B"), array("q"), array("q")
        self._range: tuple[float, float] | None = None
        self._rounds = 0

    def add(self, group: Mapping[str, Any]) -> None:
        prompt, distribution = group["prompt"], group["distribution"]
        self._prompt_G.append(self._row.setdefault(prompt, len(self._row)))
        self._distribution_of.setdefault(prompt, distribution)
        self._step_G.append(group["step"])
        self._attempt_G.append(group["attempt"])
        self._kept_G.append(int(group["kept"]))
        self._propensity_G.append(group["propensity"])
        self._probability_G.append(group["probability"])
        self._rounds = max(self._rounds, group["round"])
        rewards = group["rewards"]
        self._size_G.append(len(rewards))
        self._reward_R.extend([np.nan if reward is None else float(reward) for reward in rewards])
        self._status_R.extend([STATUS[status] for status in group["statuses"]])
        self._tokens_R.extend(group["n_tokens"])
        self._version_R.extend(group["versions"])

    def extend(self, groups: GroupColumns) -> None:
        """Groups of a compacted log, as `add` would take them one by one."""
        row = np.array([self._row.setdefault(prompt, len(self._row)) for prompt in groups.prompts], dtype=np.int64)
        for prompt, distribution in zip(groups.prompts, groups.distributions, strict=True):
            self._distribution_of.setdefault(prompt, distribution)
        self._rounds = max(self._rounds, int(groups.round_B.max()))
        for column, values in (
            (self._prompt_G, row[groups.prompt_B]),
            (self._step_G, groups.step_B),
            (self._attempt_G, groups.attempt_B),
            (self._kept_G, groups.kept_B),
            (self._propensity_G, groups.propensity_B),
            (self._probability_G, groups.probability_B),
            (self._size_G, groups.size_B),
            (self._reward_R, groups.reward_R),
            (self._status_R, groups.status_R),
            (self._tokens_R, groups.n_tokens_R),
            (self._version_R, groups.version_R),
        ):
            column.frombytes(np.ascontiguousarray(values).tobytes())

    def close(self, folder: Path, attempt: Mapping[str, Any], pool: PromptPool | None) -> None:
        """The record that follows the groups of an attempt."""
        if pool is not None and attempt["pool"] != pool.fingerprint:
            raise CurriculaError(
                f"{folder}: step {attempt['step']} was planned from a pool with fingerprint {attempt['pool']}, the one given has "
                f"{pool.fingerprint}; replay with the data of the run"
            )
        low, high = map(float, attempt["reward_range"])
        if self._range not in (None, (low, high)):
            raise CurriculaError(f"{folder}: step {attempt['step']}: reward_range {low, high}, before it was {self._range}")
        self._range = low, high

    def run(self, folder: Path, pool: PromptPool | None) -> LoggedRun:
        if self._range is None:
            raise CurriculaError(f"{folder}: the log has no attempt yet; replay needs one finished step at least")
        known = pool or PromptPool.from_columns(list(self._distribution_of), list(self._distribution_of.values()))
        row = {str(name): i for i, name in enumerate(known.ids)}
        place_N = np.array([row[name] for name in self._row], dtype=np.int64)
        reward_R, status_R = np.asarray(self._reward_R), np.asarray(self._status_R)
        lacks: set[Lack] = {"fixed budget"} if self._rounds else set()
        return LoggedRun(
            source=str(folder),
            pool=known,
            prompt_G=place_N[np.asarray(self._prompt_G)],
            step_G=np.asarray(self._step_G),
            group_R=np.repeat(np.arange(len(self._size_G)), np.asarray(self._size_G)),
            reward_R=np.where(status_R == Status.OK, reward_R, np.nan),
            status_R=status_R,
            n_tokens_R=np.asarray(self._tokens_R),
            policy_version_R=np.asarray(self._version_R),
            propensity_G=np.asarray(self._propensity_G),
            arm_probability_G=np.asarray(self._probability_G),
            kept_G=np.asarray(self._kept_G),
            reward_range=self._range,
            lacks=frozenset(lacks),
            attempt_G=np.asarray(self._attempt_G),
        )
