"""One training step of ``msp_cnn_train_val`` as real Caffe computed it, and what went into it.

``recorded_step.npz`` was written by BVLC Caffe 1.0, built in float64 for the CPU: the stage
``cross_correlation`` with dropout 0, 20 identities and 6 pairs. It holds the three losses
(``loss/NAME``), and of each of the 162 parameters 64 entries of its gradient (``gradient/NAME`` at
the flat indices ``at/NAME``), the gradient's norm (``norm/NAME``) and the shape (``shape/NAME``);
also entries of three blobs. A name is ``LAYER/NUMBER OF ITS BLOB``. Weights and images
are drawn anew from NumPy's frozen generator, so no file holds them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

FILE = Path(__file__).with_name("recorded_step.npz")
IDENTITIES = 20
ANCHOR_LABELS = np.array([0, 0, 0, 1, 1, 1])
SAME_PERSON = np.array([True, False, False, True, False, False])
MEAN_BGR = (102.0, 102.0, 101.0)
FIRST_IMAGES, SECOND_IMAGES = [0, 0, 0, 1, 1, 1], [2, 3, 4, 5, 6, 7]


class RecordedStep:
    """The file, opened: parameters in the prototxt's order, and what Caffe computed."""

    def __init__(self) -> None:
        self._file: dict[str, Any] = dict(np.load(FILE, allow_pickle=False))
        self.names = [str(name) for name in self._file["order"]]
        self.losses = {
            name.removesuffix("_loss"): float(self._file[f"loss/{name}"])
            for name in ("softmax_loss", "euclidean_loss", "cross_correlation_loss")
        }

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(int(size) for size in self._file[f"shape/{name}"])

    def has_gradient(self, name: str) -> bool:
        """False for biases that a batch norm takes away again: their gradient is noise."""
        return float(self._file[f"norm/{name}"]) >= 1e-9

    def gradient_error(self, name: str, gradient: Float64) -> float:
        """The largest difference of the recorded entries, as a share of the largest entry."""
        recorded = self._file[f"gradient/{name}"]
        found = gradient.reshape(-1)[self._file[f"at/{name}"]]
        return float(np.abs(found - recorded).max() / np.abs(recorded).max())

    def weights(self) -> dict[str, Float64]:
        """All parameters: uniform like the fillers, biases and scales off their start values."""
        draw = np.random.RandomState(2017)
        found: dict[str, Float64] = {}
        for name in self.names:
            layer, _, number = name.rpartition("/")
            shape = self.shape(name)
            noise = draw.uniform(-1.0, 1.0, shape)
            if layer.endswith("_bn_scale"):
                found[name] = 0.1 * noise + (number == "0")
            elif number == "0":
                bound = np.sqrt(3.0 / np.prod(shape[1:])) * (0.05 if layer == "fc8" else 1.0)
                found[name] = noise * bound
            else:
                found[name] = 0.01 * noise + (0.0 if layer.startswith("fc") else 0.2)
        return found


def images() -> tuple[Float64, Float64]:
    """The pairs' first images and their second, (6, 3, 144, 56) each, less the mean.

    Eight images of large blocks and noise; image 2 resembles image 0, and 5 resembles 1.
    """
    draw = np.random.RandomState(7)
    blocks = draw.uniform(0.0, 255.0, (8, 3, 18, 7))
    for other, first in ((2, 0), (5, 1)):
        blocks[other] = 0.8 * blocks[first] + 0.2 * blocks[other]
    all_images = np.kron(blocks, np.ones((1, 1, 8, 8)))
    all_images += draw.uniform(-8.0, 8.0, all_images.shape)
    all_images -= np.array(MEAN_BGR)[:, None, None]
    return all_images[FIRST_IMAGES], all_images[SECOND_IMAGES]
