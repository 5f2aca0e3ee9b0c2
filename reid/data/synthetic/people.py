"""Appearance of the synthetic pedestrians: build, clothes, colours, hair and bags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]
"""BGR, 0-255."""

# Few colours, shared by all: as in a crowd, people differ by their combination.
_UPPER_COLOURS: Sequence[Colour] = (
    (40, 38, 38), (205, 208, 210), (62, 60, 140), (118, 78, 52), (70, 98, 66),
    (92, 158, 182), (122, 122, 120), (112, 84, 104), (160, 140, 112),
)  # fmt: skip
_LOWER_COLOURS: Sequence[Colour] = (
    (38, 36, 36), (100, 72, 52), (135, 115, 95), (95, 120, 138), (105, 103, 100),
)  # fmt: skip
_BAG_COLOURS: Sequence[Colour] = (
    (30, 30, 30), (40, 40, 150), (140, 70, 40), (60, 100, 150), (170, 170, 165),
)  # fmt: skip
_SHOE_COLOURS: Sequence[Colour] = ((28, 28, 28), (215, 215, 215), (50, 80, 120), (60, 60, 150))
_SKIN_COLOURS: Sequence[Colour] = (
    (185, 205, 238), (150, 180, 222), (110, 145, 198), (72, 102, 150), (45, 62, 95),
)  # fmt: skip
_HAIR_COLOURS: Sequence[Colour] = (
    (22, 22, 26), (35, 50, 80), (80, 140, 190), (40, 70, 140), (150, 150, 150),
)  # fmt: skip

_PATTERNS = ("plain", "plain", "plain", "rings", "bars", "checks", "two_tone", "logo", "open")


@dataclass(frozen=True, slots=True)
class Appearance:
    """Everything about a person that a camera can see."""

    height: float
    girth: float
    skin: Colour
    hair: Colour
    hair_style: str
    hat: str
    hat_colour: Colour
    garment: str
    upper: Colour
    second: Colour
    pattern: str
    lower_kind: str
    lower: Colour
    shoes: Colour
    bag: str
    bag_colour: Colour


def random_appearance(rng: np.random.Generator) -> Appearance:
    """Draw a person: clothes, colours, build and bag."""

    def colour(palette: Sequence[Colour], spread: float = 9.0) -> Colour:
        chosen = np.asarray(palette[int(rng.integers(len(palette)))]) + rng.normal(0, spread, 3)
        blue, green, red = np.clip(chosen, 12, 240)
        return float(blue), float(green), float(red)

    def one_of(*names: str) -> str:
        return names[int(rng.integers(len(names)))]

    return Appearance(
        height=float(rng.uniform(0.86, 1.04)),
        girth=float(rng.uniform(0.95, 1.4)),
        skin=colour(_SKIN_COLOURS, 5.0),
        hair=colour(_HAIR_COLOURS),
        hair_style=one_of("short", "short", "long", "bun", "bald"),
        hat=one_of("none", "none", "none", "none", "cap", "beanie"),
        hat_colour=colour(_BAG_COLOURS),
        garment=one_of("tshirt", "tshirt", "jumper", "jumper", "coat"),
        upper=colour(_UPPER_COLOURS),
        second=colour(_UPPER_COLOURS),
        pattern=one_of(*_PATTERNS),
        lower_kind=one_of("trousers", "trousers", "trousers", "shorts", "skirt"),
        lower=colour(_LOWER_COLOURS),
        shoes=colour(_SHOE_COLOURS),
        bag=one_of("none", "none", "backpack", "backpack", "handbag", "satchel"),
        bag_colour=colour(_BAG_COLOURS),
    )
