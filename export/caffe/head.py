"""The comments at the top of an exported prototxt: its preprocessing and its output."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from reid.errors import BuildError, CaffeError, ConfigError
from reid.model_file.manifest import Manifest
from reid.model_file.preprocess import Preprocess
from reid.models.description import CaffeFace

from .face import face_of

MARK = "reid-toolkit, Caffe export 1"
"""The first line of a prototxt written by this toolkit."""

_NUMBER = r"[-+]?[\d.]+(?:[eE][-+]?\d+)?"
_THREE = re.compile(rf"^({_NUMBER}), ({_NUMBER}), ({_NUMBER})\b")
_SIZE = re.compile(r"^(\d{1,4})x(\d{1,4})\b")


@dataclass(frozen=True, slots=True)
class Contract:
    """The contract in the comments: the network, its preprocessing and its embedding."""

    network: str
    preprocess: Preprocess
    embed_at: str

    @property
    def face(self) -> CaffeFace:
        """What Caffe's files call the network's parts."""
        return face_of(self.network)


def head_lines(manifest: Manifest, weights: str, source_sha256: str) -> tuple[str, ...]:
    """The comment lines of a prototxt whose weights are in the file ``weights``."""
    p = manifest.preprocess
    order = ", ".join(p.channel_order)
    return (
        MARK,
        f"network: {manifest.network}, test graph; weights: {weights}",
        f"toolkit version: {manifest.toolkit_version}",
        f"source sha256: {source_sha256}",
        f"resize: {p.resize_height}x{p.resize_width} (height x width), {p.interpolation}",
        f"crop: {p.crop_height}x{p.crop_width} (height x width), centre",
        f"channel order: {p.channel_order}",
        f"mean: {_three(p.mean)} ({order} in 0-255), subtract first",
        f"std: {_three(p.std)} ({order}), then divide by it",
        _output_line(manifest),
    )


def _output_line(manifest: Manifest) -> str:
    if manifest.outputs:
        listed = ", ".join(f"{a.name} ({'x'.join(map(str, a.shape))})" for a in manifest.outputs)
        left_out = face_of(manifest.network).left_out
        return f"outputs: {listed}; left out, because Caffe has no layers for them: {left_out}"
    return (
        f"output: {manifest.output_meaning}, {manifest.output_dim} values, not L2-normalised: "
        "divide each row by its length, then compare by Euclidean distance"
    )


def contract_of_head(head: Sequence[str], where: str) -> Contract | None:
    """Parse the comments; None if they are not ours. Raises CaffeError if damaged."""
    if not head or head[0].strip() != MARK:
        return None
    said = dict(line.split(": ", 1) for line in head[1:] if ": " in line)
    try:
        resize, crop = _size(said["resize"]), _size(said["crop"])
        interpolation = said["resize"].rpartition(", ")[2]
        preprocess = Preprocess(
            *resize,
            *crop,
            channel_order=said["channel order"].strip(),
            mean=_numbers(said["mean"]),
            std=_numbers(said["std"]),
            interpolation=interpolation.strip(),
        )
        network = said["network"].partition(",")[0]
        output = said.get("output", "").partition(",")[0]
        ends = {blob: embed_at for embed_at, blob in face_of(network).embeddings.items()}
        if ends and output not in ends:
            raise ValueError(f"expected the output {' or '.join(ends)}, found {output[:40]!r}")
    except (KeyError, ValueError, ConfigError, BuildError) as error:
        raise CaffeError(
            f"{where}: the comments at its top are damaged ({error}); restore them, or delete "
            "all of them to use the paper's mean and channel order"
        ) from None
    return Contract(network, preprocess, ends.get(output, ""))


def _three(values: tuple[float, float, float]) -> str:
    return ", ".join(f"{value:.17g}" for value in values)


def _numbers(text: str) -> tuple[float, float, float]:
    matched = _THREE.match(text)
    if matched is None:
        raise ValueError(f"expected three numbers, found {text[:40]!r}")
    first, second, third = (float(value) for value in matched.groups())
    return first, second, third


def _size(text: str) -> tuple[int, int]:
    matched = _SIZE.match(text)
    if matched is None:
        raise ValueError(f"expected HEIGHTxWIDTH, found {text[:40]!r}")
    return int(matched.group(1)), int(matched.group(2))
