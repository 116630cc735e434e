"""The contract of a policy as a shipped test suite: what `Curriculum` and host loops rely on, whoever wrote the policy.

    from curricula.testing import check_policy
    check_policy("distribution", "my_package.my_module:MyPolicy")

`checks` yields the same checks one by one, for a test runner that reports them by name.
"""

from __future__ import annotations

import doctest
import importlib
import io
import re
import sys
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from curricula.curriculum import Curriculum
from curricula.paced import Paced
from curricula.recipes import DEFAULTS
from curricula.registry import VERBS, build, kind_of, name_of, parameters
from curricula.types import (
    CurriculaError,
    Feedback,
    Floats,
    Outcome,
    PromptPool,
    RolloutPlan,
    Status,
)

N_GROUPS, N_ROLLOUTS = 6, 24
N_DRAWS = 1000  # plans behind each frequency
SIGMAS = 5.0


@dataclass(frozen=True)
class Case:
    """A policy among default neighbours."""

    stage: str
    policy: Any
    doc: str
    follows_rows: bool  # the order of the pool's rows is part of its answer

    def curriculum(self, pool: PromptPool, seed: int = 0, exploration: float = 0.05) -> Curriculum:
        recipe = {**DEFAULTS, "exploration": exploration}
        curriculum = Curriculum.from_recipe(recipe, pool)
        stage, policy = self.stage, self.policy
        if stage == "pacing":  # a pacing has no place of its own: it drives a number of another policy
            stage, policy = "distribution", Paced(build("distribution", "dump_ucb"), (("bonus", policy),))
        return Curriculum(pool, replace(curriculum.stages, **{stage: policy}), seed, exploration)

    @property
    def prefix(self) -> str:
        """Of the policy's keys in a saved state."""
        return "distribution.pacings." if self.stage == "pacing" else f"{self.stage}."


def check_policy(stage: str, policy: Any) -> None:
    """Run every check on a policy: a registered name, ``package.module:Class``, a recipe mapping or an instance.

    Errors: AssertionError that names the check and what was expected.
    """
    for name, check in checks(stage, policy):
        try:
            check()
        except AssertionError as error:
            raise AssertionError(f"{stage} policy {policy!r}, check {name!r}: {error}") from error


def checks(stage: str, policy: Any) -> Iterator[tuple[str, Callable[[], None]]]:
    """(name, check) of everything that a policy of this stage must pass."""
    built = build(stage, policy) if isinstance(policy, (str, dict)) else policy
    case = Case(stage, built, type(built).__doc__ or "", bool(getattr(built, "follows_rows", False)))
    for check in CHECKS:
        yield check.__name__.removeprefix("check_"), partial(check, case)


# --- scenes -----------------------------------------------------------------------------------------------------------------------


def small_pool(order: Sequence[int] | None = None) -> PromptPool:
    """23 prompts in three distributions of 12, 8 and 3, rows in the given order."""
    names = ["easy"] * 12 + ["middle"] * 8 + ["tiny"] * 3
    rows = list(range(len(names))) if order is None else list(order)
    return PromptPool.from_columns([f"{names[i]}/{i:02d}" for i in rows], [names[i] for i in rows])


def answer(curriculum: Curriculum, plan: RolloutPlan, reward: Callable[[str, int], float] | None = None) -> Outcome:
    """An outcome in which rollout r of a prompt gets ``reward(prompt id, r)``; by default a pass rate that falls along the ids.

    What comes back depends on prompt ids and the step, not on rows.
    """
    group_R = np.repeat(np.arange(len(plan)), plan.n_rollouts_B)
    place_R = np.arange(len(group_R)) - np.repeat(np.cumsum(plan.n_rollouts_B) - plan.n_rollouts_B, plan.n_rollouts_B)
    ids = curriculum.pool.ids[plan.selection.prompt_B]
    pays = reward or partial(_ladder, plan.step)
    reward_R = np.array([pays(str(ids[g]), int(r)) for g, r in zip(group_R, place_R, strict=True)], dtype=np.float64)
    return Outcome(plan, group_R, reward_R, np.zeros_like(group_R), 5 + place_R, np.full_like(group_R, plan.step))


def _ladder(step: int, prompt: str, r: int) -> float:
    rng = np.random.default_rng([step, r, *prompt.encode()])
    return float(rng.random() < 1.0 - int(prompt.rpartition("/")[2]) / 25)


def feedback_of(curriculum: Curriculum, outcome: Outcome) -> Feedback:
    """The feedback of an outcome that was judged and trained on as judged."""
    return Feedback(outcome, curriculum.judge(outcome))


