"""CSN's classification loss: does a pair show the same person?"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def pair_classification_loss(logits: Tensor, pair_same: Tensor) -> Tensor:
    """Mean cross-entropy of the pairs: minus the log of the true class's probability.

    CSN, Eq. 3, gives neither the logarithm nor the sign; they are inferred from "softmax loss".

    Args:
        logits: (P, 2), column 1 for "the same person"; half precision is computed in float32.
        pair_same: (P,) bool.

    Returns a scalar. Raises ValueError without pairs: their mean would be undefined.
    """
    if pair_same.numel() == 0:
        raise ValueError("pair_classification_loss needs at least one pair, found none")
    scores = logits if logits.element_size() >= 4 else logits.float()
    return F.cross_entropy(scores, pair_same.long())
