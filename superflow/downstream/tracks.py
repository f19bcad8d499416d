"""What boxes with tracks know about motion: which points of a scan lie in things that stand still.

Boxes are annotation here, also of the frames that are judged. In use they come from a detector with a tracker, and a
figure that was made with annotated boxes has to say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.frame import Boxes
from ..errors import InputError
from ..geometry import invert, make_transform, transform_points


def standing_points(
    index: Any, row: int, offsets: Sequence[int], points: NDArray, lidar_to_world: ArrayLike, *, max_m: float
) -> NDArray[np.bool_]:
    """(N,) True in boxes of standing tracks; False outside of all boxes and where another box overlaps.

    A track stands if its centre moved less than ``max_m`` from ``row`` to every frame of ``offsets`` that has it. One
    that none of them has is not known to stand.

    Args:
        index: a ``LogIndex`` with boxes. row: key frame of the points. offsets: key frames to compare with, relative
            to ``row``; those beyond the border of the scene are absent.
        points: (N, 3+) float [m, lidar frame]. lidar_to_world: (4, 4) at the time of ``row``.
        max_m: motion from which a track moves [m].

    Raises:
        InputError: the log has no boxes for one of the frames.
    """
    boxes = _boxes(index, row)
    others = [index.neighbour(row, offset) for offset in offsets]
    stands = _standing(boxes, [_boxes(index, other) for other in others if other is not None], max_m)
    world = transform_points(lidar_to_world, np.asarray(points)[:, :3].astype(np.float64))
    standing, unsure = np.zeros((2, len(world)), dtype=np.bool_)
    for box, inside in enumerate(points_in_boxes(boxes, world)):
        (standing if stands[box] else unsure)[inside] = True
    return standing & ~unsure


def points_in_boxes(boxes: Boxes, world: NDArray[np.float64]) -> list[NDArray[np.int64]]:
    """For each of the boxes the rows of ``world`` (N, 3) [m] that lie in it, its surface included."""
    order = np.argsort(world[:, 0])
    x = world[order, 0]
    found = []
    boxes_to_world = make_transform(boxes.rotations, boxes.centers)
    for center, size, box_to_world in zip(boxes.centers, boxes.sizes, boxes_to_world):
        reach = np.linalg.norm(size) / 2  # no corner is further away, however the box is turned
        first = np.searchsorted(x, center[0] - reach, side="left")
        last = np.searchsorted(x, center[0] + reach, side="right")
        near = order[first:last]
        in_box = transform_points(invert(box_to_world), world[near])
        found.append(near[(np.abs(in_box) <= size / 2).all(axis=1)])
    return found


def _standing(boxes: Boxes, others: Sequence[Boxes], max_m: float) -> NDArray[np.bool_]:
    """(B,) whether the track of each of ``boxes`` is in some of ``others``, and near its place in all that have it."""
    seen, moved = np.zeros((2, len(boxes)), dtype=np.bool_)
    for other in others:
        place = dict(zip(other.tracks, other.centers))
        for box, (track, center) in enumerate(zip(boxes.tracks, boxes.centers)):
            if track in place:
                seen[box] = True
                moved[box] |= bool(np.linalg.norm(place[track] - center) >= max_m)
    return seen & ~moved


def _boxes(index: Any, row: int) -> Boxes:
    boxes = index.boxes(row)
    if boxes is None:
        raise InputError(
            f"frame {index.tokens([row])[0]} has no boxes, and voting with tracks needs them; "
            "set tracks=False, or prepare a log whose key frames have boxes"
        )
    return boxes