def run(curriculum: Curriculum, steps: Sequence[int], reward: Callable[[str, int], float] | None = None) -> list[RolloutPlan]:
    """Plans of a synchronous run over these steps."""
    plans = []
    for step in steps:
        plans.append(curriculum.plan(step, N_GROUPS, N_ROLLOUTS))
        curriculum.update(feedback_of(curriculum, answer(curriculum, plans[-1], reward)))
    return plans


def readable(pool: PromptPool, plan: RolloutPlan) -> list[tuple[str, int, float]]:
    """A plan as (prompt id, rollouts, propensity) in its order."""
    ids = pool.ids[plan.selection.prompt_B].tolist()
    return list(zip(ids, plan.n_rollouts_B.tolist(), plan.selection.propensity_B.round(9).tolist(), strict=True))


def expect(condition: object, message: str) -> None:
    """AssertionError with the message unless the condition holds."""
    if not condition:
        raise AssertionError(message)


def _same_state(one: Curriculum, other: Curriculum, what: str) -> None:
    a, b = one.state_dict(), other.state_dict()
    for key in a:
        expect(_equal(a[key], b[key]), f"{what}: state {key!r} differs")


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


# --- the policy itself ------------------------------------------------------------------------------------------------------------


def check_is_a_frozen_dataclass_with_the_verb(case: Case) -> None:
    """Hyper-parameters cannot change under a running curriculum."""
    policy = type(case.policy)
    expect(is_dataclass(policy) and policy.__dataclass_params__.frozen, "expected a frozen dataclass")  # type: ignore[attr-defined]
    for method in ("init", "update", VERBS[case.stage]):
        expect(callable(getattr(policy, method, None)), f"expected a method {method!r}")


def check_parameters_round_trip(case: Case) -> None:
    """What a recipe says is what the policy gets; unknown keys and wrong types are refused."""
    given = parameters(case.policy)
    spec = {"name": name_of(case.stage, case.policy), **given}
    if not spec["name"].startswith("__main__") and "<locals>" not in spec["name"]:
        expect(parameters(build(case.stage, spec)) == given, "hyper-parameters change on the way through a recipe")
        for key in (f.name for f in fields(case.policy) if kind_of(type(case.policy), f.name) in (int, float)):
            _refused(partial(build, case.stage, {**spec, key: "many"}), key)
        _refused(partial(build, case.stage, {**spec, "no_such_key": 1}), "no_such_key")


def _refused(call: Callable[[], Any], word: str) -> None:
    try:
        call()
    except CurriculaError as error:
        expect(word in str(error), f"the error should name {word!r}: {error}")
        return
    raise AssertionError(f"expected a CurriculaError that names {word!r}")


def check_docstring_names_its_source(case: Case) -> None:
    """An arXiv id or "ours": a reader must know where a rule comes from."""
    expect(re.search(r"arXiv \d{4}\.\d{4,5}|\b[Oo]urs\b", case.doc), 'the docstring names neither an arXiv id nor "ours"')


def check_doctest_runs(case: Case) -> None:
    """The docstring shows a number, and it is right."""
    policy = type(case.policy)
    module = sys.modules.get(policy.__module__) or importlib.import_module(policy.__module__)
    tests = [t for t in doctest.DocTestFinder(recurse=False).find(policy, policy.__name__, globs=dict(vars(module))) if t.examples]
    expect(tests, "the docstring has no doctest")
    said = io.StringIO()
    for test in tests:
        doctest.DocTestRunner(verbose=False).run(test, out=said.write)
    expect(not said.getvalue(), said.getvalue())


# --- deciding ---------------------------------------------------------------------------------------------------------------------


def check_plans_are_valid(case: Case) -> None:
    """No prompt twice, budget kept, propensities in (0, 1], probabilities that sum to 1, blocked prompts left out."""
    curriculum = case.curriculum(small_pool())
    for step in range(8):
        plan = curriculum.plan(step, N_GROUPS, N_ROLLOUTS, exclude=[0, 13])
        _valid(curriculum, plan, N_GROUPS, N_ROLLOUTS + plan.n_carried)
        expect(not np.isin([0, 13], plan.selection.prompt_B).any(), "an excluded prompt was planned")
        curriculum.update(feedback_of(curriculum, answer(curriculum, plan)))


