"""One step's rollouts: plan, roll out, verify, judge, and refill the places of rejected groups."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from curricula import Curriculum
from curricula.refill import wanted_groups
from curricula.types import CurriculaError, Cuts, Floats, Outcome, Reason, RolloutPlan, Status
from rollout.budget_note import BudgetNote
from rollout.producer import Producer
from rollout.prompts import Prompt, PromptSet
from rollout.settings import RolloutSettings
from rollout.summaries import scores_at_cuts
from rollout.turns import request_seed
from rollout.types import Attempt, Judged, Request, Sampling, Ticket

PART = 32  # rollouts of one request at most, so that one large group spreads over the engines
GREEDY_PART = 2**20  # the ticket's part for a group's greedy completion: no group is split into so many


@dataclass(frozen=True, eq=False)
class EncodedPrompts:
    """A prompt set with its token ids, row for row, and what tells a model the token budget that a plan states."""

    prompt_set: PromptSet
    ids_N: Sequence[tuple[int, ...]]
    note: BudgetNote | None = None
    trained_as: Mapping[int, int] = field(default_factory=dict)  # by row of a hinted prompt: the row whose tokens are trained on

    def ids(self, plan: RolloutPlan, b: int) -> tuple[int, ...]:
        """What the model reads in a group of a plan: the prompt, and the note of its budget where one is stated."""
        return self._noted(int(plan.selection.prompt_B[b]), int(plan.stated_tokens_B[b]))

    def trained_ids(self, plan: RolloutPlan, b: int) -> tuple[int, ...]:
        """What the learner's sequences of the group begin with: the same, but a hinted prompt is trained as its parent."""
        row = int(plan.selection.prompt_B[b])
        return self._noted(self.trained_as.get(row, row), int(plan.stated_tokens_B[b]))

    def with_children(self, more: EncodedPrompts, trained_as: Mapping[int, int]) -> EncodedPrompts:
        """These prompts, and others behind them."""
        prompts = PromptSet([*self.prompt_set.prompts, *more.prompt_set.prompts], self.prompt_set.reward)
        return EncodedPrompts(prompts, [*self.ids_N, *more.ids_N], self.note, {**self.trained_as, **trained_as})

    def _noted(self, row: int, stated: int) -> tuple[int, ...]:
        if self.note is None or not stated:
            return self.ids_N[row]
        return self.note.added(self.prompt_set.prompts[row], self.ids_N[row], stated)


