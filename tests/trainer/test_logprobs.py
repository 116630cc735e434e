"""Chunked log-probabilities: the same numbers and gradients as all at once, in a fraction of the memory."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from trainer.logprobs import token_logprobs

HIDDEN, TEMPERATURE = 16, 0.7


def made(n_tokens, vocabulary):
    generator = torch.Generator().manual_seed(0)
    hidden_TH = torch.randn(n_tokens, HIDDEN, generator=generator, requires_grad=True)
    head = torch.nn.Linear(HIDDEN, vocabulary, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.randn(vocabulary, HIDDEN, generator=generator))
    return hidden_TH, torch.randint(vocabulary, (n_tokens,), generator=generator), head


@pytest.mark.parametrize("chunk", [1, 7, 40, 41, 1000])
def test_chunks_equal_the_definition(chunk):
    hidden_TH, target_T, head = made(40, 60)
    logprob_T, entropy_T = token_logprobs(hidden_TH, target_T, head, TEMPERATURE, chunk)
    plain_TV = F.log_softmax(head(hidden_TH) / TEMPERATURE, -1)
    torch.testing.assert_close(logprob_T, plain_TV.gather(1, target_T[:, None])[:, 0])
    torch.testing.assert_close(entropy_T, -(plain_TV.exp() * plain_TV).sum(-1), rtol=1e-4, atol=1e-5)
    assert not entropy_T.requires_grad
    ours = torch.autograd.grad((logprob_T * target_T).sum(), [hidden_TH, head.weight])
    theirs = torch.autograd.grad((plain_TV.gather(1, target_T[:, None])[:, 0] * target_T).sum(), [hidden_TH, head.weight])
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_bfloat16_hidden_states_are_normalised_in_float32():
    hidden_TH, target_T, head = made(8, 50)
    logprob_T, _ = token_logprobs(hidden_TH.bfloat16(), target_T, head.bfloat16(), 1.0, 4)
    assert logprob_T.dtype == torch.float32


class LargestTensor(TorchDispatchMode):
    """Remembers the largest result of any operation, forward and backward."""

    def __init__(self):
        super().__init__()
        self.n_elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.n_elements = max(self.n_elements, tensor.numel())
        return result


@pytest.mark.parametrize(("chunk", "rows"), [(1000, 1000), (50, 50)])
def test_never_more_rows_of_logits_than_a_chunk(chunk, rows):
    """Counted in tensors: with a vocabulary of 20,000, the largest one that forward and backward make has ``chunk`` rows."""
    hidden_TH, target_T, head = made(1000, 20_000)
    with LargestTensor() as seen:
        token_logprobs(hidden_TH, target_T, head, TEMPERATURE, chunk)[0].sum().backward()
    assert seen.n_elements == rows * 20_000


def test_no_logits_are_kept_for_the_backward_pass():
    kept = []
    hidden_TH, target_T, head = made(1000, 20_000)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor):
        token_logprobs(hidden_TH, target_T, head, TEMPERATURE, 50)
        assert max(kept, default=0) <= 20_000 * HIDDEN  # the head's weight
        kept.clear()
        token_logprobs(hidden_TH, target_T, head, TEMPERATURE, 1000)
        assert max(kept) == 1000 * 20_000
