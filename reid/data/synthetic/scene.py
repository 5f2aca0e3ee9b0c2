"""Synthetic cameras: viewpoint, background, and effect on colours."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from reid.data.synthetic.figure import Pose, draw_person
from reid.data.synthetic.people import Appearance, random_appearance
from reid.types import Image

WIDTH, HEIGHT = 64, 128
"""Pixels of an image, as Market-1501's."""

_SUPERSAMPLING = 2
_PLACES = ("pavement", "bricks", "grass", "crossing", "shops")
_SCENE_SHAPE = (420, 400)


@dataclass(frozen=True, slots=True)
class Camera:
    """One camera: its effect on every image, its viewpoint and its background.

    ``gain`` (3,) multiplies B, G and R (light and colour cast), ``gamma`` is the tone curve,
    ``saturation`` and ``haze`` reduce colour and contrast. ``blur`` is a standard deviation in
    pixels and ``noise`` one in grey levels (0-255). People walk at about ``yaw`` radians.
    ``scene`` is the view without people.
    """

    gain: npt.NDArray[np.float64]
    gamma: float
    saturation: float
    haze: float
    blur: float
    noise: float
    quality: int
    yaw: float
    scale: float
    scene: Image


def make_cameras(num_cameras: int, rng: np.random.Generator) -> list[Camera]:
    """Clearly different cameras: light, colour cast and viewpoint are spread, then shuffled."""
    spread = np.arange(num_cameras) / num_cameras
    lights = 0.65 * (1.9 ** rng.permutation(spread))
    casts = 2 * math.pi * (rng.permutation(spread) + rng.uniform(0, 1))
    gammas = 0.8 + 0.5 * rng.permutation(spread)
    yaws = 2 * math.pi * rng.permutation(spread) + rng.uniform(-0.4, 0.4)
    first_place = int(rng.integers(len(_PLACES)))
    cameras = []
    for index in range(num_cameras):
        # An angle on the colour wheel gives one gain per channel.
        channels = np.cos(casts[index] + np.array([0, 2, 4]) * math.pi / 3)
        cameras.append(
            Camera(
                gain=lights[index] * np.exp(0.14 * channels),
                gamma=float(gammas[index]),
                saturation=float(rng.uniform(0.6, 1.0)),
                haze=float(rng.uniform(0, 0.12)),
                blur=float(rng.uniform(0.2, 0.9)),
                noise=float(rng.uniform(3, 9)),
                quality=int(rng.integers(45, 90)),
                yaw=float(yaws[index]),
                scale=float(rng.uniform(0.93, 1.05)),
                scene=_scene(_PLACES[(first_place + index) % len(_PLACES)], rng),
            )
        )
    return cameras


