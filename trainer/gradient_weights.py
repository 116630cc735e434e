"""How large the gradient of each rollout's log-probability is, squared and up to a common factor, from what its engine said.

The baseline of least variance weighs a prompt's rollouts by ||grad log pi(rollout)||^2. Exact norms would need a backward pass per
rollout. Both estimates here take the gradients of a rollout's tokens as uncorrelated (they are martingale differences: true on
average over the policy, not given the reward), so that squared norms add up over tokens. Bad weights cost variance, never bias
(`trainer.advantages`, ``oblr``).
"""

from __future__ import annotations

import numpy as np

from curricula.types import Floats
from rollout.types import Attempt


def by_tokens(attempt: Attempt) -> Floats:
    """(R,) tokens that each rollout drew: the gradients of all tokens are taken as equally long, arXiv 2505.23585."""
    return attempt.outcome.n_tokens_R.astype(np.float64)


def by_logits(attempt: Attempt) -> Floats:
    """(R,) sum of 1 - p over the drawn tokens, p the probability that the engine drew each with. Ours.

    The squared gradient with respect to a token's logits is ||e_y - p||^2 = 1 - 2 p_y + sum_v p_v^2. E[p_y] = sum_v p_v^2 over the
    draw of y, so 1 - p_y has the same mean, E ||e_y - p||^2, and needs nothing but the log-probabilities that rollouts come with: a
    token that was certain moves nothing. What the logits do to the weights is taken as alike for all tokens. Fed tokens, whose
    log-probability is 0, count nothing.
    """
    rollouts = [judged for group in attempt.judged_B for judged in group]
    return np.array([-float(np.expm1(one.completion.logprob_T.astype(np.float64)).sum()) for one in rollouts])
