"""PairMatcher on numpy's runners: each pair scored once, in tiles, by the two graphs."""

from __future__ import annotations

import dataclasses
import errno
import os
import shutil
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import numpy as np
import pytest

import reid.matching
from reid.errors import ConfigError
from reid.matching import PairDescriptions, PairMatcher, open_matcher
from reid.model_file.manifest import BatchProfile, EngineInfo
from reid.runtime import Runner
from reid.types import FloatArray, Image
from tests.matching.conftest import DESCRIBED, PREPROCESS, TRAINED, CompareRunner, DescribeRunner


class CountingRunner(CompareRunner):
    """Writes down how many images each call compares a query with."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        self.calls.append(len(inputs["gallery_vector"]))
        return super().run(inputs)


def literal_distances(images: list[Image], num_query: int) -> FloatArray:
    """Each pair through the two graphs, one by one, in float32 throughout."""
    describe, compare = DescribeRunner(), CompareRunner()
    described = [describe.run({"data": PREPROCESS.batch([image])}) for image in images]
    table = np.zeros((num_query, len(images)), np.float32)
    for q in range(num_query):
        for g, other in enumerate(described):
            inputs = {f"query_{name}": array for name, array in described[q].items()}
            inputs |= {f"gallery_{name}": array for name, array in other.items()}
            table[q, g] = -compare.run(inputs)["score"][0]
    return table


def test_an_engine_for_large_batches_describes_and_compares_as_many_at_once() -> None:
    describe = DescribeRunner()
    assert PairMatcher(describe, CompareRunner()).num_compared == 128
    more = (BatchProfile(33, 128, 256),)
    engine = EngineInfo("sm90", "11.4.0", "tensorrt", 1, 8, 32, more_profiles=more)
    describe.manifest = dataclasses.replace(describe.manifest, engine=engine)
    large = PairMatcher(describe, CompareRunner())
    assert (large.batch_size, large.num_compared) == (256, 256)


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-6), (True, 1e-3)])
def test_distances_are_minus_the_scores_of_each_pair(images, half, tolerance):
    matcher = PairMatcher(DescribeRunner(), CompareRunner(), batch_size=4, half=half)
    query, gallery = matcher.describe(images[:3]), matcher.describe(images)
    rows = matcher.tiles(query, gallery)
    found = np.concatenate([rows(slice(0, 2)), rows(slice(2, 3))])
    expected = literal_distances(images, 3)
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    assert np.abs(expected - expected.T[:3, :11].mean()).max() > 0.01  # they do differ


def test_a_pair_is_compared_once_however_often_its_row_is_asked_for(images):
    compare = CompareRunner()
    matcher = PairMatcher(DescribeRunner(), compare, batch_size=4)
    query, gallery = matcher.describe(images[:3]), matcher.describe(images)
    done: list[int] = []
    rows = matcher.tiles(query, gallery, done.append)
    first = rows(slice(0, 3))
    again = rows(slice(0, 3))
    assert compare.compared == sum(done) == 3 * 11
    assert np.array_equal(first, again)


def test_what_a_caller_does_to_a_tile_does_not_change_what_is_kept(matcher, images):
    rows = matcher.tiles(matcher.describe(images[:2]), matcher.describe(images))
    block = rows(slice(0, 2))
    before = block.copy()
    block[:] = 0
    assert np.array_equal(rows(slice(0, 2)), before)


@pytest.mark.parametrize("best", [1, 5, 11])
def test_a_shortlist_compares_only_the_best_by_the_vector_and_puts_them_first(images, best):
    compare = CompareRunner()
    matcher = PairMatcher(DescribeRunner(), compare, batch_size=4)
    query, gallery = matcher.describe(images[:3]), matcher.describe(images)
    whole = matcher.tiles(query, gallery)(slice(0, 3))
    compare.compared = 0
    rows = matcher.tiles(query, gallery, best=best)
    found = rows(slice(0, 3))
    assert compare.compared == 3 * best
    vectors = gallery.whole("vector").astype(np.float64)
    for q in range(3):
        apart = np.linalg.norm(vectors - query.whole("vector")[q], axis=1)
        near = set(np.argsort(apart, kind="stable")[:best].tolist())
        assert set(np.argsort(found[q], kind="stable")[:best].tolist()) == near
        chosen = sorted(near)
        np.testing.assert_allclose(found[q, chosen], whole[q, chosen], rtol=1e-6)
        far = [g for g in range(11) if g not in near]
        order = np.argsort(found[q, far], kind="stable")
        assert np.all(np.diff(apart[far][order]) >= -1e-3)


def test_comparing_takes_no_more_memory_with_a_larger_gallery(monkeypatch):
    class Sums(Runner):
        def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
            return {"score": inputs["gallery_maps"].sum(1) + inputs["query_maps"].sum()}

    def peak_bytes(num_pieces: int) -> int:
        matcher = PairMatcher(DescribeRunner(), Sums(), batch_size=8)
        query, gallery = PairDescriptions(), PairDescriptions()
        query.append({"maps": np.ones((1, 30_000), np.float32)})
        for number in range(num_pieces):
            gallery.append({"maps": np.full((8, 30_000), number, np.float32)})
        tracemalloc.start()
        row = matcher.tiles(query, gallery)(slice(0, 1))
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert row[0, ::8].tolist() == [-30_000.0 * (number + 1) for number in range(num_pieces)]
        return peak

    monkeypatch.setattr("reid.matching.descriptions.MEMORY_BYTES", 0)
    assert peak_bytes(20) < 1.1 * peak_bytes(5)


def test_a_shortlist_longer_than_a_batch_is_compared_a_batch_at_a_time(images):
    def compared(batch_size: int) -> tuple[FloatArray, list[int], list[int]]:
        compare, done = CountingRunner(), list[int]()
        matcher = PairMatcher(DescribeRunner(), compare, batch_size)
        query, gallery = matcher.describe(images[:2]), matcher.describe(images)
        return matcher.tiles(query, gallery, done.append, 10)(slice(0, 2)), compare.calls, done

    whole, calls, _ = compared(64)
    assert calls == [10, 10]
    found, calls, done = compared(4)
    assert calls == done == [4, 3, 3] * 2
    assert np.array_equal(found, whole)


def no_room(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def _file_without_room(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(os, "posix_fallocate", no_room, raising=False)


def _disk_without_room(patch: pytest.MonkeyPatch) -> None:
    patch.delattr(os, "posix_fallocate", raising=False)  # as on macOS and Windows
    patch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=4 * 3 * 11 - 1))


def _no_file(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(tempfile, "TemporaryFile", no_room)


@pytest.mark.parametrize("fill", [_file_without_room, _disk_without_room, _no_file])
def test_without_room_for_the_distances_they_are_compared_again_and_one_line_says_so(
    images, monkeypatch: pytest.MonkeyPatch, fill: Callable[[pytest.MonkeyPatch], None]
):
    compare, said = CompareRunner(), list[str]()
    matcher = PairMatcher(DescribeRunner(), compare, batch_size=4)
    query, gallery = matcher.describe(images[:3]), matcher.describe(images)
    kept = matcher.tiles(query, gallery, say=said.append)(slice(0, 3))
    assert said == []
    fill(monkeypatch)
    rows = matcher.tiles(query, gallery, say=said.append)
    (line,) = said
    assert line.startswith(
        f"33 distances are not kept (0.0 MB in {tempfile.gettempdir()}: No space"
    )
    assert line.endswith("free some space, or set TMPDIR")
    compare.compared = 0
    assert np.array_equal(rows(slice(0, 3)), kept)
    assert np.array_equal(rows(slice(1, 3)), kept[1:])
    assert compare.compared == (3 + 2) * 11


def test_where_room_cannot_be_taken_but_is_there_the_distances_are_kept(
    images, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    compare = CompareRunner()
    matcher = PairMatcher(DescribeRunner(), compare, batch_size=4)
    rows = matcher.tiles(matcher.describe(images[:3]), matcher.describe(images), say=pytest.fail)
    assert np.array_equal(rows(slice(0, 3)), rows(slice(0, 3)))
    assert compare.compared == 3 * 11


def test_rows_that_were_asked_for_in_part_are_the_same_when_the_rest_is(images):
    compare = CompareRunner()
    matcher = PairMatcher(DescribeRunner(), compare, batch_size=4)
    query, gallery = matcher.describe(images[:5]), matcher.describe(images)
    whole = matcher.tiles(query, gallery)(slice(0, 5))
    compare.compared = 0
    rows = matcher.tiles(query, gallery)
    middle = rows(slice(2, 3))
    assert np.array_equal(rows(slice(0, 5)), whole)
    assert np.array_equal(middle, whole[2:3])
    assert compare.compared == 5 * 11


def test_a_shortlist_longer_than_the_gallery_is_one_line(matcher, images):
    described = matcher.describe(images)
    line = "of 1 to 11 images, as the gallery has 11, found 12; choose one of these, or 0 for all"
    with pytest.raises(ConfigError, match=line):
        matcher.tiles(described, described, best=12)
    with pytest.raises(ConfigError, match="found -1"):
        matcher.refuse_shortlist(-1, 11)
    matcher.refuse_shortlist(11, 11)


def test_a_shortlist_needs_the_ranking_vector():
    describe = DescribeRunner()
    describe.manifest = TRAINED.of_graph("describe", describe.manifest.inputs, DESCRIBED[:2])
    matcher = PairMatcher(describe, CompareRunner())
    with pytest.raises(ConfigError, match="needs the ranking vector"):
        matcher.refuse_shortlist(3, 11)
    matcher.refuse_shortlist(0, 11)


def test_time_of_comparing_is_measured_and_nothing_costs_nothing(matcher, images):
    described = matcher.describe(images)
    assert 0 < matcher.seconds(described, described) < 1
    assert matcher.seconds(matcher.describe([]), described) == 0
    assert matcher.tiles(described, matcher.describe([]))(slice(0, 2)).shape == (2, 0)


def test_time_of_a_shortlist_includes_what_each_query_costs(images, monkeypatch):
    now, costs = [0.0], [100.0, 0.0] * 3  # of two calls the first is slow
    queries: list[float] = []

    class Clocked(CompareRunner):
        def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
            queries.append(float(inputs["query_maps2"].sum()))
            now[0] += costs.pop(0) + 0.5 + 0.125 * len(inputs["gallery_vector"])
            return super().run(inputs)

    matcher = PairMatcher(DescribeRunner(), Clocked(), batch_size=4)
    query, gallery = matcher.describe(images[:3]), matcher.describe(images)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    assert matcher.seconds(query, gallery, best=2) == 3 * (0.5 + 0.125 * 2)
    assert matcher.seconds(query, gallery, best=6) == 3 * (0.5 + 0.125 * 3) * 2  # batches
    assert matcher.seconds(query, gallery) == 3 * (0.5 + 0.125 * 4) * 11 / 4
    # Of the query that is timed nothing is laid out yet.
    assert all(one != other for one, other in zip(queries[::2], queries[1::2], strict=True))


def test_a_model_of_pairs_works_through_128_images_at_once_unless_another_number_is_asked_for(
    images, monkeypatch: pytest.MonkeyPatch
):
    described: list[int] = []

    class Counted(DescribeRunner):
        def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
            described.append(len(inputs["data"]))
            return super().run(inputs)

    runners = {"describe": Counted(), "compare": CompareRunner()}
    monkeypatch.setattr(reid.matching, "open_runners", lambda *_: runners)
    for asked, first in ((None, 128), (5, 5)):
        described.clear()
        open_matcher(Path("run"), batch_size=asked).describe(images * 12)
        assert described[0] == first


@pytest.mark.parametrize(("cuts", "calls"), [(False, [4, 4, 3]), (True, [11])])
def test_a_runner_that_cuts_batches_itself_compares_many_images_at_once(images, cuts, calls):
    compare = CountingRunner()
    compare.cuts_batches = cuts
    matcher = PairMatcher(DescribeRunner(), compare, batch_size=4)
    query, gallery = matcher.describe(images[:1]), matcher.describe(images)
    found = matcher.tiles(query, gallery)(slice(0, 1))
    assert compare.calls == calls
    np.testing.assert_allclose(found, literal_distances(images, 1), rtol=1e-3)


@pytest.mark.parametrize("takes_half", [False, True])
def test_only_a_runner_that_takes_float16_is_given_a_gallery_of_it(images, takes_half):
    kinds = set()

    class Kinds(CompareRunner):
        def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
            kinds.add((inputs["query_maps2"].dtype, inputs["gallery_maps2"].dtype))
            return super().run(inputs)

    compare = Kinds()
    compare.takes_half = takes_half
    matcher = PairMatcher(DescribeRunner(), compare, batch_size=4)
    query, gallery = matcher.describe(images[:1]), matcher.describe(images)
    found = matcher.tiles(query, gallery)(slice(0, 1))
    assert kinds == {(np.dtype("float32"), np.dtype("float16" if takes_half else "float32"))}
    np.testing.assert_allclose(found, literal_distances(images, 1), rtol=3e-3)


def test_images_that_are_not_finite_in_storage_are_named(images):
    matcher = PairMatcher(DescribeRunner(scale=1e6), CompareRunner(), batch_size=4)
    assert not matcher.finite(matcher.describe(images)).any()  # beyond float16
    single = PairMatcher(DescribeRunner(scale=1e6), CompareRunner(), batch_size=4, half=False)
    assert single.finite(single.describe(images)).all()


def test_closing_closes_both_graphs():
    describe, compare = DescribeRunner(), CompareRunner()
    PairMatcher(describe, compare).close()
    assert (describe.closed, compare.closed) == (1, 1)


def test_batch_below_one_is_refused():
    with pytest.raises(ValueError, match="at least 1, found 0"):
        PairMatcher(DescribeRunner(), CompareRunner(), batch_size=0)
