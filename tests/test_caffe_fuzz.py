"""Mutated files: every one is read, or refused with one clear error; nothing else may happen.

A quick subset runs always; ``-m slow`` mutates about 49,000 files.
"""

from __future__ import annotations

import random
import re
import tracemalloc
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from published import embedding_network, segaware_vgg16
from test_caffe_layers import EVERY, description

from segaware_np.caffe import Net, Solver
from segaware_np.caffe.formats.schema import bind
from segaware_np.caffe.formats.text import parse
from segaware_np.caffe.formats.wire import (
    LayerWeights,
    SolverState,
    read_caffemodel,
    read_solverstate,
    write_caffemodel,
    write_solverstate,
)
from segaware_np.files import FormatError

QUICK, SLOW = 150, 3500  # mutants of each kind
HOSTILE = [b"\x00", b"\xff", b"\x7f", b"\x80", b"\xff" * 10, b"\xff\xff\xff\xff\x0f", b"{", b"}",
           b'"', b"'", b"{" * 200, b"<", b"\\", b"#", b"-1", b"0", b"1e999", b"nan",
           b"99999999999", b"${X}", b"\n", b"[", b"dim: 9", b"kernel_size: 0", b"\xc3\xa9"]
SOLVER = """
type: "Adam" base_lr: 0.01 lr_policy: "step" gamma: 0.1 stepsize: 3 momentum: 0.9 max_iter: 10
weight_decay: 0.0005 iter_size: 2 clip_gradients: 5 snapshot: 0 display: 1 random_seed: 3
net_param { input: "x" input_shape { dim: 1 dim: 2 dim: 3 dim: 3 }
            layer { name: "c" type: "Convolution" bottom: "x" top: "c"
                    convolution_param { num_output: 2 kernel_size: 3 pad: 1 } }
            layer { name: "l" type: "EuclideanLoss" bottom: "c" bottom: "x" } }
"""
OLD_FORM = """
name: "old" input: "x" input_dim: 1 input_dim: 2 input_dim: 9 input_dim: 9 force_backward: true
layers { layer { name: "p" type: "padding" pad: 2 } bottom: "x" top: "p" }
layers { layer { name: "o" type: "conv" num_output: 3 kernelsize: 5 blobs_lr: 1. } bottom: "p"
         top: "o" }
layers { name: "c" type: CONVOLUTION bottom: "x" top: "c" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
         convolution_param { num_output: 3 kernel_size: 3 hole: 2 pad: 2 } strict_dim: false }
layers { name: "n" type: BN bottom: "c" top: "c" bn_param { scale_filler { value: 1 } bn_mode:
         LEARN } }
layers { name: "q" type: POOLING bottom: "c" top: "q" top: "m" pooling_param { kernel_size: 2
         stride: 2 } }
layers { name: "u" type: UNPOOLING bottom: "q" bottom: "m" top: "u"
         unpooling_param { kernel_size: 2 stride: 2 unpool_size: 9 } }
layers { name: "d" type: PADDING bottom: "u" top: "d" padding_param { pad_beg: -1 pad_end: -1 } }
layers { name: "z" type: CROP bottom: "u" bottom: "d" top: "z" }
layers { name: "i" type: INTERP bottom: "d" top: "i" interp_param { zoom_factor: 2 shrink_factor:
         1 } }
layers { name: "r" type: RELU bottom: "i" top: "i" include: { phase: TRAIN } }
layers { name: "f" type: INNER_PRODUCT bottom: "i" top: "f" param: "w" blob_share_mode: PERMISSIVE
         inner_product_param { num_output: 2 } }
layers { name: "l" type: EUCLIDEAN_LOSS bottom: "f" bottom: "f" top: "l" loss_weight: 0.5 }
"""


def mutants(seed: bytes, count: int) -> list[bytes]:
    """Cut, flipped, doubled, moved and spiked versions of some bytes; always the same ones."""
    rng = random.Random(len(seed))
    out = []
    for _ in range(count):
        data = bytearray(seed)
        for _ in range(rng.choice([1, 1, 1, 2, 4, 16])):
            a = rng.randrange(len(data) + 1)
            b = min(len(data), a + rng.choice([1, 1, 2, 8, 64]))
            kind = rng.randrange(9)
            if kind == 0 and a < len(data):
                data[a] ^= 1 << rng.randrange(8)
            elif kind == 1:
                del data[a:b]
            elif kind == 2:
                data[a:a] = data[a:b]
            elif kind == 3:
                data[a:a] = rng.choice(HOSTILE)
            elif kind == 4:
                data[a:b] = rng.choice(HOSTILE)
            elif kind == 5 and rng.random() < 0.3:
                del data[max(a, 1) :]
            else:  # another digit: most likely still a description
                digits = [i for i, byte in enumerate(data) if 48 <= byte < 58]
                if digits:
                    data[rng.choice(digits)] = rng.randrange(48, 58)
        out.append(bytes(data))
    return out


