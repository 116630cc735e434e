"""Tiny language models made from a config: no download, a second to build, logits that are far from flat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CHARACTERS = "0123456789+-*/=() abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ\n?.,:;'\"$\\{}^_<>!|%"
SPECIAL = ("<pad>", "<eos>", "<unk>")


def character_tokenizer() -> Any:
    """One token per character, so that prompts and answers can be read off their ids."""
    from tokenizers import Tokenizer, decoders, models
    from transformers import PreTrainedTokenizerFast

    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *CHARACTERS])}
    raw = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    raw.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def qwen3_config(tied: bool = True, hidden: int = 64, layers: int = 2, window: int = 512) -> Any:
    """A Qwen3 shape small enough for a test; head_dim 32 is the smallest that vLLM's CPU attention takes."""
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=len(SPECIAL) + len(CHARACTERS),
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=max(1, hidden // 64),
        head_dim=32,
        max_position_embeddings=window,
        tie_word_embeddings=tied,
        eos_token_id=1,
        pad_token_id=0,
        initializer_range=0.2,  # with the usual 0.02 every distribution is flat and a wrong weight hides
    )


def tiny_model(seed: int = 0, tied: bool = True, **shape: int) -> Any:
    """A Qwen3 with random float32 weights, in evaluation mode."""
    import torch
    from transformers import Qwen3ForCausalLM

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(qwen3_config(tied, **shape)).float().eval()


def save_tiny_model(folder: Path, seed: int = 0, tied: bool = True, **shape: int) -> Path:
    """Write model and tokenizer as `from_pretrained` reads them."""
    tiny_model(seed, tied, **shape).save_pretrained(folder)
    character_tokenizer().save_pretrained(folder)
    return folder


def reference_logprobs(model: Any, prompt_ids: Any, token_ids: Any, temperature: float = 1.0, top_p: float = 1.0) -> Any:
    """(T,) log-probability of each token by one plain forward pass, after temperature and top-p: what engines report."""
    import torch

    start = len(prompt_ids)
    ids = torch.tensor([[*prompt_ids, *token_ids]])
    with torch.inference_mode():
        logits = model(ids, use_cache=False).logits[0, start - 1 : -1].float() / temperature
    probability, order = torch.softmax(logits, -1).sort(-1, descending=True)
    inside = probability.cumsum(-1) - probability < top_p
    kept = torch.zeros_like(logits).scatter(-1, order, probability * inside)
    kept = kept / kept.sum(-1, keepdim=True)
    return kept.gather(-1, ids[0, start:, None])[:, 0].log().numpy()


def weights_of(model: Any) -> list[tuple[str, Any]]:
    """A model's weights as they travel to an engine."""
    from rollout.weights import to_chunks

    return [item for chunk in to_chunks(model.named_parameters()) for item in chunk.items()]


def finish(engine: Any, requests: Any, cancel: Any = ()) -> dict[Any, Any]:
    """Drive an engine until every request has its answer; by ticket."""
    answers = {}
    wanted = {request.ticket for request in requests} - set(cancel)
    while not wanted <= answers.keys():
        answers.update({answer.ticket: answer for answer in engine.advance(requests, cancel, 5.0)})
        requests, cancel = (), ()
    return answers
