"""Completions that ended at the token limit."""

from __future__ import annotations

import numpy as np

from curricula.types import Bools, Floats, Status
from replay.advise import register
from replay.advise.finding import Finding, Suggestion, listed, not_estimable, number, percent
from replay.advise.groups import MIN_GROUPS, distributions, groups_of, of_distribution, share_of_rollouts
from replay.advise.intervals import mean_of, thirds
from replay.types import LoggedRun

NOTICED = 0.02  # share of rollouts; below it the limit hardly shapes what is learned
MUCH = 0.20
PILE = 0.01  # of the rollouts have exactly the largest length: lengths that end by themselves do not pile up there
SHORTEST = 32  # tokens: answers of a few tokens end at the same length by themselves
LEAST = 10  # rollouts in such a pile, at least
APART = 0.10  # a distribution is named where its share lies this far above the whole run's


@register
def truncation(run: LoggedRun) -> Finding | None:
    """Share of truncated rollouts, overall, by distribution and over the steps, and what they scored.

    Truncated is what has that status; where none has, what lies in a pile at the largest logged length.
    """
    cut_R, how = _cut(run)
    if cut_R is None:
        return not_estimable("truncation", "how many completions ended at the token limit", ["tokens", "status"])
    share_G = share_of_rollouts(run, cut_R)
    size = groups_of(run).size_G
    cut = mean_of(run, share_G, size)
    if not cut.value >= NOTICED:
        return None
    evidence = [number(f"rollouts truncated ({how})", "share of rollouts", cut)]
    scored = np.isfinite(run.score_R)
    sentence = f"{percent(cut)} of the rollouts were truncated ({how})."
    if (cut_R & scored).any():
        there, others = (mean_of(run, *_scores(run, flag)) for flag in (cut_R & scored, ~cut_R & scored))
        evidence += [number("score of truncated rollouts", "score", there), number("score of the others", "score", others)]
        sentence += f" They score {there.value:.2f}, the others {others.value:.2f}."
    else:
        sentence += " They have no score, so they count in no group."
    share_K, n_K = distributions(run, share_G, size)
    worse = [int(k) for k in np.argsort(-np.nan_to_num(share_K)) if n_K[k] >= MIN_GROUPS and share_K[k] > cut.value + APART]
    if worse:
        sentence += f" Most in {listed([f'{run.pool.distribution_names[k]} {100 * share_K[k]:.0f} %' for k in worse])}."
    for k in worse[:5]:
        of_k = mean_of(run, of_distribution(run, share_G, k), size)
        evidence.append(number(f"truncated in {run.pool.distribution_names[k]}", "share of rollouts", of_k))
    change = thirds(run, share_G, size)
    if change is not None:
        evidence.append(number("change of the share, last minus first third of the steps", "share of rollouts", change.difference))
        if change.shows:
            sentence += f" From first to last third: {100 * change.first:.0f} to {100 * change.last:.0f} %."
    longest = int(run.n_tokens_R.max(initial=-1))
    return Finding(
        "truncation",
        "high" if cut.low > MUCH else "medium",
        sentence,
        tuple(evidence),
        _suggestions(longest),
        "completions that repeat themselves until the limit: then more room changes nothing",
    )


def _cut(run: LoggedRun) -> tuple[Bools | None, str]:
    by_status: Bools = np.asarray(run.status_R == Status.TRUNCATED)
    if by_status.any():
        return by_status, "by status"
    if len(run.n_tokens_R) == 0 or run.n_tokens_R.max() < 0:
        return (None, "") if "status" in run.lacks or "tokens" in run.lacks else (by_status, "by status")
    longest = int(run.n_tokens_R.max())
    pile: Bools = np.asarray(run.n_tokens_R == longest)
    if longest >= SHORTEST and pile.sum() >= max(LEAST, PILE * len(pile)) and (run.n_tokens_R < longest).any():
        return pile, f"inferred: a pile at {longest:,} tokens"
    return np.zeros(len(pile), dtype=bool), ""


def _scores(run: LoggedRun, flag_R: Bools) -> tuple[Floats, Floats]:
    """(G,) mean score of the flagged rollouts and (G,) how many there are."""
    n_G = np.bincount(run.group_R[flag_R], minlength=len(run)).astype(np.float64)
    total_G = np.bincount(run.group_R[flag_R], weights=run.score_R[flag_R], minlength=len(run))
    return np.where(n_G > 0, total_G / np.maximum(n_G, 1), np.nan), n_G


def _suggestions(longest: int) -> tuple[Suggestion, ...]:
    room = Suggestion("room for completions to end by themselves", setting=f"rollout.sampling.max_tokens={2 * longest}")
    return (
        room if longest > 0 else Suggestion("room for completions to end by themselves", change="a higher token limit"),
        Suggestion("a limit that starts wide and tightens, where answers could be shorter; raw rewards stay", recipe="train_long"),
    )
