"""A few synthetic people, each in several cameras, to see whether a model tells them apart."""

from __future__ import annotations

from functools import cache

import numpy as np

from reid.data.synthetic.people import random_appearance
from reid.data.synthetic.scene import make_cameras, photograph
from reid.types import Image

PEOPLE, CAMERAS = 8, 3


@cache
def synthetic_people(seed: int = 3) -> tuple[Image, ...]:
    """Each of ``PEOPLE`` in each of ``CAMERAS``, person by person: (H, W, 3) uint8 BGR."""
    cameras = make_cameras(CAMERAS, np.random.default_rng(seed))
    return tuple(
        photograph(
            camera,
            random_appearance(np.random.default_rng((seed, person))),
            np.random.default_rng((seed, person, number)),
        )
        for person in range(PEOPLE)
        for number, camera in enumerate(cameras)
    )
