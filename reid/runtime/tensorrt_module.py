"""Finding TensorRT: the ``tensorrt`` or the ``tensorrt_rtx`` module, and its log.

Both have the same Python API. ``tensorrt`` builds for the GPU of this machine and needs one;
``tensorrt_rtx`` (TensorRT for RTX) builds ahead of time, also without a GPU, for desktop GPUs of
compute capability 8.x and from 12.0 on. The module's name is the engine's *flavour*, stored in
its manifest: a plan of one flavour cannot be opened by the other.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from reid.errors import MissingPackageError, ModelFileError
from reid.runtime.driver import driver_words

FLAVOURS = ("tensorrt", "tensorrt_rtx")

INSTALL_LINES = {
    "tensorrt": "pip install tensorrt (on a Jetson it comes with JetPack)",
    "tensorrt_rtx": "pip install tensorrt-rtx",
}


def load_tensorrt(flavour: str) -> Any:
    """The module of one flavour.

    Raises MissingPackageError if it is not installed, ModelFileError if its libraries do not load.
    """
    try:
        return importlib.import_module(flavour)
    except ModuleNotFoundError as error:
        if error.name != flavour:
            raise ModelFileError(f"{flavour} is installed but does not load: {error}") from error
        raise MissingPackageError(
            f"{flavour} is not installed here; {INSTALL_LINES[flavour]}"
        ) from None
    except (ImportError, OSError) as error:
        raise ModelFileError(f"{flavour} is installed but does not load: {error}") from error


def version_of(trt: Any) -> str:
    """The library's version from its module, such as ``10.3.0``."""
    return str(trt.__version__)


@functools.cache
def captured_log(trt: Any) -> Any:
    """The logger of every TensorRT object; it collects warnings and errors.

    ``take()`` returns the lines since the last call and clears them. There is one logger per
    process because TensorRT keeps a pointer to the first logger it gets.
    """
    kept: list[str] = []
    worst_ignored = trt.ILogger.Severity.INFO

    class CapturedLog(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            # Called from TensorRT's threads; list.append is atomic.
            if int(severity) < int(worst_ignored):
                kept.append(msg.strip())

        def take(self) -> list[str]:
            lines = list(kept)
            kept.clear()
            return lines

    return CapturedLog()


def last_line(log: Any, otherwise: str) -> str:
    """TensorRT's last warning or error, on one line; ``otherwise`` if there is none."""
    lines = log.take()
    return " ".join(lines[-1].split()) if lines else otherwise


def started(trt: Any, factory: Callable[[Any], Any]) -> Any:
    """``trt.Runtime`` or ``trt.Builder``, made with the captured log.

    Raises ModelFileError where TensorRT cannot start, with the version of the driver.
    """
    log = captured_log(trt)
    log.take()
    try:
        return factory(log)
    except (TypeError, RuntimeError) as error:
        # Without a driver for its CUDA the C++ factory returns null; the bindings raise TypeError.
        raise ModelFileError(
            f"{trt.__name__} {version_of(trt)} cannot start ({last_line(log, str(error))}); "
            f"{driver_words()}"
        ) from error
