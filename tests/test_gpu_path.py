"""The library on CuPy arrays, from ops to a training step: as on NumPy, and without copies."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
from engine_checks import assert_near, gpu
from op_cases import CASES

from segaware_np.gpu import kernels
from segaware_np.models import embedding_network, segmentation_network
from segaware_np.net import Net
from segaware_np.ops.bilateral import bilateral_filter_backward, bilateral_filter_forward
from segaware_np.ops.columns import im2col_forward
from segaware_np.ops.convolution import convolution_forward
from segaware_np.ops.distance import distance_forward
from segaware_np.ops.mask import (
    exponential_mask_backward,
    exponential_mask_forward,
    local_mask_backward,
    local_mask_forward,
    normalized_mask_backward,
    normalized_mask_forward,
)
from segaware_np.ops.softmax import softmax_cross_entropy_backward, softmax_cross_entropy_forward
from segaware_np.ops.transposed_convolution import transposed_convolution_forward
from segaware_np.optim import SGD
from segaware_np.window import Window
from segaware_np.xp import array_module, as_array

pytest_plugins = "segaware_np.testing.cuda.plugin"

WINDOW = Window.same(3, dilation=2)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("f")


X, WEIGHT, MASK = random(2, 4, 6, 7), random(5, 4, 3, 3) / 4, np.abs(random(2, 9, 6, 7))


LABELS = np.random.default_rng(0).integers(0, 4, (2, 6, 7)).astype("i4")


def to(xp: ModuleType, value):
    return xp.asarray(value) if isinstance(value, np.ndarray) else value


def stand_in() -> ModuleType | None:
    return sys.modules.get("segaware_np.testing.cuda.fake_cupy")


def arrays_of(name: str, xp: ModuleType) -> list:
    """A case's inputs, in single precision."""
    inputs = CASES[name].inputs.values()
    return [to(xp, a.astype("f") if a.dtype.kind == "f" else a) for a in inputs]


def test_transposed_convolution_makes_one_array_as_large_as_its_output(cupy, monkeypatch) -> None:
    x, weight, made, empty = cupy.asarray(X), cupy.ones((4, 5, 3, 3), "f"), [], cupy.empty

    def record(shape, dtype=float):
        made.append(shape)
        return empty(shape, dtype)

    monkeypatch.setattr(cupy, "empty", record)
    y, _ = transposed_convolution_forward(x, weight, window=Window(3, stride=2))
    assert made.count(y.shape) == 1


ON_GPU = [name for name, case in CASES.items() if not case.host]


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.host])
def test_op_of_the_host_refuses_arrays_of_a_gpu_by_name(cupy, name) -> None:
    first = next(iter(CASES[name].inputs))
    with pytest.raises(TypeError, match=f"^{first}: expected a NumPy array, as .* got a .*cupy"):
        CASES[name].run(arrays_of(name, cupy))


@pytest.mark.parametrize("name", ON_GPU)
def test_op_on_the_gpu_equals_numpy(cupy, name) -> None:
    have, wanted = (CASES[name].run(arrays_of(name, xp)) for xp in (cupy, np))
    for found, want in zip(have, wanted, strict=True):
        if want is None:
            assert found is None
            continue
        assert array_module(found) is cupy
        assert found.dtype == want.dtype
        assert_near(found.get(), np.asarray(want), 1e-5)


def test_arrays_of_two_kinds_are_an_error(cupy) -> None:
    with pytest.raises(TypeError, match=r"weight: expected a .*cupy array"):
        convolution_forward(cupy.asarray(X), WEIGHT, window=WINDOW)


def network(xp: ModuleType) -> Net:
    return segmentation_network(
        4, (4, 5), (1, 1), aware=True, embedding_widths=(4,), embedding_depths=(1,),
        embedding_channels=3, embedding_lr_mult=1.0, xp=xp, seed=1,
    )  # fmt: skip


IMAGE = random(2, 3, 12, 12)
TRUTH = np.random.default_rng(3).integers(0, 4, (2, 12, 12)).astype("i4")


def step(net: Net, optimizer: SGD, image, label) -> None:
    net.zero_grad()
    net.forward({"image": image, "label": label})
    net.backward()
    optimizer.step()


def test_training_step_on_the_gpu_equals_numpy(cupy) -> None:
    weights = []
    for xp in (np, cupy):
        net = network(xp)
        optimizer = SGD(net.parameters(), 0.1)
        for _ in range(2):
            step(net, optimizer, xp.asarray(IMAGE), xp.asarray(TRUTH))
        weights.append(net.weights())
    assert weights[0].keys() == weights[1].keys()
    for name, want in weights[0].items():
        assert_near(weights[1][name], want, 1e-5)


def embedding_net(xp: ModuleType) -> Net:
    return embedding_network((4,), (1,), 3, dilations=(1, 2), xp=xp)


@pytest.mark.parametrize(("make", "losses"), [(network, 1), (embedding_net, 2)])
def test_training_step_copies_nothing_but_batch_and_loss(cupy, make, losses: int) -> None:
    if cupy is not stand_in():
        pytest.skip("only the stand-in counts copies")
    net = make(cupy)
    optimizer = SGD(net.parameters(), 0.1)
    step(net, optimizer, cupy.asarray(IMAGE), cupy.asarray(TRUTH))
    del cupy.transfers[:]
    step(net, optimizer, cupy.asarray(IMAGE), cupy.asarray(TRUTH))
    to_device = [size for way, size in cupy.transfers if way == "to device"]
    to_host = [size for way, size in cupy.transfers if way == "to host"]
    assert to_device == [IMAGE.nbytes, TRUTH.nbytes, *[4] * losses]  # and the weights of the losses
    assert to_host == [4 * len(net.parameters())]  # the gradients' norms, which guard the step


