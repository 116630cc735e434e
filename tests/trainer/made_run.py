"""A run folder with a log written by the real writer, for tests of what reads one."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np

from curricula.types import Outcome, PromptPool, Reason, RolloutPlan, Selection, Status, Verdict, group_ids
from rollout.log import RolloutLog
from rollout.prompts import Prompt
from rollout.types import Attempt, Completion, FinishReason, Judged
from trainer.observer import DistributionScore, EvaluationResult, StepRecord
from trainer.recipe import parse_recipe

EVIL = "<script>alert(1)</script> & 'quotes'"


def made_run(folder: Path, n_steps: int = 60, n_distributions: int = 6, n_groups: int = 16, texts: str = EVIL) -> Path:
    """Accuracy rises level by level; one rollout in fifty times out."""
    rng = np.random.default_rng(0)
    names = [f"ops-{k}" for k in range(1, n_distributions + 1)]
    pool = PromptPool.from_columns(
        [f"{name}/{i}" for name in names for i in range(50)], [name for name in names for _ in range(50)]
    )
    prompts = [Prompt(str(id_), str(id_).partition("/")[0], f"12+3= {texts}", 15) for id_ in pool.ids]
    recipe = parse_recipe(
        {"name": "made", "task": {"name": "running_total"}, "model": {"path": "tiny"}, "run": {"n_steps": n_steps}}
    )
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(recipe.to_yaml())
    log = RolloutLog(folder / "log")
    for step in range(n_steps):
        if step % max(n_steps // 4, 1) == 0:
            log.append_evaluation(asdict(_evaluation(step, names, step / n_steps)))
        attempt, record = _step(step, n_steps, pool, n_groups, texts, rng)
        log.append_attempt(pool, attempt, {}, prompts)
        log.append_step(asdict(record))
        log.commit()
    log.append_evaluation(asdict(_evaluation(n_steps, names, 1.0)))
    log.commit()
    log.close()
    return folder


def skill(k: int, progress: float) -> float:
    return 1 / (1 + math.exp(0.9 * k - 1.2 - 3 * progress))


def _evaluation(step: int, names: list[str], progress: float) -> EvaluationResult:
    rates = [skill(k, progress) for k in range(len(names))]
    scores = {
        name: DistributionScore(min(p + 0.05, 1), p, math.sqrt(p * (1 - p) / 64), 64) for name, p in zip(names, rates, strict=True)
    }
    return EvaluationResult(step, scores)


def _step(
    step: int, n_steps: int, pool: PromptPool, n_groups: int, texts: str, rng: np.random.Generator
) -> tuple[Attempt, StepRecord]:
    probability_K = np.exp([-((k - 1 - 4 * step / n_steps) ** 2) / 3 for k in range(pool.n_distributions)])
    probability_K /= probability_K.sum()
    prompt_B = rng.permutation(len(pool))[:n_groups]
    distribution_B = pool.distribution_N[prompt_B]
    rate_B = np.array([skill(int(k), step / n_steps) for k in distribution_B])
    n_rollouts_B = rng.integers(2, 17, n_groups)
    judged_B = [[_judged(rate_B[b], step, texts, rng) for _ in range(n_rollouts_B[b])] for b in range(n_groups)]
    plan = RolloutPlan(
        step,
        0,
        0,
        Selection(prompt_B, distribution_B, np.full(n_groups, 0.1)),
        n_rollouts_B,
        group_ids(step, 0, n_groups),
        probability_K,
    )
    flat = [(b, judged) for b, group in enumerate(judged_B) for judged in group]
    outcome = Outcome(
        plan,
        np.array([b for b, _ in flat]),
        np.array([judged.reward for _, judged in flat]),
        np.array([judged.status for _, judged in flat]),
        np.array([len(judged.completion.token_ids) for _, judged in flat]),
        np.full(len(flat), step),
    )
    mean_B = np.array([np.nanmean(outcome.score_R[outcome.group_R == b]) for b in range(n_groups)])
    kept_B = (mean_B > 0) & (mean_B < 1)
    reason_B = np.where(kept_B, Reason.KEPT, np.where(mean_B == 0, Reason.TOO_HARD, Reason.ALL_EQUAL))
    verdict = Verdict(kept_B, reason_B, kept_B[outcome.group_R] & outcome.ok_R)
    names = pool.distribution_names
    by_name = {n: outcome.score_R[(distribution_B[outcome.group_R] == k) & outcome.ok_R] for k, n in enumerate(names)}
    pass_rate = {n: float(scores.mean()) if len(scores) else math.nan for n, scores in by_name.items()}
    record = StepRecord(
        step=step,
        n_steps=n_steps,
        reward_mean=float(np.nanmean(outcome.reward_R)),
        accuracy=float(np.nanmean(outcome.score_R)),
        live_group_share=float(kept_B.mean()),
        kept_groups=int(kept_B.sum()),
        generated_groups=n_groups,
        n_rollouts=len(flat),
        n_tokens_generated=int(outcome.n_tokens_R.sum()),
        n_tokens_trained=int(outcome.n_tokens_R[verdict.carries_gradient_R].sum()),
        lr=2e-4 * min(step / 10, 1),
        probability=dict(zip(names, probability_K.tolist(), strict=True)),
        pass_rate=pass_rate,
        reward=pass_rate,
        reasons={Reason(code).name.lower(): int((reason_B == code).sum()) for code in np.unique(reason_B)},
        statuses={Status(code).name.lower(): int((outcome.status_R == code).sum()) for code in np.unique(outcome.status_R)},
        n_rollouts_B=tuple(n_rollouts_B.tolist()),
        pass_rate_B=tuple(mean_B.tolist()),
        seconds=1.5,
        phase_seconds={"rollouts": 0.8 + 0.1 * float(rng.random()), "learn": 0.5, "publish": 0.05, "curriculum": 0.001},
        loss=float(rng.normal(0, 0.02)),
        grad_norm=float(rng.uniform(0.5, 1)),
    )
    return Attempt(plan, judged_B, outcome, verdict), record


def _judged(rate: float, step: int, texts: str, rng: np.random.Generator) -> Judged:
    n_tokens = int(rng.integers(3, 12))
    ids = np.zeros(n_tokens, np.int32)
    completion = Completion(ids, np.full(n_tokens, -0.5, np.float32), f"15,{n_tokens} {texts}", FinishReason.STOP)
    if rng.random() < 0.02:
        return Judged(completion, Status.TIMEOUT, math.nan, step)
    return Judged(completion, Status.OK, float(rng.random() < rate), step)
