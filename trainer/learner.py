"""GRPO on one rank; with a `Ranks` that shards, the same code is one rank of several."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curricula.types import CurriculaError, Floats, Ints
from rollout.types import Weights
from rollout.weights import to_chunks
from trainer.gradient_noise import matrices_to_watch
from trainer.learner_state import Facts, read_state, write_model, write_state
from trainer.learner_statistics import LearnerStatistics
from trainer.losses import token_weights
from trainer.masters import Masters
from trainer.micro_batches import MicroBatch, assemble, deal, split_by_length
from trainer.objective import Scored, Tally, objective
from trainer.optimizer import Saved, chosen
from trainer.policy_model import PolicyModel, load_policy_model, published_weights
from trainer.settings import LearnerSettings, ModelSettings
from trainer.token_share import in_order, top_tokens, with_weights
from trainer.types import LearnerReport, TrainSequence


class Ranks(Protocol):
    """The other ranks, as one of them sees them."""

    rank: int
    size: int
    device: torch.device

    def load_dtype(self, settings: ModelSettings) -> torch.dtype: ...
    def shard(self, model: PolicyModel, settings: ModelSettings) -> PolicyModel: ...
    def total(self, tally: Tally) -> Tally: ...
    def summed(self, tensor: Tensor) -> Tensor:
        """The sum of every rank's tensor, in main memory."""
        ...

    def whole(self, tensor: Tensor) -> Tensor:
        """All of a tensor that may be sharded; every rank has to ask."""
        ...

    def share(self, whole: Tensor, like: Tensor) -> Tensor:
        """This rank's part of a whole tensor, laid out like another one."""
        ...


class OneRank:
    """Nobody else."""

    rank, size = 0, 1

    def __init__(self) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def load_dtype(self, settings: ModelSettings) -> torch.dtype:
        dtype: torch.dtype = getattr(torch, settings.dtype)
        return dtype

    def shard(self, model: PolicyModel, settings: ModelSettings) -> PolicyModel:
        return model.to(self.device)

    def total(self, tally: Tally) -> Tally:
        return tally

    def summed(self, tensor: Tensor) -> Tensor:
        return tensor

    def whole(self, tensor: Tensor) -> Tensor:
        return tensor

    def share(self, whole: Tensor, like: Tensor) -> Tensor:
        return whole.to(like.device)


