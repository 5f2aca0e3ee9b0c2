"""Two scales' activation maps: whose they are, and how far they agree."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from reid.config.toml import resolve_config
from reid.data import read_image
from reid.model_file.manifest import Manifest
from reid.models.sisnet.activation_maps import map_correlation, scale_maps
from reid.models.sisnet.network import SisNet
from reid.models.sisnet.settings import SisNetSettings
from reid.report.map_consistency import map_consistencies
from reid.training.checkpoint import Checkpoint, build_configured_network, save_checkpoint
from reid.types import ImageRecord
from tests.heard import Heard
from tests.losses.test_drc import maps as drawn_maps
from tests.losses.test_drc import resized

SMALL = (
    *("network.depth=18", "network.second_size=[48,32]"),
    *("preprocess.resize_height=64", "preprocess.resize_width=32"),
    *("preprocess.crop_height=64", "preprocess.crop_width=32"),
)


def network_of(two_scales: bool = True) -> SisNet:
    torch.manual_seed(0)
    return SisNet(7, SisNetSettings(depth=18, second_size=(48, 32), two_scales=two_scales)).eval()


def write_run(folder: Path, *overrides: str, recipe: str = "sisnet_market1501") -> Path:
    """An untrained network of a recipe, as a run folder."""
    config = resolve_config(recipe, None, (*(SMALL if "sisnet" in recipe else ()), *overrides))
    torch.manual_seed(0)
    network = build_configured_network(config, 7)
    manifest = Manifest(config.network.name, "train", config.preprocess)
    checkpoint = Checkpoint(config, manifest, 7, network.state_dict())
    save_checkpoint(folder / "checkpoint.pt", checkpoint)
    return folder


@pytest.fixture
def query(tmp_path: Path) -> list[ImageRecord]:
    """Five images of noise."""
    noise = np.random.default_rng(0)
    records = []
    for person in range(1, 6):
        path = tmp_path / f"{person}.png"
        assert cv2.imwrite(str(path), noise.integers(0, 256, (40, 20, 3), np.uint8))
        records.append(ImageRecord(path, person, 1))
    return records


def test_the_correlation_is_that_of_the_maps_on_the_larger_grid() -> None:
    first, second = drawn_maps()
    found = map_correlation(first, second)
    for i in range(len(first)):
        planes = [resized(x[i].tolist(), *first.shape[1:]) for x in (first, second)]
        one, other = (np.array(plane).ravel() for plane in planes)
        expected = np.corrcoef(one, other)[0, 1]
        assert float(found[i]) == pytest.approx(expected, abs=1e-12)


def test_shift_and_strength_do_not_count_and_an_opposite_map_has_minus_one() -> None:
    first, _ = drawn_maps()
    torch.testing.assert_close(map_correlation(first, 3 * first - 5), torch.ones(2).double())
    torch.testing.assert_close(map_correlation(first, -first), -torch.ones(2).double())


def test_a_flat_map_agrees_with_nothing() -> None:
    first, second = drawn_maps()
    second[1] = 1 / 3
    found = map_correlation(first.float(), second.float())
    assert found.isnan().tolist() == [False, True]


@pytest.mark.parametrize("two_scales", [True, False])
def test_both_maps_show_the_class_of_the_first_scale_s_largest_logit(two_scales: bool) -> None:
    network = network_of(two_scales)
    assert network.neck is not None
    x = torch.randn(3, 3, 64, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        features = network.branch(x).features
        network.neck.running_mean = features.mean(0)  # what is left tells the images apart
        found = scale_maps(network, x)
        first, second = network.branch(x), network.branch(network.second_scale(x))
    assert found.classes.tolist() == first.logits.argmax(1).tolist()
    assert second.logits.argmax(1).tolist() != found.classes.tolist()  # the test can tell
    for maps, branch in ((found.first, first), (found.second, second)):
        for i, k in enumerate(found.classes.tolist()):
            expected = sum(
                float(w) * m for w, m in zip(network.cam_weights()[k], branch.maps[i], strict=True)
            )
            torch.testing.assert_close(maps[i], expected)


def test_the_mean_over_the_queries_is_the_same_in_any_batches(
    query: list[ImageRecord], tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run")
    config = resolve_config("sisnet_market1501", None, SMALL)
    torch.manual_seed(0)
    network = build_configured_network(config, 7).eval()
    assert isinstance(network, SisNet)
    batch = config.preprocess.batch([read_image(one.path) for one in query])
    with torch.no_grad():
        maps = scale_maps(network, torch.from_numpy(batch))
        expected = float(map_correlation(maps.first, maps.second).mean())
    counted: list[int] = []
    heard = Heard()
    for batch_size in (2, 64):
        (found,) = map_consistencies(
            [run], query, device="cpu", batch_size=batch_size, reporter=heard
        )
        counted += heard.done["activation maps"]
        assert found.model == str(run)
        assert found.mean == pytest.approx(expected, abs=1e-5)
        assert (found.num_images, found.num_flat) == (5, 0)
    assert counted == [2, 2, 1, 5]
    assert found.words().startswith(f"{run.name}: mean correlation {found.mean:.3f} of the two")
    assert "5 query images" in found.words()


def test_maps_that_are_flat_are_counted_and_have_no_mean(
    query: list[ImageRecord], tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run")
    file = run / "checkpoint.pt"
    body = torch.load(file, weights_only=True)
    nn.init.zeros_(body["model"]["classifier.weight"])
    torch.save(body, file)
    (found,) = map_consistencies([run], query, device="cpu")
    values = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert (values["mean_correlation"], values["num_images"], values["num_flat"]) == (None, 0, 5)
    assert "mean correlation - of" in found.words()
    assert "(5 with a flat map left out)" in found.words()


def test_other_networks_and_exported_files_have_none(
    query: list[ImageRecord], tmp_path: Path
) -> None:
    other = write_run(tmp_path / "other", recipe="msp_cnn_synthetic")
    exported = tmp_path / "sisnet.fp32.onnx"
    exported.touch()
    run = write_run(tmp_path / "run")
    found = map_consistencies([other, exported, run], query, device="cpu")
    assert [one.model for one in found] == [str(run)]
