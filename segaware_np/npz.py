"""Arrays in .npy and .npz files. What a file declares is compared with what it holds at first.

`numpy.load` takes the memory that a header asks for, returns the bytes of a member that is no array
and raises what a parser of Python raises; here all is a ValueError or what `zipfile` raises.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from math import prod
from typing import IO

import numpy as np

LARGEST_RATIO = 1032  # of what deflate packs, as zlib's authors say
_CHUNK = 1 << 20  # bytes


def read_npz(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read an .npz file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    dict of str to numpy.ndarray

    Raises
    ------
    ValueError
        If a member is no array, has its name from another, or declares more than it holds.
    OSError, RuntimeError, zipfile.BadZipFile, zlib.error, EOFError
        As `zipfile` has it.

    Examples
    --------
    >>> np.savez("a.npz", w=np.ones(2))
    >>> read_npz("a.npz")
    {'w': array([1., 1.])}
    """
    arrays: dict[str, np.ndarray] = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _check_sizes(members, os.path.getsize(path))
        for member in members:
            name = member.filename.removesuffix(".npy")
            if name == member.filename or name in arrays:
                fault = "twice" if name in arrays else "which is no array"
                raise ValueError(f"it holds {member.filename!r}, {fault}")
            with archive.open(member) as file:
                try:
                    arrays[name] = read_npy(file, member.file_size)
                except ValueError as error:
                    raise ValueError(f"{name!r}: {error}") from error
    return arrays


def read_npy(file: IO[bytes], size: int) -> np.ndarray:
    """Read an .npy file.

    Parameters
    ----------
    file : binary file object
    size : int
        Its bytes in all.

    Returns
    -------
    numpy.ndarray

    Raises
    ------
    ValueError
        If it is no such file, is cut off, declares more than it holds or holds Python objects.

    Examples
    --------
    >>> from io import BytesIO
    >>> file = BytesIO()
    >>> np.save(file, np.arange(3))
    >>> data = file.getvalue()
    >>> read_npy(BytesIO(data), len(data)).tolist()
    [0, 1, 2]
    """
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):  # others are of records, with more or stranger names than 1.0 takes
            raise ValueError(f"expected a file of version 1.0, got {version}")
        shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
        wanted = prod(shape) * dtype.itemsize
    except Exception as error:  # the header is Python's text, read by a parser of Python
        raise ValueError(f"no array, or its header is damaged ({error})") from error
    if dtype.hasobject:
        raise ValueError("expected numbers, got Python objects")
    if min(shape, default=0) < 0 or wanted != size - file.tell():
        raise ValueError(
            f"expected the {wanted} bytes of {shape} {dtype}, got {size - file.tell()}"
        )
    data = np.empty(wanted, np.uint8)
    for start in range(0, wanted, _CHUNK):
        chunk = file.read(min(_CHUNK, wanted - start))
        data[start : start + len(chunk)] = np.frombuffer(chunk, np.uint8)
        if len(chunk) < min(_CHUNK, wanted - start):
            raise ValueError("it is cut off")
    array = data.view(dtype) if wanted else np.empty(prod(shape), dtype)
    return array.reshape(shape[::-1]).T if by_columns else array.reshape(shape)


def write_npz(file: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    """Write an .npz file.

    Parameters
    ----------
    file : binary file object
    arrays : mapping of str to array
        Of any names: `numpy.savez` trips over those that its own arguments have.

    Raises
    ------
    ValueError
        If one holds Python objects, which `numpy.savez` would pickle.

    Examples
    --------
    >>> with open("any.npz", "wb") as file:
    ...     write_npz(file, {"file": np.zeros(2)})
    >>> read_npz("any.npz")["file"].tolist()
    [0.0, 0.0]
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)


def _check_sizes(members: list[zipfile.ZipInfo], size: int) -> None:
    """Members overlap in no honest file, and none is larger than it can have been packed to."""
    held = sum(member.compress_size for member in members)
    if held > size:
        raise ValueError(f"it declares {held} bytes and holds {size}")
    for member in members:
        if member.file_size > LARGEST_RATIO * member.compress_size:
            raise ValueError(
                f"{member.filename!r}: {member.compress_size} bytes cannot hold {member.file_size}"
            )
