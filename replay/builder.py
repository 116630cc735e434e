"""Gathers the rows of a foreign log into a LoggedRun: keeps numbers and ids, no texts, and names the place of what does not fit."""

from __future__ import annotations

import math
from array import array
from collections.abc import Hashable, Iterable, Sequence
from typing import Any

import numpy as np

from curricula.types import CurriculaError, PromptPool, Status
from replay.types import Lack, LoggedRun
from rollout.rows import MISSING, Place, Row, first, id_from_text

LONGEST_ID = 120  # a longer one is a text: it is hashed
UNSAID: tuple[Lack, ...] = ("step", "propensity", "arm probability", "status", "tokens", "policy version")


class RunBuilder:
    """Groups and rollouts in the order in which they come; groups are sorted by step at the end, where steps are known."""

    def __init__(self, reward_range: Sequence[float]) -> None:
        self.reward_range = checked_range(reward_range)
        self._kinds: dict[str, tuple[str, Place]] = {}
        self._prompts: dict[str, int] = {}  # id -> row of the pool
        self._distributions: list[str] = []
        self._texts: dict[str, str] = {}
        self._groups: dict[Hashable, int] = {}
        self._prompt_G, self._step_G, self._propensity_G, self._kept_G = array("q"), array("q"), array("d"), array("B")
        self._group_R, self._reward_R, self._status_R = array("q"), array("d"), array("B")
        self._tokens_R, self._version_R = array("q"), array("q")
        self._outside: tuple[Place, float] | None = None

    def same_kind(self, field: str, kind: str, place: Place) -> None:
        """CurriculaError where a field's values change their type: 1 and "1" would become one id."""
        known = self._kinds.get(field)
        if known is None:
            self._kinds[field] = kind, place
        elif known[0] != kind:
            raise CurriculaError(f"{place}: {field}: expected {known[0]} as in {known[1]}, got {kind}")

    def same_text(self, id: str, came: str, place: Place) -> None:
        """CurriculaError where a prompt's id comes with another text (its hash): two data sets in one file."""
        if self._texts.setdefault(id, came) != came:
            raise CurriculaError(
                f"{place}: prompt {id!r} came with another text before; expected one; are two data sets in one file?"
            )

    def group(
        self,
        key: Hashable,
        prompt: tuple[str, str],
        place: Place,
        step: int = -1,
        propensity: float = math.nan,
        kept: int = 2,
    ) -> int:
        """The place of the group with this key; a new one where the key is new. ``prompt``: distribution and id."""
        row = self._row(prompt, place)
        at = self._groups.setdefault(key, len(self._groups))
        if at == len(self._prompt_G):
            self._prompt_G.append(row)
            self._step_G.append(step)
            self._propensity_G.append(propensity)
            self._kept_G.append(kept)
            return at
        if self._prompt_G[at] != row:
            raise _another("prompt", place)
        if self._step_G[at] != step:
            raise _another("step", place)
        before = self._propensity_G[at]
        if before != propensity and not (math.isnan(before) and math.isnan(propensity)):
            raise _another("propensity", place)
        return at

    def rollout(
        self, group: int, reward: float, place: Place, status: Status = Status.OK, tokens: int = -1, version: int = -1
    ) -> int:
        """One rollout; NaN without a status says INVALID. ``version``: of the policy. Returns its place."""
        self._group_R.append(group)
        self._reward_R.append(math.nan)
        self._status_R.append(Status.INVALID)
        self._tokens_R.append(tokens)
        self._version_R.append(version)
        self.replace(len(self._group_R) - 1, reward, place, status)
        return len(self._group_R) - 1

    def replace(self, rollout: int, reward: float, place: Place, status: Status = Status.OK) -> None:
        """Another reward for a rollout that is there already."""
        if status == Status.OK and not math.isfinite(reward):
            status = Status.INVALID
        low, high = self.reward_range
        if status == Status.OK and self._outside is None and not low <= reward <= high:
            self._outside = (place, reward)
        self._reward_R[rollout] = reward if status == Status.OK else math.nan
        self._status_R[rollout] = status

    def add_tokens(self, rollout: int, tokens: int) -> None:
        """More tokens of a rollout that is there already, as where it has several steps."""
        self._tokens_R[rollout] = min(self._tokens_R[rollout] + tokens, 2**63 - 1)

    def run(self, source: str, lacks: Iterable[Lack]) -> LoggedRun:
        """The record. What is missing in every row is for the caller to say; missing steps, tokens and versions are seen here."""
        if not self._group_R:
            raise CurriculaError(f"{source}: it has no rows; expected one rollout per line or row")
        step_G, prompt_G = np.asarray(self._step_G), np.asarray(self._prompt_G)
        tokens_R, version_R = np.asarray(self._tokens_R), np.asarray(self._version_R)
        self._refuse_rewards()
        order = np.argsort(step_G, kind="stable") if (step_G >= 0).all() else np.arange(len(step_G))
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        seen: dict[Lack, bool] = {
            "step": bool((step_G < 0).any()),
            "tokens": bool((tokens_R < 0).any()),
            "policy version": bool((version_R < 0).any()),
            "propensity": bool(np.isnan(np.asarray(self._propensity_G)).any()),
        }
        return LoggedRun(
            source=source,
            pool=self._pool(),
            prompt_G=prompt_G[order],
            step_G=step_G[order],
            group_R=rank[np.asarray(self._group_R)],
            reward_R=np.asarray(self._reward_R),
            status_R=np.asarray(self._status_R),
            n_tokens_R=tokens_R,
            policy_version_R=version_R,
            propensity_G=np.asarray(self._propensity_G)[order],
            arm_probability_G=np.full(len(step_G), np.nan),
            kept_G=np.asarray(self._kept_G)[order],
            reward_range=self.reward_range,
            lacks=frozenset({*lacks} - seen.keys() | {lack for lack, missing in seen.items() if missing}),
        )

    def _pool(self) -> PromptPool:
        return PromptPool.from_columns(ids=self._prompts, distributions=self._distributions)

    def _row(self, prompt: tuple[str, str], place: Place) -> int:
        distribution, id = prompt
        row = self._prompts.setdefault(id, len(self._prompts))
        if row == len(self._distributions):
            self._distributions.append(distribution)
        if self._distributions[row] != distribution:
            raise CurriculaError(
                f"{place}: prompt {id!r}: expected distribution {self._distributions[row]!r} as before, got {distribution!r}"
            )
        return row

    def _refuse_rewards(self) -> None:
        if self._outside is None:
            return
        place, reward = self._outside
        valid = [value for value in self._reward_R if math.isfinite(value)]
        raise CurriculaError(
            f"{place}: reward {reward:g} lies outside {self.reward_range[0]:g}..{self.reward_range[1]:g}; the file's rewards go "
            f"from {min(valid):g} to {max(valid):g}; name the range that the reward function can return: reward_range: [low, high]"
        )


