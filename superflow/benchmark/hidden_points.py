"""How well hidden points are told from visible ones, measured where the truth is known: on scans of the made street.

``python -m superflow.benchmark.hidden_points`` prints the table of docs/method.md. A point is hidden where the
renderer's ray from the camera to it ends more than `TOLERANCE` before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..camera.occlusion import scan_surface
from ..camera.projection import Projection, project
from ..datasets.records import Lens
from ..geometry import Transform, invert, transform_points
from ..street.recorder import Recorder
from ..street.rig import FIRST_S, make_rig
from ..street.scene import make_scene, scene_rng
from .markdown import table_lines

TOLERANCE = (0.2, 0.02)  # [m], and as a part of the distance: noise of the ranges is 0.02 m, leaves are thin
SIZES = ((256, 448), (900, 1600))  # of the quickstart's images and of nuScenes


@dataclass(frozen=True, slots=True)
class View:
    """A scan on one image, and which of its points the image does not show."""

    points: NDArray[np.float32]  # (N, 3+) the whole scan [m, lidar frame]
    projection: Projection
    lidar_to_camera: Transform
    lens: Lens
    hidden: NDArray[np.bool_]  # (P,)


@dataclass(frozen=True, slots=True)
class Score:
    """What a test did: shares of the hidden pairs that it left in, and of the visible ones that it took out."""

    pairs: int
    hidden: float  # share of all pairs
    left: float
    lost: float


def make_views(
    seed: int, size: tuple[int, int], *, scenes: int = 3, times_s: Iterable[float] = (0.5, 3.0, 5.5)
) -> Iterator[View]:
    """All cameras of scans of a made drive; ``size`` is height, width of the images [pixel]."""
    times_s = tuple(times_s)
    for number in range(scenes):
        scene = make_scene(seed, number, max(times_s) + 0.5)
        rig = make_rig(scene_rng(seed, number, 3), *size)
        recorder = Recorder(scene, rig, seed=seed, number=number)
        for time_s in times_s:
            yield from _views(recorder, FIRST_S + time_s, size)


def _views(recorder: Recorder, t: float, size: tuple[int, int]) -> Iterator[View]:
    points = recorder.sweep(t).points
    lidar_to_world = recorder.ego_to_world(t) @ recorder.rig.mount.sensor_to_ego
    for sensor in recorder.rig.cameras:
        assert sensor.intrinsics is not None
        exposed = recorder.exposure_time(sensor, t)
        camera_to_world = recorder.ego_to_world(exposed) @ sensor.sensor_to_ego
        lidar_to_camera = invert(camera_to_world) @ lidar_to_world
        lens = Lens(sensor.intrinsics, size)
        projection = project(points, lidar_to_camera, lens)
        there = transform_points(lidar_to_world, points[projection.rows, :3].astype(np.float64))
        distance = np.linalg.norm(there - camera_to_world[:3, 3], axis=1)
        slack_m, slack = TOLERANCE
        hidden = recorder.sight(sensor, exposed, there) < distance * (1 - slack) - slack_m
        yield View(points, projection, lidar_to_camera, lens, hidden)


def by_surface(view: View) -> NDArray[np.bool_]:
    """The rule in use, see `camera.occlusion`."""
    surface = scan_surface(view.points)
    return surface.hides(view.projection, view.lidar_to_camera, view.lens)


def by_cells(side_px: int) -> Callable[[View], NDArray[np.bool_]]:
    """The usual rule, a depth buffer: something clearly nearer lies in the same square cell of the image."""

    def rule(view: View) -> NDArray[np.bool_]:
        cells = ((view.projection.pixels + 0.5) // side_px).astype(np.int64)
        cell = cells[:, 1] * view.lens.size[1] + cells[:, 0]
        nearest = np.full(cell.max(initial=-1) + 1, np.inf)
        np.minimum.at(nearest, cell, view.projection.depth)
        return view.projection.depth > nearest[cell] * 1.2 + 0.5

    return rule


def score(views: Iterable[View], rule: Callable[[View], NDArray[np.bool_]]) -> Score:
    """What ``rule``, which calls pairs of a view hidden, did on ``views``."""
    truth, said = (np.concatenate(part) for part in zip(*((view.hidden, rule(view)) for view in views)))
    return Score(len(truth), float(truth.mean()), float((~said[truth]).mean()), float(said[~truth].mean()))


def table(seeds: Iterable[int]) -> str:
    """Markdown: rules and sizes of images, over three scenes of each seed."""
    heads = ("image", "pairs", "hidden", "rule", "hidden pairs left in", "visible pairs lost")
    rows = []
    rules = {f"cells of {side} px": by_cells(side) for side in (4, 8, 16)} | {"surface": by_surface}
    seeds = tuple(seeds)
    for size in SIZES:
        views = [view for seed in seeds for view in make_views(seed, size)]
        for name, rule in rules.items():
            found = score(views, rule)
            image, pairs = f"{size[1]} x {size[0]}", f"{found.pairs}"
            rows.append([image, pairs, f"{found.hidden:.1%}", name, f"{found.left:.1%}", f"{found.lost:.2%}"])
    return "\n".join(table_lines(heads, rows))


if __name__ == "__main__":
    print(table(range(40, 44)))
