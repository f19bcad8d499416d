"""The nuScenes schema: from its JSON tables to the columns of an index.

Works for nuScenes itself and for every log exported into its schema.
"""

from __future__ import annotations

import logging
import os
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from ..files.access import check_place, reading
from ..geometry import Transform, invert, make_transform
from ..progress import Progress, silent
from .card import DatasetCard
from .complete import KEY_FRAMES_ONLY, keep_frames, keep_scenes, whole_scenes
from .index import FILE_TO_LIDAR, LogIndex
from .log_card import choose_card
from .nuscenes_schema import read_schema_table, table_path
from .nuscenes_tables import LIDAR, Log, read_log
from .read import image_size
from .store import Columns, text_column, write_tables
from .typed_tables import dangling

logger = logging.getLogger(__name__)


def write_index(
    root: str | Path,
    out: str | Path,
    *,
    version: str | None = None,
    card: DatasetCard | None = None,
    rescale_intrinsics: bool = False,
    complete_scenes: bool = False,
    key_frames_only: bool = False,
    progress: Progress = silent,
) -> LogIndex:
    """Index the log under ``root`` into the folder ``out``, replacing an older index there in one step.

    Args:
        version: folder of the tables (v1.0-mini, ...); None takes the only one, else v1.0-trainval, else v1.0-mini.
        card: what is known about the dataset; None recognises it. ``dataset.json`` in the root overrules both.
        rescale_intrinsics: take every image's size from its file and scale the intrinsics by the ratio to the size
            in the tables: for a copy of a log whose images were made smaller.
        complete_scenes: leave out scenes of which files are missing: for a log that was downloaded in part.
        key_frames_only: leave out the sweeps between key frames: for a log that comes without their files.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        InputError: a table is missing or damaged, a chain is broken, a reference leads nowhere; nothing is written.
    """
    root, out = Path(root), Path(out)
    check_place(out)
    with reading(root):
        version = version or find_version(root)
        if not (root / version).is_dir():
            raise MissingFileError(
                f"{root / version}: there is no such folder of tables; check the log's root and --version"
            )
        log = read_log(root, version, progress)
    card = choose_card(root, log, card)
    frames, row_of_sample = _frame_columns(log, card)
    cameras = _camera_columns(log, row_of_sample)
    boxes, box_categories = _box_columns(root / version, row_of_sample, log.categories, progress)
    if key_frames_only:
        keep_frames(frames["is_key"], frames, cameras, boxes)
    whole = whole_scenes(root, frames, cameras, len(log.scenes))
    if complete_scenes:
        keep_scenes(whole, frames, cameras, boxes)
        log.scenes = [scene for scene, kept in zip(log.scenes, whole) if kept]
        if not log.scenes:
            raise InputError(
                f"{root}: no scene has all the files that its tables name; complete the download, or leave out the "
                f"sweeps with {KEY_FRAMES_ONLY} if only those are missing"
            )
    if rescale_intrinsics or (cameras["width"] <= 0).any() or (cameras["height"] <= 0).any():
        _sizes_from_images(cameras, root, progress)
    header = {
        "version": version,
        "card": card.to_dict(),
        "scenes": log.scenes,
        "channels": log.channels,
        "box_categories": box_categories,
        "warnings": log.warnings,
        "counts": {
            "key_frames": int(frames["is_key"].sum()),
            "sweeps": int((~frames["is_key"]).sum()),
            "images": len(cameras["frame"]),
            "boxes": len(boxes["frame"]),
        },
    }
    place = {
        "root": str(root.absolute()),
        "root_from_index": os.path.relpath(root.absolute(), out.absolute()),
    }
    write_tables(out, header, place, {"frames": frames, "cameras": cameras, "boxes": boxes})
    return LogIndex.open(out, root=root)


