"""What runs inside vLLM's workers: new weights for a model that is at work. vLLM mixes this class into its worker."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class WeightLoader:
    """Worker methods that the engine calls by name."""

    model_runner: Any  # of the vLLM worker

    def load_named(self, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Replace the weights by tensors under Hugging Face names (in-process workers take them by reference)."""
        self.model_runner.reload_weights(weights_iterator=tensors)
        _repack_tied_head(self.model_runner.model)

    def load_files(self, paths: list[str]) -> None:
        """Replace the weights by those in safetensors files."""
        self.load_named(_read(paths))


def _read(paths: list[str]) -> Iterator[tuple[str, torch.Tensor]]:
    from safetensors.torch import load_file

    for path in paths:
        yield from load_file(Path(path)).items()


def _repack_tied_head(model: Any) -> None:
    """On the CPU, vLLM packs each weight when it is loaded; the head that is tied to the embedding is not among the weights
    that are sent, and would silently keep its old packed copy (seen with vLLM 0.32)."""
    from vllm.platforms import current_platform

    head = getattr(model, "lm_head", None)
    if not current_platform.is_cpu() or head is None or not model.config.tie_word_embeddings:
        return
    embedding = model.model.embed_tokens
    if head is not embedding:
        head.weight = embedding.weight
        head.quant_method.process_weights_after_loading(head)
