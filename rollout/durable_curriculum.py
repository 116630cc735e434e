"""A curriculum in a folder: every decision and every lesson is on disk before it is answered, and comes back after any death.

::

    served.json            recipe, seed and pool of the folder; written last, so a folder that has it is whole
    pool.npz               the pool
    state-<n>.npz          the state after n entries, written under another name, synced and renamed
    journal-<n>.jsonl      the entries behind it, one checked line each (`rollout.journal`), synced before they count

A killed process leaves at most one torn line, which nobody was told of; it moves to a ``discarded-*`` file.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.curriculum import Curriculum
from curricula.ledger import MEMORY_STEPS
from curricula.recipes import Recipe, read
from curricula.types import CurriculaError, Feedback, Ints, PromptPool, RolloutPlan
from rollout.feedback_record import packed, unpacked
from rollout.journal import AppendFile, record_of, scan, seal, sync_path
from rollout.lock import FolderLock

SERVED, POOL = "served.json", "pool.npz"
REMEMBERED = 4096  # updates that are known again when they are sent twice
PLACE = 2**20 - 1  # the bits of a group id that say its place in the plan (see `curricula.group_ids`)
_OWN = "served."  # keys of a state file that are not the curriculum's

Values = dict[str, Any]
Key = tuple[int, int]  # step, attempt


class _Given(NamedTuple):
    """A plan that was given out, and what was asked for."""

    plan: RolloutPlan
    asked: list[Any]
    ticket: str


def prepare(folder: Path, recipe: str | Recipe, pool: PromptPool, seed: int, snapshot_every: int = 64) -> None:
    """Make the folder ready, or check that it belongs to the same curriculum.

    Errors: CurriculaError naming the first difference to what the folder has, a recipe that is no plain values, a bad setting.
    """
    wanted = {"recipe": _plain_recipe(recipe), "seed": int(seed), "pool": pool.fingerprint}
    if snapshot_every < 1:
        raise CurriculaError(f"snapshot_every: expected a number of entries >= 1, got {snapshot_every}")
    if (folder / SERVED).is_file():
        there = _facts(folder)
        for key, value in wanted.items():
            if there.get(key) != value:
                raise CurriculaError(
                    f"{folder}: it belongs to another {key} ({there.get(key)}, now {value}); give the same one, or a "
                    "folder of its own"
                )
        return
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {"ids": pool.ids, "distribution_N": pool.distribution_N, "distribution_names": np.asarray(pool.distribution_names)}
    arrays |= {"prior_pass_rate_N": pool.prior_pass_rate_N, "parent_N": pool.parent_N}
    if pool.features_NF is not None:
        arrays["features_NF"] = pool.features_NF
    _write(folder / POOL, lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
    facts = json.dumps(wanted | {"snapshot_every": snapshot_every}, indent=1)
    _write(folder / SERVED, lambda file: file.write(facts.encode()))


class DurableCurriculum:
    """The curriculum of a prepared folder, in the state that it was left in; one process at a time has it.

    Errors: CurriculaError when the folder is not prepared, another process has it, or a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.closed = False  # by `close`, or by an update that failed: open the folder anew
        facts = _facts(folder)
        self._lock = FolderLock(folder / "writer.lock")
        try:
            self._recipe, self._seed, self._snapshot_every = facts["recipe"], facts["seed"], facts["snapshot_every"]
            self.pool = _pool(folder)
            self._restore()
        except BaseException:
            self._lock.release()
            raise

    def plan(
        self,
        step: int,
        n_groups: int,
        n_rollouts: int,
        attempt: int | None = None,
        exclude: Iterable[int] | Ints = (),
        ticket: str = "",
    ) -> RolloutPlan:
        """A plan that belongs to the asker: without ``attempt``, the step's next one, of prompts that no other plan of it has.

        With ``attempt`` the plan of that number, made once: whoever asks again with the same numbers gets the same plan, after
        a restart too. ``ticket`` names one asking, so that the same asking, sent twice, is answered once.
        """
        if ticket and (known := self._by_ticket.get(ticket)):
            return self._plans[known].plan
        rows = np.unique(np.asarray(exclude if isinstance(exclude, np.ndarray) else list(exclude), dtype=np.int64))
        asked = [n_groups, n_rollouts, hashlib.blake2b(rows.tobytes(), digest_size=8).hexdigest()]
        self._refuse_old(step)
        if attempt is None:
            same = [key for key in self._plans if key[0] == step]
            attempt = 1 + max((key[1] for key in same), default=-1)
            rows = np.concatenate([rows, *(self._plans[key].plan.selection.prompt_B for key in same)])
        elif (step, attempt) in self._plans:
            return self._same(self._plans[step, attempt], asked)
        plan = self.curriculum.plan(step, n_groups, n_rollouts, attempt, exclude=rows)
        entry = {"kind": "plan", "ticket": ticket, "asked": asked, "plan": packed(plan)}
        self._file.append(seal(entry))
        self._take_plan(entry)
        self._count()
        return self._plans[step, attempt].plan

    def update(self, feedbacks: Feedback | Sequence[Feedback]) -> None:
        """Learn, once: what was sent before, in whole or group by group, changes nothing. On disk before it is learned.

        Errors: CurriculaError for feedback of a plan that was not made here; nothing is written or learned then. A policy's own
        error closes the folder in the state of before.
        """
        given = [feedbacks] if isinstance(feedbacks, Feedback) else list(feedbacks)
        if not given:
            return
        for feedback in given:
            self._refuse_foreign(feedback.plan)
        records = [packed(feedback) for feedback in given]
        ticket = hashlib.blake2b(json.dumps(records).encode(), digest_size=16).hexdigest()
        if ticket in self._learned:
            return
        end = self._file.end
        self._file.append(seal({"kind": "update", "ticket": ticket, "feedback": records}))
        try:
            self._learn(ticket, records)
        except BaseException:  # a policy failed half-way: the entry goes, and the state of before is to be read from disk
            self._file.revoke(end)
            self._give_up()
            raise
        self._count()

    def close(self) -> None:
        """Save the state and give the folder free; the curriculum must not be used afterwards."""
        if self._n_behind:
            self._snapshot()
        self._give_up()

    def _give_up(self) -> None:
        self.closed = True
        self._file.close()
        self._lock.release()

    @property
    def n_entries(self) -> int:
        """Plans and updates so far."""
        return self._n + self._n_behind

    def _restore(self) -> None:
        self.curriculum = Curriculum.from_recipe(self._recipe, self.pool, self._seed)
        self._plans: dict[Key, _Given] = {}
        self._by_ticket: dict[str, Key] = {}
        self._learned: deque[str] = deque(maxlen=REMEMBERED)
        self._n, self._n_behind = 0, 0
        snapshots = sorted(self.folder.glob("state-*.npz"))
        if snapshots:
            self._load(snapshots[-1])
        path, end = self.folder / f"journal-{self._n:012d}.jsonl", 0
        for line in scan(path) if path.is_file() else ():
            entry = record_of(line, path)
            if entry["kind"] == "plan":
                self._take_plan(entry)
            else:
                self._learn(entry["ticket"], entry["feedback"])
            self._n_behind, end = self._n_behind + 1, line.end
        self._file = AppendFile(path, end)

    def _take_plan(self, entry: Values) -> None:
        plan = unpacked(entry["plan"])
        key = plan.step, plan.attempt
        self._plans[key] = _Given(plan, entry["asked"], entry["ticket"])
        if entry["ticket"]:
            self._by_ticket[entry["ticket"]] = key
        oldest = max(step for step, _ in self._plans) - MEMORY_STEPS
        for old in [key for key in self._plans if key[0] <= oldest]:
            self._by_ticket.pop(self._plans.pop(old).ticket, None)

    def _learn(self, ticket: str, records: Sequence[Values]) -> None:
        self.curriculum.update([unpacked(record) for record in records])
        self._learned.append(ticket)

    def _count(self) -> None:
        self._n_behind += 1
        if self._n_behind >= self._snapshot_every:
            with suppress(CurriculaError):  # no room for a state file: the journal has it all, and the next entry tries again
                self._snapshot()

    def _snapshot(self) -> None:
        """A state file, then a journal that begins behind it, then the older ones go: a death in between loses nothing."""
        n = self.n_entries
        plans = [{"ticket": given.ticket, "asked": given.asked, "plan": packed(given.plan)} for given in self._plans.values()]
        own = {"n": n, "plans": plans, "learned": list(self._learned)}
        arrays = {**self.curriculum.state_dict(), f"{_OWN}json": np.frombuffer(json.dumps(own).encode(), np.uint8)}
        _write(self.folder / f"state-{n:012d}.npz", lambda file: np.savez(file, **arrays))  # type: ignore[arg-type]
        journal = AppendFile(self.folder / f"journal-{n:012d}.jsonl", 0)
        self._file.close()
        self._file, self._n, self._n_behind = journal, n, 0
        for old in (
            *self.folder.glob("state-*.npz"),
            *self.folder.glob("journal-*.jsonl"),
            *self.folder.glob(".partial-*-state-*"),
        ):
            if int(old.stem.rpartition("-")[2]) < self._n:
                old.unlink()

    def _load(self, path: Path) -> None:
        arrays = _arrays(path)
        own = json.loads(arrays.pop(f"{_OWN}json").tobytes())
        self.curriculum.load_state_dict(arrays)
        self._n = own["n"]
        self._learned.extend(own["learned"])
        for entry in own["plans"]:
            self._take_plan(entry)

    def _same(self, given: _Given, asked: list[Any]) -> RolloutPlan:
        if given.asked != asked:
            raise CurriculaError(
                f"plan: step {given.plan.step}, attempt {given.plan.attempt} was planned before for {given.asked[0]} groups and "
                f"{given.asked[1]} rollouts, now {asked[0]} and {asked[1]} are asked for (or others excluded); ask with the same "
                "numbers for the same plan, or leave attempt out for another one"
            )
        return given.plan

    def _refuse_old(self, step: int) -> None:
        newest = max((known for known, _ in self._plans), default=step)
        if step <= newest - MEMORY_STEPS:
            raise CurriculaError(
                f"plan: step {step} is {newest - step} steps behind the newest one, {newest}; what comes of it would be too late "
                f"to be learned from (limit {MEMORY_STEPS}); is this client's step counter right?"
            )

    def _refuse_foreign(self, plan: RolloutPlan) -> None:
        newest = max((step for step, _ in self._plans), default=-1)
        if plan.step <= newest - MEMORY_STEPS:
            return  # too late to be learned from: counted, no more
        given = self._plans.get((plan.step, plan.attempt))
        place_B = plan.group_B & PLACE
        theirs = plan.selection.prompt_B
        if given is None or (place_B >= len(given.plan)).any() or (given.plan.selection.prompt_B[place_B] != theirs).any():
            raise CurriculaError(
                f"update: step {plan.step}, attempt {plan.attempt} was not planned by this curriculum (or for other prompts); send "
                "feedback to the curriculum that made its plan"
            )