def find_version(root: Path) -> str:
    """Name of the folder of tables under ``root``: the only one, else v1.0-trainval, else v1.0-mini.

    Raises:
        InputError: there is none, or several and none of these two.
    """
    if not root.is_dir():
        raise MissingFileError(
            f"{root}: there is no such folder; give the folder that holds samples/ and v1.0-*/"
        )
    found = sorted(name for name in os.listdir(root) if (root / name / "sample_data.json").is_file())
    if not found:
        raise MissingFileError(
            f"{root}: no folder in it holds sample_data.json; "
            "give the folder that holds samples/ and v1.0-*/ as the log's root"
        )
    for preferred in ("v1.0-trainval", "v1.0-mini"):
        if len(found) > 1 and preferred in found:
            logger.warning("%s holds %s: taking %s; choose with --version", root, ", ".join(found), preferred)
            return preferred
    if len(found) > 1:
        raise InputError(f"{root}: holds the tables {', '.join(found)}; choose one with --version")
    return found[0]


def _frame_columns(log: Log, card: DatasetCard) -> tuple[Columns, dict[str, int]]:
    """Columns of all scans, sorted by scene and time, and sample token -> row of its key frame."""
    scans = log.lidar
    scene = np.array([log.scene_of_sample[sample] for sample in scans.sample], dtype=np.int32)
    order = np.lexsort((np.asarray(scans.time_us), scene))
    file_to_lidar = FILE_TO_LIDAR[card.axes]
    to_ego = {
        t: m @ invert(file_to_lidar) for t, (channel, m, _) in log.calibration.items() if channel == LIDAR
    }
    is_key = np.asarray(scans.is_key, dtype=bool)[order]
    row_of_sample: dict[str, int] = {}
    for row, i in enumerate(order):
        if is_key[row]:
            if scans.sample[i] in row_of_sample:
                raise InputError(
                    f"{log.folder / 'sample_data.json'}: the sample {scans.sample[i]} has two {LIDAR} key frames; "
                    "one of them must be no key frame"
                )
            row_of_sample[scans.sample[i]] = row
    without = log.scene_of_sample.keys() - row_of_sample.keys()
    if without:
        raise InputError(
            f"{log.folder / 'sample_data.json'}: {len(without)} samples have no {LIDAR} key frame (first: "
            f"{min(without)}); every row of sample.json needs one"
        )
    labels = log.label_paths
    columns: Columns = {
        "scene": scene[order],
        "time_us": np.asarray(scans.time_us, dtype=np.int64)[order],
        "is_key": is_key,
        "token": text_column([scans.token[i] for i in order]),
        "sample": text_column([scans.sample[i] if key else "" for i, key in zip(order, is_key)]),
        "path": text_column([scans.path[i] for i in order]),
        "label_path": text_column([labels.get(scans.token[i], "") for i in order]),
        "lidar_to_ego": _flat([to_ego[scans.calibration[i]] for i in order]),
        "ego_to_world": _poses(log, [scans.pose[i] for i in order]),
    }
    return columns, row_of_sample


def _camera_columns(log: Log, row_of_sample: dict[str, int]) -> Columns:
    """Columns of the key frames' cameras, sorted by frame and channel."""
    scans = log.cameras
    frame = np.array([row_of_sample[sample] for sample in scans.sample], dtype=np.int64)
    _check_codes(log.channels, table_path(log.folder, "sensor"))
    code = {channel: i for i, channel in enumerate(log.channels)}
    channel = np.array([code[name] for name in scans.channel], dtype=np.int16)
    order = np.lexsort((channel, frame))
    frame, channel = frame[order], channel[order]
    twice = np.flatnonzero((np.diff(frame) == 0) & (np.diff(channel) == 0))
    if len(twice):
        i = order[twice[0]]
        raise InputError(
            f"{log.folder / 'sample_data.json'}: the sample {scans.sample[i]} has two key frames of "
            f"{scans.channel[i]}; one of them must be no key frame"
        )
    calibration = [log.calibration[scans.calibration[i]] for i in order]
    return {
        "frame": frame,
        "channel": channel,
        "token": text_column([scans.token[i] for i in order]),
        "time_us": np.asarray(scans.time_us, dtype=np.int64)[order],
        "path": text_column([scans.path[i] for i in order]),
        "height": np.asarray(scans.height, dtype=np.int32)[order],
        "width": np.asarray(scans.width, dtype=np.int32)[order],
        "intrinsics": np.array([k for _, _, k in calibration], dtype=np.float64).reshape(-1, 9),
        "camera_to_ego": _flat([to_ego for _, to_ego, _ in calibration]),
        "ego_to_world": _poses(log, [scans.pose[i] for i in order]),
    }


