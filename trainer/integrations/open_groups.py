"""Hosts that draw prompts when they like and bring results back group by group: slime, prime-rl, SkyRL, OpenRLHF.

Such a host makes the same number of rollouts of every prompt and computes advantages itself, so a recipe may choose prompts and say
which groups are kept, and nothing else. What it cannot do is refused when the run starts, not after an hour.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from curricula import Curriculum, Feedback, RolloutPlan, Selection, step_of_group
from curricula.checkpoint import Arrays
from curricula.hosting import next_step, outcome_of
from curricula.registry import name_of
from curricula.types import CurriculaError, Floats, Ints, Outcome

BY_GROUP = ("keep_all", "nonzero_variance", "difficulty_band", "auto_band", "vcrl", "advantage_gate")  # ask one group at a time
PATIENCE = 64  # steps after which a group counts as lost; as long as the curriculum remembers
MOST_DRAWS = 256  # in one step
_STEP = "host.step"
_in_use: weakref.WeakSet[Curriculum] = weakref.WeakSet()


def refuse_other_version(package: str, tested: str) -> None:
    """CurriculaError unless the installed ``package`` is of the tested minor release, such as "0.3"."""
    try:
        installed = metadata.version(package)
    except metadata.PackageNotFoundError:
        raise CurriculaError(
            f"{package}: it is not installed as a package, so its version cannot be checked; pip install it"
        ) from None
    if installed.split(".")[:2] != tested.split("."):
        raise CurriculaError(
            f"{package} {installed}: this adapter is tested with {tested}.* and uses parts that change between releases; install "
            f"{package} {tested}, or an rl-curricula that names yours in docs/hosts.md"
        )


class Back(NamedTuple):
    """What came of one group."""

    group: int
    reward_R: Floats  # NaN where there is none
    n_tokens_R: Ints
    version_R: Ints  # learner updates that the weights had seen


class OpenGroups:
    """Groups that a host has drawn and not brought back, and results that the curriculum has not learned from yet.

    ``filters``: names of the filters that the host carries out. ``group_size``: its rollouts per prompt.
    Errors: CurriculaError where the recipe asks for what the host cannot do, or the curriculum steers another trainer.

    >>> from curricula.hosting import pool_of
    >>> groups = OpenGroups("demo", Curriculum.from_recipe("uniform", pool_of(["2+2=", "3+4=", "9*9="])), group_size=2)
    >>> for group in groups.draw(2).group_B:
    ...     _ = groups.bring(group, [0.0, 1.0], [5, 5])
    >>> groups.close()
    >>> groups.curriculum.metrics()["n_seen_prompts"]
    2.0
    """

    def __init__(
        self,
        host: str,
        curriculum: Curriculum,
        group_size: int,
        reward_range: tuple[float, float] = (0.0, 1.0),
        filters: Sequence[str] = ("keep_all",),
    ) -> None:
        _refuse_stages(host, curriculum, filters)
        if group_size < 2:
            raise CurriculaError(f"{host}: {group_size} rollouts per prompt; a group needs two, so that they can be compared")
        if curriculum in _in_use:
            raise CurriculaError(f"{host}: this curriculum steers another trainer already; give each trainer its own")
        _in_use.add(curriculum)
        self.curriculum = curriculum
        self.step = next_step(curriculum)
        self._host = host
        self._group_size = group_size
        self._reward_range = reward_range
        self._n_draws = 0  # of this step
        self._taken: set[int] = set()  # rows drawn in this step
        self._open: dict[int, tuple[RolloutPlan, int]] = {}  # plan and place by group id
        self._back: dict[int, tuple[RolloutPlan, int, Back]] = {}
        self._n_stray = 0
        self._n_lost = 0

    # --- out ----------------------------------------------------------------------------------------------------------------------

    def draw(self, n_groups: int) -> RolloutPlan:
        """The next ``n_groups`` prompts of this step: those in flight and those that it had are not among them.

        Errors: CurriculaError when the pool has fewer prompts that are free, or draw after draw brings no result.
        """
        if self._n_draws == MOST_DRAWS:
            raise CurriculaError(
                f"{self._host}: {MOST_DRAWS} draws in step {self.step}, and the step never closed: no result comes back; check "
                "that the host calls every hook of docs/hosts.md"
            )
        n_rollouts, n_prompts = n_groups * self._group_size, len(self.curriculum.pool)
        while len(exclude := self._busy()) > n_prompts - n_groups and self._give_up_oldest():
            pass
        plan = self.curriculum.plan(self.step, n_groups, n_rollouts, self._n_draws, sorted(exclude))
        if len(plan) < n_groups:
            raise CurriculaError(
                f"{self._host}: it asks for {n_groups} prompts, and {n_prompts - len(exclude)} of {n_prompts} are free (the others "
                "had their turn in this step); lower the batch or the oversampling, or add prompts"
            )
        plan = self.curriculum.plan_for(plan.selection, self.step, n_rollouts, self._n_draws)  # nothing is carried over
        self._n_draws += 1
        self._taken |= set(plan.selection.prompt_B.tolist())
        self._open |= {int(group): (plan, place) for place, group in enumerate(plan.group_B)}
        return plan

    def _busy(self) -> set[int]:
        """Rows that may not be drawn now."""
        return self._taken | {int(plan.selection.prompt_B[place]) for plan, place in self._open.values()}

    def _give_up_oldest(self) -> bool:
        """A pool that runs short takes back the prompt of the group that is out the longest, if it is of an earlier step."""
        oldest = min(self._open, default=None)
        if oldest is None or self._open[oldest][0].step == self.step:
            return False
        del self._open[oldest]
        self._n_lost += 1
        return True

    def group_of(self, row: int) -> int | None:
        """The open group of a prompt, by row of the pool; there is one at most."""
        return next((group for group, (plan, place) in self._open.items() if plan.selection.prompt_B[place] == row), None)

    # --- back ---------------------------------------------------------------------------------------------------------------------

    def bring(
        self, group: int, reward_R: ArrayLike, n_tokens_R: ArrayLike, version_R: ArrayLike | None = None, row: int | None = None
    ) -> bool:
        """All rollouts of one group (R), NaN for one without a reward; whether the recipe keeps the group.

        A group counts once: what comes again, or too late, is counted as stray. ``row``: whose it is, as the host says.
        Errors: CurriculaError for a group that was never drawn, or is of another prompt.
        """
        if group not in self._open:
            if group < 0 or step_of_group(np.asarray(group)) > self.step:
                raise CurriculaError(f"{self._host}: results of group {group}, which was never drawn; is its id lost on the way?")
            self.count_stray()
            return group in self._back and self._kept(*self._back[group])
        plan, place = self._open[group]
        if row is not None and plan.selection.prompt_B[place] != row:
            raise CurriculaError(
                f"{self._host}: group {group} was drawn for prompt {self._id(plan.selection.prompt_B[place])!r}, and its results "
                f"are of {self._id(row)!r}; something between generation and this hook mixes groups"
            )
        back = self._back_of(group, reward_R, n_tokens_R, version_R)
        kept = self._kept(plan, place, back)
        self._back[group] = self._open.pop(group)[0], place, back
        return kept

    def count_stray(self) -> None:
        """Results came of a group that is not open any more: they are counted, not learned from."""
        self._n_stray += 1

    def keeps(self, group: int, reward_R: ArrayLike, n_tokens_R: ArrayLike, version_R: ArrayLike | None = None) -> bool:
        """Whether the recipe keeps a group; nothing else happens to it. One that is not open is dropped."""
        if group not in self._open:
            return False
        return self._kept(*self._open[group], self._back_of(group, reward_R, n_tokens_R, version_R))

    def learn(self) -> None:
        """Tell the curriculum what came, kept or not, before the host trains on it."""
        plans = {id(plan): plan for plan, _, _ in self._back.values()}
        feedbacks = []
        for key, plan in plans.items():
            mine = sorted((place, back) for one, place, back in self._back.values() if id(one) == key)
            outcome = self._outcome(plan, [place for place, _ in mine], [back for _, back in mine])
            feedbacks.append(Feedback(outcome, self.curriculum.judge(outcome)))
        self.curriculum.update(feedbacks)
        self._back.clear()

    def close(self, keep_open: bool = False) -> None:
        """The step has what it needs: learn from it, go on to the next one, and give up what is not back unless told otherwise."""
        self.learn()
        self.step += 1
        self._n_draws = 0
        self._taken.clear()
        lost = [group for group, (plan, _) in self._open.items() if not keep_open or plan.step <= self.step - PATIENCE]
        for group in lost:
            del self._open[group]
        self._n_lost += len(lost)

    # --- state --------------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> Arrays:
        """The curriculum's arrays and the step. Groups in flight are not in it: no host restores those."""
        self.learn()
        return self.curriculum.state_dict() | {_STEP: np.array(self.next_step)}

    @property
    def next_step(self) -> int:
        """The first step that nothing was drawn for: what a resumed run begins with."""
        return self.step + bool(self._n_draws)

    def load_state_dict(self, arrays: Arrays) -> None:
        """Take up a saved state.

        Errors: CurriculaError when it belongs to another data set or recipe, or is none.
        """
        if _STEP not in arrays:
            raise CurriculaError(f"{self._host}: the saved state has no {_STEP!r}; the checkpoint was written without a curriculum")
        self.curriculum.load_state_dict({key: value for key, value in arrays.items() if key != _STEP})
        self.resume_at(int(arrays[_STEP]))

    def resume_at(self, step: int) -> None:
        """Go on with this step, with nothing in flight."""
        self.step, self._n_draws = step, 0
        for column in (self._taken, self._open, self._back):
            column.clear()

    def metrics(self) -> dict[str, float]:
        """The curriculum's, groups in flight, groups that came too late or again, and groups that were given up."""
        counted = {"n_open_groups": len(self._open), "n_stray_groups": self._n_stray, "n_lost_groups": self._n_lost}
        return self.curriculum.metrics() | {name: float(value) for name, value in counted.items()}

    def _back_of(self, group: int, reward_R: ArrayLike, n_tokens_R: ArrayLike, version_R: ArrayLike | None) -> Back:
        reward, n_tokens = np.asarray(reward_R, dtype=np.float64), np.asarray(n_tokens_R, dtype=np.int64)
        return Back(
            group, reward, n_tokens, np.full(len(reward), self.step) if version_R is None else np.asarray(version_R, np.int64)
        )

    def _kept(self, plan: RolloutPlan, place: int, back: Back) -> bool:
        return bool(self.curriculum.judge(self._outcome(plan, [place], [back])).kept_B[0])

    def _outcome(self, plan: RolloutPlan, places: Sequence[int], backs: Sequence[Back]) -> Outcome:
        part = _part(plan, np.asarray(places, dtype=np.int64), np.array([len(back.reward_R) for back in backs], dtype=np.int64))
        reward_R, n_tokens_R, version_R = (
            np.concatenate(column)
            for column in zip(*((back.reward_R, back.n_tokens_R, back.version_R) for back in backs), strict=True)
        )
        whole = outcome_of(part, reward_R, n_tokens_R, np.zeros(len(reward_R), np.bool_), 0, self._reward_range)
        return replace(whole, policy_version_R=version_R)

    def _id(self, row: int) -> str:
        return str(self.curriculum.pool.ids[row])