# Other devices than the first, streams, and other libraries' tensors.

@pytest.fixture
def second(cupy, monkeypatch):
    """A device that is not the current one."""
    if cupy is stand_in():
        monkeypatch.setattr(cupy.cuda, "devices", 2)
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("needs two GPUs")
    return cupy.cuda.Device(1)


@pytest.mark.parametrize("name", ON_GPU)
def test_op_works_where_its_arrays_are(cupy, second, name) -> None:
    case = CASES[name]
    with second:
        arguments = arrays_of(name, cupy)
        dy = cupy.ones_like(case.run(arguments, gradients=False)[0])
    for array in case.run(arguments, dy):
        assert array is None or array.device.id == 1


def test_a_scale_of_another_dtype_works_where_its_arrays_are(cupy, second) -> None:
    with second:
        e, wide, narrow = cupy.asarray(X), cupy.asarray(np.array(0.5)), cupy.asarray(X[:1, :1])
        scales = wide, cupy.asarray(np.array(0.5, "f4"))
        dmask = cupy.asarray(MASK)
        d, _ = distance_forward(e, WINDOW)
    for scale in scales:
        for mask, cache, backward in (
            (*local_mask_forward(e, scale, WINDOW), local_mask_backward),
            (*exponential_mask_forward(d, scale), exponential_mask_backward),
            (*normalized_mask_forward(d, scale), normalized_mask_backward),
        ):
            for array in (mask, *backward(dmask, cache)):
                assert array.device.id == 1 and array.dtype == np.float32
        y, cache = bilateral_filter_forward(narrow, e[:1], scale, window=WINDOW)
        with second:
            dy = cupy.ones_like(y)
        assert {a.device.id for a in (y, *bilateral_filter_backward(dy, cache))} == {1}
    with pytest.raises(ValueError, match="scale: expected an array on GPU 1, got one on GPU 0"):
        local_mask_forward(e, cupy.asarray(np.array(0.5, "f4")), WINDOW)


def test_a_gradient_of_a_loss_works_where_its_arrays_are(cupy, second) -> None:
    with second:
        score, labels = cupy.asarray(X), cupy.asarray(LABELS)
        weight = cupy.asarray(np.array(0.5, "f4"))
    loss, cache = softmax_cross_entropy_forward(score, labels)
    assert (loss.device.id, softmax_cross_entropy_backward(weight, cache).device.id) == (1, 1)


def test_training_step_on_another_device(cupy, second) -> None:
    with second:
        net = network(cupy)
        optimizer = SGD(net.parameters(), 0.1)
        step(net, optimizer, cupy.asarray(IMAGE), cupy.asarray(TRUTH))
    assert {p.data.device.id for p in net.parameters().values()} == {1}
    weights = net.weights()
    on_first = network(cupy)
    step(on_first, SGD(on_first.parameters(), 0.1), cupy.asarray(IMAGE), cupy.asarray(TRUTH))
    for name, want in on_first.weights().items():
        np.testing.assert_array_equal(weights[name], want)


def test_arrays_of_two_devices_are_an_error(cupy, second) -> None:
    x = cupy.asarray(X)
    with second:
        weight, mask = cupy.asarray(WEIGHT), cupy.asarray(MASK)
    with pytest.raises(ValueError, match="weight: expected an array on GPU 0, got one on GPU 1"):
        convolution_forward(x, weight, window=WINDOW)
    with pytest.raises(ValueError, match="masked_sum, argument 1: expected an array on GPU 0"):
        gpu.masked_sum(x, mask, WINDOW)


def test_kernels_run_in_the_current_stream_and_on_the_device_of_their_arrays(
    cupy, second, monkeypatch
) -> None:
    if cupy is not stand_in():
        pytest.skip("only the stand-in tells where a kernel ran")
    made: list[str] = []
    module = cupy.RawModule
    monkeypatch.setattr(cupy, "RawModule", lambda **o: made.append(o["code"]) or module(**o))
    kernels._module.cache_clear(), kernels._function.cache_clear()
    x, stream, other = cupy.asarray(X), cupy.cuda.Stream(), cupy.cuda.Stream()
    with second:
        y = cupy.asarray(X)
        with other:
            gpu.max_pool(y, Window(3), (4, 5))
    with stream:
        gpu.max_pool(x, Window(3), (4, 5))
        im2col_forward(y, Window(3))
    gpu.max_pool(x, Window(3), (4, 5))
    second_default = cupy.places[-2]
    assert cupy.places[-4] == (1, other) and cupy.places[-3] == (0, stream)
    assert second_default[0] == 1 and second_default[1] not in (stream, other)
    assert cupy.places[-1] == (0, second_default[1])
    assert len(made) == 3 and made[0] == made[1]  # pooling on both devices, columns on one


class Tensor:
    """Another library's tensor on a GPU: all that is known of it is the DLPack protocol."""

    def __init__(self, array) -> None:
        self.array = array

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


def test_tensor_on_the_gpu_comes_in_and_goes_out_without_a_copy(cupy) -> None:
    there = cupy.asarray(X)
    if cupy is stand_in():
        del cupy.transfers[:]
    x = as_array(Tensor(there))
    assert array_module(x) is cupy
    x[0, 0, 0, 0] = 7
    assert float(there[0, 0, 0, 0]) == 7
    y, _ = convolution_forward(x, cupy.asarray(WEIGHT), window=WINDOW)
    assert cupy.from_dlpack(Tensor(y)).shape == y.shape
    if cupy is stand_in():
        assert cupy.transfers == [("to host", 4), ("to device", WEIGHT.nbytes)]
    with pytest.raises(BufferError, match="memory that numpy can share, got GPU memory"):
        as_array(Tensor(there), np)
