"""What one pass over a bag finds: when each scan and image was taken, how cameras see, how frames hang together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...geometry import Transform, compose, make_transform
from ..formats.bag_messages import message_key
from ..formats.bag_stores import TF, Topic
from ..formats.bags import Bag
from ..records import CAMERA_MODELS, PINHOLE, Lens
from .folder_cameras import make_lens, ros_model
from .frame_tree import FrameTree, plain

CLOUD = "sensor_msgs/msg/PointCloud2"
IMAGES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")  # the first is read with less work
INFO, ODOMETRY = "sensor_msgs/msg/CameraInfo", "nav_msgs/msg/Odometry"
READ = (CLOUD, *IMAGES, INFO, TF, ODOMETRY)
_FARTHEST_M = 1e12  # as in `motion_files`
# by which numbers of one lens may differ that is told of again and again
_SAME_PIXELS, _SAME_BEND = (1.0, 1e-2)


@dataclass(frozen=True, slots=True)
class Roles:
    """Which topics are read as what; ``infos``: image topic -> its CameraInfo."""

    cloud: str
    infos: Mapping[str, str]
    odometry: str
    transforms: tuple[str, ...]
    passed_over: Mapping[str, Topic]

    @property
    def topics(self) -> tuple[str, ...]:
        """All that are read."""
        named = (self.cloud, *self.infos, *self.infos.values(), self.odometry, *self.transforms)
        return tuple(dict.fromkeys(topic for topic in named if topic))


@dataclass(slots=True)
class Stamped:
    """Messages of one topic: their own times, and their keys in the bag, in the order of recording."""

    times_ns: list[int] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    frame: str = ""


class SeenBy(NamedTuple):
    """How an image topic sees: its lens, and the turn (4, 4) from the frame of its images' header to that of the lens.

    is_second: of a stereo pair, whose place by the header is not told.
    """

    lens: Lens
    turn: Transform
    is_second: bool

    def is_as(self, other: SeenBy) -> bool:
        """Whether pixels are the same to about one."""
        numbers, others = (
            np.concatenate([by.lens.intrinsics.ravel(), by.turn.ravel() * by.lens.intrinsics[0, 0]])
            for by in (self, other)
        )
        bends = np.zeros((2, max(CAMERA_MODELS.values())))
        for bend, by in zip(bends, (self, other)):
            bend[: len(by.lens.distortion)] = by.lens.distortion
        return (
            (self.lens.size, self.lens.model) == (other.lens.size, other.lens.model)
            and bool((np.abs(numbers - others) <= _SAME_PIXELS).all())
            and bool((np.abs(bends[0] - bends[1]) <= _SAME_BEND).all())
        )


@dataclass
class BagContents:
    """What the pass found."""

    scans: Stamped = field(default_factory=Stamped)
    images: dict[str, Stamped] = field(default_factory=dict)
    lenses: dict[str, SeenBy] = field(default_factory=dict)  # by the topic of the CameraInfo
    frames: FrameTree = field(default_factory=FrameTree)
    body: str = ""  # the frame that the odometry tells of
    odometry: list[tuple[int, Transform]] = field(default_factory=list)


def choose_topics(path: Path, topics: Mapping[str, Topic], wanted: Collection[str] | None) -> Roles:
    """What is read of a bag: ``wanted`` topics, or all that can be.

    Raises:
        InputError: there is no cloud, or several; the message lists the topics.
    """
    listed = ", ".join(
        f"{name} {topic.type.replace('/msg/', '/')} ({topic.messages})"
        for name, topic in sorted(topics.items())
    )
    for name in wanted or ():
        if name not in topics:
            raise InputError(
                f"{path}: has no topic {name}, but {listed or 'none'}; name some of these with --topics"
            )
    # transforms and calibrations belong to what is named
    chosen = {
        name: topic.type
        for name, topic in topics.items()
        if not wanted or name in wanted or topic.type in (TF, INFO)
    }
    of_type = {kind: sorted(name for name, other in chosen.items() if other == kind) for kind in READ}
    if len(of_type[CLOUD]) != 1:
        what = (
            "no sensor_msgs/PointCloud2"
            if not of_type[CLOUD]
            else f"{len(of_type[CLOUD])} of sensor_msgs/PointCloud2"
        )
        advice = (
            "name one of them with --topics"
            if of_type[CLOUD]
            else "packets of a driver become clouds by replaying the bag through that driver"
        )
        raise InputError(f"{path}: has {what} among its topics, {listed or 'none'}; {advice}")
    infos: dict[str, str] = {}
    for kind in IMAGES:
        for name in of_type[kind]:
            info = _info_of(name, of_type[INFO])
            if info and info not in infos.values():  # the same images, compressed and not
                infos[name] = info
    odometry = of_type[ODOMETRY][0] if len(of_type[ODOMETRY]) == 1 else ""
    roles = Roles(of_type[CLOUD][0], infos, odometry, tuple(of_type[TF]), {})
    rest = {name: topic for name, topic in topics.items() if name not in roles.topics}
    return Roles(roles.cloud, infos, odometry, roles.transforms, rest)


def _info_of(image: str, infos: Collection[str]) -> str:
    """The CameraInfo of an image topic: ``camera_info`` beside it, or beside a part of its name."""
    parts = image.split("/")
    names = ("/".join([*parts[:end], "camera_info"]) for end in range(len(parts) - 1, 0, -1))
    return next((name for name in names if name in infos), "")


def read_contents(path: Path, bag: Bag, roles: Roles) -> BagContents:
    """One pass over the topics of ``roles``; no points and no pixels are kept.

    Raises:
        InputError: the bag is damaged, or a calibration cannot be used.
    """
    found = BagContents(images={topic: Stamped() for topic in roles.infos})
    image_of = {info: image for image, info in roles.infos.items()}
    seen: Counter[tuple[str, int]] = Counter()
    for topic, time_ns, message in bag.messages(roles.topics):
        key = message_key(topic, time_ns, seen[topic, time_ns])
        if topic == roles.cloud or topic in found.images:
            seen[topic, time_ns] += 1
            stamped = found.scans if topic == roles.cloud else found.images[topic]
            stamped.times_ns.append(_stamp_ns(message.header, time_ns))
            stamped.keys.append(key)
            _take_frame(path, topic, stamped, plain(str(message.header.frame_id)))
        elif topic in image_of:
            seen_by = _seen_by(path, topic, message, is_rectified=_is_rectified(image_of[topic]))
            if not seen_by.is_as(found.lenses.setdefault(topic, seen_by)):
                raise InputError(
                    f"{path}: {topic} tells of another lens from {time_ns} ns on, and is read as of one; cut the bag "
                    "there, or record with a fixed one"
                )
        elif topic in roles.transforms:
            for one in message.transforms:
                _add_transform(path, found.frames, one, time_ns, static=topic.endswith("tf_static"))
        elif topic == roles.odometry:
            pose = message.pose.pose
            where = _transform(path, topic, pose.orientation, pose.position)
            found.odometry.append((_stamp_ns(message.header, time_ns) // 1000, where))
            found.body = plain(str(message.child_frame_id))
    found.frames.settle()
    return found


def _stamp_ns(header: Any, recorded_ns: int) -> int:
    """The time in a header; that of recording where it was never set."""
    stamp = int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)
    return stamp or recorded_ns


def _take_frame(path: Path, topic: str, stamped: Stamped, frame: str) -> None:
    """The frame of a topic, which all its messages share."""
    stamped.frame = stamped.frame or frame
    if frame not in ("", stamped.frame):
        raise InputError(
            f"{path}: {topic} has messages of the frames {stamped.frame} and {frame}, and is read as of one sensor; "
            "record a topic for each"
        )


def _is_rectified(image: str) -> bool:
    """Whether a topic has images that were undistorted, and turned beside those of a stereo pair, by ROS' names."""
    return any(part.startswith("image_rect") for part in image.split("/"))


