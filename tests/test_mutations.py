"""Seeded byte flips and truncations of every kind of file: refused in one line, or read unchanged.

What a format cannot tell stands in deploy/README.md.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from reid.caffe.files import read_weights, write_weights
from reid.caffe.schema import NetParameter
from reid.config.settings import TrainConfig
from reid.data.golden_crops import golden_crops
from reid.deploy.gallery import Confirmation, Where
from reid.deploy.gallery.opening import open_gallery
from reid.deploy.gallery.sealed import sealed_json
from reid.errors import ReidError
from reid.matching.files import load_descriptions, save_descriptions
from reid.matching.golden import Golden, load_golden, save_golden
from reid.model_file.manifest import METADATA_KEY, Manifest, write_manifest
from reid.model_file.onnx_seal import SEALED_KEY, SEALED_VALUE, seal_of
from reid.model_file.preprocess import Preprocess
from reid.runtime.onnx_runner import OnnxRunner
from reid.runtime.openvino_runner import OpenVinoRunner
from reid.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from reid.types import ImageRecord
from tests.deploy.gallery.conftest import entries_of, people_vectors, vector_matcher
from tests.runtime.test_openvino_runner import write_ir

CHANGES, MANY = 60, 600
"""Of each kind of file: at each run of the tests, and with `-m kills`."""

Read = Callable[[], object]


@dataclass(frozen=True)
class Kind:
    """A file to change, and a reader that gives all that it takes out of it."""

    file: Path
    read: Read
    always_read: bool = False
    """A cache: without it the answer is the same, so it is never refused."""


def changed(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three bytes changed, or the end cut off."""
    if rng.random() < 0.2:
        return content[: rng.integers(0, len(content))]
    new = bytearray(content)
    for place in rng.integers(0, len(new), rng.integers(1, 4)):
        new[place] ^= 1 << int(rng.integers(0, 8)) if rng.random() < 0.7 else rng.integers(1, 256)
    return bytes(new)


def digest(*parts: object) -> str:
    """Of arrays by their bytes, and of anything else by its words."""
    found = hashlib.sha256()
    for part in parts:
        array = part if isinstance(part, np.ndarray) else None
        found.update(repr(part).encode() if array is None else array.tobytes())
    return found.hexdigest()


def gallery_read(name: str, index: str = "exact") -> Read:
    """All that a gallery gives: every search result, entry and picture."""
    matcher = vector_matcher()
    queries = people_vectors(4, 10)[::7]

    def read() -> object:
        opened = open_gallery(name, matcher, index=index)
        found = opened.search(queries, 40) + opened.search(queries, 9, Where(cameras=("c1",)))
        if index != "exact":  # which rounds distances otherwise
            return digest([[match.id for match in matches] for matches in found])
        entries = [opened.entry(number) for number in range(-1, 42)]
        return digest(found, entries, opened.summary(), opened.confirmed(), opened.unknown(new))

    new = entries_of(50)
    return read


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A gallery of two files of rows, an index and confirmations."""
    gallery = open_gallery(str(tmp_path / "g"), vector_matcher(), create=True, index="binary")
    vectors, entries = people_vectors(4, 10), entries_of(40)
    entries = [
        dataclasses.replace(one, box=(1, 2, 3, 4), picture=b"jpeg" + bytes([i]), frame=i, seconds=i)
        for i, one in enumerate(entries)
    ]
    gallery.add(vectors[:30], entries[:30])
    gallery.add(vectors[30:], entries[30:])
    gallery.prepare()
    # As earlier versions wrote it.
    row = {"query": "ab", "id": 3, "same": True, "time_s": 1.5}
    earlier = {"format": "reid gallery confirmations 2", "confirmed": [row]}
    (tmp_path / "g/confirmed.json").write_text(sealed_json(earlier))
    assert gallery.confirmed() == [Confirmation("ab", 3, True, 1.5)]
    return tmp_path / "g"


def largest(gallery: Path) -> Path:
    """The largest of a gallery's two files of rows."""
    return max(gallery.glob("segment-*"), key=lambda path: path.stat().st_size)


