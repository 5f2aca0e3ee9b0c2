"""Device ``auto`` on a CPU: ONNX Runtime, and OpenVINO once it is measured to be faster.

ONNX Runtime begins, because it opens sooner: one query is answered before OpenVINO would be
imported. Only after ``WORTH_S`` of computing are both timed, by turns, on the images at hand, and
only where their outputs agree. The choice holds for the file until the process ends.
"""

from __future__ import annotations

import importlib
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from reid.errors import ReidError
from reid.model_file.opening import ModelFile
from reid.runtime import OPENVINO_RUNNER, Runner
from reid.runtime.inputs import batch_size, batches_of, checked_inputs
from reid.types import OPENVINO, FloatArray

WORTH_S = 2.0
"""Seconds of computing before OpenVINO is tried: to open it and to time both takes about as long
(inferred)."""

GAIN = 1.05
"""How much faster OpenVINO must be: less is noise (inferred)."""

SAME = {"fp32": 2e-5, "fp16": 6e-3, "int8": 0.05}
"""The most that two back ends' outputs may differ, as a share of a row's length, by the file's
precision. For fp32 and fp16 it is parity's largest error. In an 8-bit graph a value that one back
end rounds up and the other down moves a whole step: 0.003 for MSP-CNN, 0.04 for OSNet x0.25, and
0.09 and more where kernels are wrong. Another precision stays with ONNX Runtime."""

_IMAGES = 4
_ROUNDS = 3


class FastestRunner(Runner):
    """A file that ONNX Runtime has opened on a CPU, and that may go over to OpenVINO.

    ``backend`` says which computes and, once it was decided, why.
    """

    def __init__(self, runner: Runner, file: ModelFile, threads: int = 0) -> None:
        self.manifest = runner.manifest
        self.backend = runner.backend
        self._runner, self._file, self._threads = runner, file, threads
        self._key = (file.sha256, threads)
        self._computed_s = 0.0
        self._lock = threading.Lock()
        self._decided = self.manifest.precision not in SAME
        if not self._decided and (known := _decisions.get(self._key)):
            self._settle(known, self._opened() if known.openvino else None)

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """As ``OnnxRunner.run``."""
        if self._decided:
            return self._runner.run(inputs)
        began = time.perf_counter()
        outputs = self._runner.run(inputs)
        self._computed_s += time.perf_counter() - began
        if self._computed_s >= WORTH_S:
            self.decide(inputs)
        return outputs

    def decide(self, inputs: Mapping[str, FloatArray]) -> None:
        """Time both on some of ``inputs`` and keep the faster; once, later calls do nothing."""
        with self._lock:
            if self._decided:
                return
            arrays = checked_inputs(inputs, self.manifest)
            count = min(_IMAGES, batch_size(arrays, self.manifest))
            if not count:
                return
            part = next(batches_of(arrays, self.manifest, count))
            other = self._opened()
            decision = _decided(self._runner, other, part, SAME[self.manifest.precision])
            _decisions[self._key] = decision
            self._settle(decision, other)

    def close(self) -> None:
        """Close the one that computes; may be called twice."""
        self._decided = True
        self._runner.close()

    def _opened(self) -> Runner | None:
        """The file in OpenVINO; None if that cannot open it."""
        module, _, name = OPENVINO_RUNNER.partition(":")
        try:
            opener = getattr(importlib.import_module(module), name)
            opened: Runner = opener(self._file, OPENVINO, self._threads)
        except ReidError:
            return None
        return opened

    def _settle(self, decision: _Decision, other: Runner | None) -> None:
        """Other threads may be inside the old one, so it goes when the last of them leaves."""
        if decision.openvino and other is not None:
            self._runner = other
        self.backend = f"{self._runner.backend}, {decision.why}"
        self._decided = True


@dataclass(frozen=True, slots=True)
class _Decision:
    openvino: bool
    why: str


_decisions: dict[tuple[str, int], _Decision] = {}
"""What was decided in this process, by the file's hash and the threads."""


def _decided(
    runner: Runner, other: Runner | None, part: Mapping[str, FloatArray], same: float
) -> _Decision:
    """Whether OpenVINO, ``other``, gives the same outputs sooner."""
    if other is None:
        return _Decision(False, "chosen because OpenVINO cannot open the file")
    try:
        difference = _difference(runner.run(part), other.run(part))
    except ReidError:
        return _Decision(False, "chosen because OpenVINO cannot run the file")
    if not difference <= same:
        return _Decision(False, f"chosen because OpenVINO's outputs differ by {difference:.1g}")
    seconds = dict.fromkeys((runner, other), math.inf)
    for _ in range(_ROUNDS):  # by turns, so that other load on the machine slows both
        for one in seconds:
            for _ in range(2):  # the other's threads still wait for work during the first
                began = time.perf_counter()
                one.run(part)
                seconds[one] = min(seconds[one], time.perf_counter() - began)
    gain = seconds[runner] / seconds[other]
    if gain >= GAIN:
        return _Decision(True, f"{gain:.1f} times as fast as ONNX Runtime here")
    return _Decision(False, f"chosen by measurement: OpenVINO {gain:.2f} times as fast here")


def _difference(expected: Mapping[str, FloatArray], found: Mapping[str, FloatArray]) -> float:
    """The largest difference of any output, as a share of its row's length; NaN if one has it."""
    largest = 0.0
    for name, array in expected.items():
        rows, others = (one.reshape(len(one), -1) for one in (array, found[name]))
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        shares = np.abs(rows - others) / np.maximum(lengths, np.finfo(np.float32).tiny)
        largest = max(largest, float(shares.max()), key=lambda share: (np.isnan(share), share))
    return largest
