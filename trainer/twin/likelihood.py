"""The marginal likelihood of an item-response model with random difficulties, its gradient and its curvature.

Prompt i of distribution k is solved with probability sigmoid(ability_k + gain x - b_i), b_i ~ Normal(0, spread^2), where x is what
the log's updates had taught the distribution before the group's step. The difficulties are integrated out by adaptive Gauss-Hermite
quadrature, prompt by prompt (Pinheiro and Bates 1995); gradient and curvature follow from the scores at the nodes (Fisher's and
Louis' identities, Louis 1982). The parameters are one vector: K abilities, the gain, the log of the spread.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from curricula.types import Floats, Ints
from trainer.twin.counts import Counts

N_NODES = 9
NEWTON_FOR_MODES = 30
_NODE_Q, _WEIGHT_Q = np.polynomial.hermite.hermgauss(N_NODES)
_LOG_WEIGHT_Q = np.log(_WEIGHT_Q) + _NODE_Q**2

# priors, weak on purpose: they keep the mode finite where all groups of a distribution are solved, or none
ABILITY_SD, GAIN_SD = 4.0, 10.0  # logits
LOG_SPREAD_SD = 1.0  # about a spread of 1


class Evidence(NamedTuple):
    """Groups sorted by prompt; ``_M`` are the prompts that have groups."""

    n_G: Ints
    k_G: Ints
    distribution_G: Ints
    place_G: Ints  # 0..M-1
    first_M: Ints  # where each prompt's groups begin
    row_M: Ints  # of the pool
    distribution_M: Ints
    n_distributions: int
    order_G: Ints  # the log's group at each place

    def per_prompt(self, value_G: Floats) -> Floats:
        """(M, ...) sums over each prompt's groups."""
        return np.asarray(np.add.reduceat(value_G, self.first_M, axis=0))


class Difficulties(NamedTuple):
    """Posterior of the prompts' difficulties at given parameters, at quadrature nodes."""

    mode_M: Floats
    node_MQ: Floats
    weight_MQ: Floats  # sums to 1 per prompt
    log_marginal_M: Floats
    p_GQ: Floats  # pass rate of each group at its prompt's nodes

    def mean_M(self) -> Floats:
        return np.asarray((self.weight_MQ * self.node_MQ).sum(axis=1))

    def sd_M(self) -> Floats:
        off_MQ = self.node_MQ - self.mean_M()[:, None]
        return np.asarray(np.sqrt((self.weight_MQ * off_MQ**2).sum(axis=1)))


class Value(NamedTuple):
    """Log posterior density (up to a constant) at one vector of parameters."""

    log_density: float
    gradient_P: Floats
    information_PP: Floats  # minus the second derivative
    mode_M: Floats


def evidence_of(counts: Counts) -> Evidence:
    """The groups in the order in which the integrals need them."""
    order = np.argsort(counts.prompt_G, kind="stable")
    row_M, first_M, place_G = np.unique(counts.prompt_G[order], return_index=True, return_inverse=True)
    distribution_N = counts.pool.distribution_N
    return Evidence(
        n_G=counts.n_G[order],
        k_G=counts.k_G[order],
        distribution_G=distribution_N[counts.prompt_G[order]],
        place_G=place_G,
        first_M=first_M,
        row_M=row_M,
        distribution_M=distribution_N[row_M],
        n_distributions=counts.pool.n_distributions,
        order_G=order,
    )


def difficulties(evidence: Evidence, logit_G: Floats, spread: float, mode_M: Floats | None = None) -> Difficulties:
    """Posterior of each prompt's difficulty when its groups' abilities are ``logit_G``; ``mode_M`` is where to begin."""
    mode_M, sd_M = _modes(evidence, logit_G, spread, np.zeros(len(evidence.row_M)) if mode_M is None else mode_M)
    node_MQ = mode_M[:, None] + math.sqrt(2) * sd_M[:, None] * _NODE_Q
    z_GQ = logit_G[:, None] - node_MQ[evidence.place_G]
    small_GQ = np.exp(-np.abs(z_GQ))
    p_GQ = np.where(z_GQ >= 0, 1.0, small_GQ) / (1.0 + small_GQ)
    log_GQ = evidence.k_G[:, None] * z_GQ - evidence.n_G[:, None] * (np.maximum(z_GQ, 0) + np.log1p(small_GQ))
    prior_MQ = -0.5 * (node_MQ / spread) ** 2 - math.log(spread * math.sqrt(2 * math.pi))
    log_MQ = evidence.per_prompt(log_GQ) + prior_MQ + _LOG_WEIGHT_Q
    top_M = log_MQ.max(axis=1)
    weight_MQ = np.exp(log_MQ - top_M[:, None])
    total_M = weight_MQ.sum(axis=1)
    log_marginal_M = top_M + np.log(total_M) + np.log(math.sqrt(2) * sd_M)
    return Difficulties(mode_M, node_MQ, weight_MQ / total_M[:, None], log_marginal_M, p_GQ)


