"""Segmentation-aware convolution in NumPy and CuPy, with hand-written backward passes."""

from importlib import import_module

from segaware_np.version import __version__

TYPE_CHECKING = False  # as in `typing`, which takes longer to import than all of this
if TYPE_CHECKING:
    from segaware_np import layers, models, ops, optim, policies
    from segaware_np.cpu.threads import get_num_threads, set_num_threads
    from segaware_np.net import Net
    from segaware_np.train import Trainer
    from segaware_np.window import Window
    from segaware_np.xp import array_module, as_array

__all__ = [
    "Net",
    "Trainer",
    "Window",
    "__version__",
    "array_module",
    "as_array",
    "get_num_threads",
    "layers",
    "models",
    "ops",
    "optim",
    "policies",
    "set_num_threads",
]
_HOMES = {
    "Net": "net",
    "Trainer": "train",
    "Window": "window",
    "array_module": "xp",
    "as_array": "xp",
    "get_num_threads": "cpu.threads",
    "set_num_threads": "cpu.threads",
}


def __getattr__(name: str) -> object:
    # What is asked for is imported then: the program answers --help and Ctrl-C without NumPy.
    module = f"{__name__}.{_HOMES.get(name, name)}"
    if not name.startswith("_"):
        try:
            found = import_module(module)
            return getattr(found, name) if name in _HOMES else found
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
