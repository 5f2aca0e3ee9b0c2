"""Caffe's files: round trips, and every way in which one can be wrong."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from reid.caffe import files
from reid.caffe.files import (
    MAX_TEXT_BYTES,
    blob_array,
    blob_from_array,
    read_net,
    read_solver,
    read_weights,
    write_net,
    write_weights,
)
from reid.caffe.schema import BlobProto, BlobShape, LayerParameter, NetParameter
from reid.errors import CaffeError, ReidError

HEAD = ("channel order BGR", "", "mean 102, 102, 101")


def small_net() -> NetParameter:
    """Two layers with weights."""
    rng = np.random.default_rng(0)
    net = NetParameter(name="small")
    conv = net.layer.add(name="conv1", type="Convolution", bottom=["data"], top=["conv1"])
    conv.convolution_param.num_output = 4
    conv.convolution_param.kernel_size.append(3)
    for shape in ((4, 3, 3, 3), (4,)):
        conv.blobs.append(blob_from_array(rng.standard_normal(shape).astype(np.float32)))
    norm = net.layer.add(name="conv1_bn", type="BatchNorm", bottom=["conv1"], top=["conv1_bn"])
    for shape in ((4,), (4,), (1,)):
        norm.blobs.append(blob_from_array(rng.random(shape, np.float32)))
    return net


def test_a_prototxt_and_its_head_come_back(tmp_path: Path) -> None:
    net = small_net()
    for layer in net.layer:
        layer.ClearField("blobs")
    write_net(tmp_path / "net.prototxt", net, HEAD)
    found = read_net(tmp_path / "net.prototxt")
    assert found.head == HEAD
    assert found.message == net
    write_net(tmp_path / "again.prototxt", found.message, found.head)
    first, again = ((tmp_path / f"{n}.prototxt").read_bytes() for n in ("net", "again"))
    assert first == again


def test_windows_line_ends_and_a_byte_order_mark_are_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(b'\xef\xbb\xbf# one\r\nname: "a"\r\nodd {\r\n  x: 1\r\n}\r\n')
    found = read_net(path)
    assert (found.head, found.message.name) == (("one",), "a")
    assert list(found.message.unknown_text) == ["odd {\n  x: 1\n}"]


def test_weights_come_back_bit_by_bit(tmp_path: Path) -> None:
    values = np.array([0.1, -0.0, np.inf, np.nan, 1e-42, 3.4e38], np.float32).reshape(1, 2, 3)
    net = small_net()
    net.layer[0].blobs.append(blob_from_array(values))
    write_weights(tmp_path / "net.caffemodel", net)
    found = read_weights(tmp_path / "net.caffemodel")
    assert blob_array(found.layer[0].blobs[2]).tobytes() == values.tobytes()
    assert blob_array(found.layer[0].blobs[0]).shape == (4, 3, 3, 3)
    assert found.SerializeToString() == net.SerializeToString()


def test_what_is_written_is_what_protobuf_would_write(tmp_path: Path) -> None:
    net = small_net()
    net.input.append("data")
    write_weights(tmp_path / "net.caffemodel", net)
    assert (tmp_path / "net.caffemodel").read_bytes() == net.SerializeToString()


def test_without_protoc_and_in_pure_python_the_files_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    write_weights(path, small_net())
    code = """
import pathlib, sys
from google.protobuf.internal import api_implementation
from reid.caffe import files
from reid.errors import CaffeError
path = pathlib.Path(sys.argv[1])
net = files.read_weights(path)
files.write_weights(path.with_name("again"), net)
path.write_bytes(path.read_bytes()[:-7])
try:
    files.read_weights(path)
except CaffeError as error:
    print(api_implementation.Type(), files.blob_array(net.layer[0].blobs[0]).shape, len(str(error)))
