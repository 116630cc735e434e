"""The records that travel between the stages, and the vocabulary of the whole project.

Axis suffixes on arrays: ``_N`` prompts in the pool, ``_K`` distributions, ``_B`` groups of one plan, ``_R`` rollouts
(flat, ragged over B), ``_T`` tokens. Records are frozen; their arrays are made read-only when a record is born.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Codes = NDArray[np.uint8]
IDS_AT_A_TIME = 100_000  # as Python strings, while a pool is fingerprinted


class CurriculaError(ValueError):
    """Bad input: the message says where, what was expected, what came, and what to do."""


class Status(IntEnum):
    """What became of one rollout. Only ``OK`` carries a reward; the others are never counted as reward 0."""

    OK = 0
    TIMEOUT = 1  # the verifier passed its deadline and was killed
    ERROR = 2  # the verifier raised
    INVALID = 3  # the verifier returned None, NaN or an infinite number
    TRUNCATED = 4  # stopped by the token limit, under a recipe that does not score such completions
    LOST = 5  # the engine died and the retries were used up


class Reason(IntEnum):
    """Why a filter kept or rejected a group; counted as a metric."""

    KEPT = 0
    ALL_EQUAL = 1  # every scored rollout has the same reward: no group-relative signal
    TOO_HARD = 2  # pass rate below the band
    TOO_EASY = 3  # pass rate above the band
    TOO_FEW = 4  # fewer than two scored rollouts
    SURPLUS = 5  # good, but the step already had its groups


class Refill(IntEnum):
    """What happens to the places of rejected groups."""

    NONE = 0  # the step trains on what is left
    RESAMPLE = 1  # another attempt plans replacements


def frozen_array(value: ArrayLike, dtype: Any, name: str, length: int | None = None) -> NDArray[Any]:
    """A read-only 1-d array of the dtype (a view where possible); CurriculaError when it has another shape."""
    array = np.asarray(value, dtype=dtype)
    if array.ndim != 1 or (length is not None and len(array) != length):
        want = "one axis" if length is None else f"shape ({length},)"
        raise CurriculaError(f"{name}: expected {want}, got shape {array.shape}")
    if array.flags.writeable:
        array = array.view()
        array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class PromptPool:
    """The prompts a curriculum chooses from: ids and numbers, never text.

    Row i of the pool is row i of the host's data set. What depends on an order (draws, shuffles) follows
    ``canonical_N`` instead, which is sorted by name and id, so shuffling the rows permutes a plan and changes nothing else.
    """

    ids: NDArray[np.str_]  # (N,) unique, stable across runs
    distribution_N: Ints  # (N,) index into distribution_names
    distribution_names: tuple[str, ...]  # (K,) unique
    prior_pass_rate_N: Floats = field(default=None)  # type: ignore[arg-type]  # (N,) in [0, 1]; NaN = unknown
    features_NF: NDArray[np.float32] | None = None  # (N, F) static features, optional
    parent_N: Ints = field(default=None)  # type: ignore[arg-type]  # (N,) row of the prompt that this one was made from; -1 = none

    def __post_init__(self) -> None:
        ids = np.asarray(self.ids, dtype=np.str_)
        n = len(ids)
        if n == 0:
            raise CurriculaError("prompt pool: it has no prompts; check the task's data")
        prior = np.full(n, np.nan) if self.prior_pass_rate_N is None else self.prior_pass_rate_N
        put = object.__setattr__
        put(self, "ids", frozen_array(ids, np.str_, "ids"))
        put(self, "distribution_names", tuple(str(name) for name in self.distribution_names))
        put(self, "distribution_N", frozen_array(self.distribution_N, np.int64, "distribution_N", n))
        put(self, "prior_pass_rate_N", frozen_array(prior, np.float64, "prior_pass_rate_N", n))
        parent = np.full(n, -1) if self.parent_N is None else self.parent_N
        put(self, "parent_N", frozen_array(parent, np.int64, "parent_N", n))
        self._refuse_duplicates()
        self._refuse_bad_distributions()
        self._refuse_bad_numbers()

    @classmethod
    def from_columns(
        cls,
        ids: Iterable[str],
        distributions: Iterable[str],
        prior_pass_rate: ArrayLike | None = None,
        features: ArrayLike | None = None,
    ) -> PromptPool:
        """A pool from one id and one distribution name per prompt; names are sorted.

        >>> PromptPool.from_columns(["a", "b", "c"], ["easy", "hard", "easy"]).size_K
        array([2, 1])
        """
        names, index = np.unique(np.asarray(list(distributions), dtype=np.str_), return_inverse=True)
        return cls(
            ids=np.asarray(list(ids), dtype=np.str_),
            distribution_N=index,
            distribution_names=tuple(names.tolist()),
            prior_pass_rate_N=prior_pass_rate,  # type: ignore[arg-type]
            features_NF=None if features is None else np.asarray(features, dtype=np.float32),
        )

    @classmethod
    def from_dataset(
        cls,
        data: Any,
        *,
        prompt: str = "prompt",
        id: str | None = None,
        distribution: str | Sequence[str] | Callable[[Mapping[str, Any]], str] | None = None,
        prior_pass_rate: str | None = None,
        features: Sequence[str] = (),
        repeated: Literal["refuse", "number"] = "refuse",
    ) -> PromptPool:
        """A pool from a Hugging Face data set (streamed or not), a list of dicts, a dict of columns or a pandas table.

        All names are columns; dotted ones reach into nested columns (``extra_info.level``). ``id`` left out: a hash of the
        prompt's text (or chat messages) and its distribution, the one that prompt files and imported logs give as well.
        ``distribution``: a column, several (joined by ``/``), or a function of the row; left out, the column ``data_source``
        where there is one. ``prior_pass_rate``: in [0, 1], null = unknown. ``features``: numbers or lists of numbers.
        ``repeated``: what happens to an id that comes again; ``number`` keeps it as ``id#2``. Row i of the pool is row i of the
        data. Texts are read once and not kept. Files: `rollout.pool_file.pool_from_file`.

        Errors: CurriculaError for a missing column (with the nearest name) and for a bad value (with its row).

        >>> rows = [{"prompt": "2+2=", "level": 1}, {"prompt": "17*23=", "level": 2}]
        >>> PromptPool.from_dataset(rows, distribution="level").ids
        array(['1/ee6f22842ca2e7b6', '2/f18f0a060343d0fd'], dtype='<U18')
        """
        from curricula.datasets import PoolColumns, numbered_rows, pool_from_rows  # it needs this module

        columns = PoolColumns(prompt, id, distribution, prior_pass_rate, features, repeated)
        return pool_from_rows(numbered_rows(data, columns), columns)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_distributions(self) -> int:
        return len(self.distribution_names)

    @cached_property
    def size_K(self) -> Ints:
        """(K,) prompts per distribution."""
        return np.bincount(self.distribution_N, minlength=self.n_distributions).astype(np.int64)

    @cached_property
    def canonical_N(self) -> Ints:
        """(N,) prompt indices, distribution by distribution (see ``start_K``), by id inside each."""
        order: Ints = np.lexsort((self.ids, self.distribution_N))
        return order

    @cached_property
    def place_N(self) -> Ints:
        """(N,) where each prompt stands in ``canonical_N``."""
        return _inverse(self.canonical_N)

    @cached_property
    def row_order_N(self) -> Ints:
        """(N,) prompt indices, distribution by distribution, by row inside each."""
        return np.argsort(self.distribution_N, kind="stable").astype(np.int64)

    @cached_property
    def row_place_N(self) -> Ints:
        """(N,) where each prompt stands in ``row_order_N``."""
        return _inverse(self.row_order_N)

    @cached_property
    def start_K(self) -> Ints:
        """(K + 1,) where each distribution begins in ``canonical_N``; the last entry is N."""
        return np.concatenate((np.zeros(1, np.int64), np.cumsum(self.size_K)))

    @cached_property
    def name_order_K(self) -> Ints:
        """(K,) distribution indices sorted by name: the order of draws over distributions."""
        return np.argsort(np.asarray(self.distribution_names)).astype(np.int64)

    def members(self, k: int) -> Ints:
        """(N_k,) indices of the prompts of distribution k, by id."""
        return self.canonical_N[self.start_K[k] : self.start_K[k + 1]]

    @cached_property
    def states_pass_rates(self) -> bool:
        """Is a pass rate stated for any prompt?"""
        return not bool(np.isnan(self.prior_pass_rate_N).all())

    @cached_property
    def fingerprint(self) -> str:
        """Changes when a prompt is added, removed, renamed, reordered or moved to another distribution."""
        digest = hashlib.sha256()
        digest.update("\x1f".join(self.distribution_names).encode())
        digest.update(self.distribution_N.tobytes())
        for start in range(0, len(self), IDS_AT_A_TIME):
            separator = "\x1f" if start else ""
            digest.update((separator + "\x1f".join(self.ids[start : start + IDS_AT_A_TIME].tolist())).encode())
        return digest.hexdigest()[:32]

    def _refuse_duplicates(self) -> None:
        hash_N = id_hashes(self.ids)
        ascending = np.sort(hash_N)
        suspects = np.isin(hash_N, ascending[1:][ascending[1:] == ascending[:-1]])
        unique, count = np.unique(self.ids[suspects], return_counts=True)
        repeated = unique[count > 1]
        if len(repeated):
            raise CurriculaError(
                f"prompt pool: {len(repeated)} prompt id(s) appear more than once, first: "
                f"{', '.join(repeated[:5].tolist())}; give every prompt an id of its own"
            )

    def _refuse_bad_distributions(self) -> None:
        names = self.distribution_names
        if len(set(names)) != len(names):
            raise CurriculaError(f"prompt pool: distribution names repeat: {sorted(names)}")
        out = (self.distribution_N < 0) | (self.distribution_N >= len(names))
        if out.any():
            row = int(np.flatnonzero(out)[0])
            raise CurriculaError(
                f"prompt pool: row {row} ({self.ids[row]}) has distribution {self.distribution_N[row]}, "
                f"expected 0..{len(names) - 1}"
            )
        if (self.size_K == 0).any():
            empty = [names[k] for k in np.flatnonzero(self.size_K == 0)]
            raise CurriculaError(f"prompt pool: distribution(s) without a prompt: {', '.join(empty)}; drop them")

    def _refuse_bad_numbers(self) -> None:
        prior = self.prior_pass_rate_N
        with np.errstate(invalid="ignore"):
            bad = (prior < 0) | (prior > 1) | np.isinf(prior)
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise CurriculaError(
                f"prompt pool: row {row} ({self.ids[row]}) has prior pass rate {prior[row]}, expected [0, 1] or NaN"
            )
        orphan = (self.parent_N < -1) | (self.parent_N >= len(self)) | (self.parent_N == np.arange(len(self)))
        if orphan.any():
            row = int(np.flatnonzero(orphan)[0])
            raise CurriculaError(
                f"prompt pool: row {row} ({self.ids[row]}) has parent {self.parent_N[row]}, expected another row of the pool or -1"
            )
        if self.features_NF is not None and self.features_NF.shape[:1] != (len(self),):
            raise CurriculaError(f"prompt pool: features have shape {self.features_NF.shape}, expected ({len(self)}, F)")


def id_hashes(ids: NDArray[np.str_]) -> NDArray[np.uint64]:
    """(N,) 64 bits per id. A multiplicative hash over the characters, column by column: a million take a fraction of a second."""
    width = ids.dtype.itemsize // 4
    letters = np.ascontiguousarray(ids).view(np.uint32).reshape(len(ids), width)
    mixed = np.zeros(len(ids), dtype=np.uint64)
    weight = 0x9E3779B97F4A7C15
    for column in range(width):  # unused columns are 0, so the width of the array does not matter
        mixed += letters[:, column].astype(np.uint64) * np.uint64(weight)
        mixed ^= (mixed >> np.uint64(29)) * (letters[:, column] != 0)
        weight = weight * 0xBF58476D1CE4E5B9 % 2**64
    return mixed


def _inverse(order_N: Ints) -> Ints:
    place_N = np.empty(len(order_N), dtype=np.int64)
    place_N[order_N] = np.arange(len(order_N))
    return place_N


@dataclass(frozen=True, eq=False)
class Selection:
    """Which prompts, and how likely each was to be among them."""

    prompt_B: Ints  # (B,) index into the pool, no repeats
    distribution_B: Ints  # (B,)
    propensity_B: Floats  # (B,) inclusion probability given the state at the decision, exact, in (0, 1]

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "prompt_B", frozen_array(self.prompt_B, np.int64, "prompt_B"))
        b = len(self.prompt_B)
        put(self, "distribution_B", frozen_array(self.distribution_B, np.int64, "distribution_B", b))
        put(self, "propensity_B", frozen_array(self.propensity_B, np.float64, "propensity_B", b))

    def __len__(self) -> int:
        return len(self.prompt_B)


@dataclass(frozen=True)
class Cuts:
    """Where completions are cut short to see what an answer at that point is worth. By default nowhere.

    Behind each cut that a completion passes, the model is asked to sum up: ``n_summaries`` times, each in ``summary_tokens`` at
    most. The text that asks for it is the host's and comes on top. Summaries are no rollouts: they are charged in tokens.
    """

    at: tuple[int, ...] = ()  # (S,) completion tokens before each cut, rising
    n_summaries: int = 0  # behind each cut
    summary_tokens: int = 0  # limit of each

    def __post_init__(self) -> None:
        at = tuple(int(cut) for cut in self.at)
        object.__setattr__(self, "at", at)
        if any(late <= early for early, late in zip((0, *at), at, strict=False)):
            raise CurriculaError(f"cuts: expected rising numbers of tokens > 0, got {at}")
        if at and (self.n_summaries < 1 or self.summary_tokens < 1):
            raise CurriculaError(
                f"cuts: expected at least one summary of at least one token behind each, got {self.n_summaries} of "
                f"{self.summary_tokens}"
            )

    def __len__(self) -> int:
        return len(self.at)


@dataclass(frozen=True, eq=False)
class RolloutPlan:
    """What was decided, and with what probability. ``group_B`` names each group for ever."""

    step: int
    attempt: int  # refill number inside the step; 0 = the first plan
    round: int  # allocation round inside the attempt
    selection: Selection
    n_rollouts_B: Ints  # (B,) rollouts asked for in this round
    group_B: Ints  # (B,) unique ids, see group_ids()
    probability_K: Floats  # (K,) arm probabilities at the decision
    n_carried: int = 0  # rollouts that earlier steps left unspent and this plan may spend
    n_unspent: int = 0  # rollouts of its budget that this plan leaves (bounds of the budget policy)
    greedy_B: Bools = field(default=None)  # type: ignore[arg-type]  # (B,) one greedy completion besides n_rollouts_B? none by default
    max_turns_B: Ints = field(default=None)  # type: ignore[arg-type]  # (B,) answers that each rollout may give, by the shaping policy; 1
    max_tokens_B: Ints = field(default=None)  # type: ignore[arg-type]  # (B,) completion limit by the shaping policy; 0 = the recipe's
    stated_tokens_B: Ints = field(default=None)  # type: ignore[arg-type]  # (B,) token budget that the prompt states; 0 = none
    cuts: Cuts = Cuts()  # where completions are summed up, by the shaping policy; nowhere by default

    def __post_init__(self) -> None:
        put, b = object.__setattr__, len(self.selection)
        limit = np.zeros(b, np.int64) if self.max_tokens_B is None else self.max_tokens_B
        put(self, "max_tokens_B", frozen_array(limit, np.int64, "max_tokens_B", b))
        stated = np.zeros(b, np.int64) if self.stated_tokens_B is None else self.stated_tokens_B
        put(self, "stated_tokens_B", frozen_array(stated, np.int64, "stated_tokens_B", b))
        greedy = np.zeros(b, np.bool_) if self.greedy_B is None else self.greedy_B
        put(self, "greedy_B", frozen_array(greedy, np.bool_, "greedy_B", b))
        turns = np.ones(b, np.int64) if self.max_turns_B is None else self.max_turns_B
        put(self, "max_turns_B", frozen_array(turns, np.int64, "max_turns_B", b))
        put(self, "n_rollouts_B", frozen_array(self.n_rollouts_B, np.int64, "n_rollouts_B", b))
        put(self, "group_B", frozen_array(self.group_B, np.int64, "group_B", b))
        put(self, "probability_K", frozen_array(self.probability_K, np.float64, "probability_K"))

    def __len__(self) -> int:
        return len(self.selection)

    @property
    def n_rollouts(self) -> int:
        return int(self.n_rollouts_B.sum())

    @property
    def n_completions(self) -> int:
        """Rollouts and greedy completions: what the budget is charged."""
        return self.n_rollouts + int(self.greedy_B.sum())

    def joined(self, more: RolloutPlan) -> RolloutPlan:
        """This plan and a further allocation round of it as one plan: what an outcome of both rounds belongs to."""
        if not np.array_equal(self.group_B, more.group_B):
            raise CurriculaError(f"plan of step {self.step}: the further round has other groups; join it with the plan it extends")
        return replace(more, n_rollouts_B=self.n_rollouts_B + more.n_rollouts_B, greedy_B=self.greedy_B | more.greedy_B)


def group_ids(step: int, attempt: int, n_groups: int) -> Ints:
    """(n_groups,) group ids: 31 bits of step, 12 of attempt, 20 of place in the plan."""
    if not (0 <= step < 2**31 and 0 <= attempt < 2**12 and n_groups <= 2**20):
        raise CurriculaError(f"group ids: step {step}, attempt {attempt} or {n_groups} groups out of range")
    return (step << 32) + (attempt << 20) + np.arange(n_groups, dtype=np.int64)


def step_of_group(group: Ints) -> Ints:
    """The step in which a group was planned."""
    return np.asarray(group) >> 32


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came back for a plan, rollout by rollout, in any order; groups may be partial or empty.

    Rewards are raw. ``reward_range`` maps them to a score in [0, 1] that beliefs, filters and bandit signals read. The greedy
    completion of a group is none of its rollouts: it was not drawn from the policy, so no belief may count it as a sample.
    """

    plan: RolloutPlan
    group_R: Ints  # (R,) place of the rollout's group in the plan, 0..B-1
    reward_R: Floats  # (R,) raw reward; NaN where the status is not OK
    status_R: Codes  # (R,) Status
    n_tokens_R: Ints  # (R,) completion length in tokens that the model drew
    policy_version_R: Ints  # (R,) learner updates that the weights had seen
    reward_range: tuple[float, float] = (0.0, 1.0)
    baseline_B: Floats = field(default=None)  # type: ignore[arg-type]  # (B,) raw reward of the greedy completion; NaN = none (default)
    n_turns_R: Ints = field(default=None)  # type: ignore[arg-type]  # (R,) answers given, the last of which the reward is for; 1 by default
    cut_score_RS: Floats = field(default=None)  # type: ignore[arg-type]  # (R, S) score in [0, 1] at each cut of the plan: the mean of the
    # summaries behind it, the rollout's own where it had ended before; NaN = unknown. (R, 0), no cut was looked at, by default

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "group_R", frozen_array(self.group_R, np.int64, "group_R"))
        r = len(self.group_R)
        put(self, "reward_R", frozen_array(self.reward_R, np.float64, "reward_R", r))
        put(self, "status_R", frozen_array(self.status_R, np.uint8, "status_R", r))
        put(self, "n_tokens_R", frozen_array(self.n_tokens_R, np.int64, "n_tokens_R", r))
        put(self, "policy_version_R", frozen_array(self.policy_version_R, np.int64, "policy_version_R", r))
        baseline = np.full(len(self.plan), np.nan) if self.baseline_B is None else self.baseline_B
        put(self, "baseline_B", frozen_array(baseline, np.float64, "baseline_B", len(self.plan)))
        turns = np.ones(r, np.int64) if self.n_turns_R is None else self.n_turns_R
        put(self, "n_turns_R", frozen_array(turns, np.int64, "n_turns_R", r))
        if r and not (self.group_R.min() >= 0 and self.group_R.max() < len(self.plan)):
            raise CurriculaError(f"outcome: group_R must lie in 0..{len(self.plan) - 1} (places in the plan)")
        self._refuse_bad_rewards()
        self._take_cut_scores()

    @cached_property
    def ok_R(self) -> Bools:
        """(R,) which rollouts carry a reward."""
        ok: Bools = self.status_R == Status.OK
        return ok

    @cached_property
    def score_R(self) -> Floats:
        """(R,) reward mapped to [0, 1]; NaN where the status is not OK."""
        low, high = self.reward_range
        return np.where(self.ok_R, np.clip((self.reward_R - low) / (high - low), 0.0, 1.0), np.nan)

    def _take_cut_scores(self) -> None:
        r = len(self.group_R)
        given = self.cut_score_RS
        table = np.zeros((r, 0)) if given is None or np.size(given) == 0 else np.array(given, dtype=np.float64)
        if table.ndim != 2 or len(table) != r or table.shape[1] not in (0, len(self.plan.cuts)):
            raise CurriculaError(
                f"outcome of step {self.plan.step}: expected cut scores of shape ({r}, {len(self.plan.cuts)}), a column for each "
                f"cut of the plan, got {table.shape}"
            )
        if ((table < 0) | (table > 1)).any():
            raise CurriculaError(f"outcome of step {self.plan.step}: cut scores must lie in [0, 1] or be NaN, got {table}")
        table.flags.writeable = False
        object.__setattr__(self, "cut_score_RS", table)

    def take(self, rollout: Ints) -> Outcome:
        """The outcome with these rollouts alone, in this order; its groups stay."""
        columns = ("group_R", "reward_R", "status_R", "n_tokens_R", "policy_version_R", "n_turns_R", "cut_score_RS")
        return replace(self, **{name: getattr(self, name)[rollout] for name in columns})

    def _refuse_bad_rewards(self) -> None:
        low, high = self.reward_range
        with np.errstate(over="ignore"):
            width = np.float64(high) - np.float64(low)
        if not (np.isfinite(width) and low < high):
            raise CurriculaError(
                f"outcome: reward_range {self.reward_range} must be finite numbers, low < high, finitely far apart"
            )
        reward = self.reward_R[self.ok_R]
        slack = 1e-9 * (high - low)
        bad = ~np.isfinite(reward) | (reward < low - slack) | (reward > high + slack)
        if bad.any():
            r = int(np.flatnonzero(self.ok_R)[np.flatnonzero(bad)[0]])
            raise CurriculaError(
                f"outcome of step {self.plan.step}: rollout {r} of group {self.plan.group_B[self.group_R[r]]} has reward "
                f"{self.reward_R[r]} and status ok, expected a finite number in [{low}, {high}]; give rollouts without "
                "a reward another status, or declare the reward function's reward_range"
            )
        off = np.isinf(self.baseline_B) | (self.baseline_B < low - slack) | (self.baseline_B > high + slack)
        if off.any():
            b = int(np.flatnonzero(off)[0])
            raise CurriculaError(
                f"outcome of step {self.plan.step}: the greedy completion of group {self.plan.group_B[b]} has reward "
                f"{self.baseline_B[b]}, expected a number in [{low}, {high}], or NaN where there is none"
            )


