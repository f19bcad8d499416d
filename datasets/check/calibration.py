"""How the cameras are mounted, and calibrations that no rig has."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...geometry import Transform, invert, make_transform, to_quaternion
from ..index import LogIndex
from ..records import FISHEYE, Lens
from .report import Problem, Report

REACH_M = 50.0  # sensors further from the vehicle's origin than this are not on it
_UPRIGHT = 0.87  # cosine of 30 degrees: a picture whose "down" is this much down stands upright
_TURNED = 0.5  # and below this it does not
_LOWEST_M = 0.15  # no camera is nearer to the ground
_STEEP = 0.87  # sine of the angle at which a camera looks up or down rather than anywhere around


@dataclass(frozen=True, slots=True)
class Mount:
    """A camera as its calibration has it."""

    camera_to_ego: Transform
    camera_to_lidar: Transform
    lens: Lens

    @property
    def axis(self) -> NDArray[np.float64]:
        """(3,) where it looks, unit vector in the lidar frame."""
        return self.camera_to_lidar[:3, 2]

    @property
    def half_angle_deg(self) -> float:
        """Half of its horizontal field of view."""
        reach = self.lens.size[1] / 2 / max(self.lens.intrinsics[0, 0], 1e-9)
        return float(np.degrees(reach if self.lens.model == FISHEYE else np.arctan(reach)))


def read_mounts(index: LogIndex, images: NDArray[np.void]) -> dict[str, list[Mount]]:
    """Channel -> its different calibrations over the scenes of the log.

    Args:
        images: (I,) records with ``row`` and ``camera``, the position in ``LogIndex.channels``.
    """
    mounts: dict[str, list[Mount]] = defaultdict(list)
    of = np.stack([images["camera"], index.scene_of[images["row"]]], axis=1)
    _, first = np.unique(of, axis=0, return_index=True)
    for row, number in images[["row", "camera"]][first].tolist():
        channel = index.channels[number]
        frame = index.frame(row, cameras=[channel], points=False, images=False)
        (camera,) = frame.cameras
        known = mounts[channel]
        if not any(
            np.array_equal(camera.camera_to_ego, mount.camera_to_ego)
            and np.array_equal(camera.intrinsics, mount.lens.intrinsics)
            and (camera.model, camera.distortion) == (mount.lens.model, mount.lens.distortion)
            for mount in known
        ):
            to_lidar = invert(frame.lidar_to_ego) @ camera.camera_to_ego
            known.append(Mount(camera.camera_to_ego, to_lidar, camera.lens))
    return dict(mounts)


def looks_where_points_are(mount: Mount, sectors: NDArray[np.int64]) -> bool:
    """Whether points lie in the directions that the camera sees, so that some must fall on its images.

    False for one that looks down steeply, where the vehicle hides the ground from the LiDAR; true for one that looks up
    steeply, which only wrong calibrations do. The outer third of the field of view counts for nothing, since LiDAR and
    camera stand apart.

    Args:
        sectors: (S,) points by azimuth from -180 degrees, counter-clockwise.
    """
    x, y, z = mount.axis.tolist()
    if abs(z) > _STEEP:
        return z > 0
    middles = (np.arange(len(sectors)) + 0.5) * 360 / len(sectors) - 180
    apart = np.abs((middles - np.degrees(np.arctan2(y, x)) + 180) % 360 - 180)
    # less than a point in a thousand comes from the vehicle itself or is noise
    return bool(sectors[apart < 0.7 * mount.half_angle_deg].sum() > 1e-3 * sectors.sum())


def describe_mount(mount: Mount) -> str:
    """In words, where the camera looks."""
    if _is_identity(mount):
        return "its rotation is the identity, with which a camera looks straight up"
    x, y, z = mount.camera_to_ego[:3, 2].tolist()
    if abs(z) > 0.71:
        return f"by its calibration it looks {'up' if z > 0 else 'down'}"
    sides = ("forward", "to the left", "backward", "to the right")
    turn = round(np.degrees(np.arctan2(y, x)) / 90) % 4
    return f"by its calibration it looks {sides[turn]}"


def judge_calibration(
    index: LogIndex, mounts: dict[str, list[Mount]], ground_m: float | None, report: Report
) -> None:
    """Add what is wrong with the calibrations themselves.

    Args:
        ground_m: height of the ground in the lidar frame, or None where that is not known.
    """
    report.add(
        [
            *_far_away(index, mounts),
            *_inverted(index, mounts, ground_m, report),
            *_other_order(index, mounts),
            *_shared(index, mounts, report),
        ],
        first=True,
    )
    named = {problem.file for problem in report.problems}
    rest = {channel: known[0] for channel, known in mounts.items() if channel not in named}
    for is_so, said in _REMARKS:
        channels = [channel for channel, mount in rest.items() if is_so(mount)]
        if channels:
            report.notes.append(f"{', '.join(channels)}: {said}")
    low = [channel for channel, mount in rest.items() if _is_buried(mount, ground_m)]
    if low:
        report.notes.append(f"{', '.join(low)}: by calibration below the ground")


def _far_away(index: LogIndex, mounts: dict[str, list[Mount]]) -> Iterator[Problem]:
    for channel, known in mounts.items():
        distance = max(float(np.linalg.norm(mount.camera_to_ego[:3, 3])) for mount in known)
        if distance > REACH_M:
            yield Problem(
                "calibration",
                channel,
                f"{_table(index)}: {channel} is mounted {distance:,.0f} m from the vehicle's origin; translation must "
                "be in metres, from the sensor to the vehicle",
            )


def _inverted(
    index: LogIndex, mounts: dict[str, list[Mount]], ground_m: float | None, report: Report
) -> Iterator[Problem]:
    """Cameras that lie on their side and would stand upright if their calibration were inverted.

    One that lies on its side and looks to the right by design would, too; two, or one below the ground, are no design.
    """
    lying = _upright_if(mounts, invert)
    for channel, mount in lying.items():
        buried = _is_buried(mount, ground_m)
        said = (
            f"the calibration of {channel} seems to be inverted: with it the camera lies on its side and looks to the "
            f"right{', from below the ground' if buried else ''}, its inverse stands upright"
        )
        if buried or len(lying) > 1:
            yield Problem(
                "calibration",
                channel,
                f"{_table(index)}: {said}; translation and rotation take points of the camera to the vehicle, not the "
                "other way",
            )
        else:
            report.notes.append(said)


def _other_order(index: LogIndex, mounts: dict[str, list[Mount]]) -> Iterator[Problem]:
    """Several cameras lie on their sides, and all would stand upright if their quaternions were x, y, z, w."""

    def reorder(camera_to_ego: Transform) -> Transform:
        x, y, z, w = to_quaternion(camera_to_ego).tolist()
        return make_transform([w, x, y, z], camera_to_ego[:3, 3].tolist())

    lying = list(_upright_if(mounts, reorder))
    upright = all(_stands(reorder(mount.camera_to_ego)) for known in mounts.values() for mount in known)
    if len(lying) > 1 and upright:
        yield Problem(
            "calibration",
            lying[0],
            f"{_table(index)}: with their rotations {', '.join(lying)} do not stand upright, and all cameras would if "
            "these were x, y, z, w; rotation must be w, x, y, z",
        )


def _upright_if(mounts: dict[str, list[Mount]], other: Callable[[Transform], Transform]) -> dict[str, Mount]:
    """Cameras that do not stand upright, and would, looking at the horizon, if ``other`` were applied."""
    found: dict[str, Mount] = {}
    for channel, known in mounts.items():
        for mount in known:
            if _down(mount.camera_to_ego) < _TURNED and _stands(other(mount.camera_to_ego)):
                found.setdefault(channel, mount)
    return found


def _shared(index: LogIndex, mounts: dict[str, list[Mount]], report: Report) -> Iterator[Problem]:
    """Cameras that stand in one place and look one way."""
    groups: dict[bytes, list[str]] = defaultdict(list)
    for channel, known in mounts.items():
        groups[(known[0].camera_to_ego + 0.0).tobytes() + known[0].lens.intrinsics.tobytes()].append(channel)
    for channels in groups.values():
        said = f"{', '.join(channels)} have the very same calibration"
        if len(channels) > 2:
            yield Problem(
                "calibration", channels[0], f"{_table(index)}: {said}; give each camera its own rotation"
            )
        elif len(channels) == 2:
            report.notes.append(f"{said}: two images of one camera?")


def _off_centre(mount: Mount) -> bool:
    (height, width), (u, v) = mount.lens.size, mount.lens.intrinsics[:2, 2].tolist()
    return not (0.1 < u / width < 0.9 and 0.1 < v / height < 0.9)


def _down(camera_to_ego: Transform) -> float:
    """Cosine between the picture's "down" and the vehicle's."""
    return -float(camera_to_ego[2, 1])


def _stands(camera_to_ego: Transform) -> bool:
    """Whether the camera stands upright and looks at the horizon."""
    return _down(camera_to_ego) > _UPRIGHT and abs(camera_to_ego[2, 2]) < _TURNED


def _is_buried(mount: Mount, ground_m: float | None) -> bool:
    return ground_m is not None and bool(mount.camera_to_lidar[2, 3] < ground_m + _LOWEST_M)


def _is_identity(mount: Mount) -> bool:
    return bool(np.allclose(mount.camera_to_ego[:3, :3], np.eye(3), atol=1e-6))


def _table(index: LogIndex) -> str:
    return str(index.source("calibration"))


_REMARKS: tuple[tuple[Callable[[Mount], bool], str], ...] = (  # may be right, so they are told and no more
    (_is_identity, "the rotation is the identity, with which a camera looks straight up"),
    (
        lambda mount: _down(mount.camera_to_ego) < _TURNED and not _is_identity(mount),
        "by calibration on its side or upside down: so are its images?",
    ),
    (
        _off_centre,
        "the middle of the picture by camera_intrinsic is far from the middle of its pixels: were the images resized "
        "or cropped, and the intrinsics not?",
    ),
)
