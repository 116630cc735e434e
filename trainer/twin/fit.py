"""The simulated learner that a log speaks for, and how sure the log makes us of it.

Model (`trainer.simulate.student`): a prompt of distribution k is solved with probability sigmoid(ability_k - difficulty); every
update adds rate x signal x transfer to the abilities, and the signal of a logged step follows from its rewards alone. So the log's
own choices drive the learner, and abilities and rate are the coefficients of a logistic regression with random difficulties.

Fitted: ability of every distribution before the first step, rate, how far learning reaches to other distributions, spread of
difficulty inside a distribution, difficulty of every prompt (shrunk towards its distribution's). What a log of binary rewards
cannot identify, and is taken as fixed: the steepness of the response (1; spread and abilities are in its units), errors of the
verifier (none: they look like a flatter response), schedules of the learning rate and forgetting (the rate is one number), noise of
single updates (it widens the ranges through the misfit between windows of steps, no more), staleness of weights, weights on
advantages and thinned rollouts. Rate and reach are told apart only as far as distributions were trained unequally. Abilities and
difficulties have no absolute zero: the mean difficulty of each distribution is 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from curricula.types import CurriculaError, Floats, Ints, PromptPool
from replay.types import LoggedRun
from trainer.simulated_learner import transfer
from trainer.twin.counts import Counts, counts_of
from trainer.twin.likelihood import Evidence, Value, difficulties, evaluate, evidence_of

REACHES = (0.0, 0.5, 1.0, 2.0, 4.0, 1e9)  # in places of the order by ability; the last one is "all alike"
N_DRAWS = 64
N_WINDOWS = 10
MOST_NEWTON_STEPS = 60
FIT_STREAM = 11  # of the seed


@dataclass(frozen=True, eq=False)
class Twin:
    """Draws (``_D``) of the learner's parameters, each as probable as the others given the log."""

    source: str
    pool: PromptPool
    n_steps: int
    ability_DK: Floats  # before the first step, logits
    end_DK: Floats  # after the last step, as the log's own choices drive it
    rate_D: Floats  # ability per unit of signal
    reach_D: Floats
    spread_D: Floats
    difficulty_DN: Floats  # of every prompt of the pool; those without groups are drawn from their distribution's
    rank_K: Ints  # place of each distribution in the order by ability
    dispersion: float  # misfit between windows of steps / what chance allows, 1 or more; widens the draws

    def __len__(self) -> int:
        return len(self.rate_D)

    def transfer_KK(self, draw: int) -> Floats:
        """(K, K) how much of what a distribution learns the others learn too."""
        return transfer_between(self.rank_K, float(self.reach_D[draw]))

    def range(self, name: str) -> tuple[Floats, Floats, Floats]:
        """Median and 90 % range over the draws of ``ability_DK``, ``rate_D``, ..."""
        low, middle, high = np.quantile(getattr(self, name), [0.05, 0.5, 0.95], axis=0)
        return middle, low, high

    @property
    def learns(self) -> bool:
        """Whether the log says that its updates raised pass rates: the rate's 95 % range lies above 0."""
        return bool(np.quantile(self.rate_D, 0.025) > 0)


class Candidate(NamedTuple):
    """The best parameters at one reach."""

    reach: float
    scale: float  # of x: the gain is the largest ability gained over the log
    x_G: Floats
    beta_P: Floats
    value: Value
    log_evidence: float  # Laplace's


def fit(run: LoggedRun, n_draws: int = N_DRAWS, seed: int = 0) -> Twin:
    """The twin of a log. Errors: CurriculaError for a log that says too little, see `trainer.twin.counts.counts_of`."""
    return fit_counts(counts_of(run), n_draws, seed)


def fit_counts(counts: Counts, n_draws: int = N_DRAWS, seed: int = 0) -> Twin:
    """The same from the log's counts."""
    if not counts.live_G.any():
        raise CurriculaError(
            f"{counts.source}: the first {counts.n_steps} steps hold no group whose rewards differ; no rate can be fitted"
        )
    evidence = evidence_of(counts)
    learned_TK = np.concatenate([np.zeros((1, counts.pool.n_distributions)), counts.signal_TK().cumsum(axis=0)])
    rank_K = _ranks(evidence, learned_TK, counts)
    candidates: list[Candidate] = []
    for reach in REACHES if counts.pool.n_distributions > 1 else REACHES[:1]:
        candidates.append(_candidate(evidence, learned_TK, counts, rank_K, reach, candidates[-1] if candidates else None))
    best = max(candidates, key=lambda candidate: candidate.log_evidence)
    dispersion = _dispersion(evidence, counts, best)
    rng = np.random.default_rng((seed, FIT_STREAM))
    share = np.array([(candidate.log_evidence - best.log_evidence) / dispersion for candidate in candidates])
    chosen_D = rng.choice(len(candidates), n_draws, p=np.exp(share) / np.exp(share).sum())
    drawn = [_draw(evidence, candidates[j], dispersion, learned_TK[-1], rank_K, counts.pool, rng) for j in chosen_D]
    ability, end, rate, reach_, spread, difficulty = (np.array(column) for column in zip(*drawn, strict=True))
    return Twin(counts.source, counts.pool, counts.n_steps, ability, end, rate, reach_, spread, difficulty, rank_K, dispersion)


def transfer_between(rank_K: Ints, reach: float) -> Floats:
    """(K, K) transfer by distance in the order of abilities, so that the names of distributions do not matter."""
    return transfer(len(rank_K), reach)[np.ix_(rank_K, rank_K)]