class TorchLearner:
    """Holds model, master weights and optimiser; see `LearnerSettings` for what a step does."""

    def __init__(
        self, model: ModelSettings, settings: LearnerSettings, temperature: float, max_tokens: int, ranks: Ranks | None = None
    ) -> None:
        if temperature <= 0:
            raise CurriculaError(
                f"learner: sampling.temperature is {temperature}, expected > 0: greedy rollouts have no policy gradient"
            )
        self.version = 0
        self._model_settings, self._settings = model, settings
        self._constant_tokens = settings.constant_tokens or max_tokens
        self._ranks = ranks or OneRank()
        loaded = load_policy_model(model, self._ranks.load_dtype(model), temperature, settings.logprob_chunk_tokens)
        self._dtype: torch.dtype = getattr(torch, model.dtype)  # of published weights
        reference = loaded.frozen_copy() if settings.kl_coefficient > 0 else None
        matrices = matrices_to_watch(loaded) if "gradient_noise" in settings.statistics else []  # sharding renames classes
        self._model = self._ranks.shard(loaded, model)
        self._statistics = LearnerStatistics(settings, matrices, self._ranks)
        self._reference = None if reference is None else self._ranks.shard(reference, model)
        self._masters = Masters(self._model.causal_lm)
        self._optimizer = chosen(settings.optimizer).build(self._masters.tensors, settings)

    # -- learning ---------------------------------------------------------------------------------------------------------------

    def step(self, sequences: Sequence[TrainSequence], lr: float) -> LearnerReport:
        """One pass over the sequences in ``updates_per_step`` updates; one without signal or with non-finite numbers is left out.

        Metrics beside those of the loss: ``updates`` made, ``non_finite_updates`` left out, ``skipped_sequences`` without signal:
        they count in every denominator but do not pass through the model.
        """
        began = time.perf_counter()
        for sequence in sequences:
            _refuse_bad_sequence(sequence)
        parts = [[sequences[i] for i in part] for part in split_by_group(sequences, self._settings.updates_per_step)]
        plans = [self._prepared(part, self._plan(part), len(parts) > 1) for part in parts]
        with self._statistics.step(sequences, self.my_logprobs):
            done = [self._update(part, plan, lr) for part, plan in zip(parts, plans, strict=True) if plan]
        tally = sum((tally for tally, _ in done), Tally.zero())
        norms = [norm for _, norm in done]
        processed = [sequence for part in parts for sequence in part if self._has_signal(sequence)]
        metrics = tally.metrics()
        made = [norm for norm in norms if np.isfinite(norm)]
        return LearnerReport(
            loss=tally.loss / max(len(done), 1),
            grad_norm=float(np.mean(norms)) if norms else 0.0,
            lr=lr,
            n_tokens=int(metrics.pop("tokens")),
            n_processed_tokens=sum(len(sequence.prompt_ids) + len(sequence.token_ids) for sequence in processed),
            seconds=time.perf_counter() - began,
            metrics=metrics
            | self._optimizer.metrics()
            | self._statistics.metrics()
            | {
                "tokens": float(sum(sequence.n_drawn for sequence in sequences)),
                "updates": float(len(made)),
                "non_finite_updates": float(len(norms) - len(made)),
                "skipped_sequences": float(len(sequences) - len(processed)),
            },
        )

    def _plan(self, part: Sequence[TrainSequence]) -> list[MicroBatch]:
        """This rank's micro-batches of one update; none when no sequence of the update has signal."""
        n_tokens = np.array([sequence.n_drawn for sequence in part])
        weight_R = token_weights(n_tokens, self._settings.aggregation, self._constant_tokens)
        live = np.flatnonzero([self._has_signal(sequence) for sequence in part])
        return self._micro_batches(part, live, weight_R)

    def _has_signal(self, sequence: TrainSequence) -> bool:
        return sequence.n_drawn > 0 and (sequence.mean_abs_advantage != 0 or self._settings.kl_coefficient > 0)

    def _micro_batches(self, sequences: Sequence[TrainSequence], chosen: Ints, weight_R: Floats) -> list[MicroBatch]:
        length_R = np.array([len(sequence.prompt_ids) + len(sequence.token_ids) - 1 for sequence in sequences])
        parts = [chosen[part] for part in split_by_length(length_R[chosen], self._settings.tokens_per_micro_batch)]
        mine = deal(parts, length_R, self._ranks.size)[self._ranks.rank]
        return [assemble(sequences, part, weight_R) for part in mine]

    def _prepared(self, part: Sequence[TrainSequence], plan: list[MicroBatch], one_of_several: bool) -> list[MicroBatch]:
        """The micro-batches with what the learner thinks of them before the step, where that matters: one pass without gradient.

        With several updates the later ones need the log-probabilities; a share of tokens is chosen by the entropies.
        """
        needs_logprobs, chooses = one_of_several and self._settings.importance_cap is not None, self._settings.token_share < 1
        if not plan or not (needs_logprobs or chooses):
            return plan
        scores = [tuple(score_T.cpu() for score_T in self._score(micro)) for micro in plan]
        if needs_logprobs:
            plan = [replace(micro, learner_T=logprob_T) for micro, (logprob_T, _) in zip(plan, scores, strict=True)]
        return self._with_chosen_tokens(part, plan, [entropy_T for _, entropy_T in scores]) if chooses else plan

    def _with_chosen_tokens(
        self, part: Sequence[TrainSequence], plan: Sequence[MicroBatch], entropies: Sequence[Tensor]
    ) -> list[MicroBatch]:
        """Weights of zero for the tokens that are left out; the others' denominators count chosen tokens alone."""
        n_tokens = np.array([sequence.n_drawn for sequence in part])
        entropy_T = self._ranks.summed(in_order(plan, entropies, n_tokens)).numpy()
        advantage_T = np.concatenate([sequence.drawn_advantages for sequence in part])
        chosen_T = top_tokens(np.abs(advantage_T) * entropy_T, self._settings.token_share)
        n_chosen = np.bincount(np.repeat(np.arange(len(part)), n_tokens)[chosen_T], minlength=len(part))
        weight_R = token_weights(n_chosen, self._settings.aggregation, self._constant_tokens)
        return with_weights(plan, np.repeat(weight_R, n_tokens) * chosen_T, n_tokens)

    @torch.no_grad()
    def _score(self, micro: MicroBatch, model: PolicyModel | None = None) -> tuple[Tensor, Tensor]:
        scores: tuple[Tensor, Tensor] = (model or self._model)(micro.to(self._ranks.device))
        return scores

    def _update(self, part: Sequence[TrainSequence], plan: Sequence[MicroBatch], lr: float) -> tuple[Tally, float]:
        """Gradients of all micro-batches, then one optimiser step unless something is not finite. Tally and gradient norm."""
        with self._own_randomness(), self._statistics.update(part):
            tally = self._ranks.total(sum((self._accumulate(micro) for micro in plan), Tally.zero()))
        self._statistics.measure(self._masters.tensors, self._optimizer, self.version)
        norm = torch.nn.utils.clip_grad_norm_(self._masters.tensors.values(), self._settings.max_grad_norm, foreach=True)
        norm_value = float(self._ranks.whole(norm))
        if np.isfinite(norm_value) and np.isfinite(tally.loss):
            self._optimizer.step(lr, tally.loss)
            self._masters.publish()
            self.version += 1
        else:
            norm_value = float("nan")
        self._optimizer.zero_grad()
        return tally, norm_value

    def _accumulate(self, micro: MicroBatch) -> Tally:
        micro = micro.to(self._ranks.device)
        reference_T = None if self._reference is None else self._score(micro, self._reference)[0]
        self._statistics.expect(micro)
        logprob_T, entropy_T = self._model(micro)
        loss, tally = objective(micro, Scored(logprob_T, entropy_T, reference_T), self._settings, self.version)
        (loss * self._ranks.size).backward()  # FSDP averages gradients over ranks; the weights' denominators are global already
        return tally

    @contextmanager
    def _own_randomness(self) -> Iterator[None]:
        """LoRA dropout draws from the version alone, so that a resumed run is the run that never stopped."""
        with torch.random.fork_rng():
            torch.manual_seed(self.version)
            yield

    # -- reading ----------------------------------------------------------------------------------------------------------------

    def logprobs(self, sequences: Sequence[TrainSequence]) -> list[NDArray[np.float32]]:
        mine = self.my_logprobs(sequences)
        return [mine.get(i, np.zeros(0, np.float32)) for i in range(len(sequences))]

    def my_logprobs(self, sequences: Sequence[TrainSequence]) -> dict[int, NDArray[np.float32]]:
        """Log-probabilities of the sequences that fall to this rank, by place in the list."""
        for sequence in sequences:
            _refuse_bad_sequence(sequence)
        full = np.flatnonzero([sequence.n_drawn > 0 for sequence in sequences])
        found: dict[int, NDArray[np.float32]] = {}
        for micro in self._micro_batches(sequences, full, np.zeros(len(sequences))):
            logprob_T = self._score(micro)[0].float().cpu().numpy()
            ends = np.cumsum(np.bincount(micro.sequence_T.numpy()))[:-1]
            found |= dict(zip(micro.place_n, np.split(logprob_T, ends), strict=False))  # a dummy has a part but no place
        return {place: _among_fed(sequences[place], logprob_T) for place, logprob_T in found.items()}

    def weights(self) -> Weights:
        return Weights(self.version, list(to_chunks(self.named_weights())))

    def release_weights(self) -> Weights | None:
        if not self.averages:
            return None
        with self.releasing():
            return self.weights()

    @property
    def averages(self) -> bool:
        """Whether the weights to evaluate and to ship are others than those that rollouts are drawn from."""
        return self._optimizer.averages

    @contextmanager
    def releasing(self) -> Iterator[None]:
        """Within it the weights are those to evaluate and to ship; afterwards they are what they were, to the last bit."""
        with self._optimizer.releasing():
            if self.averages:
                self._masters.publish()
            yield
        if self.averages:
            self._masters.publish()

    @torch.no_grad()
    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """The current weights under Hugging Face names, adapters merged; copies, which later updates do not touch."""
        for name, parameter, delta in published_weights(self._model.causal_lm, self._ranks.whole):
            merged = self._ranks.whole(parameter) if delta is None else self._ranks.whole(parameter).float() + delta.float()
            yield name, merged.to(self._dtype, copy=True)

    # -- checkpoints ------------------------------------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        optimizer = self._optimizer.state()
        tensors = {f"master/{name}": tensor for name, tensor in self._masters.tensors.items()} | optimizer.tensors
        state = self._kept((name, self._ranks.whole(tensor)) for name, tensor in tensors.items())
        with self.releasing():
            weights = self._kept(self.named_weights())
        if self._ranks.rank == 0:
            write_state(folder, state, Facts(self.version, self._optimizer_name, optimizer.numbers, self.averages))
            write_model(folder / "model", self._model.causal_lm, weights, self._model_settings.path)

    def _kept(self, gathered: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
        """What is gathered, in the first rank's memory; the others only take part."""
        return {name: tensor.detach().cpu() for name, tensor in gathered if self._ranks.rank == 0}

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        masters = self._masters.tensors
        tensors, facts = read_state(folder, {name: tensor.shape for name, tensor in masters.items()}, self._optimizer_name)
        self.version = facts.version
        for name, master in masters.items():
            master.copy_(self._ranks.share(tensors[f"master/{name}"], master))
        self._optimizer.load(Saved(tensors, facts.numbers), self.version, self._ranks.share)
        self._masters.publish()

    def close(self) -> None:
        """Nothing to release: the process owns the memory."""

    @property
    def _optimizer_name(self) -> str:
        return str(self._settings.optimizer["name"])


def split_by_group(sequences: Sequence[TrainSequence], n_parts: int) -> list[Ints]:
    """Places of the sequences of each update: whole groups, dealt in turn so that every update sees the same mixture."""
    group_R = np.array([sequence.group for sequence in sequences])
    _, first_R, place_R = np.unique(group_R, return_index=True, return_inverse=True)
    arrival_B = np.argsort(np.argsort(first_R))
    part_R = arrival_B[place_R] % n_parts
    return [np.flatnonzero(part_R == part) for part in range(min(n_parts, len(first_R)))]


def _among_fed(sequence: TrainSequence, drawn_logprob_T: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log-probabilities of drawn tokens at their places, 0 where tokens were fed."""
    if sequence.drawn_T is None:
        return drawn_logprob_T
    logprob_T = np.zeros(len(sequence.token_ids), np.float32)
    logprob_T[sequence.drawn_T] = drawn_logprob_T
    return logprob_T


def _refuse_bad_sequence(sequence: TrainSequence) -> None:
    if not sequence.prompt_ids:
        raise CurriculaError(f"learner: a sequence of group {sequence.group} has no prompt; the first token must follow something")
    if len(sequence.rollout_logprob_T) != len(sequence.token_ids):
        raise CurriculaError(
            f"learner: a sequence of group {sequence.group} has {len(sequence.token_ids)} tokens but "
            f"{len(sequence.rollout_logprob_T)} rollout log-probabilities; the engine must return one per token"
        )
    if sequence.drawn_T is not None and sequence.drawn_T.shape != sequence.token_ids.shape:
        raise CurriculaError(
            f"learner: a sequence of group {sequence.group} has {len(sequence.token_ids)} tokens but says of "
            f"{len(sequence.drawn_T)} whether the model drew them; expected one mark per token"
        )
    if sequence.advantage_T is not None and sequence.advantage_T.shape != sequence.token_ids.shape:
        raise CurriculaError(
            f"learner: a sequence of group {sequence.group} has {len(sequence.token_ids)} tokens but {len(sequence.advantage_T)} "
            "advantages; expected one per token"
        )
    if not (np.isfinite(sequence.mean_abs_advantage) and np.isfinite(sequence.rollout_logprob_T).all()):
        raise CurriculaError(
            f"learner: a sequence of group {sequence.group} has advantage {sequence.advantage} or rollout log-probabilities "
            "that are not finite; leave unscored rollouts out of the update"
        )
