"""Layer types that write what they read: nothing, unless the network was given a folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.io import savemat

from segaware_np.caffe.blobs import Shape
from segaware_np.caffe.layers.base import Layer, layer_type
from segaware_np.files import atomic_write, read_text
from segaware_np.xp import Array, host


@layer_type("MatWrite")
class MatWrite(Layer):
    """Writes its bottoms as MATLAB files, ``PREFIX NAME _blob_I.mat`` in the network's folder.

    The variable ``data`` has the axes (W, H, C, N). Names are those of the list ``source``, one a
    pass, without their last ``strip`` characters; without a list ``iter_I``.
    """

    bottoms, tops, stops = (1, 1000), (0, 0), True

    def configure(self) -> None:
        self.param, self.folder = self.spec.mat_write_param, self.context.output
        if self.param.period < 1 or self.param.strip < 0:
            raise self.error("period and strip: expected at least 1 and 0")
        self.names: list[str] | None = None
        if self.folder is None:
            self.note("nothing is written: give the network an output folder")
        elif self.param.source:
            self.names = [self._stem(line) for line in read_text(self.param.source).splitlines()
                          if line.strip()]

    def _stem(self, line: str) -> str:
        word = line.split()[0]
        if len(word) <= self.param.strip:
            raise self.error(f"{self.param.source}: {word!r} is not longer than strip")
        return word[: len(word) - self.param.strip]

    def shapes(self, *bottoms: Shape) -> list[Shape]:
        return []

    def forward(self, *bottoms: Array) -> tuple[Sequence[Array], Any]:
        number = self.context.passes - 1
        if self.folder is not None and number % self.param.period == 0:
            for i, array in enumerate(bottoms):
                self._write(self._path(number, i), array)
        return [], None

    def _path(self, number: int, i: int) -> Path:
        if self.names is not None and number >= len(self.names):
            raise ValueError(f"layer {self.name!r}: {self.param.source} has {len(self.names)} "
                             f"names, this is pass {number + 1}")
        name = f"iter_{number}" if self.names is None else self.names[number]
        folder = Path(self.folder or ".").resolve()
        path = (folder / f"{self.param.prefix.lstrip('/')}{name}_blob_{i}.mat").resolve()
        if folder not in path.parents:
            raise ValueError(f"layer {self.name!r}: {path} lies outside {folder}")
        return path

    def _write(self, path: Path, array: Array) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        data = host(array).reshape(*array.shape, *(1,) * (4 - array.ndim))
        with atomic_write(path) as file:
            savemat(file, {"data": data.transpose()})