@dataclass(frozen=True, eq=False)
class Verdict:
    """Which groups enter the update, and why the others do not."""

    kept_B: Bools  # (B,)
    reason_B: Codes  # (B,) Reason
    carries_gradient_R: Bools  # (R,) rollouts of kept groups that are scored
    refill: Refill = Refill.NONE
    weight_B: Floats = field(default=None)  # type: ignore[arg-type]  # (B,) >= 0, factor on the group's advantages; 1 by default
    renormalise: bool = False  # advantages come from the rollouts that carry gradient alone, not from the whole group
    refill_margin: float = 1.0  # >= 1, factor on the groups that a refill asks for (see `curricula.refill`)

    def __post_init__(self) -> None:
        put, b = object.__setattr__, len(self.kept_B)
        put(self, "kept_B", frozen_array(self.kept_B, np.bool_, "kept_B"))
        put(self, "reason_B", frozen_array(self.reason_B, np.uint8, "reason_B", b))
        put(self, "carries_gradient_R", frozen_array(self.carries_gradient_R, np.bool_, "carries_gradient_R"))
        put(self, "weight_B", frozen_array(np.ones(b) if self.weight_B is None else self.weight_B, np.float64, "weight_B", b))
        if not (np.isfinite(self.weight_B).all() and (self.weight_B >= 0).all()):
            raise CurriculaError(f"verdict: weight_B must be finite and >= 0, got {self.weight_B}")
        if not 1 <= self.refill_margin < np.inf:
            raise CurriculaError(f"verdict: refill_margin must be finite and >= 1, got {self.refill_margin}")


