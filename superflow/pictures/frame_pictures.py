"""Everything that can be drawn of one frame of a prepared log, from above and on its images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..camera.occlusion import scan_surface
from ..camera.projection import project
from ..camera.superpixels import IGNORE, read_superpixels
from ..clips.sources import Source, named, source_of
from ..datasets.frame import Camera, Frame
from ..datasets.index import LogIndex
from ..errors import InputError
from ..files.access import check_place, file_in
from .coloring import FeatureColors, class_colors, map_colors, similarity
from .picture import (
    Image,
    Key,
    birds_eye,
    class_key,
    draw_points,
    draw_superpixels,
    sheet,
    similarity_key,
    write_png,
)

AROUND = ("FRONT_LEFT", "FRONT", "FRONT_RIGHT", "BACK_LEFT", "BACK", "BACK_RIGHT")


@dataclass(frozen=True, slots=True)
class PictureOptions:
    """What to draw, and with what.

    what: keys of ``DRAWERS``; None for everything that the inputs allow. backbone: file or name for
    ``superflow.load``. superpixels: folder of maps. cameras: channels; None for all. pick: x, y [m, lidar frame] of the
    point that the others are compared with. extent_m: half side of the view from above.
    """

    what: Sequence[str] | None = None
    backbone: str | Path | None = None
    superpixels: str | Path | None = None
    cameras: Sequence[str] | None = None
    pick: tuple[float, float] = (10.0, 0.0)
    extent_m: float = 50.0


@dataclass(frozen=True, slots=True)
class _Subject:
    """A frame with what the drawers need of its log."""

    frame: Frame
    title: str
    classes: tuple[str, ...]
    palette: NDArray[np.uint8]
    options: PictureOptions
    features: NDArray[np.float32] | None

    @property
    def model(self) -> str:
        return Path(str(self.options.backbone)).stem


def write_frame_pictures(
    index: LogIndex, row: int, folder: str | Path, options: PictureOptions
) -> Iterator[Path]:
    """Write the pictures of one frame as PNG, one by one: ``SCENE_NUMBER_WHAT_bev.png`` and ``..._images.png``.

    Raises:
        InputError: an input that a picture needs is not given, or the frame lacks it.
    """
    check_place(folder)
    frame = index.frame(row, cameras=options.cameras)
    number = int((index.rows([frame.scene]) == row).argmax())
    wanted = list(options.what or _possible(frame, options))
    if not wanted:
        raise InputError(
            f"frame {frame.token} has neither labels nor images to draw; choose another frame, or give --backbone"
        )
    card = index.card
    subject = _Subject(
        frame,
        f"{card.name} {index.version}, {frame.scene}, key frame {number}",
        card.classes,
        card.palette,
        options,
        _extract(frame, source_of(index, row), options) if {"features", "similarity"} & set(wanted) else None,
    )
    for what in wanted:
        for view, image in DRAWERS[what](subject):
            path = file_in(folder, f"{frame.scene}_{number:04d}_{what}_{view}.png")
            write_png(path, image)
            yield path


Pictures = Iterator[tuple[str, Image]]


def _classes(subject: _Subject) -> Pictures:
    frame = subject.frame
    if frame.labels is None:
        raise InputError(
            f"frame {frame.token} has no labels; leave out the classes, or choose a labelled frame"
        )
    colors = class_colors(frame.labels, subject.palette)
    key = class_key(frame.labels, subject.classes, subject.palette)
    yield from _both(subject, colors, f"{subject.title}: classes", key)


def _depth(subject: _Subject) -> Pictures:
    extent = subject.options.extent_m
    distance = np.linalg.norm(subject.frame.points[:, :2], axis=1)
    colors = map_colors(distance, high=extent, colormap="turbo")
    key = Key(bar=("distance [m]", 0.0, extent), colormap="turbo")
    yield "images", _on_images(subject.frame, colors, f"{subject.title}: LiDAR", key)


def _features(subject: _Subject) -> Pictures:
    assert subject.features is not None
    colors = FeatureColors.fit(subject.features)(subject.features)
    yield from _both(subject, colors, f"{subject.title}: principal components of features ({subject.model})")


def _similarity(subject: _Subject) -> Pictures:
    frame = subject.frame
    assert subject.features is not None
    # points outside the backbone's limits have no feature
    known = np.flatnonzero(subject.features.any(axis=1))
    if len(known) == 0:
        raise InputError(
            f"frame {frame.token} has no points to compare within the backbone's limits; choose another frame"
        )
    distance = np.linalg.norm(frame.points[known, :2] - np.array(subject.options.pick), axis=1)
    picked = int(known[distance.argmin()])
    colors = map_colors(similarity(subject.features, picked))
    title = f"{subject.title}: similarity to the marked point ({subject.model})"
    yield from _both(subject, colors, title, similarity_key(), picked)


def _superpixels(subject: _Subject) -> Pictures:
    folder = subject.options.superpixels
    if folder is None:
        raise InputError(
            "superpixels were asked for without --superpixels FOLDER; give the folder of the maps"
        )
    cameras = _in_order(subject.frame.cameras)
    maps = [read_superpixels(folder, camera.token, camera.size) for camera in cameras]
    views = [draw_superpixels(_image(camera), ids) for camera, ids in zip(cameras, maps)]
    names = [
        f"{camera.channel}: {len(np.unique(ids[ids != IGNORE]))} regions, {100 * (ids != IGNORE).mean():.0f} %"
        for camera, ids in zip(cameras, maps)
    ]
    yield "images", sheet(views, names, title=f"{subject.title}: superpixels ({Path(folder).name})")


# what -> its pictures, as (view, image)
DRAWERS: dict[str, Callable[[_Subject], Pictures]] = {
    "classes": _classes,
    "features": _features,
    "similarity": _similarity,
    "depth": _depth,
    "superpixels": _superpixels,
}


def _possible(frame: Frame, options: PictureOptions) -> Iterator[str]:
    """What the inputs allow."""
    if frame.labels is not None:
        yield "classes"
    if frame.cameras:
        yield "depth"
    if options.backbone is not None:
        yield from ("features", "similarity")
    if options.superpixels is not None and frame.cameras:
        yield "superpixels"


def _extract(frame: Frame, source: Source, options: PictureOptions) -> NDArray[np.float32]:
    from ..hub.backbone import load

    if options.backbone is None:
        raise InputError("features were asked for without --backbone; give an exported file or a checkpoint")
    points, backbone = frame.points, load(options.backbone)
    if frame.cloud.intensity is None and backbone.encoder.needs_intensity:
        points[:, 3] = 0  # what the student reads of such a log
    with named(points, source):
        return backbone.extract(points, intensity="0..1")


def _both(
    subject: _Subject,
    colors: NDArray[np.uint8],
    title: str,
    key: Key | None = None,
    picked: int | None = None,
) -> Pictures:
    """Coloured points from above, and on the images where the frame has some."""
    points, extent = subject.frame.points, subject.options.extent_m
    yield "bev", birds_eye(points, colors, title=title, key=key, extent_m=extent, picked=picked)
    if subject.frame.cameras:
        yield "images", _on_images(subject.frame, colors, title, key, picked)


def _on_images(
    frame: Frame, colors: NDArray[np.uint8], title: str, key: Key | None, picked: int | None = None
) -> Image:
    """Visible points on each camera, in one sheet."""
    cameras, views = _in_order(frame.cameras), []
    surface = scan_surface(frame.points, frame.by_lidar)
    for camera in cameras:
        view = (frame.lidar_to_camera(camera), camera.lens)
        seen = project(frame.points, *view)
        seen = seen.select(~surface.hides(seen, *view))
        there = np.flatnonzero(seen.rows == (-1 if picked is None else picked))
        marked = int(there[0]) if len(there) else None
        views.append(draw_points(_image(camera), seen.pixels, colors[seen.rows], seen.depth, picked=marked))
    if not views:
        raise InputError(f"frame {frame.token} has no camera of those asked for; see --cameras")
    return sheet(views, [camera.channel for camera in cameras], title=title, key=key)


def _in_order(cameras: Sequence[Camera]) -> list[Camera]:
    """Front row before back row, left to right, as one looks around; unknown channels last."""
    known = [f"CAM_{place}" for place in AROUND]
    return sorted(
        cameras, key=lambda c: (known.index(c.channel) if c.channel in known else len(known), c.channel)
    )


def _image(camera: Camera) -> Image:
    if camera.image is None:
        raise InputError(f"{camera.path}: the image was not read; prepare the log again")
    return camera.image
