"""Images and arrays from callers, checked before any work; errors are one sentence.

An image is a path or an array (H, W, 3) uint8 in BGR, as returned by ``cv2.imread``. BGR and RGB
cannot be distinguished by the values: convert an RGB array (PIL, imageio, matplotlib) with
``image[:, :, ::-1]``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from reid.data import read_image
from reid.data.readers.folders import files_below, is_image
from reid.errors import DataError, InputError
from reid.matching.describing import read_ahead
from reid.types import FloatArray, Image, ImageRecord

Array = npt.NDArray[np.generic]
OneImage = str | os.PathLike[str] | Array
"""A path, or an array (H, W, 3) uint8 BGR."""

Images = OneImage | Sequence[OneImage]
"""One image, a folder of images, or several of either; an array (N, H, W, 3) is N images."""

EXPECTED = "expected a path or an array (H, W, 3) uint8 in BGR, as from cv2.imread"


class ImageList:
    """Checked images in order: ``sources`` are paths and arrays, ``names`` paths or ``""``."""

    def __init__(self, images: Images) -> None:
        """Raises InputError for anything but images, DataError for a folder without images."""
        self.sources = tuple(_sources(images))

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def names(self) -> tuple[str, ...]:
        """The paths as text; empty for arrays."""
        return tuple(str(one) if isinstance(one, Path) else "" for one in self.sources)

    def read(self) -> Iterator[Image]:
        """The images; files are decoded ahead. Raises DataError for a damaged file."""
        paths = [one for one in self.sources if isinstance(one, Path)]
        decoded = read_ahead([ImageRecord(path, 0, 0) for path in paths])
        for one in self.sources:
            yield next(decoded) if isinstance(one, Path) else one


def _sources(images: Images) -> Iterator[Path | Image]:
    several, single = as_list(images)
    for number, one in enumerate(several):
        where = "the image" if single else f"image {number}"
        if isinstance(one, str | os.PathLike):
            yield from _files(Path(one))
        else:
            yield checked_image(one, where)


def as_list(images: object) -> tuple[Iterable[object], bool]:
    """Images one by one, unchecked, and whether only one was given. Raises InputError."""
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images), False
    if images is None or isinstance(images, str | os.PathLike | np.ndarray):
        return [images], True
    if hasattr(images, "__array__"):  # PIL's and torch's: checked_image says how to convert it
        return [images], True
    if isinstance(images, Iterable) and not isinstance(images, Mapping | bytes):
        return images, False
    raise InputError(f"{EXPECTED}, or a list of them; found {_kind(images)}")


def _files(path: Path) -> Iterator[Path]:
    """The file itself, or all images in a folder and its subfolders, sorted by name."""
    if path.is_file():
        yield path
        return
    if not path.is_dir():
        raise DataError(f"{path}: no such image file or folder; check the path")
    found = sorted(file for file in files_below(path) if is_image(file.name))
    if not found:
        raise DataError(f"{path}: no images in this folder; expected .jpg, .png or .bmp files")
    yield from found


def checked_image(image: object, where: str = "the image") -> Image:
    """``image`` if it is (H, W, 3) uint8; ``where`` names it in the InputError if it is not."""
    if image is None:
        raise InputError(
            f"{where} is None, which cv2.imread returns for a file it cannot read; {EXPECTED}: "
            "check the file's path"
        )
    if not isinstance(image, np.ndarray):
        raise InputError(f"{where} is a {_kind(image)}; {EXPECTED}{_turned(image)}")
    if image.dtype != np.uint8:
        raise InputError(f"{where} is {image.dtype}; {EXPECTED}: {_as_uint8(image)}")
    if image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"{where} has shape {image.shape}; {EXPECTED}{_as_colour(image)}")
    if 0 in image.shape:
        raise InputError(f"{where} is empty (shape {image.shape}); {EXPECTED}: check the crop")
    return image


def _kind(value: object) -> str:
    kind = type(value)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _turned(image: object) -> str:
    """How to convert an image of another library, which has RGB."""
    module = type(image).__module__.partition(".")[0]
    if module == "PIL":
        return ": np.asarray(image.convert('RGB'))[:, :, ::-1] turns RGB into BGR"
    if module == "torch":
        return ": convert it with .cpu().numpy(), channels last, 0-255, BGR"
    return ""


def _as_uint8(image: Array) -> str:
    """How to convert values of another type; values of 0-1 would become black in a plain cast."""
    if not np.issubdtype(image.dtype, np.floating):
        return "convert it to values 0-255 with .astype(np.uint8)"
    finite = image[np.isfinite(image)]
    largest = float(finite.max()) if finite.size else 0.0
    if largest <= 1:
        return f"its largest value is {largest:g}, so use (255 * image).round().astype(np.uint8)"
    return "round its values: image.round().clip(0, 255).astype(np.uint8)"


def _as_colour(image: Array) -> str:
    if image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        return ": for a grey image use cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)"
    if image.ndim == 3 and image.shape[2] == 4:
        return ": remove the alpha channel with image[:, :, :3]"
    if image.ndim == 3 and image.shape[0] == 3:
        return ": move the channels last with image.transpose(1, 2, 0)"
    return ""


def checked_matrix(values: object, what: str) -> FloatArray:
    """A 2-D array of finite numbers as float32. Raises InputError."""
    array = np.asarray(values)
    is_number = np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)
    if not is_number:
        raise InputError(f"{what} are {array.dtype}; expected an array (Q, G) of numbers")
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(
            f"{what} have shape {array.shape}; expected (Q, G), a row for each query and a column "
            "for each gallery image, at least one of each"
        )
    if not np.isfinite(array).all():
        rows = np.flatnonzero(~np.isfinite(array).all(axis=1))
        raise InputError(
            f"{what} contain NaN or infinity in {len(rows)} rows, the first {rows[0]}; expected "
            "finite numbers: check the embeddings that they come from"
        )
    return np.asarray(array, np.float32)


def read_source(source: Path | Image) -> Image:
    """The image, decoded if it is a file. Raises DataError for a file that cannot be read."""
    return read_image(source) if isinstance(source, Path) else source
