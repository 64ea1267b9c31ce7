"""Every GPU form computes what its plain formula computes: on a GPU, or emulated on the CPU."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from engine_checks import assert_near, check_on_gpu, gpu, hot, launches
from hypothesis import HealthCheck, given, settings

from segaware_np.gpu import kernels
from segaware_np.gpu.kernels import window_struct
from segaware_np.ops.distance import Measure
from segaware_np.ops.mask import local_mask_backward, local_mask_forward
from segaware_np.ops.masked_sum import masked_sum_grad
from segaware_np.ops.segaware_convolution import segaware_convolution
from segaware_np.window import Window

pytest_plugins = "segaware_np.testing.cuda.plugin"


@pytest.fixture(scope="module", autouse=True)
def count(request, cupy):
    """Print how often each kernel ran."""
    launches = getattr(cupy, "launches", [])
    del launches[:]
    yield
    if launches:
        names = Counter(name.partition("<")[0] for name in launches)
        least, times = names.most_common()[-1]
        capture = request.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            print(
                f"\nemulation: {len(launches)} launches of {len(set(launches))} instances of "
                f"{len(names)} kernels, none of them fewer than {times} times ({least})",
                end="",
            )


@pytest.mark.parametrize("name", hot("gpu"))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(launch=launches())
def test_fast_form_equals_the_plain_formula(cupy, name: str, launch: dict) -> None:
    check_on_gpu(cupy, name, launch)


@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "i8"])
def test_cross_entropy_of_a_class_that_there_is_not_is_nan(cupy, dtype) -> None:
    score, labels = np.zeros((1, 4, 2), "f"), np.array([[3, 4]], dtype)
    _, nll = gpu.cross_entropy(cupy.asarray(score), cupy.asarray(labels))
    np.testing.assert_allclose(nll.get(), [[np.log(4), np.nan]], rtol=1e-6)


def test_two_runs_are_equal_bit_for_bit(cupy) -> None:
    random = np.random.default_rng(0)
    x, weight = (cupy.asarray(random.standard_normal(s, "f")) for s in ((2, 5, 9, 8), (7, 5, 3, 3)))
    mask, dy = (cupy.asarray(random.random((2, n, 9, 8), "f")) for n in (9, 7))
    window, need = Window.same(3), frozenset({"x", "mask", "weight", "bias"})

    def run() -> list[bytes]:
        y = gpu.segaware_convolution(x, mask, weight, None, window, 1)
        gradients = gpu.segaware_convolution_grad(dy, x, mask, weight, window, 1, need)
        return [array.get().tobytes() for array in (y, *gradients)]

    assert run() == run()


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize(("outputs", "channels"), [(5, 3), (33, 19), (70, 32)])
def test_tensor_cores_add_up_what_they_can_hold(
    cupy, monkeypatch, outputs: int, channels: int, dtype
) -> None:
    monkeypatch.setenv("CUPY_TF32", "1")
    random, window = np.random.default_rng(outputs), Window((3, 2), pad=1)
    x, weight, bias = (  # few bits: products are exact in TF32 and in float16
        random.integers(-8, 9, shape) / 8.0
        for shape in ((2, channels, 9, 10), (outputs, channels, 3, 2), (outputs,))
    )
    mask = random.integers(0, 5, (2, 6, *window.output_shape((9, 10)))) / 4.0
    x[1, 2, 4, 5] = np.nan  # of which rounding must not make a number
    want = segaware_convolution(x, mask, weight, bias, window, 1)
    arrays = (cupy.asarray(a.astype(dtype)) for a in (x, mask, weight, bias))
    have = gpu.segaware_convolution(*arrays, window, 1)
    np.testing.assert_array_equal(have.get(), want.astype(dtype))
    if hasattr(cupy, "launches"):
        c_type = {"float16": "__half", "float32": "float"}[dtype]
        assert cupy.launches[-1] == f"convolution_tensor_cores<{c_type}, true>"


def test_infinite_mask_weight_is_not_multiplied_with_channels_that_are_not_there(cupy) -> None:
    x, mask = np.ones((1, 3, 1, 1), "f"), np.full((1, 1, 1, 1), np.inf, "f")
    weight, window = np.ones((2, 3, 1, 1), "f"), Window(1)
    y = gpu.segaware_convolution(*map(cupy.asarray, (x, mask, weight)), None, window, 1)
    assert y.get().ravel().tolist() == [np.inf, np.inf]


def test_mask_gradient_of_more_channels_than_a_block_holds(cupy) -> None:
    random, window = np.random.default_rng(0), Window.same(3)
    x, dy = (random.standard_normal((2, 70, 5, 7), "f") for _ in range(2))
    mask, need = random.random((2, 9, 5, 7), "f"), frozenset({"x", "mask"})
    want = masked_sum_grad(*(a.astype("d") for a in (dy, x, mask)), window, need)
    have = gpu.masked_sum_grad(*map(cupy.asarray, (dy, x, mask)), window, need)
    for a, b in zip(have, want, strict=True):
        assert_near(a.get(), b, 1e-5)


def test_mask_of_an_embedding_stores_no_distances(cupy) -> None:
    if not hasattr(cupy, "launches"):
        pytest.skip("only the stand-in tells which kernels ran")
    embedding, before = cupy.asarray(np.ones((1, 3, 6, 5), "f")), len(cupy.launches)
    mask, cache = local_mask_forward(embedding, 0.5, Window.same(3))
    assert cache.distance is None
    local_mask_backward(mask, cache, {"embedding"})
    assert cupy.launches[before:] == [
        "attention_mask<float, 1, false>",
        "attention_mask_backward<float, 1, false>",
        "distance_backward<float, 1>",
    ]


def test_nothing_is_launched_for_nothing(cupy, monkeypatch) -> None:
    monkeypatch.setattr(kernels, "_function", lambda *_: pytest.fail("launched"))
    empty = cupy.empty((0, 3, 4, 4), "f")
    assert gpu.im2col(empty, Window(3)).shape == (0, 3, 9, 2, 2)
    assert gpu.distance(empty, Measure(Window(3), "L1", False, False)).shape == (0, 9, 2, 2)


def test_indices_beyond_31_bits_are_refused_in_a_plane(cupy) -> None:
    window = Window(1)
    with pytest.raises(ValueError, match=r"image: expected planes below 2\*\*31 pixels"):
        window_struct(window, (65536, 32768))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda x: (3,), "expected a CuPy array or a NumPy scalar, got int"),
        (lambda x: (x.get(),), "got ndarray"),
        (lambda x: (x, np.ones((), "f")), "got ndarray"),
        (lambda x: (), "expected at least one CuPy array"),
    ],
)
def test_launch_refuses_what_a_kernel_would_misread(cupy, arguments, message) -> None:
    x = cupy.asarray(np.ones((2, 3), "f"))
    with pytest.raises(TypeError, match=message):
        kernels.launch("resize", (x.dtype,), 1, *arguments(x))


def test_launch_refuses_strides(cupy) -> None:
    x = cupy.asarray(np.ones((2, 3), "f"))
    with pytest.raises(ValueError, match="expected a C-contiguous array"):
        kernels.launch("resize", (x.dtype,), 1, x.T)
