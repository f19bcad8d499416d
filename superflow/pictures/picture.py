"""Pictures without a display: points seen from above, points on images, superpixels. RGB arrays, and PNG files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from ..camera.superpixels import IGNORE
from ..files.writes import write_bytes
from .coloring import map_colors, readable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GROUND, INK, FAINT, MARK = "#0d1016", "#e8eaf0", "#39404e", "#3df5ff"
_DPI, _TITLE = 100, 40  # pixels an inch; height of the title [pixel]
Image = NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True, slots=True)
class Key:
    """Explains colours. entries: (name, RGB) of a legend; bar: (name, low, high) of a colour bar; both may be empty."""

    entries: tuple[tuple[str, tuple[int, int, int]], ...] = ()
    bar: tuple[str, float, float] | None = None
    colormap: str = "magma"


def class_key(labels: NDArray, class_names: Sequence[str], palette: NDArray[np.uint8]) -> Key:
    """Legend of the classes that occur in ``labels`` (N,), the most frequent first."""
    counts = np.bincount(np.asarray(labels, dtype=np.int64), minlength=256)[: len(class_names)]
    order = [c for c in np.argsort(-counts, kind="stable") if counts[c]]
    colors = readable(palette)
    return Key(
        tuple(
            (class_names[c].replace("_", " "), (int(r), int(g), int(b)))
            for c in order
            for r, g, b in [colors[c]]
        )
    )


def similarity_key() -> Key:
    """Bar of cosines from 0 to 1."""
    return Key(bar=("cosine similarity", 0.0, 1.0))


def birds_eye(
    points: NDArray,
    colors: NDArray[np.uint8],
    *,
    title: str,
    key: Key | None = None,
    extent_m: float = 50.0,
    picked: int | None = None,
    outlines: Sequence[tuple[NDArray, tuple[int, int, int]]] = (),
    height_px: int = 900,
) -> Image:
    """Points from above, in equal scale: forward is up, the sensor in the middle, rings every 10 m.

    Args:
        points: (N, 3+) [m, lidar frame]. colors: (N, 3) RGB. extent_m: half of the side that is shown.
        picked: row of a point to mark. outlines: corners (K, 2) [m, as the points] of polygons, each with its RGB.
    """
    figure, axes = _canvas(height_px, height_px - _TITLE, key)
    _rings(axes, extent_m)
    order = np.flatnonzero((np.abs(points[:, :2]) <= extent_m).all(axis=1))
    order = order[np.argsort(points[order, 2], kind="stable")]  # high points cover low ones, as from above
    size = np.clip(120_000 / max(len(order), 1), 1.3, 12)
    # lidar y points left, so it runs against the page
    axes.scatter(-points[order, 1], points[order, 0], c=colors[order] / 255.0, s=size, linewidths=0)
    for corners, color in outlines:
        axes.fill(
            -corners[:, 1],
            corners[:, 0],
            fill=False,
            edgecolor=np.array(color) / 255.0,
            linewidth=1.4,
            zorder=4,
        )
    axes.plot(0, 0, marker="^", color=INK, markersize=7, zorder=5)
    if picked is not None:
        _mark(axes, -float(points[picked, 1]), float(points[picked, 0]))
    axes.set(xlim=(-extent_m, extent_m), ylim=(-extent_m, extent_m), aspect="equal")
    return _finish(figure, axes, title, key)


def draw_points(
    image: Image,
    pixels: NDArray,
    colors: NDArray[np.uint8],
    depth: NDArray,
    *,
    picked: int | None = None,
) -> Image:
    """Points on a camera image that is dimmed; near points cover far ones.

    Args:
        image: (H, W, 3) uint8 RGB. pixels: (P, 2) u, v. colors: (P, 3) RGB. depth: (P,) [m].
        picked: row of ``pixels`` to mark.
    """
    radius = max(1.2, image.shape[1] / 450)
    canvas = (image * 0.55).astype(np.uint8)
    places = 4  # binary places of sub-pixel positions
    scaled = np.round(np.asarray(pixels, dtype=np.float64) * (1 << places)).astype(np.int64)
    for row in np.argsort(-np.asarray(depth), kind="stable"):
        center = (int(scaled[row, 0]), int(scaled[row, 1]))
        color = tuple(int(value) for value in colors[row])
        cv2.circle(canvas, center, round(radius * (1 << places)), color, -1, cv2.LINE_AA, places)
    if picked is not None:
        center = (int(scaled[picked, 0]), int(scaled[picked, 1]))
        for thickness, color in ((5, _rgb(GROUND)), (2, _rgb(MARK))):
            cv2.circle(
                canvas, center, round(6 * radius * (1 << places)), color, thickness, cv2.LINE_AA, places
            )
    return canvas


def draw_superpixels(image: Image, ids: NDArray[np.uint16]) -> Image:
    """Regions of an image: each tinted in its own colour with its border drawn; ignored pixels stay dark.

    Args:
        image: (H, W, 3) uint8 RGB. ids: (H, W).
    """
    ids = np.asarray(ids, dtype=np.int64)
    # multiples of the golden ratio keep neighbouring ids apart on the colour circle
    hue = (ids * 0.61803398875) % 1.0
    hsv = np.stack([hue * 179, np.full_like(hue, 150), np.full_like(hue, 255)], axis=-1).astype(np.uint8)
    tinted = (0.55 * image + 0.45 * cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)).astype(np.uint8)
    tinted[ids == IGNORE] = (image[ids == IGNORE] * 0.25).astype(np.uint8)
    border = np.zeros(ids.shape, dtype=bool)
    border[:, 1:] |= ids[:, 1:] != ids[:, :-1]
    border[1:] |= ids[1:] != ids[:-1]
    tinted[border] = (250, 250, 250)
    return tinted


def sheet(
    images: Sequence[Image],
    names: Sequence[str],
    *,
    title: str,
    key: Key | None = None,
    columns: int = 3,
    width_px: int = 1500,
) -> Image:
    """Images side by side under one title with one key, each with its name in the corner.

    Args:
        columns: images a row. width_px: of the images together; they are scaled to it, never up.

    Raises:
        ValueError: there is no image, or not one name for each.
    """
    if not images or len(images) != len(names):
        raise ValueError(
            f"{len(names)} names for {len(images)} images; give at least one image and a name for each"
        )
    columns, gap = min(columns, len(images)), 6
    widest = max(image.shape[1] for image in images)
    factor = min(1.0, (width_px - gap * (columns - 1)) / (columns * widest))
    tiles = [_labelled_tile(image, name, factor) for image, name in zip(images, names)]
    height, width = (max(tile.shape[axis] for tile in tiles) for axis in (0, 1))
    rows = -(-len(tiles) // columns)
    canvas = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, 3), _rgb(GROUND), dtype=np.uint8
    )
    for place, tile in enumerate(tiles):
        top, left = place // columns * (height + gap), place % columns * (width + gap)
        canvas[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
    figure, axes = _canvas(canvas.shape[0] + _TITLE, canvas.shape[1], key)
    axes.imshow(canvas, interpolation="nearest", aspect="auto")
    return _finish(figure, axes, title, key)


def write_png(path: str | Path, image: Image) -> None:
    """Write an RGB image; a file of that name is replaced in one step.

    Raises:
        InputError: the folder cannot be written.
    """
    encoded = cv2.imencode(".png", cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR))[1]
    write_bytes(path, encoded.tobytes())


def _canvas(height_px: int, width_px: int, key: Key | None) -> tuple[Figure, Axes]:
    """A dark figure whose axes measure ``width_px`` x (``height_px`` - title), and room for the key at the right."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side = 0 if key is None else 210 if key.entries else 110
    total = (width_px + side, height_px)
    figure = Figure(figsize=(total[0] / _DPI, total[1] / _DPI), dpi=_DPI, facecolor=GROUND)
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.0, 0.0, width_px / total[0], (height_px - _TITLE) / height_px))
    axes.set_facecolor(GROUND)
    axes.set_axis_off()
    return figure, axes


