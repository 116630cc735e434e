"""The rollout log: every group that was ever generated, rejected ones included, safe against a kill at any moment.

A log is a folder with two files of checked lines (`rollout.journal`), ``rollouts.jsonl`` for numbers and ``texts.jsonl`` for
what was written, and a lock. Records are staged by ``append_*`` and become part of the log together, by `commit`: one write and
one sync per file. Every commit ends with a line of its own, so readers and reopening see a commit whole or not at all.
A field that is added does not change the schema: the reader gives older records its default. A field that goes, or means something
else, makes a new schema. Schema 1, by ``kind``:

``group`` (one per group of an attempt)
    run, step, attempt, round (the last one), group (id), prompt (id), distribution (name), propensity (inclusion probability),
    probability (of the distribution's arm at the decision), n_asked, kept, reason (`Reason`, lower case), weight (factor on its
    advantages, 1 by default), max_tokens (completion limit, 0 = the recipe's, by default), stated_tokens (token budget that its
    prompt stated, 0 = none, by default), greedy (null by default; where a greedy completion was asked for: reward, shaped, status,
    n_tokens, finish, version, engine), max_turns (answers that its rollouts may give, 1 by default), prompt_hash (`content_hash`)
    and n_prompt_tokens (null by default); then one entry per rollout: rewards (raw; null = none), shaped (what advantages are made
    of; the raw rewards by default), statuses (`Status`, lower case), n_tokens (drawn), finish, logprob_sums (of the drawn tokens),
    versions (policy), engines, gradient (enters the update), seconds (from the request to the engine's answer; null by default),
    turns (answers given, 1 by default), spans (how many tokens were drawn, fed, drawn, ...; all of them drawn by default). Where
    the plan has cuts, also cut_scores (score in [0, 1] at each cut; null = unknown), credits (advantage of the tokens before each
    cut) and summaries (for each cut that was passed, by its number from 0 on: rewards, statuses, n_tokens drawn, finish, versions);
    each is empty by default.
``attempt`` (after its groups)
    run, step, attempt, round, pool (fingerprint), distributions (K names), probabilities (K), n_groups, n_rollouts, n_carried,
    n_unspent, n_greedy (greedy completions, charged as rollouts are; 0 by default), reward_range, refill, refill_margin (factor on
    the groups of the next refill; 1 by default), renormalise (advantages come from the rollouts with gradient alone; false by
    default), facts (whatever the caller adds); cuts (in tokens), n_summaries (asked for behind each) and summary_tokens (limit of
    each), n_summaries_made and n_summary_tokens (drawn): summaries are charged in tokens, not in rollouts; [] and 0 by default.
``grown`` (after the attempts of the step after which the pool grew; see `rollout.grown`)
    run, step, parents (ids that children were asked of), children (each: id, parent, distribution, content, answer, extra, prior,
    hinted; whatever ``log_texts`` is, as a resumed run takes them from here), left_out (children not taken, by reason). The
    children's rows follow those of the pool, in this order; every later record is of the larger pool.
``step``, ``evaluation``
    run and the fields of the caller's record.
``commit``
    schema, run, texts_bytes (length of ``texts.jsonl`` as of this commit).
``texts`` (in ``texts.jsonl``, for the share ``log_texts`` of groups, decided by a hash of the group id)
    run, step, group, prompt, distribution, content and answer (where the caller gives the prompts), completions, rewards, statuses,
    details (the verifier's errors), greedy (text of the greedy completion; null where none was asked for), summaries (texts by the
    number of the cut, for each rollout; where the plan has cuts).

Absent numbers are null, infinities are the strings "inf" and "-inf".
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curricula.types import CurriculaError, Floats, PromptPool, Reason
from rollout.compacted import (
    Begin,
    begin_line,
    begin_of,
    check_parts,
    expand,
    of_kind,
    records_of,
    replace_file,
    tail_lines,
    write_part,
)
from rollout.grown import Grown, grown_record, read_grown
from rollout.journal import AppendFile, Line, record_of, seal
from rollout.lock import FolderLock
from rollout.log_fields import Record, checked
from rollout.prompts import Prompt
from rollout.turns import spans
from rollout.types import Attempt, Judged

SCHEMA = 1
ROLLOUTS = "rollouts.jsonl"
TEXTS = "texts.jsonl"
LOST = "lost"  # kind of the line that `curricula log repair` puts in the place of a damaged one
_COMMIT, _GROWN = b'{"kind":"commit"', b'{"kind":"grown"'


class LogPosition(NamedTuple):
    """The end of a commit, in bytes of both files; survives JSON as a list."""

    rollouts: int
    texts: int


class RolloutLog:
    """The one writer of a log. Opening repairs what a killed writer left; what is cut off goes to ``discarded-*`` files.

    Errors: CurriculaError when another process is writing, or when the inside of a file is damaged.
    """

    beginning = LogPosition(0, 0)

    def __init__(self, folder: Path, log_texts: float = 1.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._share = log_texts
        self._lock = FolderLock(folder / "lock")
        try:
            run, committed = last_commit(folder)
            for _ in _committed_texts(folder, committed.texts):
                pass  # reading checks every line
            self.run = run or uuid.uuid4().hex[:12]
            self._rollouts = opened(folder / ROLLOUTS, committed.rollouts)
            self._texts = opened(folder / TEXTS, committed.texts)
        except BaseException:
            self._lock.release()
            raise
        self._staged: list[bytes] = []
        self._staged_texts: list[bytes] = []

    @property
    def position(self) -> LogPosition:
        """The end of the last commit."""
        return LogPosition(self._rollouts.end, self._texts.end)

    def append_attempt(
        self,
        pool: PromptPool,
        attempt: Attempt,
        facts: Mapping[str, Any] | None = None,
        prompts: Sequence[Prompt] | None = None,
        ids_N: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """Stage all groups of an attempt.

        ``prompts`` (row for row of the pool) put the prompts' texts beside the completions, ``ids_N`` (their tokens) their lengths.
        """
        gradient_B = _by_group(attempt, attempt.verdict.carries_gradient_R.astype(np.int64))
        shaped_B = _by_group(attempt, attempt.shaped_R)
        for b, judged in enumerate(attempt.judged_B):
            columns = _rollout_columns(judged) | {"shaped": shaped_B[b], "gradient": gradient_B[b]}
            if attempt.plan.cuts:
                columns |= _cut_columns(judged, attempt.credit_RS[attempt.outcome.group_R == b])
            row = int(attempt.plan.selection.prompt_B[b])
            self._stage("group", _group_record(pool, attempt, b) | _prompt_record(row, prompts, ids_N) | columns)
            if self._logs_texts_of(int(attempt.plan.group_B[b])):
                self._staged_texts.append(seal({"kind": "texts", "run": self.run} | _texts_record(pool, attempt, b, prompts)))
        self._stage("attempt", _attempt_record(pool, attempt) | {"facts": dict(facts or {})})

    def append_grown(self, grown: Grown) -> None:
        """Stage what a growth of the pool added."""
        self._stage("grown", grown_record(grown))

    def append_step(self, record: Mapping[str, Any]) -> None:
        """Stage the numbers of a whole step."""
        self._stage("step", record)

    def append_evaluation(self, record: Mapping[str, Any]) -> None:
        """Stage the numbers of a held-out measurement."""
        self._stage("evaluation", record)

    def commit(self) -> LogPosition:
        """Make everything staged durable and return the new end of the log.

        Errors: CurriculaError when the disk is full; both files then end with the commit before, and what was staged stays staged.
        """
        if not self._staged:
            return self.position
        before, texts = self.position, b"".join(self._staged_texts)
        closing = {"kind": "commit", "schema": SCHEMA, "run": self.run, "texts_bytes": before.texts + len(texts)}
        self._texts.append(texts)
        try:
            self._rollouts.append(b"".join([*self._staged, seal(closing)]))
        except BaseException:  # a signal's exception too must not leave half a commit
            self._texts.revoke(before.texts)
            raise
        self._staged.clear()
        self._staged_texts.clear()
        return self.position

    def truncate_to(self, position: Sequence[int]) -> None:
        """Go back to an earlier commit, as a checkpoint remembers it; what lies behind moves to ``discarded-*`` files.

        Errors: CurriculaError when the log is shorter than that, or the position is not the end of a commit.
        """
        target = LogPosition(*(int(n) for n in position))
        if target != self.beginning and target not in _commits(self.folder):
            raise CurriculaError(
                f"{self.folder}: no commit of the log ends at bytes {target.rollouts} and {target.texts}, where the checkpoint "
                f"says (the log ends at {self.position.rollouts} and {self.position.texts}); log and checkpoint are not of the "
                "same run: restore the log's files, or start a new run.folder"
            )
        self._staged.clear()
        self._staged_texts.clear()
        self._rollouts = _cut(self._rollouts, target.rollouts)
        self._texts = _cut(self._texts, target.texts)

    def compact(self) -> list[Path]:
        """Move everything committed into Parquet (`rollout.compacted`), and go on behind it; returns the new parts.

        Errors: CurriculaError where records are staged, or a part does not give its lines back; nothing is changed then.
        """
        if self._staged:
            raise CurriculaError(f"{self.folder}: {len(self._staged)} records are staged; commit them before compacting")
        texts_bytes = self.position.texts
        self._texts, of_texts = _compacted(self._texts, self.run, texts_bytes)
        self._rollouts, of_rollouts = _compacted(self._rollouts, self.run, texts_bytes)
        return [*of_texts, *of_rollouts]

    def close(self) -> None:
        """Release files and lock; what was staged and not committed is dropped."""
        self._rollouts.close()
        self._texts.close()
        self._lock.release()

    def _stage(self, kind: str, record: Mapping[str, Any]) -> None:
        if reserved := {"kind", "run", "crc32"} & record.keys():
            raise CurriculaError(f"log: a {kind} record may not have the keys {sorted(reserved)}; rename them")
        self._staged.append(seal({"kind": kind, "run": self.run, **record}))

    def _logs_texts_of(self, group: int) -> bool:
        digest = hashlib.blake2b(str(group).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") < self._share * 2**64


def read_log(folder: Path) -> Iterator[dict[str, Any]]:
    """The committed records of a log in order, without the commit lines; a log that is being written may be read.

    A commit of which a line was lost (`curricula log repair`) is left out whole.
    Errors: CurriculaError with file, line and offset for damaged lines, fields of a wrong type and schemas of the future.
    """
    path = folder / ROLLOUTS
    yield from committed_records(records_of(path, begin_of(path)))


def committed_records(records: Iterable[tuple[int, Record]]) -> Iterator[Record]:
    """Of records as they stand in the file (with where they end), those that a commit follows, with their defaults."""
    open_records: list[Record] = []
    for _, record in records:
        if record["kind"] != "commit":
            open_records.append(record)
            continue
        _refuse_schema(record)
        if all(one["kind"] != LOST for one in open_records):
            yield from map(completed, open_records)
        open_records.clear()


def _refuse_schema(commit: Record) -> None:
    if commit["schema"] != SCHEMA:
        raise CurriculaError(
            f"{commit.place} is of schema {commit['schema']}, expected {SCHEMA}; "
            "read it with the version of rl-curricula that wrote it, or a newer one"
        )


def completed(record: Record) -> Record:
    """The record with the fields that were added since it was written."""
    return Record(_completed(record), record.place)


def _completed(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the fields that were added since it was written."""
    if record.get("kind") == "group":
        n_tokens = record.get("n_tokens") or []
        turns = {"max_turns": 1, "stated_tokens": 0, "turns": [1] * len(n_tokens), "spans": [[n] for n in n_tokens]}
        unknown = {"greedy": None, "prompt_hash": None, "n_prompt_tokens": None, "seconds": [None] * len(n_tokens)}
        no_cuts = {"cut_scores": [[] for _ in n_tokens], "credits": [[] for _ in n_tokens], "summaries": [{} for _ in n_tokens]}
        return {"weight": 1.0, "max_tokens": 0, "shaped": record.get("rewards")} | unknown | turns | no_cuts | record
    if record.get("kind") == "attempt":
        uncut = {"cuts": [], "n_summaries": 0, "summary_tokens": 0, "n_summaries_made": 0, "n_summary_tokens": 0}
        return {"renormalise": False, "refill_margin": 1.0, "n_greedy": 0, **uncut} | record
    return record


