"""What the knapsack would have spent on each group, knowing the earlier visits only, against what was spent."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from curricula.budget.knapsack import Knapsack
from curricula.types import Bools, Estimate, Floats, Ints
from replay.advise import register
from replay.advise.beta_model import Spread, fitted, predicted_live
from replay.advise.finding import Finding, Number, Suggestion, counted, not_estimable, number
from replay.advise.groups import groups_of, visits_per_prompt
from replay.advise.intervals import Measured, has_steps, ratio
from replay.subsampling import Tally, live
from replay.types import LoggedRun

# visits per prompt. docs/choosing.md: it won at 30 and tied at 3 and fewer
OFTEN = 30.0
MISS = 0.03  # the model is not believed where it misses the live share of the groups that it would enlarge, as logged, by more
RETURNS = 3.0  # visits per prompt from which an earlier one is there more often than not
FORGETTING = 0.1  # per visit, of what earlier visits said: the best of those tried on a real history of pass rates
MOST_STEPS = 200  # evenly spaced, of the later half, are reckoned; more would only shorten the interval
MOVED = 0.05  # of the rollouts: a budget that moves fewer is the even split


class Replayed(NamedTuple):
    """The reckoned groups: what was spent, what the knapsack would spend, and the expected live share under each."""

    step_G: Ints
    spent_G: Ints
    budget_G: Ints
    live_G: Floats  # at the logged size: as it came
    live_budget_G: Floats  # exact up to the logged size, a prediction beyond it
    exact_G: Bools
    predicted_G: Floats  # the model at the logged size: its check


@register
def budgets(run: LoggedRun) -> Finding | None:
    """Live groups and rollouts in live groups at the knapsack's budgets and at the logged ones, same rollouts in every step."""
    groups = groups_of(run)
    if not groups.binary or visits_per_prompt(run) < RETURNS:
        return None
    lacks = [lack for lack in ("fixed budget", "rejected groups") if lack in run.lacks] + ([] if has_steps(run) else ["step"])
    if lacks:
        return not_estimable("budgets", "what the knapsack would have spent where", lacks)
    spread = fitted(groups.tally)
    if spread is None:
        return None
    done = _replayed(run, spread)
    if len(done.step_G) == 0:
        return None
    moved = np.abs(done.budget_G - done.spent_G).sum() / 2 / done.spent_G.sum()
    if moved < MOVED:
        return None
    one = np.ones(len(done.step_G))
    of_groups = _gain(done, done.live_budget_G - done.live_G, one)
    of_rollouts = _gain(done, done.budget_G * done.live_budget_G - done.spent_G * done.live_G, done.spent_G.astype(np.float64))
    often = visits_per_prompt(run) >= OFTEN
    miss = float((done.predicted_G - done.live_G)[~done.exact_G].mean()) if not done.exact_G.all() else 0.0
    helps = of_rollouts.low > 0 and of_groups.low > 0 and abs(miss) <= MISS
    exact = float(done.exact_G.mean())
    gains = [f"{100 * gain.value:+.1f} points [{100 * gain.low:+.1f}, {100 * gain.high:+.1f}]" for gain in (of_groups, of_rollouts)]
    return Finding(
        "budgets",
        "medium" if helps and often else "low",
        f"Knowing the earlier visits, the knapsack would have moved {100 * moved:.0f} % of the rollouts. Predicted at equal "
        f"rollouts: live groups {gains[0]}, rollouts in live groups {gains[1]}. {100 * exact:.0f} % of the groups are exact, the "
        "larger ones a model's prediction.",
        (
            counted("rollouts that the knapsack would move", moved, "share of rollouts", int(done.spent_G.sum()), "rollouts"),
            number("gain in live groups", "share of groups", of_groups, "model"),
            number("gain in rollouts of live groups", "share of rollouts", of_rollouts, "model"),
            counted("groups for which the log has enough rollouts", exact, "share of groups", len(done.step_G), "groups"),
            counted(
                "the model less the log, in groups that would grow, at their logged size",
                miss,
                "share of groups",
                int((~done.exact_G).sum()),
                "groups",
            ),
            *_check(done),
        ),
        (_suggestion(helps, often),),
        "live shares of a knapsack run that are no higher than those of even groups at equal rollouts",
    )


