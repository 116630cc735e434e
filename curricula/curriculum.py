"""The one stateful object, and the only one that a host loop sees."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from curricula import checkpoint
from curricula.conflicts import warn_of_conflicts
from curricula.draws import draw_quota, generator
from curricula.fold import fold
from curricula.growth import carried_fields, carried_state
from curricula.ledger import carried, empty_ledger
from curricula.recipes import Recipe, checked_exploration, read
from curricula.registry import STAGES, name_of, parameters
from curricula.stages import Quota, Stages, baselines_of, credit_of, cuts_of, stated_tokens_of, turns_of
from curricula.types import (
    Bools,
    CurriculaError,
    Cuts,
    Estimate,
    Feedback,
    Floats,
    Ints,
    Outcome,
    PromptPool,
    RolloutPlan,
    Selection,
    Verdict,
    group_ids,
)


class Prospect(NamedTuple):
    """What a plan is likely to hold."""

    chance_N: Floats  # inclusion probabilities of the pool's prompts
    prompt_B: Ints  # one draw by them


class Curriculum:
    """Decides what to roll out, how often and what to train on, and learns it from the results.

    `plan`, `extend`, `judge` and `shape` are pure: asked twice, they answer the same; only `update` changes state. A host loop:

    >>> import numpy as np
    >>> from curricula import Curriculum, Feedback, Outcome, PromptPool
    >>> pool = PromptPool.from_columns(ids=["2+2", "3+4", "17*23", "31*12"], distributions=["add", "add", "mul", "mul"])
    >>> curriculum = Curriculum.from_recipe("dump_ucb", pool)
    >>> for step in range(3):
    ...     plan = curriculum.plan(step, n_groups=2, n_rollouts=8)
    ...     group_R = np.repeat(np.arange(len(plan)), plan.n_rollouts_B)  # your engine: this many completions of each prompt
    ...     reward_R = np.arange(len(group_R)) % 2.0  # your verifier
    ...     status_R, n_tokens_R, version_R = np.zeros_like(group_R), np.full_like(group_R, 5), np.full_like(group_R, step)
    ...     outcome = Outcome(plan, group_R, reward_R, status_R, n_tokens_R, version_R)
    ...     verdict = curriculum.judge(outcome)  # your learner trains on verdict.carries_gradient_R
    ...     curriculum.update(Feedback(outcome, verdict))
    >>> curriculum.metrics()["n_seen_prompts"]
    4.0
    """

    def __init__(self, pool: PromptPool, stages: Stages, seed: int = 0, exploration: float = 0.02) -> None:
        if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
            raise CurriculaError(f"curriculum seed: expected an integer >= 0, got {seed!r}")
        self.pool = pool
        self.stages = stages
        self.seed = int(seed)
        self.exploration = checked_exploration(exploration)
        warn_of_conflicts(stages)
        self._state: dict[str, Any] = {stage: getattr(stages, stage).init(pool) for stage in STAGES}
        self._ledger = empty_ledger(len(pool))

    @classmethod
    def from_recipe(cls, recipe: str | Recipe, pool: PromptPool, seed: int = 0) -> Curriculum:
        """A curriculum by recipe name (see `curricula.recipes.RECIPES`) or from a mapping of stages to policies."""
        stages, exploration = read(recipe)
        return cls(pool, stages, seed, exploration)

    def plan(self, step: int, n_groups: int, n_rollouts: int, attempt: int = 0, exclude: Iterable[int] | Ints = ()) -> RolloutPlan:
        """Which prompts, and how many rollouts of each: at most ``n_rollouts`` plus what earlier steps left, at most twice it.

        Where the budget policy asks for greedy completions (``greedy_B``), each costs as much as a rollout.

        Fewer groups come back where the pool has fewer free prompts or the budget fewer than two rollouts for each.
        ``exclude`` names prompts (rows of the pool) that may not be chosen, such as those in flight.
        """
        if step < 0 or n_groups < 0 or n_rollouts < 0 or attempt < 0:
            raise CurriculaError(
                f"plan: expected numbers >= 0, got step={step}, attempt={attempt}, n_groups={n_groups}, n_rollouts={n_rollouts}"
            )
        # at most as much again as the step's own: a budget policy that often saves would else make one step many times dearer
        budget = max(0, n_rollouts + min(n_rollouts, carried(self._ledger, step, attempt)))
        probability_K = self.probabilities()
        quota = self._quota(probability_K, min(n_groups, budget // 2), self._blocked(exclude), (step, attempt))
        rng = generator(self.seed, step, attempt, 0, "selector")
        selection = self.stages.selector.select(self._state["selector"], self.pool, quota, self.estimate, rng)
        return self._spent_on(selection, probability_K, step, attempt, n_rollouts, budget)

    def plan_for(self, selection: Selection, step: int, n_rollouts: int, attempt: int = 0) -> RolloutPlan:
        """What `plan` would spend on prompts that somebody else has chosen: at most ``n_rollouts``, nothing carried over."""
        return self._spent_on(selection, self.probabilities(), step, attempt, n_rollouts, n_rollouts)

    def _spent_on(
        self, selection: Selection, probability_K: Floats, step: int, attempt: int, n_rollouts: int, budget: int
    ) -> RolloutPlan:
        estimate = self.estimate(selection.prompt_B)
        n_B = self.stages.budget.allocate(self._state["budget"], self.pool, selection, estimate, budget)
        self._refuse_bad_allocation(n_B, len(selection), budget)
        greedy_B = baselines_of(self.stages.budget, self._state["budget"], self.pool, selection, n_B)
        self._refuse_bad_baselines(greedy_B, n_B, budget)
        return RolloutPlan(
            step=step,
            attempt=attempt,
            round=0,
            selection=selection,
            n_rollouts_B=n_B,
            group_B=group_ids(step, attempt, len(selection)),
            probability_K=probability_K,
            n_carried=budget - n_rollouts,
            n_unspent=budget - int(n_B.sum()) - int(greedy_B.sum()),
            max_tokens_B=self.stages.shaping.limit(self._state["shaping"], self.pool, selection.prompt_B),
            greedy_B=greedy_B,
            max_turns_B=self._turns(selection.prompt_B, (step, attempt)),
            stated_tokens_B=self._stated_tokens(selection.prompt_B),
            cuts=self.cuts(),
        )

    def extend(self, outcome: Outcome) -> RolloutPlan | None:
        """One more allocation round for the groups of a plan, or None. The next outcome belongs to ``plan.joined(more)``."""
        plan = outcome.plan
        estimate = self.estimate(plan.selection.prompt_B)
        n_B = self.stages.budget.extend(self._state["budget"], self.pool, outcome, estimate)
        if n_B is None or not n_B.any():
            return None
        self._refuse_bad_allocation(n_B, len(plan), plan.n_unspent, smallest=1)
        left, no_greedy_B = plan.n_unspent - int(n_B.sum()), np.zeros(len(plan), dtype=np.bool_)
        return replace(plan, round=plan.round + 1, n_rollouts_B=n_B, n_unspent=left, greedy_B=no_greedy_B)

    def judge(self, outcome: Outcome) -> Verdict:
        """Which groups enter the update, and which of their rollouts carry gradient."""
        verdict = self.stages.filter.judge(self._state["filter"], self.pool, outcome)
        if (len(verdict.kept_B), len(verdict.carries_gradient_R)) != (len(outcome.plan), len(outcome.group_R)):
            raise CurriculaError(f"filter {self._name('filter')}: its verdict has other lengths than the outcome")
        thinned = self.stages.downsampling.thin(self._state["downsampling"], self.pool, outcome, verdict)
        if (
            len(thinned.carries_gradient_R) != len(outcome.group_R)
            or (thinned.carries_gradient_R & ~verdict.carries_gradient_R).any()
        ):
            raise CurriculaError(f"downsampling {self._name('downsampling')}: expected a part of the rollouts that the filter kept")
        return thinned

    def shape(self, outcome: Outcome) -> Floats:
        """(R,) the reward that advantages are made of, by the shaping policy; NaN for rollouts without a reward."""
        shaped_R = self.stages.shaping.shape(self._state["shaping"], self.pool, outcome)
        if shaped_R.shape != outcome.reward_R.shape or not np.isfinite(shaped_R[outcome.ok_R]).all():
            raise CurriculaError(f"shaping {self._name('shaping')}: expected {len(outcome.group_R)} finite rewards, got {shaped_R}")
        return np.where(outcome.ok_R, shaped_R, np.nan)

    def cuts(self) -> Cuts:
        """Where the next plan's completions will be cut short and summed up; nowhere, by most shaping policies."""
        return cuts_of(self.stages.shaping, self._state["shaping"])

    def credit(self, outcome: Outcome, verdict: Verdict) -> Floats:
        """(R, S) advantages between the plan's cuts, by the shaping policy; 0 without a comparison.

        (R, 0) where it gives none: then advantages are made of `shape`. A verdict that renormalises compares the rollouts that
        carry gradient with each other, any other one all that are scored.
        """
        peers_R = verdict.carries_gradient_R if verdict.renormalise else outcome.ok_R
        credit_RS = credit_of(self.stages.shaping, self._state["shaping"], self.pool, outcome, peers_R)
        known = [(len(outcome.group_R), n) for n in (0, len(outcome.plan.cuts))]
        if credit_RS.shape not in known or not np.isfinite(credit_RS).all():
            raise CurriculaError(f"shaping {self._name('shaping')}: expected finite credit of shape {known[1]}, got {credit_RS}")
        return credit_RS

    def update(self, feedbacks: Feedback | Sequence[Feedback]) -> None:
        """Learn. Each group counts once for ever; late, reordered, repeated and partial feedback is welcome."""
        given = [feedbacks] if isinstance(feedbacks, Feedback) else list(feedbacks)
        self._ledger, learnable = fold(self._ledger, given)
        for feedback in learnable:
            for stage in STAGES:
                self._state[stage] = getattr(self.stages, stage).update(self._state[stage], self.pool, feedback)

    def grow(self, pool: PromptPool) -> None:
        """Go on with a pool that has all prompts of this one and more; what was learned is carried over by prompt id.

        Errors: CurriculaError when a prompt or distribution is gone, or a prompt moved to another distribution.
        """
        old = self.pool
        grown = {stage: carried_state(getattr(self.stages, stage), self._state[stage], old, pool) for stage in STAGES}
        self._ledger = carried_fields(self._ledger, empty_ledger(len(pool)), old, pool)
        self._state, self.pool = grown, pool
        self.__dict__.pop("_identity", None)

    def probabilities(self) -> Floats:
        """(K,) share of each distribution in the next plan, the exploration floor included."""
        k = self.pool.n_distributions
        share_K = np.asarray(self.stages.distribution.probabilities(self._state["distribution"], self.pool), dtype=np.float64)
        total = share_K.sum() if share_K.shape == (k,) else np.nan
        if not (np.isfinite(total) and total > 0 and share_K.min() >= 0):
            raise CurriculaError(
                f"distribution {self._name('distribution')}: expected {k} probabilities, finite, >= 0, not all 0; got {share_K}"
            )
        return (1.0 - self.exploration) * (share_K / total) + self.exploration / k

    def inclusion(self, step: int, n_groups: int, attempt: int = 0, exclude: Iterable[int] | Ints = ()) -> Floats:
        """(N,) how likely each prompt is to be in a plan of ``n_groups``; the numbers sum to the groups that the plan would get.

        Where the selector draws something first (Thompson's posteriors, candidates of a large pool), they hold given that draw, and
        their mean over seeds is the inclusion probability: as good in an average over steps. A selector that tells nothing gives
        its draw itself, 1 or 0, of which the same is true.
        """
        return self.prospect(step, n_groups, attempt, exclude).chance_N

    def prospect(self, step: int, n_groups: int, attempt: int = 0, exclude: Iterable[int] | Ints = ()) -> Prospect:
        """`inclusion`, and one draw by these chances: for means over a plan in a pool that is too large to sum over."""
        chance_N, told = np.zeros(len(self.pool)), False

        def tell(prompt: Ints, chance: Floats) -> None:
            nonlocal told
            chance_N[prompt], told = chance, True

        quota = self._quota(self.probabilities(), n_groups, self._blocked(exclude), (step, attempt))
        rng = generator(self.seed, step, attempt, 0, "selector")
        asked = replace(quota, tell=tell)
        selection = self.stages.selector.select(self._state["selector"], self.pool, asked, self.estimate, rng)
        if not told:
            chance_N[selection.prompt_B] = 1.0
        return Prospect(chance_N, selection.prompt_B)

    def estimate(self, prompt: ArrayLike) -> Estimate:
        """What is believed of the pass rate of these prompts (rows of the pool)."""
        return self.stages.belief.estimate(self._state["belief"], self.pool, np.atleast_1d(np.asarray(prompt, dtype=np.int64)))

    def metrics(self) -> dict[str, float]:
        """Numbers for a log; ``n_unspent`` is in rollouts, the other counts in prompts or groups as their names say."""
        probability_K, ledger = self.probabilities(), self._ledger
        positive = probability_K[probability_K > 0]
        return {
            "effective_distributions": float(np.exp(-(positive * np.log(positive)).sum())),
            "n_seen_prompts": float(np.count_nonzero(ledger.seen_N)),
            "n_late_groups": float(ledger.n_late),
            "n_repeated_groups": float(ledger.n_repeated),
            "n_unspent_rollouts": float(ledger.unspent),
            **{f"probability/{name}": float(p) for name, p in zip(self.pool.distribution_names, probability_K, strict=True)},
        }

    def state_dict(self) -> checkpoint.Arrays:
        """Everything learned as a flat dict of arrays, for ``np.savez``; no pickle."""
        return {**self._identity, **checkpoint.flatten({**self._state, "ledger": self._ledger})}

    def load_state_dict(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up a saved state.

        Errors: CurriculaError naming the first difference when it belongs to other data, other policies or is damaged.
        """
        blank = {**{stage: getattr(self.stages, stage).init(self.pool) for stage in STAGES}, "ledger": empty_ledger(len(self.pool))}
        checkpoint.refuse_other_run({**self._identity, **checkpoint.flatten(blank)}, arrays)
        states = checkpoint.unflatten(blank, arrays)
        self._ledger = states.pop("ledger")
        self._state = states

    @cached_property
    def _identity(self) -> checkpoint.Arrays:
        """What a saved state must share with the run that takes it up."""
        policies = {f"meta.policy.{stage}": checkpoint.text(self._name(stage)) for stage in STAGES}
        return {
            "meta.version": np.array(checkpoint.VERSION),
            "meta.fingerprint": checkpoint.text(self.pool.fingerprint),
            "meta.prompt_hashes": checkpoint.prompt_hashes(self.pool),
            **policies,
            "meta.seed": np.array(self.seed),
            "meta.exploration": np.array(self.exploration),
        }

    def _name(self, stage: str) -> str:
        policy = getattr(self.stages, stage)
        return f"{name_of(stage, policy)} {json.dumps(parameters(policy), sort_keys=True, default=repr)}"

    def _blocked(self, exclude: Iterable[int] | Ints) -> Bools:
        row = np.asarray(exclude if isinstance(exclude, np.ndarray) else list(exclude), dtype=np.int64)
        if len(row) and not (row.min() >= 0 and row.max() < len(self.pool)):
            raise CurriculaError(f"plan: exclude names rows outside 0..{len(self.pool) - 1} of the pool")
        blocked_N = np.zeros(len(self.pool), dtype=np.bool_)
        blocked_N[row] = True
        return blocked_N

    def _quota(self, probability_K: Floats, n_groups: int, blocked_N: Bools, place: tuple[int, int]) -> Quota:
        pool = self.pool
        n_blocked_K = np.bincount(pool.distribution_N[np.flatnonzero(blocked_N)], minlength=pool.n_distributions)
        rng = generator(self.seed, *place, 0, "distribution")
        expected_K, drawn_K = draw_quota(probability_K, pool.size_K - n_blocked_K, n_groups, rng, pool.name_order_K)
        return Quota(drawn_K, expected_K, blocked_N)

    def _turns(self, prompt_B: Ints, place: tuple[int, int]) -> Ints:
        rng = generator(self.seed, *place, 0, "shaping")
        turns_B = turns_of(self.stages.shaping, self._state["shaping"], self.pool, prompt_B, rng)
        if turns_B.shape != prompt_B.shape or (turns_B < 1).any():
            raise CurriculaError(f"shaping {self._name('shaping')}: expected {len(prompt_B)} numbers of turns >= 1, got {turns_B}")
        return turns_B

    def _stated_tokens(self, prompt_B: Ints) -> Ints:
        stated_B = stated_tokens_of(self.stages.shaping, self._state["shaping"], self.pool, prompt_B)
        if stated_B.shape != prompt_B.shape or (stated_B < 0).any():
            raise CurriculaError(f"shaping {self._name('shaping')}: expected {len(prompt_B)} token budgets >= 0, got {stated_B}")
        return stated_B

    def _refuse_bad_allocation(self, n_B: Ints, n_groups: int, budget: int, smallest: int = 2) -> None:
        if n_B.shape != (n_groups,) or ((n_B != 0) & (n_B < smallest)).any() or n_B.sum() > budget:
            raise CurriculaError(
                f"budget {self._name('budget')}: expected {n_groups} numbers, each 0 or >= {smallest}, "
                f"together at most {budget}; got {n_B}"
            )

    def _refuse_bad_baselines(self, greedy_B: Bools, n_B: Ints, budget: int) -> None:
        if greedy_B.shape != n_B.shape or greedy_B.dtype != np.bool_ or (greedy_B & (n_B == 0)).any():
            raise CurriculaError(
                f"budget {self._name('budget')}: expected {len(n_B)} times true or false for greedy completions, true only where a "
                f"group has rollouts; got {greedy_B}"
            )
        if n_B.sum() + greedy_B.sum() > budget:
            raise CurriculaError(
                f"budget {self._name('budget')}: {n_B.sum()} rollouts and {greedy_B.sum()} greedy completions are more than the "
                f"budget of {budget}"
            )