def read_growths(folder: Path, before: int) -> Iterator[Grown]:
    """The growths of a log after steps below ``before``, in order; other records are not even parsed."""
    path = folder / ROLLOUTS
    begin = begin_of(path)
    lines = (line for line, _ in tail_lines(path, begin) if line.payload.startswith(_GROWN))
    later = (checked(record_of(line, path), f"{path}: line {line.number}") for line in lines)
    for record in chain((record for _, record in of_kind("grown", path, begin)), later):
        if record["step"] >= before:
            return
        yield read_grown(record)


def read_texts(folder: Path) -> Iterator[dict[str, Any]]:
    """The logged texts of committed groups in order."""
    path = folder / TEXTS
    begin, (_, committed) = begin_of(path), last_commit(folder)
    n_bytes = begin.end
    for end, record in records_of(path, begin) if committed.texts and path.exists() else ():
        if end > committed.texts:
            break
        n_bytes = end
        if record["kind"] != LOST:
            yield record
    _refuse_missing(path, begin, n_bytes, committed.texts)


def _committed_texts(folder: Path, end: int) -> Iterator[Line]:
    """The lines behind the parts, whose own bytes are checked as a whole."""
    path = folder / TEXTS
    begin = begin_of(path)
    check_parts(path, begin)
    reached = begin.end
    for _, line in tail_lines(path, begin) if end else ():
        if line.end > end:
            break
        reached = line.end
        yield line
    _refuse_missing(path, begin, reached, end)


