"""Datasets by name. A name stands for a dataset together with its protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import reid.data.readers.cuhk01 as cuhk01
import reid.data.readers.cuhk03 as cuhk03
import reid.data.readers.cuhk03_np as cuhk03_np
import reid.data.readers.dukemtmc as dukemtmc
import reid.data.readers.market1501 as market1501
import reid.data.readers.msmt17 as msmt17
import reid.data.readers.viper as viper
from reid.data.readers.csv_labels import list_csv, read_csv
from reid.data.readers.division import USUAL, VALIDATION, Choice, OwnImages
from reid.data.readers.folders import Contents
from reid.data.readers.person_folders import list_person_folders, read_person_folders
from reid.errors import DataError, nearest
from reid.types import Split

Counts = Mapping[str, tuple[int, int]]
"""Subset -> (images, identities)."""


@dataclass(frozen=True, slots=True)
class Reader:
    """How to list and read one dataset, its published counts, and the options of its split.

    ``is_own``: a user's own images, for which there are more options.
    """

    contents: Callable[[Path, Choice], Contents]
    read: Callable[[Path, Choice], Split]
    published: Counts = field(default_factory=dict)
    has_validation: bool = False
    is_fixed: bool = False
    is_own: bool = False


def _only_root(contents: Callable[[Path], Contents]) -> Callable[[Path, Choice], Contents]:
    """For a dataset whose images are listed in one way."""
    return lambda root, choice: contents(root)


def _fixed(
    contents: Callable[[Path], Contents], read: Callable[[Path], Split], published: Counts
) -> Reader:
    """A dataset with a fixed split."""
    return Reader(_only_root(contents), lambda root, choice: read(root), published, is_fixed=True)


def _cuhk03(kind: str) -> Reader:
    read = partial(cuhk03.read_cuhk03, kind)
    published = cuhk03.PUBLISHED[kind]
    contents = _only_root(partial(cuhk03.list_cuhk03, kind))
    return Reader(contents, read, published, has_validation=True)


def _cuhk03_np(kind: str) -> Reader:
    read = partial(cuhk03_np.read_cuhk03_np, kind)
    return _fixed(partial(cuhk03_np.list_cuhk03_np, kind), read, cuhk03_np.PUBLISHED[kind])


def _msmt17(version: msmt17.Version) -> Reader:
    return Reader(
        _only_root(partial(msmt17.list_msmt17, version)),
        partial(msmt17.read_msmt17, version),
        msmt17.PUBLISHED,
        has_validation=True,
        is_fixed=True,
    )


_MARKET = market1501.PUBLISHED
_MULTI_QUERY = {subset: _MARKET[subset] for subset in ("train", "gallery")}
_READ_SYNTHETIC = partial(market1501.read_market1501, dataset="synthetic")

READERS: Mapping[str, Reader] = {
    "market1501": _fixed(market1501.list_market1501, market1501.read_market1501, _MARKET),
    "market1501_multi_query": _fixed(
        market1501.list_multi_query, market1501.read_multi_query, _MULTI_QUERY
    ),
    "market1501_500k": _fixed(market1501.list_500k, market1501.read_500k, _MARKET),
    "dukemtmc": _fixed(dukemtmc.list_dukemtmc, dukemtmc.read_dukemtmc, dukemtmc.PUBLISHED),
    "msmt17": _msmt17(msmt17.V1),
    "msmt17_v2": _msmt17(msmt17.V2),
    "cuhk01": Reader(_only_root(cuhk01.list_cuhk01), cuhk01.read_cuhk01, cuhk01.PUBLISHED),
    "cuhk03_detected": _cuhk03("detected"),
    "cuhk03_labeled": _cuhk03("labeled"),
    "cuhk03_np_detected": _cuhk03_np("detected"),
    "cuhk03_np_labeled": _cuhk03_np("labeled"),
    "viper": Reader(_only_root(viper.list_viper), viper.read_viper, viper.PUBLISHED),
    "folder": Reader(list_person_folders, read_person_folders, is_own=True),
    "csv": Reader(list_csv, read_csv, is_own=True),
    "synthetic": _fixed(market1501.list_market1501, _READ_SYNTHETIC, {}),
}

DATASETS = tuple(READERS)
"""The names ``load_split`` accepts. ``synthetic`` has the layout of Market-1501; ``folder`` and
``csv`` are for your own images."""


def load_split(
    name: str,
    root: str | Path,
    *,
    num_test_identities: int = 0,
    split_seed: int = 0,
    validation: str = "auto",
    own: OwnImages = USUAL,
    for_training: bool = False,
) -> Split:
    """Read a dataset's split from the folder ``root``.

    ``num_test_identities`` and ``split_seed`` choose a random split if the dataset has no
    fixed one; for CUHK03 the seed is the number of the test set. ``validation`` says how to
    use a validation part, if the dataset has one: ``"train"`` trains on it, ``"apart"`` leaves
    it out, ``"auto"`` trains on it for CUHK03 and leaves it out for MSMT17. ``own`` is for a
    user's own images (``folder``, ``csv``). Training images may be missing, unless it is
    ``for_training``. Raises DataError for an unknown name, a missing or empty folder, a single
    training identity, no query, an option that the dataset does not have, or an impossible split;
    for CUHK03 also OutputError and MissingPackageError.
    """
    reader = reader_of(name)
    if reader.is_fixed and num_test_identities:
        raise DataError(
            f"{name} has a fixed split; leave num_test_identities at 0, found {num_test_identities}"
        )
    if split_seed < 0:
        raise DataError(f"{name}: the split seed must be 0 or above, found {split_seed}")
    if validation not in VALIDATION:
        raise DataError(
            f"validation must be one of {', '.join(VALIDATION)}; found {validation!r}"
            f"{nearest(validation, VALIDATION)}"
        )
    if validation != "auto" and not reader.has_validation:
        raise DataError(f"{name} has no validation part; leave validation at auto")
    choice = Choice(num_test_identities, split_seed, validation, own)
    _check_own(name, choice)
    split = reader.read(Path(root), choice)
    if for_training and not split.train:
        raise DataError(f"{name}: no training images in {root}; found {split.note}")
    return split


def list_dataset(name: str, root: str | Path, choice: Choice | None = None) -> Contents:
    """Everything in the dataset's folders, by subset, including junk and unexpected names.

    ``choice`` says how a user's own images are read. Raises DataError.
    """
    choice = choice or Choice()
    _check_own(name, choice)
    return reader_of(name).contents(Path(root), choice)


def _check_own(name: str, choice: Choice) -> None:
    """Raise DataError for an option of a user's own images with another dataset."""
    own = choice.own
    given = {
        "--junk": own.junk,
        "--distractors": own.distractors,
        "--layout": own.layout,
        "--all-test": own.all_test,
    }
    asked = [option for option, value in given.items() if value]
    if asked and not reader_of(name).is_own:
        raise DataError(
            f"{name}: its file names and folders say everything; {', '.join(asked)} "
            f"{'is' if len(asked) == 1 else 'are'} for your own images (folder, csv)"
        )
    if own.layout and name == "csv":
        raise DataError("csv: the columns say everything; --layout is for folder")


def published_counts(name: str) -> Counts:
    """Subset -> (images, identities) as published; empty for synthetic and own images."""
    return reader_of(name).published


def check_name(name: str) -> None:
    """Raise DataError for a name that is not in ``DATASETS``."""
    reader_of(name)


def reader_of(name: str) -> Reader:
    """The reader of a dataset. Raises DataError for an unknown name, with the nearest known."""
    if name not in READERS:
        raise DataError(
            f"unknown dataset {name!r}{nearest(name, DATASETS)}; known: {', '.join(DATASETS)}"
        )
    return READERS[name]
