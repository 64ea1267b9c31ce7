"""A strict stand-in for CuPy on a machine without a GPU, for tests of code that uses CuPy.

Its arrays are NumPy arrays in a box; kernels of `RawModule` run on the CPU through
`segaware_np.testing.cuda.emulate`. It is as strict as CuPy (nothing mixes with NumPy arrays,
nothing becomes one unasked), and stricter where CuPy trusts its caller: number, types and
contiguity of a kernel's arguments, writes outside an array, output that overlaps input, work on
a device that is not the current one.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from segaware_np.testing.cuda import fake_cuda as cuda
from segaware_np.testing.cuda.emulate import KernelError, Module, Parameter

try:  # imports without a GPU, and knows which names CuPy has
    _real: ModuleType | None = import_module("cupy")
    import_module("cupyx").scipy  # noqa: B018 (loads lazily: while ``cupy`` is still itself)
except ImportError:
    _real = None

__version__ = _real.__version__ if _real else "14.0.0"  # whose rules it follows
GUARD = 1 << 14  # bytes on either side of an array during a launch, where nobody may write
UFUNC_METHODS = {  # what CuPy's universal functions can do beside being called
    "add": ("reduce", "accumulate", "reduceat", "at"),
    "multiply": ("reduce", "accumulate"),
    "maximum": ("at",),
    "minimum": ("at",),
}
VIEWS = {"reshape", "ravel", "squeeze", "swapaxes", "transpose", "view"}  # need no kernel
settings = SimpleNamespace(sanitize=None)  # which build of the kernels runs
launches: list[str] = []  # kernels launched so far, by name
places: list[tuple[int, Any]] = []  # and for each, the number of the device, and the stream
transfers: list[tuple[str, int]] = []  # copies so far: ("to host" | "to device", bytes)


@contextmanager
def installed(sanitize: str | None = None, devices: int = 1) -> Iterator[ModuleType]:
    """Let ``import cupy`` find the stand-in, its kernels built with a sanitizer or without."""
    before, settings.sanitize, cuda.devices = sys.modules.get("cupy"), sanitize, devices
    sys.modules["cupy"] = sys.modules[__name__]
    try:
        yield sys.modules[__name__]
    finally:
        settings.sanitize, cuda.devices = None, 1
        if before is None:
            del sys.modules["cupy"]
        else:
            sys.modules["cupy"] = before


# ---- arrays ------------------------------------------------------------------------------
class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801 (CuPy's name)
    """An array on a pretended device: the one that was current when it was made."""

    def __init__(self, shape: Any, dtype: Any = float) -> None:
        self._array: np.ndarray = _garbage(np.empty(shape, dtype))
        self._device = cuda.current_device()

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **options: Any) -> Any:
        if options.get("where", True) is not True:
            raise TypeError(f"cupy.{ufunc.__name__} takes no where=")
        if method != "__call__" and method not in UFUNC_METHODS.get(ufunc.__name__, ()):
            # CuPy's own answer, word for word: what it refuses must fail here as well.
            raise NotImplementedError(f"`cupy_{ufunc.__name__}.{method}` is not supported yet")
        out = options.get("out")
        result = getattr(ufunc, method)(*_unbox(inputs), **_unbox(options))
        return out[0] if out else _box(result)

    def __array_function__(self, function: Callable, _: Any, inputs: Any, options: Any) -> Any:
        return _boxed(function)(*inputs, **options)

    def __getattr__(self, name: str) -> Any:
        unknown = _real is not None and not hasattr(_real.ndarray, name)
        if name.startswith("__") or unknown:
            raise AttributeError(f"'cupy.ndarray' object has no attribute {name!r}")
        value = getattr(self._array, name)
        if not callable(value):
            return _box(value, self._device)
        if name in VIEWS:
            return _boxed(value, self._device)
        if name != "copy":  # which brings an array to the current device
            _unbox(self)
        return _boxed(value)

    def __dlpack__(self, **_: Any) -> ndarray:
        return self

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self._device  # kDLCUDA

    def __getitem__(self, index: Any) -> ndarray:
        return _wrap(self._array[_view(index)], self._device)

    def __setitem__(self, index: Any, value: Any) -> None:
        _unbox(self)[_view(index)] = _unbox(value)

    def __len__(self) -> int:
        return len(self._array)

    def __iter__(self) -> Iterator[ndarray]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.get())

    def __int__(self) -> int:
        return int(self.get())

    def __float__(self) -> float:
        return float(self.get())

    def __complex__(self) -> complex:
        return complex(self.get())

    def __repr__(self) -> str:
        return f"cupy:{self._array!r}"

    def item(self) -> Any:
        return self.get().item()

    def tolist(self) -> Any:
        return self.get().tolist()

    def get(self) -> np.ndarray:
        transfers.append(("to host", self._array.nbytes))
        return self._array.copy()

    @property
    def data(self) -> SimpleNamespace:
        return SimpleNamespace(ptr=self._array.ctypes.data)

    @property
    def device(self) -> cuda.Device:
        return cuda.Device(self._device)


def _wrap(array: np.ndarray, device: int | None = None) -> ndarray:
    boxed = ndarray.__new__(ndarray)
    boxed._array, boxed._device = array, cuda.current_device() if device is None else device
    return boxed


def _garbage(array: np.ndarray) -> np.ndarray:
    """Fill new memory with what is easily noticed: NaN, -1."""
    array.reshape(-1).view(np.uint8)[...] = 0xFF
    return array


def _view(index: Any) -> tuple:
    """Return an index that gives a view even of a single element, as CuPy does."""
    index = _unbox(index if isinstance(index, tuple) else (index,))
    return index if any(i is Ellipsis for i in index) else (*index, Ellipsis)


def _unbox(value: Any) -> Any:
    if isinstance(value, ndarray):
        if value._device != cuda.current_device():
            raise RuntimeError(
                f"an array on GPU {value._device} used on GPU {cuda.current_device()}"
            )
        return value._array
    if isinstance(value, np.ndarray):
        raise TypeError("Unsupported type <class 'numpy.ndarray'>: a NumPy array given to CuPy")
    if isinstance(value, (list, tuple)):
        return type(value)(_unbox(v) for v in value)
    if isinstance(value, dict):
        return {k: _unbox(v) for k, v in value.items()}
    return value


def _box(value: Any, device: int | None = None) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return _wrap(np.asarray(value), device)
    if type(value) in (list, tuple):
        return type(value)(_box(item, device) for item in value)
    return value


def _boxed(function: Callable, device: int | None = None) -> Callable:
    @functools.wraps(function, assigned=("__name__", "__doc__"), updated=())
    def call(*arguments: Any, **options: Any) -> Any:
        return _box(function(*_unbox(arguments), **_unbox(options)), device)

    return call


# ---- the module's functions --------------------------------------------------------------
def array(value: Any, dtype: Any = None, copy: bool = True) -> ndarray:
    if isinstance(value, ndarray):
        return _wrap(np.array(value._array, dtype, copy=copy or None))
    made = np.array(value, dtype)
    transfers.append(("to device", made.nbytes))
    return _wrap(made)


def asarray(value: Any, dtype: Any = None) -> ndarray:
    if isinstance(value, ndarray) and dtype in (None, value.dtype):
        return value
    return array(value, dtype)


def ascontiguousarray(value: Any, dtype: Any = None) -> ndarray:
    boxed = asarray(value, dtype)
    return boxed if boxed._array.flags.c_contiguous else _wrap(_unbox(boxed).copy("C"))


def asnumpy(value: Any) -> np.ndarray:
    return value.get() if isinstance(value, ndarray) else np.asarray(value)


def from_dlpack(value: Any) -> ndarray:
    inside = value.__dlpack__()
    if not isinstance(inside, ndarray):
        raise BufferError("the stand-in for CuPy shares memory with no other library")
    return _wrap(inside._array, inside._device)


def empty(shape: Any, dtype: Any = float) -> ndarray:
    return ndarray(shape, dtype)


def empty_like(value: ndarray, dtype: Any = None) -> ndarray:
    return ndarray(value.shape, dtype or value.dtype)


def get_default_memory_pool() -> SimpleNamespace:
    """A pool that holds nothing back, and does not count."""
    return SimpleNamespace(free_all_blocks=lambda: None, total_bytes=lambda: 0)


def get_array_module(*values: Any) -> ModuleType:
    return sys.modules[__name__] if any(isinstance(v, ndarray) for v in values) else np


def __getattr__(name: str) -> Any:
    """Everything else is NumPy's, as far as CuPy has it."""
    if name.startswith("__") or (_real is not None and not hasattr(_real, name)):
        raise AttributeError(f"module 'cupy' has no attribute {name!r}")
    value = getattr(np, name)
    if isinstance(value, np.ufunc):
        return _Ufunc(value)
    return value if isinstance(value, type) or not callable(value) else _boxed(value)


