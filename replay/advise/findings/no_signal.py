"""Groups whose scores are all equal: rollouts that were paid for and say nothing relative to their group."""

from __future__ import annotations

import numpy as np

from replay.advise import register
from replay.advise.finding import Finding, Number, Suggestion, listed, not_estimable, number, percent
from replay.advise.groups import MIN_GROUPS, Groups, distributions, groups_of, of_distribution
from replay.advise.intervals import Measured, mean_of
from replay.types import LoggedRun

LITTLE = 0.10  # share of groups without signal below which leaving all of them out would save a tenth of the rollouts at most
MUCH = 0.40  # from here on the cost of filtering them is 1.7 rollouts drawn per rollout trained on
APART = 0.10  # a distribution is named where its share lies this far above the whole run's


@register
def no_signal(run: LoggedRun) -> Finding | None:
    """Share of groups, rollouts and tokens without group-relative signal, overall and by distribution."""
    groups = groups_of(run)
    if not groups.judged_G.any():
        return not_estimable("no_signal", "which groups carry signal", ["groups with two scored rollouts"])
    dead = mean_of(run, groups.dead_G)
    evidence = _evidence(run, groups, dead)
    if "rejected groups" in run.lacks:
        return not_estimable("no_signal", "how many of the groups that were drawn carry signal", ["rejected groups"], evidence)
    if dead.value <= LITTLE:
        return None
    wrong, right = (mean_of(run, value) for value in (groups.wrong_G, groups.right_G))
    sentence = (
        f"{percent(dead)} of the groups had equal scores and so no group-relative signal: {percent(wrong)} all wrong, "
        f"{percent(right)} all right. Leaving them out saves at most what was spent on them."
    )
    if worse := _worse(run, groups, dead.value):
        names = [f"{run.pool.distribution_names[k]} {100 * share:.0f} %" for k, share in worse]
        sentence += f" More than elsewhere in {listed(names)}."
    return Finding(
        "no_signal",
        "high" if dead.low > MUCH else "medium",
        sentence,
        evidence + _worst(run, groups, worse),
        (
            Suggestion(
                f"updates of full batches of live groups; each rollout trained on would have cost {1 / (1 - dead.value):.2g} "
                "drawn ones here, so compare with uniform at equal rollouts",
                recipe="nonzero_variance",
            ),
            Suggestion("the same run without any selection: the control of every other suggestion", recipe="uniform"),
        )
        if dead.value < 1
        else (Suggestion("no group has signal, so no choice among these prompts finds any", change="easier or harder prompts"),),
        "a log of the same prompts and weights in which the share is small; or a trainer whose advantage is not relative to the "
        "group",
    )


def _evidence(run: LoggedRun, groups: Groups, dead: Measured) -> tuple[Number, ...]:
    numbers = [number("groups without signal", "share of groups", dead)]
    of_rollouts = mean_of(run, groups.dead_G, groups.size_G)
    numbers.append(number("rollouts in such groups", "share of rollouts", of_rollouts))
    if "tokens" not in run.lacks and np.isfinite(groups.tokens_G).any():
        numbers.append(number("tokens in such groups", "share of tokens", mean_of(run, groups.dead_G, groups.tokens_G)))
    numbers.append(number("all wrong", "share of groups", mean_of(run, groups.wrong_G)))
    numbers.append(number("all right", "share of groups", mean_of(run, groups.right_G)))
    return tuple(numbers)


def _worse(run: LoggedRun, groups: Groups, overall: float) -> list[tuple[int, float]]:
    """Distributions with clearly more such groups, most first."""
    share_K, n_K = distributions(run, groups.dead_G)
    above = np.flatnonzero((n_K >= MIN_GROUPS) & (np.nan_to_num(share_K) > overall + APART))
    return sorted(((int(k), float(share_K[k])) for k in above), key=lambda pair: -pair[1])


def _worst(run: LoggedRun, groups: Groups, worse: list[tuple[int, float]]) -> tuple[Number, ...]:
    return tuple(
        number(
            f"groups without signal in {run.pool.distribution_names[k]}",
            "share of groups",
            mean_of(run, of_distribution(run, groups.dead_G, k)),
        )
        for k, _ in worse[:5]
    )