def _valid(curriculum: Curriculum, plan: RolloutPlan, n_groups: int, budget: int) -> None:
    selection = plan.selection
    expect(len(plan) == n_groups, f"expected {n_groups} groups, got {len(plan)}")
    expect(len(np.unique(selection.prompt_B)) == len(plan), "a prompt was planned twice")
    expect((curriculum.pool.distribution_N[selection.prompt_B] == selection.distribution_B).all(), "wrong distribution of a prompt")
    expect(((selection.propensity_B > 0) & (selection.propensity_B <= 1 + 1e-12)).all(), "a propensity outside (0, 1]")
    expect(((plan.n_rollouts_B == 0) | (plan.n_rollouts_B >= 2)).all(), "a group of one rollout")
    expect(plan.n_completions + plan.n_unspent == budget, f"budget of {budget}: {plan.n_completions} spent, {plan.n_unspent} left")
    expect(abs(plan.probability_K.sum() - 1) < 1e-9 and (plan.probability_K >= 0).all(), "probabilities do not sum to 1")


def check_deciding_is_pure(case: Case) -> None:
    """Asked twice, a curriculum answers the same and its state stays as it was."""
    curriculum = case.curriculum(small_pool())
    run(curriculum, range(3))
    before = curriculum.state_dict()
    plans = [curriculum.plan(3, N_GROUPS, N_ROLLOUTS) for _ in range(2)]
    expect(readable(curriculum.pool, plans[0]) == readable(curriculum.pool, plans[1]), "the second plan differs from the first")
    outcome = answer(curriculum, plans[0])
    verdicts = [curriculum.judge(outcome) for _ in range(2)]
    expect((verdicts[0].reason_B == verdicts[1].reason_B).all(), "the second verdict differs from the first")
    curriculum.extend(outcome)
    after = curriculum.state_dict()
    expect(all(_equal(before[key], after[key]) for key in before), "deciding changed the state")


def check_randomness_comes_from_the_seed(case: Case) -> None:
    """Same seed, same run; other seeds, other runs; NumPy's global generator has no say."""
    runs = []
    for seed, numpy_seed in ((0, 1), (0, 2), (1, 1)):
        np.random.seed(numpy_seed)  # noqa: NPY002
        curriculum = case.curriculum(small_pool(), seed)
        runs.append([readable(curriculum.pool, plan) for plan in run(curriculum, range(4))])
    expect(runs[0] == runs[1], "two runs with one seed differ")
    expect(case.follows_rows or runs[0] != runs[2], "two seeds give one run")


