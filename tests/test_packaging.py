"""What is installed, under which names, and how little an import loads."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import click
import pytest

from reid import __version__
from reid.cli import Entry, main
from reid.packages import DISTRIBUTIONS, EXTRAS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
HEAVY = (
    *("torch", "onnx", "onnxruntime", "onnxscript", "tensorrt", "cv2", "matplotlib", "h5py"),
    *("google.protobuf", "faiss", "pymilvus", "scipy"),
)
SHIPPED = (".py", ".toml", ".prototxt", ".html", ".css", ".js")
OPENCV = {"cv2": "opencv-python-headless"}
"""Importable name -> distribution, where users know it by the first."""


@pytest.fixture(scope="module")
def pyproject() -> dict[str, Any]:
    """The project's settings."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        return tomllib.load(file)


def folder_of(package: str, mapping: dict[str, str]) -> Path:
    """Where a package's files are: the longest mapped name, then folder by folder."""
    parts = package.split(".")
    for end in range(len(parts), 0, -1):
        mapped = mapping.get(".".join(parts[:end]))
        if mapped is not None:
            return Path(mapped, *parts[end:])
    return Path(*parts)


def requirements(extra: str, pyproject: dict[str, Any]) -> set[str]:
    """Distributions of an extra, those of the extras it includes too."""
    found = set()
    for line in pyproject["project"]["optional-dependencies"][extra]:
        match = re.match(r"([\w.-]+)(?:\[(\w+)\])?", line)
        assert match is not None, line
        name, included = match.groups()
        found |= requirements(included, pyproject) if included else {name}
    return found


def test_the_package_list_equals_the_folders(pyproject: dict[str, Any]) -> None:
    settings = pyproject["tool"]["setuptools"]
    listed = {folder_of(name, settings["package-dir"]) for name in settings["packages"]}
    floors = ("reid", "export", "deploy")
    python = {path.parent for floor in floors for path in (ROOT / floor).rglob("*.py")}
    with_python = {path.relative_to(ROOT) for path in python}
    assert with_python <= listed
    assert {folder for folder in listed if not (ROOT / folder).is_dir()} == set()
    assert {folder for folder in listed - with_python if folder.parts[0] in floors} == set()


def test_every_folder_with_python_is_a_package() -> None:
    folders = {
        path.parent for f in ("reid", "export", "deploy") for path in (ROOT / f).rglob("*.py")
    }
    assert {folder for folder in folders if not (folder / "__init__.py").is_file()} == set()


def test_every_package_is_below_reid(pyproject: dict[str, Any]) -> None:
    packages = pyproject["tool"]["setuptools"]["packages"]
    assert [name for name in packages if name.partition(".")[0] != "reid"] == []


def test_the_two_onnx_runtimes_never_come_together(pyproject: dict[str, Any]) -> None:
    for extra in pyproject["project"]["optional-dependencies"]:
        assert not {"onnxruntime", "onnxruntime-gpu"} <= requirements(extra, pyproject), extra


def test_the_edge_and_the_base_install_bring_no_torch(pyproject: dict[str, Any]) -> None:
    assert "torch" not in requirements("edge", pyproject)
    assert not any(line.startswith("torch") for line in pyproject["project"]["dependencies"])


def test_cuda_python_comes_with_the_gpu_install_and_pycuda_only_where_it_is_asked_for(
    pyproject: dict[str, Any],
) -> None:
    """pycuda has no wheels: an install of [gpu] needs no compiler."""
    extras = pyproject["project"]["optional-dependencies"]
    assert "cuda-python" in requirements("gpu", pyproject)
    assert [extra for extra in extras if "pycuda" in requirements(extra, pyproject)] == ["pycuda"]


def test_the_extra_named_for_a_missing_package_has_it(pyproject: dict[str, Any]) -> None:
    for package, extras in EXTRAS.items():
        name = {**OPENCV, **DISTRIBUTIONS}.get(package, package)
        for extra in extras:
            # onnxruntime-gpu is imported as onnxruntime.
            assert requirements(extra, pyproject) & {name, f"{name}-gpu"}, (package, extra)