def _another(what: str, place: Place) -> CurriculaError:
    return CurriculaError(f"{place}: another {what} than in the earlier rows of its group; expected one per group")


def checked_range(value: Any) -> tuple[float, float]:
    """Lowest and highest reward that the reward function can return."""
    plain = isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(v, int | float) for v in value)
    if not plain or not -math.inf < value[0] < value[1] < math.inf:
        raise CurriculaError(f"reward_range: expected two numbers [low, high] with low < high, got {value!r}")
    return float(value[0]), float(value[1])


def field_of(row: Row, fields: Sequence[str], place: Place) -> Any:
    """The value of the first of these dotted fields. Errors: CurriculaError naming what the row has instead."""
    value = first(row, fields)
    if value is MISSING:
        has = ", ".join(str(name)[:40] for name in list(row)[:20])
        raise CurriculaError(f"{place}: no field {' or '.join(map(repr, fields))}; it has {has or 'none'}")
    return value


def reward_of(row: Row, fields: Sequence[str], place: Place) -> float:
    """A reward: a number, true (1) or false (0); null is NaN, which becomes INVALID."""
    value = field_of(row, fields, place)
    if isinstance(value, float):
        return value
    if value is None:
        return math.nan
    if not isinstance(value, int):
        raise CurriculaError(f"{place}: {fields[0]}: expected a number, got {shown(value)}")
    try:
        return float(value)
    except OverflowError as error:
        raise CurriculaError(f"{place}: {fields[0]}: expected a number, got one too large for any") from error


def whole_of(row: Row, fields: Sequence[str], place: Place) -> int:
    """A whole number from 0 on; Parquet made by pandas may hold it as 3.0."""
    value = field_of(row, fields, place)
    if type(value) is int and 0 <= value < 2**63:
        return value
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise CurriculaError(f"{place}: {fields[0]}: expected a whole number from 0 on, got {shown(value)}")
    return value


def id_of(builder: RunBuilder, row: Row, fields: Sequence[str], place: Place) -> str:
    """An id: a whole number or text, the same kind in every row; a text too long for an id becomes its hash."""
    value = field_of(row, fields, place)
    if isinstance(value, bool) or not isinstance(value, int | str) or value == "":
        raise CurriculaError(f"{place}: {fields[0]}: expected an id (whole number or text), got {shown(value)}")
    builder.same_kind(fields[0], "text" if isinstance(value, str) else "a whole number", place)
    return name_from(str(value) if isinstance(value, str) or abs(value) < 10**100 else hex(value))


def prompt_of(row: Row, field: str, distribution: str, place: Place) -> tuple[str, str]:
    """Distribution and id of a prompt without an id: the hash that task prompt_file gives to the same text."""
    value = field_of(row, (field,), place)
    if not value or not isinstance(value, str | list):
        raise CurriculaError(f"{place}: {field}: expected text or chat messages, got {shown(value)}")
    return distribution, id_from_text(distribution, value)


def name_from(text: str) -> str:
    """Text that is fit for an id or a name: itself, or its hash where it is long or has characters that do not print."""
    return text if len(text) <= LONGEST_ID and text.isprintable() else id_from_text("text", text)


def shown(value: Any) -> str:
    """A value for a message: short, with its type."""
    return f"{repr(value)[:60]} ({type(value).__name__})" if not isinstance(value, int) or abs(value) < 10**60 else "a huge number"
