"""The correlation against the sum of Eq. 2, written out, in each of its forms."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reid.models.csn.correlation import (
    EVEN_PADDINGS,
    FORMS,
    correlate,
    correlate_spectra,
    spectra,
)


def naive(maps: Tensor, parts: Tensor, even: str = "after") -> Tensor:
    """Pair by pair, stripe by stripe, channel by channel: the part at each place of the map.

    TensorFlow's "SAME" puts (k - 1) // 2 zeros before and k // 2 after; ``even`` "before" is its
    mirror image.
    """
    pairs, channels, height, width = maps.shape
    stripes, size = parts.shape[1], parts.shape[-1]
    before = (size - 1) // 2 if even == "after" else size // 2
    canvas = torch.zeros(pairs, channels, height + size - 1, width + size - 1, dtype=maps.dtype)
    canvas[:, :, before : before + height, before : before + width] = maps
    out = torch.zeros(pairs, stripes * channels, height, width, dtype=maps.dtype)
    for pair in range(pairs):
        for stripe in range(stripes):
            for channel in range(channels):
                for y in range(height):
                    for x in range(width):
                        window = canvas[pair, channel, y : y + size, x : x + size]
                        product = window * parts[pair, stripe, channel]
                        out[pair, stripe * channels + channel, y, x] = product.sum()
    return out


def pairs_of(
    pairs: int, channels: int, height: int, width: int, size: int, stripes: int = 3
) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(pairs, channels, height, width, generator=generator)
    return maps, torch.randn(pairs, stripes, channels, size, size, generator=generator)


@pytest.mark.parametrize("even", EVEN_PADDINGS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "sizes",
    [
        (1, 2, 40, 15, 10),  # level 2
        (2, 2, 20, 8, 5),  # level 3
        (9, 1, 5, 4, 3),
        (1, 2, 4, 3, 6),  # a part larger than the maps
        (1, 2, 6, 5, 1),
        (1, 1, 7, 6, 4, 1),  # undivided
    ],
)
def test_every_form_equals_the_sum(sizes: tuple[int, ...], form: str, even: str) -> None:
    maps, parts = pairs_of(*sizes)
    found = correlate(maps, parts, form, even_padding=even)
    torch.testing.assert_close(found, naive(maps, parts, even), rtol=0, atol=1e-4)


def test_the_mirror_image_of_the_padding_gives_that_of_the_answer() -> None:
    maps, parts = pairs_of(2, 2, 6, 5, 4)
    mirrored = correlate(maps.flip(2, 3), parts.flip(3, 4), even_padding="before").flip(2, 3)
    torch.testing.assert_close(mirrored, correlate(maps, parts), rtol=0, atol=1e-4)
    assert not torch.allclose(correlate(maps, parts, even_padding="before"), mirrored, atol=0.1)


def test_another_padding_is_refused() -> None:
    with pytest.raises(ValueError, match="one of after, before; found 'both'"):
        correlate(*pairs_of(1, 1, 4, 4, 2), even_padding="both")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "sizes",
    [
        (1, 2, 40, 15, 10),  # level 2
        (9, 1, 5, 4, 3),
        (2, 2, 4, 7, 6, 1),
        (1, 2, 1, 1, 2),
    ],
)
def test_pooled_is_the_largest_of_two_by_two_places(sizes: tuple[int, ...], form: str) -> None:
    maps, parts = pairs_of(*sizes)
    whole = naive(maps, parts)
    expected = torch.stack(
        [
            torch.stack([whole[..., y : y + 2, x : x + 2].amax((2, 3)) for x in range(0, width, 2)])
            for height, width in [whole.shape[2:]]
            for y in range(0, height, 2)
        ]
    ).permute(2, 3, 0, 1)
    found = correlate(maps, parts, form, pool=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_one_pixel_slides_the_mirrored_part_over_the_map(form: str) -> None:
    maps = torch.zeros(1, 1, 9, 9)
    maps[0, 0, 4, 4] = 1
    parts = torch.arange(1.0, 17.0).view(1, 1, 1, 4, 4)
    found = correlate(maps, parts, form)[0, 0]
    # Of four rows one lies above the centre and two below; the pixel meets the part's last
    # element where the part stands two above and two left of it.
    torch.testing.assert_close(found[2:6, 2:6], parts[0, 0, 0].flip(0, 1))
    assert found.abs().sum().item() == pytest.approx(136, abs=1e-3)  # 1 + .. + 16, no more


@pytest.mark.parametrize("form", FORMS)
def test_channels_run_stripe_by_stripe(form: str) -> None:
    maps = torch.ones(1, 2, 3, 3)
    parts = torch.arange(6.0).view(1, 3, 2, 1, 1)  # stripe by stripe, channel by channel
    found = correlate(maps, parts, form)[0, :, 1, 1]
    assert found.tolist() == pytest.approx([0, 1, 2, 3, 4, 5], abs=1e-5)


@pytest.mark.parametrize("even", EVEN_PADDINGS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("size", [3, 4])
def test_gradient_is_that_of_the_sum(form: str, size: int, even: str) -> None:
    maps, parts = pairs_of(2, 2, 5, 4, size, stripes=2)
    inputs = (maps.double().requires_grad_(), parts.double().requires_grad_())
    assert torch.autograd.gradcheck(lambda m, p: correlate(m, p, form, even_padding=even), inputs)


@pytest.mark.parametrize("sizes", [(2, 2, 5, 4, 3), (2, 2, 4, 5, 4), (1, 1, 1, 3, 2)])
def test_gradient_of_pooled_goes_to_the_largest(sizes: tuple[int, ...]) -> None:
    maps, parts = (x.double().requires_grad_() for x in pairs_of(*sizes))
    pooled = F.max_pool2d(correlate(maps, parts, "conv"), 2, ceil_mode=True)
    weight = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(1)).double()
    expected = torch.autograd.grad((pooled * weight).sum(), (maps, parts))
    out = correlate(maps, parts, "spectra", pool=True)
    found = torch.autograd.grad((out * weight).sum(), (maps, parts))
    torch.testing.assert_close(found, expected)


def test_gradient_of_equal_values_goes_to_one_of_them() -> None:
    maps = torch.ones(1, 1, 4, 6, dtype=torch.float64)
    parts = torch.ones(1, 1, 1, 1, 1, dtype=torch.float64, requires_grad=True)
    out = correlate(maps, parts, "spectra", pool=True)
    (found,) = torch.autograd.grad(out.sum(), parts)
    assert found.item() == pytest.approx(6)  # once for each of the 2x3 places


@pytest.mark.parametrize("form", FORMS)
def test_a_pair_does_not_see_the_other_pairs(form: str) -> None:
    maps, parts = pairs_of(3, 2, 6, 5, 4)
    alone = correlate(maps[1:2], parts[1:2], form)
    torch.testing.assert_close(correlate(maps, parts, form)[1:2], alone)


def shared_pairs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Maps and parts of four images, positive, and pairs in which they recur."""
    maps, parts = (x.abs() for x in pairs_of(4, 3, 20, 9, 4))
    return maps, parts, torch.tensor([0, 0, 1, 3, 0]), torch.tensor([1, 2, 0, 3, 2])