def amount(size: int) -> list:
    return [pytest.param(QUICK, id="quick"), pytest.param(size, id="slow", marks=pytest.mark.slow)]


def text_of(data: bytes) -> str:
    return data.decode("utf-8", errors="replace") + "\n"


def runnable(seed: str, count: int, digits: int = 4) -> Iterator[str]:
    """Mutants without variables, and without the numbers of something large in all earnest."""
    for data in mutants(seed.encode(), count):
        text = re.sub(r"\$\{\w+\}", "", text_of(data))
        if all(len(word) <= digits for word in text.split() if word.isdecimal()):
            yield text


@pytest.mark.parametrize("count", amount(SLOW))
def test_descriptions(count: int) -> None:
    """Parsing of the published networks."""
    seed = segaware_vgg16(1 / 64, 33).encode()[:6000]
    refused = 0
    for data in mutants(seed, count):
        try:
            bind(parse(text_of(data)), "NetParameter")
        except FormatError as error:
            refused += 1
            assert "line" in str(error)
    assert refused > count / 5


@pytest.mark.parametrize("count", amount(10_000))
def test_old_descriptions(count: int) -> None:
    """Networks in the old form and with forks' layers: built from the mutant, and some run."""
    built = 0
    for text in runnable(OLD_FORM, count):
        try:
            net = Net(text, phase="TRAIN", crop="aligned")
        except (FormatError, FileNotFoundError):
            continue
        built += 1
        if built % 20 == 0:
            with np.errstate(all="ignore"), suppress(ValueError):  # as of a mask that points beyond
                net.forward()
                net.backward()
    assert built > count / 50


@pytest.mark.parametrize("count", amount(SLOW // 2))
def test_networks(count: int) -> None:
    """Whole networks: built from the mutant, and if that works, run."""
    built = 0
    for text in runnable(embedding_network(1 / 64, 33, embedding=2), count):
        try:
            net = Net(text, phase="TRAIN")
        except FormatError:
            continue
        built += 1
        if built % 20 == 0:
            net.forward()
            net.backward()
    assert built > count / 50


@pytest.mark.parametrize("count", amount(SLOW * 10))
def test_layers(count: int) -> None:
    """Networks of one layer, of every type, run if they can be built."""
    built = 0
    for case in EVERY:
        for text in runnable(description(*case), count // len(EVERY)):
            try:
                net = Net(text, phase="TRAIN")
            except FormatError:
                continue
            built += 1
            with np.errstate(all="ignore"):
                net.forward()
                net.backward()
    assert built > count / 20


@pytest.mark.parametrize("count", amount(SLOW // 2))
def test_solvers(count: int) -> None:
    built = 0
    for text in runnable(SOLVER, count, digits=6):
        try:
            solver = Solver(text)
            built += 1
        except (FormatError, FileNotFoundError):
            continue
        assert np.isfinite(solver.loss)
    assert built > count / 20


def _peak(read: object, path: Path) -> int:
    tracemalloc.start()
    try:
        read(path)  # type: ignore[operator]
    except FormatError as error:
        assert str(path) in str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("count", amount(SLOW))
@pytest.mark.parametrize("kind", ["caffemodel", "solverstate"])
def test_binary_files(tmp_path: Path, kind: str, count: int) -> None:
    """Memory stays within a small multiple of the file's size, whatever lengths it announces."""
    rng, path = np.random.default_rng(0), tmp_path / f"x.{kind}"
    arrays = [rng.normal(size=shape).astype("f4") for shape in ((3, 2, 3, 3), (3,), ())]
    if kind == "caffemodel":
        write_caffemodel(path, [LayerWeights(f"conv{i}", "Convolution", arrays) for i in range(4)])
        read = read_caffemodel
    else:
        write_solverstate(path, SolverState(7, "x", arrays * 3, 1, {"net": {"seed": 1}}))
        read = read_solverstate
    for data in mutants(path.read_bytes(), count):
        path.write_bytes(data)
        assert _peak(read, path) < 100_000 + 40 * len(data)
