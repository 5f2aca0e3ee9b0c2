"""The preprocessing of a net's data layers: taken as Caffe computes it, or refused."""

from __future__ import annotations

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from reid.caffe.files import blob_from_array, read_mean, read_net
from reid.errors import CaffeError
from reid.export.caffe.compare import check_graph
from reid.export.caffe.layers import CaffeLayer
from reid.export.caffe.net import all_layers
from reid.export.caffe.transform import Transform, transform_of
from reid.model_file.preprocess import Preprocess
from reid.types import FloatArray

CONV = 'layer { name: "c" type: "Convolution" bottom: "data" top: "c" convolution_param { %s } }'
NET = CONV % "num_output: 4 kernel_size: 3"
SMALL = Preprocess(12, 10, 8, 6)


def data(param: str, more: str = "", kind: str = "Data", tops: str = 'top: "data"') -> str:
    return f'layer {{ name: "data" type: "{kind}" {tops} transform_param {{ {param} }} {more} }}\n'


def transform(folder: Path, text: str) -> Transform | None:
    path = folder / "net.prototxt"
    path.write_text(text + NET)
    net = read_net(path).message
    return transform_of(net, all_layers(net, str(path), input_shape=SMALL.input_shape), path)


def taken(folder: Path, text: str, base: Preprocess = SMALL) -> Preprocess:
    found = transform(folder, text)
    assert found is not None
    return found.preprocess(base)


def mean_image(folder: Path, height: int = 12, width: int = 10) -> FloatArray:
    values = np.random.default_rng(0).uniform(80, 120, (3, height, width)).astype(np.float32)
    path = folder / "mean.binaryproto"
    path.write_bytes(blob_from_array(values[None]).SerializeToString())
    return values


@pytest.mark.parametrize(
    ("param", "mean", "scale"),
    [
        ("mean_value: 104 mean_value: 117 mean_value: 123", (104, 117, 123), 1),
        ("mean_value: 104 scale: 0.017", (104, 104, 104), 0.017),
        ("scale: 0.00390625", (0, 0, 0), 0.00390625),
        ("crop_size: 8", (0, 0, 0), 1),
    ],
)
def test_an_image_is_prepared_as_caffe_does(
    param: str, mean: tuple[float, ...], scale: float, tmp_path: Path
) -> None:
    preprocess = taken(tmp_path, data(param))
    image = np.random.default_rng(0).integers(0, 256, (12, 10, 3), np.uint8)
    found = preprocess(image)
    for channel in range(3):
        for y in range(8):
            for x in range(6):
                pixel = float(image[y + 2, x + 2, channel])  # of the centre crop, BGR
                expected = (pixel - mean[channel]) * scale
                assert found[channel, y, x] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_a_mean_image_gives_the_resize_and_the_means_of_its_centre_crop(tmp_path: Path) -> None:
    values = mean_image(tmp_path, 14, 10)
    found = taken(tmp_path, data('mean_file: "mean.binaryproto" scale: 0.5'))
    assert (found.resize_height, found.resize_width) == (14, 10)
    assert found.std == (2.0, 2.0, 2.0)
    np.testing.assert_allclose(found.mean, values[:, 3:11, 2:8].mean((1, 2)), rtol=1e-6)


@pytest.mark.parametrize(
    ("crop", "size"), [("crop_height: 8 crop_width: 6", (8, 6)), ("", (14, 11))]
)
def test_image_data_says_what_images_are_resized_to(
    crop: str, size: tuple[int, int], tmp_path: Path
) -> None:
    more = "image_data_param { new_height: 14 new_width: 11 }"
    found = transform(tmp_path, data(f"mean_value: 5 {crop}", more, "ImageData"))
    assert found is not None
    assert found.input_size == size
    preprocess = found.preprocess(SMALL)
    assert (preprocess.resize_height, preprocess.resize_width) == (14, 11)
    assert any("resize 14x11" in line for line in found.lines(preprocess))


