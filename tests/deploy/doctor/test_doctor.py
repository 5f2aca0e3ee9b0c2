"""Each fault is injected, and must be named."""

from __future__ import annotations

import dataclasses
import importlib
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from reid.cli import main
from reid.data.golden_crops import golden_crops
from reid.deploy.doctor import examination
from reid.deploy.doctor.diagnosis import error_of, worst
from reid.deploy.doctor.examination import examine, load_answers
from reid.deploy.doctor.machine import Machine, is_installed, missing, this_machine
from reid.errors import DataError
from reid.matching.golden import (
    FOLDER,
    Golden,
    answers_of,
    golden_of,
    save_golden,
)
from reid.model_file.manifest import EngineInfo, read_manifest, write_manifest
from reid.model_file.preprocess import Preprocess
from reid.runtime import open_runner, tensorrt_module, tensorrt_runner
from reid.runtime.driver import Driver
from reid.types import FloatArray, Image
from tests.deploy.conftest import Served
from tests.runtime.tensorrt_fakes import FakeDevice, FakeTensorRt

Capture = pytest.CaptureFixture[str]
Pipeline = Callable[[Preprocess, Sequence[Image]], FloatArray]


@pytest.fixture(scope="module")
def golden(served: Served) -> Golden:
    with closing(open_runner(served.file(), "cpu")) as runner:
        return golden_of(runner, golden_crops())


@pytest.fixture
def bundle(served: Served, golden: Golden, tmp_path: Path) -> Callable[..., Path]:
    """A folder with a copy of one exported file, golden crops beside it."""

    def made(precision: str = "fp32", *, pixels: bool = False) -> Path:
        source = served.file(precision, pixels=pixels)
        for suffix in ("", ".json"):
            shutil.copy(f"{source}{suffix}", tmp_path)
        save_golden(golden, tmp_path / FOLDER)
        return tmp_path / source.name

    return made


def findings(model: Path, **options: object) -> dict[str, tuple[str, str]]:
    found = examine(model, device="cpu", **options)  # type: ignore[arg-type]
    return {one.check: (one.status, one.words) for one in found.findings}


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_healthy_model_is_healthy(
    bundle: Callable[..., Path], precision: str, pixels: bool
) -> None:
    found = findings(bundle(precision, pixels=pixels))
    assert {check: status for check, (status, _) in found.items()} == dict.fromkeys(
        ("libraries", "file", "checkpoint", "answers", "precision"), "ok"
    )


def stretched(preprocess: Preprocess, crop: Image, flag: int = cv2.INTER_LINEAR) -> Image:
    size = (preprocess.resize_width, preprocess.resize_height)
    return preprocess.crop(np.asarray(cv2.resize(crop, size, interpolation=flag), np.uint8))


def planes(crops: Sequence[Image]) -> FloatArray:
    return np.stack(crops).transpose(0, 3, 1, 2).astype(np.float32)


def rgb_for_bgr(preprocess: Preprocess, crops: Sequence[Image]) -> FloatArray:
    return preprocess.batch([np.ascontiguousarray(crop[..., ::-1]) for crop in crops])


def normalised_twice(preprocess: Preprocess, crops: Sequence[Image]) -> FloatArray:
    mean, std = (np.array(x, np.float32)[:, None, None] for x in (preprocess.mean, preprocess.std))
    return np.asarray((preprocess.batch(list(crops)) - mean) / std)


def not_normalised(preprocess: Preprocess, crops: Sequence[Image]) -> FloatArray:
    return planes([stretched(preprocess, crop) for crop in crops])


def zero_to_one(preprocess: Preprocess, crops: Sequence[Image]) -> FloatArray:
    return not_normalised(preprocess, crops) / 255


def imagenet(preprocess: Preprocess, crops: Sequence[Image]) -> FloatArray:
    mean = np.array([0.406, 0.456, 0.485], np.float32)[:, None, None]
    std = np.array([0.225, 0.224, 0.229], np.float32)[:, None, None]
    return np.asarray((zero_to_one(preprocess, crops) - mean) / std)


