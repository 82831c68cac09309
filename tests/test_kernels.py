"""oneDNN's products against PyTorch's own: values, gradients, and what is left to PyTorch."""

import pytest
import torch
from torch.nn import functional as F

from helpers.training import kernels

needs_onednn = pytest.mark.skipif(
    not hasattr(torch.ops.mkldnn, "_linear_pointwise"), reason="PyTorch without oneDNN"
)


@pytest.fixture
def everywhere(monkeypatch):
    monkeypatch.setattr(kernels, "has_faster", lambda: True)
    monkeypatch.setattr(kernels, "SMALL", 1)


def tensors(shape, bias=True, transposed=False):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*shape, 24, generator=generator)
    weight = torch.randn(24, 40, generator=generator).t() if transposed else torch.randn(40, 24)
    b = torch.randn(40, generator=generator) if bias else None
    return [t if t is None else t.requires_grad_() for t in (x, weight, b)]


@needs_onednn
@pytest.mark.parametrize("shape", [(1,), (7,), (3, 5), (2, 3, 4)])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
def test_values_and_gradients_are_those_of_f_linear(everywhere, shape, bias, transposed):
    x, weight, b = tensors(shape, bias, transposed)
    inputs = [t for t in (x, weight, b) if t is not None]
    expected = F.linear(x, weight, b)
    wanted = torch.autograd.grad(expected.square().sum(), inputs)
    ones = torch.autograd.grad(F.linear(x, weight, b).sum(), inputs)
    with kernels.fast_cpu():
        found = F.linear(x, weight, b)
        got = torch.autograd.grad(found.square().sum(), inputs)
        of_sum = torch.autograd.grad(F.linear(x, weight, b).sum(), inputs)  # an expanded gradient
    assert "_Linear" in type(found.grad_fn).__name__
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(got, wanted, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(of_sum, ones, atol=1e-4, rtol=1e-4)


@needs_onednn
def test_inputs_that_are_not_contiguous_and_frozen_parts(everywhere):
    x, weight, b = torch.randn(24, 6).t(), torch.randn(40, 24), torch.randn(40)
    with kernels.fast_cpu(), torch.inference_mode():
        torch.testing.assert_close(F.linear(x, weight, b), x @ weight.t() + b)
    weight.requires_grad_()
    with kernels.fast_cpu():
        F.linear(x, weight, b).sum().backward()
    torch.testing.assert_close(weight.grad, x.sum(0).expand(40, 24))


def test_other_types_vectors_empty_batches_and_autocast_are_left_to_pytorch(everywhere):
    x, weight = torch.randn(6, 24), torch.randn(40, 24)
    with kernels.fast_cpu():
        for left in (x[0], x[:0]):
            found = F.linear(left.clone().requires_grad_(), weight)
            assert "_Linear" not in type(found.grad_fn).__name__
        double = F.linear(x.double().requires_grad_(), weight.double())
        with torch.autocast("cpu", torch.bfloat16):
            half = F.linear(x, weight)
    assert "_Linear" not in type(double.grad_fn).__name__
    assert half.dtype == torch.bfloat16


def test_dropout_drops_its_share_keeps_the_mean_and_masks_the_gradient(everywhere):
    x = torch.ones(300, 1001, requires_grad=True)
    torch.manual_seed(0)
    with kernels.fast_cpu():
        first, second = F.dropout(x, 0.1), F.dropout(x, 0.1)
        torch.manual_seed(0)
        again = F.dropout(x, 0.1)
    assert torch.equal(first, again)
    for found in (first, second):
        dropped = found == 0
        assert abs(dropped.float().mean() - 0.1) < 4 * (0.1 * 0.9 / x.numel()) ** 0.5
        assert abs(dropped.float().mean(0).std() - (0.09 / 300) ** 0.5) < 0.002  # no columns
        assert found[~dropped].unique().tolist() == pytest.approx([1 / 0.9], rel=1e-4)
    both = ((first == 0) & (second == 0)).float().mean()
    assert abs(both - 0.01) < 0.001  # one mask says nothing about the next
    (gradient,) = torch.autograd.grad(first.sum(), x)
    assert torch.equal(gradient, first)


def test_no_dropout_where_there_is_none_to_do(everywhere):
    x = torch.ones(40, 40)
    with kernels.fast_cpu():
        assert torch.equal(F.dropout(x, 0.5, training=False), x)
        assert torch.equal(F.dropout(x, 0.0), x)
        assert not F.dropout(x, 1.0).any()
        F.dropout(x, 0.5, inplace=True)
        assert (x == 0).any()
        with pytest.raises(ValueError, match="probability"):
            F.dropout(x, 1.5)


def attention_masks():
    real = torch.ones(3, 1, 1, 6, dtype=torch.bool)
    real[1, ..., 4:] = False
    return {
        "none": {},
        "padding": {"attn_mask": real},
        "added": {"attn_mask": torch.zeros(3, 1, 1, 6).masked_fill(~real, -1e30)},
        "causal": {"is_causal": True, "scale": 0.3},
    }


@pytest.mark.parametrize("kind", attention_masks())
def test_attention_without_its_dropout_is_pytorchs(everywhere, monkeypatch, kind):
    options = attention_masks()[kind]
    q, k, v = (torch.randn(3, 2, 6, 4, requires_grad=True) for _ in range(3))
    expected = F.scaled_dot_product_attention(q, k, v, **options)
    wanted = torch.autograd.grad(expected.square().sum(), (q, k, v))
    monkeypatch.setattr(kernels, "_dropout", lambda weights, p: weights)
    with kernels.fast_cpu():
        found = F.scaled_dot_product_attention(q, k, v, dropout_p=0.1, **options)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    got = torch.autograd.grad(found.square().sum(), (q, k, v))
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-4)


def test_attention_drops_weights_and_is_left_alone_without_dropout(everywhere):
    q, v = torch.randn(50, 2, 40, 4), torch.eye(40).expand(50, 2, 40, 40)
    with kernels.fast_cpu():
        weights = F.scaled_dot_product_attention(q, q, v, dropout_p=0.25)
        whole = F.scaled_dot_product_attention(q, q, v)
    assert torch.equal(whole, F.scaled_dot_product_attention(q, q, v))
    assert abs((weights == 0).float().mean() - 0.25) < 0.01
    kept = weights != 0
    torch.testing.assert_close(weights[kept], whole[kept] / 0.75, atol=1e-5, rtol=1e-4)


def test_denormals_are_as_before_afterwards():
    def flushed():
        return (torch.tensor([1e-30]) * torch.tensor([1e-10])).item() == 0

    assert not flushed()
    with kernels.fast_cpu():
        assert flushed()
    assert not flushed()