def _refuse_missing(path: Path, begin: Begin, reached: int, end: int) -> None:
    if reached != end:
        raise CurriculaError(
            f"{path}: the line at byte {reached + begin.shift} is damaged or missing, {end + begin.shift} bytes were committed; "
            "restore the file from a copy, or see what `curricula log repair` can save"
        )


def last_commit(folder: Path) -> tuple[str, LogPosition]:
    """The run that the last commit names, and where the commit ends."""
    path = folder / ROLLOUTS
    begin = begin_of(path)
    check_parts(path, begin)
    closing: tuple[Line, Line] | None = None
    for closing in _commit_lines(path, begin):  # noqa: B007 - the last one is wanted
        pass
    if closing is None:
        return begin.run, LogPosition(begin.end, begin.texts_bytes)
    line, placed = closing
    record = checked(record_of(line, path), f"{path}: line {line.number}")
    _refuse_schema(record)
    return str(record["run"]), LogPosition(placed.end, record["texts_bytes"])


def _commits(folder: Path) -> set[LogPosition]:
    path = folder / ROLLOUTS
    begin = begin_of(path)
    before = {LogPosition(end, record["texts_bytes"]) for end, record in of_kind("commit", path, begin)}
    lines = (
        (placed.end, checked(record_of(line, path), f"{path}: line {line.number}")) for line, placed in _commit_lines(path, begin)
    )
    return before | {LogPosition(end, record["texts_bytes"]) for end, record in lines}


