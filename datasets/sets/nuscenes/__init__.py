"""The nuScenes schema: from its JSON tables to the scans of a log.

Works for nuScenes itself and for every log exported into its schema.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ....errors import InputError, MissingFileError
from ....files.access import check_place, no_folder, reading
from ....geometry import Transform, compose, invert, make_transform
from ....progress import Progress, silent
from ...card import DatasetCard
from ...catalogue import expected_tree
from ...index import LogIndex
from ...recordings import recording_named
from ...records import CameraRow, Place, ScanRow
from ...write import ListedLog, write_rows
from .annotations import Annotations
from .log import LIDAR, Log, read_log
from .log_card import choose_card
from .schema import table_path

logger = logging.getLogger(__name__)


def write_index(
    root: str | Path,
    out: str | Path,
    *,
    version: str | None = None,
    card: DatasetCard | None = None,
    progress: Progress = silent,
    **options: Any,
) -> LogIndex:
    """Index the log under ``root`` into the folder ``out``, replacing an older index there in one step.

    Args:
        version, card: see ``open_log``.
        progress: called as ``progress(stage, done, total)``.
        options: of `write.write_rows`: which scans are left out, and whose word on image sizes counts.

    Raises:
        InputError: a table is missing or damaged, a chain is broken, a reference leads nowhere; nothing is written.
    """
    root, out = Path(root), Path(out)
    check_place(out)
    write_rows(
        root, out, open_log(root, card, version=version, progress=progress), progress=progress, **options
    )
    return LogIndex.open(out, root=root)


def open_log(
    root: Path,
    card: DatasetCard | None = None,
    *,
    version: str | None = None,
    label_set: str = "",
    progress: Progress = silent,
) -> ListedLog:
    """The scans of the log under ``root``; its tables are read and joined at once.

    Args:
        card: what is known about the dataset; None recognises it. ``dataset.json`` in the root overrules both.
        version: folder of the tables (v1.0-mini, ...); None takes the only one, else v1.0-trainval, else v1.0-mini.
        label_set: which label set of the recognised card makes the classes, of the log's own tables
            ``category_SET.json`` and ``lidarseg_SET.json`` where it brings them; "" takes the card's ``classes``.

    Raises:
        InputError: a table is missing or damaged, a chain is broken, a reference leads nowhere.
    """
    with reading(root):
        version = version or find_version(root)
        if not (root / version).is_dir():
            raise MissingFileError(
                f"{root / version}: there is no such folder of tables; check the log's root and --version"
            )
        log = read_log(root, version, progress, label_set)
    card = choose_card(root, log, card, label_set)
    tables = {"times": "sample_data", "poses": "ego_pose", "calibration": "calibrated_sensor"}
    categories = sorted({name for name, _ in log.categories.values()})
    _check_codes(categories, table_path(log.folder, log.label_tables[0]))
    _check_codes(log.channels, table_path(log.folder, "sensor"))
    return ListedLog(
        dataset="nuscenes",
        card=card,
        scans=_scans(log, card, progress),
        warnings=log.warnings,
        version=version,
        sources={what: f"{version}/{table}.json" for what, table in tables.items()},
        scenes=log.scenes,
        channels=log.channels,
        categories=categories,
        recordings={
            scene: recording
            for scene, drive in log.drives.items()
            if (recording := recording_named(scene, drive))
        },
    )


def find_version(root: Path) -> str:
    """Name of the folder of tables under ``root``: the only one, else v1.0-trainval, else v1.0-mini.

    Raises:
        InputError: there is none, or several and none of these two.
    """
    if not root.is_dir():
        raise MissingFileError(f"{root}: {no_folder(root)}; give the folder that holds samples/ and v1.0-*/")
    found = sorted(name for name in os.listdir(root) if (root / name / "sample_data.json").is_file())
    if not found:
        raise MissingFileError(
            f"{root}: no folder in it holds sample_data.json; "
            "give the folder that holds samples/ and v1.0-*/ as the log's root\n"
            + expected_tree("nuscenes", root)
        )
    for preferred in ("v1.0-trainval", "v1.0-mini"):
        if len(found) > 1 and preferred in found:
            logger.warning("%s holds %s: taking %s; choose with --version", root, ", ".join(found), preferred)
            return preferred
    if len(found) > 1:
        raise InputError(f"{root}: holds the tables {', '.join(found)}; choose one with --version")
    return found[0]


def _scans(log: Log, card: DatasetCard, progress: Progress) -> Iterator[ScanRow]:
    """Every scan, sorted by scene and time; the cameras and boxes of a sample belong to its key frame."""
    scans = log.lidar
    scene = np.array([log.scene_of_sample[sample] for sample in scans.sample], dtype=np.int32)
    order = np.lexsort((np.asarray(scans.time_us), scene)).tolist()
    _check_key_frames(log)
    cameras = _cameras_of_samples(log)
    boxes = Annotations.read(log, progress)
    to_lidar = invert(card.file_to_lidar)
    to_ego = {t: compose(m, to_lidar) for t, (channel, m, _) in log.calibration.items() if channel == LIDAR}
    poses = _poses(log)
    for place, i in enumerate(order):
        sample, is_key = scans.sample[i], bool(scans.is_key[i])
        label = log.label_paths.get(scans.token[i])
        yield ScanRow(
            scene=log.scenes[scene[i]],
            token=scans.token[i],
            order=place,
            points=Place(scans.path[i]),
            lidar_to_ego=to_ego[scans.calibration[i]],
            labels=Place(label) if label else None,
            boxes=boxes.of(sample) if is_key and boxes else None,
            time_us=scans.time_us[i],
            ego_to_world=poses[log.poses[scans.pose[i]]],
            is_key=is_key,
            cameras=tuple(_camera(log, j, poses) for j in cameras.get(sample, ())) if is_key else (),
            sample=sample if is_key else "",
        )


def _check_key_frames(log: Log) -> None:
    """Every sample has exactly one key frame of the LiDAR."""
    keys = [sample for sample, is_key in zip(log.lidar.sample, log.lidar.is_key) if is_key]
    there = set(keys)
    if len(there) < len(keys):
        seen: set[str] = set()
        twice = next(sample for sample in keys if sample in seen or seen.add(sample))  # type: ignore[func-returns-value]
        raise InputError(
            f"{log.folder / 'sample_data.json'}: the sample {twice} has two {LIDAR} key frames; "
            "one of them must be no key frame"
        )
    without = log.scene_of_sample.keys() - there
    if without:
        raise InputError(
            f"{log.folder / 'sample_data.json'}: {len(without)} samples have no {LIDAR} key frame (first: "
            f"{min(without)}); every row of sample.json needs one"
        )


def _cameras_of_samples(log: Log) -> dict[str, list[int]]:
    """Sample token -> rows of its images in ``log.cameras``."""
    found: dict[str, list[int]] = {}
    seen: set[tuple[str, str]] = set()
    channels = [log.calibration[token][0] for token in log.cameras.calibration]
    for i, pair in enumerate(zip(log.cameras.sample, channels)):
        if pair in seen:
            raise InputError(
                f"{log.folder / 'sample_data.json'}: the sample {pair[0]} has two key frames of {pair[1]}; "
                "one of them must be no key frame"
            )
        seen.add(pair)
        found.setdefault(pair[0], []).append(i)
    return found


def _camera(log: Log, i: int, poses: Sequence[Transform]) -> CameraRow:
    scans = log.cameras
    channel, to_ego, intrinsics = log.calibration[scans.calibration[i]]
    return CameraRow(
        channel=channel,
        token=scans.token[i],
        image=Place(scans.path[i]),
        intrinsics=intrinsics.reshape(3, 3),
        camera_to_ego=to_ego,
        size=(scans.height[i], scans.width[i]),
        time_us=scans.time_us[i],
        ego_to_world=poses[log.poses[scans.pose[i]]],
    )


def _check_codes(names: Sequence[str], table: Path) -> None:
    """Names are stored as int16."""
    if len(names) > 2**15:
        raise InputError(
            f"{table}: holds {len(names)} different names; an index can tell {2**15} apart, use fewer"
        )


def _poses(log: Log) -> list[Transform]:
    """ego_to_world of every row of ``log.pose_values``."""
    return list(make_transform(log.pose_values[:, :4], log.pose_values[:, 4:]))
