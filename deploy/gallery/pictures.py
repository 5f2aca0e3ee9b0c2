"""Pictures of a gallery's images: the person, small enough for a page."""

from __future__ import annotations

import cv2
import numpy as np

from reid.data.images import decode_image, read_image_file
from reid.errors import DataError
from reid.types import Image

from .gallery import GalleryEntry
from .indexing import cropped

LONGEST = 256
"""Pixels of a picture's longer side."""

_QUALITY = 85


def picture_of(entry: GalleryEntry) -> bytes:
    """A JPEG of the person: the one in the gallery, otherwise from the source's file.

    Always encoded again, so that only pixels of a file are shown. Raises DataError if there is
    no image, or its file is gone.
    """
    content = entry.picture
    box = None if content else entry.box
    if not content:
        content = read_image_file(entry.source)
    return jpeg(cropped(decode_image(content, entry.source), box, entry.source))


def jpeg(image: Image, longest: int = LONGEST) -> bytes:
    """An image (H, W, 3) BGR as JPEG, reduced if it is larger than ``longest``."""
    scale = longest / max(image.shape[:2])
    if scale < 1:
        height, width = (max(1, round(edge * scale)) for edge in image.shape[:2])
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))
    done, content = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise DataError(f"an image of shape {image.shape} cannot be encoded as JPEG")
    return content.tobytes()
