"""Triton's configuration, parsed by Triton's own protobuf messages."""

from __future__ import annotations

import dataclasses
import errno
import importlib.metadata
import importlib.util
import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from reid.cli import main
from reid.deploy.bundle import repository, writing
from reid.deploy.bundle.triton import config_text, triton_models
from reid.deploy.bundle.writing import bundle_deepstream, bundle_triton
from reid.errors import ConfigError, OutputError
from reid.matching.golden import find_golden, load_golden
from reid.model_file.manifest import BatchProfile, EngineInfo, Manifest, write_manifest
from reid.model_file.preprocess import Preprocess
from reid.types import ArraySpec
from tests.deploy.conftest import Served

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def messages() -> Any:
    """``model_config_pb2`` of tritonclient, without the package around it, which wants grpcio."""
    pytest.importorskip("google.protobuf")
    try:
        files = importlib.metadata.files("tritonclient") or []
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("tritonclient is not installed: pip install tritonclient")
    (found,) = [file for file in files if str(file).endswith("grpc/model_config_pb2.py")]
    spec = importlib.util.spec_from_file_location("model_config_pb2", found.locate())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parsed(messages: Any, text: str) -> Any:
    from google.protobuf import text_format

    return text_format.Parse(text, messages.ModelConfig())


def engine_of(manifest: Manifest, architecture: str) -> Manifest:
    info = EngineInfo(architecture, "10.3.0", "tensorrt", 1, 8, 32)
    return dataclasses.replace(manifest, engine=info)


EMBED = Manifest("msp_cnn", "embed", Preprocess().resize_only(), checkpoint_sha256="c0ffee")


def test_a_vector_network_is_batched_and_its_manifest_travels(messages: Any) -> None:
    models = triton_models([(Path("msp_cnn.fp16.onnx"), EMBED)])
    config = parsed(messages, config_text(models, "people", 16))
    assert (config.name, config.platform) == ("people", "onnxruntime_onnx")
    assert (config.max_batch_size, config.default_model_filename) == (16, "model.onnx")
    (data,), (embedding,) = config.input, config.output
    assert (data.name, list(data.dims)) == ("data", [3, 160, 64])
    assert (embedding.name, list(embedding.dims)) == ("embedding", [256])
    assert data.data_type == embedding.data_type == messages.TYPE_FP32
    assert list(config.dynamic_batching.preferred_batch_size) == [16]
    kept = config.parameters["reid.manifest"].string_value
    assert Manifest.from_json(kept, "config.pbtxt") == EMBED


def test_several_engines_are_chosen_by_compute_capability(messages: Any) -> None:
    files = [
        (Path("a.engine"), engine_of(EMBED, "sm87")),
        (Path("b.engine"), engine_of(EMBED, "sm120")),
    ]
    models = triton_models(files)
    config = parsed(messages, config_text(models, "people", 32))
    assert config.platform == "tensorrt_plan"
    assert dict(config.cc_model_filenames) == {
        "8.7": "model_sm8.7.plan",
        "12.0": "model_sm12.0.plan",
    }
    assert config.default_model_filename == models[0].name == "model_sm8.7.plan"
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 32]


def test_all_profiles_of_an_engine_are_offered_and_its_largest_batch_is_taken(
    messages: Any,
) -> None:
    manifest = engine_of(EMBED, "sm87")
    assert manifest.engine is not None
    several = dataclasses.replace(
        manifest.engine, max_batch=8, more_profiles=(BatchProfile(9, 16, 64),)
    )
    models = triton_models([(Path("a.engine"), dataclasses.replace(manifest, engine=several))])
    config = parsed(messages, config_text(models, "people", several.largest_batch))
    assert config.max_batch_size == 64
    (group,) = config.instance_group
    assert (list(group.profile), group.count) == (["0", "1"], 1)
    assert group.kind == messages.ModelInstanceGroup.KIND_GPU
    assert list(config.dynamic_batching.preferred_batch_size) == [8, 16, 64]
    smaller = parsed(messages, config_text(models, "people", 12))
    assert list(smaller.dynamic_batching.preferred_batch_size) == [8, 12]
    one = [(Path("b.engine"), engine_of(EMBED, "sm87"))]
    assert not parsed(messages, config_text(triton_models(one), "b", 32)).instance_group


