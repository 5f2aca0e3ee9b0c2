"""CSN's ranking net against section 3.1, step by step."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from reid.models.csn.ranking import RankingNet


def parts_of(images: int, sizes: tuple[int, ...], channels: int = 4) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(images, 3, channels, f, f, generator=generator) for f in sizes)


def test_the_vector_is_the_papers_steps_one_by_one() -> None:
    network = RankingNet((True, False), channels=4, dim=6).eval()
    parts = parts_of(2, (10, 5))
    means = []
    for level, x in enumerate(parts):
        convolved = [network.conv_a[level](x[:, stripe]) for stripe in range(3)]
        if level == 0:
            convolved = [torch.nn.functional.max_pool2d(stripe, 2) for stripe in convolved]
        below_one_another = torch.cat(convolved, 2)
        assert below_one_another.shape == (2, 4, 15, 5)
        means.append(network.conv_b[0](below_one_another).mean((2, 3)))
    expected = network.embedding(torch.cat(means, 1))
    expected = expected / expected.norm(dim=1, keepdim=True)
    torch.testing.assert_close(network(parts), expected)


@pytest.mark.parametrize(
    ("sharing", "first", "second"), [("hybrid", 3, 1), ("shared", 1, 1), ("separate", 3, 3)]
)
def test_levels_share_what_the_setting_says(sharing: str, first: int, second: int) -> None:
    network = RankingNet((True, False, False), channels=4, dim=6, sharing=sharing)
    assert (len(network.conv_a), len(network.conv_b)) == (first, second)
    network(parts_of(2, (10, 5, 3))).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name


def test_vectors_have_length_one() -> None:
    vectors = RankingNet((False,), channels=4, dim=6).eval()(parts_of(3, (5,)))
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


def test_another_sharing_is_refused() -> None:
    with pytest.raises(ValueError, match="one of hybrid, shared, separate; found 'both'"):
        RankingNet((True,), channels=4, sharing="both")
