"""GRPO written by hand in plain torch and transformers, with a curriculum in it. CPU, about a minute, nothing to download.

    python examples/grpo_by_hand.py

A tiny untrained model learns to answer questions about two digits: `c37=` (copy: 37), `r37=` (reverse: 73), `n37=` (next: 48),
`s37=` (sum: 10). Each question is a prompt, each kind of question a distribution; half of the reward is for each right character.
The lines marked `# <- curriculum` are all that a loop of your own needs; the others it has already. Half-way the run is saved,
forgotten and taken up again.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from curricula import Curriculum, Feedback, PromptPool, RolloutPlan
from curricula.hosting import outcome_of

ALPHABET = "0123456789crns="
ANSWERS = {
    "copy": lambda a, b: f"{a}{b}",
    "reverse": lambda a, b: f"{b}{a}",
    "next": lambda a, b: f"{(a + 1) % 10}{(b + 1) % 10}",
    "sum": lambda a, b: f"{a + b:02d}",
}
ROWS = [
    {"prompt": f"{kind[0]}{a}{b}=", "kind": kind, "answer": answer(a, b)}
    for kind, answer in ANSWERS.items()
    for a in range(10)
    for b in range(10)
]
N_GROUPS, N_ROLLOUTS, LR = 32, 512, 1e-3


def tiny_model() -> Qwen3ForCausalLM:
    """A model of two layers that knows nothing."""
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}
    return Qwen3ForCausalLM(Qwen3Config(vocab_size=len(ALPHABET), head_dim=16, max_position_embeddings=8, **size))


def tokens(texts: list[str]) -> torch.Tensor:
    """(R, T) texts of equal length, a token per character."""
    return torch.tensor([[ALPHABET.index(letter) for letter in text] for text in texts])


@torch.no_grad()
def sampled(model: Qwen3ForCausalLM, prompts: list[str], greedy: bool = False) -> torch.Tensor:
    """(R, 2) two tokens behind each prompt."""
    sequence = tokens(prompts)
    for _ in range(2):
        logits = model(sequence).logits[:, -1]
        token = logits.argmax(-1, keepdim=True) if greedy else torch.multinomial(logits.softmax(-1), 1)
        sequence = torch.cat([sequence, token], dim=1)
    return sequence[:, -2:]


def rewards(completions: torch.Tensor, answers: list[str]) -> np.ndarray:
    """(R,) share of the characters that are right."""
    return (completions == tokens(answers)).double().mean(1).numpy()


def advantages(reward_R: np.ndarray, group_R: np.ndarray, n_groups: int) -> np.ndarray:
    """Each rollout against the mean and standard deviation of its own group."""
    n_B = np.maximum(np.bincount(group_R, minlength=n_groups), 1)
    centred_R = reward_R - (np.bincount(group_R, reward_R, n_groups) / n_B)[group_R]
    return centred_R / (np.sqrt(np.bincount(group_R, centred_R**2, n_groups) / n_B)[group_R] + 1e-4)


def policy_loss(model: Qwen3ForCausalLM, prompts: list[str], completions: torch.Tensor, advantage_R: np.ndarray) -> torch.Tensor:
    """One update per batch, so the ratio to the sampling policy is 1 and its gradient that of the log-probability."""
    logits = model(torch.cat([tokens(prompts), completions], dim=1)).logits[:, -3:-1]
    logprob_RT = logits.log_softmax(-1).gather(-1, completions[..., None])[..., 0]
    return -(torch.tensor(advantage_R, dtype=torch.float32)[:, None] * logprob_RT).mean()


def train(model: Qwen3ForCausalLM, optimizer: torch.optim.Optimizer, curriculum: Curriculum, steps: range) -> np.ndarray:
    """Rollouts that each kind of question got."""
    spent_K = np.zeros(len(ANSWERS), dtype=np.int64)
    for step in steps:
        plan = curriculum.plan(step, N_GROUPS, N_ROLLOUTS)  # <- curriculum: which prompts, how many rollouts of each
        group_R = np.repeat(np.arange(len(plan)), plan.n_rollouts_B)  # <- curriculum
        rows = [ROWS[i] for i in plan.selection.prompt_B[group_R]]  # <- curriculum: row i of the pool is row i of the data

        prompts = [row["prompt"] for row in rows]
        completions = sampled(model, prompts)
        reward_R = rewards(completions, [row["answer"] for row in rows])

        n_tokens_R, cut_R = np.full(len(rows), 2), np.zeros(len(rows), dtype=bool)  # <- curriculum: two tokens each, none cut off
        outcome = outcome_of(plan, reward_R, n_tokens_R, cut_R, version=step, reward_range=(0.0, 1.0))  # <- curriculum
        verdict = curriculum.judge(outcome)  # <- curriculum: what enters the update
        curriculum.update(Feedback(outcome, verdict))  # <- curriculum: learn, from rejected groups too

        trains_R = verdict.carries_gradient_R
        advantage_R = advantages(reward_R, group_R, len(plan))[trains_R]
        if trains_R.any():
            optimizer.zero_grad()
            kept = [prompt for prompt, trains in zip(prompts, trains_R, strict=True) if trains]
            policy_loss(model, kept, completions[torch.tensor(trains_R)], advantage_R).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        spent_K += np.bincount(plan.selection.distribution_B, plan.n_rollouts_B, len(ANSWERS)).astype(np.int64)
    return spent_K


def accuracy(model: Qwen3ForCausalLM) -> dict[str, float]:
    """Share of questions whose greedy answer is wholly right."""
    right = rewards(sampled(model, [row["prompt"] for row in ROWS], greedy=True), [row["answer"] for row in ROWS]) == 1
    return {kind: float(right[[row["kind"] == kind for row in ROWS]].mean()) for kind in ANSWERS}


def fresh(recipe: str) -> tuple[Qwen3ForCausalLM, torch.optim.Optimizer, Curriculum]:
    """Everything as it is before the first step."""
    model = tiny_model()
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=0.0)
    pool = PromptPool.from_dataset(ROWS, distribution="kind")  # <- curriculum
    return model, optimizer, Curriculum.from_recipe(recipe, pool, seed=0)  # <- curriculum


def save(folder: Path, model: Qwen3ForCausalLM, optimizer: torch.optim.Optimizer, curriculum: Curriculum) -> None:
    """A checkpoint: the learner, and the curriculum beside it."""
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, folder / "learner.pt")
    np.savez(folder / "curriculum.npz", **curriculum.state_dict())  # <- curriculum


def load(folder: Path, model: Qwen3ForCausalLM, optimizer: torch.optim.Optimizer, curriculum: Curriculum) -> None:
    """Take up such a checkpoint."""
    learner = torch.load(folder / "learner.pt", weights_only=True)
    model.load_state_dict(learner["model"])
    optimizer.load_state_dict(learner["optimizer"])
    with np.load(folder / "curriculum.npz") as state:  # <- curriculum
        curriculum.load_state_dict(dict(state))  # <- curriculum


def main() -> None:
    """Train, with a break in the middle; print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=350)
    parser.add_argument("--recipe", default="dump_ucb", help="any of curricula.RECIPES")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a model this small gains nothing from more, and loses much where cores are shared
    half = options.steps // 2

    model, optimizer, curriculum = fresh(options.recipe)
    before = accuracy(model)
    spent_K = train(model, optimizer, curriculum, range(half))
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder), model, optimizer, curriculum)
        plan = curriculum.plan(half, N_GROUPS, N_ROLLOUTS)
        model, optimizer, curriculum = fresh(options.recipe)
        load(Path(folder), model, optimizer, curriculum)
    again = curriculum.plan(half, N_GROUPS, N_ROLLOUTS)
    print("saved, forgotten, taken up again: the next plan is", "the same" if same(plan, again) else "ANOTHER ONE")
    spent_K += train(model, optimizer, curriculum, range(half, options.steps))
    after = accuracy(model)
    for name, spent in zip(curriculum.pool.distribution_names, spent_K, strict=True):
        print(f"{name:8s} {spent:6d} rollouts   right before {before[name]:4.0%}   after {after[name]:4.0%}")


def same(one: RolloutPlan, other: RolloutPlan) -> bool:
    """Do two plans ask for the same rollouts?"""
    return bool(
        np.array_equal(one.selection.prompt_B, other.selection.prompt_B) and np.array_equal(one.n_rollouts_B, other.n_rollouts_B)
    )


if __name__ == "__main__":
    main()