class _Ufunc:
    """A NumPy ufunc whose inputs are wrapped: scalars, too, end up on the device."""

    def __init__(self, ufunc: np.ufunc) -> None:
        self._ufunc = ufunc

    def __call__(self, *inputs: Any, **options: Any) -> Any:
        return self._apply("__call__", *inputs, **options)

    def __getattr__(self, method: str) -> Callable:
        return functools.partial(self._apply, method)

    def _apply(self, method: str, *inputs: Any, **options: Any) -> Any:
        probe = _wrap(np.zeros(()))
        out = options.pop("out", None)
        if out is not None:
            options["out"] = out if isinstance(out, tuple) else (out,)
        return probe.__array_ufunc__(self._ufunc, method, *inputs, **options)


# ---- kernels -----------------------------------------------------------------------------
class RawModule:
    """Kernels from CUDA C++, as ``cupy.RawModule``."""

    def __init__(
        self,
        *,
        code: str | None = None,
        path: str | None = None,
        options: tuple[str, ...] = (),
        backend: str = "nvrtc",
        name_expressions: tuple[str, ...] | None = None,
    ) -> None:
        if backend != "nvrtc":
            raise ValueError(f"backend: the stand-in for CuPy knows nvrtc, got {backend!r}")
        self._code = code if code is not None else Path(str(path)).read_text(encoding="utf-8")
        self._names, self._options = name_expressions or (), options

    def build(self, sanitize: str | None) -> Module:
        try:
            return Module(self._code, self._names, self._options, sanitize)
        except KernelError as error:
            raise cuda.CompileException(str(error)) from error

    def get_function(self, name: str) -> RawKernel:
        known = _built(self, None).kernels
        if name not in known:
            raise KeyError(f"no kernel {name!r} among {known}")
        kernel = RawKernel.__new__(RawKernel)
        kernel._module, kernel.name = self, name
        return kernel


