"""Descriptions of a pair network: in pieces, in half, beyond the memory on disk."""

from __future__ import annotations

import numpy as np
import pytest

from reid.errors import OutputError
from reid.matching import descriptions
from reid.matching.descriptions import PairDescriptions
from reid.types import FloatArray


def filled(half: bool, sizes: tuple[int, ...] = (3, 1, 4)) -> tuple[PairDescriptions, FloatArray]:
    rng = np.random.default_rng(0)
    described = PairDescriptions(half)
    batches = [rng.standard_normal((size, 5, 2)).astype(np.float32) for size in sizes]
    for batch in batches:
        described.append({"maps": batch, "vector": np.ascontiguousarray(batch[:, 0])})
    return described, np.concatenate(batches)


@pytest.mark.parametrize(("half", "tolerance", "size"), [(False, 0, 4), (True, 1e-3, 2)])
def test_rows_come_back_in_order_as_float32(half, tolerance, size):
    described, maps = filled(half)
    assert len(described) == 8
    assert described.num_bytes == 8 * (10 + 2) * size
    for number in range(8):
        row = described.row(number)["maps"]
        assert row.dtype == np.float32
        np.testing.assert_allclose(row, maps[number : number + 1], rtol=tolerance)
    picked = described.rows(np.array([7, 0, 3, 3]))
    np.testing.assert_allclose(picked["maps"], maps[[7, 0, 3, 3]], rtol=tolerance)
    np.testing.assert_allclose(described.whole("vector"), maps[:, 0], rtol=tolerance)
    for num_images in (1, 3, 5, 8, 100):
        starts, joined = [], []
        for rows, arrays in described.batches(num_images):
            starts.append((rows.start, rows.stop))
            joined.append(arrays["maps"].copy())
            assert arrays["maps"].dtype == np.float32
        assert starts == [(at, min(at + num_images, 8)) for at in range(0, 8, num_images)]
        np.testing.assert_allclose(np.concatenate(joined), maps, rtol=tolerance)


@pytest.mark.parametrize(("memory_bytes", "preadv"), [(1 << 20, True), (0, True), (0, False)])
def test_batches_may_come_as_they_are_kept_wherever_they_lie(monkeypatch, memory_bytes, preadv):
    monkeypatch.setattr(descriptions, "MEMORY_BYTES", memory_bytes)
    if not preadv:
        monkeypatch.delattr(descriptions.os, "preadv")  # as on an old macOS
    described, maps = filled(half=True)
    for num_images in (2, 4, 8):
        joined = []
        for _, arrays in described.batches(num_images, half=True):
            assert {array.dtype for array in arrays.values()} == {np.dtype(np.float16)}
            joined.append(arrays["maps"].copy())
        assert np.array_equal(np.concatenate(joined), maps.astype(np.float16))
    pieces = [piece["maps"] for piece in described.pieces]
    batches = [arrays["maps"] for _, arrays in described.batches(8, half=True)]
    # What is whole in memory is not copied.
    assert np.shares_memory(pieces[0], batches[0]) == (memory_bytes > 0)


def test_a_piece_that_is_only_to_be_read_is_not_copied_either():
    stored = np.ones((6, 4), np.float16)
    stored.flags.writeable = False  # as in a mapped file
    described = PairDescriptions(half=True)
    described.keep({"maps": stored})
    batches = [arrays["maps"] for _, arrays in described.batches(4, half=True)]
    assert [len(batch) for batch in batches] == [4, 2]
    assert all(np.shares_memory(batch, stored) for batch in batches)


def test_few_images_are_put_together_into_one_piece(monkeypatch):
    monkeypatch.setattr(descriptions, "PIECE_IMAGES", 4)
    described, maps = filled(half=False, sizes=(3, 1, 4, 2, 3))
    assert [len(piece["maps"]) for piece in described.pieces] == [4, 4, 2, 3]
    assert described.num_bytes == 13 * 12 * 4
    assert np.array_equal(described.whole("maps"), maps)


def test_beyond_the_memory_a_temporary_file_holds_the_same(monkeypatch):
    in_memory, _ = filled(half=True)
    monkeypatch.setattr(descriptions, "MEMORY_BYTES", 80)
    on_disk, _ = filled(half=True)
    assert [isinstance(piece, dict) for piece in on_disk.pieces] == [True, False]
    assert np.array_equal(on_disk.whole("maps"), in_memory.whole("maps"))


