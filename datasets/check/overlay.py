"""Pictures that show at a glance whether LiDAR, cameras, poses and labels of a log fit together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...files.access import file_in
from ...files.writes import write_bytes
from ..card import DatasetCard
from ..frame import IGNORE_LABEL, Frame
from ..index import LogIndex
from ..records import Lens

# (points, lidar_to_camera, lens) -> object with .rows, .pixels (u, v) and .depth [m]
Project = Callable[[NDArray[Any], NDArray[Any], Lens], Any]


def write_overlays(
    index: LogIndex, folder: str | Path, *, project: Project, row: int | None = None
) -> list[Path]:
    """One PNG a camera: the scan's points on the image, coloured by class, or by depth where there are no labels.

    Args:
        project: where points fall on an image.
        row: key frame to show; None takes the one where the vehicle is fastest, where wrong poses show most.

    Raises:
        InputError: a file of that frame is missing or wrong, or a picture cannot be written.
    """
    import cv2

    frame = index.frame(fastest_key(index) if row is None else row)
    paths = []
    for camera in frame.cameras:
        assert camera.image is not None
        seen = project(frame.points, frame.lidar_to_camera(camera), camera.lens)
        colours, legend = _colours(frame, index.card, seen)
        picture = camera.image.copy()
        radius = max(1, round(camera.size[0] / 450))
        for (u, v), colour in zip(np.rint(seen.pixels).astype(int).tolist(), colours.tolist()):
            cv2.circle(picture, (u, v), radius, colour, -1, cv2.LINE_AA)
        picture = _with_legend(picture, legend, f"{frame.scene} {camera.channel}")
        path = file_in(folder, f"{frame.scene}_{frame.token}_{camera.channel}.png")
        encoded, data = cv2.imencode(".png", picture[..., ::-1])
        assert encoded
        write_bytes(path, data.tobytes())
        paths.append(path)
    return paths


def fastest_key(index: LogIndex) -> int:
    """The key frame around which the vehicle moves fastest, if that is known; cameras and labels come first."""
    keys = index.rows()
    speed = np.zeros(len(index))
    same = np.diff(index.scene_of) == 0
    if not (index.has_times and index.has_poses):
        known = [(index.camera_count[row], index.has_labels(row)) for row in keys.tolist()]
        return int(keys[max(range(len(keys)), key=known.__getitem__)])
    metres = np.linalg.norm(np.diff(index.ego_positions(), axis=0), axis=1)
    speed[1:][same] = (metres / np.maximum(np.diff(index.time_us) * 1e-6, 1e-6))[same]
    rank = [(index.camera_count[row], index.has_labels(row), speed[row]) for row in keys.tolist()]
    return int(keys[max(range(len(keys)), key=rank.__getitem__)])


def _colours(
    frame: Frame, card: DatasetCard, seen: Any
) -> tuple[NDArray[np.uint8], list[tuple[str, list[int]]]]:
    """(P, 3) RGB of the projected points, and the legend."""
    import cv2

    if frame.labels is None:
        turbo = np.asarray(cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO))[
            :, 0, ::-1
        ]

        def shade(metres: NDArray[Any]) -> NDArray[Any]:  # logarithmic from 2 m to 80 m
            return turbo[
                (np.clip(np.log(np.maximum(metres, 2.0) / 2) / np.log(40), 0, 1) * 255).astype(np.uint8)
            ]

        marks = np.array([2, 5, 10, 20, 40, 80])
        return shade(seen.depth), [
            (f"{metres} m", colour) for metres, colour in zip(marks, shade(marks).tolist())
        ]
    labels = frame.labels[seen.rows]
    palette = np.full((256, 3), 90, dtype=np.uint8)
    palette[: len(card.palette)] = card.palette
    there = [i for i in np.unique(labels).tolist() if i != IGNORE_LABEL]
    return palette[labels], [(card.classes[i], palette[i].tolist()) for i in there]


def _with_legend(
    picture: NDArray[np.uint8], legend: list[tuple[str, list[int]]], title: str
) -> NDArray[np.uint8]:
    """The picture with a strip of names below it, as many lines as they need."""
    import cv2

    width, scale = picture.shape[1], picture.shape[1] / 1400 + 0.15
    line = round(34 * scale)
    x, y, places = round(8 * scale), line, []
    for text, colour in [(title, None), *legend]:
        patch = 0 if colour is None else line
        (long, _), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
        if x + patch + long > width:
            x, y = round(8 * scale), y + line
        places.append((text, colour, x, patch, y))
        x += patch + long + round(24 * scale)
    strip = np.full((y + line // 2, width, 3), 20, dtype=np.uint8)
    for text, colour, x, patch, y in places:
        if colour is not None:
            cv2.rectangle(strip, (x, y - line // 2), (x + round(patch * 0.7), y), colour, -1)
        cv2.putText(
            strip, text, (x + patch, y), cv2.FONT_HERSHEY_SIMPLEX, scale, (255, 255, 255), 1, cv2.LINE_AA
        )
    return np.concatenate([picture, strip])
