"""Waymo Open Dataset: points and labels of one frame out of its range images, however these are stored.

The rows of a frame's points are the pixels with a return: of the LiDARs 1 to 5 the first ones, row by row, then the
second ones. Geometry after the documentation of the dataset's own range images.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...geometry import Transform, invert
from .transforms import check_rigid

TOP = 1  # the only LiDAR with labels, and with a pose for each pixel
LIDARS = ("TOP", "FRONT", "SIDE_LEFT", "SIDE_RIGHT", "REAR")  # 1 to 5
RANGE_CHANNELS, LABEL_CHANNELS, POSE_CHANNELS = 4, 2, 6  # of the three kinds of images
INSTANCE, CLASS = 0, 1  # channels of a label image
_CHANNELS = {"range": 0, "intensity": 1, "elongation": 2}  # of a range image

Columns = Mapping[str, NDArray[Any]]


class Beams(NamedTuple):
    """How a LiDAR sees: ``mount`` (4, 4) to the vehicle, ``inclinations`` [rad] from below.

    These are a list of one a row, or the lower and upper end of what the rows share evenly (``is_range``).
    """

    mount: Transform
    inclinations: NDArray[np.float64]
    is_range: bool


class WaymoFrame(Protocol):
    """One frame as it is stored. Whatever it lacks or holds wrongly is an InputError that names the file."""

    path: Path  # of the range images
    labels_path: Path
    time_us: int

    def beams(self, laser: int) -> Beams:
        """Of a LiDAR that has range images."""

    def range_images(self) -> Mapping[tuple[int, int], NDArray[Any]]:
        """(LiDAR, echo) -> (H, W, 4) range [m], intensity, elongation, no-label zone; no return is not above 0."""

    def label_images(self) -> Mapping[tuple[int, int], NDArray[Any]]:
        """(LiDAR, echo) -> (H, W, 2) instance, class; of those that have labels, at least one."""

    def vehicle_pose(self) -> Transform:
        """(4, 4) vehicle to world of the frame."""

    def pixel_poses(self, shape: tuple[int, ...]) -> NDArray[np.float64]:
        """(H, W, 6) roll, pitch, yaw [rad], x, y, z [m] of the vehicle in the world when TOP saw the pixel."""


def frame_points(frame: WaymoFrame, names: Sequence[str]) -> Columns:
    """The points of a frame in the frame of the vehicle at its time.

    Columns: x, y, z, intensity, elongation, ``lidar`` (0 to 4) and ``echo`` (1, 2).

    Raises:
        InputError: the frame has none of these, or its images do not fit its calibration.
    """
    found: list[dict[str, NDArray[Any]]] = []
    for laser, echo, image in _in_order(frame.range_images()):
        row, column = np.nonzero(image[..., 0] > 0)
        xyz = _in_vehicle(frame.path, image, row, column, frame.beams(laser))
        if laser == TOP:
            world_to_vehicle = invert(frame.vehicle_pose())
            world = _moved(frame.pixel_poses(image.shape[:2])[row, column], xyz)
            xyz = world @ world_to_vehicle[:3, :3].T + world_to_vehicle[:3, 3]
        values = dict(zip("xyz", xyz.astype(np.float32).T))
        values |= {name: image[row, column, place] for name, place in _CHANNELS.items()}
        values["lidar"] = np.full(len(row), laser - 1, np.uint8)
        values["echo"] = np.full(len(row), echo, np.uint8)
        found.append(values)
    if not found:
        raise InputError(f"{frame.path}: has no frame {frame.time_us}; prepare the log again")
    unknown = sorted(set(names) - set(found[0]))
    if unknown:
        raise InputError(f"{frame.path}: has no column {', '.join(unknown)}; mend the columns of the card")
    return {name: np.concatenate([values[name] for values in found]) for name in names}


def frame_labels(frame: WaymoFrame, channel: int) -> NDArray[Any]:
    """(N,) a number for each point of ``frame_points``, 0 for those of LiDARs without labels."""
    labels = frame.label_images()
    found = []
    for laser, echo, image in _in_order(frame.range_images()):
        there = image[..., 0] > 0
        of_pixels = labels.get((laser, echo))
        if of_pixels is None:
            found.append(np.zeros(int(there.sum()), np.int32))
        elif of_pixels.shape[:2] != there.shape:
            raise InputError(
                f"{frame.labels_path}: frame {frame.time_us}: labels of {of_pixels.shape[:2]} for a range image of "
                f"{there.shape}; copy both again"
            )
        else:
            found.append(of_pixels[..., channel][there])
    if not found:
        raise InputError(f"{frame.path}: has no frame {frame.time_us}; prepare the log again")
    return np.concatenate(found)


def images_of_rows(frame: WaymoFrame, values: NDArray[Any]) -> dict[tuple[int, int], NDArray[Any]]:
    """(LiDAR, echo) -> (H, W) of the (N,) values of the points of ``frame_points``; 0 where nothing came back.

    Raises:
        InputError: the frame has other points.
    """
    found, at = {}, 0
    for laser, echo, image in _in_order(frame.range_images()):
        there = image[..., 0] > 0
        count = int(there.sum())
        found[laser, echo] = np.zeros(there.shape, values.dtype)
        if at + count <= len(values):
            found[laser, echo][there] = values[at : at + count]
        at += count
    if at != len(values):
        raise InputError(
            f"{frame.path}: frame {frame.time_us}: {len(values)} values for {at} points; prepare the log again"
        )
    return found


def matrix(path: Path, values: Any) -> Transform:
    """(4, 4) of the sixteen numbers of a rigid transform."""
    found = np.array(values if values is not None else [], np.float64)
    if found.size != 16 or not np.isfinite(found).all():
        raise InputError(f"{path}: a transform is not sixteen finite numbers; copy it again")
    check_rigid(path, "a transform", found.reshape(4, 4))
    return found.reshape(4, 4)


def _in_order(images: Mapping[tuple[int, int], NDArray[Any]]) -> Iterator[tuple[int, int, NDArray[Any]]]:
    """LiDAR, echo, image: the first echoes of all LiDARs, then the second ones."""
    for echo in (1, 2):
        for laser in range(1, len(LIDARS) + 1):
            if (laser, echo) in images:
                yield laser, echo, images[laser, echo]


def _in_vehicle(
    path: Path, image: NDArray[Any], row: NDArray[np.int64], column: NDArray[np.int64], beams: Beams
) -> NDArray[np.float64]:
    """(N, 3) of pixels, in the vehicle at the time of each."""
    height, width = image.shape[:2]
    mount, listed = beams.mount, beams.inclinations
    if beams.is_range:
        low, high = listed
        listed = low + (np.arange(height) + 0.5) / height * (high - low)
    if len(listed) != height:
        raise InputError(
            f"{path}: a range image has {height} rows for {len(listed)} inclinations; copy it again"
        )
    upward = listed[::-1][row]
    azimuth = (2 * (width - column - 0.5) / width - 1) * np.pi - np.arctan2(mount[1, 0], mount[0, 0])
    distance = image[row, column, 0].astype(np.float64)
    flat = distance * np.cos(upward)
    xyz = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(upward)], axis=1)
    return xyz @ mount[:3, :3].T + mount[:3, 3]


def _moved(poses: NDArray[np.float64], xyz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each point by its own pose: turned about x by roll, about y by pitch, about z by yaw, then shifted."""
    for angle, first, second in ((poses[:, 0], 1, 2), (poses[:, 1], 2, 0), (poses[:, 2], 0, 1)):
        cos, sin = np.cos(angle), np.sin(angle)
        turned = xyz.copy()
        turned[:, first] = cos * xyz[:, first] - sin * xyz[:, second]
        turned[:, second] = sin * xyz[:, first] + cos * xyz[:, second]
        xyz = turned
    return xyz + poses[:, 3:]