def _labelled_tile(image: Image, name: str, factor: float) -> Image:
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    tile = image.copy()
    if factor < 1:
        tile = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    if not name:
        return tile
    (width, height), _ = cv2.getTextSize(name, cv2.FONT_HERSHEY_SIMPLEX, 0.45, 1)
    tile[: height + 12, : width + 14] = (tile[: height + 12, : width + 14] * 0.3).astype(np.uint8)
    cv2.putText(tile, name, (7, height + 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _rgb(INK), 1, cv2.LINE_AA)
    return tile


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _rings(axes: Axes, extent_m: float) -> None:
    from matplotlib.patches import Circle

    step = 10 if extent_m <= 60 else 20
    for radius in np.arange(step, extent_m * 1.42, step):
        axes.add_patch(Circle((0, 0), radius, fill=False, color=FAINT, linewidth=0.6, zorder=0))
        if radius < extent_m:
            axes.text(0.6, radius, f"{radius:g} m", color="#6b7486", fontsize=7, va="bottom", zorder=4)


def _mark(axes: Axes, x: float, y: float) -> None:
    for width, color in ((3.2, GROUND), (1.6, MARK)):
        axes.plot(
            x,
            y,
            "o",
            markersize=15,
            markerfacecolor="none",
            markeredgecolor=color,
            markeredgewidth=width,
            zorder=6,
        )


def _finish(figure: Figure, axes: Axes, title: str, key: Key | None) -> Image:
    height = figure.get_figheight() * _DPI
    text = figure.text(0.012, 1 - _TITLE / 2 / height, title, color=INK, fontsize=11, va="center", ha="left")
    room = 0.976 * figure.get_figwidth() * _DPI
    taken = text.get_window_extent(figure.canvas.get_renderer()).width  # type: ignore[attr-defined]
    text.set_fontsize(11 * min(1.0, room / taken))
    if key is not None and key.entries:
        _legend(figure, axes, key)
    elif key is not None and key.bar is not None:
        _bar(figure, axes, key)
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()  # type: ignore[attr-defined]


def _legend(figure: Figure, axes: Axes, key: Key) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            marker="s",
            linestyle="",
            markersize=8,
            color=(color[0] / 255, color[1] / 255, color[2] / 255),
            label=name,
        )
        for name, color in key.entries
    ]
    right = axes.get_position().x1
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(right + 0.005, axes.get_position().y1),
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        handletextpad=0.4,
        labelspacing=0.65,
    )


def _bar(figure: Figure, axes: Axes, key: Key) -> None:
    name, low, high = key.bar or ("", 0.0, 1.0)
    box = axes.get_position()
    bar = figure.add_axes((box.x1 + 0.02, box.y0 + 0.15 * box.height, 0.015, 0.7 * box.height))
    ramp = map_colors(np.linspace(0, 1, 256), colormap=key.colormap)
    bar.imshow(ramp[:, None], origin="lower", aspect="auto", extent=(0, 1, low, high))
    bar.set_xticks([])
    bar.yaxis.tick_right()
    bar.tick_params(colors=INK, labelsize=8, length=0)
    bar.set_ylabel(name, color=INK, fontsize=9)
    for spine in bar.spines.values():
        spine.set_visible(False)