"""
    before = path.read_bytes()
    environment = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": "python", "PATH": ""}
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("python (4, 3, 3, 3) "), done.stderr
    assert (tmp_path / "again").read_bytes() == before


def test_layers_that_are_given_replace_the_net_s_own(tmp_path: Path) -> None:
    net = small_net()
    other = [LayerParameter(name=f"l{i}") for i in range(3)]
    write_weights(tmp_path / "net.caffemodel", net, iter(other))
    found = read_weights(tmp_path / "net.caffemodel")
    assert (found.name, list(found.layer)) == ("small", other)
    assert [layer.name for layer in net.layer] == ["conv1", "conv1_bn"]


def test_more_than_protobuf_can_read_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MAX_BINARY_BYTES", 400)
    with pytest.raises(CaffeError, match="expected at most 2 GB of weights"):
        write_weights(tmp_path / "net.caffemodel", small_net())
    assert list(tmp_path.iterdir()) == []


def with_manifest(folder: Path, manifest: str) -> Path:
    """Weights with a manifest of their hash, which stands where ``manifest`` says HASH."""
    path = folder / "net.caffemodel"
    write_weights(path, small_net())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    (folder / "net.caffemodel.json").write_text(manifest.replace("HASH", sha256))
    return path


def test_every_changed_byte_of_weights_is_found_by_the_manifest_beside(tmp_path: Path) -> None:
    path = with_manifest(tmp_path, '{"file_sha256": "HASH"}')
    content = path.read_bytes()
    assert len(read_weights(path).layer) == 2
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x80]) + content[place + 1 :])
        with pytest.raises(CaffeError):
            read_weights(path)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CaffeError, match=r"expected SHA-256 [0-9a-f]{12}\.\.\., found") as caught:
        read_weights(path)
    assert "remove the .json" in str(caught.value)


@pytest.mark.parametrize("manifest", ["{}", "[]", '{"file_sha256": ""}'])
def test_a_json_file_without_a_hash_says_nothing_of_the_weights(
    tmp_path: Path, manifest: str
) -> None:
    assert len(read_weights(with_manifest(tmp_path, manifest)).layer) == 2


@pytest.mark.parametrize("manifest", ["", '{"file_sha256": "HA', "[" * 100_000])
def test_a_manifest_of_weights_that_cannot_be_read_is_one_line(
    tmp_path: Path, manifest: str
) -> None:
    with pytest.raises(CaffeError, match="should be the manifest of net") as caught:
        read_weights(with_manifest(tmp_path, manifest))
    assert "\n" not in str(caught.value)


def test_unknown_fields_survive_in_weights_and_those_of_text_stay_out(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    unknown = b"\xf8\x07\x05"  # field 127, a number
    path.write_bytes(small_net().SerializeToString() + unknown)
    net = read_weights(path)
    write_weights(path, net)
    binary = path.read_bytes()
    assert unknown in binary
    net.layer[0].convolution_param.unknown_text.append("engine: CUDNN")
    write_weights(path, net)
    assert path.read_bytes() == binary
    assert list(net.layer[0].convolution_param.unknown_text) == ["engine: CUDNN"]


def test_a_binary_file_cannot_smuggle_text_in(tmp_path: Path) -> None:
    net = small_net()
    net.layer[1].unknown_text.append('} layer { name: "mine" }')
    (tmp_path / "net.caffemodel").write_bytes(net.SerializeToString())
    assert not len(read_weights(tmp_path / "net.caffemodel").layer[1].unknown_text)


def test_a_solver_reads(tmp_path: Path) -> None:
    (tmp_path / "solver.prototxt").write_text("base_lr: 0.1\nstepvalue: 3\nstepvalue: 5\n")
    assert list(read_solver(tmp_path / "solver.prototxt").stepvalue) == [3, 5]


def test_a_legacy_blob_has_its_four_numbers_as_shape() -> None:
    blob = BlobProto(num=1, channels=1, height=2, width=3, data=range(6))
    assert blob_array(blob).tolist() == [[[[0, 1, 2], [3, 4, 5]]]]


def test_double_data_is_read_as_float32() -> None:
    blob = BlobProto(shape=BlobShape(dim=[2]), double_data=[0.1, 1e300])
    found = blob_array(blob)
    assert found.dtype == np.float32
    assert found.tolist() == [np.float32(0.1), np.inf]


def test_numbers_that_are_not_packed_are_read_too() -> None:
    # data as three fields of their own, as an older protobuf may write it; shape (3).
    one = b"\x2d\x00\x00\x80\x3f"
    blob = BlobProto.FromString(one * 3 + b"\x3a\x03\x0a\x01\x03")
    assert blob_array(blob).tolist() == [1, 1, 1]


def test_an_array_s_blob_is_its_own_copy() -> None:
    array = np.zeros((2, 2), np.float64)
    blob = blob_from_array(array.T)
    array[0, 1] = 1
    assert blob_array(blob).sum() == 0
    assert blob_array(blob).flags.writeable


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (
            BlobProto(shape=BlobShape(dim=[2, 3]), data=[1] * 5),
            "6 values for shape (2, 3), found 5",
        ),
        (BlobProto(shape=BlobShape(dim=[-1, -5]), data=[1] * 5), "found shape (-1, -5)"),
        (BlobProto(shape=BlobShape(dim=[1 << 40, 1 << 40])), "at most 2147483647 values"),
        (BlobProto(shape=BlobShape(dim=[1] * 33), data=[1]), "at most 32 axes, found 33"),
        (BlobProto(num=1, channels=-2, height=3, width=4), "found shape (1, -2, 3, 4)"),
        (BlobProto(data=[1, 2]), "1 values for shape (), found 2"),
    ],
)
def test_a_blob_whose_count_and_shape_disagree_is_refused(blob: BlobProto, message: str) -> None:
    with pytest.raises(CaffeError) as caught:
        blob_array(blob, "conv1 blob 0")
    assert str(caught.value).startswith("conv1 blob 0: ")
    assert message in str(caught.value)


def test_v1_layers_are_refused_in_both_forms(tmp_path: Path) -> None:
    text, binary = tmp_path / "old.prototxt", tmp_path / "old.caffemodel"
    text.write_text('layers { name: "conv1" type: CONVOLUTION }')
    binary.write_bytes(b"\x12\x02\x28\x04")
    with pytest.raises(CaffeError, match=r"1 layers .*V1 .*upgrade_net_proto"):
        read_net(text)
    with pytest.raises(CaffeError, match="V1"):
        read_weights(binary)


def test_one_form_given_as_the_other_is_refused(tmp_path: Path) -> None:
    text, binary = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    write_net(text, small_net())
    write_weights(binary, small_net())
    with pytest.raises(CaffeError) as caught:
        read_weights(text)
    assert str(caught.value).startswith(
        f"{text} is a prototxt (text), expected a caffemodel (binary)"
    )
    for read in (read_net, read_solver):
        with pytest.raises(CaffeError) as caught:
            read(binary)
        assert str(caught.value).startswith(
            f"{binary} is a caffemodel (binary), expected a prototxt (text)"
        )


def test_what_a_file_is_comes_before_how_large_it_is(tmp_path: Path) -> None:
    net, path = small_net(), tmp_path / "large"
    net.layer[0].blobs.append(blob_from_array(np.ones(MAX_TEXT_BYTES // 4)))
    write_weights(path, net)
    assert path.stat().st_size > MAX_TEXT_BYTES
    with pytest.raises(CaffeError, match="is a caffemodel"):
        read_net(path)
    path.write_text("# \u00e9" * MAX_TEXT_BYTES, encoding="utf-8")  # cut within a character
    with pytest.raises(CaffeError, match=f"at most {MAX_TEXT_BYTES} bytes"):
        read_net(path)
    with pytest.raises(CaffeError, match=r"is text, expected a caffemodel"):
        read_weights(path)


def test_text_with_a_byte_that_is_none_is_damaged(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    for text in (b'\nname: "a\xff"\n', b'\nname: "\xc3', b'\nname: "#\xc3"  # \xff'):
        path.write_bytes(text)
        with pytest.raises(CaffeError, match=r"net\.prototxt:2: damaged, or not UTF-8 text"):
            read_net(path)


def test_a_caffemodel_cut_short_anywhere_is_refused_or_smaller(tmp_path: Path) -> None:
    data = small_net().SerializeToString()
    path = tmp_path / "net.caffemodel"
    ends_of_layers, refusals = 0, []
    for length in range(len(data)):
        path.write_bytes(data[:length])
        try:
            ends_of_layers += len(read_weights(path).layer) < 2
        except CaffeError as error:
            refusals.append(str(error))
    assert ends_of_layers == 1
    assert not any("\n" in line for line in refusals)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty; expected a caffemodel"),
        (b"\x0a\x01n", "has no layers"),
        (b"\xa2\x06\x00" * 65_537, "at most 65536 layers, found 65537"),
        (b"\xa2\x06\x04\x0a\x02\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_what_holds_no_network_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "net.caffemodel").write_bytes(data)
    with pytest.raises(CaffeError, match=message):
        read_weights(tmp_path / "net.caffemodel")


def peak_growth(code: str, path: Path) -> tuple[str, int]:
    """What a process of its own prints, and by how many bytes ``code`` raised its peak."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("the peak of a process is read from /proc")
    program = f"""
import re, pathlib
from reid.caffe import files
from reid.errors import CaffeError
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
path, before = pathlib.Path({str(path)!r}), peak()
{code}
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *said, grown = done.stdout.splitlines()
    return "\n".join(said), int(grown) * 1024


def test_a_length_of_two_gigabytes_in_a_small_file_takes_no_memory(tmp_path: Path) -> None:
    # layer { blobs { data: <2 GB that are not there> } }
    huge = b"\xff\xff\xff\xff\x07"
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"\xa2\x06" + huge + b"\x3a" + huge + b"\x2a" + huge + b"\x00" * 16)
    code = """