def evaluate(evidence: Evidence, x_G: Floats, beta_P: Floats, mode_M: Floats | None = None) -> Value:
    """Log density with its derivatives at ``beta_P``; ``x_G`` in the evidence's order."""
    k = evidence.n_distributions
    spread = math.exp(beta_P[k + 1])
    found = difficulties(evidence, beta_P[evidence.distribution_G] + beta_P[k] * x_G, spread, mode_M)
    gradient_P, information_PP = _derivatives(evidence, x_G[:, None], found, spread)
    precision_P = np.concatenate([np.full(k, ABILITY_SD**-2), [GAIN_SD**-2, LOG_SPREAD_SD**-2]])
    return Value(
        log_density=float(found.log_marginal_M.sum() - 0.5 * (precision_P * beta_P**2).sum()),
        gradient_P=gradient_P - precision_P * beta_P,
        information_PP=information_PP + np.diag(precision_P),
        mode_M=found.mode_M,
    )


def _modes(evidence: Evidence, logit_G: Floats, spread: float, mode_M: Floats) -> tuple[Floats, Floats]:
    """(M,) most probable difficulties and the width of the normal distribution that fits there; Newton, all prompts at once."""
    for _ in range(NEWTON_FOR_MODES):
        p_G = 1.0 / (1.0 + np.exp(np.clip(mode_M[evidence.place_G] - logit_G, -700, 700)))
        pull_M = evidence.per_prompt(evidence.n_G * p_G - evidence.k_G) - mode_M / spread**2
        bend_M = evidence.per_prompt(evidence.n_G * p_G * (1 - p_G)) + spread**-2
        step_M = np.clip(pull_M / bend_M, -2.0, 2.0)  # far from the mode a full step may run away
        mode_M = mode_M + step_M
        if np.abs(step_M).max() < 1e-4:  # the nodes need no better centre
            break
    return mode_M, 1.0 / np.sqrt(bend_M)


def _derivatives(evidence: Evidence, x_G1: Floats, found: Difficulties, spread: float) -> tuple[Floats, Floats]:
    """Gradient and observed information. A prompt's score touches its ability, the gain and the spread: three numbers a node."""
    k, weight_MQ = evidence.n_distributions, found.weight_MQ
    off_GQ = evidence.k_G[:, None] - evidence.n_G[:, None] * found.p_GQ
    bend_GQ = evidence.n_G[:, None] * found.p_GQ * (1 - found.p_GQ)
    square_MQ = (found.node_MQ / spread) ** 2
    score_3MQ = np.stack([evidence.per_prompt(off_GQ), evidence.per_prompt(off_GQ * x_G1), square_MQ - 1])
    mean_3M = (score_3MQ * weight_MQ).sum(axis=-1)
    off_3MQ = score_3MQ - mean_3M[:, :, None]
    covariance_33M = np.einsum("amq,bmq,mq->abm", off_3MQ, off_3MQ, weight_MQ)
    information_33M = -covariance_33M
    for (a, b), value_MQ in {
        (0, 0): evidence.per_prompt(bend_GQ),
        (0, 1): evidence.per_prompt(bend_GQ * x_G1),
        (1, 1): evidence.per_prompt(bend_GQ * x_G1**2),
        (2, 2): 2 * square_MQ,
    }.items():
        expected_M = (value_MQ * weight_MQ).sum(axis=1)
        information_33M[a, b] += expected_M
        if a != b:
            information_33M[b, a] += expected_M
    at_3M = np.stack(
        [evidence.distribution_M, np.full_like(evidence.distribution_M, k), np.full_like(evidence.distribution_M, k + 1)]
    )
    gradient_P = np.bincount(at_3M.ravel(), mean_3M.ravel(), k + 2)
    pair_33M = at_3M[:, None] * (k + 2) + at_3M[None]
    information_PP = np.bincount(pair_33M.ravel(), information_33M.ravel(), (k + 2) ** 2).reshape(k + 2, k + 2)
    return np.asarray(gradient_P, np.float64), np.asarray(information_PP, np.float64)
