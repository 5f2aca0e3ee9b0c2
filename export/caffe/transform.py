"""The preprocessing in a prototxt: ``transform_param`` of the layers that supply the images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid.caffe.files import read_mean
from reid.caffe.schema import LayerParameter, NetParameter
from reid.errors import CaffeError, ConfigError
from reid.model_file.preprocess import Preprocess
from reid.types import FloatArray

from .layers import CaffeLayer
from .net import included, phase_of

_TRANSFORMED = ("Data", "ImageData")
"""Layers that Caffe gives a transform even if the file has none: nothing is subtracted then."""

_PASSED_ON = ("Slice", "Split")

Three = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Transform:
    """What Caffe does with an image: resize, crop, subtract the mean, multiply by ``scale``."""

    where: str
    """The layer, for messages."""
    mean: Three = (0.0, 0.0, 0.0)
    scale: float = 1.0
    resize: tuple[int, int] | None = None
    """(height, width) to resize to, as ImageData does; None for images of any other source."""
    crop: tuple[int, int] | None = None
    """(height, width); None if the file does not say it."""
    image: FloatArray | None = None
    """A mean for each pixel of the image before the crop: (3, height, width)."""
    file: Path | None = None
    """The file of ``image``."""
    mirror: bool = False

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(height, width) of the network's input, as far as the file says it."""
        return self.crop or self.image_size

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(height, width) of an image before the crop, as far as the file says it."""
        if self.image is None:
            return self.resize
        return self.image.shape[1], self.image.shape[2]

    def preprocess(self, base: Preprocess) -> Preprocess:
        """``base`` with this mean, scale and resize; a mean image has the size of the resize.

        Of a mean image the mean over the centre crop is taken. Raises CaffeError if the resize is
        smaller than the crop, or not the size of the mean image.
        """
        try:
            sized, mean = self._resized(base), self.mean
            if self.image is not None:
                mean = _three(_cropped(self.image, sized).mean(axis=(1, 2), dtype=np.float64))
            return dataclasses.replace(sized, mean=mean, std=(1 / self.scale,) * 3)
        except ConfigError as error:
            raise CaffeError(f"{self.where}: {error}") from None

    def _resized(self, base: Preprocess) -> Preprocess:
        """``base``, resizing to the size before the crop. Raises CaffeError."""
        if self.image_size is None:
            return base
        height, width = self.image_size
        if self.resize is not None and self.resize != self.image_size:
            raise CaffeError(
                f"{self.where}: expected a mean image of {self.resize[0]}x{self.resize[1]}, to "
                f"which the layer resizes, found {height}x{width} in {self.file}"
            )
        if height < base.crop_height or width < base.crop_width:
            raise CaffeError(
                f"{self.where}: expected images of at least the crop "
                f"{base.crop_height}x{base.crop_width}, found {height}x{width}"
                f"{f' in {self.file}' if self.file else ''}"
            )
        return dataclasses.replace(base, resize_height=height, resize_width=width)

    def lines(self, taken: Preprocess) -> list[str]:
        """What to say about the preprocessing ``taken`` from this transform."""
        mean = ", ".join(f"{value:g}" for value in taken.mean)
        nothing = " (nothing is subtracted)" if taken.mean == (0.0, 0.0, 0.0) else ""
        lines = [f"mean {mean}{nothing}, scale {self.scale:g}: from {self.where}"]
        if self.image_size is not None:
            size = f"{taken.resize_height}x{taken.resize_width}"
            lines.append(f"resize {size}: from {self.file or self.where}")
        if self.image is not None:
            crop = _cropped(self.image, taken)
            most = float(np.abs(crop - np.reshape(taken.mean, (3, 1, 1))).max())
            if most > _NOTICEABLE:
                lines.append(
                    f"warning: {self.file} has a mean for each pixel; the mean of each "
                    f"channel is taken, which is up to {most:.3g} off"
                )
        if self.mirror:
            lines.append(f"{self.where} mirrors at random, which is left to training")
        return lines


_NOTICEABLE = 1e-3
"""Of 255: rounding to float32 is below."""


def transform_of(
    net: NetParameter, layers: Sequence[CaffeLayer], prototxt: Path
) -> Transform | None:
    """The transform of the layers that the convolutions read images from, None without one.

    Raises CaffeError for values that Caffe would refuse, for layers that differ, and for a mean
    image that cannot be read.
    """
    names = image_sources(layers)
    found = []
    for message in included(net, phase_of(net)):
        known = message.type in _TRANSFORMED or message.HasField("transform_param")
        if message.name in names and known:
            found.append(_transform(message, f"{prototxt}: layer {message.name!r}", prototxt))
    for other in found[1:]:
        if not _same(found[0], other):
            raise CaffeError(
                f"{other.where}: expected crop, mean and scale as in {found[0].where}; "
                "one network has one preprocessing"
            )
    if not found:
        return None
    first = found[0]
    # Read once: a hostile file can name it in thousands of layers.
    return dataclasses.replace(first, image=read_mean(first.file)) if first.file else first


def image_sources(layers: Sequence[CaffeLayer]) -> dict[str, CaffeLayer]:
    """Name -> layer, for the layers without a bottom that convolutions read, in file order."""
    writers: dict[str, CaffeLayer] = {}
    found: dict[str, CaffeLayer] = {}
    for layer in layers:
        if layer.type == "Convolution" and layer.bottoms and layer.bottoms[0] in writers:
            source = writers[layer.bottoms[0]]
            found[source.name] = source
        for top in layer.tops:
            writers.pop(top, None)
        if not layer.bottoms:
            writers.update(dict.fromkeys(layer.tops, layer))
        elif layer.type in _PASSED_ON and layer.bottoms[0] in writers:
            writers.update(dict.fromkeys(layer.tops, writers[layer.bottoms[0]]))
    return found


def _transform(message: LayerParameter, where: str, prototxt: Path) -> Transform:
    """The transform of one layer. Raises CaffeError."""
    param = message.transform_param
    scale, mean = float(param.scale), [float(value) for value in param.mean_value]
    if not 0 < scale < math.inf:
        raise CaffeError(f"{where}: expected a scale above 0, found {scale:g}")
    if mean and param.mean_file:
        raise CaffeError(f"{where}: has a mean_file and mean_value, expected one of them")
    if len(mean) not in (0, 1, 3) or not all(map(math.isfinite, mean)):
        shown = ", ".join(f"{value:g}" for value in mean)
        raise CaffeError(f"{where}: expected one mean_value, or three, one per channel; {shown}")
    return Transform(
        where,
        mean=_three(mean * 3 if len(mean) == 1 else mean or [0.0] * 3),
        scale=_as_written(scale),
        resize=_resize(message, where),
        crop=_crop(message, where),
        file=_mean_file(param.mean_file, where, prototxt) if param.mean_file else None,
        mirror=bool(param.mirror),
    )


def _resize(message: LayerParameter, where: str) -> tuple[int, int] | None:
    """(height, width) that a layer of ImageData resizes to."""
    param = message.image_data_param
    size = int(param.new_height), int(param.new_width)
    if bool(size[0]) != bool(size[1]):
        raise CaffeError(
            f"{where}: expected new_height and new_width, found {size[0]} and {size[1]}"
        )
    return size if size[0] else None


def _crop(message: LayerParameter, where: str) -> tuple[int, int] | None:
    """(height, width) of the crop; crop_height and crop_width are fields of the DGD fork."""
    param = message.transform_param
    size, height, width = int(param.crop_size), int(param.crop_height), int(param.crop_width)
    if size and (height or width):
        raise CaffeError(f"{where}: has a crop_size and crop_height or crop_width; remove one")
    if bool(height) != bool(width):
        raise CaffeError(
            f"{where}: expected crop_height and crop_width, found {height} and {width}"
        )
    return (size or height, size or width) if size or height else None


def _mean_file(name: str, where: str, prototxt: Path) -> Path:
    """The mean image's file: below the prototxt's folder, the current one, or beside the prototxt.

    Raises CaffeError if it is in none of them.
    """
    places = (prototxt.parent / name, Path(name), prototxt.parent / Path(name).name)
    for place in places:
        if place.exists():
            return place
    raise CaffeError(
        f"{where}: no mean_file {name!r}; copy it to {places[-1]}, or write its mean_value in its "
        "place"
    )


def _same(one: Transform, other: Transform) -> bool:
    alike = (one.mean, one.scale, one.resize, one.crop, one.file)
    return alike == (other.mean, other.scale, other.resize, other.crop, other.file)


def _cropped(image: FloatArray, preprocess: Preprocess) -> FloatArray:
    """The part of a mean image that Caffe subtracts in the test phase."""
    top, left = preprocess.crop_corner
    return image[:, top : top + preprocess.crop_height, left : left + preprocess.crop_width]


def _as_written(value: float) -> float:
    """The number as the file has it, 0.017, not the float32 nearest to it."""
    return float(str(np.float32(value)))


def _three(values: Iterable[float]) -> Three:
    first, second, third = (_as_written(value) for value in values)
    return first, second, third
