"""Drawing a synthetic pedestrian from any side.

The body is a stick model in three dimensions with thick parts, seen without perspective
and painted from far to near. So a backpack shows from behind and at the side, a logo
only from the front, and stripes run round the body.

Body coordinates are in units of the person's height: ``lateral`` to their left,
``forward``, ``up`` from the ground.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from reid.data.synthetic.people import Appearance, Colour
from reid.types import Image

_SHIFT_BITS = 4


@dataclass(frozen=True, slots=True)
class Pose:
    """One moment. ``yaw`` 0 faces the camera, pi turns the back to it, pi/2 faces right.

    ``stride`` in [-1, 1] is the position of the legs in their swing, ``lean`` the tilt of the
    body as a share of its height.
    """

    yaw: float
    stride: float
    lean: float = 0.0


def draw_person(
    canvas: Image,
    who: Appearance,
    pose: Pose,
    foot: tuple[float, float],
    pixels: float,
    rng: np.random.Generator,
) -> None:
    """Paint a person into ``canvas`` (H, W, 3), standing at ``foot`` (x, y).

    ``pixels`` is the height in pixels of a person of height 1; ``rng`` draws the folds of cloth.
    """
    _Figure(canvas, who, pose, foot, pixels * who.height, rng).draw()


class _Figure:
    """One drawing of one person: the projection and the parts."""

    def __init__(
        self,
        canvas: Image,
        who: Appearance,
        pose: Pose,
        foot: tuple[float, float],
        pixels: float,
        rng: np.random.Generator,
    ) -> None:
        self.canvas, self.who, self.pose = canvas, who, pose
        self.foot, self.pixels, self.rng = foot, pixels, rng
        self.cos, self.sin = math.cos(pose.yaw), math.sin(pose.yaw)
        self.shoulder = 0.112 * who.girth
        self.hip = 0.08 * who.girth

    def draw(self) -> None:
        """Draw all parts, the farthest first; depth grows towards the camera."""
        parts: list[tuple[float, Callable[[], None]]] = [
            (0.0, self._pelvis),
            (0.001, self._torso),
            (0.002, self._head),
        ]
        for side in (-1.0, 1.0):
            # Legs and arms swing in opposite directions; the body hides the far ones.
            leg, arm = side * self.pose.stride, -side * self.pose.stride
            parts.append((self._depth(side * self.hip, 0) - 0.2, _bind(self._leg, side, leg)))
            reach = 0.09 * arm
            parts.append(
                (self._depth(side * self.shoulder * 1.15, reach), _bind(self._arm, side, arm))
            )
        if self.who.bag == "backpack":
            parts.append((self._depth(0, -0.1), self._backpack))
        if self.who.hair_style == "long":
            parts.append((self._depth(0, -0.05), self._long_hair))
        for _, part in sorted(parts, key=lambda item: item[0]):
            part()

    # Projection

    def _depth(self, lateral: float, forward: float) -> float:
        return forward * self.cos - lateral * self.sin

    def _at(self, lateral: float, forward: float, up: float) -> tuple[float, float]:
        x = lateral * self.cos + forward * self.sin + self.pose.lean * up
        return self.foot[0] + x * self.pixels, self.foot[1] - up * self.pixels

    def _half_width(self, lateral: float, forward: float) -> float:
        """Half the visible width of an upright elliptic body part with these half axes."""
        return math.hypot(lateral * self.cos, forward * self.sin)

    # Painting

    def _line(self, ends: Sequence[tuple[float, float]], width: float, colour: Colour) -> None:
        thickness = max(1, round(width * self.pixels))
        shade = self.rng.uniform(0.9, 1.05)
        cv2.polylines(
            self.canvas, [_fixed(ends)], False, _times(colour, shade), thickness, shift=_SHIFT_BITS
        )

    def _polygon(self, corners: Sequence[tuple[float, float]], colour: Colour) -> None:
        cv2.fillPoly(self.canvas, [_fixed(corners)], colour, shift=_SHIFT_BITS)

    def _ellipse(
        self,
        centre: tuple[float, float],
        half_width: float,
        half_height: float,
        colour: Colour,
        arc: tuple[float, float] = (0, 360),
    ) -> None:
        axes = (max(1.0, half_width * self.pixels), max(1.0, half_height * self.pixels))
        one = 1 << _SHIFT_BITS
        cv2.ellipse(
            self.canvas,
            (round(centre[0] * one), round(centre[1] * one)),
            (round(axes[0] * one), round(axes[1] * one)),
            0,
            arc[0],
            arc[1],
            colour,
            -1,
            shift=_SHIFT_BITS,
        )

    def _column(self, rings: Sequence[tuple[float, float, float]]) -> list[tuple[float, float]]:
        """The outline of an upright body part from rings (up, lateral, forward half axes)."""
        left, right = [], []
        for up, lateral, forward in rings:
            x, y = self._at(0, 0, up)
            half = self._half_width(lateral, forward) * self.pixels
            left.append((x - half, y))
            right.append((x + half, y))
        return left + right[::-1]

    # Parts, from the ground up

    def _leg(self, side: float, swing: float) -> None:
        who, girth = self.who, self.who.girth
        hip = self._at(side * self.hip * 0.6, 0, 0.5)
        knee = self._at(side * self.hip * 0.65, 0.06 * swing + 0.015, 0.28)
        back = max(0.0, -swing)
        ankle_at = (side * self.hip * 0.6, 0.13 * swing - 0.03 * back, 0.035 + 0.03 * back)
        ankle = self._at(*ankle_at)
        toe = self._at(ankle_at[0] * 1.3, ankle_at[1] + 0.055, ankle_at[2] - 0.018)
        bare = who.lower_kind != "trousers"
        self._line(
            [knee, ankle], (0.045 if bare else 0.06) * girth, who.skin if bare else who.lower
        )
        thigh = who.skin if who.lower_kind == "skirt" else who.lower
        self._line([hip, knee], 0.085 * girth, thigh)
        self._line([ankle, toe], 0.042, who.shoes)

    def _pelvis(self) -> None:
        girth = self.who.girth
        rings = [(0.62, self.hip * 1.05, 0.065 * girth), (0.47, self.hip * 1.15, 0.075 * girth)]
        if self.who.lower_kind == "skirt":
            rings.append((0.31, self.hip * 1.45, 0.11 * girth))
        self._cloth(self._column(rings), self.who.lower, self.who.lower, "plain")

    def _torso(self) -> None:
        who, girth = self.who, self.who.girth
        neck = [self._at(0, 0.005, 0.87), self._at(0, 0, 0.82)]
        self._line(neck, 0.06, who.skin)
        hem = 0.36 if who.garment == "coat" else 0.53
        rings = [
            (0.85, 0.04, 0.04),
            (0.82, self.shoulder, 0.06 * girth),
            (0.70, self.shoulder * 0.98, 0.078 * girth),
            (0.58, self.hip * 1.12, 0.072 * girth),
            (hem, self.hip * (1.4 if who.garment == "coat" else 1.22), 0.085 * girth),
        ]
        self._cloth(self._column(rings), who.upper, who.second, who.pattern)
        if who.bag == "satchel":
            strap = [
                self._at(0.07 * girth, 0.05 * self.cos, 0.83),
                self._at(-self.hip * 1.2, 0, 0.5),
            ]
            self._line(strap, 0.022, who.bag_colour)
            if self._depth(-self.hip, 0) > -0.04:
                x, y = strap[1]
                wide, high = 0.075 * self.pixels, 0.055 * self.pixels
                box = [(x - wide, y - high), (x + wide, y - high), (x + wide, y + high)]
                self._polygon([*box, (x - wide, y + high)], who.bag_colour)

    def _arm(self, side: float, swing: float) -> None:
        who, girth = self.who, self.who.girth
        shoulder = self._at(side * self.shoulder, 0, 0.80)
        elbow = self._at(side * self.shoulder * 1.22, 0.05 * swing, 0.64)
        hand = self._at(side * self.shoulder * 1.2, 0.13 * swing + 0.03, 0.49)
        sleeve = who.second if who.pattern == "two_tone" and who.garment == "jumper" else who.upper
        bare = who.garment == "tshirt"
        self._line([elbow, hand], 0.04 * girth, who.skin if bare else sleeve)
        self._line([shoulder, elbow], 0.055 * girth, sleeve)
        self._ellipse(hand, 0.02, 0.024, who.skin)
        if who.bag == "handbag" and side > 0:
            x, y = hand[0], hand[1] + 0.075 * self.pixels
            wide = self._half_width(0.03, 0.075) * self.pixels
            high = 0.05 * self.pixels
            self._polygon(
                [(x - wide * 0.8, y - high), (x + wide * 0.8, y - high), (x + wide, y + high),
                 (x - wide, y + high)], who.bag_colour,
            )  # fmt: skip
            self._line([hand, (x, y - high)], 0.012, who.bag_colour)

    def _backpack(self) -> None:
        centre = self._at(0, -0.1, 0.70)
        half = self._half_width(0.088, 0.05)
        self._ellipse(centre, half, 0.115, self.who.bag_colour)
        pocket = self._at(0, -0.12, 0.655)
        self._ellipse(pocket, half * 0.65, 0.04, _times(self.who.bag_colour, 0.75))

    def _long_hair(self) -> None:
        centre = self._at(0, -0.045, 0.855)
        self._ellipse(centre, self._half_width(0.068, 0.04), 0.085, self.who.hair)

    def _head(self) -> None:
        who = self.who
        crown = self._at(0, 0.0, 0.935)
        hair = who.skin if who.hair_style == "bald" else who.hair
        if who.hair_style == "bun":
            self._ellipse(self._at(0, -0.06, 0.965), 0.03, 0.03, who.hair)
        self._ellipse(crown, 0.058, 0.066, hair)
        if self.cos > -0.5:
            share = 0.68 + 0.2 * self.cos
            self._ellipse(self._at(0, 0.024, 0.922), 0.052 * share, 0.055, who.skin)
        if who.hat != "none":
            self._ellipse(self._at(0, 0, 0.95), 0.062, 0.058, who.hat_colour, (180, 360))
        if who.hat == "cap":
            brim = [self._at(0, 0.03, 0.95), self._at(0, 0.095, 0.945)]
            self._line(brim, 0.022, who.hat_colour)

    def _cloth(
        self, outline: Sequence[tuple[float, float]], first: Colour, second: Colour, pattern: str
    ) -> None:
        """Fill an outline with patterned cloth, darker to its sides, with folds."""
        corners = np.asarray(outline)
        height, width = self.canvas.shape[:2]
        left, top = np.maximum(np.floor(corners.min(0)).astype(int), 0)
        right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, (width, height))
        if right - left < 2 or bottom - top < 2:
            return
        mask = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(mask, [_fixed(corners - (left, top))], 255, shift=_SHIFT_BITS)
        middle, half = corners[:, 0].mean(), max(1.0, np.ptp(corners[:, 0]) / 2)
        across = np.clip((np.arange(left, right) + 0.5 - middle) / half, -1, 1)[None, :]
        down = ((np.arange(top, bottom) + 0.5 - corners[:, 1].min()) / np.ptp(corners[:, 1]))[
            :, None
        ]
        # The angle round the body, 0 at the chest; the visible part depends on the yaw.
        angle = (np.arcsin(across) - self.pose.yaw + math.pi) % (2 * math.pi) - math.pi
        marked = _pattern(pattern, angle, down)[..., None]
        colours = np.where(marked, np.asarray(second), np.asarray(first))
        if self.who.bag == "backpack" and len(outline) > 6:
            straps = (np.abs(np.abs(angle) - 0.6) < 0.17) & (down < 0.55)
            colours = np.where(straps[..., None], np.asarray(self.who.bag_colour), colours)
        folds = self.rng.normal(1, 0.06, (7, 5)).astype(np.float32)
        light = cv2.resize(folds, (right - left, bottom - top)) * (1 - 0.3 * across**2)
        region = self.canvas[top:bottom, left:right]
        painted = np.clip(colours * light[..., None], 0, 255).astype(np.uint8)
        region[mask > 0] = painted[mask > 0]


def _pattern(
    name: str, angle: npt.NDArray[np.float64], down: npt.NDArray[np.float64]
) -> npt.NDArray[np.bool_]:
    """Where the second colour is: (H, W), from (1, W) angles and (H, 1) heights."""
    rings = np.floor(down * 8) % 2 == 1
    bars = np.floor(angle * 2.6) % 2 == 1
    marks = {
        "rings": rings & (angle < 9),
        "bars": bars & (down < 9),
        "checks": rings ^ bars,
        "two_tone": (down > 0.5) & (angle < 9),
        "logo": (np.abs(angle) < 0.5) & (down > 0.2) & (down < 0.5),
        "open": (np.abs(angle) < 0.28) & (down < 9),
    }
    nowhere = np.zeros((down.shape[0], angle.shape[1]), np.bool_)
    return np.asarray(marks.get(name, nowhere), np.bool_)


def _bind(part: Callable[[float, float], None], side: float, swing: float) -> Callable[[], None]:
    return lambda: part(side, swing)


def _fixed(points: npt.ArrayLike) -> npt.NDArray[np.int32]:
    """Points in OpenCV's fixed-point form, so that edges fall between pixels."""
    return np.rint(np.asarray(points, np.float64) * (1 << _SHIFT_BITS)).astype(np.int32)


def _times(colour: Colour, factor: float) -> Colour:
    blue, green, red = colour
    return min(255.0, blue * factor), min(255.0, green * factor), min(255.0, red * factor)
