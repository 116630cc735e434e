"""Do distributions tell easy prompts from hard ones? Arms can choose only as well as they do."""

from __future__ import annotations

import numpy as np

from curricula.types import Floats, Ints
from replay.advise import register
from replay.advise.finding import Finding, Suggestion, counted, not_estimable, number
from replay.advise.findings.visits import OFTEN
from replay.advise.groups import MIN_GROUPS, groups_of, visits_per_prompt
from replay.advise.intervals import Measured, clusters, jackknife
from replay.types import LoggedRun

BLOCKS = 20  # of the jackknife: each leaves out one twentieth of the steps or prompts
# share of the variance. docs/choosing.md: arms won about 1 point where levels made up 0.38 of it (spread 3.2), 10 at 0.98
TELLS = 0.4


@register
def levels(run: LoggedRun) -> Finding | None:
    """Share of the variance of true pass rates that lies between distributions."""
    groups = groups_of(run)
    enough = np.bincount(groups.distribution_G[groups.judged_G], minlength=run.pool.n_distributions) >= MIN_GROUPS
    if enough.sum() < 2:
        return None
    if lacks := [lack for lack in ("fixed budget", "rejected groups") if lack in run.lacks]:
        return not_estimable("levels", "how much of the difficulty lies between distributions", lacks)
    cluster_G, of = clusters(run)
    used = groups.judged_G & enough[groups.distribution_G]
    place = np.unique(cluster_G[used], return_inverse=True)[1]
    n_blocks = min(BLOCKS, int(place.max()) + 1)
    if n_blocks < 2:
        return None
    block = place * n_blocks // (int(place.max()) + 1) if of == "steps" else place % n_blocks
    sums = _sums(block, n_blocks, groups.distribution_G[used], groups.mean_G[used], groups.noise_G[used])
    whole = _share(sums.sum(axis=1))
    if whole is None:
        return None
    left_out = [share for j in range(n_blocks) if (share := _share(np.delete(sums, j, axis=1).sum(axis=1))) is not None]
    if len(left_out) < n_blocks:
        return None
    return _finding(run, jackknife(whole, np.array(left_out), of), sums)


def _sums(block: Ints, n_blocks: int, at: Ints, mean: Floats, noise: Floats) -> Floats:
    """(4, J, K) per block and distribution: groups, their means, squared means, and noise of the means."""
    k = int(at.max()) + 1
    code = block * k + at
    columns = (np.ones(len(mean)), mean, mean * mean, noise)
    return np.stack([np.bincount(code, weights=c, minlength=n_blocks * k).reshape(n_blocks, k) for c in columns])


def _share(sums: Floats) -> float | None:
    """Variance between distributions over the variance of true means; both freed from the noise of finite groups."""
    n_K, sum_K, squares_K, noise_K = sums[:, sums[0] >= 2]
    total = n_K.sum()
    if len(n_K) < 2:
        return None
    mean_K, mean = sum_K / n_K, sum_K.sum() / total
    variance_K = np.maximum(squares_K / n_K - mean_K**2, 0.0) * n_K / (n_K - 1)
    between = float((n_K * (mean_K - mean) ** 2).sum() / total - (variance_K * (1 - n_K / total)).sum() / total)
    within = float((n_K * variance_K).sum() / total - noise_K.sum() / total)
    true = max(between, 0.0) + max(within, 0.0)
    return max(between, 0.0) / true if true > 1e-12 else None


def _finding(run: LoggedRun, share: Measured, sums: Floats) -> Finding | None:
    n_K, sum_K = sums[0].sum(axis=0), sums[1].sum(axis=0)
    mean_K = sum_K[n_K > 0] / n_K[n_K > 0]
    tells, silent = share.low > TELLS, share.high < TELLS
    if not (tells or silent):
        return None
    share = share._replace(low=max(share.low, 0.0), high=min(share.high, 1.0))
    evidence = (
        number("variance of true pass rates that lies between distributions", "share of variance", share),
        counted("lowest mean score of a distribution", mean_K.min(), "score", len(mean_K), "distributions"),
        counted("highest mean score of a distribution", mean_K.max(), "score", len(mean_K), "distributions"),
    )
    said = f"{100 * share.value:.0f} % [{100 * share.low:.0f}, {100 * share.high:.0f}] of the differences in difficulty lie between"
    if tells:
        return Finding(
            "levels",
            "medium",
            f"{said} distributions (mean scores {mean_K.min():.2f} to {mean_K.max():.2f}): choosing among them chooses the "
            "difficulty.",
            evidence,
            (
                Suggestion("distributions tell the difficulty and each had many groups; compare with uniform", recipe="dump_ucb"),
                Suggestion("as dump_ucb, with a running average per distribution", recipe="sec"),
            ),
            "a live share under dump_ucb that is no higher than under uniform on the same model",
        )
    often = visits_per_prompt(run) >= OFTEN
    suggestion = (
        Suggestion("prompts come back often, so each can have a belief of its own", recipe="mopps")
        if often
        else Suggestion("cut distributions by difficulty, for example by the pass rates of this log", change="other distributions")
    )
    return Finding(
        "levels",
        "low",
        f"Only {said} distributions: choosing among them hardly chooses the difficulty, and arms have little to go by.",
        evidence,
        (suggestion, Suggestion("the control, until prompts are labelled better", recipe="uniform")),
        "a live share under dump_ucb that is clearly higher than under uniform on the same model",
    )