def copied_source(copy: Path) -> Path:
    """What is installed, without what was built."""
    pytest.importorskip("setuptools", "77", reason="needs setuptools>=77: install [dev]")
    for name in ("reid", "export", "deploy", "prototxt_ref"):
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from an sdist that is built from a copy of the source, without network."""
    pytest.importorskip("build", reason="needs build: install [dev]")
    copy = copied_source(tmp_path_factory.mktemp("source"))
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", "out"]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (built,) = (copy / "out").glob("*.whl")
    assert built.name == f"reid_toolkit-{__version__}-py3-none-any.whl"
    return built


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> list[str]:
    """Names inside the wheel."""
    with zipfile.ZipFile(wheel_file) as file:
        return file.namelist()


def test_the_wheel_s_only_importable_name_is_reid(wheel: list[str]) -> None:
    top = {name.partition("/")[0] for name in wheel}
    assert {name for name in top if not name.endswith(".dist-info")} == {"reid"}


def test_the_wheel_has_every_module_recipe_and_reference_graph(wheel: list[str]) -> None:
    expected = {f"reid/{floor}py.typed" for floor in ("", "export/", "deploy/")}
    for folder in ("reid", "export", "deploy", "prototxt_ref"):
        prefix = "reid" if folder == "reid" else f"reid/{folder}"
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in SHIPPED or folder == "prototxt_ref":
                expected.add(f"{prefix}/{path.relative_to(ROOT / folder).as_posix()}")
    assert expected - set(wheel) == set()


def test_an_installed_wheel_finds_its_reference_graphs(wheel_file: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel_file) as file:
        file.extractall(tmp_path)
    code = "from reid.caffe import reference; print(reference('msp_cnn_test'))"
    # The wheel's folder stands before an editable install's.
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {code}"
    done = subprocess.run(
        [sys.executable, "-I", "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == tmp_path / "reid/prototxt_ref/msp_cnn_test.prototxt"


def test_a_missing_protobuf_is_called_by_its_package_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planted = types.ModuleType("planted")
    command = click.command()(lambda: importlib.import_module("google.protobuf"))
    monkeypatch.setattr(planted, "command", command, raising=False)
    monkeypatch.setitem(sys.modules, "planted", planted)
    monkeypatch.setitem(sys.modules, "google.protobuf", None)  # as if it were not installed
    assert main(["lacks"], {"lacks": Entry("planted:command", "")}) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("reid: error: this needs protobuf, which is not installed")
    assert "reid-toolkit[cpu]" in shown


def test_the_wheel_has_the_licence(wheel: list[str]) -> None:
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)


@pytest.mark.parametrize(
    "code",
    [
        "import reid",
        "import reid.deploy",
        "import reid.export",
        "from reid.cli import main; main(['--help'])",
        "from reid.cli import main; main(['quickstart', '--help'])",
        "from reid.cli import data, evaluate, quickstart, train",
        "import reid.export.commands",
        "import reid.caffe",
        "from reid.deploy.commands import bench, gallery_options, index, search, serve",
        "import reid.deploy.gallery",
    ],
)
def test_nothing_heavy_is_loaded_by(code: str) -> None:
    check = f"{code}\nimport sys\nprint('loaded:', *(sys.modules.keys() & {HEAVY!r}))"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded:"


@pytest.mark.parametrize(
    "module",
    [
        "reid.cli",
        "reid.deploy.bench.latency",
        "reid.deploy.gallery.opening",
        "reid.deploy.serve.server",
        "reid.runtime",
    ],
)
def test_the_edge_loads_no_torch_with(module: str) -> None:
    check = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", check], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "False\n"


USER = """
import reid

with reid.load("runs/market") as model:
    reveal_type(model.embed(["a.jpg"]).vectors)
    reveal_type(model.evaluate("market1501", root="data").rank1)
    reveal_type(model.export("out").onnx)
    reveal_type(reid.Gallery.open("g", model).search("a.jpg")[0].distance)
    reveal_type(reid.prove("a", "b").passed)
    model.embd("a.jpg")
