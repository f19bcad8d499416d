"""A log of one's own as a folder of files, of whatever names and formats: its ``folder.yaml`` says how they are read.

``{scene}`` in a pattern stands for a folder a drive; drives are scenes with a world of their own each. What the layout
does not say stays unknown. docs/own_data.md has the keys.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, MissingFileError
from ...geometry import Transform, compose, invert
from ...progress import Progress, silent
from ..card import DatasetCard
from ..catalogue import expected_tree
from ..formats.pcd import has_viewpoint
from ..formats.probe_columns import stored_names
from ..formats.read import choose
from ..names import check_scene_name
from ..records import CameraRow, Place, ScanRow
from ..stated import overruled, read_stated
from ..trajectory import Trajectory
from ..write import ListedLog
from .file_pattern import SCENE
from .folder_cameras import CameraLayout
from .folder_layout import NAME, FolderLayout, read_layout
from .motion_files import Times, check_every_line, read_kitti_poses, read_times, read_tum_poses, to_us

OWN = True  # a log of one's own, of whose download nothing can be said

_Values = TypeVar("_Values")


def open_log(
    root: Path, card: DatasetCard | None = None, *, layout: str | None = None, progress: Progress = silent
) -> ListedLog:
    """The log under ``root`` as its ``folder.yaml``, or the file ``layout``, lists it.

    Raises:
        MissingFileError, InputError: there is no layout, or it is not as it must be.
    """
    path = Path(layout) if layout else root / NAME
    if not layout and not os.path.lexists(path):
        raise MissingFileError(
            f"{path}: there is no such file; --guess writes a first draft of it\n{expected_tree('folder', root)}"
        )
    if card is not None:
        raise InputError(
            f"{path}: is the card of a folder; write into it what --card says, and leave that out"
        )
    read = read_layout(root, path)
    read = replace(read, card=overruled(read.card, root, read_stated(root)))
    warnings: list[str] = []
    files = {
        "calibration": os.path.relpath(path, root),
        "times": read.times.file if read.times else "",
        "poses": read.poses.file if read.poses else "",
    }
    return ListedLog(
        dataset="folder",
        card=read.card,
        scans=_scans(root, read, warnings),
        warnings=warnings,
        sources={what: file for what, file in files.items() if file},
    )


def _scans(root: Path, layout: FolderLayout, report: list[str]) -> Iterator[ScanRow]:
    found = False
    for scene in layout.points.scenes(root, root.absolute().name or "log"):
        check_scene_name(scene, root)
        files = _in_time(layout, layout.points.files(root, scene))
        report += _passed_over(root, layout, scene, files)
        if files and not found:
            found = True
            _check_columns(root, layout, next(iter(files.values())), report)
        yield from _Drive(root, layout, scene, files, report).rows()
    if not found:
        pattern = "/".join(layout.points.parts)
        raise MissingFileError(
            f"{layout.path}: there is no file {pattern}; mend files of points\n{expected_tree('folder', root)}"
        )


def _in_time(layout: FolderLayout, files: Mapping[str, str]) -> Mapping[str, str]:
    """The files of a drive in order, where their names are times by these: 5.06 lies before 5.1."""
    times = layout.times
    if times is None or times.file:
        return files
    return dict(sorted(files.items(), key=lambda pair: to_us(pair[0], times.unit_s, layout.path)))


def _passed_over(root: Path, layout: FolderLayout, scene: str, files: Mapping[str, str]) -> Iterator[str]:
    """What of a drive may be meant and is not read."""
    other = layout.points.other_case(root, scene)
    if other:
        yield (
            f"{root}: {len(other)} files of {scene}, as {other[0]}, are passed over, since the pattern "
            f"{'/'.join(layout.points.parts)} has other small and capital letters; rename them"
        )
    elif not files:
        yield f"{root}: {scene} has no file {'/'.join(layout.points.parts)}; it is left out"


def _check_columns(root: Path, layout: FolderLayout, first: str, report: list[str]) -> None:
    """The first file has the columns that the layout says; an intensity that it does not say is told of."""
    card = layout.card
    names = stored_names(root / first, card.point_format)
    if not names or card.point_format == "npz":  # an archive may hold one table without names
        return
    choose(root / first, [card.stored.get(name, name) for name in card.columns], names)
    if card.point_format == "pcd" and has_viewpoint(root / first):
        report.append(
            f"{root / first}: says by VIEWPOINT from where its points were seen, which is not read: points are taken "
            "for those of the frame of the sensor, and poses come from `poses`"
        )
    if "intensity" in names and "intensity" not in card.columns:
        report.append(
            f"{layout.path}: the points have an intensity that is not read; say which value of it becomes 1, as in "
            "intensity: {raw_max: 255}"
        )


@dataclass
class _Drive:
    """One scene: the files of its points by stem, in order."""

    root: Path
    layout: FolderLayout
    scene: str
    files: Mapping[str, str]
    report: list[str]

    def rows(self) -> Iterator[ScanRow]:
        layout = self.layout
        labels = layout.labels.files(self.root, self.scene) if layout.labels else {}
        cameras = {name: _Images(self, name, camera) for name, camera in layout.cameras.items()}
        for order, (stem, file) in enumerate(self.files.items()):
            label = file if layout.labels_in_points else labels.get(stem)
            yield ScanRow(
                scene=self.scene,
                token=f"{self.scene}_{stem}",
                order=order,
                points=Place(file),
                lidar_to_ego=layout.lidar_to_ego,
                labels=Place(label) if label else None,
                time_us=self.times_us.get(stem),
                ego_to_world=self.poses.get(stem),
                cameras=tuple(row for camera in cameras.values() for row in camera.of(stem)),
            )
        self._tell(labels, cameras)

    def _tell(self, labels: Mapping[str, str], cameras: Mapping[str, _Images]) -> None:
        """What all scans go without, which nobody may have meant; see `lacks` for what some have."""
        lacking = {f"image of {name}": camera.nearest for name, camera in cameras.items() if not camera.given}
        if self.layout.poses and not self.poses:
            lacking["pose"] = self._spans()
        if self.layout.labels and not self.files.keys() & labels.keys():
            lacking["labels"] = other_names("labels", labels, self.files)
        for what, why in lacking.items() if self.files else ():
            self.report.append(
                f"{self.root}: {len(self.files)} of the {len(self.files)} scans of {self.scene} have no {what}{why}"
            )

    def _spans(self) -> str:
        """Words about when scans were taken and when poses are told, where they do not meet."""
        if self.trajectory is None or not self.times_us:
            return ""
        told_us, taken_us = self.trajectory.times_us, self.times_us.values()
        return (
            f": they were taken from {min(taken_us) * 1e-6:.3f} to {max(taken_us) * 1e-6:.3f} s, and poses are told "
            f"from {told_us[0] * 1e-6:.3f} to {told_us[-1] * 1e-6:.3f} s; look at the clocks and units of both"
        )

    @cached_property
    def times_us(self) -> dict[str, int]:
        """Stem of a scan -> its time."""
        return self.times_of(self.layout.times, list(self.files))

    def times_of(self, times: Times | None, stems: Sequence[str]) -> dict[str, int]:
        """Stem of each file -> its time; none where nothing tells it."""
        if times is None or not stems:
            return {}
        if not times.file:
            return {stem: to_us(stem, times.unit_s, self.layout.path) for stem in stems}
        path = self.path_of(times.file)
        return by_line(path, read_times(path, times.unit_s).tolist(), stems)

    def path_of(self, file: str) -> Path:
        """A file of this drive that the layout names."""
        return self.root / file.replace(SCENE, self.scene)

    @cached_property
    def trajectory(self) -> Trajectory | None:
        """The log's poses in time, as far as both are known."""
        poses = self.layout.poses
        if poses is None:
            return None
        if poses.form == "tum":
            read = read_tum_poses(self.path_of(poses.file), poses.unit_s)
            return Trajectory(read.times_us, self._of_ego(read.poses))
        known = [stem for stem in self.poses if stem in self.times_us]
        if not known:
            return None
        return Trajectory.of(
            np.array([self.times_us[stem] for stem in known]), np.array([self.poses[stem] for stem in known])
        )

    @cached_property
    def poses(self) -> dict[str, Transform]:
        """Stem of each scan whose pose is known -> ego to world."""
        poses = self.layout.poses
        if poses is None or not self.files:
            return {}
        if poses.form == "kitti":
            path = self.path_of(poses.file)
            return by_line(path, list(self._of_ego(read_kitti_poses(path))), list(self.files))
        if not self.times_us:
            raise InputError(
                f"{self.layout.path}: poses of the form tum are found by time; add times of the scans"
            )
        found = {stem: self.pose_at(time_us) for stem, time_us in self.times_us.items()}
        return {stem: pose for stem, pose in found.items() if pose is not None}

    def pose_at(self, time_us: int | None) -> Transform | None:
        """Ego to world at a time; None where the log does not know it."""
        if self.layout.poses is None or self.trajectory is None or time_us is None:
            return None
        return self.trajectory.at(time_us, max_gap_us=round(self.layout.poses.max_gap_s * 1e6))

    def _of_ego(self, poses: NDArray[np.float64]) -> NDArray[np.float64]:
        """(M, 4, 4) poses of the ego frame from those in the file, which may be those of a camera."""
        of = self.layout.poses.of if self.layout.poses else ""
        if not of:
            return poses
        camera_to_ego = compose(self.layout.lidar_to_ego, self.layout.cameras[of].camera_to_lidar)
        return compose(camera_to_ego, poses, invert(camera_to_ego))


