"""Does the share of groups without signal grow or shrink over the run?"""

from __future__ import annotations

from replay.advise import register
from replay.advise.finding import Finding, Number, Suggestion, not_estimable, number
from replay.advise.groups import groups_of, visits_per_prompt
from replay.advise.intervals import Change, has_steps, thirds
from replay.types import LoggedRun

CHANGED = 0.05  # a smaller change moves the worth of a filter by less than the noise of a few steps
RETURNS = 2.0  # visits per prompt from which a prompt that was solved can be skipped at all


@register
def signal_over_time(run: LoggedRun) -> Finding | None:
    """First third of the steps against the last."""
    if "rejected groups" in run.lacks or not has_steps(run):
        lacks = [lack for lack in ("rejected groups",) if lack in run.lacks] + ([] if has_steps(run) else ["step"])
        return not_estimable("signal_over_time", "whether groups lose their signal over the run", lacks)
    groups = groups_of(run)
    dead = thirds(run, groups.dead_G)
    if dead is None or not dead.shows or abs(dead.difference.value) < CHANGED:
        return None
    right, wrong = thirds(run, groups.right_G), thirds(run, groups.wrong_G)
    grows = dead.difference.value > 0
    parts = [f"{what} {_arrow(part)}" for what, part in (("all right", right), ("all wrong", wrong)) if part is not None]
    return Finding(
        "signal_over_time",
        "medium" if grows else "low",
        f"The share of groups without signal {'grew' if grows else 'fell'} from {_arrow(dead)} between the first and the last "
        f"third of the steps ({', '.join(parts)}).",
        (
            number("change of the share without signal, last minus first third", "share of groups", dead.difference),
            *(_number(name, part) for name, part in (("all right", right), ("all wrong", wrong)) if part is not None),
        ),
        _suggestions(run, right) if grows else (),
        "no such change inside any one distribution: then the mix of distributions moved, not the model",
    )


def _arrow(change: Change) -> str:
    return f"{100 * change.first:.0f} to {100 * change.last:.0f} %"


def _number(name: str, change: Change) -> Number:
    return number(f"change of the share {name}", "share of groups", change.difference)


def _suggestions(run: LoggedRun, right: Change | None) -> tuple[Suggestion, ...]:
    solved = right is not None and right.difference.low > 0
    found = []
    if solved and visits_per_prompt(run) >= RETURNS:
        found.append(Suggestion("more and more groups are all right, and prompts come back: it skips those", recipe="greso"))
    if run.pool.n_distributions > 1:
        found.append(
            Suggestion("what a distribution is worth changes over the run: it forgets old results", recipe="discounted_ucb")
        )
    if not found:
        found.append(
            Suggestion("the prompts wear out and nothing can be chosen among them", change="add harder prompts, in levels")
        )
    return tuple(found)
