"""A curriculum inside TRL's `GRPOTrainer`: change the class name of a script, and say which curriculum.

    from trainer.integrations.trl import CurriculumGRPOTrainer

    trainer = CurriculumGRPOTrainer(model, rewards, args, train_dataset=rows, curriculum="dump_ucb", distribution_column="level")

Tested with TRL 1.16.0 (transformers 5.19); another version warns, one without the methods that are used here is refused.
`docs/trl.md` says what works and what TRL cannot do.

The curriculum decides when a batch of rollouts is about to be generated, and learns before that batch is trained on: there is no
lag. The rows that TRL's sampler has chosen are replaced. The main process decides and tells the others.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from itertools import chain
from math import ceil, lcm
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from curricula import Curriculum, RolloutPlan
from curricula.groups import score_spreads
from curricula.hosting import Advantage, HostedStep, curriculum_of, load, next_step, outcome_of, pool_of, save
from curricula.recipes import Recipe
from curricula.types import Bools, CurriculaError, Floats, Ints

try:
    import torch
    from accelerate.utils import broadcast_object_list, gather_object
    from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR
    from trl import GRPOTrainer

    from trainer.integrations import trl_settings as settings
except ImportError as error:
    raise ImportError(f"trainer.integrations.trl needs TRL: pip install 'rl-curricula[trl]' ({error})") from error

if TYPE_CHECKING:
    from trainer.integrations.hosted_log import HostedLog

EPSILON = 1e-4  # that TRL adds to standard deviations
_in_use: weakref.WeakSet[Curriculum] = weakref.WeakSet()
T = TypeVar("T")


class _Row(NamedTuple):
    """One rollout, as it stands in TRL's lists."""

    inputs: dict[str, Any]  # the data set's columns
    prompt: Any
    prompt_ids: list[int]
    completion_ids: list[int]
    tool_mask: list[int] | None
    completion: Any
    logprobs: list[float] | None
    images: Any
    tool_images: Any
    cut: bool
    extras: dict[str, Any]  # what reward functions log beside it


class _Decided(NamedTuple):
    """What the main process made of a batch: an entry per place (P) of TRL's batch."""

    place_P: Ints  # rollout, in the order of generation
    first_P: Bools  # else the place only repeats a rollout
    trains_P: Bools
    advantage_P: Floats
    equal_P: Bools  # the rewards of its group are all equal
    metrics: dict[str, float]


