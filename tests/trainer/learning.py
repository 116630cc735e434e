"""Sequences and a plain GRPO step to compare the learner with."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from trainer.learner import TorchLearner
from trainer.settings import LearnerSettings, ModelSettings
from trainer.types import TrainSequence

VOCABULARY = 80
TEMPERATURE = 0.9
MAX_TOKENS = 24


def make_learner(path, model=None, ranks=None, **settings) -> TorchLearner:
    given = {"dtype": "float32"} | (model or {})
    return TorchLearner(ModelSettings(path=str(path), **given), LearnerSettings(**settings), TEMPERATURE, MAX_TOKENS, ranks)


def ragged_sequences(seed=0, group_sizes=(2, 5, 3, 4), version=0) -> list[TrainSequence]:
    """Groups of unequal size, lengths from 1 to MAX_TOKENS, rollout log-probabilities of no particular model."""
    rng = np.random.default_rng(seed)
    sequences = []
    for group, size in enumerate(group_sizes):
        prompt = tuple(rng.integers(3, VOCABULARY, rng.integers(1, 9)).tolist())
        for _ in range(size):
            n = int(rng.integers(1, MAX_TOKENS + 1))
            tokens = rng.integers(3, VOCABULARY, n).astype(np.int32)
            sequences.append(
                TrainSequence(prompt, tokens, rng.normal(-4, 1, n).astype(np.float32), float(rng.normal()), group, version)
            )
    return sequences


def weights_of(learner) -> dict[str, np.ndarray]:
    return {name: array for chunk in learner.weights().chunks for name, array in chunk.items()}


def gradients_of(learner) -> dict[str, np.ndarray]:
    """Adam's mean of the clipped gradients, as good as the gradients themselves."""
    tensors = learner._optimizer.state().tensors
    return {name: tensors[f"exp_avg/{name}"].numpy() for name in learner._masters.tensors}


def differences(one: dict, other: dict) -> float:
    assert one.keys() == other.keys()
    return max(float(np.abs(one[name] - other[name]).max()) for name in one)


def plain_logprobs(model, sequence) -> torch.Tensor:
    """One sequence alone through the model's own forward pass."""
    ids = torch.tensor([*sequence.prompt_ids, *sequence.token_ids.tolist()])
    logits = model(input_ids=ids[None], attention_mask=torch.ones(1, len(ids))).logits[0].float() / TEMPERATURE
    everywhere = F.log_softmax(logits[:-1], -1).gather(1, ids[1:, None])[:, 0]
    return everywhere[len(sequence.prompt_ids) - 1 :]


def plain_grpo_step(model, optimizer, sequences, max_grad_norm=1.0, cap=2.0) -> float:
    """Token-mean GRPO with one update and truncated importance weights, written as naively as possible."""
    n_tokens = sum(len(sequence.token_ids) for sequence in sequences)
    total = torch.zeros(())
    for sequence in sequences:
        for t, logp in enumerate(plain_logprobs(model, sequence)):
            ratio = (logp - logp.detach()).exp()
            importance = (logp.detach() - float(sequence.rollout_logprob_T[t])).exp().clamp(max=cap)
            clipped = ratio.clamp(0.8, 1.2)
            total = total - importance * torch.min(ratio * sequence.advantage, clipped * sequence.advantage) / n_tokens
    optimizer.zero_grad()
    total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
    optimizer.step()
    return float(total.detach())
