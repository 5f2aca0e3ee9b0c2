"""Shared by all charts: one style, and a chart as an image."""

from __future__ import annotations

from typing import Any

import numpy as np

from reid.packages import missing
from reid.types import Image

try:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
except ImportError as error:
    raise missing("matplotlib", "a chart") from error

COLOURS = ("#1f5fa8", "#d1692c", "#2e8b57", "#8a4fa3", "#b23a48", "#6b7280")


def new_figure(width: float, height: float, dpi: int = 110) -> Any:
    """An empty white figure; size in inches of ``dpi`` pixels."""
    figure = Figure(figsize=(width, height), dpi=dpi, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    return figure


def image_of(figure: Any) -> Image:
    """The figure, drawn: (H, W, 3) uint8 BGR."""
    canvas: Any = FigureCanvasAgg(figure)
    canvas.draw()
    rgba = np.asarray(canvas.buffer_rgba())
    return np.ascontiguousarray(rgba[..., 2::-1])


def plain_axis(axis: Any, title: str) -> None:
    """A titled panel with faint grid lines and no frame.

    The title may be a file's name, so a dollar sign does not begin mathematics.
    """
    look = {"fontsize": 12, "fontweight": "bold", "color": "#222222"}
    axis.set_title(title, loc="left", parse_math=False, **look)
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#bbbbbb")
    axis.tick_params(colors="#444444", length=3)
    axis.grid(axis="y", color="#e6e6e6", linewidth=0.8)


def colour_of(number: int) -> str:
    """The colour of curve ``number``, from 0; colours repeat after the last."""
    return COLOURS[number % len(COLOURS)]