def _plain_recipe(recipe: str | Recipe) -> Any:
    read(recipe)
    try:
        return json.loads(json.dumps(recipe if isinstance(recipe, str) else dict(recipe)))
    except TypeError as error:
        raise CurriculaError(
            f"recipe: expected a name or plain values, which can be written to disk ({error}); name your own policy "
            "package.module:Class"
        ) from error


def _facts(folder: Path) -> Values:
    try:
        facts = json.loads((folder / SERVED).read_text())
    except (OSError, ValueError) as error:
        raise CurriculaError(
            f"{folder}: no curriculum was served from here ({error}); a restarted one needs the folder of before: on several "
            "nodes, a shared file system"
        ) from error
    return dict(facts)


def _pool(folder: Path) -> PromptPool:
    arrays = _arrays(folder / POOL)
    return PromptPool(**{**arrays, "distribution_names": tuple(arrays["distribution_names"].tolist())})  # type: ignore[arg-type]


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except Exception as error:
        raise CurriculaError(f"{path}: cannot be read ({error}); restore the folder from a copy") from error


def _write(path: Path, save: Callable[[io.BufferedWriter], object]) -> None:
    """There whole or not at all."""
    partial = path.with_name(f".partial-{os.getpid()}-{path.name}")
    try:
        with partial.open("wb") as file:
            save(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CurriculaError(
            f"{path}: could not be written ({error.strerror or error}); what was there before is intact"
        ) from error
    sync_path(path.parent)
