"""Read the files of a prepared log once and say what is wrong with them, and with the log that they make."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...progress import Progress, silent, track
from ...together import processes
from ..columns import NO_TIME
from ..formats.readers import UNKNOWN_ID
from ..index import LogIndex
from ..store import TABLES, Columns, is_intact, prepare_command, read_columns
from .calibration import judge_calibration, read_mounts
from .cameras import IMAGE, judge_cameras
from .cloud_problems import ground_height, judge_clouds
from .clouds import CLOUD, SECTORS
from .labels import describe_intensity, describe_labels
from .lidar_mount import judge_lidar_mount
from .motion import judge_poses, judge_times
from .overlay import Project
from .report import Problem, Report
from .sample import sample_rows
from .scan import Scan, inspect_scan

_File = bytes | tuple[bytes, bytes]  # its path in a table; of a part of a file with its key


def check_log(
    index: LogIndex,
    *,
    project: Project,
    sample: int | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Report:
    """Read clouds, labels and images of the log, and look at its times, poses and calibrations.

    Args:
        project: where points fall on an image.
        sample: key frames to read, spread over the scenes, with the sweep before each; None reads everything.
        workers: processes that read, one thread each; 1 reads in this process.
        progress: called as ``progress(stage, done, total)``.

    Raises:
        InputError: ``sample`` is not positive.
    """
    rows = np.arange(len(index)) if sample is None else sample_rows(index, sample)
    report = _open_report(index)
    if sample is not None:
        keys = int(index.is_key[rows].sum())
        scenes = len(np.unique(index.scene_of[rows]))
        report.sample = {"asked": sample, "key_frames": keys, "sweeps": len(rows) - keys, "scenes": scenes}
    report.add(_changed_tables(index, report))
    judge_times(index, report)
    judge_poses(index, report)
    found = _Found()
    stage = "reading every scan and image" if sample is None else "reading a sample of the scans and images"
    for scan in track(_read_all(index, rows, workers, project), stage, progress, total=len(rows)):
        report.add(scan.problems)
        report.counts["points"] += scan.points
        found.add(index, scan)
    _judge_content(index, report, found)
    return report


@dataclass
class _Found:
    """What the scans hold, put together."""

    raw_labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(UNKNOWN_ID + 1, np.int64))
    frames_with: NDArray[np.int64] = field(default_factory=lambda: np.zeros(256, np.int64))  # by train id
    low: float = np.inf
    high: float = -np.inf
    clouds: list[NDArray[np.void]] = field(default_factory=list)
    images: list[NDArray[np.void]] = field(default_factory=list)
    # of scans of several, see `Scan`
    lidars: list[tuple[int, Mapping[str, bool]]] = field(default_factory=list)

    def add(self, index: LogIndex, scan: Scan) -> None:
        if scan.lidars:
            self.lidars.append((scan.row, scan.lidars))
        self.low, self.high = min(self.low, scan.intensity[0]), max(self.high, scan.intensity[1])
        if scan.cloud is not None:
            self.clouds.append(scan.cloud)
        self.images.append(scan.images)
        if scan.raw_labels is not None:
            ids, counts = scan.raw_labels.T
            self.raw_labels[ids] += counts
            self.frames_with[np.unique(index.card.label_map[ids])] += 1


def _judge_content(index: LogIndex, report: Report, found: _Found) -> None:
    report.notes += _silent_lidars(index, found)
    clouds = np.array(found.clouds, CLOUD)
    images = np.concatenate([np.empty(0, IMAGE), *found.images])
    mounts = read_mounts(index, images)
    trust_points = judge_clouds(index, clouds, report)
    sectors = clouds["sectors"].sum(axis=0) if len(clouds) else np.zeros(SECTORS, np.int64)
    first = {channel: known[0] for channel, known in mounts.items()}
    judge_cameras(index, images, first, sectors, report, trust_points=trust_points)
    ground_m = ground_height(clouds) if trust_points else None
    ground_m = None if ground_m is None or ground_m > 0 else ground_m
    judge_calibration(index, mounts, ground_m, report)
    judge_lidar_mount(index, ground_m, report)
    describe_labels(index, report, found.raw_labels, found.frames_with)
    describe_intensity(index, report, found.low, found.high)


def _silent_lidars(index: LogIndex, found: _Found) -> Iterator[str]:
    """About scans of several LiDARs that hold no point of one of them."""
    for name in dict.fromkeys(name for _, lidars in found.lidars for name in lidars):
        rows = [row for row, lidars in found.lidars if not lidars.get(name, False)]
        if rows:
            yield (
                f"{len(rows)} scans hold no point of the LiDAR {name}, the first is {index.tokens(rows[:1])[0]}: what "
                "it alone sees is missing there"
            )


def _open_report(index: LogIndex) -> Report:
    card = index.card
    return Report(
        dataset={
            "name": card.name,
            "real": card.real,
            "licence": card.licence,
            "root": str(index.root),
            "version": index.version,
            "hash": index.hash,
            "card_hash": index.card.hash,
            "variant": index.variant,
        },
        counts={
            "scenes": len(index.scenes),
            "key_frames": int(index.is_key.sum()),
            "sweeps": int((~index.is_key).sum()),
            "images": int(index.camera_count.sum()),
            "labelled_frames": sum(index.has_labels(row) for row in range(len(index))),
            "points": 0,
        },
        notes=list(index.warnings),
    )


def _changed_tables(index: LogIndex, report: Report) -> Iterator[Problem]:
    """The tables on disk are those that the hash was made of; no two files, tokens or cameras are shared."""
    if not is_intact(index.folder):
        message = f"{index.folder}: the tables are not those that were written; run "
        message += f"`{prepare_command(index.folder, index.dataset)}` again"
        yield Problem("index", str(index.folder), message)
    for name in ("token", "path"):
        for table in TABLES[:2]:
            columns = read_columns(index.folder, table, index.hash)
            column = columns[name].tolist()
            if name == "path" and columns["key"].any():  # parts of a file share its path
                column = list(zip(column, columns["key"].tolist()))
            twice = [value for value, count in Counter(column).items() if count > 1]
            if twice and name == "path" and "channel" in columns:
                twice = _not_of_one_moment(column, columns, twice, report)
            if twice:
                first = _text(twice[0])
                yield Problem(
                    f"shared {name}",
                    first,
                    f"{index.source('times')}: {len(twice)} {name}s of {table} occur "
                    f"more than once (first: {first}); give every scan and image its own",
                )


def _not_of_one_moment(
    column: list[_File], columns: Columns, twice: list[_File], report: Report
) -> list[_File]:
    """Those of the files ``twice`` that are listed as images of several cameras or times.

    The others are the nearest image of several scans, as where a camera is slower than the LiDAR: that is noted.
    """
    moments: dict[_File, set[tuple[int, int]]] = {path: set() for path in twice}
    channels, times = columns["channel"].tolist(), columns["time_us"].tolist()
    for path, channel, time_us in zip(column, channels, times):
        if path in moments:
            moments[path].add((channel, time_us))
    wrong = [path for path, own in moments.items() if len(own) > 1 or (*own,)[0][1] == NO_TIME]
    if len(wrong) < len(twice):
        report.notes.append(
            f"{len(twice) - len(wrong)} images are those of several scans each: their camera is slower than the LiDAR"
        )
    return wrong


def _text(value: _File) -> str:
    return value.decode() if isinstance(value, bytes) else b" ".join(value).decode()


def _read_all(index: LogIndex, rows: NDArray[np.int64], workers: int, project: Project) -> Iterator[Scan]:
    if workers <= 1:
        for row in rows.tolist():
            yield inspect_scan(index, row, project)
        return
    with processes(workers, _start_worker, (index, project)) as pool:
        yield from pool.map(_inspect_in_worker, rows.tolist(), chunksize=8)


_worker: tuple[LogIndex, Project] | None = None


def _start_worker(index: LogIndex, project: Project) -> None:
    import cv2

    global _worker
    cv2.setNumThreads(1)
    _worker = index, project


def _inspect_in_worker(row: int) -> Scan:
    assert _worker is not None
    index, project = _worker
    return inspect_scan(index, row, project)