def _commit_lines(path: Path, begin: Begin) -> Iterator[tuple[Line, Line]]:
    return (both for both in tail_lines(path, begin) if both[0].payload.startswith(_COMMIT))


def opened(path: Path, end: int) -> AppendFile:
    """The file for appending at this position; what stands behind it moves aside."""
    return AppendFile(path, end, begin_of(path).shift)


def _compacted(file: AppendFile, run: str, texts_bytes: int) -> tuple[AppendFile, list[Path]]:
    """The file with its lines moved into a part, and that part; none where there were no lines."""
    after = write_part(file.path, begin_of(file.path), file.end, run, texts_bytes)
    if after is None:
        return file, []
    replace_file(file.path, [begin_line(after)])
    file.close()
    return opened(file.path, file.end), [file.path.parent / after.parts[-1].name]


def _cut(file: AppendFile, end: int) -> AppendFile:
    """The file, with everything behind ``end`` moved aside; compacted lines come back first where the end lies among them."""
    begin = begin_of(file.path)
    if end < begin.end:
        file.close()
        expand(file.path, begin)
        file = opened(file.path, file.end)
    file.cut(end)
    return file


def _attempt_record(pool: PromptPool, attempt: Attempt) -> dict[str, Any]:
    plan = attempt.plan
    return {
        "step": plan.step,
        "attempt": plan.attempt,
        "round": plan.round,
        "pool": pool.fingerprint,
        "distributions": pool.distribution_names,
        "probabilities": plan.probability_K,
        "n_groups": len(plan),
        "n_rollouts": plan.n_rollouts,
        "n_greedy": plan.n_completions - plan.n_rollouts,
        "n_carried": plan.n_carried,
        "n_unspent": plan.n_unspent,
        "reward_range": attempt.outcome.reward_range,
        "refill": attempt.verdict.refill.name.lower(),
        "refill_margin": attempt.verdict.refill_margin,
        "renormalise": attempt.verdict.renormalise,
        **_cuts_record(attempt),
    }


def _cuts_record(attempt: Attempt) -> dict[str, Any]:
    cuts = attempt.plan.cuts
    return {
        "cuts": cuts.at,
        "n_summaries": cuts.n_summaries,
        "summary_tokens": cuts.summary_tokens,
        "n_summaries_made": len(attempt.summaries),
        "n_summary_tokens": sum(one.completion.n_drawn for one in attempt.summaries),
    }


def _group_record(pool: PromptPool, attempt: Attempt, b: int) -> dict[str, Any]:
    plan, verdict = attempt.plan, attempt.verdict
    k = int(plan.selection.distribution_B[b])
    return {
        "step": plan.step,
        "attempt": plan.attempt,
        "round": plan.round,
        "group": plan.group_B[b],
        "prompt": pool.ids[plan.selection.prompt_B[b]],
        "distribution": pool.distribution_names[k],
        "propensity": plan.selection.propensity_B[b],
        "probability": plan.probability_K[k],
        "n_asked": plan.n_rollouts_B[b],
        "kept": verdict.kept_B[b],
        "reason": Reason(int(verdict.reason_B[b])).name.lower(),
        "weight": verdict.weight_B[b],
        "max_tokens": plan.max_tokens_B[b],
        "max_turns": plan.max_turns_B[b],
        "stated_tokens": plan.stated_tokens_B[b],
        "greedy": _greedy_record(attempt.greedy_B[b], float(attempt.baseline_B[b])),
    }


