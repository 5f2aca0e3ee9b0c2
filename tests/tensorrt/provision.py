"""A real TensorRT parser and builder on a machine without a GPU, for the tests.

Two packages of PyPI, made from one code base, are put together: the libraries of TensorRT
for RTX 1.7.1, out of the wheel of an ONNX Runtime plug-in, under the Python bindings of
TensorRT 11.4. The result is called what its libraries are, ``tensorrt_rtx``. The vendor
does not support this; it shows that graphs parse and build and that calls exist, and says
nothing about speed or about the numbers that an engine computes.

The bindings of TensorRT 10.3 (JetPack 6) load over the same libraries, but only to be looked
at: parsing with them crashes. NVIDIA's bindings of CUDA need no library: without a driver every
call of theirs returns an error code.

``python tests/tensorrt/provision.py`` prints the folder to put on PYTHONPATH.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LAYOUT = "1"
"""Changed when the folder below is laid out otherwise, so that an old cache is not used."""

RTX_VERSION = "1.7.1"
LIBRARIES = (
    "onnxruntime-ep-nv-tensorrt-rtx-cu13",
    "0.5.0",
    "32f575c633d171b4edf4b53d3bb22b72a6c9c0a850d2982ce9a788a5d40d3298",
)
BINDINGS = {
    ("tensorrt-cu13-bindings", "11.4.0.106"): {
        (3, 10): "1d17853da33a186c4d4d39995c1186bb59f643689aabac9c3e33ae5f0ba402f5",
        (3, 11): "d072ac2a095e2be749fefc847adfb25d5ebe70303401df62ede8fe67a59f27fc",
        (3, 12): "5fc7a6c412881f7212030893bd5531b1a0ff415c72c7678dfe4ead7a7765b38d",
        (3, 13): "bac9a362c9189b5f5dd0444213913846e4b46003237834958e890eff57d86ed5",
    },
    ("tensorrt-cu12-bindings", "10.3.0"): {
        (3, 10): "1d6e4cf08ef1f54f6fd44a33cf6b253050af2fc6e9a1d92e40e1436a1d858eb0",
        (3, 11): "59ace22d7f2ca1e9dcde2cb0cb5916912cb3cd5a9d72dd7852be0160d9b3a0ee",
        (3, 12): "f5c2582aeaa7f5628d2c4d4148a701ebe97be78f7ff3b46a617f0ee0cb5460f2",
    },
}
"""(package, version) -> Python version -> SHA-256 of its x86-64 Linux wheel."""

CUDA_BINDINGS = {
    ("cuda-bindings", "12.9.10"): {
        (3, 10): "1d44cabbc32a8da34d40aa1d7f4167fb50d17a8acfaf8ff889174ec009d63899",
        (3, 11): "1d6a8a4d17fbf5e448de0c0729ab6fde46fc5b9211b96a575d45d8686b6a9707",
        (3, 12): "420e44cfcd939cd69d6cfe8efc5f08b44850994cae399a49b9299a464324ce97",
        (3, 13): "761589eb7fdc585d8bc496bff6185c8828c1b1e151e3769ac05824512e883dbd",
    },
    ("cuda-bindings", "13.4.4"): {
        (3, 10): "85d961133658fff3167cfcf69de1beac8e46453c15fd4bcaa4a96d3ef1110c69",
        (3, 11): "e1cef1eaf5a08cc3bf3675ca9d3f97f3fc7085998556c848b4053e74ba4ba392",
        (3, 12): "433efa31e33c2868621b5f6036bd3bf5de9c45c5546cb1361a5f6ff3415b8bb5",
        (3, 13): "5d6adc44f098472d8ac2d6211923eea6081830521852dc77f8c9237bf9320a59",
    },
}
CUDA_PATHFINDER = (
    "cuda-pathfinder",
    "1.9.1",
    "b743c132f90ad2d1e71d43fd28f31ebcde518f943e50fd44aca62b2a80d5230d",
)
"""What both versions of the bindings import."""

DOWNLOAD_TIMEOUT_S = 300

PLUGIN_SOURCE = "int initLibNvInferPlugins(void *log, const char *space) { return 1; }\n"
"""All that the bindings ask of ``libnvinfer_plugin``."""

PACKAGE = f"""\
\"\"\"TensorRT-RTX {RTX_VERSION} under the TensorRT 11.4 bindings: a test bench.\"\"\"
from tensorrt_bindings import *
__version__ = "{RTX_VERSION}"
"""


class CannotProvision(Exception):
    """Why there is no test bench here."""


@dataclass(frozen=True)
class Bench:
    """``builder`` holds the package ``tensorrt_rtx``; ``bindings`` maps a version of the
    bindings to a folder with ``tensorrt_bindings``, to be looked at in a process of its own."""

    builder: Path
    bindings: dict[str, Path]


def provision(cache: Path | None = None, python: tuple[int, int] | None = None) -> Bench:
    """The test bench, made on first use. Raises CannotProvision."""
    python = python or sys.version_info[:2]
    _check_machine()
    known = {package: hashes[python] for package, hashes in BINDINGS.items() if python in hashes}
    if not any(version.startswith("11.") for _, version in known):
        raise CannotProvision(f"no TensorRT 11.4 bindings for Python {python[0]}.{python[1]}")
    cache = cache or _default_cache()
    folder = cache / f"tensorrt-py{python[0]}{python[1]}-{_key(known)}"
    if not folder.is_dir():
        _make(folder, lambda made, wheels: _fill(made, wheels, known))
    bindings = {version: folder / version for _, version in known}
    return Bench(next(p for v, p in bindings.items() if v.startswith("11.")), bindings)


def provision_cuda(version: str, cache: Path | None = None) -> Path:
    """A folder with NVIDIA's bindings of CUDA, made on first use. Raises CannotProvision."""
    python = sys.version_info[:2]
    _check_machine()
    wheels = CUDA_BINDINGS["cuda-bindings", version]
    if python not in wheels:
        raise CannotProvision(f"no cuda-bindings {version} for Python {python[0]}.{python[1]}")
    chosen = [("cuda-bindings", version, wheels[python]), CUDA_PATHFINDER]
    key = hashlib.sha256("".join(wheel[2] for wheel in chosen).encode()).hexdigest()[:12]
    folder = (cache or _default_cache()) / f"cuda-py{python[0]}{python[1]}-{version}-{key}"
    if not folder.is_dir():
        _make(folder, lambda made, place: _unpack_cuda(chosen, made, place))
    return folder


