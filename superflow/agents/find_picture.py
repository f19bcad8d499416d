"""A scan from above with the objects that were found."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files.access import file_in
from ..pictures.picture import Key, birds_eye, write_png
from .bootcamps.ground import outline
from .find import Match
from .scene import SceneObject

FOUND, ANCHOR, OTHER, POINT = (255, 92, 92), (255, 196, 61), (96, 132, 190), (120, 126, 140)
EXTENT_M = 50.0  # half side that is shown, more where something farther away was found


def write_match(found: Match, folder: str | Path, number: int, title: str) -> Path:
    """Write ``SCENE_NUMBER_found.png``: points, every object's box, and in colour those that were found.

    Args:
        found: with a scene that keeps its points. number: of the scan in its scene.

    Raises:
        InputError: the folder cannot be written.
    """
    scene = found.scene
    extent_m = max(EXTENT_M, 0.0, *(o.range_m + 5 for o in (*found.objects, *found.anchors)))
    colors_of = {id(o): FOUND for o in found.objects} | {id(o): ANCHOR for o in found.anchors}
    points = np.zeros((0, 4), np.float32) if scene.points is None else scene.points
    colors = np.full((len(points), 3), POINT, np.uint8)
    outlines = []
    for thing in sorted(scene.objects, key=lambda o: id(o) in colors_of):  # what was found is drawn last
        color = colors_of.get(id(thing), OTHER)
        outlines.append((np.array(outline(thing)), color))
        if color != OTHER:
            colors[_over(points, thing)] = color
    entries = (("found", FOUND), ("in relation to it", ANCHOR), ("other objects", OTHER))
    image = birds_eye(points, colors, title=title, key=Key(entries), extent_m=extent_m, outlines=outlines)
    path = file_in(folder, f"{scene.scene}_{number:04d}_found.png")
    write_png(path, image)
    return path


def _over(points: NDArray[np.float32], thing: SceneObject) -> NDArray[np.bool_]:
    """Which points lie in the outline of a box, at any height."""
    offset = points[:, :2] - np.array(thing.center[:2])
    turn = np.array([[np.cos(thing.yaw), -np.sin(thing.yaw)], [np.sin(thing.yaw), np.cos(thing.yaw)]])
    inside: NDArray[np.bool_] = (np.abs(offset @ turn) <= np.array(thing.size[:2]) / 2).all(axis=1)
    return inside
