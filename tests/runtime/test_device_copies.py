"""What stays on a GPU between queries; here the copies are made on the CPU, and counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from reid.matching import PairDescriptions
from reid.runtime.device_copies import DeviceCopies
from reid.runtime.torch_runner import TorchRunner
from reid.types import FloatArray

ARRAY_BYTES = 40


class Copies(DeviceCopies):
    """Counts the copies."""

    def __init__(self, budget_bytes: int) -> None:
        super().__init__(self.copied, budget_bytes)
        self.num = 0

    def copied(self, array: FloatArray) -> Tensor:
        self.num += 1
        return torch.tensor(array)

    def new(self, *arrays: FloatArray) -> int:
        """How many copies a call makes; the tensors must be the arrays."""
        before = self.num
        for tensor, array in zip(self.of(arrays), arrays, strict=True):
            np.testing.assert_array_equal(tensor.numpy(), array)
        return self.num - before


def stored(value: float) -> FloatArray:
    array = np.full(ARRAY_BYTES // 4, value, np.float32)
    array.flags.writeable = False
    return array


def test_a_read_only_array_is_copied_once_and_a_writable_one_each_time() -> None:
    copies, gallery, query = Copies(1 << 20), stored(1), np.zeros(3, np.float32)
    assert copies.new(query, gallery) == 2
    query += 1
    assert copies.new(query, gallery) == 1


def test_beyond_the_budget_what_was_kept_first_stays_and_the_last_call_is_kept_too() -> None:
    copies, gallery = Copies(2 * ARRAY_BYTES), [stored(value) for value in range(4)]
    assert [copies.new(array) for array in gallery] == [1, 1, 1, 1]
    assert [copies.new(array) for array in gallery] == [0, 0, 1, 1]
    # A batch is compared with several queries in a row.
    assert [copies.new(array) for array in (gallery[3], gallery[3], gallery[2])] == [0, 0, 1]


def test_a_copy_goes_with_its_array_and_leaves_its_room_to_another() -> None:
    copies = Copies(ARRAY_BYTES)
    for value in range(20):
        array = stored(value)  # often in the memory, and by the number, of the one before
        assert copies.new(array) == 1
        assert copies.new(array) == 0
        assert len(copies._kept) == 1
        del array
    assert copies._kept == {}


def test_a_batch_that_is_kept_is_not_confused_with_the_next_in_the_same_buffer() -> None:
    """Pieces that a batch does not fit in are joined in memory that is used again."""
    descriptions = PairDescriptions()
    for piece in (np.arange(300), np.arange(300, 600)):
        descriptions.append({"maps": piece[:, None].astype(np.float32)})
    copies = Copies(1 << 20)
    for _ in range(2):
        for rows, arrays in descriptions.batches(250, half=True):
            (tensor,) = copies.of([arrays["maps"]])
            np.testing.assert_array_equal(tensor[:, 0], np.arange(rows.start, rows.stop))


class Widening(nn.Module):
    """As much of a network that compares pairs as the runner sees."""

    takes_half = True

    def forward(self, query: Tensor, gallery: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        product = query * gallery.float()
        return (product.sum((1, 2)) * weight.float())[:, None], product


def test_a_stored_gallery_goes_to_the_gpu_once_for_all_queries(comparison: Any) -> None:
    inputs = comparison.inputs(6)
    descriptions = PairDescriptions()
    for rows in (slice(0, 3), slice(3, 6)):
        descriptions.append({name: inputs[name][rows] for name in ("gallery", "weight")})
    with TorchRunner(Widening(), comparison.manifest, device="cpu") as runner:
        assert runner._copies is None  # on a CPU nothing is copied
        expected = []
        for copies in (None, Copies(1 << 20)):
            runner._copies = copies
            for _ in range(3):
                query = inputs["query"].copy()
                batches = [arrays for _, arrays in descriptions.batches(3, half=True)]
                answers = [runner.run({"query": query, **arrays}) for arrays in batches]
                expected.append(np.concatenate([answer["score"] for answer in answers]))
    assert copies.num == 4 + 3 * 2  # two arrays of two batches, and each query with each batch
    for found in expected:
        np.testing.assert_array_equal(found, expected[0])


def test_batches_are_read_only_and_the_same_objects_each_time(comparison: Any) -> None:
    descriptions = PairDescriptions()
    descriptions.append({"maps": np.ones((4, 2), np.float32)})
    first, again = ([arrays["maps"] for _, arrays in descriptions.batches(2, True)] for _ in "12")
    assert all(one is other for one, other in zip(first, again, strict=True))
    with pytest.raises(ValueError, match="read-only"):
        first[0][:] = 0
    # Until images are added, which may move the others.
    descriptions.append({"maps": np.ones((1, 2), np.float32)})
    (_, arrays), *_ = descriptions.batches(2, True)
    assert arrays["maps"] is not first[0]