def _prompt_record(row: int, prompts: Sequence[Prompt] | None, ids_N: Sequence[Sequence[int]] | None) -> dict[str, Any]:
    return {
        "prompt_hash": content_hash(prompts[row].content) if prompts is not None else None,
        "n_prompt_tokens": len(ids_N[row]) if ids_N is not None else None,
    }


def content_hash(content: str | list[dict[str, str]]) -> str:
    """16 hexadecimal digits that change when the text, or the chat messages, of a prompt change."""
    text = json.dumps(content, sort_keys=True)
    return hashlib.blake2b(text.encode("ascii"), digest_size=8).hexdigest()


def _greedy_record(greedy: Judged | None, shaped: float) -> dict[str, Any] | None:
    if greedy is None:
        return None
    return {
        "reward": float(greedy.reward),
        "shaped": shaped,
        "status": greedy.status.name.lower(),
        "n_tokens": greedy.completion.n_drawn,
        "finish": greedy.completion.finish.value,
        "version": greedy.policy_version,
        "engine": greedy.engine,
    }


def _rollout_columns(judged: Sequence[Judged]) -> dict[str, Any]:
    return {
        "rewards": [float(rollout.reward) for rollout in judged],
        "statuses": [rollout.status.name.lower() for rollout in judged],
        "n_tokens": [rollout.completion.n_drawn for rollout in judged],
        "finish": [rollout.completion.finish.value for rollout in judged],
        "logprob_sums": [round(float(np.sum(rollout.completion.logprob_T, dtype=np.float64)), 6) for rollout in judged],
        "versions": [rollout.policy_version for rollout in judged],
        "engines": [rollout.engine for rollout in judged],
        "seconds": [round(rollout.seconds, 4) for rollout in judged],
        "turns": [rollout.completion.n_turns for rollout in judged],
        "spans": [spans(rollout.completion) for rollout in judged],
    }


def _cut_columns(judged: Sequence[Judged], credit_RS: Floats) -> dict[str, Any]:
    scores = [[] if rollout.cut_score_S is None else rollout.cut_score_S.tolist() for rollout in judged]
    summaries = [{str(s): _summary_record(behind) for s, behind in rollout.summaries.items()} for rollout in judged]
    return {"cut_scores": scores, "credits": credit_RS.tolist(), "summaries": summaries}


def _summary_record(summaries: Sequence[Judged]) -> dict[str, Any]:
    return {
        "rewards": [float(one.reward) for one in summaries],
        "statuses": [one.status.name.lower() for one in summaries],
        "n_tokens": [one.completion.n_drawn for one in summaries],
        "finish": [one.completion.finish.value for one in summaries],
        "versions": [one.policy_version for one in summaries],
    }


def _texts_record(pool: PromptPool, attempt: Attempt, b: int, prompts: Sequence[Prompt] | None) -> dict[str, Any]:
    plan, judged = attempt.plan, attempt.judged_B[b]
    row = int(plan.selection.prompt_B[b])
    return {
        "step": plan.step,
        "group": plan.group_B[b],
        "prompt": pool.ids[row],
        "distribution": pool.distribution_names[plan.selection.distribution_B[b]],
        "content": prompts[row].content if prompts is not None else None,
        "answer": prompts[row].answer if prompts is not None else None,
        "completions": [rollout.completion.text for rollout in judged],
        "rewards": [float(rollout.reward) for rollout in judged],
        "statuses": [rollout.status.name.lower() for rollout in judged],
        "details": [rollout.detail for rollout in judged],
        "greedy": greedy.completion.text if (greedy := attempt.greedy_B[b]) else None,
        **({"summaries": [_summary_texts(rollout) for rollout in judged]} if plan.cuts else {}),
    }


def _summary_texts(rollout: Judged) -> dict[str, list[str]]:
    return {str(s): [one.completion.text for one in behind] for s, behind in rollout.summaries.items()}


def _by_group(attempt: Attempt, value_R: NDArray[Any]) -> list[list[Any]]:
    """Values of rollouts, group by group (rollouts of the outcome are ordered so)."""
    ends = np.cumsum([len(judged) for judged in attempt.judged_B])
    return [part.tolist() for part in np.split(value_R, ends[:-1])] if len(ends) else []
