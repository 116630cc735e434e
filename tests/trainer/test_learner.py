"""One rank on a real, tiny model: against a naive implementation, and that how work is cut never shows."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from curricula.types import CurriculaError
from rollout.weights import to_tensor
from tests.trainer.learning import (
    differences,
    gradients_of,
    make_learner,
    plain_grpo_step,
    plain_logprobs,
    ragged_sequences,
    weights_of,
)
from trainer.batch import with_own_logprobs
from trainer.learner import split_by_group
from trainer.settings import LoraSettings
from trainer.types import NO_VERSION

LR = 1e-3


def run(learner, n_steps, first=0, lr=LR):
    return [learner.step(ragged_sequences(seed, version=learner.version), lr) for seed in range(first, first + n_steps)]


@pytest.mark.parametrize("which", ["tiny_model_path", "untied_model_path"])
def test_equals_a_naive_grpo_step(which, request):
    path = request.getfixturevalue(which)
    learner = make_learner(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.99), weight_decay=0.0)
    for seed in range(3):
        sequences = ragged_sequences(seed)
        report = learner.step(sequences, LR)
        assert report.loss == pytest.approx(plain_grpo_step(model, optimizer, sequences), abs=2e-6)
    gradients = {name: optimizer.state[p]["exp_avg"].numpy() for name, p in model.named_parameters()}
    assert differences(gradients_of(learner), gradients) < 1e-6
    assert differences(weights_of(learner), {name: p.detach().numpy() for name, p in model.named_parameters()}) < 0.1 * LR
    assert learner.version == 3


def test_logprobs_equal_a_plain_forward_pass_in_the_order_given(tiny_model_path):
    learner = make_learner(tiny_model_path, tokens_per_micro_batch=60)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_path, dtype=torch.float32)
    sequences = ragged_sequences()
    sequences[3] = replace(sequences[3], token_ids=np.zeros(0, np.int32), rollout_logprob_T=np.zeros(0, np.float32))
    found = learner.logprobs(sequences)
    assert [len(logprob_T) for logprob_T in found] == [len(sequence.token_ids) for sequence in sequences]
    for logprob_T, sequence in zip(found, sequences, strict=True):
        np.testing.assert_allclose(logprob_T, plain_logprobs(model, sequence).detach(), atol=1e-5)
    assert learner.logprobs([]) == []


@pytest.mark.parametrize("aggregation", ["token_mean", "sequence_mean", "constant"])
@pytest.mark.parametrize("loss", ["clip", "gspo", "cispo"])
def test_micro_batches_and_chunks_never_show(tiny_model_path, loss, aggregation):
    settings = {"loss": loss, "aggregation": aggregation, "importance_cap": None, "kl_coefficient": 0.1}
    whole, cut = (
        make_learner(tiny_model_path, **settings),
        make_learner(tiny_model_path, tokens_per_micro_batch=20, logprob_chunk_tokens=7, **settings),
    )
    for seed in range(2):
        one, other = (learner.step(ragged_sequences(seed), LR) for learner in (whole, cut))
        assert one.loss == pytest.approx(other.loss, rel=1e-5, abs=1e-6)
        assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-4)
        assert one.metrics == pytest.approx(other.metrics, rel=1e-4, abs=1e-6)
        assert differences(gradients_of(whole), gradients_of(cut)) < 1e-6  # not the weights: Adam blows up noise around zero


def test_sequences_without_advantage_are_skipped_and_nothing_changes(tiny_model_path):
    sequences = [replace(s, advantage=0.0) if s.group in (1, 2) else s for s in ragged_sequences()]
    almost = [replace(s, advantage=1e-30) if s.advantage == 0 else s for s in sequences]  # the same loss, but not skipped
    learner, complete = make_learner(tiny_model_path), make_learner(tiny_model_path)
    report, full = learner.step(sequences, LR), complete.step(almost, LR)
    assert report.metrics["skipped_sequences"] == 8
    assert report.n_processed_tokens < full.n_processed_tokens
    assert report.metrics["tokens"] == full.metrics["tokens"]
    assert report.loss == pytest.approx(full.loss, abs=1e-7)
    assert differences(gradients_of(learner), gradients_of(complete)) < 1e-6


def test_a_batch_without_signal_is_no_update(tiny_model_path):
    learner = make_learner(tiny_model_path)
    before = weights_of(learner)
    report = learner.step([replace(s, advantage=0.0) for s in ragged_sequences()], LR)
    assert (report.loss, report.grad_norm, report.n_tokens, report.n_processed_tokens) == (0.0, 0.0, 0, 0)
    assert (report.metrics["updates"], report.metrics["skipped_sequences"]) == (0, 14)
    assert learner.version == 0
    assert differences(before, weights_of(learner)) == 0
    assert learner.step([], LR).metrics["updates"] == 0


def test_empty_completions_contribute_nothing(tiny_model_path):
    nothing = {"token_ids": np.zeros(0, np.int32), "rollout_logprob_T": np.zeros(0, np.float32)}
    sequences = ragged_sequences()
    learner, without = make_learner(tiny_model_path), make_learner(tiny_model_path)
    report = learner.step([*sequences, replace(sequences[0], **nothing)], LR)
    assert report.loss == without.step(sequences, LR).loss
    assert differences(weights_of(learner), weights_of(without)) == 0
    assert learner.step([replace(s, **nothing) for s in sequences], LR).metrics["updates"] == 0


def test_a_non_finite_update_is_left_out_and_reported(tiny_model_path):
    learner = make_learner(tiny_model_path)
    run(learner, 1)
    before = weights_of(learner)
    report = learner.step([replace(s, advantage=3e38 * (1 if s.advantage > 0 else -1)) for s in ragged_sequences()], LR)
    assert report.metrics["non_finite_updates"] == 1
    assert report.metrics["updates"] == 0
    assert np.isnan(report.grad_norm)
    assert learner.version == 1
    assert differences(before, weights_of(learner)) == 0
    assert run(learner, 1)[0].metrics["updates"] == 1  # nothing of it is left in the gradients


def test_resume_is_bit_exact(tiny_model_path, tmp_path):
    straight, first = make_learner(tiny_model_path), make_learner(tiny_model_path)
    run(straight, 6)
    run(first, 3)
    first.save(tmp_path)
    second = make_learner(tiny_model_path)
    second.load(tmp_path)
    assert second.version == 3
    run(second, 3, first=3)
    assert differences(weights_of(straight), weights_of(second)) == 0


@pytest.mark.parametrize(
    "model", [{"dtype": "bfloat16"}, {"lora": LoraSettings(rank=4, dropout=0.1)}, {"gradient_checkpointing": True}], ids=str
)
def test_resume_is_bit_exact_with_masters_adapters_and_checkpointing(tiny_model_path, tmp_path, model):
    straight, first = make_learner(tiny_model_path, model), make_learner(tiny_model_path, model)
    run(straight, 4)
    run(first, 2)
    first.save(tmp_path)
    second = make_learner(tiny_model_path, model)
    second.load(tmp_path)
    run(second, 2, first=2)
    assert differences(weights_of(straight), weights_of(second)) == 0


def test_gradient_checkpointing_changes_nothing(tiny_model_path):
    plain, checkpointed = make_learner(tiny_model_path), make_learner(tiny_model_path, {"gradient_checkpointing": True})
    run(plain, 2)
    run(checkpointed, 2)
    assert differences(weights_of(plain), weights_of(checkpointed)) < 1e-6


def test_the_checkpoint_holds_a_model_that_anyone_can_load(tiny_model_path, tmp_path):
    learner = make_learner(tiny_model_path)
    run(learner, 2)
    learner.save(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model", dtype=torch.float32)
    assert differences(weights_of(learner), {name: p.detach().numpy() for name, p in model.named_parameters()}) == 0
    assert (
        AutoTokenizer.from_pretrained(tmp_path / "model")("1+1").input_ids
        == AutoTokenizer.from_pretrained(tiny_model_path)("1+1").input_ids
    )
    assert {file.suffix for file in tmp_path.rglob("*") if file.is_file()} <= {".json", ".safetensors"}


def test_damaged_and_foreign_checkpoints_are_refused(tiny_model_path, tmp_path):
    learner = make_learner(tiny_model_path)
    with pytest.raises(CurriculaError, match="missing or damaged"):
        learner.load(tmp_path)
    make_learner(tiny_model_path, {"lora": LoraSettings(rank=4)}).save(tmp_path)
    with pytest.raises(CurriculaError, match=r"parameter .* has shape .* resume with the model and LoRA settings"):
        learner.load(tmp_path)
    file = tmp_path / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(CurriculaError, match="missing or damaged"):
        learner.load(tmp_path)
    (tmp_path / "learner.json").write_text(json.dumps({"format": 99, "version": 1}))
    make_learner(tiny_model_path).save(tmp_path / "whole")
    (tmp_path / "whole" / "learner.json").write_text(json.dumps({"format": 99, "version": 1}))
    with pytest.raises(CurriculaError, match="format 99, expected 1"):
        learner.load(tmp_path / "whole")


def test_bfloat16_weights_follow_float32_masters(tiny_model_path):
    """Updates far below the spacing of bfloat16 add up instead of being rounded away."""
    narrow, wide = make_learner(tiny_model_path, {"dtype": "bfloat16"}), make_learner(tiny_model_path)
    run(narrow, 20, lr=1e-5)
    run(wide, 20, lr=1e-5)
    name = "model.layers.0.mlp.up_proj.weight"
    start = to_tensor(weights_of(make_learner(tiny_model_path, {"dtype": "bfloat16"}))[name])
    narrow_weight, master = to_tensor(weights_of(narrow)[name]), narrow._masters.tensors[name]
    assert narrow_weight.dtype == start.dtype == torch.bfloat16
    assert torch.equal(master.to(torch.bfloat16), narrow_weight)
    wanted = torch.from_numpy(weights_of(wide)[name] - weights_of(make_learner(tiny_model_path))[name])
    moved = master - start.float()
    assert torch.corrcoef(torch.stack([moved.ravel(), wanted.ravel()]))[0, 1] > 0.9
    assert moved.abs().mean() > 0.8 * wanted.abs().mean()
    single = 1e-5 * torch.ones(())
    assert ((start.abs() + single).to(torch.bfloat16) == start.abs()).float().mean() > 0.9  # one such update alone would be lost


def test_lora_moves_only_adapters_and_publishes_merged_weights(tiny_model_path):
    base = weights_of(make_learner(tiny_model_path))
    learner = make_learner(tiny_model_path, {"lora": LoraSettings(rank=4, target_modules=("q_proj", "up_proj"))})
    assert differences(base, weights_of(learner)) == 0  # adapters begin at zero, names are Hugging Face's
    frozen = {name: p.detach().clone() for name, p in learner._model.causal_lm.named_parameters() if "lora_" not in name}
    run(learner, 2)
    after = dict(learner._model.causal_lm.named_parameters())
    assert all(torch.equal(after[name], value) for name, value in frozen.items())
    changed = {name for name, array in weights_of(learner).items() if not np.array_equal(array, base[name])}
    assert changed == {f"model.layers.{i}.{name}.weight" for i in (0, 1) for name in ("self_attn.q_proj", "mlp.up_proj")}
    merged = AutoModelForCausalLM.from_pretrained(tiny_model_path, dtype=torch.float32)
    merged.load_state_dict({name: torch.tensor(array) for name, array in weights_of(learner).items()}, strict=False)
    for sequence, logprob_T in zip(ragged_sequences(), learner.logprobs(ragged_sequences()), strict=True):
        np.testing.assert_allclose(plain_logprobs(merged, sequence).detach(), logprob_T, atol=2e-5)


def test_unknown_lora_target_is_refused(tiny_model_path):
    with pytest.raises(CurriculaError, match=r"model\.lora\.target_modules \['nope'\]"):
        make_learner(tiny_model_path, {"lora": LoraSettings(target_modules=("nope",))})


@pytest.mark.parametrize("lora", [None, LoraSettings(rank=4)])
def test_kl_to_the_starting_weights(tiny_model_path, lora):
    learner = make_learner(tiny_model_path, {"lora": lora}, kl_coefficient=0.5)
    reports = run(learner, 3)
    assert reports[0].metrics["kl"] == pytest.approx(0, abs=1e-9)
    assert reports[2].metrics["kl"] > 1e-6
    start = AutoModelForCausalLM.from_pretrained(tiny_model_path, dtype=torch.float32)
    sequences = ragged_sequences(9)
    gaps = [
        torch.from_numpy(now) - plain_logprobs(start, sequence).detach()
        for now, sequence in zip(learner.logprobs(sequences), sequences, strict=True)
    ]
    d = -torch.cat(gaps)
    report = learner.step([replace(s, advantage=0.0) for s in sequences], LR)  # KL alone is signal enough
    assert report.metrics["kl"] == pytest.approx(float((d.exp() - d - 1).mean()), rel=1e-3)
    assert report.loss == pytest.approx(0.5 * report.metrics["kl"], rel=1e-4)
    assert report.metrics["skipped_sequences"] == 0


def test_several_updates_take_whole_groups_and_move_the_ratio(tiny_model_path):
    learner = make_learner(tiny_model_path, updates_per_step=2)
    sequences = ragged_sequences()
    parts = split_by_group(sequences, 2)
    assert [sorted({sequences[i].group for i in part}) for part in parts] == [[0, 2], [1, 3]]
    assert sorted(np.concatenate(parts)) == list(range(len(sequences)))
    report = learner.step(sequences, LR)
    assert learner.version == 2
    assert report.metrics["updates"] == 2
    assert report.metrics["ratio_max"] > 1.0001  # the second update sees weights that the first has moved
    assert run(make_learner(tiny_model_path), 1)[0].metrics["ratio_max"] == 1
    assert len(split_by_group(sequences, 9)) == 4


def test_several_updates_equal_single_ones_on_the_same_parts(tiny_model_path):
    """With no cap the ratio is against the rollout, so two updates in one step are two steps."""
    both, single = (
        make_learner(tiny_model_path, updates_per_step=2, importance_cap=None),
        make_learner(tiny_model_path, importance_cap=None),
    )
    sequences = ragged_sequences()
    both.step(sequences, LR)
    for part in split_by_group(sequences, 2):
        single.step([sequences[i] for i in part], LR)
    assert differences(weights_of(both), weights_of(single)) == 0


def test_mismatch_is_measured_on_sequences_of_the_current_version(tiny_model_path):
    learner = make_learner(tiny_model_path)
    sequences = ragged_sequences()
    exact = [replace(s, rollout_logprob_T=logprob_T) for s, logprob_T in zip(sequences, learner.logprobs(sequences), strict=True)]
    off = [replace(exact[0], rollout_logprob_T=exact[0].rollout_logprob_T + 0.25), *exact[1:]]
    stale = [replace(s, policy_version=-1, rollout_logprob_T=s.rollout_logprob_T - 3) for s in exact]
    assert make_learner(tiny_model_path).step(exact, LR).metrics["mismatch_max"] < 1e-5
    metrics = make_learner(tiny_model_path).step([*off, *stale], LR).metrics
    assert metrics["mismatch_max"] == pytest.approx(0.25, abs=1e-5)
    n_tokens = sum(len(s.token_ids) for s in exact)
    assert metrics["mismatch_mean"] == pytest.approx(0.25 * len(off[0].token_ids) / n_tokens, rel=1e-3)
    assert "mismatch_mean" not in learner.step(stale, LR).metrics


@pytest.mark.parametrize("cap", [2.0, None])
@pytest.mark.parametrize("updates", [1, 2])
def test_hinted_rollouts_learn_as_if_drawn_on_policy_under_their_parents_prompt(tiny_model_path, cap, updates):
    """EGSR: what the engine said under the hint is not used, and an update that it would have entered is refused."""
    settings = {"importance_cap": cap, "updates_per_step": updates}
    learner, on_policy = (make_learner(tiny_model_path, **settings) for _ in range(2))
    sequences = ragged_sequences()
    hinted = [
        replace(s, rollout_logprob_T=np.full(len(s.token_ids), np.nan, np.float32), policy_version=NO_VERSION)
        if s.group in (1, 3)
        else s
        for s in sequences
    ]
    with pytest.raises(CurriculaError, match="not finite"):
        learner.step(hinted, LR)
    own = on_policy.logprobs(sequences)
    drawn = [replace(s, rollout_logprob_T=own[i]) if s.group in (1, 3) else s for i, s in enumerate(sequences)]
    report, expected = learner.step(with_own_logprobs(hinted, learner), LR), on_policy.step(drawn, LR)
    assert report.loss == pytest.approx(expected.loss, abs=1e-6)
    assert differences(gradients_of(learner), gradients_of(on_policy)) < 1e-6
    if updates == 1:
        assert report.metrics["mismatch_mean"] > expected.metrics["mismatch_mean"], "they say nothing about engine and learner"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt_ids": ()}, "has no prompt"),
        ({"rollout_logprob_T": np.zeros(0, np.float32)}, "0 rollout log-probabilities"),
        ({"advantage": float("nan")}, "advantage nan"),
    ],
)
def test_bad_sequences_are_refused(tiny_model_path, change, message):
    with pytest.raises(CurriculaError, match=message):
        make_learner(tiny_model_path).step([replace(ragged_sequences()[0], **change)], LR)


def test_a_model_that_cannot_be_loaded_is_refused(tmp_path):
    with pytest.raises(CurriculaError, match=r"model\.path .* expected a Hugging Face model name or a folder"):
        make_learner(tmp_path)


def test_models_that_alter_their_logits_are_refused(tmp_path):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=32,
        final_logit_softcapping=0.1,
    )
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(CurriculaError, match="changes its logits after the output head"):
        make_learner(tmp_path)