class RawKernel:
    """A kernel from CUDA C++, as ``cupy.RawKernel``."""

    def __init__(self, code: str, name: str, options: tuple[str, ...] = ()) -> None:
        self._module, self.name = RawModule(code=code, options=options), name

    def __call__(self, grid: tuple, block: tuple, arguments: tuple, *, shared_mem: int = 0) -> None:
        parameters = _built(self._module, None).signature(self.name)
        if len(arguments) != len(parameters):
            given = ", ".join(map(str, parameters))
            raise TypeError(f"{self.name}: {len(arguments)} arguments for parameters ({given})")
        values, loans = [], []
        for at, (argument, parameter) in enumerate(zip(arguments, parameters, strict=True)):
            where = f"{self.name}, argument {at}"
            if isinstance(argument, ndarray):
                loans.append(_Loan(where, _unbox(argument), parameter))
                values.append(loans[-1].inside)
            else:
                values.append(_check_value(where, argument, parameter))
        _check_overlap(loans)
        launches.append(self.name)
        places.append((cuda.current_device(), cuda.get_current_stream()))
        # As CuPy does: an empty grid is launched as one block.
        grid, block = (tuple(max(1, n) for n in shape) for shape in (grid, block))
        _built(self._module, settings.sanitize).launch(self.name, grid, block, values, shared_mem)
        for loan in loans:
            loan.give_back()


@functools.cache
def _built(module: RawModule, sanitize: str | None) -> Module:
    return module.build(sanitize)


class _Loan:
    """An array's copy for the time of a launch, between guards that must stay as they are."""

    def __init__(self, where: str, owner: np.ndarray, parameter: Parameter) -> None:
        if not parameter.pointer or owner.dtype != parameter.dtype:
            raise TypeError(f"{where}: {owner.dtype} array for {parameter}")
        if not owner.flags.c_contiguous:
            raise ValueError(f"{where}: not C-contiguous, strides {owner.strides}")
        self.where, self.owner, self.parameter = where, owner, parameter
        # Around input: NaN, or -1. Around output: large, lest a NaN written there look the same.
        self.filling = 0xFF if parameter.const else 0x7B
        self.buffer = np.full(owner.nbytes + 2 * GUARD, self.filling, np.uint8)
        self.inside = self.buffer[GUARD : GUARD + owner.nbytes].view(owner.dtype)
        self.inside[...] = owner.reshape(-1)

    def give_back(self) -> None:
        guards = np.delete(self.buffer, np.s_[GUARD : GUARD + self.owner.nbytes])
        if (guards != self.filling).any():
            raise KernelError(f"{self.where}: written outside the array")
        if not self.parameter.const:
            self.owner[...] = self.inside.reshape(self.owner.shape)
        elif self.inside.tobytes() != self.owner.tobytes():
            raise KernelError(f"{self.where}: an array behind a pointer to const was changed")


def _check_value(where: str, argument: Any, parameter: Parameter) -> Any:
    """Return an argument that is no array, if CuPy would hand the right bytes to the kernel."""
    if parameter.pointer:
        if isinstance(argument, np.uintp) and argument == 0:
            return argument  # a null pointer
        raise TypeError(f"{where}: {type(argument).__name__} for {parameter}")
    if isinstance(argument, np.ndarray) and argument.ndim == 0:
        if argument.dtype.kind != "V" or argument.nbytes != parameter.dtype.itemsize:
            raise TypeError(f"{where}: {argument.dtype} for {parameter}")
        return argument
    if not isinstance(argument, np.generic):
        raise TypeError(f"{where}: {type(argument).__name__} for {parameter}; give a NumPy scalar")
    if argument.dtype != parameter.dtype:
        raise TypeError(f"{where}: {argument.dtype} scalar for {parameter}")
    return argument


def _check_overlap(loans: list[_Loan]) -> None:
    for loan in loans:
        for other in loans:
            written = other is not loan and not loan.parameter.const
            if written and np.may_share_memory(loan.owner, other.owner):
                raise KernelError(f"{loan.where}: output overlaps {other.where}")
