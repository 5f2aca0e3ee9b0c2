"""The training losses: tensors and index pairs in, one scalar each out.

A batch holds every image once; ``pair_first``, ``pair_second`` (P,) int64 point into it and
``pair_same`` (P,) bool says which pairs show one person. Weights belong to the caller.
"""

from reid.losses.cross_correlation import cross_correlation_loss
from reid.losses.drc import drc_loss
from reid.losses.euclidean import euclidean_loss
from reid.losses.identity import softmax_loss
from reid.losses.pair_classification import pair_classification_loss
from reid.losses.transform_prior import transform_prior_loss
from reid.losses.triplet import triplet_loss

__all__ = [
    "cross_correlation_loss",
    "drc_loss",
    "euclidean_loss",
    "pair_classification_loss",
    "softmax_loss",
    "transform_prior_loss",
    "triplet_loss",
]
