"""The trained model: a causal language model that answers with log-probabilities of chosen tokens, never with logits."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from curricula.types import CurriculaError
from trainer.logprobs import token_logprobs
from trainer.micro_batches import MicroBatch
from trainer.settings import LoraSettings, ModelSettings

PROBE_TOKENS = 8


class PolicyModel(nn.Module):
    """Wraps a Hugging Face causal language model; LoRA adapters, where there are any, sit inside it."""

    def __init__(self, causal_lm: Any, temperature: float, chunk_tokens: int) -> None:
        super().__init__()
        self.causal_lm = causal_lm
        self.temperature = temperature
        self.chunk_tokens = chunk_tokens

    def forward(self, micro: MicroBatch) -> tuple[Tensor, Tensor]:
        """Log-probability and entropy (without gradient) of each completion token, both (T,)."""
        # without use_cache=False and with no mask, transformers would look for packed sequences in the positions
        hidden = self.causal_lm.base_model(input_ids=micro.input_ids, use_cache=False).last_hidden_state
        hidden_TH = hidden.flatten(0, 1).index_select(0, micro.position_T)  # the head sees only tokens that carry loss
        head = self.causal_lm.get_output_embeddings()
        return token_logprobs(hidden_TH, micro.target_T, head, self.temperature, self.chunk_tokens)

    def layers(self) -> Iterator[nn.Module]:
        """The decoder blocks, by the class names that the model declares unsplittable."""
        names = set(self.causal_lm._no_split_modules or ())
        return (module for module in self.causal_lm.modules() if type(module).__name__ in names)

    def frozen_copy(self) -> PolicyModel:
        """The same weights, never trained: the KL term's reference."""
        return copy.deepcopy(self).requires_grad_(False).eval()


def load_policy_model(settings: ModelSettings, dtype: torch.dtype, temperature: float, chunk_tokens: int) -> PolicyModel:
    """The model of the recipe with weights of this dtype.

    Errors: CurriculaError when it cannot be loaded, or when its logits are not simply its head applied to its hidden states.
    """
    from transformers import AutoModelForCausalLM

    try:
        causal_lm = AutoModelForCausalLM.from_pretrained(settings.path, dtype=dtype, attn_implementation=settings.attention)
    except (OSError, ValueError, ImportError) as error:
        raise CurriculaError(
            f"model.path {settings.path!r}: expected a Hugging Face model name or a folder with config.json and safetensors "
            f"weights, but: {str(error).splitlines()[0]}"
        ) from error
    _refuse_altered_logits(causal_lm, settings.path)
    causal_lm.eval()
    if settings.gradient_checkpointing:
        causal_lm.gradient_checkpointing_enable({"use_reentrant": False})
        _train_without_dropout(causal_lm)
    if settings.lora is not None:
        _add_lora(causal_lm, settings.lora)
    return PolicyModel(causal_lm, temperature, chunk_tokens)


@torch.no_grad()
def _refuse_altered_logits(causal_lm: Any, path: str) -> None:
    """Some architectures cap or scale their logits after the head; this learner applies the head itself."""
    ids = torch.arange(PROBE_TOKENS)[None] % causal_lm.config.get_text_config().vocab_size
    hidden = causal_lm.eval().base_model(input_ids=ids, use_cache=False).last_hidden_state
    ours = causal_lm.get_output_embeddings()(hidden).float()
    theirs = causal_lm(input_ids=ids, use_cache=False).logits.float()
    if not torch.allclose(ours, theirs, rtol=1e-2, atol=1e-2):
        raise CurriculaError(
            f"model {path!r} ({type(causal_lm).__name__}) changes its logits after the output head, by up to "
            f"{float((ours - theirs).abs().max()):.3g}; this learner does not: choose a model without logit capping or scaling"
        )


def _train_without_dropout(causal_lm: Any) -> None:
    """Checkpointing works in training mode only; dropout there would make log-probabilities disagree with the engine's."""
    causal_lm.train()
    for module in causal_lm.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        for name in ("attention_dropout", "dropout"):
            if isinstance(getattr(module, name, None), float):
                setattr(module, name, 0.0)


def _add_lora(causal_lm: Any, lora: LoraSettings) -> None:
    from peft import LoraConfig, inject_adapter_in_model

    alpha: Any = lora.alpha  # annotated int in peft, used as a factor
    config = LoraConfig(r=lora.rank, lora_alpha=alpha, lora_dropout=lora.dropout, target_modules=list(lora.target_modules))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # every rank and every resumed run begins with the same adapters
            inject_adapter_in_model(config, causal_lm)
    except ValueError as error:
        raise CurriculaError(f"model.lora.target_modules {list(lora.target_modules)}: {str(error).splitlines()[0]}") from error
    if lora.dropout:
        for module in causal_lm.modules():
            if "lora_dropout" in dict(module.named_children()):
                module.train()


def published_weights(causal_lm: Any, whole: Callable[[Tensor], Tensor]) -> Iterator[tuple[str, Tensor, Tensor | None]]:
    """Every weight under its Hugging Face name, tied ones once, with the LoRA delta that belongs on top."""
    modules = dict(causal_lm.named_modules())
    for name, parameter in causal_lm.named_parameters():
        if ".lora_" in name:
            continue
        owner, adapted, leaf = name.partition(".base_layer.")
        delta = _lora_delta(modules[owner], whole) if adapted and leaf == "weight" else None
        yield (f"{owner}.{leaf}" if adapted else name), parameter, delta


def _lora_delta(layer: Any, whole: Callable[[Tensor], Tensor]) -> Tensor:
    """scaling x B A, in float32."""
    (adapter,) = layer.lora_A
    a, b = whole(layer.lora_A[adapter].weight).float(), whole(layer.lora_B[adapter].weight).float()
    return (b @ a) * float(layer.scaling[adapter])