def value_and_gradients(
    form: str, kind: torch.dtype, pool: bool, autocast: bool = False
) -> tuple[Tensor, ...]:
    """``correlate_spectra`` of ``shared_pairs``, or ``correlate`` of their rows."""
    maps, parts, first, second = shared_pairs()
    inputs = (maps.to(kind).requires_grad_(), parts.to(kind).requires_grad_())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        if form == "conv":
            out = correlate(inputs[0][first], inputs[1][second], "conv", pool)
        else:
            out = correlate_spectra(spectra(*inputs), first, second, pool)
    weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1)).to(kind)
    return (out.detach(), *torch.autograd.grad((out * weight).sum(), inputs))


@pytest.mark.parametrize("pool", [False, True])
def test_images_in_several_pairs_have_the_values_and_gradients_of_their_rows(pool: bool) -> None:
    found = value_and_gradients("spectra", torch.float64, pool)
    torch.testing.assert_close(found, value_and_gradients("conv", torch.float64, pool))


@pytest.mark.parametrize("pool", [False, True])
def test_spectra_of_images_give_the_sum_for_each_pair(pool: bool) -> None:
    maps, parts, first, second = shared_pairs()
    found = correlate_spectra(spectra(maps, parts), first, second, pool)
    expected = naive(maps[first], parts[second])
    expected = F.max_pool2d(expected, 2, ceil_mode=True) if pool else expected
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_bfloat16_is_about_as_exact_as_the_convolutions() -> None:
    exact = value_and_gradients("conv", torch.float64, False)
    errors = []
    for form in ("spectra", "conv"):
        found = value_and_gradients(form, torch.bfloat16, False)
        assert {x.dtype for x in found} == {torch.bfloat16}
        errors.append(
            [((x - y).norm() / y.norm()).item() for x, y in zip(found, exact, strict=True)]
        )
    for by_spectra, by_convolution in zip(*errors, strict=True):
        assert 1e-4 < by_spectra < 3 * by_convolution < 0.03


@pytest.mark.parametrize("pool", [False, True])
def test_autocast_leaves_float32_maps_in_float32(pool: bool) -> None:
    found = value_and_gradients("spectra", torch.float32, pool, autocast=True)
    expected = value_and_gradients("spectra", torch.float32, pool)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_no_pairs_have_no_similarities(form: str, pool: bool) -> None:
    maps, parts = pairs_of(0, 2, 6, 5, 4)
    assert correlate(maps, parts, form, pool).shape == ((0, 6, 3, 3) if pool else (0, 6, 6, 5))


def test_another_form_is_refused() -> None:
    with pytest.raises(ValueError, match="one of auto, conv, spectra; found 'direct'"):
        correlate(*pairs_of(1, 1, 4, 4, 3), form="direct")
