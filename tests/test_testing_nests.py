"""Proofs of what a student writes: parameters in dictionaries, lists of images, several outputs."""

from __future__ import annotations

from collections import OrderedDict, namedtuple

import numpy as np
import pytest

from segaware_np.testing import (
    AdjointError,
    GradientError,
    PurityError,
    check_gradients,
    check_pure,
    check_same,
    prove,
)

rng = np.random.default_rng(5)
normal = rng.standard_normal


def network_forward(x, params):
    hidden = np.tanh(x @ params["W1"] + params["b1"])
    return hidden @ params["W2"], (x, params, hidden)


def network_backward(dy, cache):
    x, params, hidden = cache
    dz = dy @ params["W2"].T * (1 - hidden**2)
    gradients = {"W2": hidden.T @ dy, "b1": dz.sum(axis=0), "W1": x.T @ dz}  # in its own order
    return dz @ params["W1"].T, gradients


PARAMS = {"W1": normal((3, 5)), "b1": normal(5), "W2": normal((5, 2))}
X = normal((4, 3))


def test_parameters_in_a_dictionary():
    report = prove(network_forward, network_backward, [X, PARAMS])
    assert [one.name for one in report.inputs] == ["x", *(f"params[{k!r}]" for k in PARAMS)]
    prove(network_forward, network_backward, [X, OrderedDict(PARAMS)])


def test_gradients_by_the_names_of_the_inputs():
    def backward(dy, cache):
        dx, gradients = network_backward(dy, cache)
        return {"params": gradients, "x": dx}

    prove(network_forward, backward, [X, PARAMS])
    with pytest.raises(GradientError, match="gradient for 'y'; the inputs are x, params"):
        check_gradients(network_forward, lambda dy, _: {"y": dy}, [X, PARAMS])


def test_what_is_wrong_in_a_dictionary_is_named():
    def backward(dy, cache):
        dx, gradients = network_backward(dy, cache)
        return dx, {**gradients, "b1": gradients["b1"] / 4}

    with pytest.raises(GradientError, match=r"\(params\['b1'\]\)[^$]*every entry is 0.25") as found:
        prove(network_forward, backward, [X, PARAMS])
    assert found.value.name == "params['b1']" and len(found.value.index) == 1
    with pytest.raises(GradientError, match=r"NoneType as the gradient for input 1 \(params\['b1"):
        check_gradients(
            network_forward,
            lambda dy, c: (c[0], {"W1": PARAMS["W1"], "W2": PARAMS["W2"]}),
            [X, PARAMS],
        )
    with pytest.raises(GradientError, match=r"params as a dictionary .* got \['W3'\]"):
        check_gradients(network_forward, lambda dy, c: (c[0], {"W3": dy}), [X, PARAMS])


def test_one_list_of_arrays():
    """The gradient may be the list, or a tuple of gradients that holds it."""
    parts = [normal((2, 3)), normal((2, 1))]

    def forward(xs):
        return np.concatenate(xs, axis=1), [x.shape[1] for x in xs]

    def backward(dy, widths):
        return [part.copy() for part in np.split(dy, np.cumsum(widths)[:-1], axis=1)]

    prove(forward, backward, [parts], linear=["xs"])
    prove(forward, lambda dy, w: (backward(dy, w),), [parts], linear=["xs"])
    prove(lambda *xs: forward(xs), backward, parts, linear=["xs[0]"])
    with pytest.raises(AdjointError):
        prove(forward, lambda dy, w: [2 * d for d in backward(dy, w)], [parts], linear=["xs"])
    with pytest.raises(GradientError, match="xs as a list of 2, got list of 3"):
        check_gradients(forward, lambda dy, w: ([dy, dy, dy],), [parts])


def lstm_forward(x, h, c, Wx, Wh, b):
    i, f, o, g = np.split(x @ Wx + h @ Wh + b, 4, axis=1)
    i, f, o, g = *(1 / (1 + np.exp(-gate)) for gate in (i, f, o)), np.tanh(g)
    c_next = f * c + i * g
    t = np.tanh(c_next)
    return o * t, c_next, (x, h, c, Wx, Wh, i, f, o, g, t)


def lstm_backward(dh, dc, cache):
    x, h, c, Wx, Wh, i, f, o, g, t = cache
    dc = dc + dh * o * (1 - t**2)
    parts = dc * g * i * (1 - i), dc * c * f * (1 - f), dh * t * o * (1 - o), dc * i * (1 - g**2)
    da = np.concatenate(parts, axis=1)
    return da @ Wx.T, da @ Wh.T, dc * f, x.T @ da, h.T @ da, da.sum(axis=0)


LSTM = [normal(s) for s in ((2, 3), (2, 4), (2, 4), (3, 16), (4, 16), 16)]


def test_several_outputs_each_with_its_cotangent():
    prove(lstm_forward, lstm_backward, LSTM)
    prove(
        lambda *a: (lstm_forward(*a)[:2], lstm_forward(*a)[2]),
        lambda d, cache: lstm_backward(*d, cache),
        LSTM,
        names=["x", "h", "c", "Wx", "Wh", "b"],
    )


