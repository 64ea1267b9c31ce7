"""Files that are whole or absent, and arrays in files that cannot execute code."""

from __future__ import annotations

import codecs
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from errno import EISDIR, ENOLCK, ENOSYS, EOPNOTSUPP
from pathlib import Path
from typing import IO, Any

import numpy as np

from segaware_np.extras import require
from segaware_np.npz import read_npy, read_npz, write_npz
from segaware_np.xp import Array, module_of

_NO_LOCKS = (ENOLCK, ENOSYS, EOPNOTSUPP)  # as some network folders say
_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{12}\.tmp")
_METADATA = "__metadata__"  # not an identifier that a parameter could have


class FormatError(ValueError):
    """A file is damaged, truncated or not of the kind that was expected."""


def check_file(path: str | os.PathLike[str]) -> None:
    """Refuse what is no file on a disk, before it is opened: a pipe may keep a reader for ever.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    OSError
        If there is nothing of this name, or a folder.
    FormatError
        If it is a pipe, a socket or a device.

    Examples
    --------
    >>> os.mkfifo("pipe.png")
    >>> check_file("pipe.png")
    Traceback (most recent call last):
    segaware_np.files.FormatError: pipe.png: expected a file, got a pipe, a socket or a device
    """
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(EISDIR, os.strerror(EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise FormatError(f"{path}: expected a file, got a pipe, a socket or a device")


def read_text(path: str | os.PathLike[str]) -> str:
    r"""Read a text file in UTF-8, or in UTF-16 with its mark, as Windows' programs write.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    str
        Without a byte-order mark; lines end with ``\n``.

    Raises
    ------
    OSError
        If there is no such file, or it is a folder.
    FormatError
        If it is no file on a disk, or no such text.

    Examples
    --------
    >>> _ = Path("a.txt").write_bytes("\N{GREEK SMALL LETTER ALPHA}\r\n".encode("utf-16"))
    >>> read_text("a.txt")
    'α\n'
    """
    check_file(path)
    data = Path(path).read_bytes()
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if utf16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise FormatError(f"{path}: expected text in UTF-8 ({error})") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def check_writable(path: str | os.PathLike[str]) -> None:
    """Try whether a file can be written, before the work whose result it is to hold.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    OSError
        If its folder is missing or read-only, its name too long, or it is a folder itself.
    FormatError
        If it is a pipe, a socket or a device.

    Examples
    --------
    >>> check_writable("none/scores.json")
    Traceback (most recent call last):
    FileNotFoundError: no such folder: none
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"expected a file to write, got the folder {path}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"no such folder: {path.parent}")
    with suppress(FileNotFoundError):
        check_file(path)
    temporary = _temporary(path)
    with naming(path, temporary):
        temporary.touch(exist_ok=False)
        temporary.unlink(missing_ok=True)


def check_folder(path: str | os.PathLike[str]) -> None:
    """Try whether a folder can be written, or made, without making it.

    Parameters
    ----------
    path : path-like

    Raises
    ------
    OSError
        If it, or the nearest of its parents that is there, is a file or read-only.

    Examples
    --------
    >>> _ = Path("notes.txt").write_text("a file")
    >>> check_folder("notes.txt/results")
    Traceback (most recent call last):
    NotADirectoryError: expected a folder, got the file notes.txt
    """
    folder = Path(path)
    nearest = next(p for p in (folder, *folder.parents) if p.exists())
    if not nearest.is_dir():
        raise NotADirectoryError(f"expected a folder, got the file {nearest}")
    with naming(folder, probe := _temporary(nearest / "segaware")):
        probe.touch(exist_ok=False)
        probe.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a file that appears under its name only when it is complete.

    The bytes go to a temporary file in the same folder, which is flushed to the disk and renamed
    when the block ends. If the block raises, the temporary file is removed and whatever stood
    under the name before is untouched.

    Parameters
    ----------
    path : path-like
        The final name. Its folder must exist.

    Yields
    ------
    binary file object

    Raises
    ------
    OSError
        If the folder is missing or read-only, or the disk is full; it names the file.
    FormatError
        If a pipe, a socket or a device has the name: it would be replaced.

    Examples
    --------
    >>> with atomic_write("notes.txt") as file:
    ...     _ = file.write(b"all or nothing")
    >>> open("notes.txt").read()
    'all or nothing'
    """
    path = Path(path)
    with suppress(OSError):  # which the rest names better
        check_file(path)
    temporary, file = _open_temporary(path)
    with naming(path, temporary), ExitStack() as failed:
        with file:
            failed.callback(temporary.unlink, missing_ok=True)
            yield file
            file.flush()
            os.fsync(file.fileno())
            if os.name == "nt":  # where an open file cannot be renamed
                file.close()
            os.replace(temporary, path)  # while it is locked: see `remove_leftovers`
        failed.pop_all()


def _temporary(path: Path) -> Path:
    """A name in the same folder. Not by `tempfile`, whose files only the owner may read."""
    return path.with_name(f".{_shortened(path.name)}.{secrets.token_hex(6)}.tmp")


def _shortened(name: str) -> str:
    """As long as a name may be with what is added to it."""
    return name[:60]


def _open_temporary(path: Path) -> tuple[Path, IO[bytes]]:
    """A new file beside another, locked to tell that its writer lives."""
    while True:
        temporary = _temporary(path)
        with naming(path, temporary):
            file = open(temporary, "xb")  # noqa: SIM115 (closed by the caller)
        if lock(file) is not False and temporary.exists():
            return temporary, file
        file.close()  # taken for a leftover before it was locked


def remove_leftovers(folder: str | os.PathLike[str], name: str | None = None) -> None:
    """Remove what killed processes left of files that `atomic_write` was to write.

    A file whose writer is at work stays, and so does one of which that cannot be known.

    Parameters
    ----------
    folder : path-like
    name : str, optional
        Of the file; by default of all files.

    Raises
    ------
    OSError
        If the folder cannot be read or written.

    Examples
    --------
    >>> _ = open(".model.npz.0123456789ab.tmp", "wb").write(b"half")
    >>> with atomic_write("model.npz"):
    ...     remove_leftovers(".")
    ...     len([name for name in os.listdir() if name.endswith(".tmp")])  # the one being written
    1
    """
    for path in Path(folder).iterdir():
        found = _TEMPORARY.fullmatch(path.name)
        if found and (name is None or found[1] == _shortened(name)):
            with suppress(FileNotFoundError), open(path, "r+b") as file:
                if lock(file):
                    path.unlink()


def lock(file: IO[bytes]) -> bool | None:
    """Lock an open file until it is closed, against other processes and other opens of it.

    Parameters
    ----------
    file : binary file object
        Open for writing.

    Returns
    -------
    bool or None
        False if it is locked already; None where files cannot be locked, as in some network folders
        and on systems that are not Unix.

    Raises
    ------
    OSError
        If the system fails to lock it for another reason.

    Examples
    --------
    >>> with open("run.log", "wb") as one, open("run.log", "ab") as other:
    ...     lock(one), lock(other)
    (True, False)
    """
    try:
        import fcntl
    except ModuleNotFoundError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


@contextmanager
def naming(path: Path, alias: Path | None = None) -> Iterator[None]:
    """Let an OSError that names no file, as of a full disk, or the alias, name this file.

    Parameters
    ----------
    path : Path
    alias : Path, optional
        A temporary name, of which the caller knows nothing.

    Yields
    ------
    None

    Examples
    --------
    >>> with naming(Path("weights.npz")):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    OSError: [Errno 28] No space left on device: 'weights.npz'
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(alias)):
            error.filename = str(path)
        raise


def save_arrays(
    path: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write named arrays and JSON-able metadata, ``.npz`` or ``.safetensors`` by the suffix.

    Parameters
    ----------
    path : path-like
        Ends in ``.npz`` or ``.safetensors`` (the latter needs the extra of that name).
    arrays : mapping of str to numpy.ndarray
    metadata : mapping, optional
        Anything that ``json`` can write.

    Raises
    ------
    TypeError, ValueError
        If the suffix is another one, an array is masked or holds Python objects, or
        ``.safetensors`` cannot hold one, as ``complex128``.
    OSError
        If the file cannot be written; nothing is left half written.

    Examples
    --------
    >>> save_arrays("weights.npz", {"w": np.ones(3)}, {"epoch": 7})
    >>> load_arrays("weights.npz")
    ({'w': array([1., 1., 1.])}, {'epoch': 7})
    """
    path, text = Path(path), json.dumps(dict(metadata or {}))
    for name, array in arrays.items():
        if isinstance(array, np.ndarray):
            module_of(name, array)  # which refuses what would be saved without its mask
    if path.suffix == ".npz":
        with atomic_write(path) as file:
            write_npz(file, {**arrays, _METADATA: np.array(text)})
    elif path.suffix == ".safetensors":
        plain = {name: np.asarray(array, order="C") for name, array in arrays.items()}
        for name, array in plain.items():
            if array.dtype.kind not in "biuf" or array.itemsize > 8:
                raise TypeError(
                    f"{name}: expected a dtype that .safetensors holds, got {array.dtype} "
                    "(.npz holds more)"
                )
        save = require("safetensors.numpy", extra="safetensors").save
        data = save(plain, metadata={_METADATA: text})
        with atomic_write(path) as file:
            file.write(data)
    else:
        raise ValueError(f"path: expected a name ending in .npz or .safetensors, got {path.name}")
    with suppress(PermissionError):  # of a folder that may be written and not be read
        remove_leftovers(path.parent, path.name)


def load_arrays(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save_arrays` wrote: ``(arrays, metadata)``.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    arrays : dict of str to numpy.ndarray
    metadata : dict

    Raises
    ------
    OSError
        If there is no such file, or it may not be read.
    FormatError
        If the file is truncated, damaged or of another kind, or declares more than it holds.
    ValueError
        If the suffix is neither ``.npz`` nor ``.safetensors``.
    MemoryError
        If there is not as much as its arrays need.

    Examples
    --------
    >>> open("broken.npz", "wb").write(b"PK and no more")
    14
    >>> load_arrays("broken.npz")
    Traceback (most recent call last):
    segaware_np.files.FormatError: broken.npz: ...
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: expected a file, such as model.npz in it")
    if path.suffix not in (".npz", ".safetensors"):
        raise ValueError(f"path: expected a name ending in .npz or .safetensors, got {path}")
    with _reading(path):
        arrays, text = (_read_npz if path.suffix == ".npz" else _read_safetensors)(path)
        metadata = json.loads(text)
        if not isinstance(metadata, dict):
            raise ValueError(f"expected a JSON object as metadata, got {text[:80]!r}")
    return arrays, metadata


def load_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the one array in an ``.npy``, ``.npz`` or ``.safetensors`` file.

    Parameters
    ----------
    path : path-like

    Returns
    -------
    numpy.ndarray

    Raises
    ------
    OSError, FormatError, MemoryError
        As for `load_arrays`.
    ValueError
        If the suffix is another one, or the file holds not one array.

    Examples
    --------
    >>> np.save("embedding.npy", np.zeros((4, 5, 6)))
    >>> load_array("embedding.npy").shape
    (4, 5, 6)
    """
    path = Path(path)
    if path.suffix != ".npy":
        arrays, _ = load_arrays(path)
        if len(arrays) != 1:
            raise ValueError(f"{path}: expected one array, got {', '.join(arrays) or 'none'}")
        return next(iter(arrays.values()))
    with _reading(path), open(path, "rb") as file:
        return read_npy(file, path.stat().st_size)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Whatever a reader trips over means a damaged file: it has no business with the caller."""
    if not path.exists():
        raise FileNotFoundError(f"no such file: {path}")
    check_file(path)
    try:
        yield
    except (ImportError, PermissionError):
        raise
    except MemoryError as error:
        raise MemoryError(f"{path}: {error}") from error
    except Exception as error:
        raise FormatError(f"{path}: damaged or not a file of arrays ({error})") from error


def differing_arrays(
    wanted: Mapping[str, Array], found: Mapping[str, Array], *, dtypes: bool = True
) -> str:
    """Tell in words how ``found`` differs from ``wanted``: names, shapes and perhaps dtypes.

    Parameters
    ----------
    wanted, found : mapping of str to array
    dtypes : bool
        Whether dtypes count.

    Returns
    -------
    str
        The first five differences; empty if there are none.

    Examples
    --------
    >>> differing_arrays({"w": np.zeros(3)}, {"w": np.zeros(4)})
    'w: expected (3,) float64, got (4,) float64'
    """

    def kind(array: Array) -> str:
        return f"{array.shape} {array.dtype}" if dtypes else str(array.shape)

    faults = [f"{name} is missing" for name in wanted if name not in found]
    faults += [f"{name} is unknown" for name in found if name not in wanted]
    faults += [
        f"{name}: expected {kind(w)}, got {kind(found[name])}"
        for name, w in wanted.items()
        if name in found and kind(found[name]) != kind(w)
    ]
    return "; ".join(faults[:5]) + (f"; and {len(faults) - 5} more" if len(faults) > 5 else "")


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], str]:
    arrays = read_npz(path)
    text = arrays.pop(_METADATA, np.array("{}"))
    if text.shape or text.dtype.kind != "U":
        raise ValueError(f"expected text as metadata, got {text.shape} {text.dtype}")
    return arrays, str(text)


def _read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], str]:
    safetensors = require("safetensors", extra="safetensors")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return arrays, (file.metadata() or {}).get(_METADATA, "{}")
    except safetensors.SafetensorError as error:
        raise ValueError(str(error)) from error