def _suggestion(helps: bool, often: bool) -> Suggestion:
    if helps and often:
        return Suggestion("prompts come back often and it predicts more signal; its belief decides", recipe="knapsack")
    if helps:
        return Suggestion("even groups: prompts come back more rarely than where the knapsack won in our maps", recipe="uniform")
    return Suggestion("even groups: no gain of uneven ones can be shown here", recipe="uniform")


def _gain(done: Replayed, gain_G: Floats, weight_G: Floats) -> Measured:
    return ratio(gain_G, weight_G, done.step_G, "steps", (-1, 1))


def _check(done: Replayed) -> tuple[Number, ...]:
    """The exact part alone: groups that the knapsack would make smaller, or leave."""
    smaller = done.exact_G
    if not smaller.any():
        return ()
    lost = ratio(
        done.live_budget_G[smaller] - done.live_G[smaller], np.ones(int(smaller.sum())), done.step_G[smaller], "steps", (-1, 1)
    )
    return (number("change of the live share in groups that would shrink or stay", "share of groups", lost, "exact"),)


def _replayed(run: LoggedRun, spread: Spread) -> Replayed:
    groups = groups_of(run)
    alpha_G, beta_G = _beliefs(run, groups.tally, spread)
    steps = np.unique(run.step_G)
    chosen = steps[
        np.unique(np.linspace(len(steps) // 2, len(steps) - 1, MOST_STEPS).astype(np.int64))
    ]  # later ones: earlier visits exist
    at = np.flatnonzero(np.isin(run.step_G, chosen) & groups.judged_G)
    at = at[np.argsort(run.step_G[at], kind="stable")]
    spent, budget = groups.n_G[at], np.zeros(len(at), dtype=np.int64)
    starts = np.flatnonzero(np.diff(run.step_G[at], prepend=-1))
    for first, last in zip(starts, np.append(starts[1:], len(at)), strict=True):
        here = slice(first, last)
        budget[here] = Knapsack().shares(Estimate(alpha_G[at[here]], beta_G[at[here]]), int(spent[here].sum()))
    tally = Tally(groups.n_G[at], groups.tally.k_G[at])
    exact = budget <= spent
    value, check = np.zeros(len(at)), np.zeros(len(at))
    for n in np.unique(spent).tolist():
        same = spent == n
        check[same] = predicted_live(alpha_G[at[same]], beta_G[at[same]], n)
    for n in np.unique(budget[budget > 1]).tolist():
        same = budget == n
        inside, beyond = same & exact, same & ~exact
        value[inside] = live(Tally(tally.n_G[inside], tally.k_G[inside]), n)
        value[beyond] = predicted_live(alpha_G[at[beyond]], beta_G[at[beyond]], n)
    return Replayed(run.step_G[at], spent, budget, 1.0 - groups.dead_G[at], value, exact, check)


def _beliefs(run: LoggedRun, groups: Tally, spread: Spread) -> tuple[Floats, Floats]:
    """(G,) alpha and beta before each group: the log's own spread and the discounted earlier visits of its prompt."""
    order = np.lexsort((run.attempt_G, run.step_G, run.prompt_G))
    prompt = run.prompt_G[order]
    start = np.flatnonzero(np.diff(prompt, prepend=-1))
    length = np.diff(np.append(start, len(prompt)))
    successes, failures = groups.k_G[order].astype(np.float64), (groups.n_G - groups.k_G)[order].astype(np.float64)
    before = np.zeros((2, len(order)))
    longest_first = np.argsort(-length, kind="stable")
    start, length = start[longest_first], length[longest_first]
    for visit in range(1, int(length.max(initial=0))):
        start = start[: int(np.searchsorted(-length[: len(start)], -visit, side="left"))]  # prompts with more visits than this
        at = start + visit
        before[0, at] = (1 - FORGETTING) * before[0, at - 1] + successes[at - 1]
        before[1, at] = (1 - FORGETTING) * before[1, at - 1] + failures[at - 1]
    alpha_G, beta_G = np.empty(len(order)), np.empty(len(order))
    alpha_G[order], beta_G[order] = spread.alpha + before[0], spread.beta + before[1]
    return alpha_G, beta_G