class Collector:
    """Runs attempts until the step has its groups, its attempts are used up, or its rollout cap is reached.

    Attempts follow one another and every plan depends on finished verdicts alone, never on which engine was faster: that keeps
    a resumed run on the same plans. Groups are admitted in plan order, so short completions are not preferred.
    """

    def __init__(
        self, curriculum: Curriculum, prompts: EncodedPrompts, producer: Producer, settings: RolloutSettings, seed: int
    ) -> None:
        self._curriculum = curriculum
        self._prompts = prompts
        self._producer = producer
        self._settings = settings
        self._seed = seed
        self._deciding_s = 0.0

    def collect(self, step: int, exclude: Sequence[int] = ()) -> list[Attempt]:
        """All attempts of a step, in order; prompts in ``exclude`` (in flight elsewhere) are not planned."""
        attempts: list[Attempt] = []
        while (n_groups := self._groups_wanted(attempts)) > 0:
            taken = [*exclude, *(int(i) for attempt in attempts for i in attempt.plan.selection.prompt_B)]
            n_rollouts = n_groups * self._settings.rollouts_per_group
            with self._deciding():
                plan = self._curriculum.plan(step, n_groups, n_rollouts, attempt=len(attempts), exclude=taken)
            if len(plan) == 0:  # the pool has no prompt left for this step
                break
            if self._prompts.note is None:  # the log is to say what models were told
                plan = replace(plan, stated_tokens_B=np.zeros(len(plan), np.int64))
            attempts.append(self._run(plan))
        attempts = admit(attempts, self._settings.groups_per_step)
        self._refuse_failures(step, attempts)
        return attempts

    def take_prompts(self, prompts: EncodedPrompts) -> None:
        """Go on with a larger set; call it together with `Curriculum.grow`, between two steps."""
        self._prompts = prompts

    def take_deciding_s(self) -> float:
        """Seconds that the curriculum's decisions took since the last call."""
        seconds, self._deciding_s = self._deciding_s, 0.0
        return seconds

    @contextmanager
    def _deciding(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._deciding_s += time.perf_counter() - start

    def _groups_wanted(self, attempts: Sequence[Attempt]) -> int:
        settings = self._settings
        if not attempts:
            return settings.groups_per_step
        if len(attempts) >= settings.max_attempts:
            return 0
        spent = sum(attempt.plan.n_completions for attempt in attempts)
        affordable = (settings.rollout_cap - spent) // settings.rollouts_per_group
        return min(wanted_groups([attempt.verdict for attempt in attempts], settings.groups_per_step), affordable)

    def _run(self, plan: RolloutPlan) -> Attempt:
        judged_B: list[list[Judged]] = [[] for _ in range(len(plan))]
        greedy_B: list[Judged | None] = [None] * len(plan)
        this_round: RolloutPlan | None = plan
        while this_round is not None:
            for b, (judged, greedy) in enumerate(self._roll_out(this_round)):
                judged_B[b].extend(judged)
                greedy_B[b] = greedy or greedy_B[b]
            if this_round is not plan:
                plan = plan.joined(this_round)
            outcome = outcome_of(plan, judged_B, self._reward_range, greedy_B)
            with self._deciding():
                this_round = self._curriculum.extend(outcome)
        with self._deciding():
            verdict = self._curriculum.judge(outcome)
            shaped_R = self._curriculum.shape(outcome)
            credit_RS = self._curriculum.credit(outcome, verdict)
            baseline_B = self._shaped_baselines(plan, greedy_B)
        return Attempt(plan, judged_B, outcome, verdict, shaped_R, greedy_B, baseline_B, credit_RS)

    def _shaped_baselines(self, plan: RolloutPlan, greedy_B: Sequence[Judged | None]) -> Floats:
        """(B,) the greedy completions' rewards by the shaping policy, as if each were the one rollout of its group."""
        baseline_B = np.full(len(plan), np.nan)
        if any(greedy_B):
            alone = outcome_of(plan, [[greedy] if greedy else [] for greedy in greedy_B], self._reward_range)
            baseline_B[alone.group_R] = self._curriculum.shape(alone)
        return baseline_B

    def _roll_out(self, plan: RolloutPlan) -> list[tuple[list[Judged], Judged | None]]:
        """The rollouts of each group, and its greedy completion where one was asked for."""
        requests: list[Request] = []
        prompt_of: dict[Ticket, Prompt] = {}
        for b in range(len(plan)):
            asked = self._requests(plan, b)
            requests += asked
            prompt_of |= dict.fromkeys((request.ticket for request in asked), self._prompt(plan, b))
        judged = self._producer.produce(requests, prompt_of)
        groups: dict[int, list[Judged]] = {int(group): [] for group in plan.group_B}
        greedy: dict[int, Judged] = {}
        for ticket in sorted(judged):
            if ticket.part == GREEDY_PART:
                (greedy[ticket.group],) = judged[ticket]
            else:
                groups[ticket.group].extend(judged[ticket])
        return [(group, greedy.get(name)) for name, group in groups.items()]

    def _requests(self, plan: RolloutPlan, b: int) -> list[Request]:
        n, row = int(plan.n_rollouts_B[b]), int(plan.selection.prompt_B[b])
        sampling = limited(self._settings.sampling, int(plan.max_tokens_B[b]))
        asked = [(part, min(PART, n - part * PART), sampling) for part in range(math.ceil(n / PART))]
        if plan.greedy_B[b]:
            asked.append((GREEDY_PART, 1, replace(sampling, temperature=0.0)))
        requests = []
        for part, n_of_part, sampling_of_part in asked:
            ticket = Ticket(int(plan.group_B[b]), plan.round, part)
            requests.append(
                Request(
                    ticket=ticket,
                    prompt_ids=self._prompts.ids(plan, b),
                    n=n_of_part,
                    sampling=sampling_of_part,
                    seed=request_seed(self._seed, ticket),
                    prompt_key=self._prompts.prompt_set.prompts[row].id,
                    max_turns=int(plan.max_turns_B[b]),
                    cuts=plan.cuts if part != GREEDY_PART else Cuts(),
                )
            )
        return requests

    def _prompt(self, plan: RolloutPlan, b: int) -> Prompt:
        return self._prompts.prompt_set.prompts[int(plan.selection.prompt_B[b])]

    @property
    def _reward_range(self) -> tuple[float, float]:
        reward = self._prompts.prompt_set.reward
        return reward.low, reward.high

    def _refuse_failures(self, step: int, attempts: Sequence[Attempt]) -> None:
        rollouts = [judged for attempt in attempts for group in attempt.judged_B for judged in group]
        summaries = [summary for judged in rollouts for behind in judged.summaries.values() for summary in behind]
        kinds = "rollouts and summaries" if summaries else "rollouts"
        rollouts += summaries
        rollouts += [greedy for attempt in attempts for greedy in attempt.greedy_B if greedy]
        failed = [judged for judged in rollouts if judged.status not in (Status.OK, Status.TRUNCATED)]
        limit = self._settings.verifier.max_failure_share
        if rollouts and len(failed) > limit * len(rollouts):
            counts = ", ".join(
                f"{n} {Status(status).name.lower()}" for status, n in Counter(judged.status for judged in failed).most_common()
            )
            detail = next((judged.detail for judged in failed if judged.detail), "none given")
            raise CurriculaError(
                f"step {step}: {len(failed)} of {len(rollouts)} {kinds} have no reward ({counts}), more than "
                f"rollout.verifier.max_failure_share = {limit:g}; first reason: {detail}; mend the reward function "
                f"{self._prompts.prompt_set.reward.name!r} or raise the limit, then run again with --resume"
            )


def limited(sampling: Sampling, max_tokens: int) -> Sampling:
    """The recipe's sampling with a group's own limit on completions: never above the recipe's, which 0 stands for."""
    return replace(sampling, max_tokens=max_tokens) if 0 < max_tokens < sampling.max_tokens else sampling


def outcome_of(
    plan: RolloutPlan,
    judged_B: Sequence[Sequence[Judged]],
    reward_range: tuple[float, float],
    greedy_B: Sequence[Judged | None] = (),
) -> Outcome:
    """The numbers of judged completions, group by group; ``greedy_B`` are the groups' greedy completions, if any were asked for."""
    baselines = [greedy.reward if greedy else math.nan for greedy in greedy_B] or [math.nan] * len(plan)
    flat = [(b, judged) for b, group in enumerate(judged_B) for judged in group]
    return Outcome(
        plan=plan,
        group_R=np.array([b for b, _ in flat], dtype=np.int64),
        reward_R=np.array([judged.reward for _, judged in flat], dtype=np.float64),
        status_R=np.array([judged.status for _, judged in flat], dtype=np.uint8),
        n_tokens_R=np.array([judged.completion.n_drawn for _, judged in flat], dtype=np.int64),
        policy_version_R=np.array([judged.policy_version for _, judged in flat], dtype=np.int64),
        reward_range=reward_range,
        n_turns_R=np.array([judged.completion.n_turns for _, judged in flat], dtype=np.int64),
        baseline_B=np.array(baselines, dtype=np.float64),
        cut_score_RS=scores_at_cuts([judged for _, judged in flat], plan.cuts),
    )


def admit(attempts: Sequence[Attempt], n_groups: int) -> list[Attempt]:
    """The first ``n_groups`` kept groups in plan order stay; what was kept beyond them becomes SURPLUS."""
    admitted, room = [], n_groups
    for attempt in attempts:
        verdict = attempt.verdict
        stays_B = verdict.kept_B & (np.cumsum(verdict.kept_B) <= room)
        room -= int(stays_B.sum())
        surplus_B = verdict.kept_B & ~stays_B
        if surplus_B.any():
            verdict = replace(
                verdict,
                kept_B=stays_B,
                reason_B=np.where(surplus_B, Reason.SURPLUS, verdict.reason_B),
                carries_gradient_R=verdict.carries_gradient_R & stays_B[attempt.outcome.group_R],
            )
        admitted.append(replace(attempt, verdict=verdict))
    return admitted
