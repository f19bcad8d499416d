"""Waymo Open Dataset as it is downloaded, parquet files of version 2 or tfrecord files of version 1.

A scan is of five LiDARs, with five cameras. Labels are of the upper LiDAR and of some frames. Points are brought to the
time of their frame; images have the pose of the vehicle at their own. Their distortion is in the calibration, their
rolling shutter is left aside.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...files.access import file_names
from ...geometry import OPTICAL, Transform, compose
from ..card import DatasetCard
from ..formats.arrow_tables import INTEGER, NUMBER, NUMBERS, read_parquet_table
from ..formats.tfrecord import records
from ..formats.waymo_parquet import CAMERA, TIME, read_beams, read_lidars, read_poses, sibling
from ..formats.waymo_points import LIDARS, Beams, matrix
from ..formats.waymo_tfrecord import SUFFIX, TfrecordFrame
from ..records import RADIAL_TANGENTIAL, CameraRow, LidarRow, Place, ScanRow

SOURCES = {
    "poses": "vehicle_pose/SEGMENT.parquet or segment-SEGMENT*.tfrecord",
    "calibration": "lidar_calibration/SEGMENT.parquet or segment-SEGMENT*.tfrecord",
}
FOLDERS = {  # of the download -> split
    **{"training": "train", "validation": "val", "testing": "test", "testing_location": "test"},
    "": "",
}
CAMERAS = ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "SIDE_LEFT", "SIDE_RIGHT")  # 1 to 5

_EDGE = 0.5  # its pixel 0 begins where the image does, ours is the centre of the first pixel
_INTRINSIC = ("f_u", "f_v", "c_u", "c_v", "k1", "k2", "p1", "p2", "k3")
_LENS = "[CameraCalibrationComponent]."
_IMAGE = "[CameraImageComponent]."


def scans(root: Path, card: DatasetCard, report: list[str]) -> Iterator[ScanRow]:
    """Every frame of every segment below ``root``, or below the folders of the download.

    Raises:
        InputError: files are not as they must be, or both versions lie there, which hold the same frames.
    """
    parquet = {folder: file_names(root / folder / "lidar", ".parquet") for folder in FOLDERS}
    tfrecord = {folder: file_names(root / folder, SUFFIX) for folder in FOLDERS}
    if any(parquet.values()) and any(tfrecord.values()):
        raise InputError(
            f"{root}: holds parquet files of version 2 and {SUFFIX} files of version 1, which are the same frames; "
            "give a folder that holds one of them"
        )
    for folder, split in FOLDERS.items():
        for name in parquet[folder]:
            segment = _ParquetSegment(root, folder, name.removesuffix(".parquet"), split)
            yield from segment.frames(report)
        for name in tfrecord[folder]:
            yield from _tfrecord_frames(root, f"{folder}/{name}".lstrip("/"), split, report)


@dataclass
class _ParquetSegment:
    root: Path
    folder: str
    name: str
    split: str

    def _inside(self, component: str) -> str:
        return f"{self.folder}/{component}/{self.name}.parquet".lstrip("/")

    def frames(self, report: list[str]) -> Iterator[ScanRow]:
        path = self.root / self._inside("lidar")
        seeing = read_lidars(path)
        report += _without_lidars(path, seeing)
        mounted = sibling(path, "lidar_calibration")
        lidars = _lidars(mounted, read_beams(mounted))
        poses = read_poses(sibling(path, "vehicle_pose"))
        segmentation = self.root / self._inside("lidar_segmentation")
        labelled = set(_times(segmentation)) if segmentation.is_file() else set()
        cameras = self._cameras()
        for order, time_us in enumerate(sorted(seeing)):
            labels = Place(self._inside("lidar_segmentation"), str(time_us)) if time_us in labelled else None
            yield ScanRow(
                scene=self.name,
                token=f"{self.name}_{time_us}",
                order=order,
                points=Place(self._inside("lidar"), str(time_us)),
                lidar_to_ego=np.eye(4),
                labels=labels,
                instances=labels,
                time_us=time_us,
                ego_to_world=poses.get(time_us),
                lidars=lidars,
                split=self.split,
                cameras=tuple(cameras.get(time_us, ())),
            )

    def _cameras(self) -> dict[int, list[CameraRow]]:
        """Time of a frame -> its images; none where the segment was downloaded without them."""
        path = self.root / self._inside("camera_image")
        if not path.is_file():
            return {}
        calibration = sibling(path, "camera_calibration")
        lenses = _parquet_lenses(calibration)
        pose, pose_time = f"{_IMAGE}pose.transform", f"{_IMAGE}pose_timestamp"
        kinds = {TIME: INTEGER, CAMERA: INTEGER, pose: NUMBERS, pose_time: NUMBER}
        found: dict[int, list[CameraRow]] = {}
        for row in read_parquet_table(path, kinds).to_pylist():
            number, time_us = row[CAMERA], row[TIME]
            found.setdefault(time_us, []).append(
                CameraRow(
                    **_channel(calibration, lenses, number, f"{self.name}_{time_us}"),
                    image=Place(self._inside("camera_image"), f"{time_us}/{number}"),
                    time_us=_microseconds(path, row[pose_time]),
                    ego_to_world=matrix(path, row[pose]),
                )
            )
        return found


def _tfrecord_frames(root: Path, inside: str, split: str, report: list[str]) -> Iterator[ScanRow]:
    """The frames of a file in the order of their times; every record is read whole, so a damaged one is found here."""
    path = root / inside
    found: dict[int, ScanRow] = {}
    seeing: dict[int, set[int]] = {}
    segment = ""
    for offset, data in records(path):
        frame = TfrecordFrame(path, offset, data)
        if frame.time_us in found or (found and frame.segment != segment):
            raise InputError(
                f"{path}: the record at byte {offset} is another frame of {frame.time_us}, or of another segment than "
                f"{segment}; copy it again"
            )
        segment = frame.segment
        found[frame.time_us] = _tfrecord_row(frame, inside, split)
        seeing[frame.time_us] = frame.lidars
    report += _without_lidars(path, seeing)
    for order, time_us in enumerate(sorted(found)):
        yield replace(found[time_us], order=order)


def _tfrecord_row(frame: TfrecordFrame, inside: str, split: str) -> ScanRow:
    token = f"{frame.segment}_{frame.time_us}"
    lenses = {
        camera: _lens(frame.path, camera, intrinsic, mount, size)
        for camera, intrinsic, mount, size in frame.cameras()
    }
    place = Place(inside, frame.key)
    labels = place if frame.has_labels else None
    return ScanRow(
        scene=frame.segment,
        token=token,
        order=0,
        points=place,
        lidar_to_ego=np.eye(4),
        labels=labels,
        instances=labels,
        time_us=frame.time_us,
        ego_to_world=frame.vehicle_pose(),
        lidars=_lidars(frame.path, frame.all_beams),
        split=split,
        cameras=tuple(
            CameraRow(
                **_channel(frame.path, lenses, number, token),
                image=Place(inside, f"{frame.key}/{number}"),
                time_us=_microseconds(frame.path, time_s),
                ego_to_world=pose,
            )
            for number, pose, time_s in frame.images()
        ),
    )


def _lidars(path: Path, beams: Mapping[int, Beams]) -> tuple[LidarRow, ...]:
    lidars = tuple(LidarRow(name, beams[i].mount) for i, name in enumerate(LIDARS, start=1) if i in beams)
    if len(lidars) < len(LIDARS):
        raise InputError(f"{path}: has {len(lidars)} of {len(LIDARS)} LiDARs; copy it again")
    return lidars


def _without_lidars(path: Path, seeing: Mapping[int, Collection[int]]) -> Iterator[str]:
    """A sentence about frames that go without the points of some LiDARs; ``seeing``: of each time those that it has."""
    lacking = [time_us for time_us in sorted(seeing) if len(seeing[time_us]) < len(LIDARS)]
    if lacking:
        first = [name for number, name in enumerate(LIDARS, 1) if number not in seeing[lacking[0]]]
        yield (
            f"{path}: {len(lacking)} of {len(seeing)} frames lack the points of a LiDAR, the first is {lacking[0]} "
            f"without {', '.join(first)}; copy the file again, or take them as they are"
        )


def _times(path: Path) -> list[int]:
    """Times of the frames in a file, ascending."""
    return sorted(set(read_parquet_table(path, {TIME: INTEGER})[TIME].to_pylist()))


def _microseconds(path: Path, time_s: float) -> int:
    if not math.isfinite(time_s):
        raise InputError(f"{path}: a time of an image is not finite; copy it again")
    return round(time_s * 1e6)


def _channel(path: Path, lenses: Mapping[int, Mapping[str, Any]], number: int, scan: str) -> dict[str, Any]:
    """What `CameraRow` has of the camera ``number`` for an image of the scan of this token."""
    if number not in lenses or not 1 <= number <= len(CAMERAS):
        raise InputError(f"{path}: has no row of the camera {number}; copy it again")
    channel = CAMERAS[number - 1]
    return {"channel": channel, "token": f"{scan}_{channel}", **lenses[number]}


def _parquet_lenses(path: Path) -> dict[int, dict[str, Any]]:
    """Camera -> how it sees, as `CameraRow` has it."""
    numbers = [f"{_LENS}intrinsic.{name}" for name in _INTRINSIC]
    height, width, mount = (f"{_LENS}{name}" for name in ("height", "width", "extrinsic.transform"))
    kinds = {
        **dict.fromkeys((CAMERA, height, width), INTEGER),
        mount: NUMBERS,
        **dict.fromkeys(numbers, NUMBER),
    }
    return {
        row[CAMERA]: _lens(
            *(path, row[CAMERA], [row[name] for name in numbers], matrix(path, row[mount])),
            (row[height], row[width]),
        )
        for row in read_parquet_table(path, kinds).to_pylist()
    }


def _lens(
    path: Path, camera: int, intrinsic: Sequence[float], mount: Transform, size: tuple[int, int]
) -> dict[str, Any]:
    """How a camera sees, as `CameraRow` has it, of the numbers ``_INTRINSIC`` and camera to vehicle."""
    if len(intrinsic) != len(_INTRINSIC) or not all(map(math.isfinite, intrinsic)):
        raise InputError(
            f"{path}: the lens of the camera {camera} is not {len(_INTRINSIC)} finite numbers; copy it again"
        )
    fx, fy, cx, cy, *distortion = intrinsic
    return {
        "intrinsics": np.array([[fx, 0, cx - _EDGE], [0, fy, cy - _EDGE], [0, 0, 1]]),
        "camera_to_ego": compose(mount, OPTICAL),  # a camera of the dataset looks along x
        "size": size,
        "model": RADIAL_TANGENTIAL,
        "distortion": tuple(map(float, distortion)),
    }