class CurriculumGRPOTrainer(GRPOTrainer):  # type: ignore[misc]
    """`GRPOTrainer` whose prompts, group sizes and trained rollouts are a curriculum's decisions.

    Besides TRL's own arguments: ``curriculum``, a recipe's name, a mapping of stages to policies, or a `Curriculum`;
    ``id_column`` with a unique id per row (default: "id" where there is one, else a hash of the prompt); ``distribution_column``
    (default: all prompts are one distribution); ``reward_range``, lowest and highest weighted sum of rewards (default: every
    reward function in [0, 1]); ``max_attempts``, plans per batch where a filter wants rejected groups replaced; ``log``, a folder
    for this project's rollout log, which needs ``rl-curricula[rollout]``.

    Errors: CurriculaError for what TRL, the data set or the arguments cannot do.
    """

    def __init__(
        self,
        *args: Any,
        curriculum: str | Recipe | Curriculum = "dump_ucb",
        id_column: str | None = None,
        distribution_column: str | None = None,
        reward_range: tuple[float, float] | None = None,
        max_attempts: int = 4,
        log: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        settings.refuse_class(type(self), CurriculumGRPOTrainer, GRPOTrainer)
        super().__init__(*args, **kwargs)
        settings.refuse_arguments(self)
        pool = pool_of(*settings.columns(self.train_dataset, id_column, distribution_column))
        self.curriculum = curriculum_of(curriculum, pool, self.args.seed)
        if self.curriculum in _in_use:
            raise CurriculaError("curriculum: this one steers another trainer already; give each trainer one of its own")
        self._host = settings.host(self)
        settings.refuse_small_pool(pool, self._host)
        weights = self.reward_weights.double().tolist()
        self._reward_range = reward_range or (sum(min(w, 0.0) for w in weights), sum(max(w, 0.0) for w in weights))
        self._rule = Advantage(self.scale_rewards, EPSILON)
        self._max_attempts = max_attempts
        self._next_batch = self._first_batch = next_step(self.curriculum)  # the curriculum's steps are generated batches
        self._log_folder = Path(log) if log else None
        self._log: HostedLog | None = None  # open while the main process trains
        self._plan: RolloutPlan | None = None  # that is being rolled out; None while TRL evaluates
        self._rewards: torch.Tensor | None = None  # (P, reward functions) of the batch that TRL is about to score
        _in_use.add(self.curriculum)

    # --- one batch: what TRL asks for, in this order ------------------------------------------------------------------------------

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        if not self.model.training:
            return super()._generate_and_score_completions(inputs)  # type: ignore[no-any-return]
        self._attempts = HostedStep(self.curriculum, self._host, self._next_batch, self._max_attempts)
        plan: Any = self._from_main(self._attempts.next_plan)  # the first one is never None
        self._plan = plan
        try:
            self._inputs = self._rows_of(plan)
            output = super()._generate_and_score_completions(self._inputs)
        finally:
            self._plan = self._rewards = None
        self._next_batch += 1
        return self._corrected(output)

    def _generate(self, prompts: list[Any]) -> Any:
        """Roll out every plan of the batch, refills too; TRL goes on with the rollouts that fill its places."""
        if self._plan is None:
            return super()._generate(prompts)
        plan: RolloutPlan | None = self._plan
        inputs, asked = self._inputs, prompts
        made: list[tuple[list[_Row], int]] = []  # per plan: of this process, and how many of all processes count
        rewards: list[torch.Tensor] = []
        while plan is not None:
            rows, reward_RF = self._roll_out(plan, inputs, asked)
            made.append((rows, plan.n_rollouts))
            rewards.append(reward_RF)
            plan = self._from_main(self._attempts.next_plan)
            inputs = [] if plan is None else self._rows_of(plan)
            asked = [row["prompt"] for row in inputs]
        return self._settle(made, torch.cat(rewards), prompts)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> torch.Tensor:
        if self._rewards is None:
            return super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)  # type: ignore[no-any-return]
        return self._rewards

    def _corrected(self, output: dict[str, Any]) -> dict[str, Any]:
        """TRL's tensors and metrics with the advantages of the real groups; what does not train is masked out of the loss."""
        decided, metrics = self._decided, self._metrics["train"]
        advantage, mask = output["advantages"], output["completion_mask"]
        mine = self._share(len(advantage))
        output["advantages"] = torch.as_tensor(decided.advantage_P[mine]).to(advantage)
        if not decided.trains_P.all():  # by the tool mask, which acts on the loss and not on attention
            trains = torch.as_tensor(decided.trains_P[mine]).to(mask).unsqueeze(1)
            output["tool_mask"] = output.get("tool_mask", torch.ones_like(mask)) * trains
            output["num_items_in_batch"] = self.accelerator.gather((mask * output["tool_mask"]).sum()).sum()
        if self._rule.scale != "batch":
            metrics["frac_reward_zero_std"][-1] = float(decided.equal_P[decided.first_P].mean())
        for name, value in decided.metrics.items():
            metrics[f"curriculum/{name}"].append(value)
        self._logs["advantages"].extend(decided.advantage_P.tolist())  # as many as it holds: TRL's own go
        return output

    # --- rollouts -----------------------------------------------------------------------------------------------------------------

    def _rows_of(self, plan: RolloutPlan) -> list[dict[str, Any]]:
        """This process's share of a plan's rollouts, group by group over all processes; the last is repeated to make them even."""
        n, unit = plan.n_rollouts, lcm(self.accelerator.num_processes, self._host.group_size if self._host.one_size else 1)
        row_R = np.repeat(plan.selection.prompt_B, plan.n_rollouts_B)
        row_R = np.concatenate([row_R, np.repeat(row_R[-1:], ceil(n / unit) * unit - n)])
        mine = row_R[self._share(len(row_R) // self.accelerator.num_processes)]
        found = {row: self.train_dataset[row] for row in np.unique(mine).tolist()}
        return [dict(found[row]) for row in mine.tolist()]

    def _roll_out(self, plan: RolloutPlan, inputs: list[dict[str, Any]], prompts: list[Any]) -> tuple[list[_Row], torch.Tensor]:
        """This process's rollouts of a plan, and all processes' rewards (R, reward functions); the curriculum gets to know."""
        ids, completion_ids, masks, completions, logprobs, fields, images, tool_images = super()._generate(prompts)
        for i, row in enumerate(inputs):  # as TRL does for its reward functions
            row.update({key: value[i] if isinstance(value, list) else value for key, value in fields.items()})
        reward_RF = super()._calculate_rewards(inputs, prompts, completions, completion_ids)[: plan.n_rollouts]
        ends = {*self.eos_token_ids, self._tokenizer.pad_token_id}
        cut = [tokens[-1] not in ends for tokens in completion_ids]
        n_tokens = [sum(mask) for mask in masks] if masks else [len(tokens) for tokens in completion_ids]
        facts = torch.tensor([n_tokens, cut], device=self.accelerator.device).T.contiguous()
        n_tokens_R, cut_R = self.accelerator.gather(facts)[: plan.n_rollouts].T.cpu().numpy()
        if self.accelerator.is_main_process:
            unscored_R = cut_R.astype(bool) & self.mask_truncated_completions
            version, reward_R = self.state.global_step, self._weighted(reward_RF)
            self._attempts.take(outcome_of(plan, reward_R, n_tokens_R, unscored_R, version, self._reward_range))
        columns = [column or [None] * len(inputs) for column in (masks, completions, logprobs, images, tool_images)]
        made = zip(inputs, prompts, ids, completion_ids, *columns, cut, self._take_extras(len(inputs)), strict=True)
        return [_Row(*one) for one in made], reward_RF

    def _weighted(self, reward_RF: torch.Tensor) -> Floats:
        """(R,) weighted sums as TRL makes them: what one function leaves out counts 0; NaN where all left it out."""
        total = (reward_RF * self.reward_weights.to(reward_RF)).double().nansum(dim=1)
        return np.asarray(torch.where(reward_RF.isnan().all(dim=1), torch.nan, total).cpu())

    def _take_extras(self, n: int) -> list[dict[str, Any]]:
        pending = self._pending_extra_logs
        if ragged := [name for name, values in pending.items() if len(values) != n]:
            raise CurriculaError(
                f"log_extra: expected one value per completion ({n}), got {len(pending[ragged[0]])} for {ragged[0]!r}"
            )
        rows = [{name: values[i] for name, values in pending.items()} for i in range(n)]
        pending.clear()
        return rows

    # --- from rollouts to a batch -------------------------------------------------------------------------------------------------

    def _settle(self, made: list[tuple[list[_Row], int]], reward_RF: torch.Tensor, prompts: list[Any]) -> Any:
        """Decide what trains; this process's part of the batch, in the form that `_generate` answers in."""
        decided = self._decided = self._from_main(self._decide)
        in_order = len(made) == 1 and np.array_equal(decided.place_P, np.arange(len(reward_RF)))
        everything = [] if in_order and self._log_folder is None else self._of_all_processes(made)
        if self._log is not None:
            self._write(self._log, everything)
        mine = decided.place_P[self._share(len(decided.place_P) // self.accelerator.num_processes)]
        rows = made[0][0] if in_order else [everything[r] for r in mine]
        self._rewards = reward_RF[torch.as_tensor(decided.place_P, device=reward_RF.device)]
        self._rewards[torch.as_tensor(~decided.first_P, device=reward_RF.device)] = torch.nan  # no reward is counted twice
        for name in {name for row in rows for name in row.extras}:
            self._pending_extra_logs[name] = [row.extras.get(name) for row in rows]
        # TRL holds these two lists and goes on with them: they are to say what the batch is now
        self._inputs[:], prompts[:] = [row.inputs for row in rows], [row.prompt for row in rows]
        column = {name: list(values) for name, values in zip(_Row._fields, zip(*rows, strict=True), strict=True)}
        masks, logprobs, images, tool_images = (
            None if all(value is None for value in column[name]) else column[name]
            for name in ("tool_mask", "logprobs", "images", "tool_images")
        )
        return column["prompt_ids"], column["completion_ids"], masks, column["completion"], logprobs, {}, images, tool_images or []

    def _decide(self) -> _Decided:
        batch = self._batch = self._attempts.finish(self._rule)
        place_P, first_P = batch.places(self._host.n_rollouts)
        trains_P = batch.whole.verdict.carries_gradient_R[place_P] & first_P
        advantage_P = np.where(trains_P, batch.advantages(self._rule)[place_P], 0.0)
        equal_R = (score_spreads(batch.whole.outcome) == 0)[batch.whole.outcome.group_R]
        return _Decided(place_P, first_P, trains_P, advantage_P, equal_R[place_P], batch.metrics() | self.curriculum.metrics())

    def _of_all_processes(self, made: list[tuple[list[_Row], int]]) -> list[_Row]:
        """Rollouts in the order of generation, without those that were repeated to make shares even."""
        return list(chain.from_iterable(gather_object(rows)[:n] for rows, n in made))

    def _share(self, n: int) -> slice:
        """This process's part of what all processes have, ``n`` each."""
        return slice(n * self.accelerator.process_index, n * (self.accelerator.process_index + 1))

    def _from_main(self, decide: Callable[[], T]) -> T:
        """The main process's answer, or error, on every process."""
        box: list[Any] = [None]
        if self.accelerator.is_main_process:
            try:
                box = [decide()]
            except CurriculaError as refusal:
                box = [refusal]
        broadcast_object_list(box)
        if isinstance(box[0], CurriculaError):
            raise box[0]
        return box[0]  # type: ignore[no-any-return]

    # --- state and log ------------------------------------------------------------------------------------------------------------

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As TRL's, with the log open meanwhile."""
        if self._log_folder is not None and self.accelerator.is_main_process:
            from trainer.integrations.hosted_log import HostedLog

            self._log = HostedLog(self._log_folder, self.curriculum, self._host.name)
        try:
            return super().train(*args, **kwargs)
        finally:
            if self._log is not None:
                self._log.close()
            self._log = None

    def _write(self, log: HostedLog, rows: list[_Row]) -> None:
        from trainer.integrations.hosted_log import Written

        texts = self._tokenizer.batch_decode([row.completion_ids for row in rows], skip_special_tokens=True)
        written = [
            Written(len(row.prompt_ids), row.completion_ids, text, row.cut, row.tool_mask, row.logprobs)
            for row, text in zip(rows, texts, strict=True)
        ]
        row_R = self._batch.whole.plan.selection.prompt_B[self._batch.whole.outcome.group_R].tolist()
        contents = {i: row.prompt for i, row in zip(row_R, rows, strict=True)}
        log.write(self._batch, written, contents, self.state.global_step)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """The curriculum's state goes first, so that a checkpoint that is whole has it."""
        if self.accelerator.is_main_process:
            folder = Path(self._get_output_dir(trial=trial)) / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            facts: dict[str, Any] = {"next_batch": self._next_batch, "num_generations": self.num_generations}
            save(folder, self.curriculum, facts if self._log is None else facts | {"log": self._log.position})
        super()._save_checkpoint(model, trial)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        self._from_main(lambda: self._begin(checkpoint))

    def _begin(self, checkpoint: str | None) -> None:
        """Take up what a checkpoint has, or start; the log goes back to that place."""
        facts = {} if checkpoint is None else load(Path(checkpoint), self.curriculum)
        if facts and int(facts["num_generations"]) != self.num_generations:
            raise CurriculaError(
                f"{checkpoint}: num_generations was {int(facts['num_generations'])} and is now {self.num_generations}; resume with "
                "the saved run's value, or start a new run"
            )
        self._next_batch = int(facts.get("next_batch", self._next_batch))
        if self._log is not None and (facts or self._next_batch == self._first_batch):
            self._log.begin(facts["log"].tolist() if "log" in facts else None)