"""
REVEALED = ("numpy.ndarray", "float", "pathlib.Path, ...", "float", "bool")


@pytest.fixture(scope="module")
def editable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with `pip install -e` of a copy of the source."""
    folder = tmp_path_factory.mktemp("editable")
    return installed_in(folder / "venv", "--editable", str(copied_source(folder / "source")))


def installed_in(venv: Path, *what: str) -> Path:
    """An environment that has this one's packages and, before them, ours; its Python."""
    pytest.importorskip("pip", reason="needs pip")
    (site,) = {path for path in sys.path if path.endswith("site-packages")} & {numpy_site()}
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    (packages,) = venv.glob("lib/python*/site-packages")
    (packages / "shared.pth").write_text(f"{site}\n")
    python = venv / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    command += ["--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed", *what]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return python


def numpy_site() -> str:
    """The folder that the packages of this environment lie in."""
    found = importlib.util.find_spec("numpy")
    assert found is not None
    assert found.origin is not None
    return str(Path(found.origin).parent.parent)


def plain_environment() -> dict[str, str]:
    """This one's, without what would put other modules before the installed ones."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def check_a_user_s_lines(python: Path, folder: Path) -> None:
    """mypy, strict, knows what each call gives, and finds the one mistake."""
    pytest.importorskip("mypy", reason="needs mypy: install [dev]")
    (folder / "user.py").write_text(USER)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python)]
    done = subprocess.run(
        [*command, "--cache-dir", str(folder / "cache"), "user.py"],
        cwd=folder,
        env=plain_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    shown = [line for line in lines if "Revealed type" in line]
    assert len(shown) == len(REVEALED), done.stdout
    for line, kind in zip(shown, REVEALED, strict=True):
        assert kind in line
        assert 'Any"' not in line
    errors = [line for line in lines if ": error:" in line]
    assert len(errors) == 1, done.stdout
    assert "embd" in errors[0]


def test_a_user_s_lines_are_typed_after_an_editable_install(editable: Path, tmp_path: Path) -> None:
    check_a_user_s_lines(editable, tmp_path)


def test_a_user_s_lines_are_typed_after_the_wheel_s_install(
    wheel_file: Path, tmp_path: Path
) -> None:
    check_a_user_s_lines(installed_in(tmp_path / "venv", str(wheel_file)), tmp_path)


def test_an_editable_install_runs_what_is_edited(editable: Path) -> None:
    source = editable.parents[2] / "source"
    listing = source / "reid" / "api" / "listing.py"
    listing.write_text(listing.read_text() + "\nEDITED = 1\n")
    code = "import reid.api.listing, reid.export, reid.deploy; print(reid.api.listing.EDITED)"
    done = subprocess.run(
        [str(editable), "-I", "-c", code],
        cwd=editable.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("1\n", "")


@pytest.mark.parametrize("command", ["export", "bench", "train"])
def test_commands_run_in_the_clone_s_own_folder(editable: Path, command: str) -> None:
    # There Python finds the folder reid before what is installed, and its upper floors beside it.
    source = editable.parents[2] / "source"
    done = subprocess.run(
        [str(editable), "-m", "reid.cli", command, "--help"],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
        env=plain_environment(),
    )
    assert done.returncode == 0, done.stderr
    assert f"reid {command}" in done.stdout


def test_what_is_installed_here_has_every_module_of_the_tree() -> None:
    import reid

    places = [Path(place) for place in reid.__path__]
    for name in ("export", "deploy"):
        places += map(Path, importlib.import_module(f"reid.{name}").__path__)
    missing = [
        str(path.relative_to(ROOT))
        for floor in ("reid", "export", "deploy")
        for path in (ROOT / floor).rglob("*.py")
        if not any((place / path.relative_to(ROOT / floor)).is_file() for place in places)
    ]
    assert missing == [], "added since `pip install -e .`: run it again"