@dataclass(frozen=True, eq=False)
class Feedback:
    """A decision, what came of it, and what was done with it: everything that policies learn from."""

    outcome: Outcome
    verdict: Verdict
    advantage_R: Floats | None = None  # (R,) whole-group advantages where the host has them; NaN where undefined

    def __post_init__(self) -> None:
        r = len(self.outcome.group_R)
        if len(self.verdict.kept_B) != len(self.outcome.plan) or len(self.verdict.carries_gradient_R) != r:
            raise CurriculaError("feedback: the verdict belongs to another outcome (lengths differ)")
        if self.advantage_R is not None:
            object.__setattr__(self, "advantage_R", frozen_array(self.advantage_R, np.float64, "advantage_R", r))

    @property
    def plan(self) -> RolloutPlan:
        return self.outcome.plan


@dataclass(frozen=True, eq=False)
class Estimate:
    """What a belief holds of the pass rate of B prompts: a Beta posterior each."""

    alpha_B: Floats
    beta_B: Floats

    @cached_property
    def mean_B(self) -> Floats:
        return self.alpha_B / (self.alpha_B + self.beta_B)


def known_or_raise(kind: str, name: str, known: Sequence[str]) -> None:
    """CurriculaError with the nearest name when ``name`` is not one of ``known``."""
    if name in known:
        return
    import difflib

    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise CurriculaError(f"unknown {kind} {name!r}{hint}; known: {', '.join(sorted(known))}")
