"""Ranks of MPI: one process each, started by ``mpiexec -n N`` or ``srun``.

On GPUs gradients are summed by NCCL, which MPI starts; it has not run on one yet. Needs the extra
``mpi`` and an MPI, the site's or ``pip install mpich``.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

import numpy as np

from segaware_np.cpu import threads
from segaware_np.extras import require
from segaware_np.ranks import Ranks
from segaware_np.version import __version__
from segaware_np.xp import Array

Value = TypeVar("Value")
# What launchers tell each process: how many of them there are.
STARTED = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS")


def started() -> int:
    """Return as how many processes this program was started by ``mpiexec``; 1: it was not.

    Examples
    --------
    >>> started()
    1
    """
    sizes = [os.environ[name] for name in STARTED if name in os.environ]
    return max([1, *(int(size) for size in sizes if size.isdecimal())])


def mpi(comm: Any = None, *, gpu: bool = False) -> Ranks:
    """Return the ranks of an MPI communicator.

    Sums are made in a fixed order: everybody sends everybody's part (Alltoall), adds up its own
    from rank 0 on, and hands it out (Allgather), so that they are the same bits everywhere whatever
    algorithm MPI has. Each rank's threads default to its share of its machine's processors.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm, optional
        By default all processes.
    gpu : bool
        Arrays are CuPy's, and each rank of a machine takes a GPU of its own.

    Returns
    -------
    Ranks

    Raises
    ------
    ImportError
        If mpi4py is not installed, or has no MPI to load.
    ValueError
        If there are more ranks on a machine than GPUs.
    RuntimeError
        If ranks run different versions of this library.

    Examples
    --------
    In a program that ``mpiexec -n 4`` started:

    >>> ranks = mpi()  # doctest: +SKIP
    >>> ranks.gather(ranks.rank)  # doctest: +SKIP
    [0, 1, 2, 3]
    """
    try:
        world = require("mpi4py.MPI", extra="mpi")
    except RuntimeError as error:
        advice = "mpi4py finds no MPI, which pip install mpich brings"
        raise ImportError(f"{advice}: {error}") from error
    comm = world.COMM_WORLD if comm is None else comm
    versions = comm.allgather(__version__)
    if len(set(versions)) > 1:
        raise RuntimeError(f"ranks: expected one version of segaware_np on all, got {versions}")
    local = comm.Split_type(world.COMM_TYPE_SHARED)
    if gpu:
        return _NCCL(comm, local.rank, local.size)
    threads.share_processors(local.size)
    return _MPI(comm)


class _MPI:
    """Ranks whose arrays are NumPy's.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    """

    def __init__(self, comm: Any) -> None:
        self.comm, self.rank, self.size = comm, comm.rank, comm.size

    def add(self, flat: Array, own: Array) -> None:
        """Add everybody's part of `flat`, from rank 0 up, to `own`."""
        parts = np.empty((self.size, own.size), flat.dtype)
        self.comm.Alltoall(flat, parts)
        for part in parts:
            own += part

    def share(self, own: Array, flat: Array) -> None:
        """Write everybody's `own` into `flat`."""
        self.comm.Allgather(own, flat)

    def gather(self, value: Value) -> list[Value]:
        """Return everybody's object."""
        return self.comm.allgather(value)

    def first(self, value: Value) -> Value:
        """Return the object of rank 0."""
        return self.comm.bcast(value)


class _NCCL(_MPI):
    """Ranks whose arrays are CuPy's, one GPU each: the same order of sums.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
    local, count : int
        Number of this rank on its machine, and how many there are.
    """

    def __init__(self, comm: Any, local: int, count: int) -> None:
        super().__init__(comm)
        self.cupy = require("cupy", extra="gpu")
        devices = self.cupy.cuda.runtime.getDeviceCount()
        if count > devices:
            raise ValueError(f"ranks: expected at most {devices}, one a GPU, got {count} here")
        self.cupy.cuda.Device(local).use()
        nccl = require("cupy.cuda.nccl", extra="gpu")
        identity = comm.bcast(nccl.get_unique_id() if comm.rank == 0 else None)
        self.nccl, self.link = nccl, nccl.NcclCommunicator(comm.size, identity, comm.rank)

    def add(self, flat: Array, own: Array) -> None:
        """Add everybody's part of `flat`, from rank 0 up, to `own`."""
        parts = self.cupy.empty((self.size, own.size), flat.dtype)
        kind, stream = self._kind(flat), self.cupy.cuda.get_current_stream().ptr
        self.nccl.groupStart()
        for peer in range(self.size):
            start = flat[peer * own.size :]
            self.link.send(start.data.ptr, own.size, kind, peer, stream)
            self.link.recv(parts[peer].data.ptr, own.size, kind, peer, stream)
        self.nccl.groupEnd()
        for part in parts:
            own += part

    def share(self, own: Array, flat: Array) -> None:
        """Write everybody's `own` into `flat`."""
        stream = self.cupy.cuda.get_current_stream().ptr
        self.link.allGather(own.data.ptr, flat.data.ptr, own.size, self._kind(own), stream)

    def _kind(self, array: Array) -> int:
        kinds = {"f": self.nccl.NCCL_FLOAT32, "d": self.nccl.NCCL_FLOAT64}
        return kinds[array.dtype.char]
