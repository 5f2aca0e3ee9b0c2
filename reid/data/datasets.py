"""Datasets by name."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from reid.data.cuhk01 import PUBLISHED as CUHK01_PUBLISHED
from reid.data.cuhk01 import list_cuhk01, read_cuhk01
from reid.data.folders import Listing
from reid.data.market1501 import PUBLISHED as MARKET1501_PUBLISHED
from reid.data.market1501 import list_market1501, read_market1501
from reid.errors import DataError, nearest
from reid.types import Split

DATASETS = ("market1501", "cuhk01", "synthetic")
"""The names ``load_split`` knows; ``synthetic`` is laid out as Market-1501."""


def load_split(
    name: str, root: str | Path, *, num_test_identities: int = 0, split_seed: int = 0
) -> Split:
    """Read a dataset's split from the folder ``root``; records are in the order of paths.

    ``num_test_identities`` and ``split_seed`` choose a random split where the dataset has
    no fixed one (cuhk01). Raises DataError for an unknown name, a missing or empty
    folder, a single training identity, no query, or a split that cannot be.
    """
    check_name(name)
    if name == "cuhk01":
        return read_cuhk01(Path(root), num_test_identities, split_seed)
    if num_test_identities:
        raise DataError(
            f"{name} has a fixed split; leave num_test_identities at 0, found {num_test_identities}"
        )
    return read_market1501(Path(root), name)


def list_dataset(name: str, root: str | Path) -> Mapping[str, Listing]:
    """Everything in the dataset's folders by subset, junk and odd names included."""
    check_name(name)
    return list_cuhk01(Path(root)) if name == "cuhk01" else list_market1501(Path(root))


def published_counts(name: str) -> Mapping[str, tuple[int, int]]:
    """Subset -> (images, identities) as published; empty for synthetic data."""
    check_name(name)
    published = {"market1501": MARKET1501_PUBLISHED, "cuhk01": CUHK01_PUBLISHED}
    return published.get(name, {})


def check_name(name: str) -> None:
    """Raise DataError for a name that is not in ``DATASETS``."""
    if name not in DATASETS:
        raise DataError(
            f"unknown dataset {name!r}{nearest(name, DATASETS)}; known: {', '.join(DATASETS)}"
        )
