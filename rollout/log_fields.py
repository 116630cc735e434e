"""The fields of schema 1 of the log, by kind of record: type, unit, meaning. ``docs/log.md`` is this table with words around it.

A field that is absent was not known to the version that wrote the record; one that is there must have its type.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from curricula.types import CurriculaError, Reason, Status


class Field(NamedTuple):
    """One field of a record."""

    type: str  # a key of TYPES; "... of each" has one entry per rollout of the group
    meaning: str


class Record(dict[str, Any]):
    """A record that knows where it stands: asking for a field that it lacks names file and line."""

    def __init__(self, fields: Mapping[str, Any], place: str) -> None:
        super().__init__(fields)
        self.place = place

    def __missing__(self, key: str) -> Any:
        raise CurriculaError(
            f"{self.place}: the {self.get('kind', 'record')} record has no field {key!r}; the line is whole, so its writer left it "
            "out: it is no log of this project, or one of a version that did not know the field"
        )


GROUP = {
    "kind": Field("text", "`group`"),
    "run": Field("text", "id of the run, the same in all its records"),
    "step": Field("whole", "optimiser step, from 0"),
    "attempt": Field("whole", "refill number inside the step, from 0"),
    "round": Field("whole", "last allocation round inside the attempt, from 0"),
    "group": Field("whole", "id of the group, unique in the run"),
    "prompt": Field("text", "id of the prompt"),
    "distribution": Field("text", "name of the prompt's distribution"),
    "propensity": Field("number", "probability, in (0, 1], that the prompt was included in the plan"),
    "probability": Field("number", "share of the distribution's arm at the decision, in [0, 1]"),
    "n_asked": Field("whole", "rollouts asked for"),
    "kept": Field("flag", "whether the group entered the update"),
    "reason": Field("text", "why: `kept`, `all_equal`, `too_hard`, `too_easy`, `too_few`, `surplus`"),
    "weight": Field("number", "factor on the group's advantages; 1 by default"),
    "max_tokens": Field("whole", "limit of a completion in tokens, 0 = the recipe's (default)"),
    "stated_tokens": Field("whole", "token budget that its prompt stated, 0 = none (default)"),
    "max_turns": Field("whole", "answers that a rollout may give; 1 by default"),
    "greedy": Field("object", "the greedy completion where one was asked for, else null (default)"),
    "prompt_hash": Field("text", "BLAKE2b (8 bytes, hexadecimal) of the prompt's text or chat messages; null = unknown (default)"),
    "n_prompt_tokens": Field("whole", "tokens of the prompt; null = unknown (default)"),
    "rewards": Field("numbers of each", "raw reward; null where the status is not `ok`"),
    "shaped": Field("numbers of each", "the reward that advantages are made of; the raw one by default"),
    "statuses": Field("texts of each", "`ok`, `timeout`, `error`, `invalid`, `truncated`, `lost`"),
    "n_tokens": Field("wholes of each", "tokens that the model drew"),
    "finish": Field("texts of each", "`stop`, `length`, `cancelled`"),
    "logprob_sums": Field("numbers of each", "sum of the drawn tokens' log-probabilities, in nats"),
    "versions": Field("wholes of each", "policy version: learner updates that the weights had seen"),
    "engines": Field("texts of each", "engine that drew it"),
    "turns": Field("wholes of each", "answers given; 1 by default"),
    "spans": Field("lists of each", "how many tokens were drawn, fed, drawn, ...; all of them drawn by default"),
    "gradient": Field("wholes of each", "1 where it enters the update, else 0"),
    "seconds": Field("numbers of each", "seconds from the request to its answer; null = unknown (default)"),
}  # cut_scores, credits and summaries, which few runs have (see rollout.log), stay without columns when a log is compacted
ATTEMPT = {
    "kind": Field("text", "`attempt`; it follows its groups"),
    "run": Field("text", "id of the run"),
    "step": Field("whole", "optimiser step"),
    "attempt": Field("whole", "refill number inside the step"),
    "round": Field("whole", "last allocation round"),
    "pool": Field("text", "fingerprint of the prompt pool"),
    "distributions": Field("texts", "names of the K distributions"),
    "probabilities": Field("numbers", "share of each distribution's arm at the decision"),
    "n_groups": Field("whole", "groups planned"),
    "n_rollouts": Field("whole", "rollouts asked for"),
    "n_greedy": Field("whole", "greedy completions, charged as rollouts are; 0 by default"),
    "n_carried": Field("whole", "rollouts carried over from before"),
    "n_unspent": Field("whole", "rollouts of the budget that were not spent"),
    "reward_range": Field("numbers", "lowest and highest reward that the reward function can return"),
    "refill": Field("text", "`none` or `resample`"),
    "refill_margin": Field("number", "factor on the groups of a refill; 1 by default"),
    "renormalise": Field("flag", "advantages come from the rollouts with gradient alone; false by default"),
    "cuts": Field("wholes", "tokens at which completions are cut and summed up; empty by default"),
    "n_summaries": Field("whole", "summaries asked for behind each cut; 0 by default"),
    "summary_tokens": Field("whole", "limit of a summary in tokens; 0 by default"),
    "n_summaries_made": Field("whole", "summaries of all rollouts; charged in tokens, not in rollouts; 0 by default"),
    "n_summary_tokens": Field("whole", "tokens that the model drew for them; 0 by default"),
    "facts": Field("object", "what the caller adds, see below"),
}
GROWN = {
    "kind": Field("text", "`grown`; the pool grew after the attempts of this step"),
    "run": Field("text", "id of the run"),
    "step": Field("whole", "optimiser step"),
    "parents": Field("texts", "ids of the prompts that children were asked of, hardest first; each is asked once"),
    "children": Field("any", "objects: id, parent, distribution, content, answer, extra, prior (pass rate), hinted"),
    "left_out": Field("object", "number of children that were not taken, by reason: held_out, too_long"),
}
TEXTS = {
    "kind": Field("text", "`texts`"),
    "run": Field("text", "id of the run"),
    "step": Field("whole", "optimiser step"),
    "group": Field("whole", "id of the group"),
    "prompt": Field("text", "id of the prompt"),
    "distribution": Field("text", "name of its distribution"),
    "content": Field("any", "the prompt: text, or chat messages with role and content; null = not given"),
    "answer": Field("any", "what the reward function compares with"),
    "completions": Field("texts of each", "what the model wrote, without special tokens"),
    "rewards": Field("numbers of each", "raw reward"),
    "statuses": Field("texts of each", "as in the group"),
    "details": Field("texts of each", "the verifier's error, first line; empty where there was none"),
    "greedy": Field("text", "text of the greedy completion; null where none was asked for"),
}
COMMIT = {
    "kind": Field("text", "`commit`; it ends what became part of the log together"),
    "schema": Field("whole", "1"),
    "run": Field("text", "id of the run"),
    "texts_bytes": Field("whole", "length of the lines of `texts.jsonl` as of this commit"),
}
STEP = {
    "kind": Field("text", "`step` or `evaluation`; the other fields are those of the caller's record"),
    "run": Field("text", "id of the run"),
    "step": Field("whole", "optimiser step"),
}
KINDS: dict[str, dict[str, Field]] = {
    "group": GROUP,
    "attempt": ATTEMPT,
    "grown": GROWN,
    "texts": TEXTS,
    "commit": COMMIT,
    "step": STEP,
    "evaluation": STEP,
}

_WHOLE, _TEXT = {int, type(None)}, {str, type(None)}
_INFINITE = ("inf", "-inf")


def _number(value: Any) -> bool:
    return value is None or type(value) in (float, int) or (type(value) is str and value in _INFINITE)


def _numbers(value: Any) -> bool:
    return type(value) is list and (set(map(type, value)) <= {float, type(None)} or all(map(_number, value)))


def _wholes(value: Any) -> bool:
    return type(value) is list and set(map(type, value)) <= {int} and (not value or -(2**63) <= min(value) <= max(value) < 2**63)


def _texts(value: Any) -> bool:
    return type(value) is list and set(map(type, value)) <= {str}


TYPES: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: type(value) in _TEXT,
    "whole": lambda value: type(value) in _WHOLE and (value is None or -(2**63) <= value < 2**63),
    "number": _number,
    "flag": lambda value: type(value) is bool,
    "object": lambda value: value is None or type(value) is dict,
    "any": lambda value: True,
    "texts": _texts,
    "numbers": _numbers,
    "wholes": _wholes,
    "lists": lambda value: type(value) is list and all(map(_wholes, value)),
}
_NULL = ("greedy", "content", "answer", "prompt_hash", "n_prompt_tokens")  # may be null
_STATUSES = frozenset(status.name.lower() for status in Status)
_REASONS = frozenset(reason.name.lower() for reason in Reason)
_CHECKS = {
    kind: {name: (TYPES[field.type.removesuffix(" of each")], field) for name, field in fields.items()}
    for kind, fields in KINDS.items()
}


def checked(fields: Mapping[str, Any], place: str) -> Record:
    """The record, if what it has is of the types above and its rollouts have one entry in every column.

    Errors: CurriculaError naming place, field, expected type and what came.
    """
    n_rollouts, first = -1, ""
    kind = fields.get("kind")
    if type(kind) is not str:
        raise CurriculaError(f"{place}: expected a record with its kind, got {_shown(kind)}")
    checks = _CHECKS.get(kind, {})
    for name, value in fields.items():
        if name not in checks:
            continue
        fits, field = checks[name]
        if not fits(value) or (value is None and name not in _NULL):
            raise CurriculaError(f"{place}: {kind}.{name}: expected {field.type}, got {_shown(value)}")
        if not field.type.endswith(" of each"):
            continue
        if n_rollouts < 0:
            n_rollouts, first = len(value), name
        if len(value) != n_rollouts:
            raise CurriculaError(
                f"{place}: {kind}.{name}: expected {n_rollouts} entries, one per rollout as in {first}, got {len(value)}"
            )
    if kind == "group":
        _refuse_unknown(fields, place)
    return Record(fields, place)


def is_sound(fields: Mapping[str, Any]) -> bool:
    """Whether `checked` takes the record."""
    try:
        checked(fields, "")
    except CurriculaError:
        return False
    return True


def _refuse_unknown(fields: Mapping[str, Any], place: str) -> None:
    """Words that later versions may know and this one does not."""
    unknown = sorted(set(fields.get("statuses", ())) - _STATUSES)
    if unknown:
        raise CurriculaError(f"{place}: unknown status {unknown[0][:60]!r}; known: {', '.join(sorted(_STATUSES))}")
    if "reason" in fields and fields["reason"] not in _REASONS:
        raise CurriculaError(f"{place}: unknown reason {fields['reason'][:60]!r}; known: {', '.join(sorted(_REASONS))}")


def _shown(value: Any) -> str:
    return f"{repr(value)[:60]} ({type(value).__name__})"