@pytest.mark.parametrize(
    ("size", "param", "words"),
    [
        ("new_height: 14", "", "new_height and new_width, found 14 and 0"),
        ("new_height: 7 new_width: 9", "", "at least the crop 8x6, found 7x9"),
        ("new_height: 14 new_width: 9", 'mean_file: "mean.binaryproto"', "14x9, .* found 12x10"),
    ],
)
def test_a_resize_that_does_not_fit_is_refused(
    size: str, param: str, words: str, tmp_path: Path
) -> None:
    mean_image(tmp_path)
    with pytest.raises(CaffeError, match=words):
        taken(tmp_path, data(param, f"image_data_param {{ {size} }}", "ImageData"))


def test_a_mean_that_differs_from_pixel_to_pixel_is_a_warning(tmp_path: Path) -> None:
    values = mean_image(tmp_path)
    text = data('mean_file: "mean.binaryproto" crop_height: 8 crop_width: 6')
    found = transform(tmp_path, text)
    assert found is not None
    assert found.input_size == (8, 6)
    crop = values[:, 2:10, 2:8]
    most = np.abs(crop - crop.mean((1, 2), keepdims=True)).max()
    (warning,) = [line for line in found.lines(found.preprocess(SMALL)) if "warning" in line]
    assert f"up to {most:.3g} off" in warning


def test_a_mean_image_of_one_colour_is_no_warning(tmp_path: Path) -> None:
    values = np.broadcast_to(np.float32([102, 103, 104])[:, None, None], (3, 12, 10))
    blob = blob_from_array(values)
    (tmp_path / "mean.binaryproto").write_bytes(blob.SerializeToString())
    found = transform(tmp_path, data('mean_file: "mean.binaryproto"'))
    assert found is not None
    assert found.input_size == (12, 10)  # without a crop, the input has the mean's size
    assert found.preprocess(SMALL).mean == (102.0, 103.0, 104.0)
    assert not any("warning" in line for line in found.lines(found.preprocess(SMALL)))


@pytest.mark.parametrize("place", ["mean.binaryproto", "models/mean.binaryproto"])
def test_a_mean_file_beside_the_prototxt_is_found(place: str, tmp_path: Path) -> None:
    mean_image(tmp_path)
    assert transform(tmp_path, data(f'mean_file: "{place}"')) is not None


def test_the_test_phase_is_read_and_training_only_without_it(tmp_path: Path) -> None:
    train, test = (
        data(f"mean_value: {mean}", f"include {{ phase: {phase} }}")
        for phase, mean in (("TRAIN", 1), ("TEST", 2))
    )
    assert taken(tmp_path, train + test).mean == (2.0, 2.0, 2.0)
    assert taken(tmp_path, train).mean == (1.0, 1.0, 1.0)


def test_the_layer_that_is_read_counts_not_the_first_one(tmp_path: Path) -> None:
    beside = 'layer { name: "guidance" type: "Data" top: "guidance" }\n'
    slices = 'layer { name: "cut" type: "Slice" bottom: "pair" top: "data" top: "data_p" }\n'
    pair = data("mean_value: 7", tops='top: "sim" top: "pair"')
    assert taken(tmp_path, beside + pair + slices).mean == (7.0, 7.0, 7.0)


def test_an_input_says_nothing_of_preprocessing(tmp_path: Path) -> None:
    shape = "input_param { shape { dim: 1 dim: 3 dim: 8 dim: 6 } }"
    assert transform(tmp_path, f'layer {{ name: "i" type: "Input" top: "data" {shape} }}') is None
    assert transform(tmp_path, 'layer { name: "p" type: "Python" top: "data" }') is None


def test_a_mirror_in_the_test_phase_is_said(tmp_path: Path) -> None:
    found = transform(tmp_path, data("mirror: true"))
    assert found is not None
    assert any("mirror" in line for line in found.lines(SMALL))