def another_resize(preprocess: Preprocess, crops: Sequence[Image]) -> FloatArray:
    sized = [stretched(preprocess, crop, cv2.INTER_NEAREST) for crop in crops]
    return preprocess.normalise(np.stack(sized))


def straight_to_the_crop(preprocess: Preprocess, crops: Sequence[Image]) -> FloatArray:
    size = (preprocess.crop_width, preprocess.crop_height)
    return preprocess.normalise(np.stack([cv2.resize(crop, size) for crop in crops]))


def padded(preprocess: Preprocess, crops: Sequence[Image]) -> FloatArray:
    sized = []
    for crop in crops:
        canvas = np.zeros((preprocess.resize_height, preprocess.resize_width, 3), np.uint8)
        scale = min(canvas.shape[0] / crop.shape[0], canvas.shape[1] / crop.shape[1])
        inner = cv2.resize(crop, (round(crop.shape[1] * scale), round(crop.shape[0] * scale)))
        top, left = ((canvas.shape[i] - inner.shape[i]) // 2 for i in (0, 1))
        canvas[top : top + inner.shape[0], left : left + inner.shape[1]] = inner
        sized.append(preprocess.crop(canvas))
    return preprocess.normalise(np.stack(sized))


def as_nvinfer_pads(preprocess: Preprocess, crops: Sequence[Image]) -> FloatArray:
    """maintain-aspect-ratio=1: at the top left, the rest black, sizes cut to whole pixels."""
    sized = []
    for crop in crops:
        canvas = np.zeros((preprocess.resize_height, preprocess.resize_width, 3), np.uint8)
        scale = min(canvas.shape[0] / crop.shape[0], canvas.shape[1] / crop.shape[1])
        inner = cv2.resize(crop, (int(crop.shape[1] * scale), int(crop.shape[0] * scale)))
        canvas[: inner.shape[0], : inner.shape[1]] = inner
        sized.append(preprocess.crop(canvas))
    return preprocess.normalise(np.stack(sized))


def rgb_and_zero_to_one(preprocess: Preprocess, crops: Sequence[Image]) -> FloatArray:
    return np.ascontiguousarray(zero_to_one(preprocess, crops)[:, ::-1])


FAULTS: dict[Pipeline, str] = {
    rgb_for_bgr: "channels in RGB order instead of BGR",
    normalised_twice: "crops were preprocessed with normalised twice",
    not_normalised: "not normalised: pixels of 0-255",
    zero_to_one: "pixels of 0-1 instead of 0-255, not normalised",
    imagenet: "normalised with ImageNet's",
    another_resize: "'nearest' instead of 'bilinear'",
    straight_to_the_crop: "resized to 40x16, instead of to 48x20",
    padded: "aspect ratio kept and the rest padded",
    as_nvinfer_pads: "right and bottom padded",
    rgb_and_zero_to_one: "RGB order instead of BGR; pixels of 0-1 instead of 0-255",
}


@pytest.mark.parametrize("pipeline", FAULTS, ids=lambda one: one.__name__)
def test_what_another_program_does_wrongly_is_named(
    bundle: Callable[..., Path], golden: Golden, tmp_path: Path, pipeline: Pipeline
) -> None:
    model = bundle()
    with closing(open_runner(model, "cpu")) as runner:
        inputs = pipeline(runner.manifest.preprocess, golden.crops)
        np.save(tmp_path / "theirs.npy", answers_of(runner, np.ascontiguousarray(inputs)))
    found = findings(model, answers_file=tmp_path / "theirs.npy")
    assert found["answers"][0] == "ok"
    status, words = found["their answers"]
    assert status == "fault"
    assert FAULTS[pipeline] in words


def test_pixels_normalised_outside_a_graph_that_does_it_itself_are_named(
    bundle: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    model = bundle(pixels=True)
    with closing(open_runner(model, "cpu")) as runner:
        manifest = runner.manifest
        assert manifest.inside is not None
        sized = np.stack([manifest.preprocess.resize(crop) for crop in golden.crops])
        np.save(tmp_path / "theirs.npy", answers_of(runner, manifest.inside.normalise(sized)))
    status, words = findings(model, answers_file=tmp_path / "theirs.npy")["their answers"]
    assert status == "fault"
    assert "normalised twice: outside and inside the graph" in words


def test_right_answers_of_another_program_are_right(
    bundle: Callable[..., Path], golden: Golden, tmp_path: Path
) -> None:
    np.save(tmp_path / "theirs.npy", golden.answers + np.float32(golden.spread * 5e-4))
    assert findings(bundle(), answers_file=tmp_path / "theirs.npy")["their answers"][0] == "ok"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda rows: rows * np.float32(7), "divide each by its length"),
        (lambda rows: rows[::-1], "in another order"),
        (lambda rows: np.concatenate([rows[:4], np.zeros_like(rows[4:])]), "the first 4 answers"),
        (lambda rows: np.where(rows > 0.1, np.float32(np.nan), rows), "NaN or infinity"),
        (lambda rows: np.roll(rows, 1, axis=1), "no known fault"),
        (lambda rows: rows + 3 * (np.arange(12) == 4)[:, None], "no known fault"),
    ],
)
def test_faults_that_the_answers_show_by_themselves(
    bundle: Callable[..., Path],
    golden: Golden,
    tmp_path: Path,
    spoil: Callable[[FloatArray], FloatArray],
    words: str,
) -> None:
    np.save(tmp_path / "theirs.npy", spoil(golden.answers))
    status, found = findings(bundle(), answers_file=tmp_path / "theirs.npy")["their answers"]
    assert status == "fault"
    assert words in found


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"channel_order": "RGB"}, "correct with channels in BGR order instead of RGB"),
        ({"interpolation": "area"}, "'bilinear' instead of 'area'"),
    ],
)
def test_a_manifest_of_another_preprocessing_is_named(
    bundle: Callable[..., Path], change: dict[str, str], words: str
) -> None:
    model = bundle()
    manifest = read_manifest(model)
    wrong = dataclasses.replace(manifest.preprocess, **change)
    if "channel_order" in change:
        wrong = dataclasses.replace(wrong, mean=wrong.mean[::-1], std=wrong.std[::-1])
        # The values stay each channel's own, so that only the order is wrong.
        wrong = dataclasses.replace(
            wrong, mean=manifest.preprocess.mean, std=manifest.preprocess.std
        )
    write_manifest(model, dataclasses.replace(manifest, preprocess=wrong, file_sha256=""))
    status, found = findings(model)["answers"]
    assert status == "fault"
    assert words in found