def _unpack_cuda(wheels: list[tuple[str, str, str]], made: Path, place: Path) -> None:
    for package, version, sha256 in wheels:
        with zipfile.ZipFile(_download(package, version, sha256, place)) as archive:
            archive.extractall(made)


def _check_machine() -> None:
    machine = (platform.system(), platform.machine())
    if machine != ("Linux", "x86_64"):
        raise CannotProvision(f"the wheels are for Linux on x86-64, this is {' '.join(machine)}")


def _default_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "reid-toolkit-tests"


def _key(known: dict[tuple[str, str], str]) -> str:
    """Changes with every pin, so that a cache of other pins is another folder."""
    text = "\n".join([LAYOUT, LIBRARIES[2], PLUGIN_SOURCE, PACKAGE, *sorted(known.values())])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _make(folder: Path, fill: Callable[[Path, Path], None]) -> None:
    """Build beside ``folder`` and rename: a run that is cut short leaves nothing half made.

    ``fill`` gets the folder to fill, and one for wheels.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".making-") as scratch:
            made = Path(scratch) / "made"
            fill(made, Path(scratch) / "wheels")
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was first
                    raise
    except OSError as error:
        raise CannotProvision(f"cannot write the cache {folder.parent}: {error}") from error


def _fill(made: Path, wheels: Path, known: dict[tuple[str, str], str]) -> None:
    """The libraries, and every version of the bindings over them."""
    shared = _unpack(_download(*LIBRARIES, wheels), made / "libraries")
    for (package, version), sha256 in known.items():
        place = _unpack(_download(package, version, sha256, wheels), made / version)
        _link_libraries(shared, place / "tensorrt_bindings", version.partition(".")[0])
    _write_package(made)


def _download(package: str, version: str, sha256: str, wheels: Path) -> Path:
    """Fetch one wheel with pip and compare its hash."""
    place = wheels / package
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary=:all:", "--dest", str(place)]
    command.append(f"{package}=={version}")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise CannotProvision(f"pip took over {DOWNLOAD_TIMEOUT_S} s for {package}") from None
    found = sorted(place.glob("*.whl"))
    if done.returncode or len(found) != 1:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise CannotProvision(f"pip cannot fetch {package}=={version}: {' '.join(errors[-1:])}")
    digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
    if digest != sha256:
        raise CannotProvision(f"{found[0].name} has SHA-256 {digest}, expected {sha256}")
    return found[0]


def _unpack(wheel: Path, place: Path) -> Path:
    """Unpack what the bench needs: the bindings, or the two libraries."""
    with zipfile.ZipFile(wheel) as archive:
        wanted = [
            name
            for name in archive.namelist()
            if name.startswith("tensorrt_bindings/") or f"_rtx.so.{RTX_VERSION}" in name
        ]
        archive.extractall(place, wanted)
    return place


def _link_libraries(shared: Path, bindings: Path, major: str) -> None:
    """Give the bindings, which look beside themselves, the names that they look for."""
    for library, name in (
        ("libtensorrt_rtx", "nvinfer"),
        ("libtensorrt_onnxparser_rtx", "nvonnxparser"),
    ):
        (source,) = shared.glob(f"*/{library}.so.{RTX_VERSION}")
        # A hard link: one copy of 230 MB on disk for both bindings.
        os.link(source, bindings / f"lib{name}.so.{major}")
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise CannotProvision("no C compiler (gcc) for the one-function plugin library")
    library = bindings / f"libnvinfer_plugin.so.{major}"
    command = [compiler, "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
    done = subprocess.run(command, input=PLUGIN_SOURCE, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CannotProvision(f"{compiler} failed: {done.stderr.strip()}")


def _write_package(made: Path) -> None:
    (builder,) = made.glob("11.*")
    package = builder / "tensorrt_rtx" / "__init__.py"
    package.parent.mkdir()
    package.write_text(PACKAGE, encoding="utf-8")


if __name__ == "__main__":
    try:
        print(provision().builder)
    except CannotProvision as reason:
        sys.exit(str(reason))
