"""The names of recipes and datasets."""

from __future__ import annotations

from reid.config.toml import recipe_names
from reid.data.readers.datasets import DATASETS


def recipes() -> tuple[str, ...]:
    """The names of recipes for ``train``, in alphabetical order.

    >>> "msp_cnn_market1501" in reid.recipes()
    True
    """
    return recipe_names()


def datasets() -> tuple[str, ...]:
    """The names of datasets for ``evaluate``; ``folder`` and ``csv`` are for your own images.

    >>> "market1501" in reid.datasets()
    True
    """
    return DATASETS