def test_fp32_where_fp16_was_asked_for_is_found_by_the_numbers(
    bundle: Callable[..., Path],
) -> None:
    model = bundle("fp32")
    manifest = dataclasses.replace(read_manifest(model), precision="fp16", file_sha256="")
    write_manifest(model, manifest)
    found = findings(model)
    assert found["answers"][0] == "ok"
    status, words = found["precision"]
    assert status == "fault"
    assert "the manifest says fp16" in words
    assert "computes in FP32" in words


def test_fp16_where_fp32_was_asked_for_is_found_too(bundle: Callable[..., Path]) -> None:
    model = bundle("fp16")
    manifest = dataclasses.replace(read_manifest(model), precision="fp32", file_sha256="")
    write_manifest(model, manifest)
    assert findings(model)["precision"][0] == "fault"


def test_other_weights_are_found_by_the_checkpoint_and_the_answers(
    bundle: Callable[..., Path], golden: Golden
) -> None:
    model = bundle()
    other = dataclasses.replace(golden, answers=golden.answers[::-1] * 2, checkpoint="beef")
    save_golden(other, model.parent / FOLDER)
    found = findings(model)
    assert found["checkpoint"][0] == found["answers"][0] == "fault"
    assert "come from beef" in found["checkpoint"][1]


def test_an_engine_that_is_wrong_in_larger_batches_is_reported(
    bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = bundle()
    opened = open_runner(model, "cpu")
    right = opened.run

    def only_the_first(inputs: dict[str, FloatArray]) -> dict[str, FloatArray]:
        outputs = right(inputs)
        return {name: np.repeat(rows[:1], len(rows), axis=0) for name, rows in outputs.items()}

    monkeypatch.setattr(opened, "run", only_the_first)
    monkeypatch.setattr(examination, "open_runner", lambda *_: opened)
    status, words = findings(model)["answers"]
    assert (status, words) == (
        "fault",
        "correct one by one, wrong in batches of 5: build the engine for batches",
    )


@pytest.mark.parametrize(
    ("here", "words"),
    [
        (("10.3.0", (8, 6)), "sm86"),
        (("10.13.0", (8, 7)), "10.13"),
    ],
)
def test_an_engine_of_another_gpu_or_version_is_reported(
    bundle: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    here: tuple[str, tuple[int, int]],
    words: str,
) -> None:
    model = bundle("fp16")
    engine = model.with_name("msp_cnn.sm87.trt10.3.fp16.b1-8-32.engine")
    engine.write_bytes(b"plan")
    info = EngineInfo("sm87", "10.3.0", "tensorrt", 1, 8, 32)
    write_manifest(engine, dataclasses.replace(read_manifest(model), engine=info, file_sha256=""))
    version, capability = here
    device = SimpleNamespace(compute_capability=capability, name="a GPU")
    monkeypatch.setattr(examination, "missing", lambda *_: [])
    monkeypatch.setattr(
        tensorrt_runner, "load_tensorrt", lambda _: SimpleNamespace(__version__=version)
    )
    monkeypatch.setattr(tensorrt_runner, "open_device", lambda: device)
    found = examine(engine)
    assert not found.healthy
    assert words in found.findings[-1].words
    assert "reid build" in found.findings[-1].words


def test_a_driver_too_old_for_tensorrt_is_a_finding(
    bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = bundle("fp16").with_name("msp_cnn.engine")
    engine.write_bytes(b"plan")
    info = EngineInfo("sm87", "10.3.0", "tensorrt", 1, 8, 32)
    manifest = read_manifest(next(engine.parent.glob("*.onnx")))
    write_manifest(engine, dataclasses.replace(manifest, engine=info, file_sha256=""))
    device = FakeDevice()
    trt = FakeTensorRt(device, "10.3.0")
    trt.starts = False
    monkeypatch.setattr(examination, "missing", lambda *_: [])
    monkeypatch.setattr(tensorrt_runner, "load_tensorrt", lambda _: trt)
    monkeypatch.setattr(tensorrt_runner, "open_device", lambda: device)
    monkeypatch.setattr(tensorrt_module, "driver_words", lambda: "the driver here is 550.54.14")
    found = examine(engine)
    assert not found.healthy
    assert (found.findings[-1].check, found.findings[-1].status) == ("file", "fault")
    assert "550.54.14" in found.findings[-1].words
    assert device.leaks() == (0, 0, 0, 0)


def test_a_library_that_is_missing_is_named_with_its_install_line(
    bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = bundle()
    monkeypatch.setattr(examination, "missing", lambda *_: ["onnxruntime"])
    orin = Machine("aarch64", "3.10", 6, True)
    found = examine(model, machine=orin)
    assert [one.words for one in found.findings] == [
        "onnxruntime is not installed: pip install onnxruntime-gpu --index-url "
        "https://pypi.jetson-ai-lab.io/jp6/cu126"
    ]
    assert found.machine == "Jetson, JetPack 6, Python 3.10"


@pytest.mark.parametrize(
    ("release", "jetpack"), [("R36 (release), REVISION: 4.3", 6), ("R38 (release)", 7), ("R35", 5)]
)
def test_a_jetson_is_known_by_its_release(tmp_path: Path, release: str, jetpack: int) -> None:
    file = tmp_path / "nv_tegra_release"
    file.write_text(f"# {release}, GCID: 1\n")
    machine = this_machine(file, Driver(), "aarch64")
    assert (machine.jetpack, machine.has_gpu) == (jetpack, True)
    assert "apt-get install" in machine.install_line("tensorrt")


def test_a_workstation_is_shown_what_pip_installs(tmp_path: Path) -> None:
    plain = this_machine(tmp_path / "none", Driver(), "x86_64")
    assert plain.install_line("onnxruntime") == "pip install onnxruntime"
    assert "no NVIDIA driver" in plain.words()
    gpu = this_machine(tmp_path / "none", Driver("580.65.06", 13), "x86_64")
    assert gpu.install_line("onnxruntime") == "pip install onnxruntime-gpu"
    assert gpu.install_line("cuda").startswith("pip install tensorrt cuda-python ")
    assert "580.65.06" in gpu.words()


def test_a_driver_before_cuda_13_gets_the_packages_for_cuda_12(tmp_path: Path) -> None:
    old = this_machine(tmp_path / "none", Driver("550.54.14", 12), "x86_64")
    for module in ("tensorrt", "cuda"):
        assert 'tensorrt-cu12 "cuda-python<13"' in old.install_line(module)


def versions(**installed: str) -> Callable[[str], str]:
    """``importlib.metadata.version`` where only these distributions are installed."""

    def version_of(name: str) -> str:
        if name.replace("-", "_") not in installed:
            raise PackageNotFoundError(name)
        return installed[name.replace("-", "_")]

    return version_of


@pytest.mark.parametrize(
    ("driver", "installed", "named"),
    [
        (Driver("580.65.06", 13), {"tensorrt_cu13_bindings": "11.4.0"}, []),
        (Driver("550.54.14", 12), {"tensorrt_cu12_bindings": "10.13.3"}, []),
        (Driver("550.54.14", 12), {"cuda_bindings": "12.9.0"}, []),
        (Driver(), {"tensorrt_cu13_bindings": "11.4.0"}, []),
        (
            Driver("550.54.14", 12),
            {"tensorrt_cu13_bindings": "11.4.0", "cuda_bindings": "12.9.0"},
            [
                "580",
                "550.54.14",
                "pip uninstall tensorrt tensorrt-cu13 ",
                "pip install tensorrt-cu12",
            ],
        ),
        (
            Driver("550.54.14", 12),
            {"tensorrt_cu12_bindings": "10.13.3", "cuda_bindings": "13.0.1"},
            ["580", "cuda-bindings 13.0.1", '"cuda-python<13"'],
        ),
        (Driver("470.256.02", 11), {}, ["535", "470.256.02"]),
    ],
)
def test_packages_that_the_driver_cannot_run_are_named(
    driver: Driver, installed: dict[str, str], named: list[str]
) -> None:
    found = Machine("x86_64", "3.12", 0, True, driver).driver_fault(versions(**installed))
    assert bool(found) == bool(named)
    assert all(words in found for words in named)


def test_a_jetson_has_jetpacks_driver_whatever_its_number() -> None:
    orin = Machine("aarch64", "3.10", 6, True, Driver("540.4.0", 12))
    assert orin.driver_fault(versions(cuda_bindings="13.0.1")) == ""


def test_a_jetpack_with_too_old_a_tensorrt_is_named() -> None:
    xavier = Machine("aarch64", "3.10", 5, True)
    assert "JetPack 5" in xavier.driver_fault(versions())


def test_the_driver_is_examined_with_an_engine(
    bundle: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = bundle()
    engine = model.with_name("model.engine")
    engine.write_bytes(b"plan")
    monkeypatch.setattr(examination, "missing", lambda *_: ["tensorrt"])
    old = Machine("x86_64", "3.12", 0, True, Driver("470.256.02", 11))
    checks = [
        [one.check for one in examine(file, machine=old).findings] for file in (engine, model)
    ]
    assert checks == [["driver", "libraries"], ["libraries"]]


def test_what_is_missing_depends_on_the_file() -> None:
    def installed(*names: str) -> Callable[[str], object]:
        return lambda name: name if name in names else None

    assert missing(".onnx", found=installed("onnxruntime", "cv2")) == []
    assert missing(".engine", found=installed("cv2")) == ["tensorrt", "cuda"]
    assert missing(".engine", found=installed("tensorrt", "pycuda", "cv2")) == []
    assert missing(".plan", "tensorrt_rtx", installed("cuda", "cv2")) == ["tensorrt_rtx"]


def test_another_packages_part_of_the_namespace_cuda_is_not_cuda_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert is_installed("cv2")
    for name in ("cuda", *(name for name in sys.modules if name.startswith("cuda."))):
        monkeypatch.setitem(sys.modules, name, None)  # so that what was there comes back
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    assert not is_installed("cuda")
    (tmp_path / "cuda" / "pathfinder").mkdir(parents=True)
    importlib.invalidate_caches()
    assert not is_installed("cuda")
    (tmp_path / "cuda" / "bindings").mkdir()
    (tmp_path / "cuda" / "bindings" / "__init__.py").touch()
    importlib.invalidate_caches()
    assert is_installed("cuda")


def test_without_golden_crops_the_answers_are_not_checked(served: Served) -> None:
    found = findings(served.file())
    assert found["answers"] == (
        "not checked",
        "no golden crops beside the model; run `reid bundle`, or name them with --golden",
    )


def test_the_command_prints_every_finding_and_leaves_with_3(
    bundle: Callable[..., Path], golden: Golden, tmp_path: Path, capsys: Capture
) -> None:
    model = bundle()
    assert main(["doctor", str(model), "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["healthy"] is True
    np.save(tmp_path / "theirs.npy", golden.answers[::-1])
    order = ["doctor", str(model), "--device", "cpu", "--answers", str(tmp_path / "theirs.npy")]
    assert main(order) == 3
    shown = capsys.readouterr()
    assert len(shown.out.splitlines()) == 7
    assert "; OpenCV's FFmpeg " in shown.out.splitlines()[0]
    assert "in another order than the crops" in shown.err
    np.save(tmp_path / "theirs.npy", golden.answers[:3])
    assert main(order) == 1
    assert "expected (12, 256)" in capsys.readouterr().err
    (tmp_path / "theirs.npy").write_text("no array")
    assert main(order) == 1


def _archive(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 and no archive")


def _more_rows_than_bytes(path: Path) -> None:
    with path.open("wb") as file:
        facts = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 256)}
        np.lib.format.write_array_header_1_0(file, facts)


@pytest.mark.parametrize("write", [_archive, _more_rows_than_bytes])
def test_answers_that_are_no_array_are_one_line(
    golden: Golden, tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path / "theirs.npy")
    with pytest.raises(DataError, match=r"theirs\.npy is not a \.npy file"):
        load_answers(tmp_path / "theirs.npy", golden)


def test_without_opencv_the_command_gives_the_line_that_installs_it(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    for name in ("deploy.doctor.examination", "matching.golden"):
        monkeypatch.delitem(sys.modules, f"reid.{name}")
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert main(["doctor", str(served.file())]) == 1
    assert 'cv2 is not installed: pip install "opencv-python' in capsys.readouterr().err


def test_an_error_is_a_share_of_how_far_answers_lie_apart(golden: Golden) -> None:
    mean = golden.answers.mean(axis=0)
    distances = [float(np.linalg.norm(row - mean)) for row in golden.answers]
    spread = sorted(distances)[5] / 2 + sorted(distances)[6] / 2
    assert golden.spread == pytest.approx(spread, rel=1e-5)
    moved = golden.answers.copy()
    moved[3, 0] += np.float32(0.1)
    assert error_of(moved, golden)[3] == pytest.approx(0.1 / spread, rel=1e-3)
    assert worst(moved, golden) == pytest.approx(0.1 / spread, rel=1e-3)


def test_openvinos_devices_are_listed(bundle: Callable[..., Path]) -> None:
    found = examine(bundle(), device="cpu")
    assert found.openvino.startswith("OpenVINO ")
    assert "CPU (" in found.openvino
    assert found.openvino in found.text()


def test_a_missing_openvino_has_its_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine("x86_64", "3.11", 0, has_gpu=False)
    assert missing(".xml", found=lambda name: name != "openvino") == ["openvino"]
    assert "openvino" in machine.install_line("openvino")
    monkeypatch.setattr(examination, "is_installed", lambda name: False)
    assert "not installed" in examination._openvino_words()