@pytest.mark.parametrize(
    ("param", "words"),
    [
        ("mean_value: 1 mean_value: 2", "one mean_value, or three"),
        ("mean_value: nan", "mean_value"),
        ("mean_value: -1000000 mean_value: inf mean_value: 0", "mean_value"),
        ("scale: 0", "scale above 0, found 0"),
        ("scale: -1", "scale above 0, found -1"),
        ("scale: nan", "scale above 0, found nan"),
        ("scale: inf", "scale above 0, found inf"),
        ("crop_size: 8 crop_height: 8", "crop_size and crop_height"),
        ("crop_height: 8", "crop_height and crop_width, found 8 and 0"),
        ('mean_file: "mean.binaryproto" mean_value: 3', "mean_file and mean_value"),
        ('mean_file: "other.binaryproto"', "no mean_file 'other.binaryproto'; copy it to"),
        ('mean_file: "net.prototxt"', "a prototxt .*expected a mean image"),
        ('mean_file: "/dev/zero"', "not a regular file"),
        ('mean_file: "."', "mean image"),
    ],
)
def test_a_transform_that_caffe_would_refuse_is_one_line(
    param: str, words: str, tmp_path: Path
) -> None:
    mean_image(tmp_path)
    with pytest.raises(CaffeError, match=words) as caught:
        transform(tmp_path, data(param))
    assert "net.prototxt" in str(caught.value) or "/dev/zero" in param or '"."' in param
    assert "\n" not in str(caught.value)


def test_a_mean_image_smaller_than_the_crop_is_refused(tmp_path: Path) -> None:
    mean_image(tmp_path, 7, 10)
    found = transform(tmp_path, data('mean_file: "mean.binaryproto" crop_height: 8 crop_width: 6'))
    assert found is not None
    with pytest.raises(CaffeError, match=re.escape("at least the crop 8x6, found 7x10 in")):
        found.preprocess(SMALL)


def test_two_towers_with_other_means_are_refused(tmp_path: Path) -> None:
    other = data("mean_value: 2", tops='top: "data_p"').replace('name: "data"', 'name: "data_p"')
    tower = NET.replace('"data"', '"data_p"').replace('"c"', '"c_p"')
    alike = data("mean_value: 2") + other + tower
    assert taken(tmp_path, alike).mean == (2.0, 2.0, 2.0)
    with pytest.raises(CaffeError, match="layer 'data_p': expected crop, mean and scale as in"):
        transform(tmp_path, alike.replace("mean_value: 2", "mean_value: 1", 1))


def test_a_mean_image_that_many_layers_name_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mean_image(tmp_path)
    read = []
    monkeypatch.setattr(
        "reid.export.caffe.transform.read_mean", lambda path: read.append(path) or read_mean(path)
    )
    one = data('mean_file: "mean.binaryproto"')
    text = "".join(
        (one + NET).replace('"data"', f'"d{i}"').replace('"c"', f'"c{i}"') for i in range(9)
    )
    assert transform(tmp_path, one + text) is not None
    assert read == [tmp_path / "mean.binaryproto"]


@pytest.mark.parametrize(
    "line",
    [
        'layer {{ name: "a{0}" type: "ReLU" bottom: "b{0}" top: "c{0}" }}',
        'layer {{ name: "a{0}" type: "Odd{0}" top: "c{0}" }}',
        'layer {{ name: "a{0}" type: "ReLU" bottom: "c{0}" top: "c{1}" }}',
        'layer {{ name: "a{0}" type: "Slice" bottom: "c{0}" top: "c{1}" }}',
    ],
    ids=["missing bottoms", "unknown types", "a chain of ReLUs", "a chain of Slices"],
)
def test_thousands_of_odd_layers_take_little_memory(line: str, tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    first = 'layer { name: "start" type: "Data" top: "c0" }\n'
    path.write_text(first + "\n".join(line.format(i, i + 1) for i in range(4000)))
    net = read_net(path).message
    tracemalloc.start()
    try:
        layers = all_layers(net, "net", input_shape=(3, 8, 6))
        wanted = CaffeLayer("Convolution", "none", ("data",), ("none",), {"bias": True})
        start = CaffeLayer("Input", "data", (), ("data",))
        with pytest.raises(CaffeError, match="expected a layer 'none'"):
            check_graph([start, wanted], layers, "net")
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()
