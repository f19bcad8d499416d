"""The ``folder.yaml`` of an own log: where its files lie, how its sensors are mounted, what is known of its motion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...geometry import Transform
from ..card import DatasetCard, parse_card
from ..card_file import as_number
from ..card_keys import CARD, Key, check_keys, only_keys, shorten
from ..formats.readers import NAMELESS, READERS
from ..formats.yaml_files import read_yaml
from .file_pattern import FilePattern, is_path_below
from .folder_cameras import CameraLayout, read_cameras, rigid
from .motion_files import Times, is_unit, read_time

NAME = "folder.yaml"
_QUESTIONS = 20  # that one sentence names
QUESTION = "?"  # stands in a draft where nobody but the log's owner knows the answer
FORMATS = {  # ending of point files -> format
    **{
        ".bin": "f4",
        ".npy": "npy",
        ".npz": "npz",
        ".pcd": "pcd",
        ".ply": "ply",
        ".las": "las",
        ".laz": "las",
    },
    **{".feather": "feather", ".parquet": "parquet"},
}
POSE_FORMS = ("tum", "kitti")
_OWN = {
    "cameras": Key((dict, str), "cameras by name, or a YAML file below the log's root that holds them"),
    "times": Key(dict, "times of the scans, as in {name: 1.0e-9} or {file: times.txt}"),
    "poses": Key(dict, "keys and values, as in {file: poses.txt, form: tum}"),
    "lidar_to_ego": Key(list, "the rows of a rigid 4 x 4, from the LiDAR to what the poses tell of"),
}
_POINTS, _LABELS = "points", "labels"


@dataclass(frozen=True, slots=True)
class Poses:
    """A file of poses of each drive, below the root: its form, and whose they are."""

    file: str
    form: str
    of: str  # "" for the ego frame, or the name of a camera
    max_gap_s: float
    unit_s: float  # of the times in a file of the form tum


@dataclass(frozen=True, slots=True)
class FolderLayout:
    """What a ``folder.yaml`` says."""

    path: Path
    card: DatasetCard
    points: FilePattern
    labels: FilePattern | None  # None: without, or in the files of the points
    labels_in_points: bool
    cameras: Mapping[str, CameraLayout]
    times: Times | None
    poses: Poses | None
    lidar_to_ego: Transform


def read_layout(root: Path, path: Path) -> FolderLayout:
    """The layout in the file ``path`` of the log under ``root``.

    Raises:
        MissingFileError, InputError: there is none, a key is not as it must be, or a question is not answered.
    """
    values = read_yaml(path)
    _no_questions(path, values)
    own = {key: values.pop(key) for key in _OWN if values.get(key) is not None}
    check_keys(path, own, _OWN)
    points, labels = (_files(path, values, key) for key in (_POINTS, _LABELS))
    if points is None:
        raise InputError(f"{path}: points needs files, a pattern as in {{files: lidar/*.bin}}; add it")
    labels_in_points = labels is None and "column" in (values.get(_LABELS) or {})
    card = _card(root, path, values, points, labels, labels_in_points)
    cameras = read_cameras(root, path, own.get("cameras") or {})
    return FolderLayout(
        path=path,
        card=card,
        points=points,
        labels=labels,
        labels_in_points=labels_in_points,
        cameras=cameras,
        times=read_time(path, "times", own.get("times")),
        poses=_poses(path, own.get("poses"), cameras),
        lidar_to_ego=rigid(path, "lidar_to_ego", own.get("lidar_to_ego"), np.eye(4)),
    )


def _files(path: Path, values: dict[str, Any], key: str) -> FilePattern | None:
    """The pattern under ``files`` of a key, taken out of it."""
    part = values.get(key)
    if not isinstance(part, dict) or "files" not in part:
        return None
    values[key] = {name: value for name, value in part.items() if name != "files"}
    return FilePattern.read(path, f"files of {key}", part["files"])


def _card(
    root: Path,
    path: Path,
    values: dict[str, Any],
    points: FilePattern,
    labels: FilePattern | None,
    labels_in_points: bool,
) -> DatasetCard:
    """The card of the log: what the layout leaves out is what most logs are."""
    for key, value in values.items():
        if key not in CARD:
            only_keys(path, {key: value}, (*CARD, *_OWN))
    part = values[_POINTS]
    suffix = "." + points.ending.rpartition(".")[2].lower()
    kind = part.get("format", FORMATS.get(suffix))
    if kind is None:
        raise InputError(
            f"{path}: files of points end with {points.ending!r}, which is none of {', '.join(FORMATS)}; write their "
            f"format beside it, one of {', '.join(READERS)}, or write text as .npy or .parquet first"
        )
    columns = part.get("columns", ["x", "y", "z", "intensity"] if "intensity" in values else ["x", "y", "z"])
    values = {
        "name": root.absolute().name or "log",
        "real": True,
        "licence": "not stated",
        "source": "an own log",
        "intensity": {"rule": "none"},
        **{key: value for key, value in values.items() if value is not None},
        _POINTS: {"axes": "forward-left-up", "columns": columns, **part, "format": kind},
    }
    if labels_in_points:
        beside = {"columns": columns} if kind in NAMELESS and isinstance(columns, list) else {}
        values[_LABELS] = {"format": kind, **beside, **values[_LABELS]}
    elif labels is not None and "format" not in values[_LABELS]:
        raise InputError(
            f"{path}: labels needs format, one of {', '.join(READERS)}, as in {{format: u4}}; add it"
        )
    return parse_card(path, values)


def _poses(path: Path, value: Any, cameras: Mapping[str, CameraLayout]) -> Poses | None:
    if value is None:
        return None
    form = value.get("form", "tum")
    of_times = ("unit_s",) if form == "tum" else ()  # the others hold none
    only_keys(path, value, ("file", "form", "of", "max_gap_s", *of_times), of="poses")
    poses = Poses(
        file=value.get("file", ""),
        form=form,
        of=value.get("of", ""),
        max_gap_s=value.get("max_gap_s", 0.5),
        unit_s=as_number(value.get("unit_s", 1.0)),
    )
    if (
        not is_path_below(poses.file)
        or poses.form not in POSE_FORMS
        or poses.of not in ("", *cameras)
        or type(poses.max_gap_s) not in (int, float)
        or not 0 < poses.max_gap_s <= 3600
        or not is_unit(poses.unit_s)
    ):
        raise InputError(
            f"{path}: poses is {shorten(value)}; it must name a file below the root, its form, one of "
            f"{', '.join(POSE_FORMS)}, and may say of which of the cameras they are and the unit of their times in "
            "seconds, as in {file: poses.txt, form: tum, unit_s: 1.0e-9, of: front}"
        )
    return poses


def _no_questions(path: Path, values: Any) -> None:
    """Every question of a draft is answered."""
    open_ones = list(islice(_questions(values), _QUESTIONS))
    if open_ones:
        places, are = (
            ", ".join(open_ones),
            "is still a question" if len(open_ones) == 1 else "are still questions",
        )
        raise InputError(f"{path}: {places} {are}; put the answer in place of each {QUESTION!r}")


def _questions(values: Any, place: str = "") -> Iterator[str]:
    """Where questions of a draft are not answered yet."""
    inside = (
        values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    )
    for key, value in inside:
        here = f"{place}.{key}" if place else str(key)
        if value == QUESTION or key == QUESTION:
            yield here
        yield from _questions(value, here)