def test_of_a_piece_on_disk_only_the_images_asked_for_are_read(monkeypatch):
    in_memory, _ = filled(half=True)
    monkeypatch.setattr(descriptions, "MEMORY_BYTES", 0)
    on_disk, _ = filled(half=True)  # the first piece in memory, of 3, 1 and 4 images
    read, pread = [], descriptions.os.pread
    monkeypatch.setattr(
        descriptions.os, "pread", lambda *call: read.append(call[1]) or pread(*call)
    )
    numbers = np.array([6, 0, 3])
    for name, expected in in_memory.rows(numbers).items():
        assert np.array_equal(on_disk.rows(numbers)[name], expected)
    assert np.array_equal(on_disk.row(7)["maps"], in_memory.row(7)["maps"])
    sizes = {array[0].nbytes for array in in_memory.pieces[0].values()}
    assert set(read) == sizes


def test_an_image_beyond_half_precision_is_not_finite():
    described = PairDescriptions(half=True)
    described.append({"maps": np.array([[1.0], [1e6], [np.nan]], np.float32)})
    assert described.finite().tolist() == [True, False, False]


@pytest.mark.parametrize(("half", "lost"), [(True, [1, 5]), (False, [])])
def test_only_what_was_finite_until_it_was_kept_has_overflowed(monkeypatch, half, lost):
    monkeypatch.setattr(descriptions, "MEMORY_BYTES", 0)
    described = PairDescriptions(half)
    for values in ([1.0, 1e6, np.nan], [np.inf, -65504.0, -1e6]):
        maps = np.array(values, np.float32)[:, None]
        described.append({"maps": maps, "vector": np.ones((3, 2), np.float32)})
    assert described.overflowed == lost
    assert np.flatnonzero(~described.finite()).tolist() == sorted({2, 3, *lost})


@pytest.mark.parametrize("half", [False, True])
def test_what_comes_back_from_disk_can_be_written_to_as_pytorch_wants(monkeypatch, half):
    monkeypatch.setattr(descriptions, "MEMORY_BYTES", 0)
    described, _ = filled(half)
    for arrays in (
        described.row(7),
        described.rows(np.array([7, 1])),
    ):
        assert all(array.flags.writeable for array in arrays.values())
    # A batch is read-only: a runner may keep it on a GPU.
    batch = next(described.batches(8))[1]
    assert not any(array.flags.writeable for array in batch.values())


def test_what_lies_on_disk_is_not_read_to_be_counted(monkeypatch):
    monkeypatch.setattr(descriptions, "MEMORY_BYTES", 0)
    monkeypatch.delattr(descriptions.os, "pread")
    described, maps = filled(half=True)
    assert len(described) == 8
    assert described.num_bytes == 8 * (10 + 2) * 2
    layouts = [descriptions.layout(piece, "maps") for piece in described.pieces]
    assert layouts == [(np.float16, (size, *maps.shape[1:])) for size in (3, 1, 4)]


def test_nothing_described_is_empty():
    described = PairDescriptions()
    assert len(described) == 0
    assert described.names == ()
    assert described.finite().shape == (0,)


def test_every_float16_comes_back_as_the_same_float32():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 16, 16)
    described = PairDescriptions(half=True)
    described.keep({"maps": every})
    rows, arrays = next(described.batches(256))
    assert rows == slice(0, 256)
    assert np.array_equal(arrays["maps"], every.astype(np.float32), equal_nan=True)
    # A view with gaps, as stored rows may be.
    described = PairDescriptions(half=True)
    described.keep({"maps": every[::2, :, ::3]})
    _, gaps = next(described.batches(128))
    assert np.array_equal(gaps["maps"], every[::2, :, ::3].astype(np.float32), equal_nan=True)


def test_a_full_disk_is_one_line_and_leaves_nothing_to_be_written(monkeypatch):
    monkeypatch.setattr(descriptions, "MEMORY_BYTES", 0)

    def on_a_full_disk(buffering):
        return open("/dev/full", "w+b", buffering=buffering)

    monkeypatch.setattr(descriptions.tempfile, "TemporaryFile", on_a_full_disk)
    described, one = PairDescriptions(), {"maps": np.ones((1, 2), np.float32)}
    described.append(one)
    with pytest.raises(OutputError, match="the disk is full"):
        described.append(one)
    assert len(described) == 1
