"""The graphs that are exported answer as the modules that run, for every reading of the paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from reid.models.csn.graphs import pair_graphs
from tests.models.csn.test_graphs import READINGS, lively


@pytest.mark.parametrize("size", [(80, 40), (82, 38)])
@pytest.mark.parametrize("reading", READINGS.values(), ids=READINGS.keys())
def test_exported_graphs_give_the_scores_of_the_modules_that_run(
    reading: dict[str, Any], size: tuple[int, int]
) -> None:
    describe, compare, pair = pair_graphs(lively(**reading), (3, *size), True)
    assert compare.exported is not None
    assert pair.exported is not None
    images = torch.randn(5, 3, *size)
    with torch.inference_mode():
        arrays = describe.module(images)
        sides = [array[:1] for array in arrays] + [array[1:] for array in arrays]
        first, second = images[:1].expand(4, -1, -1, -1), images[1:]
        expected = compare.module(*sides)
        assert expected.std() > 1e-3
        for found in (compare.exported(*sides), pair.exported(first, second)):
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        turned = pair.module(second, first)
        torch.testing.assert_close(pair.exported(second, first), turned, rtol=1e-4, atol=1e-5)