def segment(folder: Path) -> Kind:
    gallery = open_gallery(str(folder / "g"), vector_matcher())
    assert len(gallery) == 40
    return Kind(
        max((folder / "g").glob("segment-*"), key=lambda path: path.stat().st_size),
        gallery_read(gallery.name),
    )


def head(folder: Path) -> Kind:
    return Kind(folder / "g/gallery.json", gallery_read(str(folder / "g")))


def confirmations(folder: Path) -> Kind:
    return Kind(folder / "g/confirmed.json", gallery_read(str(folder / "g")))


def index(folder: Path) -> Kind:
    file = folder / "g/index/index.safetensors"
    return Kind(file, gallery_read(str(folder / "g"), "binary"), always_read=True)


def features(folder: Path) -> Kind:
    file, matcher = folder / "features.safetensors", vector_matcher()
    records = [ImageRecord(Path(f"{i}.jpg"), i, i % 3) for i in range(40)]
    save_descriptions(file, matcher, people_vectors(4, 10), records)

    def read() -> object:
        found = load_descriptions(file, matcher)
        return digest(found.descriptions, *found.labels, found.names)

    return Kind(file, read)


def onnx_alone(folder: Path) -> Kind:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    preprocess = Preprocess(resize_height=6, resize_width=4, crop_height=6, crop_width=4)
    weights = np.random.default_rng(0).standard_normal((72, 3)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["data"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["embedding"]),
        ],
        "embed",
        [helper.make_tensor_value_info("data", TensorProto.FLOAT, ["batch", 3, 6, 4])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    model.metadata_props.add(key=SEALED_KEY, value=SEALED_VALUE)
    manifest = Manifest("msp_cnn", "embed", preprocess, output_dim=3)
    model.metadata_props.add(key=METADATA_KEY, value=manifest.to_json())
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    file = folder / "alone.onnx"
    file.write_bytes(content + seal_of(content))
    data = np.random.default_rng(1).standard_normal((2, 3, 6, 4)).astype(np.float32)

    def read() -> object:
        with closing(OnnxRunner(file, "cpu", 1)) as runner:
            return digest(runner.run({"data": data})["embedding"], runner.manifest)

    return Kind(file, read)


def openvino_weights(folder: Path) -> Kind:
    """The ``.bin`` beside an ``.xml``; the hash in the manifest covers both."""
    xml = write_ir(folder / "small.xml")
    data = np.random.default_rng(1).standard_normal((2, 3, 6, 4)).astype(np.float32)

    def read() -> object:
        with closing(OpenVinoRunner(xml, threads=1)) as runner:
            return digest(runner.run({"data": data})["embedding"], runner.manifest)

    return Kind(xml.with_suffix(".bin"), read)


def openvino_graph(folder: Path) -> Kind:
    return dataclasses.replace(openvino_weights(folder), file=folder / "small.xml")


def caffemodel(folder: Path) -> Kind:
    net = NetParameter(name="small")
    layer = net.layer.add(name="fc", type="InnerProduct", bottom=["data"], top=["fc"])
    layer.blobs.add(data=np.random.default_rng(0).standard_normal(200).tolist())
    file = folder / "small.caffemodel"
    write_weights(file, net)
    write_manifest(file, Manifest("msp_cnn", "embed", Preprocess()))
    return Kind(file, lambda: digest(read_weights(file).SerializeToString()))


def golden(folder: Path) -> Kind:
    crops = tuple(crop[::8, ::8] for crop in golden_crops(3))
    answers = people_vectors(1, 3)
    file = save_golden(Golden(crops, answers, "msp_cnn", "c0ffee", "fp32"), folder)

    def read() -> object:
        found = load_golden(file)
        return digest(*found.crops, found.answers, found.network, found.checkpoint, found.precision)

    return Kind(file, read)


def checkpoint(folder: Path) -> Kind:
    file = folder / "checkpoint.pt"
    generator = torch.Generator().manual_seed(0)
    state = {"weight": torch.randn(40, 10, generator=generator), "count": torch.tensor(3)}
    manifest = Manifest("msp_cnn", "train", Preprocess())
    training = {"momentum": torch.randn(40, 10, generator=generator)}
    save_checkpoint(file, Checkpoint(TrainConfig(), manifest, 7, state, 5, (0, 5, 5), training))

    def read() -> object:
        found = load_checkpoint(file)
        arrays = [found.model["weight"], found.model["count"], found.training["momentum"]]
        rest = (found.config, found.manifest, found.num_identities, found.step, found.position)
        return digest(*(array.numpy() for array in arrays), *rest)

    return Kind(file, read)


KINDS = (
    *(segment, head, confirmations, index, features),
    *(checkpoint, onnx_alone, openvino_weights, openvino_graph, caffemodel, golden),
)


@pytest.mark.parametrize("changes", [CHANGES, pytest.param(MANY, marks=pytest.mark.kills)])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_no_changed_file_is_read_with_other_content(
    kind: Callable[[Path], Kind], changes: int, filled: Path, tmp_path: Path
) -> None:
    one = kind(tmp_path)
    content, expected = one.file.read_bytes(), one.read()
    assert one.read() == expected
    rng = np.random.default_rng(19)
    refused: list[str] = []
    believed = []
    for number in range(changes):
        one.file.write_bytes(changed(content, rng))
        try:
            if one.read() != expected:
                believed.append(number)
        except ReidError as error:
            refused.append(str(error))
    one.file.write_bytes(content)
    assert believed == []
    assert not any("\n" in line for line in refused)
    # A file's unused bytes may change: a checkpoint's arrays are padded to 64 bytes.
    assert (len(refused) > changes * 0.8) != one.always_read
    assert one.read() == expected


def test_the_intact_images_of_a_changed_gallery_are_found_and_the_others_counted(
    filled: Path,
) -> None:
    queries = people_vectors(4, 10)[::7]
    matcher = vector_matcher()
    file = largest(filled)
    content, rng = file.read_bytes(), np.random.default_rng(5)
    whole = open_gallery(str(filled), matcher).search(queries, 40)
    some = 0
    for _ in range(CHANGES):
        file.write_bytes(changed(content, rng))
        opened = open_gallery(str(filled), matcher, index="exact", partial=True)
        found = opened.search(queries, 40)
        count = len(found[0])
        assert f"{40 - count} images are left out" in (opened.left_out or "0 images are left out")
        ids = {match.id for match in found[0]}
        assert found == [[match for match in one if match.id in ids] for one in whole]
        some += 10 < count < 40
    assert some > CHANGES / 3


@pytest.mark.parametrize("changes", [CHANGES, pytest.param(MANY, marks=pytest.mark.kills)])
def test_a_changed_file_of_verdicts_is_refused_or_ends_earlier(
    changes: int, filled: Path, tmp_path: Path
) -> None:
    """A file that ends earlier, at the end of a line, looks like an earlier file."""
    gallery = open_gallery(str(filled), vector_matcher())
    for number in range(20):
        gallery.confirm(Confirmation("cd" * 16, number, number % 2 == 0, float(number), "anna"))
    expected = gallery.confirmed()
    file = filled / "verdicts.jsonl"
    content, rng = file.read_bytes(), np.random.default_rng(19)
    refused: list[str] = []
    for _ in range(changes):
        file.write_bytes(changed(content, rng))
        try:
            found = open_gallery(str(filled), vector_matcher()).confirmed()
        except ReidError as error:
            refused.append(str(error))
        else:
            assert found == expected[: len(found)]
    assert not any("\n" in line for line in refused)
    assert len(refused) > changes / 4
