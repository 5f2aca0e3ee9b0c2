"""How large an image is, by its first bytes."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest

from reid.data.image_size import image_size
from reid.errors import DataError


def test_the_first_bytes_tell_a_size_in_every_format() -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3)).astype(np.uint8)
    for suffix, options in (
        (".jpg", []),
        (".jpg", [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]),
        (".png", []),
        (".bmp", []),
        (".webp", [cv2.IMWRITE_WEBP_QUALITY, 80]),
        (".webp", [cv2.IMWRITE_WEBP_QUALITY, 101]),
    ):
        content = cv2.imencode(suffix, image, options)[1].tobytes()
        assert image_size(content, suffix) == (53, 37)
    grey = cv2.imencode(".jpg", image[..., 0])[1].tobytes()
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(grey) + 2) + grey
    large = cv2.imencode(".jpg", np.tile(image, (2, 2, 1)))[1].tobytes()
    assert image_size(large[:2] + thumbnail + large[2:], "with a thumbnail") == (106, 74)


def test_a_jpeg_without_its_end_is_cut_short_whatever_its_thumbnail_has() -> None:
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3)).astype(np.uint8)
    small = cv2.imencode(".jpg", image[:8, :8])[1].tobytes()
    large = cv2.imencode(".jpg", image)[1].tobytes()
    thumbnail = b"\xff\xe1" + struct.pack(">H", len(small) + 2) + small
    content = large[:2] + thumbnail + large[2:]
    assert image_size(content + b"\xff\xda a video behind a photo", "whole") == (53, 37)
    for kept in (len(content) - 2, len(content) // 2, len(thumbnail) + 2, 3):
        with pytest.raises(DataError, match="cut: truncated image"):
            image_size(content[:kept], "cut")
