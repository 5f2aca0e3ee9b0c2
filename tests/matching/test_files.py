"""Described images in a file: the same after reading, refused for another model or cut short."""

from __future__ import annotations

import dataclasses
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from reid.errors import ModelFileError
from reid.matching import PairMatcher, VectorMatcher, descriptions, files
from reid.matching.columns import write_columns
from reid.matching.files import FORMAT, load_descriptions, save_descriptions, stored_form
from reid.matching.labels import labels_from_records
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


def test_the_file_is_for_its_owner_alone(file):
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_sign_that_is_flipped_in_one_array_is_refused(file, matcher):
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 0x80]))
    with pytest.raises(ModelFileError, match=r"is damaged .* differs from its checksum"):
        load_descriptions(file, matcher)


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_file_that_is_cut_short_in_use_ends_no_process(
    file, matcher, images, monkeypatch, in_memory
):
    query = matcher.describe(images[:2])
    if not in_memory:
        monkeypatch.setattr(files, "MEMORY_BYTES", 0)
    found = load_descriptions(file, matcher, piece_size=3).descriptions
    expected = matcher.tiles(query, matcher.describe(images))(slice(0, 2))
    os.truncate(file, file.stat().st_size - 100)
    if in_memory:
        assert np.array_equal(matcher.tiles(query, found)(slice(0, 2)), expected)
    else:
        with pytest.raises(ModelFileError, match="was truncated while it was in use"):
            matcher.tiles(query, found)(slice(0, 2))


def test_a_file_of_format_1_without_checksums_is_read(file, matcher, tmp_path):
    with safe_open(file, "numpy") as opened:
        texts = opened.metadata()
    kept = {name: texts[name] for name in ("model", "names")}
    old = tmp_path / "old.safetensors"
    save_file(load_file(file), old, {**kept, "format": "reid-toolkit descriptions 1"})
    assert load_descriptions(old, matcher).names == load_descriptions(file, matcher).names
    save_file(load_file(file), old, {**kept, "format": FORMAT})
    with pytest.raises(ModelFileError, match="it has no checksums"):
        load_descriptions(old, matcher)


def test_the_library_of_the_format_reads_it_too(file, matcher, images):
    arrays = load_file(file)
    described = matcher.describe(images)
    assert arrays["maps2"].dtype == np.float16
    assert np.array_equal(arrays["maps2"].astype(np.float32), described.whole("maps2"))


@pytest.mark.parametrize("share", [0.0, 0.005, 0.1, 0.5, 0.99])
def test_a_file_cut_short_tells_what_it_should_have_and_has(file, matcher, share):
    content = file.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    found = int(len(content) * share)
    expected = f"{len(content):,}"
    if found < start:  # the head, which tells the rest, is not whole
        expected = f"more than {start if found > 8 else 8:,}"
    file.write_bytes(content[:found])
    with pytest.raises(ModelFileError) as caught:
        load_descriptions(file, matcher)
    assert str(caught.value) == (
        f"{file} is truncated: expected {expected} bytes, found {found:,}; write a file with "
        "`reid describe` and use that"
    )


@pytest.mark.parametrize(
    "content",
    [b"\x08\x0a\x12\x07pytorch\x1a\x052.8.0", b"%PDF-1.7 a text of any kind", bytes(100)],
    ids=["onnx", "text", "zeros"],
)
def test_a_file_of_another_kind_is_refused_with_what_is_expected(tmp_path, matcher, content):
    path = tmp_path / "msp_cnn.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        load_descriptions(path, matcher)
    assert str(caught.value) == (
        f"{path} is not a file of described images: expected the format '{FORMAT}', found another "
        "file type; write a file with `reid describe` and use that"
    )


def pieces_on_disk(monkeypatch, memory_bytes: int) -> descriptions.PairDescriptions:
    """24 images of 1 MB, 3 a piece, of which at most the first is in memory if that is 0."""
    monkeypatch.setattr(descriptions, "MEMORY_BYTES", memory_bytes)
    described, rng = descriptions.PairDescriptions(), np.random.default_rng(0)
    for _ in range(8):
        maps = rng.standard_normal((3, 128, 64, 64)).astype(np.float32)
        described.append({"maps2": maps, "vector": np.ascontiguousarray(maps[:, 0, 0])})
    return described


def test_writing_what_lies_on_disk_holds_one_piece_of_it_and_gives_the_same_file(
    tmp_path, matcher, monkeypatch
):
    paths = [tmp_path / "from_memory.safetensors", tmp_path / "from_disk.safetensors"]
    in_memory = pieces_on_disk(monkeypatch, 1 << 30)
    save_descriptions(paths[0], matcher, in_memory, records(24))
    on_disk = pieces_on_disk(monkeypatch, 0)
    assert not isinstance(on_disk.pieces[1], dict)
    tracemalloc.start()
    save_descriptions(paths[1], matcher, on_disk, records(24))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = paths[0].stat().st_size
    assert size > 24e6
    assert peak < size / 3
    assert paths[0].read_bytes() == paths[1].read_bytes()
    found = load_file(paths[1])["maps2"].astype(np.float32)
    assert np.array_equal(found, in_memory.whole("maps2"))


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
    with pytest.raises(ModelFileError, match=r"expected float32, found float16; .*float32`$"):
        load_descriptions(file, other)


@pytest.mark.parametrize(("half", "form"), [(True, "float16"), (False, "float32")])
def test_a_file_tells_the_form_it_keeps_and_gives_it_back(tmp_path, images, half, form):
    path = tmp_path / "gallery.safetensors"
    matcher = PairMatcher(DescribeRunner(), CompareRunner(), batch_size=4, half=half)
    described = matcher.describe(images)
    save_descriptions(path, matcher, described, records(11))
    assert stored_form(path) == form
    assert load_file(path)["maps2"].dtype == form
    found = load_descriptions(path, matcher.storing(form)).descriptions
    assert np.array_equal(found.whole("maps2"), described.whole("maps2"))


def test_vectors_are_kept_in_no_form_of_their_own(tmp_path):
    path = tmp_path / "gallery.safetensors"
    matcher = VectorMatcher(ProjectionRunner())
    save_descriptions(path, matcher, matcher.describe(some_images(3)), records(3))
    assert stored_form(path) is None


@pytest.mark.parametrize("model", ["7", '{"stored": ["float16"]}', '{"stored": "x"}', "{", None])
def test_a_form_that_is_not_stored_is_refused(tmp_path, model):
    path = tmp_path / "gallery.safetensors"
    texts = {} if model is None else {"model": model}
    write_columns(path, FORMAT, texts, {"ids": [np.arange(3)]})
    assert stored_form(path) is None


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
    with pytest.raises(ModelFileError, match=r"no such file; .* with `reid describe`"):
        load_descriptions(tmp_path / "none.safetensors", matcher)


@pytest.mark.parametrize("names", ["7", '["0.jpg"]', "[" * 100_000])
def test_names_that_are_not_one_for_each_image_are_one_line(tmp_path, matcher, images, names):
    path, labels = tmp_path / "gallery.safetensors", labels_from_records(records(11))
    pieces = matcher.pieces(matcher.describe(images))
    columns = {name: [piece[name] for piece in pieces] for name in pieces[0]}
    columns |= {"person_ids": [labels.person_ids], "camera_ids": [labels.camera_ids]}
    texts = {"model": json.dumps(dict(matcher.identity)), "names": names}
    write_columns(path, FORMAT, texts, columns)
    with pytest.raises(ModelFileError, match="file of described images"):
        load_descriptions(path, matcher)
