"""Damaged image files are named, not trained on."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest

from reid.data.images import IMAGE_SUFFIXES, decode_image, read_image
from reid.errors import DataError


def _picture(suffix: str, *, height: int = 24, width: int = 12) -> bytes:
    image = np.random.default_rng(3).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.imencode(suffix, image)[1].tobytes()


def test_an_image_is_height_width_bgr(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    pixels = np.zeros((5, 3, 3), np.uint8)
    pixels[..., 0] = 200
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    image = read_image(path)
    assert image.shape == (5, 3, 3)
    assert image.dtype == np.uint8
    assert (image == (200, 0, 0)).all()


def test_a_grey_image_gets_three_channels(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(cv2.imencode(".png", np.full((4, 4), 9, np.uint8))[1].tobytes())
    assert read_image(str(path)).shape == (4, 4, 3)


def test_an_image_that_says_it_is_enormous_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(_picture(".png", height=20, width=10))
    assert read_image(path, max_pixels=200).shape == (20, 10, 3)
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match=r"a\.png: .*10 x 20 pixels; expected 1 to 199"):
        read_image(path, max_pixels=199)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str, kept: float) -> None:
    data = _picture(suffix, height=128, width=64)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(DataError, match=rf"cut{suffix}: .*truncated"):
        read_image(path)


def test_a_jpeg_cut_after_its_thumbnail_is_named(tmp_path: Path) -> None:
    thumbnail = _picture(".jpg")
    data = _picture(".jpg", height=128, width=64)
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail
    with_thumbnail = data[:2] + segment + data[2:]
    path = tmp_path / "a.jpg"
    path.write_bytes(with_thumbnail)
    assert read_image(path).shape == (128, 64, 3)
    path.write_bytes(with_thumbnail[:-500])
    with pytest.raises(DataError, match=r"a\.jpg: .*truncated"):
        read_image(path)


def test_bytes_after_a_jpegs_end_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(_picture(".jpg") + b"\0" * 64)
    assert read_image(path).shape == (24, 12, 3)


def test_a_png_with_a_wrong_byte_is_named(tmp_path: Path) -> None:
    data = bytearray(_picture(".png"))
    data[len(data) // 2] ^= 0xFF
    path = tmp_path / "bad.png"
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"bad\.png: the PNG is corrupt"):
        read_image(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty"),
        (b"not an image at all", "unsupported image format; expected JPEG, PNG"),
    ],
)
def test_a_file_that_is_no_image_is_named(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"a\.jpg: {reason}"):
        read_image(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jpg: no such image file"):
        read_image(tmp_path / "gone.jpg")


def test_a_folder_in_place_of_an_image_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "a.jpg"
    folder.mkdir()
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read"):
        read_image(folder)


def test_reading_images_loads_no_torch() -> None:
    code = "import sys, reid.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


ENCODED_AS = {".jfif": ".jpg", ".j2k": ".jp2", ".pxm": ".ppm"}
FORMS = {".pbm": "grey", ".pgm": "grey", ".pfm": "float", ".hdr": "light", ".pic": "light"}


def _encoded(suffix: str) -> bytes:
    image = np.full((64, 40, 3), 90, np.uint8)
    image[:, 12:28] = 200
    forms = {"grey": image[..., 0], "float": image.astype("f4"), "light": image.astype("f4") / 255}
    kind = FORMS.get(suffix, "")
    return cv2.imencode(ENCODED_AS.get(suffix, suffix), forms.get(kind, image))[1].tobytes()


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_every_suffix_of_an_image_is_read(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(_encoded(suffix))
    image = read_image(path)
    assert image.shape == (64, 40, 3)
    if suffix != ".pbm":  # one bit a pixel
        assert abs(image[16:48, 16:24].mean() - 200) < 16  # GIF has a palette
        assert abs(image[16:48, :8].mean() - 90) < 16


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_truncated_file_of_any_format_is_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], suffix: str, kept: float
) -> None:
    data = _encoded(suffix)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(DataError, match="cut") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""  # OpenCV's own lines


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_each_format_is_measured_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(_encoded(suffix))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(DataError, match="40 x 64 pixels; expected 1 to 2,559"):
        read_image(path, max_pixels=2559)


def test_a_tiff_of_huge_tiles_is_measured_by_its_tiles() -> None:
    entries = [(256, 8), (257, 8), (322, 60_000), (323, 60_000)]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
    data = b"II*\0" + struct.pack("<IH", 8, len(entries)) + body + b"\0" * 64
    with pytest.raises(DataError, match="60,000 x 60,000 pixels"):
        decode_image(data, "a.tif")


def test_a_pipe_a_device_and_a_folder_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    for name, kind in (("pipe", "a pipe"), ("zero", "a device"), ("folder", "a folder")):
        with pytest.raises(DataError, match=rf"{name}\.jpg: cannot be read: it is {kind}"):
            read_image(tmp_path / f"{name}.jpg")


def test_a_file_that_is_far_too_large_is_not_read(tmp_path: Path) -> None:
    for name, start, reason in (
        ("empty.jpg", b"", "unsupported image format"),
        ("jpeg.jpg", b"\xff\xd8\xff\xe0", "20,000,000,000 bytes; expected at most 268,435,456"),
    ):
        with open(tmp_path / name, "wb") as file:
            file.write(start)
            file.truncate(20_000_000_000)
        tracemalloc.start()
        with pytest.raises(DataError, match=rf"{name}: {reason}"):
            read_image(tmp_path / name)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
        tracemalloc.stop()


def test_a_name_with_a_nul_is_one_line() -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_image("a\0.jpg")