def _ranks(evidence: Evidence, learned_TK: Floats, counts: Counts) -> Ints:
    """Places by ability before the first step, by a fit that knows no transfer but "all alike"."""
    plain_K = np.arange(counts.pool.n_distributions)
    found = _candidate(evidence, learned_TK, counts, plain_K, REACHES[-1], None)
    rank_K = np.empty_like(plain_K)
    rank_K[np.argsort(-found.beta_P[: len(plain_K)], kind="stable")] = plain_K
    return rank_K


def _candidate(
    evidence: Evidence, learned_TK: Floats, counts: Counts, rank_K: Ints, reach: float, start: Candidate | None
) -> Candidate:
    x_TK = learned_TK @ transfer_between(rank_K, reach)
    scale = float(max(x_TK.max(), 1e-12))
    x_G = (x_TK[counts.step_G, counts.distribution_G] / scale)[evidence.order_G]
    beta_P = _start(evidence) if start is None else start.beta_P
    beta_P, value = _maximise(evidence, x_G, beta_P, None if start is None else start.value.mode_M)
    _, log_determinant = np.linalg.slogdet(value.information_PP)
    return Candidate(reach, scale, x_G, beta_P, value, value.log_density - 0.5 * float(log_determinant))


def _start(evidence: Evidence) -> Floats:
    k = evidence.n_distributions
    solved_K = np.bincount(evidence.distribution_G, evidence.k_G, k) + 0.5
    failed_K = np.bincount(evidence.distribution_G, evidence.n_G - evidence.k_G, k) + 0.5
    return np.concatenate([np.log(solved_K / failed_K), [0.0, 0.0]])


def _maximise(evidence: Evidence, x_G: Floats, beta_P: Floats, mode_M: Floats | None) -> tuple[Floats, Value]:
    """Newton's method with halved steps where a full one goes down."""
    value = evaluate(evidence, x_G, beta_P, mode_M)
    for _ in range(MOST_NEWTON_STEPS):
        step_P = np.linalg.solve(_positive(value.information_PP), value.gradient_P)
        promised = float(value.gradient_P @ step_P) / 2
        if promised < 1e-5:
            break
        step_P *= min(1.0, 2.0 / float(np.abs(step_P).max()))
        tried = evaluate(evidence, x_G, beta_P + step_P, value.mode_M)
        while tried.log_density < value.log_density and np.abs(step_P).max() > 1e-7:
            step_P = step_P / 2
            tried = evaluate(evidence, x_G, beta_P + step_P, value.mode_M)
        if tried.log_density <= value.log_density:
            break
        beta_P, value = beta_P + step_P, tried
    return beta_P, value


def _positive(information_PP: Floats) -> Floats:
    """The matrix with its eigenvalues made positive: far from the mode the observed information need not be."""
    root_P, vector_PP = np.linalg.eigh(information_PP)
    floor = 1e-6 * float(np.abs(root_P).max())
    return np.asarray((vector_PP * np.maximum(np.abs(root_P), floor)) @ vector_PP.T)


def _dispersion(evidence: Evidence, counts: Counts, best: Candidate) -> float:
    """Pearson's chi-squared over (window of steps, distribution) / degrees of freedom, at least 1.

    Windows and not single groups: an update that taught more or less than the rate says shifts all groups that follow.
    """
    k = evidence.n_distributions
    found = difficulties(evidence, _logits(evidence, best), math.exp(best.beta_P[k + 1]), best.value.mode_M)
    p_G = (found.p_GQ * found.weight_MQ[evidence.place_G]).sum(axis=1)
    window_G = counts.step_G[evidence.order_G] * N_WINDOWS // counts.n_steps
    cell_G = window_G * k + evidence.distribution_G
    off_C = np.bincount(cell_G, evidence.k_G - evidence.n_G * p_G)
    chance_C = np.bincount(cell_G, evidence.n_G * p_G * (1 - p_G))
    used_C = chance_C > 1
    freedom = int(used_C.sum()) - (k + 1)
    return max(1.0, float((off_C[used_C] ** 2 / chance_C[used_C]).sum()) / freedom) if freedom > 0 else 1.0


def _logits(evidence: Evidence, candidate: Candidate) -> Floats:
    k = evidence.n_distributions
    return np.asarray(candidate.beta_P[evidence.distribution_G] + candidate.beta_P[k] * candidate.x_G)


def _draw(
    evidence: Evidence,
    candidate: Candidate,
    dispersion: float,
    learned_K: Floats,
    rank_K: Ints,
    pool: PromptPool,
    rng: np.random.Generator,
) -> tuple[Floats, Floats, float, float, float, Floats]:
    """Parameters from the normal distribution at the mode, then difficulties given them."""
    k = evidence.n_distributions
    root_P, vector_PP = np.linalg.eigh(_positive(candidate.value.information_PP))
    beta_P = candidate.beta_P + math.sqrt(dispersion) * vector_PP @ (rng.standard_normal(k + 2) / np.sqrt(root_P))
    spread, rate = math.exp(beta_P[k + 1]), float(beta_P[k] / candidate.scale)
    drawn = candidate._replace(beta_P=beta_P)
    found = difficulties(evidence, _logits(evidence, drawn), spread, candidate.value.mode_M)
    difficulty_N = spread * rng.standard_normal(len(pool))
    seen_M = evidence.row_M
    difficulty_N[seen_M] = found.mean_M() + found.sd_M() * difficulty_N[seen_M] / spread
    end_K = beta_P[:k] + rate * learned_K @ transfer_between(rank_K, candidate.reach)
    return beta_P[:k], end_K, rate, candidate.reach, spread, difficulty_N
