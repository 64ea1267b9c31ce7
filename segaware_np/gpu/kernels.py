"""CUDA kernels: found, compiled once, launched with care. The only file that knows RawModule."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from segaware_np.extras import require
from segaware_np.window import Pair, Window
from segaware_np.xp import Array, array_module

OPTIONS = ("--std=c++17",)
MAX_BLOCKS = 1 << 20  # kernels stride over what a grid of this size leaves

C_TYPES = {
    **{"e": "__half", "f": "float", "d": "double"},
    **{"b": "signed char", "h": "short", "i": "int", "q": "long long"},
    **{"B": "unsigned char", "H": "unsigned short", "I": "unsigned int", "Q": "unsigned long long"},
}
_FIELDS = ("kernel", "stride", "pad", "dilation", "image", "output")
WINDOW = np.dtype([(f"{name}_{axis}", np.int32) for name in _FIELDS for axis in "hw"])
_OPAQUE = f"V{WINDOW.itemsize}"  # CuPy would spell out the fields at each launch
FLOATS = ("float", "double", "__half")
INTEGERS = tuple(C_TYPES[char] for char in "bhiqBHIQ")
_FLAG = ("false", "true")
_LABEL = ("unsigned char", "int", "long long")
_NORM = ("1", "2")
# A wider tile does not fit the registers in double precision.
_TILE = {"float": ("16", "32", "64"), "__half": ("16", "32", "64"), "double": ("16", "32")}
_ARRANGED = {**_TILE, "float": ("0", "16", "32", "64"), "__half": ("0", "16", "32", "64")}

# Every kernel: the values of its template arguments after the first, the element type.
CATALOG: dict[str, dict[str, tuple[tuple[str, ...] | Mapping[str, tuple[str, ...]], ...]]] = {
    "columns": {
        "im2col": (_FLAG,),
        "col2im": (),
        "masked_columns_backward": (_FLAG,),
        "masked_sum": (_FLAG,),
    },
    "convolution": {
        "arrange_weights": (_ARRANGED,),
        "convolution": (_TILE, _FLAG),
        "convolution_tensor_cores": ({"float": _FLAG, "__half": _FLAG},),
        "convolution_repair": (_FLAG,),
        "weight_gradient_repair": (_FLAG,),
    },
    "distance": {
        "distance": (_NORM,),
        "distance_backward": (_NORM,),
        "attention_mask": (("0", *_NORM), _FLAG),
        "attention_mask_backward": (("0", *_NORM), _FLAG),
    },
    "losses": {
        "softmax": (),
        "softmax_backward": (),
        "cross_entropy": (_LABEL,),
        "cross_entropy_backward": (_LABEL,),
        "hinge_loss": (_LABEL,),
        "hinge_loss_backward": (),
    },
    "parity": {"label_parity": ()},
    "pooling": {
        "max_pool": (),
        "max_pool_backward": (),
        "average_pool": (),
        "average_pool_backward": (),
    },
    "resize": {"resize": (), "resize_backward": ()},
}
_SOURCE_OF = {kernel: source for source, kernels in CATALOG.items() for kernel in kernels}


class KernelError(RuntimeError):
    """A kernel cannot be compiled on this machine; the message says what to install."""


def element_types(source: str) -> tuple[str, ...]:
    """Return the C types that the kernels of a source are made for.

    Parameters
    ----------
    source : str
        A kernel source's name, without suffix.
    """
    return INTEGERS if source == "parity" else FLOATS


def instances(source: str, element: str) -> list[str]:
    """Return every kernel of a source for one element type, as C++ names it.

    Parameters
    ----------
    source : str
        A kernel source's name, without suffix.
    element : str
        One of its `element_types`.

    Examples
    --------
    >>> instances("distance", "float")[0]
    'distance<float, 1>'
    """
    names = []
    for kernel, axes in CATALOG[source].items():
        values = [axis.get(element, ()) if isinstance(axis, Mapping) else axis for axis in axes]
        names += [f"{kernel}<{', '.join((element, *rest))}>" for rest in product(*values)]
    return names


def source_code(source: str, element: str) -> str:
    """Return the text of ``raw_kernels/<source>.cu`` with its one include written out.

    CuPy keeps compiled kernels by their text: a change of the header must be a change of it.
    float16 alone needs CUDA's headers, which are not on every machine: only for it are they asked.

    Parameters
    ----------
    source : str
        A kernel source's name, without suffix.
    element : str
        One of its `element_types`.

    Raises
    ------
    FileNotFoundError
        If the folder of sources is neither in the package nor beside it.
    """
    folder = _folder()
    common = (folder / "common.cuh").read_text(encoding="utf-8").replace("#pragma once", "")
    code = (folder / f"{source}.cu").read_text(encoding="utf-8")
    head, include, rest = code.partition('#include "common.cuh"')
    line = head.count("\n") + 1
    written_out = f'#line 1 "common.cuh"\n{common}\n#line {line} "{source}.cu"\n'
    half = "#define HALF\n" if element == "__half" else ""
    return f'{half}#line 1 "{source}.cu"\n{head}{written_out if include else ""}{rest}'


def launch(
    kernel: str, template: tuple[Any, ...], work: int, *arguments: Any, block: int = 256
) -> None:
    """Launch one kernel on the device of its arrays, in that device's current stream.

    Parameters
    ----------
    kernel : str
        A name in `CATALOG`.
    template : tuple
        Its template arguments: the dtype of the elements, then integers, booleans and dtypes.
    work : int
        Number of threads that it can use. Nothing is launched for none.
    *arguments
        C-contiguous CuPy arrays, NumPy scalars of the exact C types, 0-d structured arrays for
        structs, None for a null pointer.
    block : int
        Threads in a block.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another kind, an array is not contiguous or on another device.
    KernelError
        If the kernel cannot be compiled here.
    """
    cupy = require("cupy", extra="gpu")
    device = _check(cupy, kernel, arguments)
    if not work:
        return
    names = tuple(_spelled(value) for value in template)
    values = [np.uintp(0) if a is None else a for a in arguments]
    with device:
        function = _function(cupy, device.id, kernel, names)
        function((min(-(-work // block), MAX_BLOCKS),), (block,), tuple(values))


def window_struct(window: Window, shape: Pair, count: Pair | None = None) -> np.ndarray:
    """Return a window on an image as a 0-d structured array, to be passed to a kernel by value.

    Parameters
    ----------
    window : Window
    shape : (H, W)
        Size of the image.
    count : (Ho, Wo), optional
        Number of windows, if not ``window.output_shape(shape)``.

    Raises
    ------
    ValueError
        If one plane of the image or of the output holds 2**31 elements or more: kernels name a
        pixel by 32 bits (and an element of an array by 64).
    """
    return _struct(window, tuple(shape), tuple(count or window.output_shape(shape)))


@lru_cache(maxsize=1024)
def _struct(window: Window, shape: Pair, count: Pair) -> np.ndarray:
    for name, (height, width) in (("image", shape), ("output", count)):
        if height * width >= 2**31:
            raise ValueError(f"{name}: expected planes below 2**31 pixels, got {height}x{width}")
    pairs = (window.kernel, window.stride, window.pad, window.dilation, shape, count)
    return np.array(tuple(length for pair in pairs for length in pair), WINDOW).view(_OPAQUE)


def sum_dtype(dtype: np.dtype) -> np.dtype:
    """Return the precision in which sums of this type are kept.

    Parameters
    ----------
    dtype : numpy.dtype
    """
    return np.promote_types(dtype, np.float32)


def scalar(value: Array | float, dtype: np.dtype) -> tuple[Array | None, np.float64]:
    """Return a number as pointer and value for `scalar` in common.cuh: arrays stay on the GPU.

    Parameters
    ----------
    value : float or 0-d array
    dtype : numpy.dtype
        Of the elements that the pointer points to.
    """
    if isinstance(value, (int, float, np.generic)):
        return None, np.float64(value)
    return value.astype(dtype, copy=False), np.float64(0)


def label_array(labels: Array) -> Array:
    """Return labels of a type that the kernels are made for: their own, or int64.

    Parameters
    ----------
    labels : integer array
    """
    dtype = labels.dtype if labels.dtype in (np.uint8, np.int32, np.int64) else np.int64
    return array_module(labels).ascontiguousarray(labels, dtype)


def _spelled(value: Any) -> str:
    """Return a template argument as C++ writes it."""
    if isinstance(value, np.dtype):
        return C_TYPES[value.char.replace("l", "q").replace("L", "Q")]
    return str(value).lower()


def _check(cupy: ModuleType, kernel: str, arguments: tuple[Any, ...]) -> Any:
    device = None
    for at, argument in enumerate(arguments):
        where = f"{kernel}, argument {at}"
        if isinstance(argument, cupy.ndarray):
            device = _check_device(where, argument, device)
        elif not (
            argument is None
            or isinstance(argument, np.generic)
            or (isinstance(argument, np.ndarray) and argument.dtype.kind == "V")
        ):
            raise TypeError(
                f"{where}: expected a CuPy array or a NumPy scalar, got {type(argument).__name__}"
            )
    if device is None:
        raise TypeError(f"{kernel}: expected at least one CuPy array, got none")
    return device


def _check_device(where: str, array: Array, device: Any) -> Any:
    if not array.flags.c_contiguous:
        raise ValueError(f"{where}: expected a C-contiguous array, got strides {array.strides}")
    if device is not None and array.device.id != device.id:
        raise ValueError(f"{where}: expected an array on GPU {device.id}, got {array.device.id}")
    return array.device


# Keyed by the module as well: a program may use CuPy's stand-in and CuPy in turns.
@cache
def _function(cupy: ModuleType, device: int, kernel: str, template: tuple[str, ...]) -> Any:
    module = _module(cupy, device, _SOURCE_OF[kernel], template[0])
    return module.get_function(f"{kernel}<{', '.join(template)}>")


@cache
def _module(cupy: ModuleType, device: int, source: str, element: str) -> Any:
    """Compile a source for one element type; `device`, the current one, is part of the key."""
    names = instances(source, element)
    module = cupy.RawModule(
        code=source_code(source, element), options=OPTIONS, name_expressions=tuple(names)
    )
    try:
        module.get_function(names[0])  # compiles
    except (cupy.cuda.compiler.CompileException, RuntimeError, OSError, ImportError) as error:
        raise KernelError(
            f"raw_kernels/{source}.cu does not compile for {element} on this machine. "
            f"{_advice(cupy)}; a GPU newer than that CUDA needs a newer one.\n{error}"
        ) from error
    return module


def _advice(cupy: ModuleType) -> str:
    """Return what brings this CuPy its compiler and headers."""
    major = cupy.cuda.runtime.runtimeGetVersion() // 1000
    extra = f'pip install -U "cupy-cuda{major}x[ctk]>=14"'
    if int(cupy.__version__.split(".")[0]) >= 14:
        return f"CuPy needs NVRTC and headers of CUDA {major}: {extra}"
    try:
        version = ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
    except RuntimeError:  # it is not there
        return (
            f"CuPy {cupy.__version__} needs NVRTC of CUDA {major}: install that CUDA toolkit, or, "
            f"with NumPy 2, a CuPy that brings its own by {extra}"
        )
    headers = "nvidia-cuda-runtime" + (f"-cu{major}" if major < 13 else "")
    return (
        f"CuPy {cupy.__version__} needs headers of NVRTC's very version, {version}, for float16: "
        f'pip install "{headers}=={version}.*", or install that CUDA toolkit'
    )


def _folder() -> Path:
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "raw_kernels", package.parent / "raw_kernels"):
        if (folder / "common.cuh").is_file():
            return folder
    raise FileNotFoundError(
        f"the CUDA sources are neither in {package / 'raw_kernels'} nor beside the package"
    )
