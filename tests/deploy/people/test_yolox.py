"""YOLOX's output, decoded cell by cell as its paper says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reid.deploy.people.yolox import num_cells, people_from_yolox

HEIGHT, WIDTH = 64, 96


def literal_people(
    output: np.ndarray[tuple[int, ...], np.dtype[np.float32]], person: int, min_score: float
) -> list[tuple[float, ...]]:
    """Each cell of each grid in turn: (left, top, right, bottom, score)."""
    found, row = [], 0
    for stride in (8, 16, 32):
        for cell_y in range(HEIGHT // stride):
            for cell_x in range(WIDTH // stride):
                x, y, log_w, log_h, thing, *classes = output[row].tolist()
                row += 1
                if thing * classes[person] < min_score:
                    continue
                centre_x, centre_y = (cell_x + x) * stride, (cell_y + y) * stride
                width, height = math.exp(log_w) * stride, math.exp(log_h) * stride
                found.append(
                    (
                        centre_x - width / 2,
                        centre_y - height / 2,
                        centre_x + width / 2,
                        centre_y + height / 2,
                        thing * classes[person],
                    )
                )
    assert row == len(output)
    return found


@pytest.mark.parametrize("person", [0, 2])
def test_boxes_are_those_of_a_loop_over_the_cells(person: int) -> None:
    rng = np.random.default_rng(1)
    cells = num_cells(HEIGHT, WIDTH)
    output = rng.normal(size=(cells, 8)).astype(np.float32)
    output[:, 4:] = rng.random((cells, 4))
    expected = literal_people(output, person, 0.3)
    found = people_from_yolox(output, HEIGHT, WIDTH, person, 0.3)
    assert 10 < len(expected) < cells
    table = np.column_stack([found.boxes, found.scores])
    np.testing.assert_allclose(table, expected, rtol=1e-4, atol=1e-4)


def test_a_size_beyond_all_numbers_stays_one() -> None:
    output = np.full((num_cells(HEIGHT, WIDTH), 6), 1e9, np.float32)
    output[:, 4:] = 1
    found = people_from_yolox(output, HEIGHT, WIDTH, 0, 0.5)
    assert np.isfinite(found.boxes).all()