def _seen_by(path: Path, topic: str, message: Any, *, is_rectified: bool) -> SeenBy:
    """By K and D of a CameraInfo, rectified images by its R and P."""
    # ROS 2, ROS 1
    matrix, bend, turn, projection = (
        np.asarray(getattr(message, name, getattr(message, name.upper(), ())), np.float64) for name in "kdrp"
    )
    place = f"the camera of {topic}"
    size, to_image = _of_its_images(path, topic, message)
    if not is_rectified:
        model = ros_model(path, message.distortion_model)
        lens = make_lens(
            path, place, compose(to_image, matrix.reshape(3, 3)).tolist(), size, model, bend.tolist()
        )
        return SeenBy(lens, np.eye(4), is_second=False)
    upper = projection.reshape(3, 4)
    lens = make_lens(
        path, f"the rectified images of {topic}", compose(to_image, upper[:, :3]).tolist(), size, PINHOLE, []
    )
    to_rectified = np.eye(4)
    to_rectified[:3, :3] = turn.reshape(3, 3) if turn.any() else np.eye(3)
    return SeenBy(lens, to_rectified, is_second=bool(upper[:2, 3].any()))


def _of_its_images(path: Path, topic: str, message: Any) -> tuple[list[int], NDArray[np.float64]]:
    """Height and width of the images, and (3, 3) to their pixels from those of the whole sensor.

    K and P of a CameraInfo are of the whole sensor; its images may be a window of that (``roi``), of whose pixels
    blocks were joined to one (``binning``). Source: REP 104.
    """
    roi, blocks = message.roi, [max(int(message.binning_x), 1), max(int(message.binning_y), 1)]
    height, width = int(roi.height) or int(message.height), int(roi.width) or int(message.width)
    to_image = np.eye(3)
    for axis, (block, first) in enumerate(zip(blocks, (int(roi.x_offset), int(roi.y_offset)))):
        # pixel 0 is the centre of the first pixel, so the image starts at -0.5
        to_image[axis, [axis, 2]] = 1 / block, (0.5 - first) / block - 0.5
    is_part = blocks != [1, 1] or bool(roi.x_offset or roi.y_offset)
    inside = roi.x_offset + width <= message.width and roi.y_offset + height <= message.height
    if is_part and not (inside and height and width):
        raise InputError(
            f"{path}: {topic} tells of a window of {width} x {height} pixels from ({roi.x_offset}, {roi.y_offset}) on "
            f"a sensor of {message.width} x {message.height}; record it again"
        )
    return [height // blocks[1], width // blocks[0]], to_image


def _add_transform(path: Path, frames: FrameTree, one: Any, time_ns: int, *, static: bool) -> None:
    parent, child = str(one.header.frame_id), str(one.child_frame_id)
    where = _transform(path, child, one.transform.rotation, one.transform.translation)
    if static:
        frames.add_static(parent, child, where)
    else:
        frames.add(parent, child, _stamp_ns(one.header, time_ns) // 1000, where)


def _transform(path: Path, what: str, turn: Any, place: Any) -> Transform:
    try:
        found = make_transform([turn.w, turn.x, turn.y, turn.z], [place.x, place.y, place.z])
    except ValueError as error:
        raise InputError(f"{path}: the transform of {what} has a {error}; record it again") from error
    if not (np.abs(found) <= _FARTHEST_M).all():
        raise InputError(f"{path}: the transform of {what} is not finite, or out of reach; record it again")
    return found
