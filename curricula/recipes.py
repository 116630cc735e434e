"""Named recipes: one policy per stage, ready to use, and the reader of recipes that users write.

A recipe is a mapping from stage to policy, ``{"distribution": {"name": "dump_ucb", "tau": 0.2}, "exploration": 0.05}``; stages
that it leaves out take the default. The ``*_published`` recipes follow the released code or the paper where that differs from
what we recommend; what differs is written in the policies' docstrings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from curricula.registry import STAGES, build
from curricula.stages import Stages
from curricula.types import CurriculaError, known_or_raise

Recipe = Mapping[str, Any]

DEFAULTS: Recipe = {
    "belief": "beta",
    "distribution": "uniform",
    "selector": "uniform",
    "budget": "even",
    "shaping": "raw",
    "filter": "keep_all",
    "downsampling": "none",
    "exploration": 0.02,
}

RECIPES: Mapping[str, Recipe] = {
    "uniform": {},
    "dump_ucb": {"distribution": "dump_ucb"},
    "dump_ucb_published": {
        "distribution": {"name": "dump_ucb", "signal": "mean_abs_advantage", "count_unit": "rollout"},
        "exploration": 0.0,
    },
    "sec": {"distribution": "sec"},
    "sec_published": {
        "distribution": {"name": "sec", "signal": "mean_abs_advantage", "unseen": "zero"},
        "exploration": 0.0,
    },
    "nonzero_variance": {"filter": "nonzero_variance"},
    "difficulty_band": {"filter": "difficulty_band"},
    "difficulty_band_published": {
        "distribution": {"name": "uniform", "over": "prompts"},
        "filter": {"name": "difficulty_band", "low": 0.3, "high": 0.7, "closed": False},
        "exploration": 0.0,
    },
    "knapsack": {"budget": "knapsack"},
    "knapsack_published": {
        "belief": {"name": "beta", "forgetting": 0.0, "prior_alpha": 0.0, "prior_beta": 0.0, "prior_strength": 0.0},
        "distribution": {"name": "uniform", "over": "prompts"},
        "budget": {"name": "knapsack", "value": "plug_in", "min_value": "official"},
        "exploration": 0.0,
    },
    "combined": {"distribution": "dump_ucb", "budget": "knapsack", "filter": "difficulty_band"},
    # prompt selection
    "pcl": {"belief": "regression", "selector": "nearest"},  # arXiv 2510.01135; features of the prompts in, value model out
    "mopps": {"belief": "visit_beta", "selector": "thompson_nearest"},  # arXiv 2507.04632
    "bots": {"belief": "bots", "selector": "bots"},  # arXiv 2510.26374
    "cdas": {"belief": "rasch", "selector": "straddle"},  # arXiv 2505.17652
    "cures": {
        "belief": "visit_beta",
        "selector": "sqrt_softmax",
        "budget": "proportional",
    },  # arXiv 2510.01037, without gradient norms
    "dots": {"belief": "attention", "selector": "dots"},  # arXiv 2506.05316, without its trajectory replay
    "lilo": {"selector": "learnability"},  # arXiv 2502.12272, with believed instead of piloted pass rates
    "kimi": {"selector": "kimi"},  # arXiv 2501.12599
    "adarft": {"selector": "adarft"},  # arXiv 2504.05520
    "gain_rl": {"selector": "gaussian_rank"},  # arXiv 2506.02281
    "adcl": {"selector": "adcl"},  # arXiv 2505.08364
    "pudf": {"belief": "irt", "selector": "threshold"},  # arXiv 2408.05326
    "space": {"selector": "space"},  # Eimer et al. 2021
    "cyclical": {"selector": "cyclical"},  # arXiv 2202.05531
    "plr": {"selector": "prioritized_replay"},  # arXiv 2010.03934
    "prime_rl": {"selector": "difficulty_pools", "filter": "advantage_gate"},
    "greso": {"selector": "greso", "filter": {"name": "top_up", "margin": 1.25}},  # arXiv 2506.02177
    "scalerl": {
        "selector": "skip_solved",
        "filter": {"name": "nonzero_variance", "refill": "none"},
    },  # arXiv 2510.13786, its data side
    "vcrl": {"selector": "vcrl_replay", "filter": {"name": "vcrl", "refill": "none"}},  # arXiv 2509.19803
    "polaris": {"selector": "skip_solved", "filter": "polaris_rescue"},
    # distributions
    "pac": {"distribution": "pac"},
    "e2h": {"distribution": "e2h"},  # arXiv 2506.06632
    "mastering_rate": {"distribution": "mastering_rate"},  # arXiv 2008.06456
    "alp_gmm": {"distribution": "alp_gmm"},  # arXiv 1910.07224
    "learning_progress": {"distribution": "learning_progress"},  # arXiv 1707.00183
    "discounted_ucb": {"distribution": "discounted_ucb"},  # arXiv 0805.3415
    "thompson": {"distribution": "thompson"},
    # budgets
    "vip": {"belief": "gaussian_process", "budget": {"name": "water_fill", "utility": "vip_rloo"}},  # arXiv 2602.01601
    "maxrl": {"budget": {"name": "water_fill", "utility": "maxrl"}},  # arXiv 2602.02710
    "reinforce_ada": {
        "budget": "reinforce_ada",
        "filter": {"name": "nonzero_variance", "refill": "none"},
        "downsampling": "balanced_keep",
    },
    "speed": {"budget": "speed", "filter": {"name": "nonzero_variance", "refill": "none"}},  # arXiv 2506.09016
    "pilot_commit": {"budget": "pilot_commit", "filter": {"name": "nonzero_variance", "refill": "none"}},  # arXiv 2605.26606
    "vigor": {"budget": "vigor"},  # arXiv 2607.22002
    "xrpo": {"budget": "xrpo"},  # arXiv 2510.06672
    "remax": {"budget": "remax"},  # arXiv 2310.10505; the learner's part is learner.advantage remax
    # what enters the update, and with which reward
    "pods": {"downsampling": "pods"},  # arXiv 2504.13818
    "d3s": {  # arXiv 2509.22115; its token part is learner.token_share
        "downsampling": {"name": "d3s", "share": {"pacing": "linear", "first": 0.25, "last": 1.0, "steps": 200}},
    },
    "soft_weights": {"filter": "soft_weights"},
    "train_long": {  # arXiv 2508.08940; the words that state the budget in the prompt are rollout.budget_note
        "shaping": {
            "name": "length_budget",
            "budget": {"pacing": "exponential_steps", "first": 256, "factor": 0.7, "every": 150, "least": 1},
        },
    },
    "hapo": {"shaping": "hapo"},  # arXiv 2505.11225
    "multi_attempt": {"shaping": "multi_attempt"},  # arXiv 2503.04808; what is said between attempts is rollout.feedback
    "anytime_reasoner": {"shaping": "budget_split"},  # arXiv 2505.13438; what asks for a summary is rollout.summary
    # ours: what the parts allow together
    "mopps_ada": {  # selection avoids what teaches nothing, further rounds repair its errors
        "belief": "pooled",
        "selector": "thompson_nearest",
        "budget": "reinforce_ada",
        "filter": {"name": "nonzero_variance", "refill": "none"},
    },
    "greso_vip": {  # nothing waits for refills
        "selector": "greso",
        "budget": {"name": "water_fill", "utility": "vip_rloo"},
        "filter": {"name": "nonzero_variance", "refill": "none"},
    },
    "dump_mopps": {"belief": "pooled", "distribution": "dump_ucb", "selector": "thompson_nearest"},
}


def read(recipe: str | Recipe) -> tuple[Stages, float]:
    """The policies and the exploration share of a recipe, by name or written out.

    >>> stages, exploration = read("combined")
    >>> type(stages.budget).__name__, exploration
    ('Knapsack', 0.02)
    """
    if isinstance(recipe, str):
        known_or_raise("recipe", recipe, tuple(RECIPES))
        recipe = RECIPES[recipe]
    for key in recipe:
        known_or_raise("key of a curriculum recipe:", key, tuple(DEFAULTS))
    whole = {**DEFAULTS, **recipe}
    return Stages(**{stage: build(stage, whole[stage]) for stage in STAGES}), checked_exploration(whole["exploration"])


def checked_exploration(value: Any) -> float:
    """The share of every plan that is spread evenly over distributions, in [0, 1]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise CurriculaError(f"exploration: expected a number in 0..1, got {value!r}")
    return float(value)