def photograph(
    camera: Camera, who: Appearance | None, rng: np.random.Generator, box_error: float = 1.0
) -> Image:
    """One detected box, (HEIGHT, WIDTH, 3) uint8 BGR; ``who`` None is a false detection.

    ``box_error`` scales the error of the box's position and size.
    """
    canvas = _background(camera.scene, rng)
    height, width = canvas.shape[:2]
    if rng.random() < 0.25:  # another person walks by in the background, partly in the box
        passer_x = width * (0.5 + rng.choice([-1, 1]) * rng.uniform(0.4, 0.6))
        foot = (float(passer_x), height * float(rng.uniform(0.8, 0.92)))
        draw_person(canvas, random_appearance(rng), _pose(camera, rng), foot, height * 0.75, rng)
    if who is not None:
        x = width * (0.5 + box_error * float(rng.normal(0, 0.045)))
        y = height * (0.975 + box_error * float(rng.normal(0, 0.025)))
        tall = height * 0.95 * camera.scale * (1 + box_error * float(rng.normal(0, 0.06)))
        _shadow(canvas, (x, y), height)
        draw_person(canvas, who, _pose(camera, rng), (x, y), tall, rng)
    if rng.random() < 0.3:
        _occlude(canvas, rng)
    small = cv2.resize(canvas, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return _expose(camera, np.asarray(small, np.uint8), rng)


def _pose(camera: Camera, rng: np.random.Generator) -> Pose:
    somewhere = rng.random() < 0.25
    yaw = rng.uniform(0, 2 * math.pi) if somewhere else rng.normal(camera.yaw, 0.5)
    return Pose(float(yaw), float(np.sin(rng.uniform(0, 2 * math.pi))), float(rng.normal(0, 0.02)))


def _scene(place: str, rng: np.random.Generator) -> Image:
    """A view larger than any box; boxes take their background from it."""
    rows, columns = _SCENE_SHAPE
    colour = rng.uniform(70, 190) + rng.normal(0, 14, 3)
    cloud = cv2.resize(rng.normal(0, 16, (14, 14)).astype(np.float32), (columns, rows))
    image = colour + cloud[..., None] + rng.normal(0, 5, (rows, columns, 1))
    y, x = np.mgrid[0:rows, 0:columns]
    horizon = rows * rng.uniform(0.3, 0.5)
    ground = y > horizon
    period = int(rng.integers(28, 60))
    if place == "pavement":
        joints = ((y % period < 2) | ((x + y // period * 7) % period < 2)) & ground
        image[joints] -= 45
    elif place == "bricks":
        shifted = x + (y // 16 % 2) * 20
        image[((y % 16 < 2) | (shifted % 40 < 2)) & ~ground] += 40
        image[~ground] += np.array([-35, -15, 35])
    elif place == "grass":
        image[ground] += np.array([-30, 25, -15]) + rng.normal(0, 18, (int(ground.sum()), 1))
    elif place == "crossing":
        image[ground & ((x + y // 2) // period % 2 == 0)] += 55
    else:
        image[~ground & (x // (2 * period) % 2 == 0)] *= 0.45
    return np.asarray(np.clip(image, 0, 255), np.uint8)


def _background(scene: Image, rng: np.random.Generator) -> Image:
    """A box-shaped piece of the scene at a random place and size, mirrored half of the time."""
    zoom = rng.uniform(0.75, 1.5)
    rows, columns = int(HEIGHT * 2 * zoom), int(WIDTH * 2 * zoom)
    top = int(rng.integers(0, scene.shape[0] - rows + 1))
    left = int(rng.integers(0, scene.shape[1] - columns + 1))
    piece = scene[top : top + rows, left : left + columns]
    if rng.random() < 0.5:
        piece = piece[:, ::-1]
    size = (WIDTH * _SUPERSAMPLING, HEIGHT * _SUPERSAMPLING)
    return np.array(cv2.resize(piece, size), np.uint8)


def _shadow(canvas: Image, foot: tuple[float, float], height: int) -> None:
    layer = canvas.copy()
    centre = (round(foot[0]), round(foot[1] - 2))
    cv2.ellipse(layer, centre, (round(height * 0.14), round(height * 0.025)), 0, 0, 360, 0, -1)
    cv2.addWeighted(layer, 0.45, canvas, 0.55, 0, dst=canvas)


def _occlude(canvas: Image, rng: np.random.Generator) -> None:
    """An occlusion: a post, a bench or car across the legs, or the corner of a box."""
    height, width = canvas.shape[:2]
    colour = tuple(float(value) for value in rng.uniform(40, 200) + rng.normal(0, 20, 3))
    kind = rng.integers(3)
    if kind == 0:
        x, half = int(rng.uniform(0.1, 0.9) * width), int(rng.uniform(0.03, 0.08) * width)
        cv2.rectangle(canvas, (x - half, 0), (x + half, height), colour, -1)
    elif kind == 1:
        top = int(rng.uniform(0.66, 0.85) * height)
        cv2.rectangle(canvas, (0, top), (width, height), colour, -1)
        cv2.line(canvas, (0, top), (width, top), (30, 30, 30), 3)
    else:
        edge = int(rng.uniform(0.2, 0.35) * width)
        left = 0 if rng.random() < 0.5 else width - edge
        top = int(rng.uniform(0.2, 0.6) * height)
        cv2.rectangle(canvas, (left, top), (left + edge, height), colour, -1)


def _expose(camera: Camera, image: Image, rng: np.random.Generator) -> Image:
    """Apply the camera's colours, light, blur and noise, with some variation per image."""
    table = np.power(np.arange(256) / 255.0, camera.gamma).astype(np.float32)
    tones = table[image]
    grey = tones.mean(axis=2, keepdims=True)
    tones = grey + camera.saturation * float(rng.uniform(0.85, 1.1)) * (tones - grey)
    light = camera.gain * np.exp(rng.normal(0, 0.15) + rng.normal(0, 0.05, 3))
    slope = np.linspace(-1, 1, WIDTH)[None, :, None] * rng.normal(0, 0.14)
    slope = slope + np.linspace(-1, 1, HEIGHT)[:, None, None] * rng.normal(0, 0.12)
    tones = tones * (light * (1 + slope) * (1 - camera.haze)).astype(np.float32)
    sigma = camera.blur * float(rng.uniform(0.7, 1.4))
    blurred = cv2.GaussianBlur(tones + np.float32(camera.haze * 0.6), (0, 0), sigma)
    noise = rng.standard_normal(image.shape, np.float32) * np.float32(camera.noise)
    noisy = blurred * 255 + noise
    return np.asarray(np.clip(np.rint(noisy), 0, 255), np.uint8)
