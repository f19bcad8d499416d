"""ROS 1 and 2 bags as a log, without ROS: a bag is a scene, each PointCloud2 a scan with the images nearest in time.

Points and images stay in the bag and are read from there. The ego frame is that of the odometry where there is one and
transforms lead from it to the LiDAR, else the LiDAR's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, MissingFileError
from ...geometry import Transform, compose, invert
from ...progress import Progress, silent
from ..card import DatasetCard, load_card
from ..card_keys import nearest_name
from ..catalogue import expected_tree
from ..formats.bag_messages import cloud_columns, cloud_fields
from ..formats.bags import TYPESTORE, Bag, check_typestore, find_bags
from ..names import check_scene_name
from ..records import CameraRow, Place, ScanRow
from ..stated import NAME as STATED
from ..stated import overruled, read_stated
from ..trajectory import LONGEST_GAP_US, Trajectory
from ..write import ListedLog
from .bag_contents import ODOMETRY, BagContents, Roles, Stamped, choose_topics, read_contents
from .guess_columns import intensity_column, intensity_scale, time_of_values
from .motion_files import read_late

OWN = True  # a log of one's own, of whose download nothing can be said
_LATEST_IMAGE_NS = 50_000_000  # a turn of most LiDARs takes 100 ms
_EMPTY = 100  # clouds among which one with points is looked for

logger = logging.getLogger(__name__)


def open_log(
    root: Path,
    card: DatasetCard | None = None,
    *,
    bags: Sequence[str] | None = None,
    topics: Sequence[str] | None = None,
    typestore: str | None = None,
    progress: Progress = silent,
) -> ListedLog:
    """The bags below ``root``, or those that ``bags`` names there.

    Args:
        topics: that are read; all that can be where this is None.
        typestore: of the types of messages of ROS 2.

    Raises:
        MissingFileError, InputError: there is no bag, one is damaged, or it has no cloud or several.
    """
    store = check_typestore(typestore or TYPESTORE)
    names = list(bags) if bags else find_bags(root)
    if not names:
        raise MissingFileError(
            f"{root}: holds no bag; give the folder that does with --root\n{expected_tree('ros', root)}"
        )
    warnings: list[str] = []
    first = Bag(root / names[0], store)
    roles = choose_topics(first.path, first.topics, topics)
    stated = read_stated(root)
    late_s = _late(root, names, store, stated.pop("late_s", {}))
    card = card or _card(first, roles, root, "intensity" in stated, warnings)
    card = overruled(card, root, stated)
    scans = _scans(root, names, store, topics, late_s, warnings, progress)
    return ListedLog(dataset="ros", card=card, scans=scans, warnings=warnings)


def _card(bag: Bag, roles: Roles, root: Path, states_intensity: bool, report: list[str]) -> DatasetCard:
    """What the first cloud says of its columns."""
    cloud = _first_cloud(bag, roles.cloud)
    if cloud is None:
        raise InputError(f"{bag.path}: {roles.cloud} has no message; record it again")
    names = tuple(cloud_fields(bag.path, cloud))
    intensity = intensity_column(names)
    columns = {"x": "x", "y": "y", "z": "z"} | ({"intensity": intensity} if intensity else {})
    values = cloud_columns(bag.path, cloud, names)
    time = time_of_values(values)
    columns |= {name: name for name in (*([time["column"]] if time else []), "ring") if name in names}
    card = replace(
        load_card("ros"),
        name=root.absolute().name or "bags",
        columns=tuple(columns),
        stored={name: own for name, own in columns.items() if name != own},
        time=time or {},
    )
    if not intensity:
        return card
    largest = float(np.nanmax(values[intensity], initial=0))
    rule, full = intensity_scale(largest)
    if not states_intensity:
        report.append(
            f"{bag.path}: intensities reach {largest:g} in the first cloud, so {full:g} is taken for 1, {rule}; "
            'another scale is said by "intensity": {"raw_max": ...} in dataset.json'
        )
    return replace(card, intensity_rule=rule, intensity_max=full)


def _late(root: Path, names: Sequence[str], store: str, stated: Mapping[str, Any]) -> dict[str, float]:
    """Topic of images -> seconds by which their times come after the shutter, as the log states.

    Raises:
        InputError: no bag has such a topic, or that is no number of seconds.
    """
    path = root / STATED
    late_s = {topic: read_late(path, topic, value) for topic, value in stated.items()}
    if not late_s:
        return late_s
    known = {
        name
        for bag in names
        for name, topic in Bag(root / bag, store).topics.items()
        if topic.type.endswith("Image")
    }
    for topic in late_s.keys() - known:
        raise InputError(
            f"{path}: late_s: {topic!r} is no topic of images of these bags; {nearest_name(topic, sorted(known))}"
        )
    return late_s


def _first_cloud(bag: Bag, topic: str) -> Any:
    """The first cloud that has points, as drivers begin with empty ones; an empty one where the first hundred are."""
    first = None
    with closing(bag.messages([topic])) as found:
        for _, _, message in islice(found, _EMPTY):
            if int(message.height) * int(message.width):
                return message
            first = message if first is None else first
    return first


def _scans(
    root: Path,
    names: Sequence[str],
    store: str,
    topics: Sequence[str] | None,
    late_s: Mapping[str, float],
    report: list[str],
    progress: Progress,
) -> Iterator[ScanRow]:
    for done, name in enumerate(names):
        progress("reading bags", done, len(names))
        scene = Path(name).stem if Path(name).suffix else Path(name).name
        check_scene_name(scene, root)
        bag = Bag(root / name, store)
        roles = choose_topics(bag.path, bag.topics, topics)
        for line in _words(roles):
            logger.info("%s: %s", bag.path, line)
        contents = read_contents(bag.path, bag, roles)
        for topic in contents.images.keys() & late_s.keys():
            images, late_ns = contents.images[topic], round(late_s[topic] * 1e9)
            images.times_ns[:] = [time_ns - late_ns for time_ns in images.times_ns]
        if not contents.scans.keys:
            report.append(f"{bag.path}: {roles.cloud} has no message; the bag is left out")
            continue
        yield from _Scene(name, scene, bag.path, roles, contents, report).rows()
    progress("reading bags", len(names), len(names))


def _words(roles: Roles) -> Iterator[str]:
    yield f"reading {', '.join(roles.topics)}"
    if roles.passed_over:
        rest = (
            f"{name} ({topic.type.replace('/msg/', '/')})"
            for name, topic in sorted(roles.passed_over.items())
        )
        yield f"passing over {', '.join(rest)}"


@dataclass
class _Scene:
    file: str
    scene: str
    path: Path
    roles: Roles
    contents: BagContents
    report: list[str]

    def rows(self) -> Iterator[ScanRow]:
        scans = self.contents.scans
        lidar_to_ego, poses = self._motion()
        cameras = list(self._cameras())
        order = np.argsort(scans.times_ns, kind="stable").tolist()
        used: set[int] = set()
        for number in order:
            time_ns = scans.times_ns[number]
            if time_ns in used:  # a message that was recorded twice
                continue
            used.add(time_ns)
            yield ScanRow(
                scene=self.scene,
                token=f"{self.scene}_{time_ns}",
                order=len(used) - 1,
                points=Place(self.file, scans.keys[number]),
                lidar_to_ego=lidar_to_ego,
                time_us=time_ns // 1000,
                ego_to_world=poses.at(time_ns // 1000),
                cameras=tuple(row for camera in cameras for row in camera.of(time_ns, lidar_to_ego, poses)),
            )
        self.report += [line for camera in cameras for line in camera.alone(scans.times_ns)]
        if len(used) < len(order):
            self.report.append(
                f"{self.path}: {len(order) - len(used)} clouds of {self.roles.cloud} are of a time that an earlier one "
                "has; they are left out"
            )

    def _motion(self) -> tuple[Transform, _Poses]:
        """Where the LiDAR is in the ego frame, and the poses of that."""
        found, lidar = self.contents, self.contents.scans.frame
        if found.odometry:
            lidar_to_body = (
                np.eye(4) if found.body in ("", lidar) else found.frames.between(lidar, found.body)
            )
            if lidar_to_body is not None:
                if not found.body:
                    self.report.append(
                        f"{self.path}: {self.roles.odometry} names no child frame; it is taken for the way of {lidar}"
                    )
                times, poses = zip(*found.odometry)
                return lidar_to_body, _Poses(Trajectory.of(np.array(times, np.int64), np.array(poses)))
            self.report.append(
                f"{self.path}: {self.roles.odometry} tells of {found.body}, and no transform leads from there to "
                f"{lidar}; the scans go without its poses"
            )
        if worlds := found.frames.worlds(lidar):
            way, world = _along(found, lidar, worlds)
            if way is None:
                self.report.append(
                    f"{self.path}: transforms lead from {lidar} to {worlds[-1]}, but not within a second around "
                    "the time of a scan; scans have no poses, look at the clocks of both"
                )
            elif world != worlds[0]:
                self.report.append(
                    f"{self.path}: where {world} was in {worlds[0]} is told less often than where {lidar} was in "
                    f"{world}; poses are those in {world}"
                )
            return np.eye(4), _Poses(way)
        several = [name for name, topic in self.roles.passed_over.items() if topic.type == ODOMETRY]
        advice = f"; of {', '.join(sorted(several))} name one with --topics" if several else ""
        self.report.append(
            f"{self.path}: neither odometry nor transforms tell where {lidar} was; scans have no poses{advice}"
        )
        return np.eye(4), _Poses(None)

    def _cameras(self) -> Iterator[_Camera]:
        found = self.contents
        for topic, info in self.roles.infos.items():
            images = found.images[topic]
            if not images.keys:
                continue
            mount = found.frames.between(images.frame, found.scans.frame)
            if info not in found.lenses or mount is None:
                lacking = (
                    f"{info} has no message"
                    if info not in found.lenses
                    else (f"no transform leads from {images.frame} to {found.scans.frame}")
                )
                self.report.append(f"{self.path}: {lacking}; the images of {topic} are left out")
                continue
            seen_by = found.lenses[info]
            if seen_by.is_second:
                self.report.append(
                    f"{self.path}: {topic} has rectified images of the second camera of a pair, of which {info} does "
                    "not say where it stands; they are left out, take those of the first or ones that are not rectified"
                )
                continue
            yield _Camera(self, topic, images, seen_by.lens, compose(mount, invert(seen_by.turn)))
        for topic, about in self.roles.passed_over.items():
            if about.type.endswith("Image") and not any(
                topic.startswith(other) or other.startswith(topic) for other in self.roles.infos
            ):
                self.report.append(
                    f"{self.path}: {topic} has no CameraInfo beside it; its images are left out"
                )


@dataclass(frozen=True, slots=True)
class _Poses:
    trajectory: Trajectory | None

    def at(self, time_us: int) -> Transform | None:
        return None if self.trajectory is None else self.trajectory.at(time_us, max_gap_us=LONGEST_GAP_US)


def _along(found: BagContents, lidar: str, worlds: Sequence[str]) -> tuple[Trajectory | None, str]:
    """The LiDAR's way at the times of scans and images, by the transforms above it, and in which frame.

    Of ``worlds``, the topmost first, that in which most of it is known: a localisation may tell its corrections but
    every few seconds, or begin late.
    """
    times_ns = [found.scans.times_ns, *(images.times_ns for images in found.images.values())]
    times = np.unique(np.concatenate([np.array(part, np.int64) // 1000 for part in times_ns]))
    most, best = list[tuple[int, Transform]](), worlds[0]
    for world in worlds:
        poses = (
            (time, found.frames.world_pose(lidar, time, world, max_gap_us=LONGEST_GAP_US))
            for time in times.tolist()
        )
        known = [(time, pose) for time, pose in poses if pose is not None]
        if len(known) > len(most):
            most, best = known, world
        if len(known) == len(times):
            break
    return (Trajectory.of(*map(np.array, zip(*most))) if most else None), best


class _Camera:
    def __init__(
        self, scene: _Scene, topic: str, images: Stamped, lens: Any, camera_to_lidar: Transform
    ) -> None:
        self._scene, self._lens, self._mount = scene, lens, camera_to_lidar
        self._channel = topic.strip("/").replace("/", "_")
        order = np.argsort(images.times_ns, kind="stable")
        self._times = np.array(images.times_ns, np.int64)[order]
        self._keys = [images.keys[i] for i in order.tolist()]
        self._topic, self._given = topic, 0

    def alone(self, scans_ns: Sequence[int]) -> Iterator[str]:
        """A sentence about images of which none was taken near a scan."""
        if self._given:
            return
        apart_s = min(abs(int(self._times[self._nearest(time_ns)]) - time_ns) for time_ns in scans_ns) * 1e-9
        yield (
            f"{self._scene.path}: no image of {self._topic} is within {_LATEST_IMAGE_NS * 1e-9:g} s of a scan, the "
            f"nearest {apart_s:.3f} s from one; all are left out, look at the clocks of both"
        )

    def _nearest(self, time_ns: int) -> int:
        after = int(np.searchsorted(self._times, time_ns))
        beside = range(max(after - 1, 0), min(after + 1, len(self._times)))
        return min(beside, key=lambda i: abs(int(self._times[i]) - time_ns))

    def of(self, time_ns: int, lidar_to_ego: Transform, poses: _Poses) -> Iterator[CameraRow]:
        """The image nearest to a scan, if one is near."""
        nearest = self._nearest(time_ns)
        image_ns = int(self._times[nearest])
        if abs(image_ns - time_ns) <= _LATEST_IMAGE_NS:
            self._given += 1
            yield CameraRow(
                channel=self._channel,
                token=f"{self._scene.scene}_{time_ns}_{self._channel}",
                image=Place(self._scene.file, self._keys[nearest]),
                intrinsics=self._lens.intrinsics,
                camera_to_ego=compose(lidar_to_ego, self._mount),
                size=self._lens.size,
                time_us=image_ns // 1000,
                ego_to_world=poses.at(image_ns // 1000),
                model=self._lens.model,
                distortion=self._lens.distortion,
            )