def _part(plan: RolloutPlan, place: Ints, n_B: Ints) -> RolloutPlan:
    """The plan of these groups alone, with so many rollouts each."""
    columns = ("group_B", "max_tokens_B", "greedy_B", "max_turns_B", "stated_tokens_B")
    chosen = plan.selection
    return replace(
        plan,
        selection=Selection(chosen.prompt_B[place], chosen.distribution_B[place], chosen.propensity_B[place]),
        n_rollouts_B=n_B,
        **{name: getattr(plan, name)[place] for name in columns},
    )


def _refuse_stages(host: str, curriculum: Curriculum, filters: Sequence[str]) -> None:
    """CurriculaError naming the first policy that needs more than choosing prompts and keeping groups."""
    stages = curriculum.stages
    able = {
        "budget": (("even",), "it makes the same number of rollouts of every prompt"),
        "shaping": (("raw",), "it computes advantages from its own rewards and has one token limit"),
        "downsampling": (("none",), "it trains on every rollout of a kept group"),
    }
    for stage, (names, why) in able.items():
        if (name := name_of(stage, getattr(stages, stage))) not in names:
            raise CurriculaError(f"{host}: the recipe's {stage} is {name!r}, but {why}; set {stage}: {names[0]}")
    judge: Any = stages.filter
    while (name := name_of("filter", judge)) == "top_up":  # hosts refill in waves of their own size
        judge = judge.inner
    if name not in filters:
        raise CurriculaError(
            f"{host}: the recipe's filter is {name!r}, and as the host is configured it carries out {', '.join(filters)}; change "
            "the recipe, or the host's settings by docs/hosts.md"
        )