def _sizes_from_images(cameras: Columns, root: Path, progress: Progress) -> None:
    """Put each image's own size into the columns; intrinsics follow where the table stated another size."""
    total = len(cameras["frame"])
    progress("reading image sizes", 0, total)
    for i in range(total):
        height, width = image_size(root / cameras["path"][i].decode())
        stated_height, stated_width = cameras["height"][i], cameras["width"][i]
        if stated_width > 0 and stated_height > 0:
            # pixel (0, 0) is the centre of the first pixel, so the image starts at -0.5
            scale = np.diag([width / stated_width, height / stated_height, 1.0])
            scale[:2, 2] = (np.diag(scale)[:2] - 1) / 2
            cameras["intrinsics"][i] = (scale @ cameras["intrinsics"][i].reshape(3, 3)).reshape(-1)
        cameras["height"][i], cameras["width"][i] = height, width
        if i % 100 == 0 or i + 1 == total:
            progress("reading image sizes", i + 1, total)


def _box_columns(
    folder: Path,
    row_of_sample: dict[str, int],
    categories: dict[str, tuple[str, int | None]],
    progress: Progress,
) -> tuple[Columns, list[str]]:
    """Columns of all boxes, sorted by frame, and the category names that their codes mean."""
    names = sorted({name for name, _ in categories.values()})
    _check_codes(names, table_path(folder, "category"))
    place = {name: i for i, name in enumerate(names)}
    code = {token: place[name] for token, (name, _) in categories.items()}
    tracks = {row["token"]: row for row in read_schema_table(folder, "instance")}
    frame, category, track, numbers = array("q"), array("h"), list[str](), array("d")
    path = table_path(folder, "sample_annotation")
    for row in read_schema_table(folder, "sample_annotation", progress):
        if row["sample_token"] not in row_of_sample:
            raise dangling(path, row, "sample_token", "sample.json")
        instance = tracks.get(row["instance_token"])
        if instance is None:
            raise dangling(path, row, "instance_token", "instance.json")
        if instance["category_token"] not in code:
            raise dangling(table_path(folder, "instance"), instance, "category_token", "category.json")
        frame.append(row_of_sample[row["sample_token"]])
        category.append(code[instance["category_token"]])
        track.append(row["instance_token"])
        for name in ("translation", "size", "rotation"):
            numbers.extend(row[name])
    order = np.argsort(np.asarray(frame, dtype=np.int64), kind="stable")
    table = np.asarray(numbers, dtype=np.float64).reshape(-1, 10)[order]
    columns: Columns = {
        "frame": np.asarray(frame, dtype=np.int64)[order],
        "category": np.asarray(category, dtype=np.int16)[order],
        "track": text_column([track[i] for i in order]),
        "center": table[:, :3].copy(),
        "size": table[:, [4, 3, 5]],  # stored as width, length, height
        "rotation": table[:, 6:].copy(),
    }
    return columns, names


def _check_codes(names: Sequence[str], table: Path) -> None:
    """Names are stored as int16."""
    if len(names) > 2**15:
        raise InputError(
            f"{table}: holds {len(names)} different names; an index can tell {2**15} apart, use fewer"
        )


def _poses(log: Log, tokens: Sequence[str]) -> NDArray[np.float64]:
    """(R, 12) ego_to_world of the named poses."""
    values = log.pose_values[[log.poses[token] for token in tokens]]
    return _flat(make_transform(values[:, :4], values[:, 4:]))


def _flat(transforms: Sequence[Transform] | Transform) -> NDArray[np.float64]:
    """(R, 12) upper rows of the transforms, R of (4, 4) or (R, 4, 4)."""
    return np.asarray(transforms, dtype=np.float64).reshape(-1, 16)[:, :12].copy()
