"""CUHK03 with the new split: 767 identities for training and 700 for testing.

Zhong, Zheng, Cao and Li, "Re-ranking Person Re-identification with k-reciprocal Encoding",
CVPR 2017. https://github.com/zhunzhong07/person-re-ranking

Published: labeled 7,368 training images, 1,400 queries, 5,328 gallery images; detected
7,365, 1,400 and 5,332. The protocol is Market-1501's.

It is distributed in two forms. One is ``cuhk03_new_protocol_config_<kind>.mat`` (MATLAB 5)
beside ``cuhk-03.mat``: its ``filelist`` names all images, and ``train_idx``, ``query_idx`` and
``gallery_idx`` are indices into that list, counted from 1. The other is ``cuhk03-np/<kind>``
in Market-1501's layout.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from reid.data.readers.cuhk03 import NAMES, image_folder, parse_name
from reid.data.readers.folders import Contents, Listing, find_home, require_files, search_home
from reid.data.readers.market_layout import FOLDERS, list_layout, read_layout
from reid.data.readers.mat5 import Values, read_mat5
from reid.errors import DataError
from reid.types import ImageRecord, Protocol, Split

PUBLISHED = {
    "labeled": {"train": (7_368, 767), "query": (1_400, 700), "gallery": (5_328, 700)},
    "detected": {"train": (7_365, 767), "query": (1_400, 700), "gallery": (5_332, 700)},
}
"""Kind -> subset -> (images, identities) as published."""


def list_cuhk03_np(kind: str, root: Path) -> Contents:
    """The images named by the protocol, by subset, whether or not they exist.

    Raises DataError if the protocol file is missing, damaged, or has an invalid image name.
    """
    release = _market_release(kind, root)
    if release:
        return list_layout(release)
    config = _config_file(kind, root)
    values, images = read_mat5(config), image_folder(kind, root)
    names = values.get("filelist")
    if not isinstance(names, list):
        raise DataError(f"{config}: expected a list of names filelist; copy the file again")
    return Contents(
        {
            subset: Listing(_records(config, images, names, values.get(f"{subset}_idx")))
            for subset in FOLDERS
        }
    )


def read_cuhk03_np(kind: str, root: Path) -> Split:
    """The new split, for the ``market`` protocol. Raises DataError, also for missing images."""
    dataset, release = f"cuhk03_np_{kind}", _market_release(kind, root)
    if release:
        return read_layout(dataset, release)
    train, query, gallery = (one.records for one in list_cuhk03_np(kind, root).subsets.values())
    require_files((*train, *query, *gallery), _config_file(kind, root))
    return Split(dataset, train, query, gallery, Protocol("market"), "the 767/700 protocol")


def _records(
    config: Path, images: Path, names: list[str], indices: Values | None
) -> tuple[ImageRecord, ...]:
    if not isinstance(indices, np.ndarray) or not len(indices):
        raise DataError(
            f"{config}: train_idx, query_idx or gallery_idx is missing; copy the file again"
        )
    if not np.isin(indices, np.arange(1, len(names) + 1)).all():
        raise DataError(
            f"{config}: expected indices in 1..{len(names)} (the length of filelist), found "
            "others; copy the file again"
        )
    records = []
    for index in sorted(indices.astype(int)):
        name = names[index - 1]
        parsed = parse_name(name)
        if parsed is None or Path(name).name != name or "\0" in name:
            raise DataError(f"{config}: expected names such as 1_001_1_01.png, found {name[:80]!r}")
        records.append(ImageRecord(images / name, *parsed))
    return tuple(records)


def _config_file(kind: str, root: Path) -> Path:
    name = f"cuhk03_new_protocol_config_{kind}.mat"
    return find_home(root, NAMES, name, f"the 767/700 protocol's {name}") / name


def _market_release(kind: str, root: Path) -> Path | None:
    names = ("cuhk03-np", "cuhk03_np", *NAMES)
    for subset in ("gallery", "train") if root.is_dir() else ():
        home = search_home(root, names, f"{kind}/{FOLDERS[subset]}")
        if home is not None:
            return home / kind
    return None
