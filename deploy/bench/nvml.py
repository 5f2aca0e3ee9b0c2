"""A GPU's energy counter and clocks through NVML, the library inside NVIDIA's driver.

The counter holds what the card used since the driver was loaded (from Volta on), so two readings
give the exact mean power between them. NVML's power is itself a mean over a second on most GPUs.
"""

from __future__ import annotations

import ctypes
from typing import Any

from reid.runtime.driver import NVML, library

_CLOCK_SM, _CLOCK_MEMORY = 1, 2
"""``NVML_CLOCK_SM`` and ``NVML_CLOCK_MEM``."""


class NvmlGpu:
    """One GPU, by its index or its UUID. Raises OSError without NVML, the GPU or its counter."""

    def __init__(self, gpu: str, nvml: Any = None) -> None:
        self._nvml = nvml or library(NVML)
        if self._nvml is None:
            raise OSError("the driver's library NVML is not there")
        self._device = ctypes.c_void_p()
        self._call("nvmlInit_v2")
        device = ctypes.byref(self._device)
        if gpu.isdecimal():
            self._call("nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(int(gpu)), device)
        else:
            self._call("nvmlDeviceGetHandleByUUID", gpu.encode(), device)
        self.joules()

    def joules(self) -> float:
        """Energy since the driver was loaded."""
        counter = ctypes.c_ulonglong()
        self._call("nvmlDeviceGetTotalEnergyConsumption", self._device, ctypes.byref(counter))
        return counter.value / 1000

    def clocks_mhz(self) -> tuple[float, float]:
        """The clocks of the GPU and of its memory."""
        return self._clock(_CLOCK_SM), self._clock(_CLOCK_MEMORY)

    def _clock(self, kind: int) -> float:
        mhz = ctypes.c_uint()
        self._call("nvmlDeviceGetClockInfo", self._device, ctypes.c_int(kind), ctypes.byref(mhz))
        return float(mhz.value)

    def _call(self, name: str, *arguments: Any) -> None:
        try:
            code = getattr(self._nvml, name)(*arguments)
        except AttributeError as error:
            raise OSError(f"the driver has no {name}") from error
        if code:
            raise OSError(f"{name} failed with NVML error {code}")
