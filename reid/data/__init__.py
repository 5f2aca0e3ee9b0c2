"""Datasets and images. Importing this loads no torch: the deployed side reads images too.

What training adds (batches, samplers, augmentation, the loader) is imported from its own
module.
"""

from __future__ import annotations

from reid.data.images import IMAGE_SUFFIXES, read_image
from reid.data.inspection import Inspection, inspect_dataset
from reid.data.readers.datasets import DATASETS, load_split
from reid.data.synthetic.writing import SyntheticCounts, write_synthetic

__all__ = [
    "DATASETS",
    "IMAGE_SUFFIXES",
    "Inspection",
    "SyntheticCounts",
    "inspect_dataset",
    "load_split",
    "read_image",
    "write_synthetic",
]
