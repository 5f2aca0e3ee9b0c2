"""OpenVINO, imported without its telemetry, and what it says of this machine. No torch.

``import openvino`` alone reports to Google Analytics, from a process of its own, and writes two
files into ``~/intel``. Its package comes with a stand-in that does nothing, which it takes where
``openvino_telemetry`` cannot be imported: so that is what it meets here. Every module of this
toolkit gets OpenVINO from this one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from reid.packages import missing
from reid.printing import printable

_TELEMETRY = "openvino_telemetry"


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Importing the telemetry fails meanwhile, and stays possible for others afterwards."""
    if _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]


try:
    with _without_telemetry():
        import openvino as openvino
        from openvino import frontend as frontend
except ImportError as error:
    raise missing("openvino", "an OpenVINO .xml or --device openvino", "openvino") from error

VERSION = openvino.__version__.partition("-")[0]

OV_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,  # a name that is not UTF-8
    TypeError,
    *(
        getattr(frontend, name)
        for name in (
            "GeneralFailure",
            "InitializationFailure",
            "NotImplementedFailure",
            "OpConversionFailure",
            "OpValidationFailure",
        )
    ),
)
"""What OpenVINO raises; it has no exception of its own, and its front ends have five."""

_SHOWN_CHARACTERS = 200
_NOT_TELLING = ("Exception from", "Check '", "Summary:", "-- Conversion is failed")


@cache
def core() -> Any:
    """OpenVINO's one entry, which finds devices and compiles graphs."""
    return openvino.Core()


def devices() -> dict[str, str]:
    """OpenVINO's devices on this machine: name -> full name, such as ``GPU`` -> the iGPU's."""
    found = {}
    for name in core().available_devices:
        try:
            found[name] = str(core().get_property(name, "FULL_DEVICE_NAME"))
        except OV_ERRORS as error:
            found[name] = last_line(error)
    return found


def last_line(error: Exception) -> str:
    """What OpenVINO's error says last, without places in its source and headings."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_NOT_TELLING)] or lines
    return printable(telling[-1][:_SHOWN_CHARACTERS]) if telling else type(error).__name__