@pytest.mark.parametrize("forgotten", [0, 1])
def test_a_cotangent_that_is_not_used_is_found(forgotten: int):
    def backward(dh, dc, cache):
        return lstm_backward(*((0 * dh, dc) if forgotten == 0 else (dh, 0 * dc)), cache)

    with pytest.raises(GradientError, match="backward is wrong for input 0"):
        prove(lstm_forward, backward, LSTM)


Waves = namedtuple("Waves", "sine largest cosine")


@pytest.mark.parametrize(
    "kind", [lambda s, a, c: {"s": s, "a": a, "c": c}, Waves], ids=["dict", "named tuple"]
)
def test_an_output_with_fields_of_which_one_has_no_gradient(kind):
    def forward(x):
        return kind(np.sin(x), np.argmax(x.real, axis=1), np.cos(x)), x

    def backward(d, x):
        ds, da, dc = d.values() if isinstance(d, dict) else d
        assert da is None
        return ds * np.cos(x) - dc * np.sin(x)

    prove(forward, backward, [normal((2, 5))])
    with pytest.raises(GradientError, match="backward is wrong"):
        prove(forward, lambda d, x: 2 * backward(d, x), [normal((2, 5))])


def test_settings_as_a_layer_in_another_framework_takes_them():
    """Numbers, None and dictionaries of settings are passed on; their gradients are None."""

    def forward(x, weight, bias=None, stride=1, eps=1e-5, param=None):
        y = np.correlate(x, weight.conj(), "valid")[::stride] * param["gain"] + eps
        return y if bias is None else y + bias, (x, weight, stride, param)

    def backward(dy, cache):
        x, weight, stride, param = cache
        dense = np.zeros(len(x) - len(weight) + 1, dy.dtype)
        dense[::stride] = dy * param["gain"]
        dweight = [(dense * x[k : k + len(dense)]).sum() for k in range(len(weight))]
        return np.convolve(dense, weight), np.array(dweight), dy.sum(), None, None, None

    inputs = [normal(9), normal(3), np.array(0.3), 2, 1e-5, {"gain": 0.5, "mode": "train"}]
    report = prove(forward, backward, inputs)
    assert [one.name for one in report.inputs] == ["x", "weight", "bias"]


def test_a_loss_that_is_a_python_float():
    def forward(x, target):
        return float(((x - target) ** 2).mean()), x - target

    def backward(dloss, apart):
        return 2 * dloss * apart / apart.size, -2 * dloss * apart / apart.size

    prove(forward, backward, [normal((3, 2)), normal((3, 2))])
    prove(lambda x, scale: ((x * scale).sum(), (x, scale)),
          lambda d, c: (d * c[1] * np.ones_like(c[0]), float(d * c[0].sum())),
          [normal(3), 0.5])  # fmt: skip


# What is impure within a nest.


def test_two_calls_that_differ_are_told_first():
    """Dropout: neither its values nor its gradient are to blame."""
    source = np.random.default_rng(0)

    def forward(x, p=0.5):
        kept = (source.random(x.shape) > p) / (1 - p)
        return x * kept, kept

    text = r"two calls with the same input differ; output\[\d, \d\] was"
    with pytest.raises(PurityError, match=text):
        prove(forward, lambda dy, kept: dy * kept, [normal((3, 4))], oracle=lambda x: x)
    with pytest.raises(GradientError, match=text):
        check_gradients(forward, lambda dy, kept: dy * kept, [normal((3, 4))])
    with pytest.raises(GradientError, match=r"draws random numbers"):
        check_gradients(
            lambda x: (x * 2, x), lambda dy, x: dy * source.random(x.shape), [normal((3, 4))]
        )


def test_dropout_with_a_seed_is_right():
    def forward(x, param):
        kept = np.random.default_rng(param["seed"]).random(x.shape) > param["p"]
        return x * kept, kept

    prove(forward, lambda dy, kept: dy * kept, [normal((3, 4)), {"p": 0.5, "seed": 3}])


def test_writing_into_a_nest_is_found():
    def forward(x, statistics):
        statistics["mean"] += x.mean()
        return x * 2, None

    inputs = [normal(3), {"mean": np.zeros(())}]
    text = r"wrote to its argument statistics, first at statistics\['mean'\]: 0.0 became"
    with pytest.raises(GradientError, match=text):
        check_gradients(forward, lambda dy, _: (2 * dy, None), inputs)
    with pytest.raises(PurityError, match=r"writes to its argument statistics .*\['mean'\] was 0"):
        check_pure(lambda x, statistics: forward(x, statistics)[0], inputs)

    def adds(x, settings):
        settings["seen"] = True
        return x * 2, None

    with pytest.raises(GradientError, match=r"settings\['seen'\]: missing became True"):
        check_gradients(adds, lambda dy, _: 2 * dy, [normal(3), {"p": 1}])


