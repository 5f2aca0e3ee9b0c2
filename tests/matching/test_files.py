"""Described images in a file: the same after reading, refused for another model or cut short."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from reid.errors import ModelFileError
from reid.matching import PairMatcher, VectorMatcher
from reid.matching.columns import write_columns
from reid.matching.files import FORMAT, load_descriptions, save_descriptions
from reid.ranking import labels_from_records
from reid.types import ImageRecord
from tests.matching.conftest import CompareRunner, DescribeRunner
from tests.matching.test_vectors import MANIFEST, ProjectionRunner, some_images


def records(count: int) -> list[ImageRecord]:
    return [ImageRecord(Path(f"images/{i}.jpg"), 10 + i, i % 3) for i in range(count)]


@pytest.fixture
def file(tmp_path, matcher, images) -> Path:
    path = tmp_path / "gallery.safetensors"
    save_descriptions(path, matcher, matcher.describe(images), records(11))
    return path


def test_what_is_read_is_what_was_described(file, matcher, images):
    described = matcher.describe(images)
    found = load_descriptions(file, matcher, piece_size=3)
    for name in described.names:
        assert np.array_equal(found.descriptions.whole(name), described.whole(name))
    assert found.labels.person_ids.tolist() == [10 + i for i in range(11)]
    assert found.labels.camera_ids.tolist() == [i % 3 for i in range(11)]
    assert found.names[:2] == ("0.jpg", "1.jpg")
    query = matcher.describe(images[:2])
    expected = matcher.tiles(query, described)(slice(0, 2))
    assert np.array_equal(matcher.tiles(query, found.descriptions)(slice(0, 2)), expected)


def test_the_library_of_the_format_reads_it_too(file, matcher, images):
    arrays = load_file(file)
    described = matcher.describe(images)
    assert arrays["maps2"].dtype == np.float16
    assert np.array_equal(arrays["maps2"].astype(np.float32), described.whole("maps2"))


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_file_cut_short_is_one_line(file, matcher, share):
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ModelFileError, match="is no file of described images, or is cut") as caught:
        load_descriptions(file, matcher)
    assert "\n" not in str(caught.value)


def test_changed_bytes_of_the_head_are_never_another_exception(file, matcher):
    content = file.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        spoilt = bytearray(content)
        for at in rng.integers(0, 700, 3):
            spoilt[at] = rng.integers(0, 256)
        file.write_bytes(spoilt)
        try:
            load_descriptions(file, matcher)
        except ModelFileError:
            refused += 1
    assert refused > 200


def test_another_precision_of_storage_is_refused(file):
    other = PairMatcher(DescribeRunner(), CompareRunner(), half=False)
    with pytest.raises(ModelFileError, match=r"stored float16 \(this model: float32\)"):
        load_descriptions(file, other)


def test_another_checkpoint_is_refused_by_name(file, matcher):
    matcher.identity = {**matcher.identity, "checkpoint": "feedfeedfeedfeed"}
    with pytest.raises(ModelFileError, match=r"checkpoint abababababababab \(this model: feedfeed"):
        load_descriptions(file, matcher)


def test_another_branch_of_the_same_network_is_refused(tmp_path):
    path = tmp_path / "gallery.safetensors"
    first, second = (
        VectorMatcher(ProjectionRunner(dataclasses.replace(MANIFEST, stage=stage)))
        for stage in ("embed", "second")
    )
    save_descriptions(path, first, first.describe(some_images(3)), records(3))
    assert load_descriptions(path, first).labels.person_ids.tolist() == [10, 11, 12]
    with pytest.raises(ModelFileError, match=r"output fc7_bn \(this model: fc7_bn, second\)"):
        load_descriptions(path, second)


def test_a_missing_file_says_how_to_make_it(tmp_path, matcher):
    with pytest.raises(ModelFileError, match=r"no such file; write it again with `reid describe`"):
        load_descriptions(tmp_path / "none.safetensors", matcher)


@pytest.mark.parametrize("names", ["7", '["0.jpg"]', "[" * 100_000])
def test_names_that_are_not_one_for_each_image_are_one_line(tmp_path, matcher, images, names):
    path, labels = tmp_path / "gallery.safetensors", labels_from_records(records(11))
    pieces = matcher.pieces(matcher.describe(images))
    columns = {name: [piece[name] for piece in pieces] for name in pieces[0]}
    columns |= {"person_ids": [labels.person_ids], "camera_ids": [labels.camera_ids]}
    texts = {"model": json.dumps(dict(matcher.identity)), "names": names}
    write_columns(path, FORMAT, texts, columns)
    with pytest.raises(ModelFileError, match="is no file of described images"):
        load_descriptions(path, matcher)
