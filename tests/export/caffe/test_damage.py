"""Random bytes changed in valid Caffe files: a result or one line, never another exception."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reid.caffe.files import read_net, read_weights, write_net
from reid.caffe.schema import NetParameter
from reid.errors import CaffeError
from reid.export.caffe.compare import check_graph
from reid.export.caffe.graph import traced_layers
from reid.export.caffe.layers import CaffeLayer
from reid.export.caffe.net import all_layers
from reid.export.caffe.weights import Source, fill_state

FLIPS = 1000
PART = 60
"""Layers of the graph whose text is changed: enough for two Inception branches and a pool."""


def flipped(data: bytes, count: int) -> Iterator[bytes]:
    """``data`` with one to four bytes changed, ``count`` times, the same ones each time."""
    generator = np.random.default_rng(0)
    for _ in range(count):
        changed = bytearray(data)
        for position in generator.integers(0, len(data), generator.integers(1, 5)):
            changed[position] = generator.integers(0, 256)
        yield bytes(changed)


@pytest.fixture(scope="module")
def layers(caffe_run: Any) -> tuple[CaffeLayer, ...]:
    return traced_layers(caffe_run.network, (3, 144, 56))


def outcomes(attempts: Iterator[Any]) -> tuple[int, int]:
    """(read, refused) of the attempts, each a context in which one file is tried."""
    errors = []
    read = 0
    for attempt in attempts:
        try:
            attempt()
            read += 1
        except CaffeError as error:
            errors.append(str(error))
    assert not any("\n" in error for error in errors)
    return read, len(errors)


def test_a_prototxt_with_changed_bytes_is_compared_or_refused(
    caffe_run: Any, layers: tuple[CaffeLayer, ...], tmp_path: Path
) -> None:
    net = read_net(caffe_run.prototxt).message
    del net.layer[PART:]
    path = tmp_path / "a.prototxt"
    write_net(path, net)

    def attempt(data: bytes) -> Any:
        def run() -> None:
            path.write_bytes(data)
            found = all_layers(read_net(path).message, "a.prototxt")
            check_graph(layers[:PART], found, "a.prototxt")

        return run

    read, refused = outcomes(map(attempt, flipped(path.read_bytes(), FLIPS)))
    assert read + refused == FLIPS
    assert refused > FLIPS / 2


def test_a_caffemodel_with_changed_bytes_is_imported_or_refused(
    caffe_run: Any, layers: tuple[CaffeLayer, ...], tmp_path: Path
) -> None:
    # Only the small layers, so that the changes do not all fall on a convolution's numbers.
    names = [layer.name for layer in layers if layer.type in ("BatchNorm", "Scale")][:20]
    stored = read_weights(caffe_run.caffemodel)
    net = NetParameter(name="small")
    net.layer.extend(layer for layer in stored.layer if layer.name in names)
    path = tmp_path / "a.caffemodel"
    small = tuple(layer for layer in layers if layer.name in names)
    state = copy.deepcopy(caffe_run.network.state_dict())

    def attempt(data: bytes) -> Any:
        def run() -> None:
            path.write_bytes(data)
            fill_state(state, small, Source(read_weights(path), "a.caffemodel", "inverse_std"))

        return run

    read, refused = outcomes(map(attempt, flipped(net.SerializeToString(), FLIPS)))
    assert read + refused == FLIPS
    assert min(read, refused) > FLIPS / 20