def test_layouts_and_dtypes_are_tried_within_a_nest():
    def reads_memory(xs):
        x = xs["a"][0]
        return np.ndarray(x.shape, x.dtype, x, strides=np.empty(x.shape).strides) + 0.0

    with pytest.raises(PurityError, match=r"with Fortran-ordered xs\['a'\]\[0\]"):
        check_pure(reads_memory, [{"a": [normal((2, 3))]}])
    seen = []
    check_same(lambda xs: seen.append(xs[0].dtype) or xs[0] * 1, lambda xs: xs[0], [[normal(3)]])
    assert {str(dtype) for dtype in seen} == {"float32", "float64"}


# Operations that compute in float32 whatever comes in.


def single(*arrays):
    return [array.astype(np.float32) for array in arrays]


def loss32_forward(x, labels):
    (z,) = single(x)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return -np.log(p[range(len(p)), labels]).mean().astype(x.dtype), (p, labels, x.dtype)


def loss32_backward(dloss, cache):
    p, labels, dtype = cache
    d = p - np.eye(p.shape[1], dtype=np.float32)[labels]
    return (d * np.float32(dloss / len(p))).astype(dtype)


def product32_forward(a, b):
    x, y = single(a, b)
    return (x @ y).astype(a.dtype), (a, b)


def product32_backward(dy, cache):
    a, b, d = single(*cache, dy)
    return (d @ b.T).astype(dy.dtype), (a.T @ d).astype(dy.dtype)


def relu32_forward(x):
    return np.maximum(single(x)[0], 0).astype(x.dtype), x


def power32_forward(x):
    return (single(x)[0] ** 2).sum().astype(x.dtype), x


SINGLE = {
    "loss": (loss32_forward, loss32_backward, [normal((20, 6)), rng.integers(0, 6, 20)], []),
    "product": (product32_forward, product32_backward, [X, normal((3, 4))], ["a", "b"]),
    "relu": (relu32_forward, lambda dy, x: dy * (x > 0), [normal((4, 5))], []),
    "sum of squares": (power32_forward, lambda dy, x: 2 * dy * x, [normal((10, 5))], []),
}


@pytest.mark.parametrize("name", SINGLE)
def test_no_false_alarm_for_what_rounds_to_float32(name: str):
    forward, backward, inputs, linear = SINGLE[name]
    report = prove(forward, backward, inputs, linear=linear)
    assert 2**-24 <= report.inputs[0].roundoff <= 2**-18
    assert "forward rounds to" in str(report.inputs[0])


@pytest.mark.parametrize("name", SINGLE)
def test_a_wrong_factor_is_found_in_what_rounds_to_float32(name: str):
    forward, backward, inputs, _ = SINGLE[name]

    def wrong(dy, cache):
        found = backward(dy, cache)
        first, *rest = found if isinstance(found, tuple) else (found,)
        return (1.3 * first, *rest)

    with pytest.raises(GradientError, match="backward is wrong for input 0"):
        check_gradients(forward, wrong, inputs)


def test_a_backward_that_rounds_is_not_called_wrong():
    def backward(dy, x):
        return np.cos(single(x)[0]).astype(dy.dtype) * dy

    with pytest.raises(GradientError, match="right to single precision only") as found:
        check_gradients(lambda x: (np.sin(x), x), backward, [X])
    assert "backward is wrong" not in str(found.value)


def test_what_rounds_too_coarsely_is_not_called_wrong():
    def forward(x):
        return np.tanh(x.astype(np.float16)).astype(x.dtype), x

    with pytest.raises(GradientError, match="backward cannot be proved for input 0") as found:
        check_gradients(forward, lambda dy, x: dy * (1 - np.tanh(x) ** 2), [1e-2 * X + 2])
    assert "forward rounds to" in str(found.value) and "hint" not in str(found.value)


@pytest.mark.parametrize("error", [TypeError, ValueError, NotImplementedError, AssertionError])
def test_complex_numbers_may_be_refused_by_any_error(error):
    """scikit-image raises a ValueError, for instance."""

    def forward(x):
        if x.dtype.kind == "c":
            raise error("real numbers, please")
        return x * x, x

    report = check_gradients(forward, lambda dy, x: 2 * x * dy, [X])
    assert report.inputs[0].method == "central differences"
    with pytest.raises(TypeError, match="complex inputs are refused: real numbers, please"):
        check_gradients(forward, lambda dy, x: 2 * x * dy, [X], method="complex")


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_what_computes_in_float64_is_held_to_float64(scale: float):
    """Not taken for rough: entries of very different sizes, outputs that cancel or saturate."""
    x = normal((4, 5)) * np.array([1, 1, 1, 1, scale])
    cases = [
        (lambda x: (x**2, x), lambda dy, x: 2 * x * dy),
        (lambda x: (x - x.mean(), x), lambda dy, x: dy - dy.mean()),
        (lambda x: (np.abs(x) + 10, x), lambda dy, x: np.sign(x) * dy),
    ]
    for forward, backward in cases:
        report = check_gradients(forward, backward, [x])
        assert report.inputs[0].roundoff == 0