def check_pool_edges(case: Case) -> None:
    """One distribution, all prompts at once, more groups than prompts, no budget, nothing left: defined answers."""
    for names, n_groups, n_rollouts in (("xxxxx", 3, 9), ("xyxyx", 5, 10), ("xxyyy", 9, 40), ("xy", 2, 1), ("xy", 0, 0)):
        curriculum = case.curriculum(PromptPool.from_columns([f"{name}/{i:02d}" for i, name in enumerate(names)], names))
        plan = curriculum.plan(0, n_groups, n_rollouts)
        _valid(curriculum, plan, min(n_groups, len(names), n_rollouts // 2), n_rollouts)
        curriculum.update(feedback_of(curriculum, answer(curriculum, plan)))
    everything = curriculum.plan(1, 2, 8, exclude=[0, 1])
    expect(len(everything) == 0 and everything.n_unspent == 8 + everything.n_carried, "a plan without free prompts should be empty")


def check_budget_is_a_hard_cap(case: Case) -> None:
    """Any budget, any number of groups: never more than asked for, and what is left is reported."""
    curriculum = case.curriculum(small_pool())
    run(curriculum, range(2))
    for n_groups in (1, 2, 7, 23):
        for n_rollouts in (0, 1, 2, 3, 5, 17, 64, 5000):
            plan = curriculum.plan(9, n_groups, n_rollouts, attempt=1)
            said = f"{n_groups} groups, {n_rollouts} rollouts: got {plan.n_completions}"
            expect(plan.n_completions + plan.n_unspent == n_rollouts, said)


def check_propensity_is_frequency(case: Case) -> None:
    """Over seeds, each prompt comes as often as its propensity says, at the start, in mid-epoch and at its end (5 sigma).

    A selector with ``conditional_propensity`` states the probability given its other draws, which differs from plan to plan;
    then a prompt's visits, each weighted by 1 / propensity, average one (what an importance-weighted estimate needs). Around an
    inner selector that has an order they may average less: the probability that the other draws let the prompt have a turn.
    """
    if case.stage != "selector":
        return
    for n_steps in (0, 2, 3):
        curriculum = case.curriculum(small_pool(), exploration=0.2)
        run(curriculum, range(n_steps))
        _frequencies_agree(curriculum, n_steps, exclude=[0, 14] if n_steps == 2 else [])


def _frequencies_agree(curriculum: Curriculum, step: int, exclude: list[int]) -> None:
    n_seen, propensity, visit_DN = np.zeros(len(curriculum.pool)), np.zeros(len(curriculum.pool)), []
    for seed in range(N_DRAWS):
        curriculum.seed = seed
        selection = curriculum.plan(step, N_GROUPS - 1, N_ROLLOUTS, exclude=exclude).selection
        n_seen[selection.prompt_B] += 1
        propensity[selection.prompt_B] = selection.propensity_B
        visit_DN.append(np.zeros(len(curriculum.pool)))
        visit_DN[-1][selection.prompt_B] = 1 / selection.propensity_B
    if getattr(curriculum.stages.selector, "conditional_propensity", False):
        _weighted_visits_average_one(curriculum, np.array(visit_DN), exclude)
        return
    sigma = np.maximum(np.sqrt(np.maximum(propensity * (1 - propensity), 0) / N_DRAWS), 1e-9)
    off = np.abs(n_seen / N_DRAWS - propensity) / sigma
    worst, ids = int(off.argmax()), curriculum.pool.ids
    said = f"prompt {ids[worst]} came with frequency {n_seen[worst] / N_DRAWS:.4f}, its propensity is {propensity[worst]:.4f}"
    expect(off[worst] <= SIGMAS, said)
    expect(
        abs(propensity.sum() - (N_GROUPS - 1)) < 0.02, "propensities do not sum to the number of groups: some prompts never came"
    )


def _weighted_visits_average_one(curriculum: Curriculum, visit_DN: Floats, exclude: list[int]) -> None:
    around = hasattr(curriculum.stages.selector, "inner")  # the inner order may close a prompt in all draws or in some
    open_N = np.setdiff1d(np.flatnonzero(visit_DN.any(axis=0)) if around else np.arange(len(curriculum.pool)), exclude)
    mean_N, sd_N = visit_DN.mean(0)[open_N], visit_DN.std(0)[open_N] / np.sqrt(N_DRAWS)
    off = np.abs(mean_N - 1) / np.maximum(sd_N, 1e-9)
    if around:
        expect(np.count_nonzero(off <= SIGMAS) >= N_GROUPS - 1, "visits weighted by 1 / propensity average one for too few prompts")
        off = np.where(mean_N < 1, 0.0, off)
    worst = int(off.argmax())
    prompt = curriculum.pool.ids[open_N[worst]]
    expect(off[worst] <= SIGMAS, f"prompt {prompt}: visits weighted by 1 / propensity average {mean_N[worst]:.3f}, expected 1")


def check_inclusion_is_told_of_every_prompt(case: Case) -> None:
    """`Curriculum.inclusion` sums to the groups, agrees with the stated propensities, and over seeds with the frequencies."""
    if case.stage != "selector":
        return
    curriculum, n_groups = case.curriculum(small_pool(), exploration=0.2), N_GROUPS - 1
    run(curriculum, range(2))
    exact = not getattr(curriculum.stages.selector, "conditional_propensity", False)
    gap_N, variance_N = np.zeros((2, len(curriculum.pool)))
    for seed in range(N_DRAWS // 2):
        curriculum.seed = seed
        selection = curriculum.plan(2, n_groups, N_ROLLOUTS, exclude=[0]).selection
        chance_N = curriculum.inclusion(2, n_groups, exclude=[0])
        expect(abs(chance_N.sum() - n_groups) < 1e-6 and chance_N.max() <= 1, f"chances sum to {chance_N.sum()}, not {n_groups}")
        if exact:
            expect(np.allclose(chance_N[selection.prompt_B], selection.propensity_B), "told chances differ from the propensities")
        gap_N -= chance_N
        gap_N[selection.prompt_B] += 1.0
        variance_N += chance_N * (1 - chance_N)
    off = np.abs(gap_N) / np.maximum(np.sqrt(variance_N), 1.0)
    worst = int(off.argmax())
    said = f"prompt {curriculum.pool.ids[worst]} came {gap_N[worst]:+.1f} times more often than told, of {N_DRAWS // 2}"
    expect(off[worst] <= SIGMAS, said)


def check_order_of_rows_does_not_matter(case: Case) -> None:
    """A pool with shuffled rows gives the same run, prompt id by prompt id; renamed row numbers change nothing else."""
    if case.follows_rows:
        return
    order = np.random.default_rng(3).permutation(23).tolist()
    one, other = case.curriculum(small_pool()), case.curriculum(small_pool(order))
    runs = [[readable(c.pool, plan) for plan in run(c, range(5))] for c in (one, other)]
    expect(runs[0] == runs[1], "shuffling the rows of the pool changed the plans")


def check_order_of_distributions_does_not_matter(case: Case) -> None:
    """Numbering the distributions otherwise permutes the probabilities and changes nothing else."""
    pool = small_pool()
    turned = PromptPool(pool.ids, 2 - pool.distribution_N, pool.distribution_names[::-1])
    one, other = case.curriculum(pool), case.curriculum(turned)
    runs = [[readable(c.pool, plan) for plan in run(c, range(5))] for c in (one, other)]
    expect(runs[0] == runs[1], "numbering the distributions otherwise changed the plans")
    expect(np.allclose(one.probabilities(), other.probabilities()[::-1], atol=1e-12), "probabilities were not permuted")


# --- learning ---------------------------------------------------------------------------------------------------------------------


def check_resume_equals_never_stopped(case: Case) -> None:
    """Saved with npz without pickle and loaded in mid-epoch, a run goes on as if it had not stopped."""
    straight, first = case.curriculum(small_pool()), case.curriculum(small_pool())
    plans = [readable(straight.pool, plan) for plan in run(straight, range(8))]
    run(first, range(4))
    file = io.BytesIO()
    np.savez(file, **first.state_dict())  # type: ignore[arg-type]
    file.seek(0)
    resumed = case.curriculum(small_pool())
    with np.load(file, allow_pickle=False) as arrays:
        resumed.load_state_dict(dict(arrays))
    expect([readable(resumed.pool, plan) for plan in run(resumed, range(4, 8))] == plans[4:], "the resumed run plans otherwise")
    _same_state(straight, resumed, "after the resumed run")


def check_bad_state_is_refused(case: Case) -> None:
    """A state that lacks a key, has another shape or dtype, or belongs to other data is refused by name."""
    curriculum = case.curriculum(small_pool())
    run(curriculum, range(2))
    saved = curriculum.state_dict()
    for key in [key for key in saved if key.startswith(case.prefix)]:
        _refused(partial(curriculum.load_state_dict, {k: v for k, v in saved.items() if k != key}), key)
        _refused(partial(curriculum.load_state_dict, {**saved, key: np.zeros((7, 7, 7), saved[key].dtype)}), key)
        _refused(partial(curriculum.load_state_dict, {**saved, key: saved[key].astype(np.complex64)}), key)
    _refused(partial(curriculum.load_state_dict, {**saved, "stray.key": np.zeros(1)}), "stray.key")
    _refused(partial(case.curriculum(small_pool(list(range(20)))).load_state_dict, saved), "data set changed")
    expect(_equal(curriculum.state_dict()["ledger.group"], saved["ledger.group"]), "a refused state left traces")


def check_state_is_plain(case: Case) -> None:
    """State is arrays of numbers whose number does not depend on what was learned."""
    curriculum = case.curriculum(small_pool())
    before = curriculum.state_dict()
    run(curriculum, range(3))
    for key, array in curriculum.state_dict().items():
        expect(isinstance(array, np.ndarray) and array.dtype != object, f"state {key!r} is not a plain array")
        expect(array.dtype == before[key].dtype, f"state {key!r} changed its dtype while learning")
        expect(array.shape == before[key].shape or key in ("ledger.group", "ledger.plan"), f"state {key!r} changed its shape")


def check_each_group_counts_once(case: Case) -> None:
    """The same feedback again, in the same call or later, changes nothing but a counter."""
    one, other = case.curriculum(small_pool()), case.curriculum(small_pool())
    run(one, range(2))
    run(other, range(2))
    feedback = feedback_of(one, answer(one, one.plan(2, N_GROUPS, N_ROLLOUTS)))
    one.update(feedback)
    other.update([feedback, feedback])
    other.update(feedback)
    other._ledger = other._ledger._replace(n_repeated=one._ledger.n_repeated)
    _same_state(one, other, "after repeated feedback")


def check_packaging_and_order_do_not_matter(case: Case) -> None:
    """Feedbacks that arrive together are learned alike in any order; so are the rollouts of a group, and groups in two parcels."""
    curricula = [case.curriculum(small_pool()) for _ in range(3)]
    plans = [curricula[0].plan(step, N_GROUPS, N_ROLLOUTS, attempt) for step, attempt in ((0, 0), (0, 1), (1, 0))]
    feedbacks = [feedback_of(curricula[0], answer(curricula[0], plan)) for plan in plans]
    curricula[0].update(feedbacks)
    curricula[1].update(feedbacks[::-1])
    curricula[2].update([part for feedback in feedbacks for part in _parcels(_shuffled(feedback))])
    _same_state(curricula[0], curricula[1], "after reordered feedback")
    _same_state(curricula[0], curricula[2], "after feedback in parcels with shuffled rollouts")


def _shuffled(feedback: Feedback) -> Feedback:
    return take_rollouts(feedback, np.random.default_rng(0).permutation(len(feedback.outcome.group_R)))


def _parcels(feedback: Feedback) -> list[Feedback]:
    even = feedback.outcome.group_R % 2 == 0
    return [take_rollouts(feedback, np.flatnonzero(part)) for part in (~even, even)]


def take_rollouts(feedback: Feedback, rollout: np.ndarray) -> Feedback:
    """A feedback with only these rollouts, in this order."""
    outcome, verdict = feedback.outcome, feedback.verdict
    return Feedback(
        outcome.take(rollout),
        replace(verdict, carries_gradient_R=verdict.carries_gradient_R[rollout]),
        None if feedback.advantage_R is None else feedback.advantage_R[rollout],
    )


def check_late_missing_and_empty_feedback(case: Case) -> None:
    """Steps out of order, lost steps, partial, failed and empty groups: the curriculum goes on, and plans stay valid."""
    curriculum = case.curriculum(small_pool())
    plans = [curriculum.plan(step, N_GROUPS, N_ROLLOUTS) for step in range(5)]
    feedbacks = [feedback_of(curriculum, answer(curriculum, plan)) for plan in plans]
    curriculum.update(feedbacks[3])
    curriculum.update(feedbacks[1])  # late; step 2 never comes back
    curriculum.update(take_rollouts(feedbacks[0], np.flatnonzero(np.arange(len(feedbacks[0].outcome.group_R)) % 3 == 0)))
    curriculum.update(feedback_of(curriculum, _failed(feedbacks[4].outcome)))
    curriculum.update(take_rollouts(feedbacks[2], np.empty(0, dtype=np.int64)))
    curriculum.update([])
    _valid(curriculum, curriculum.plan(5, N_GROUPS, N_ROLLOUTS, attempt=1), N_GROUPS, N_ROLLOUTS)
    before = curriculum.state_dict()
    curriculum.update(feedback_of(curriculum, answer(curriculum, curriculum.plan(500, N_GROUPS, N_ROLLOUTS))))
    stale = take_rollouts(feedbacks[2], np.arange(len(feedbacks[2].outcome.group_R)))
    n_late = curriculum.metrics()["n_late_groups"]
    settled = curriculum.state_dict()
    curriculum.update(stale)
    expect(curriculum.metrics()["n_late_groups"] == n_late + N_GROUPS, "groups from long ago should be counted as late")
    after = curriculum.state_dict()
    for key in (key for key in before if key.startswith(case.prefix)):
        expect(_equal(settled[key], after[key]), f"a group from long ago changed {key!r}")


def _failed(outcome: Outcome) -> Outcome:
    """Every verifier broke; one rollout was scored after all."""
    status = np.full_like(outcome.status_R, Status.ERROR)
    status[0] = Status.OK
    reward: Floats = np.where(status == Status.OK, outcome.reward_R, np.nan)
    return replace(outcome, status_R=status, reward_R=reward)


def check_unscored_rollouts_are_not_zeros(case: Case) -> None:
    """A timeout is no failure of the policy: with failed rollouts beside them, scored ones teach what they teach alone."""
    one, other = case.curriculum(small_pool()), case.curriculum(small_pool())
    plan = one.plan(0, N_GROUPS, N_ROLLOUTS)
    outcome = answer(one, plan)
    half = np.arange(len(outcome.group_R)) % 2 == 0
    failed = replace(
        outcome,
        status_R=np.where(half, np.uint8(Status.OK), np.uint8(Status.TIMEOUT)),
        reward_R=np.where(half, outcome.reward_R, np.nan),
    )
    alone = take_rollouts(feedback_of(one, outcome), np.flatnonzero(half)).outcome
    expect((one.judge(failed).kept_B == other.judge(alone).kept_B).all(), "failed rollouts changed the verdict")
    expect(not one.judge(failed).carries_gradient_R[~half].any(), "a failed rollout carries gradient")
    one.update(feedback_of(one, failed))
    other.update(feedback_of(other, alone))
    expect(
        np.allclose(one.estimate(np.arange(23)).mean_B, other.estimate(np.arange(23)).mean_B), "failed rollouts count as failures"
    )


def check_pool_may_grow(case: Case) -> None:
    """With more prompts and a new distribution in mid-run, what was believed stays, plans are valid, state has the new shapes."""
    curriculum = case.curriculum(small_pool())
    run(curriculum, range(3))
    before, old = curriculum.estimate(np.arange(23)).mean_B, curriculum.pool
    ids = ["brand/00", *old.ids.tolist(), "brand/01", "easy/23", "tiny/24"]
    curriculum.grow(PromptPool.from_columns(ids, [name.partition("/")[0] for name in ids]))
    kept = np.allclose(curriculum.estimate(np.arange(1, 24)).mean_B, before)
    expect(kept or case.stage == "belief", "what was believed of the old prompts changed")
    for step in range(3, 6):
        plan = curriculum.plan(step, N_GROUPS, N_ROLLOUTS)
        _valid(curriculum, plan, N_GROUPS, N_ROLLOUTS + plan.n_carried)
        curriculum.update(feedback_of(curriculum, answer(curriculum, plan)))
    fresh = case.curriculum(curriculum.pool).state_dict()
    for key, array in curriculum.state_dict().items():
        expect(array.shape == fresh[key].shape or key in ("ledger.group", "ledger.plan"), f"state {key!r} kept an old shape")


def check_shaped_rewards_and_limits(case: Case) -> None:
    """A reward for every scored rollout and none for others, the same when asked twice, raw rewards untouched; limits >= 0.

    Advantages between cuts, where the policy gives them: the same when asked twice, none for rollouts without a reward.
    """
    curriculum = case.curriculum(small_pool())
    for step in range(3):
        plan = curriculum.plan(step, N_GROUPS, N_ROLLOUTS)
        expect((plan.max_tokens_B >= 0).all(), "a negative token limit")
        expect(
            (plan.max_turns_B == curriculum.plan(step, N_GROUPS, N_ROLLOUTS).max_turns_B).all(), "planned twice, the turns differ"
        )
        outcome = answer(curriculum, plan)
        status_R = np.where(np.arange(len(outcome.group_R)) % 3 == 0, np.uint8(Status.ERROR), np.uint8(Status.OK))
        outcome = replace(outcome, status_R=status_R, reward_R=np.where(status_R == Status.OK, outcome.reward_R, np.nan))
        raw_R, shaped_R = outcome.reward_R.copy(), curriculum.shape(outcome)
        expect(_equal(shaped_R, curriculum.shape(outcome)), "shaped twice, the rewards differ")
        expect((np.isfinite(shaped_R) == outcome.ok_R).all(), "a scored rollout without a shaped reward, or the reverse")
        expect(_equal(raw_R, outcome.reward_R), "the raw rewards were changed")
        _credits(curriculum, outcome)
        curriculum.update(feedback_of(curriculum, outcome))


def _credits(curriculum: Curriculum, outcome: Outcome) -> None:
    expect(outcome.plan.cuts == curriculum.plan(outcome.plan.step, N_GROUPS, N_ROLLOUTS).cuts, "planned twice, the cuts differ")
    place_R = np.arange(len(outcome.group_R))
    table_RS = (place_R[:, None] * (1 + np.arange(len(outcome.plan.cuts))) % 5) / 4
    outcome = replace(outcome, cut_score_RS=np.where(outcome.ok_R[:, None], table_RS, np.nan))
    verdict = curriculum.judge(outcome)
    credit_RS = curriculum.credit(outcome, verdict)
    expect(_equal(credit_RS, curriculum.credit(outcome, verdict)), "asked twice, the credit differs")
    expect(not credit_RS[~outcome.ok_R].any(), "a rollout without a reward has credit")


def check_rollouts_that_carry_gradient_were_kept(case: Case) -> None:
    """Only scored rollouts of kept groups carry gradient, and a weight is never negative."""
    curriculum = case.curriculum(small_pool())
    for step in range(4):
        outcome = answer(curriculum, curriculum.plan(step, N_GROUPS, N_ROLLOUTS))
        verdict = curriculum.judge(outcome)
        allowed_R = verdict.kept_B[outcome.group_R] & outcome.ok_R
        expect(
            not (verdict.carries_gradient_R & ~allowed_R).any(),
            "a rollout of a rejected group, or without reward, carries gradient",
        )
        curriculum.update(Feedback(outcome, verdict))


def check_signal_free_and_extreme_rewards(case: Case) -> None:
    """All rewards equal, rewards at the edges of double precision, unseen distributions: finite state, valid plans."""
    for low, high in ((0.0, 1.0), (-8e307, 8e307), (0.0, 1e-300)):
        for pattern in ((low, low), (high, high), (low, high)):
            curriculum = case.curriculum(small_pool())
            for step in range(5):
                outcome = answer(curriculum, curriculum.plan(step, 1 + step % N_GROUPS, N_ROLLOUTS))
                reward_R = np.resize(np.array(pattern), len(outcome.group_R))
                extreme = replace(outcome, reward_R=reward_R, reward_range=(low, high))
                curriculum.update(feedback_of(curriculum, extreme))
            _finite(curriculum)


def _finite(curriculum: Curriculum) -> None:
    plan = curriculum.plan(900, N_GROUPS, N_ROLLOUTS, attempt=1)
    _valid(curriculum, plan, N_GROUPS, N_ROLLOUTS)
    estimate = curriculum.estimate(np.arange(len(curriculum.pool)))
    expect(np.isfinite(estimate.mean_B).all() and (estimate.alpha_B >= 0).all(), "an estimate is not finite")
    for key, array in curriculum.state_dict().items():
        bad = array.dtype.kind == "f" and np.isinf(array).any()
        expect(not bad, f"state {key!r} holds an infinite number")


def check_inputs_are_not_changed(case: Case) -> None:
    """Policies neither write to what they are handed nor to their own hyper-parameters."""
    pool = small_pool()
    curriculum = case.curriculum(pool)
    distribution_N, prior_N, policy_before = pool.distribution_N.copy(), pool.prior_pass_rate_N.copy(), repr(case.policy)
    outcome = answer(curriculum, curriculum.plan(0, N_GROUPS, N_ROLLOUTS))
    reward_R, status_R, n_B = outcome.reward_R.copy(), outcome.status_R.copy(), outcome.plan.n_rollouts_B.copy()
    curriculum.update(feedback_of(curriculum, outcome))
    same = (reward_R == outcome.reward_R).all() and (status_R == outcome.status_R).all()
    expect(same and (n_B == outcome.plan.n_rollouts_B).all(), "the outcome was changed")
    expect(_equal(distribution_N, pool.distribution_N) and _equal(prior_N, pool.prior_pass_rate_N), "the pool was changed")
    expect(repr(case.policy) == policy_before, "the policy changed its own hyper-parameters")


def check_every_prompt_stays_reachable(case: Case) -> None:
    """Whatever was learned, the exploration floor brings every prompt back."""
    curriculum = case.curriculum(small_pool(), exploration=0.3)
    seen = np.zeros(23, dtype=np.bool_)
    for plan in run(curriculum, range(60), reward=lambda prompt, r: float(prompt.startswith("easy") and r % 2)):
        seen[plan.selection.prompt_B] = True
    expect(seen.all(), f"{np.count_nonzero(~seen)} of 23 prompts never came in 60 steps of {N_GROUPS} groups")


def check_a_million_prompts(case: Case) -> None:
    """Plans and learns on a million prompts, and a step keeps no memory that grows with the pool."""
    pool = _million()
    curriculum = case.curriculum(pool)
    _step(curriculum, 0)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for step in (1, 2):
        _step(curriculum, step)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    expect(grown < 4 * len(pool), f"two steps kept {grown / 1e6:.1f} MB")


def _million() -> PromptPool:
    if not _POOLS:
        n = 1_000_000
        _POOLS.append(PromptPool(np.arange(n).astype(np.str_), np.arange(n) % 10, tuple(f"level-{k}" for k in range(10))))
    return _POOLS[0]


_POOLS: list[PromptPool] = []


def _step(curriculum: Curriculum, step: int) -> None:
    plan = curriculum.plan(step, 64, 512)
    group_R = np.repeat(np.arange(len(plan)), plan.n_rollouts_B)
    reward_R = (np.arange(len(group_R)) % 2).astype(np.float64)
    outcome = Outcome(plan, group_R, reward_R, np.zeros(len(group_R), np.uint8), group_R * 0, group_R * 0)
    curriculum.update(feedback_of(curriculum, outcome))


CHECKS: tuple[Callable[[Case], None], ...] = tuple(
    check for name, check in list(globals().items()) if name.startswith("check_") and check is not check_policy
)