def test_engines_of_other_profiles_do_not_share_a_folder() -> None:
    manifest = engine_of(EMBED, "sm120")
    assert manifest.engine is not None
    several = dataclasses.replace(manifest.engine, more_profiles=(BatchProfile(33, 48, 64),))
    other = dataclasses.replace(manifest, engine=several)
    with pytest.raises(ConfigError, match=r"found 1-8-32 and 1-8-32\+33-48-64"):
        triton_models([(Path("a.engine"), engine_of(EMBED, "sm87")), (Path("b.engine"), other)])


def test_a_graph_with_an_array_of_no_batch_spells_its_sizes_out(messages: Any) -> None:
    compare = dataclasses.replace(
        EMBED,
        stage="compare",
        inputs=(ArraySpec("query", (4, 2), batched=False), ArraySpec("gallery", (4, 2))),
        outputs=(ArraySpec("score", ()),),
    )
    models = triton_models([(Path("csn.compare.fp32.onnx"), compare)])
    config = parsed(messages, config_text(models, "compare", 16))
    assert config.max_batch_size == 0
    assert [list(one.dims) for one in config.input] == [[1, 4, 2], [-1, 4, 2]]
    assert [list(one.dims) for one in config.output] == [[-1]]
    assert not config.HasField("dynamic_batching")
    pair = dataclasses.replace(
        compare,
        stage="pair",
        inputs=(ArraySpec("first", (3, 8, 4)), ArraySpec("second", (3, 8, 4))),
    )
    text = config_text(triton_models([(Path("pair.onnx"), pair)]), "pair", 16)
    (score,) = parsed(messages, text).output
    assert list(score.dims) == [1]
    assert list(score.reshape.shape) == []


