"""Which array module an array belongs to, and what an operation asks of its arrays."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable
from numbers import Number
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np

from segaware_np.extras import require

Array: TypeAlias = Any  # numpy.ndarray or cupy.ndarray: what one op receives is all of one kind

_KINDS = {"float": "fc", "integer": "iub"}
_ARTICLE = {"float": "a float", "integer": "an integer"}


def _cupy() -> ModuleType | None:
    # Only a program that imported CuPy can hold its arrays, so nothing is imported here.
    return sys.modules.get("cupy")


def array_module(*arrays: Array | None) -> ModuleType:
    """Return the module, NumPy or CuPy, that all the given arrays belong to.

    Parameters
    ----------
    *arrays : numpy.ndarray, cupy.ndarray or None
        ``None`` entries are passed over.

    Returns
    -------
    module
        ``numpy`` or ``cupy``.

    Raises
    ------
    TypeError
        If an argument is not an array, or NumPy and CuPy arrays are mixed: nothing is copied
        between the host and a device behind the caller's back. Subclasses of `numpy.ndarray` with
        an arithmetic of their own, such as `numpy.matrix` and masked arrays, are refused: a formula
        would mean something else on them, and its fast form would not.

    Examples
    --------
    >>> array_module(np.zeros(3)) is np
    True
    """
    if len(arrays) == 1 and type(arrays[0]) is np.ndarray:  # what is asked most, soonest
        return np
    cupy, found = _cupy(), None
    for array in arrays:
        if array is None:
            continue
        if isinstance(array, (np.ndarray, np.generic)):
            _check_arithmetic(type(array))
            module: ModuleType = np
        elif cupy is not None and isinstance(array, cupy.ndarray):
            module = cupy
        else:
            advice = " (segaware_np.as_array makes one of it)" * _is_foreign(array)
            raise TypeError(f"expected a NumPy or CuPy array, got {type(array).__name__}{advice}")
        if found is not None and module is not found:
            raise TypeError("expected arrays of one kind, got NumPy and CuPy arrays together")
        found = module
    return found or np


def _check_arithmetic(kind: type) -> None:
    """Raise TypeError for a subclass of numpy.ndarray whose arithmetic is not that of its base."""
    if kind is np.ndarray or issubclass(kind, np.generic):
        return
    for method in ("__mul__", "__array_ufunc__"):
        if getattr(kind, method) is not getattr(np.ndarray, method):
            advice = "its filled(value)" if issubclass(kind, np.ma.MaskedArray) else "numpy.asarray"
            raise TypeError(
                f"expected a plain NumPy array, got {kind.__name__}, which has an arithmetic of "
                f"its own: {advice} makes a plain one of it"
            )


def _is_foreign(value: object) -> bool:
    """Whether it is an array of another library, or nested sequences."""
    exports = hasattr(value, "__dlpack__") or hasattr(value, "__array__")
    return exports or isinstance(value, (list, tuple))


def as_array(value: Any, xp: ModuleType | None = None) -> Array:
    """Return ``value`` as an array of ``xp`` without a copy where that is possible.

    Objects with ``__dlpack__`` (PyTorch, JAX, CuPy ...) come in by DLPack and share their memory;
    anything else goes through ``xp.asarray``.

    Parameters
    ----------
    value : object
        An array, a DLPack exporter, or nested sequences of numbers.
    xp : module, optional
        ``numpy`` or ``cupy``; by default the module that owns the memory of ``value``.

    Returns
    -------
    array

    Raises
    ------
    BufferError, TypeError
        If ``value`` lives on another device than ``xp``, or is one of the arrays that
        `array_module` refuses.

    Examples
    --------
    >>> as_array([[1, 2], [3, 4]]).shape
    (2, 2)
    >>> x = np.zeros(3)
    >>> np.shares_memory(as_array(x), x)
    True
    """
    cupy = _cupy()
    kinds = (np.ndarray,) if cupy is None else (np.ndarray, cupy.ndarray)
    if isinstance(value, kinds):
        module = array_module(value)
        if xp is not None and module is not xp:
            raise TypeError(f"expected a {xp.__name__} array, got {type(value).__module__}'s")
        return value
    if hasattr(value, "__dlpack__"):
        on_gpu = value.__dlpack_device__()[0] in (2, 3, 13)  # kDLCUDA, kDLCUDAHost, kDLCUDAManaged
        if xp is not None and (xp is np) == on_gpu:
            where = "GPU" if on_gpu else "host"
            raise BufferError(f"expected memory that {xp.__name__} can share, got {where} memory")
        return (require("cupy", extra="gpu") if on_gpu else np).from_dlpack(value)
    return (xp or np).asarray(value)


def host(array: Array) -> np.ndarray:
    """The array itself if it is NumPy's, else a copy of it on the host.

    Parameters
    ----------
    array : NumPy or CuPy array

    Returns
    -------
    numpy.ndarray

    Raises
    ------
    TypeError
        If it is neither.

    Examples
    --------
    >>> host(np.arange(3)).tolist()
    [0, 1, 2]
    """
    return array if array_module(array) is np else array.get()


def owner(array: Array) -> int:
    """What tells apart the memories of arrays: the identity of the array that a view is of.

    Parameters
    ----------
    array : NumPy or CuPy array

    Returns
    -------
    int
        Equal for arrays that are, or are views of, one array. Valid as long as they live.

    Examples
    --------
    >>> x = np.zeros((4, 3))
    >>> owner(x[1:].T) == owner(x), owner(x.copy()) == owner(x)
    (True, False)
    """
    while isinstance(array.base, type(array)):
        array = array.base
    return id(array)


def unshared(array: Array, others: Iterable[Array]) -> Array:
    """The array itself, or a copy if writing into one of the others might change it.

    Parameters
    ----------
    array : NumPy or CuPy array
    others : iterable of arrays
        The array itself may be among them: then it is copied.

    Returns
    -------
    array

    Raises
    ------
    TypeError
        If one of them is no array.

    Examples
    --------
    >>> x = np.zeros(4)
    >>> unshared(x, [np.zeros(4)]) is x, np.shares_memory(unshared(x[1:], [x]), x)
    (True, False)
    """
    xp = array_module(array)
    shared = (array_module(o) is xp and xp.may_share_memory(array, o) for o in others)
    return array.copy() if any(shared) else array


def check_array(
    name: str,
    array: Array,
    shape: tuple[int | str, ...] | None = None,
    *,
    kind: str = "float",
    like: Array | None = None,
) -> None:
    """Raise unless ``array`` is an array of the given shape and kind.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    array : object
        What the caller passed.
    shape : tuple of int or str, optional
        A number must match, a name stands for any size.
    kind : {"float", "integer"}
        Real or complex floating point (real for all but proofs), or integers.
    like : array, optional
        The array must live in the same module, on the same GPU, and have the dtype of this one.

    Raises
    ------
    TypeError
        If it is not an array, of another dtype or module, or not in the machine's byte order.
    ValueError
        If its shape differs, or its GPU.

    Examples
    --------
    >>> check_array("x", np.zeros((2, 3, 5, 5)), ("N", 3, "H", "W"))
    >>> check_array("x", np.zeros((2, 3, 5, 5)), ("N", 4, "H", "W"))
    Traceback (most recent call last):
    ValueError: x: expected shape (N, 4, H, W), got (2, 3, 5, 5)
    """
    if array is None:  # which `array_module` passes over
        raise TypeError(f"{name}: expected a NumPy or CuPy array, got None")
    xp = np if type(array) is np.ndarray else module_of(name, array)
    dtype = array.dtype
    if dtype.kind not in _KINDS[kind]:
        raise TypeError(f"{name}: expected {_ARTICLE[kind]} array, got {dtype}")
    if not dtype.isnative:  # BLAS and kernels would read the bytes the wrong way round
        raise TypeError(f"{name}: expected native byte order, got dtype {dtype.str!r}")
    if like is not None:
        owner = xp if type(like) is type(array) else module_of(name, like)
        if owner is not xp:
            raise TypeError(f"{name}: expected a {owner.__name__} array, got a {xp.__name__} array")
        if xp is not np and array.device.id != like.device.id:
            raise ValueError(
                f"{name}: expected an array on GPU {like.device.id}, got one on GPU "
                f"{array.device.id}"
            )
        if dtype != like.dtype:
            raise TypeError(f"{name}: expected dtype {like.dtype}, got {dtype}")
    if shape is not None and not _fits(array.shape, shape):
        wanted = f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"
        raise ValueError(f"{name}: expected shape {wanted}, got {array.shape}")


def check_number(name: str, value: Any) -> None:
    """Raise unless ``value`` is a number, or a 0-d array of one.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    value : object
        What the caller passed.

    Raises
    ------
    TypeError, ValueError
        If it is no number and no floating-point array, or an array of several.

    Examples
    --------
    >>> check_number("scale", 2.0)
    >>> check_number("scale", np.zeros(3))
    Traceback (most recent call last):
    ValueError: scale: expected shape (), got (3,)
    """
    if isinstance(value, Number):
        return
    if not hasattr(value, "dtype"):
        raise TypeError(f"{name}: expected a number or a 0-d array, got {value!r}")
    check_array(name, value, ())


def long_sum(array: Array, axes: tuple[int, ...] | None = None, *, keepdims: bool = False) -> Array:
    """Sum over axes, however long, without losing digits; the result is rounded by the caller.

    NumPy adds pairwise along the last axes only: in single precision, millions of rows lose four
    digits. Here those axes are summed as they are, the rest in double precision. CuPy adds
    pairwise everywhere.

    Parameters
    ----------
    array : array
    axes : tuple of int, optional
        By default all.
    keepdims : bool
        Leave summed axes in the shape, of length 1.

    Returns
    -------
    array
        On the host in double precision, on a GPU at least in single precision.

    Examples
    --------
    >>> rows = np.full((2**22, 1), 1.1, np.float32)
    >>> bool(abs(long_sum(rows, (0,)) / (2**22 * 1.1) - 1)[0] < 1e-6)
    True
    """
    if array_module(array) is not np:
        return array.sum(axes, dtype=np.promote_types(array.dtype, np.float32), keepdims=keepdims)
    axes = tuple(axis % array.ndim for axis in (range(array.ndim) if axes is None else axes))
    wide = np.promote_types(array.dtype, np.float64)
    if array.dtype != wide:
        last = next((a for a in range(array.ndim)[::-1] if a not in axes), -1) + 1
        tail = tuple(range(last, array.ndim))
        part = array.sum(tail, dtype=np.promote_types(array.dtype, np.float32), keepdims=True)
        array = part if tail else array
    return np.asarray(array.sum(axes, dtype=wide, keepdims=keepdims))


def needed(need: Collection[str], known: frozenset[str], has_bias: bool) -> frozenset[str]:
    """Return the gradients that are asked for; there is none for an absent bias.

    Parameters
    ----------
    need : collection of str
        Names of arguments.
    known : frozenset of str
        Those that have a gradient.
    has_bias : bool
        Whether the argument "bias" was given.

    Raises
    ------
    ValueError
        If a name is unknown.

    Examples
    --------
    >>> sorted(needed(["x", "bias"], frozenset({"x", "weight", "bias"}), has_bias=False))
    ['x']
    """
    unknown = set(need) - known
    if unknown:
        raise ValueError(f"need: expected names out of {sorted(known)}, got {sorted(unknown)}")
    return frozenset(need) - (frozenset() if has_bias else {"bias"})


def module_of(name: str, array: Array) -> ModuleType:
    """Return `array_module` of an argument, whose name begins its errors.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    array : object
        What the caller passed.

    Returns
    -------
    module
        ``numpy`` or ``cupy``.

    Raises
    ------
    TypeError
        As `array_module` raises it.

    Examples
    --------
    >>> module_of("x", [1.0])
    Traceback (most recent call last):
    TypeError: x: expected a NumPy or CuPy array, got list (segaware_np.as_array makes one of it)
    """
    try:
        return array_module(array)
    except TypeError as error:
        raise TypeError(f"{name}: {error}") from None


def _fits(shape: tuple[int, ...], pattern: tuple[int | str, ...]) -> bool:
    if len(shape) != len(pattern):
        return False
    for have, want in zip(shape, pattern, strict=True):
        if have != want and not isinstance(want, str):
            return False
    return True