try:
    files.read_weights(path)
except CaffeError as error:
    print("refused" if "truncated or damaged" in str(error) else error)
"""
    said, grown = peak_growth(code, path)
    assert said == "refused"
    assert grown < 32 << 20


def test_a_file_of_more_than_two_gigabytes_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    with open(path, "wb") as file:
        file.write(small_net().SerializeToString())
        file.truncate(1 << 31)  # a hole, which takes no disk
    code = """
try:
    files.read_weights(path)
except CaffeError as error:
    print("refused" if "at most 2147483647 bytes of a caffemodel" in str(error) else error)
"""
    said, grown = peak_growth(code, path)
    assert said == "refused"
    assert grown < 32 << 20


def test_a_missing_file_a_folder_and_a_huge_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CaffeError, match=r"cannot read a prototxt from .*: No such file"):
        read_net(tmp_path / "none.prototxt")
    with pytest.raises(CaffeError, match=r"cannot read a caffemodel from .*: Is a directory"):
        read_weights(tmp_path)
    (tmp_path / "long.prototxt").write_bytes(b" " * (MAX_TEXT_BYTES + 1))
    with pytest.raises(CaffeError, match=f"at most {MAX_TEXT_BYTES} bytes"):
        read_net(tmp_path / "long.prototxt")


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, removed, doubled, or everything from a place on cut off."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(changed))
        match rng.randrange(5):
            case 0:
                changed[place] ^= 1 << rng.randrange(8)
            case 1:
                changed[place] = rng.randrange(256)
            case 2:
                del changed[place : place + rng.randint(1, 8)]
            case 3:
                changed[place:place] = changed[place : place + rng.randint(1, 8)]
            case _ if place:
                del changed[place:]
        changed = changed or bytearray(b"\0")
    return bytes(changed)


def test_damaged_caffemodels_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    rng, path = random.Random(0), tmp_path / "net.caffemodel"
    data = small_net().SerializeToString()
    refusals = []
    for _ in range(300):
        path.write_bytes(damaged(data, rng))
        try:
            net = read_weights(path)
            for layer in net.layer:
                for blob in layer.blobs:
                    blob_array(blob, layer.name)
            write_weights(path, net)
            write_net(path, net)
        except ReidError as error:
            refusals.append(str(error))
    assert 50 < len(refusals) < 300
    assert not any("\n" in line.strip() for line in refusals)


def test_damaged_prototxts_are_read_or_refused_in_one_line(tmp_path: Path) -> None:
    rng, path = random.Random(0), tmp_path / "net.prototxt"
    net = small_net()
    for layer in net.layer:
        layer.ClearField("blobs")
        layer.unknown_text.append('odd { a: "x" b: [1, 2] }')
    write_net(path, net, HEAD)
    data = path.read_bytes()
    refusals = []
    for _ in range(300):
        path.write_bytes(damaged(data, rng))
        try:
            found = read_net(path)
            write_net(path, found.message, found.head)
            assert read_net(path).message == found.message
        except ReidError as error:
            refusals.append(str(error))
    assert 50 < len(refusals) < 300
    assert not any("\n" in line.strip() for line in refusals)


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A caffemodel of ten layers of 4 MiB."""
    layers = (
        LayerParameter(name=f"l{index}", blobs=[blob_from_array(np.ones(1 << 20))])
        for index in range(10)
    )
    write_weights(tmp_path / "large.caffemodel", NetParameter(), layers)
    return tmp_path / "large.caffemodel"


