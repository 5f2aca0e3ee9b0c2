"""A small gallery and its server; for the page a gallery to look at, a browser and axe-core."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from reid.deploy.gallery import GalleryStore
from reid.deploy.serve.access import Access
from reid.matching import VectorMatcher
from tests.deploy.gallery.conftest import PixelRunner
from tests.deploy.serve.browser import Page, browser_page
from tests.deploy.serve.pages import Filled, filled_in
from tests.deploy.serve.site import Site, filled_gallery, running


@pytest.fixture(scope="module")
def matcher() -> VectorMatcher:
    return VectorMatcher(PixelRunner())


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, matcher: VectorMatcher) -> GalleryStore:
    return filled_gallery(tmp_path_factory.mktemp("served"), matcher)


@pytest.fixture
def site(filled: GalleryStore, matcher: VectorMatcher) -> Iterator[Site]:
    with running(filled, matcher, Access("127.0.0.1")) as running_site:
        yield running_site
        assert running_site.errors == []


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Filled:
    """See ``filled_in``; a test may add verdicts."""
    return filled_in(tmp_path_factory.mktemp("page"))


@pytest.fixture
def page(browser: str, tmp_path: Path) -> Iterator[Page]:
    """A page of a browser with a fresh profile."""
    with browser_page(browser, tmp_path / "profile") as opened:
        yield opened


@pytest.fixture(scope="session")
def axe(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The script of axe-core: REID_AXE is the file or its folder; without it npm fetches it."""
    if given := os.environ.get("REID_AXE"):
        file = Path(given)
        return (file / "axe.min.js" if file.is_dir() else file).read_text()
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs axe-core: install npm, or set REID_AXE to a folder with axe.min.js")
    folder = tmp_path_factory.mktemp("axe")
    packed = subprocess.run(
        [npm, "pack", "--silent", "axe-core@4"], cwd=folder, capture_output=True, text=True
    )
    if packed.returncode:
        pytest.skip("needs axe-core, which npm could not fetch; or set REID_AXE to its folder")
    with tarfile.open(folder / packed.stdout.split()[-1]) as archive:
        script = archive.extractfile("package/axe.min.js")
        assert script is not None
        return script.read().decode()
