"""PyTorch's tensors through DLPack: in and out in the memory where they are."""

from __future__ import annotations

import numpy as np
import pytest

from segaware_np import ops
from segaware_np.window import Window
from segaware_np.xp import array_module, as_array

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
WINDOW = Window.same(3)


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("PyTorch finds no GPU")
    return request.param


def test_tensors_share_their_memory_with_arrays_both_ways(device: str) -> None:
    tensor = torch.zeros(2, 3, 5, 6, device=device)
    x = as_array(tensor)
    assert (array_module(x) is np) == (device == "cpu")
    x[0, 1, 2, 3] = 7
    assert tensor[0, 1, 2, 3] == 7
    y, _ = ops.relu_forward(x)
    back = torch.from_dlpack(y)
    assert back.device.type == device
    back[0, 1, 2, 3] = 9
    assert y[0, 1, 2, 3] == 9 and tensor[0, 1, 2, 3] == 7


def test_forward_and_backward_between_two_operations_of_pytorch(device: str) -> None:
    """A segmentation-aware convolution as a step of PyTorch's own graph."""

    class Aware(torch.autograd.Function):
        @staticmethod
        def forward(ctx, *tensors):
            arrays = [as_array(t.detach()) for t in tensors]
            y, ctx.cache = ops.segaware_convolution_forward(*arrays, window=WINDOW)
            return torch.from_dlpack(y)

        @staticmethod
        def backward(ctx, dy):
            dy = as_array(dy.contiguous())
            gradients = ops.segaware_convolution_backward(dy, ctx.cache)
            return tuple(torch.from_dlpack(g) for g in gradients)

    torch.manual_seed(0)
    shapes = (2, 4, 6, 7), (2, 9, 6, 7), (5, 4, 3, 3), (5,)
    leaves = [torch.rand(s, device=device, requires_grad=True) for s in shapes]
    x, mask, weight, bias = leaves
    columns = torch.nn.functional.unfold(x, 3, padding=1).view(2, 4, 9, 42)
    masked = (columns * mask.view(2, 1, 9, 42)).flatten(1, 2)
    theirs = (weight.flatten(1) @ masked + bias[:, None]).view(2, 5, 6, 7)
    ours = Aware.apply(*leaves)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    wanted = torch.autograd.grad(theirs.square().sum(), leaves)
    found = torch.autograd.grad(ours.square().sum(), leaves)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-3)