@pytest.mark.parametrize(
    ("second", "words"),
    [
        (EMBED, "compute capability"),
        (engine_of(EMBED, "sm87"), "one graph in one precision"),
        (Manifest("msp_cnn", "embed", Preprocess()), "one graph in one precision"),
    ],
)
def test_files_that_are_not_one_model_are_refused(second: Manifest, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        triton_models([(Path("a.onnx"), EMBED), (Path("b.onnx"), second)])


def test_the_command_writes_a_repository_that_the_doctor_finds(
    served: Served, messages: Any, tmp_path: Path, capsys: Capture
) -> None:
    model = served.file("fp16", pixels=True)
    out = tmp_path / "models"
    assert main(["bundle", "triton", str(model), "--out", str(out), "--json"]) == 0
    files = [Path(file) for file in json.loads(capsys.readouterr().out)["files"]]
    assert [file.relative_to(tmp_path).as_posix() for file in files] == [
        "models/msp_cnn_fp16/1/model.onnx",
        "models/msp_cnn_fp16/config.pbtxt",
        "models-golden/msp_cnn_fp16/golden.safetensors",
    ]
    assert [path.name for path in out.iterdir()] == ["msp_cnn_fp16"]
    config = parsed(messages, files[1].read_text())
    assert config.name == files[1].parent.name
    assert main(["doctor", str(files[0]), "--device", "cpu"]) == 0
    assert "fp16, as the manifest says" in capsys.readouterr().out


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_bundle_whose_writing_is_stopped_leaves_the_repository_as_it_was(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle_triton([served.file("fp16", pixels=True)], tmp_path / "models", name="people")
    before = tree(tmp_path)
    monkeypatch.setattr(writing, "config_text", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        bundle_triton([served.file()], tmp_path / "models", name="people")
    assert tree(tmp_path) == before


def test_a_repeated_bundle_replaces_the_version_and_keeps_what_is_not_its_own(
    served: Served, messages: Any, tmp_path: Path
) -> None:
    out = tmp_path / "models"
    bundle_triton([served.file("fp16", pixels=True)], out)
    model, *_ = bundle_triton([served.file("fp16", pixels=True)], out, name="people")
    stale = model.with_name("model.plan")
    stale.write_bytes(b"an engine of before")
    labels = model.parent.parent / "labels.txt"
    labels.write_text("person")
    second = model.parent.with_name("2") / "model.onnx"
    second.parent.mkdir()
    second.write_bytes(b"another version")
    again, config, golden = bundle_triton([served.file()], out, name="people")
    assert again == model
    assert model.read_bytes() == served.file().read_bytes()
    assert not stale.exists()
    assert (labels.read_text(), second.read_bytes()) == ("person", b"another version")
    assert list(parsed(messages, config.read_text()).input[0].dims) == [3, 40, 16]
    assert sorted(path.name for path in out.iterdir()) == ["msp_cnn_fp16", "people"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "models-golden"]
    assert load_golden(golden).precision == "fp32"


@pytest.mark.parametrize("exchange", [True, False])
def test_a_model_is_replaced_also_where_the_kernel_cannot_exchange_folders(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool
) -> None:
    if not exchange:
        monkeypatch.setattr(repository, "_exchanged", Mock(return_value=False))
    for file in (served.file("fp16", pixels=True), served.file()):
        model, *_ = bundle_triton([file], tmp_path / "models", name="people")
    assert model.read_bytes() == served.file().read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["models", "models-golden"]


def test_golden_crops_of_an_earlier_version_leave_the_repository_and_are_still_found(
    served: Served, tmp_path: Path
) -> None:
    out = tmp_path / "models"
    old, _, golden = bundle_triton([served.file()], out, name="old")
    shutil.move(golden.parent, out / "golden")
    assert find_golden(old) == out / "golden" / "golden.safetensors"
    new, *_ = bundle_triton([served.file()], out, name="new")
    assert sorted(path.name for path in out.iterdir()) == ["new", "old"]
    assert find_golden(old) == tmp_path / "models-golden" / "golden.safetensors"
    assert find_golden(new) == tmp_path / "models-golden" / "new" / "golden.safetensors"


def test_a_model_that_bundle_did_not_write_is_never_replaced(
    served: Served, tmp_path: Path
) -> None:
    config = tmp_path / "models" / "people" / "config.pbtxt"
    config.parent.mkdir(parents=True)
    config.write_text('name: "people"\nbackend: "python"\n')
    with pytest.raises(ConfigError, match="--name"):
        bundle_triton([served.file()], tmp_path / "models", name="people")
    assert [path.name for path in tmp_path.rglob("*")] == ["models", "people", "config.pbtxt"]


def test_another_file_system_is_named_with_the_way_out(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = OSError(errno.EXDEV, "Invalid cross-device link")
    monkeypatch.setattr(repository, "_put", Mock(side_effect=refused))
    with pytest.raises(OutputError, match="--out"):
        bundle_triton([served.file()], tmp_path / "models")
    assert not any((tmp_path / "models").iterdir())


def test_a_deepstream_bundle_whose_writing_is_stopped_has_no_file_of_another_model(
    served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = served.file("fp16", pixels=True)
    model, *others = bundle_deepstream(given, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(writing, "write_manifest", Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            bundle_deepstream(given, tmp_path)
    assert model.exists()
    assert not any(other.exists() for other in others)
    assert bundle_deepstream(given, tmp_path) == [model, *others]
    assert all(other.exists() for other in others)


def test_a_name_that_leaves_the_folder_is_refused(served: Served, tmp_path: Path) -> None:
    for name in ("../up", "a/b", ".."):
        with pytest.raises(ConfigError, match="name of one folder"):
            bundle_triton([served.file()], tmp_path / "out", name=name)
    assert not (tmp_path / "out").exists()


def test_an_engine_that_cannot_run_here_needs_a_reference(served: Served, tmp_path: Path) -> None:
    from reid.errors import ModelFileError
    from reid.model_file.manifest import read_manifest

    engine = tmp_path / "msp_cnn.sm87.trt10.3.fp16.b1-8-32.engine"
    engine.write_bytes(b"plan")
    write_manifest(engine, engine_of(read_manifest(served.file("fp16")), "sm87"))
    with pytest.raises(ModelFileError, match="--reference"):
        bundle_triton([engine], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    files = bundle_triton([engine], tmp_path / "out", reference=served.file())
    assert [file.name for file in files] == ["model.plan", "config.pbtxt", "golden.safetensors"]
    with pytest.raises(ConfigError, match="batches of 32 at most, found --batch 64"):
        bundle_triton([engine], tmp_path / "out", batch=64, reference=served.file())