def test_reading_takes_at_most_three_times_the_file(large: Path) -> None:
    code = """
net = files.read_weights(path)
arrays = [files.blob_array(blob) for layer in net.layer for blob in layer.blobs]
print(sum(array.nbytes for array in arrays))
"""
    said, grown = peak_growth(code, large)
    assert int(said) == 40 << 20
    assert 2 < grown / large.stat().st_size <= 3


def test_writing_takes_at_most_three_times_the_file(large: Path) -> None:
    """With the net that is written, which takes its own size."""
    made = """
def layer(index):
    blob = files.blob_from_array(numpy.ones(1 << 20, numpy.float32))
    return files.LayerParameter(name=f"l{index}", blobs=[blob])
import numpy
"""
    code = f"""{made}
net = files.NetParameter(layer=[layer(index) for index in range(10)])
files.write_weights(path, net)
"""
    _, grown = peak_growth(code, large)
    assert 1 < grown / large.stat().st_size <= 3
    before = large.read_bytes()
    code = f"""{made}
files.write_weights(path, files.NetParameter(), map(layer, range(10)))
"""
    _, grown = peak_growth(code, large)
    assert grown / large.stat().st_size < 1
    assert large.read_bytes() == before


@pytest.mark.parametrize("comment", [b"\xd0\xd0\xc8\xcb", b"r\xe9seau", "\u884c".encode()])
def test_comments_of_any_encoding_are_read(tmp_path: Path, comment: bytes) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(b"# " + comment + b'\nname: "a # b"  # ' + comment + b"\n")
    found = read_net(path)
    assert found.message.name == "a # b"
    write_net(tmp_path / "again.prototxt", found.message, found.head)
    assert read_net(tmp_path / "again.prototxt").message.name == "a # b"
    path.write_bytes(b"base_lr: 0.01  # " + comment + b"\nmax_iter: 40\n")
    assert read_solver(path).max_iter == 40


def test_a_pipe_in_place_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (read_net, read_solver, read_weights):
        with pytest.raises(CaffeError, match="it is not a regular file"):
            read(tmp_path / "pipe")
