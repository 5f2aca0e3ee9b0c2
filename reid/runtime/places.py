"""Where a network runs, as one text: ``auto``, ``cpu``, ``cuda``, or an OpenVINO device."""

from __future__ import annotations

from dataclasses import dataclass

from reid.errors import ModelFileError, nearest
from reid.types import DEVICES, OPENVINO

BF16 = "bf16"
"""Behind an OpenVINO device's name: computed in bfloat16, a half precision of CPUs."""

_DEFAULT = "CPU"


@dataclass(frozen=True, slots=True)
class OpenVinoPlace:
    """An OpenVINO device, and whether it shall compute in bfloat16."""

    name: str
    bf16: bool = False

    @property
    def in_fp32(self) -> str:
        """The text of the same device without bfloat16."""
        return f"{OPENVINO}:{self.name}"


def openvino_place(device: str) -> OpenVinoPlace | None:
    """What ``openvino``, ``openvino:GPU`` or ``openvino:CPU:bf16`` says; None for other texts.

    Everything between is OpenVINO's own name: ``GPU.1``, ``AUTO:GPU,CPU``.
    """
    head, *rest = str(device).split(":")
    if head != OPENVINO:
        return None
    bf16 = rest[-1:] == [BF16]
    name = ":".join(rest[:-1] if bf16 else rest)
    return OpenVinoPlace(name or _DEFAULT, bf16)


def check_device(device: str) -> None:
    """Raise ModelFileError for a device that is not in DEVICES."""
    if device in DEVICES:
        return
    if openvino_place(device):
        raise ModelFileError(
            f"device {device} runs .onnx and .xml files; found a file of another kind: export the "
            f"model with `reid export`, or use one of {', '.join(DEVICES)}"
        )
    names = (*DEVICES, OPENVINO)
    raise ModelFileError(
        f"device must be one of {', '.join(names)} (or {OPENVINO}:GPU and the like); "
        f"found {device!r}{nearest(str(device), names)}"
    )
