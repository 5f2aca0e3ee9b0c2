"""The names that training and evaluation know."""

from __future__ import annotations

from reid.config.toml import recipe_names
from reid.data.readers.datasets import DATASETS


def recipes() -> tuple[str, ...]:
    """The recipes that ``train`` knows, in alphabetical order.

    >>> "msp_cnn_market1501" in reid.recipes()
    True
    """
    return recipe_names()


def datasets() -> tuple[str, ...]:
    """The datasets that ``evaluate`` knows; ``folder`` and ``csv`` are images of your own.

    >>> "market1501" in reid.datasets()
    True
    """
    return DATASETS
