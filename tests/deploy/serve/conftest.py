"""A small gallery, and a server over it that is running."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from reid.deploy.gallery import GalleryStore
from reid.deploy.serve.access import Access
from reid.matching import VectorMatcher
from tests.deploy.gallery.conftest import PixelRunner
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
