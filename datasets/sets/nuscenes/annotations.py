"""The annotated objects of a log in nuScenes schema, and how fast they moved."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ....progress import Progress
from ...records import Boxes
from .log import Log
from .schema import read_schema_table, table_path
from .typed_tables import dangling

LONGEST_STEP_S = 1.5  # between neighbouring annotations of an object; over more the devkit gives no velocity


@dataclass(frozen=True, slots=True)
class Annotations:
    """The boxes of all samples, in the order of the samples' codes; within one in that of the table."""

    code_of: dict[str, int]  # sample token -> its code
    bounds: NDArray[np.int64]  # first box of each code, and the end
    boxes: Boxes

    @classmethod
    def read(cls, log: Log, progress: Progress) -> Annotations | None:
        """All annotations; None for a log without any.

        Raises:
            InputError: a table is damaged, or a reference leads nowhere.
        """
        folder = log.folder
        names = {token: name for token, (name, _) in log.categories.items()}
        attributes = {row["token"]: row["name"] for row in read_schema_table(folder, "attribute")}
        tracks = {row["token"]: row for row in read_schema_table(folder, "instance")}
        code_of: dict[str, int] = {}
        sample_of, points, numbers = array("q"), array("i"), array("d")
        category, track, status = list[str](), list[str](), list[str]()
        path = table_path(folder, "sample_annotation")
        for row in read_schema_table(folder, "sample_annotation", progress):
            if row["sample_token"] not in log.scene_of_sample:
                raise dangling(path, row, "sample_token", "sample.json")
            instance = tracks.get(row["instance_token"])
            if instance is None:
                raise dangling(path, row, "instance_token", "instance.json")
            if instance["category_token"] not in names:
                raise dangling(table_path(folder, "instance"), instance, "category_token", "category.json")
            if not all(token in attributes for token in row["attribute_tokens"]):
                raise dangling(path, row, "attribute_tokens", "attribute.json")
            sample_of.append(code_of.setdefault(row["sample_token"], len(code_of)))
            points.append(row["num_lidar_pts"])
            category.append(names[instance["category_token"]])
            track.append(row["instance_token"])
            status.append(" ".join(attributes[token] for token in row["attribute_tokens"]))
            for name in ("translation", "size", "rotation"):
                numbers.extend(row[name])
        if not code_of:
            return None
        sample = np.asarray(sample_of, dtype=np.int64)
        times_us = np.array([log.time_of_sample[token] for token in code_of], dtype=np.int64)
        order = np.argsort(sample, kind="stable")
        table = np.asarray(numbers, dtype=np.float64).reshape(-1, 10)[order]
        chosen = order.tolist()
        ordered = tuple(track[i] for i in chosen)
        boxes = Boxes(
            centers=table[:, :3],
            sizes=table[:, [4, 3, 5]],  # stored as width, length, height
            rotations=table[:, 6:],
            categories=tuple(category[i] for i in chosen),
            tracks=ordered,
            velocities=velocities(table[:, :3], times_us[sample[order]], ordered),
            status=tuple(status[i] for i in chosen),
            points=np.asarray(points, dtype=np.int32)[order],
        )
        return cls(code_of, np.searchsorted(sample[order], np.arange(len(code_of) + 1)), boxes)

    def of(self, sample: str) -> Boxes:
        """The boxes of a sample; none where it has no annotation."""
        code = self.code_of.get(sample)
        start, stop = (0, 0) if code is None else self.bounds[code : code + 2].tolist()
        return self.boxes.part(start, stop)


def velocities(
    centers: NDArray[np.float64], times_us: NDArray[np.int64], tracks: tuple[str, ...]
) -> NDArray[np.float64]:
    """(B, 3) velocity of each box [m/s], from its object's annotations before and after it.

    As `NuScenes.box_velocity` of the devkit has it, by time instead of links: between the neighbours, or from the box
    to the one that it has; NaN without, and over more than ``LONGEST_STEP_S`` a step.

    Args:
        centers: (B, 3) [m, world]. times_us: (B,). tracks: B, equal for one object.
    """
    code_of: dict[str, int] = {}
    object_of = np.array([code_of.setdefault(track, len(code_of)) for track in tracks], dtype=np.int64)
    order = np.lexsort((times_us, object_of))
    same = np.diff(object_of[order]) == 0
    has_before, has_after = np.append(False, same), np.append(same, False)
    place = np.arange(len(order))
    first, last = order[place - has_before], order[place + has_after]
    seconds = (times_us[last] - times_us[first]) * 1e-6
    longest = LONGEST_STEP_S * (1 + (has_before & has_after))
    known = (seconds > 0) & (seconds <= longest)
    found = np.full((len(order), 3), np.nan)
    found[order[known]] = (centers[last] - centers[first])[known] / seconds[known, None]
    return found