def by_line(path: Path, values: Sequence[_Values], stems: Sequence[str]) -> dict[str, _Values]:
    """Stem of each file -> its line of a text file: one a file, or counted by the numbers that are their names.

    Raises:
        InputError: neither fits.
    """
    if len(values) == len(stems):
        return dict(zip(stems, values))
    if all(stem.isascii() and stem.isdecimal() and int(stem) < len(values) for stem in stems):
        check_every_line(path)
        return {stem: values[int(stem)] for stem in stems}
    raise InputError(
        f"{path}: has {len(values)} lines for {len(stems)} files ({stems[0]} to {stems[-1]}); write a line for each of "
        "them, or name the files by the number of their line, from 0 on"
    )


def other_names(what: str, files: Mapping[str, str], scans: Mapping[str, str]) -> str:
    """Words about files that belong to scans by the same name, where none has it; "" where there is no file."""
    if not files or not scans:
        return ""
    one, other = next(iter(files)), next(iter(scans))
    return f": {what} are called {one!r} and so on in place of the *, scans {other!r}; rename them alike"


class _Images:
    """The images of one camera of a drive, matched to its scans: by time where both know theirs, else by name."""

    def __init__(self, drive: _Drive, name: str, camera: CameraLayout) -> None:
        self._drive, self._name, self._camera = drive, name, camera
        self._files = camera.images.files(drive.root, drive.scene)
        late_us = round(camera.late_s * 1e6)
        told_us = drive.times_of(camera.times, list(self._files))
        self._times_us = {stem: time_us - late_us for stem, time_us in told_us.items()}
        self._ordered = sorted((time, stem) for stem, time in self._times_us.items())
        self._clock = np.array([time for time, _ in self._ordered], np.int64)
        self.given = 0

    def of(self, scan: str) -> tuple[CameraRow, ...]:
        """The image of a scan, if there is one."""
        drive, camera = self._drive, self._camera
        time_us = drive.times_us.get(scan)
        stem = scan if not len(self._clock) or time_us is None else self._nearest(time_us)
        if stem not in self._files:
            return ()
        self.given += 1
        image_us = self._times_us.get(stem, time_us)
        own = drive.poses.get(scan)
        return (
            CameraRow(
                channel=self._name,
                token=f"{drive.scene}_{scan}_{self._name}",
                image=Place(self._files[stem]),
                intrinsics=camera.lens.intrinsics,
                camera_to_ego=compose(drive.layout.lidar_to_ego, camera.camera_to_lidar),
                size=camera.lens.size,
                time_us=image_us,
                ego_to_world=own if image_us == time_us else drive.pose_at(image_us),
                model=camera.lens.model,
                distortion=camera.lens.distortion,
            ),
        )

    @property
    def nearest(self) -> str:
        """Words about why no scan has an image; "" where there is no image."""
        scans_us = np.array(list(self._drive.times_us.values()), np.int64)
        if not len(self._clock) or not len(scans_us):
            return other_names("images", self._files, self._drive.files)
        after = np.searchsorted(self._clock, scans_us)
        beside = (self._clock[np.clip(after + step, 0, len(self._clock) - 1)] for step in (-1, 0))
        apart_s = min(int(np.abs(images_us - scans_us).min()) for images_us in beside) * 1e-6
        return (
            f": the nearest two are {apart_s:.3f} s apart, and max_delay_s of the camera is "
            f"{self._camera.max_delay_s:g}; look at the clocks of both"
        )

    def _nearest(self, time_us: int) -> str:
        place = int(np.abs(self._clock - time_us).argmin())
        near = abs(int(self._clock[place]) - time_us) <= self._camera.max_delay_s * 1e6
        return self._ordered[place][1] if near else ""
