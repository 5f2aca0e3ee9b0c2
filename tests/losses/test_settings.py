from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from collections.abc import Callable

import pytest
from torch import Tensor

from reid.losses.cross_correlation import cross_correlation_loss
from reid.losses.drc import drc_loss
from reid.losses.euclidean import euclidean_loss
from reid.losses.identity import softmax_loss
from reid.losses.settings import DEFAULTS, LossConfig
from reid.losses.transform_prior import transform_prior_loss
from reid.losses.triplet import triplet_loss
from reid.models.harder_negatives import harder_negatives

Loss = Callable[..., Tensor]

PLACES: dict[str, tuple[Loss, str]] = {
    "label_smoothing": (softmax_loss, "label_smoothing"),
    "euclidean_margin": (euclidean_loss, "margin"),
    "euclidean_gradient_eps": (euclidean_loss, "gradient_eps"),
    "contrastive_margin": (euclidean_loss, "margin"),
    "correlation_patch": (cross_correlation_loss, "patch"),
    "correlation_rows": (cross_correlation_loss, "rows"),
    "correlation_outside_rows": (cross_correlation_loss, "outside_rows"),
    "correlation_sigma_eps": (cross_correlation_loss, "sigma_eps"),
    "correlation_positive_threshold": (cross_correlation_loss, "positive_threshold"),
    "correlation_negative_threshold": (cross_correlation_loss, "negative_threshold"),
    "correlation_positives_only": (cross_correlation_loss, "positives_only"),
    "correlation_symmetric": (cross_correlation_loss, "symmetric"),
    "negative_candidates": (harder_negatives, "candidates"),
    "prior_scale_weight": (transform_prior_loss, "scale_weight"),
    "prior_inside_weight": (transform_prior_loss, "inside_weight"),
    "prior_rotation_weight": (transform_prior_loss, "rotation_weight"),
    "prior_min_scale": (transform_prior_loss, "min_scale"),
    "prior_extent": (transform_prior_loss, "extent"),
    "triplet_margin": (triplet_loss, "margin"),
    "triplet_soft_margin": (triplet_loss, "soft_margin"),
    "drc_normalise": (drc_loss, "normalise"),
    "drc_grid": (drc_loss, "grid"),
    "drc_rectify": (drc_loss, "rectify"),
}
"""Setting -> the loss that it sets, and the argument."""


def test_every_setting_of_the_losses_has_a_place() -> None:
    assert PLACES.keys() == {field.name for field in dataclasses.fields(LossConfig)}


@pytest.mark.parametrize("setting", PLACES)
def test_a_loss_called_directly_has_the_default_of_a_run(setting: str) -> None:
    loss, argument = PLACES[setting]
    default = inspect.signature(loss).parameters[argument].default
    assert default == getattr(DEFAULTS, setting)
    assert type(default) is type(getattr(DEFAULTS, setting))


@pytest.mark.parametrize("loss", sorted({loss for loss, _ in PLACES.values()}, key=repr))
def test_no_argument_of_a_loss_has_a_default_of_its_own(loss: Loss) -> None:
    own = {
        name
        for name, parameter in inspect.signature(loss).parameters.items()
        if parameter.default is not parameter.empty and parameter.default is not None
    }
    assert own == {argument for of_loss, argument in PLACES.values() if of_loss is loss}


def test_the_settings_load_no_torch() -> None:
    code = "import sys, reid.losses.settings; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
