"""SiSNet: two scales through one network, its activation maps, and what the DRC loss reaches."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from reid.errors import ConfigError
from reid.losses.drc import drc_loss
from reid.models.sisnet import SISNET
from reid.models.sisnet.activation_maps import activation_maps
from reid.models.sisnet.network import SisNet, SisNetOutput
from reid.models.sisnet.settings import SisNetSettings

SECOND = (48, 24)


def network_of(**settings: Any) -> SisNet:
    """ResNet-18 for 64x32 images, in evaluation mode, with a neck that does something."""
    torch.manual_seed(0)
    network = SisNet(5, SisNetSettings(**{"depth": 18, "second_size": SECOND, **settings})).eval()
    if network.neck is not None:
        nn.init.uniform_(network.neck.weight, 0.5, 1.5)
        nn.init.normal_(network.neck.running_mean)  # type: ignore[arg-type]
        nn.init.uniform_(network.neck.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    return network


def images(number: int = 3, height: int = 64, width: int = 32) -> Tensor:
    return torch.randn(number, 3, height, width, generator=torch.Generator().manual_seed(0))


def output_of(network: SisNet, x: Tensor) -> SisNetOutput:
    output: SisNetOutput = network(x)
    return output


@pytest.fixture(scope="module")
def network() -> SisNet:
    return network_of()


def test_a_branch_is_backbone_mean_neck_and_classifier(network: SisNet) -> None:
    x = images()
    with torch.no_grad():
        first, second = output_of(network, x).branches
        maps = network.backbone(x)
    state = network.state_dict()
    features = maps.mean((2, 3))
    neck = (features - state["neck.running_mean"]) / (state["neck.running_var"] + 1e-5).sqrt()
    neck = neck * state["neck.weight"]
    torch.testing.assert_close(first.maps, maps)
    torch.testing.assert_close(first.features, features)
    torch.testing.assert_close(first.neck, neck)
    torch.testing.assert_close(first.logits, neck @ state["classifier.weight"].T)
    assert first.maps.shape == (3, 512, 4, 2)
    assert second.maps.shape == (3, 512, 3, 2)
    assert second.logits.shape == (3, 5)


def test_the_second_branch_is_the_same_network_on_the_second_scale(network: SisNet) -> None:
    x = images()
    with torch.no_grad():
        second = output_of(network, x).branches[1]
        again = network.branch(network.second_scale(x))
    for found, expected in zip(second, again, strict=True):
        assert torch.equal(found, expected)


def bilinear(plane: list[list[float]], height: int, width: int) -> list[list[float]]:
    """One channel resized pixel by pixel: centres at (i + 0.5) / size, edges repeated."""

    def at(i: int, size: int, old: int) -> tuple[int, int, float]:
        place = min(max((i + 0.5) * old / size - 0.5, 0.0), old - 1.0)
        low = int(place)
        return low, min(low + 1, old - 1), place - low

    rows = [at(y, height, len(plane)) for y in range(height)]
    columns = [at(x, width, len(plane[0])) for x in range(width)]
    return [
        [
            (plane[y][x] * (1 - right) + plane[y][x_next] * right) * (1 - down)
            + (plane[y_next][x] * (1 - right) + plane[y_next][x_next] * right) * down
            for x, x_next, right in columns
        ]
        for y, y_next, down in rows
    ]


@pytest.mark.parametrize("size", [(48, 24), (96, 48), (50, 21), (64, 32)])
def test_the_second_scale_is_the_image_resized_pixel_by_pixel(size: tuple[int, int]) -> None:
    x = images(1)
    found = network_of(second_size=size).second_scale(x)
    expected = torch.tensor([bilinear(plane.tolist(), *size) for plane in x[0]])
    torch.testing.assert_close(found[0], expected)


def test_a_flip_of_the_image_is_the_same_flip_of_its_second_scale(network: SisNet) -> None:
    x = images()
    torch.testing.assert_close(network.second_scale(x.flip(3)), network.second_scale(x).flip(3))


def test_scales_that_do_not_divide_go_through_too() -> None:
    network = network_of(second_size=(37, 19))
    with torch.no_grad():
        first, second = output_of(network, images(2, 50, 26)).branches
    assert first.maps.shape[2:] == (4, 2)
    assert second.maps.shape[2:] == (3, 2)
    assert second.logits.isfinite().all()


def test_the_baseline_has_one_branch_and_the_same_parameters() -> None:
    baseline, both = network_of(two_scales=False), network_of()
    with torch.no_grad():
        (only,) = output_of(baseline, images()).branches
        first = output_of(both, images()).branches[0]
    assert list(baseline.state_dict()) == list(both.state_dict())
    torch.testing.assert_close(only.logits, first.logits)


def test_activation_maps_equal_the_sum_written_out() -> None:
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(3, 4, 2, 3, generator=generator)
    weights = torch.randn(5, 4, generator=generator)
    classes = torch.tensor([4, 0, 4])
    found = activation_maps(maps, weights, classes)
    assert found.shape == (3, 2, 3)
    for n in range(3):
        for y in range(2):
            for x in range(3):
                total = sum(
                    weights[classes[n], k].item() * maps[n, k, y, x].item() for k in range(4)
                )
                assert found[n, y, x].item() == pytest.approx(total, abs=1e-5)


@pytest.mark.parametrize("settings", [{}, {"bnneck": False}])
def test_the_mean_of_an_activation_map_is_its_logit_but_for_a_constant(
    settings: dict[str, Any],
) -> None:
    network = network_of(**settings).double()
    with torch.no_grad():
        output = output_of(network, images(4).double())
        first = output.branches[0]
        for identity in range(5):
            cam = activation_maps(first.maps, output.cam_weights, torch.full((4,), identity))
            constant = first.logits[:, identity] - cam.mean((1, 2))
            torch.testing.assert_close(constant, constant[:1].expand(4))
            assert first.logits[:, identity].std() > 1e-6


def test_the_plain_weights_leave_the_neck_out() -> None:
    plain, folded = network_of(fold_neck=False), network_of()
    assert torch.equal(plain.cam_weights(), plain.classifier.weight)
    state = folded.state_dict()
    factor = state["neck.weight"] / (state["neck.running_var"] + 1e-5).sqrt()
    torch.testing.assert_close(folded.cam_weights(), folded.classifier.weight * factor)


@pytest.mark.parametrize("fold_neck", [True, False])
def test_the_drc_loss_teaches_the_backbone_alone_through_both_branches(fold_neck: bool) -> None:
    network = network_of(fold_neck=fold_neck).train()
    output = output_of(network, images())
    for branch in output.branches:
        branch.maps.retain_grad()
    labels = torch.tensor([0, 1, 1])
    cams = [activation_maps(b.maps, output.cam_weights, labels) for b in output.branches]
    drc_loss(cams[0], cams[1]).backward()
    assert not output.cam_weights.requires_grad
    for name, parameter in network.named_parameters():
        taught = parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
        assert taught == name.startswith("backbone."), name
    for branch in output.branches:
        assert branch.maps.grad is not None
        assert branch.maps.grad.abs().max() > 0


def test_activation_maps_have_the_gradient_of_the_sum() -> None:
    generator = torch.Generator().manual_seed(2)
    maps = torch.randn(2, 3, 2, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    classes = torch.tensor([3, 1])
    assert torch.autograd.gradcheck(lambda x: activation_maps(x, weights, classes), (maps,))


def test_activation_maps_are_float32_under_autocast() -> None:
    network = network_of()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        output = output_of(network, images())
        cam = activation_maps(
            output.branches[0].maps, output.cam_weights, torch.zeros(3, dtype=torch.int64)
        )
    assert output.branches[0].maps.dtype == torch.bfloat16
    assert cam.dtype == torch.float32


@pytest.mark.parametrize(
    ("settings", "place"),
    [({}, "neck"), ({"embed_at": "features"}, "features"), ({"bnneck": False}, "features")],
)
def test_the_embedding_is_taken_where_it_is_set(settings: dict[str, Any], place: str) -> None:
    network = network_of(**settings)
    with torch.no_grad():
        found = network.embed(images())
        first = output_of(network, images()).branches[0]
    assert found.shape == (3, network.embedding_dim)
    torch.testing.assert_close(found, getattr(first, place))


def test_a_neck_has_a_fixed_shift_and_its_classifier_no_bias() -> None:
    with_neck, without = network_of().train(), network_of(bnneck=False)
    assert with_neck.neck is not None
    assert with_neck.classifier.bias is None
    output_of(with_neck, images()).branches[0].logits.square().sum().backward()
    assert with_neck.neck.bias.grad is None
    assert with_neck.neck.bias.eq(0).all()
    assert with_neck.neck.weight.grad is not None
    assert without.neck is None
    assert without.classifier.bias.eq(0).all()


@pytest.mark.parametrize(("depth", "dim"), [(18, 512), (34, 512), (50, 2048)])
def test_the_embedding_has_the_backbones_channels(depth: int, dim: int) -> None:
    with torch.device("meta"):
        network = SisNet(751, SisNetSettings(depth=depth))
        first, second = output_of(network, torch.empty(2, 3, 256, 128)).branches
    assert network.embedding_dim == dim
    assert first.maps.shape == (2, dim, 16, 8)
    assert second.maps.shape == (2, dim, 12, 6)
    assert first.logits.shape == (2, 751)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ConfigError, match="neck, features; found 'fc'"):
        SisNetSettings(depth=18, embed_at="fc")
    with pytest.raises(ConfigError, match=r"second_size .*32x16"):
        SisNetSettings(depth=18, second_size=(192, 9))
    assert SISNET.size_problem(32, 16) == ""
    assert "found 31x16" in SISNET.size_problem(31, 16)
