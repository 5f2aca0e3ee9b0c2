"""Milvus Lite, a server inside the process, and a real server: the same tests run with both."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import types
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.gallery.milvus_server import NEEDED, VARIABLE, MilvusServer


def old_pkg_resources() -> types.ModuleType:
    """What Milvus Lite asks of it to learn its own version; setuptools 82 no longer has it."""
    module = types.ModuleType("pkg_resources")
    module.DistributionNotFound = importlib.metadata.PackageNotFoundError  # type: ignore[attr-defined]
    module.get_distribution = lambda name: types.SimpleNamespace(  # type: ignore[attr-defined]
        version=importlib.metadata.version(name)
    )
    return module


@pytest.fixture(scope="module")
def milvus_client() -> Iterator[None]:
    """Milvus's client and its embedded server, or a skip."""
    with pytest.MonkeyPatch.context() as patched, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patched.setitem(sys.modules, "pkg_resources", old_pkg_resources())
        for name in ("pymilvus", "milvus_lite"):
            pytest.importorskip(name, reason=f"needs {name}: pip install -e '.[milvus]'")
        yield


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusServer]:
    """A real server, or a skip; it takes some ten seconds to start."""
    if not os.environ.get(VARIABLE):
        pytest.skip(NEEDED)
    server = MilvusServer(tmp_path_factory.mktemp("milvus_server"))
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def lite_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("milvus")


@pytest.fixture(params=["lite", "server"])
def milvus_name(request: pytest.FixtureRequest, lite_folder: Path, milvus_client: None) -> str:
    """A new gallery's name, in Milvus Lite or in a server."""
    collection = f"test_{abs(hash(request.node.name)) % 10**9}"
    if request.param == "lite":
        return f"milvus:{lite_folder}/lite.db/{collection}"
    server: MilvusServer = request.getfixturevalue("milvus_server")
    return f"{server.url}/{collection}"
