"""Scenes of a prepared log: of its annotated boxes, or of its panoptic instances where it has those instead."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..datasets.card import DatasetCard
from ..datasets.frame import Frame
from ..datasets.records import Boxes
from ..errors import InputError
from ..geometry import Transform, invert, make_transform, transform_points
from .scene import SceneObject, SceneRecord
from .words import annotated_category, is_known, status_of, status_of_class

if TYPE_CHECKING:
    from ..datasets.index import LogIndex

Triple = tuple[float, float, float]
FEW_POINTS = 50  # of things without a number: SemanticKITTI's panoptic figures leave out smaller ones


def scene_of(index: LogIndex, row: int, *, points: bool = True) -> SceneRecord:
    """The scene of one scan of a ``LogIndex``.

    Args:
        points: keep the points of the scan in the record.

    Raises:
        InputError: the scan has neither boxes nor instances, or boxes without a pose, or labels of things without any
            number of an instance; the message says what serves.
    """
    boxes = index.boxes(row)
    if boxes is not None:
        needs_points = points or bool((boxes.points < 0).any())
        frame = index.frame(row, cameras=(), points=needs_points, labels=False, images=False)
        objects = objects_of_boxes(boxes, frame, index.card)
    else:
        frame = index.frame(row, cameras=(), labels=False, images=False)
        objects = _objects_of_instances(index, row, frame)
    return record(frame, objects, "instances" if boxes is None else "boxes", points=points)


def record(frame: Frame, objects: tuple[SceneObject, ...], source: str, *, points: bool) -> SceneRecord:
    """The scene of a frame with these objects."""
    return SceneRecord(
        token=frame.token,
        scene=frame.scene,
        objects=objects,
        source=source,
        time_us=frame.time_us,
        ego_to_world=frame.ego_to_world,
        points=ego_points(frame) if points else None,
    )


def ego_points(frame: Frame) -> NDArray[np.float32]:
    """(N, 4) float32 x, y, z [m, ego], intensity of a frame's points."""
    return transform_points(frame.lidar_to_ego, frame.points[:, :4])


def objects_of_boxes(boxes: Boxes, frame: Frame, card: DatasetCard) -> tuple[SceneObject, ...]:
    """The objects of annotated boxes, which lie in the world, in the ego frame; what is no object is left out.

    Points that the log did not count are counted in those of the frame.

    Raises:
        InputError: there are boxes, and the frame has no pose.
    """
    if not len(boxes):
        return ()
    if frame.ego_to_world is None:
        raise InputError(
            f"the scan {frame.token} has boxes in the world and no pose; prepare the log with poses"
        )
    world_to_ego = invert(frame.ego_to_world)
    to_ego = world_to_ego @ make_transform(boxes.rotations, boxes.centers)
    velocities = boxes.velocities @ world_to_ego[:3, :3].T
    points = ego_points(frame)
    found = []
    for i, box_to_ego in enumerate(to_ego):
        category = annotated_category(boxes.categories[i], class_name(card, boxes.categories[i]))
        if category is None:
            continue
        x, y, z = box_to_ego[:3, 3].tolist()
        vx, vy = velocities[i, :2].tolist()
        length, width, height = boxes.sizes[i].tolist()
        count = int(boxes.points[i])
        found.append(
            SceneObject(
                track=boxes.tracks[i],
                category=category,
                center=(x, y, z),
                size=(length, width, height),
                yaw=float(np.arctan2(box_to_ego[1, 0], box_to_ego[0, 0])),
                velocity=(vx, vy) if np.isfinite(velocities[i, :2]).all() else None,
                status=status_of(boxes.status[i]),
                points=_inside(points, box_to_ego, boxes.sizes[i]) if count < 0 else count,
            )
        )
    return tuple(found)


def box_around(points: NDArray[np.floating[Any]]) -> tuple[Triple, Triple, float]:
    """Centre, size [m] and yaw [rad] of the smallest upright box around points (N, 3+).

    It holds what the sensor saw, not the whole object, and its yaw is that of the longer side: which end is the front,
    points do not tell, so it lies in (-pi / 2, pi / 2].
    """
    (x, y), (a, b), angle_deg = cv2.minAreaRect(np.ascontiguousarray(points[:, :2], np.float32))
    low, high = float(points[:, 2].min()), float(points[:, 2].max())
    yaw = np.deg2rad(angle_deg if a >= b else angle_deg + 90.0)
    yaw = float(np.pi / 2 - (np.pi / 2 - yaw) % np.pi)
    return (float(x), float(y), (low + high) / 2), (float(max(a, b)), float(min(a, b)), high - low), yaw


def class_name(card: DatasetCard, category: str) -> str:
    """The class that the card puts a category into; empty for none."""
    return card.classes[card.class_of[category]] if category in card.class_of else ""


def _inside(points: NDArray[np.float32], box_to_ego: Transform, size: NDArray[np.float64]) -> int:
    in_box = transform_points(invert(box_to_ego), points[:, :3].astype(np.float64))
    return int((np.abs(in_box) <= size / 2).all(axis=1).sum())


def object_around(
    points: NDArray[np.floating[Any]], track: str, category: str, class_name: str
) -> SceneObject:
    """The object whose points (N, 3+) [m, ego] these are; its class tells the status, nothing the velocity."""
    center, size, yaw = box_around(points)
    return SceneObject(
        track, category, center, size, yaw, status=status_of_class(class_name), points=len(points)
    )


def _objects_of_instances(index: LogIndex, row: int, frame: Frame) -> tuple[SceneObject, ...]:
    """An object for each instance of a thing; its class tells the category, and sometimes that it moves."""
    cloud = frame.cloud
    numbers = None if frame.lidars else index.instances(row, cloud.rows_of_file)
    classes = None if numbers is None else index.file_labels(row, cloud.rows_of_file)
    if numbers is None or classes is None:
        raise InputError(
            f"the scan {frame.token} of {index.folder} has neither boxes nor instances; "
            "ask a fine-tuned network for its objects (--predictions of `superflow find` or `make-questions`), or "
            "prepare a log that has them"
        )
    if cloud.file_row is not None:
        numbers, classes = numbers[cloud.file_row], classes[cloud.file_row]
    points, found = ego_points(frame), []
    _check_numbered(index, frame, classes, numbers)
    for pair in np.unique(np.stack([classes, numbers], axis=1)[numbers > 0], axis=0):
        name = index.card.categories.get(int(pair[0]), "")
        category = annotated_category(name, class_name(index.card, name))
        if category is None:
            continue
        inside = points[(classes == pair[0]) & (numbers == pair[1])]
        found.append(object_around(inside, f"{frame.scene}/{category}/{int(pair[1])}", category, name))
    return tuple(found)


def _check_numbered(
    index: LogIndex, frame: Frame, classes: NDArray[np.integer[Any]], numbers: NDArray[np.integer[Any]]
) -> None:
    """Refuse labels that tell things from background, and no thing from another: they would be a scan without any."""
    names = {number: index.card.categories.get(number, "") for number in np.unique(classes).tolist()}
    both = {number: (name, class_name(index.card, name)) for number, name in names.items()}
    known = [n for n, told in both.items() if any(map(is_known, told)) and annotated_category(*told)]
    things = np.isin(classes, known)
    if things.sum() >= FEW_POINTS and not numbers[things].any():
        raise InputError(
            f"the scan {frame.token} of {index.folder} has {things.sum()} points of things and none with a number of "
            "its instance, so that nothing tells one from another; give panoptic labels, or ask a fine-tuned "
            "network for its objects (--predictions of `superflow find` or `make-questions`)"
        )
