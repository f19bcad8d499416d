"""Read every file of a prepared log once and say what is wrong with it."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from .frame import IGNORE_LABEL
from .index import LogIndex
from .read import read_image, read_labels, read_points
from .store import PREPARE, TABLES, is_intact, read_columns
from .tables import Progress, silent

_LISTED = 1000  # problems that a report lists; all are counted
_FASTEST_M_S = 70.0  # an ego pose that moves faster than this is wrong
_SHORTEST_S, _LONGEST_S = 1e-3, 10.0  # usual gaps outside come from time stamps of another unit
_LAST_US = 10**17  # the year 5138
_LATEST_S = 0.1  # cameras further from their scan than this were matched wrongly


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that must be mended: its kind, the file, and the sentence that a reader would raise."""

    kind: str
    file: str
    message: str


@dataclass
class Report:
    """What was found. ``problems`` must be mended; ``notes`` are worth a look but may be right."""

    dataset: dict[str, Any]
    counts: dict[str, int]
    problem_counts: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)  # the first thousand
    notes: list[str] = field(default_factory=list)
    scenes: list[dict[str, Any]] = field(default_factory=list)
    labels: list[dict[str, Any]] = field(default_factory=list)  # one row a class, then ignored
    categories: dict[str, int] = field(default_factory=dict)  # points of each name in category.json
    intensity: dict[str, float] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """True where nothing is wrong."""
        return not self.problem_counts

    def to_dict(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        return {"ok": self.ok, **asdict(self)}


@dataclass(frozen=True, slots=True)
class _Scan:
    """What one scan's files hold."""

    row: int
    points: int
    intensity: tuple[float, float]  # smallest and largest raw value
    raw_labels: NDArray[np.int64] | None  # (256,) points of each raw id
    problems: tuple[Problem, ...]


def check_log(index: LogIndex, *, workers: int = 1, progress: Progress = silent) -> Report:
    """Read all clouds, labels and images of the log, and look at its times and poses.

    Args:
        workers: processes that read, one thread each; 1 reads in this process.
        progress: called as ``progress(stage, done, total)``.
    """
    report = Report(
        dataset={
            "name": index.card.name,
            "real": index.card.real,
            "licence": index.card.licence,
            "root": str(index.root),
            "version": index.version,
            "hash": index.hash,
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
    _check_tables(index, report)
    _check_times(index, report)
    _check_poses(index, report)
    raw_labels = np.zeros(256, dtype=np.int64)
    frames_with = np.zeros(256, dtype=np.int64)  # by train id
    low, high = np.inf, -np.inf
    for done, scan in enumerate(_read_all(index, workers), start=1):
        for problem in scan.problems:
            _add(report, problem)
        report.counts["points"] += scan.points
        low, high = min(low, scan.intensity[0]), max(high, scan.intensity[1])
        if scan.raw_labels is not None:
            raw_labels += scan.raw_labels
            frames_with[np.unique(index.card.label_map[np.flatnonzero(scan.raw_labels)])] += 1
        progress("reading every scan and image", done, len(index))
    _describe_labels(index, report, raw_labels, frames_with)
    _describe_intensity(index, report, low, high)
    return report


def _add(report: Report, problem: Problem) -> None:
    report.problem_counts[problem.kind] = report.problem_counts.get(problem.kind, 0) + 1
    if len(report.problems) < _LISTED:
        report.problems.append(problem)


def _read_all(index: LogIndex, workers: int) -> Iterator[_Scan]:
    rows = range(len(index))
    if workers <= 1:
        for row in rows:
            yield _inspect(index, row)
        return
    # spawned, not forked: the parent may hold threads of OpenCV or torch
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (index,)) as pool:
        yield from pool.map(_inspect_in_worker, rows, chunksize=8)


_worker_index: LogIndex | None = None


def _start_worker(index: LogIndex) -> None:
    import cv2

    global _worker_index
    cv2.setNumThreads(1)
    _worker_index = index


def _inspect_in_worker(row: int) -> _Scan:
    assert _worker_index is not None
    return _inspect(_worker_index, row)


def _inspect(index: LogIndex, row: int) -> _Scan:
    """Read all files of one scan."""
    problems: list[Problem] = []

    def note(kind: str, file: str, error: InputError) -> None:
        problems.append(
            Problem("missing file" if isinstance(error, MissingFileError) else kind, file, str(error))
        )

    path, points = index.point_path(row), None
    try:
        points = read_points(path, len(index.card.columns))
        if not len(points):
            problems.append(
                Problem("empty cloud", str(path), f"{path}: the scan holds no point; export it again")
            )
    except InputError as error:
        note("points", str(path), error)
    if points is not None and len(points) and points[:, 3].min() < 0:
        # whole points of another width put coordinates into this column, and those have both signs
        problems.append(_wrong_columns(index, path, float(points[:, 3].min()), float(points[:, 3].max())))
    raw_labels = None
    label_path = index.label_path(row)
    if label_path is not None and (points is not None or not label_path.is_file()):
        try:
            raw = read_labels(label_path, 0 if points is None else len(points))
            raw_labels = np.bincount(raw, minlength=256)
        except InputError as error:
            note("labels", str(label_path), error)
    for camera in index.cameras([row]):
        try:
            read_image(camera.path, camera.size)
        except InputError as error:
            note("image", camera.path, error)
    filled = points is not None and len(points) > 0
    span = (float(points[:, 3].min()), float(points[:, 3].max())) if filled else (np.inf, -np.inf)  # type: ignore
    return _Scan(row, 0 if points is None else len(points), span, raw_labels, tuple(problems))


def _wrong_columns(index: LogIndex, path: Path, low: float, high: float) -> Problem:
    columns = index.card.columns
    return Problem(
        "columns",
        str(path),
        f"{path}: the columns do not fit the card, since intensities run from {low:g} to {high:g}: it reads "
        f"{len(columns)} float32 a point ({', '.join(columns)}); give the columns of the files with --card FILE.yaml, "
        "or export intensities from 0 upwards (docs/own_data.md)",
    )


def _check_tables(index: LogIndex, report: Report) -> None:
    """The tables on disk are those that the hash was made of; no two files, tokens or cameras are shared."""
    if not is_intact(index.folder):
        message = f"{index.folder}: the tables are not those that were written; run `{PREPARE} {index.folder}` again"
        _add(report, Problem("index", str(index.folder), message))
    for name in ("token", "path"):
        for table in TABLES[:2]:
            column = read_columns(index.folder, table, index.hash)[name].tolist()
            twice = [value.decode() for value, count in Counter(column).items() if count > 1]
            if twice:
                _add(
                    report,
                    Problem(
                        f"shared {name}",
                        twice[0],
                        f"{index.root / index.version / 'sample_data.json'}: {len(twice)} {name}s of {table} occur "
                        f"more than once (first: {twice[0]}); give every scan and image its own",
                    ),
                )


def _check_times(index: LogIndex, report: Report) -> None:
    """Gaps between scans of a scene, and cameras that are far from their scan in time."""
    for number, scene in enumerate(index.scenes):
        rows = np.flatnonzero(index.scene_of == number)
        keys = rows[index.is_key[rows]]
        if len(rows) and index.time_us[rows].max() > _LAST_US:
            _add(report, _far_future(index, int(rows[-1])))
        gaps = {
            name: np.diff(index.time_us[some]) * 1e-6
            for name, some in (("key_frames", keys), ("scans", rows))
        }
        row: dict[str, Any] = {"name": scene, "key_frames": len(keys), "sweeps": len(rows) - len(keys)}
        row["seconds"] = round(float(np.ptp(index.time_us[rows])) * 1e-6, 3) if len(rows) else 0.0
        for name, gap in gaps.items():
            if not len(gap):
                continue
            middle = float(np.median(gap))
            if name == "scans" and not _SHORTEST_S <= middle <= _LONGEST_S:
                report.notes.append(
                    f"{scene}: the usual gap between scans is {middle:g} s; time stamps must be in microseconds"
                )
            row[f"{name}_gap_s"] = {"median": round(middle, 4), "largest": round(float(gap.max()), 4)}
            if gap.max() > 1.75 * middle and (name == "key_frames" or len(keys) < len(rows)):
                report.notes.append(
                    f"{scene}: {int((gap > 1.75 * middle).sum())} time gaps between {name.replace('_', ' ')} are up to "
                    f"{gap.max():.2f} s, the usual one is {middle:.2f} s"
                )
        report.scenes.append(row)
    for channel, delays_s in index.camera_delays().items():
        late = int((np.abs(delays_s) > _LATEST_S).sum())
        if late:
            report.notes.append(
                f"{channel}: {late} of {len(delays_s)} images are more than {_LATEST_S} s from their scan"
            )


def _far_future(index: LogIndex, row: int) -> Problem:
    token, time = index.tokens([row])[0], int(index.time_us[row])
    return Problem(
        "time",
        token,
        f"{index.root / index.version / 'sample_data.json'}: the timestamp {time} of {token} lies after the year 5000; "
        "times are in microseconds, convert nanoseconds",
    )


def _check_poses(index: LogIndex, report: Report) -> None:
    """Ego motion between scans of a scene must be one that a vehicle can make."""
    positions = index.ego_positions()
    same = np.diff(index.scene_of) == 0
    seconds = np.diff(index.time_us) * 1e-6
    metres = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    for i in np.flatnonzero(same & (metres > _FASTEST_M_S * seconds + 0.5)).tolist():
        scene, token = index.scene(i), index.tokens([i + 1])[0]
        _add(
            report,
            Problem(
                "pose",
                token,
                f"{index.root / index.version / 'ego_pose.json'}: in {scene} the vehicle jumps {metres[i]:.1f} m in "
                f"{seconds[i]:.3f} s before the scan {token}; mend the poses or cut the scene there",
            ),
        )


def _describe_labels(
    index: LogIndex, report: Report, raw_labels: NDArray[np.int64], frames_with: NDArray[np.int64]
) -> None:
    """Histogram by class and by category; ids that no category has are a problem of the label files."""
    total = int(raw_labels.sum())
    if not total:
        report.notes.append("no point labels: fine for pretraining; probing and fine-tuning need them")
        return
    card = index.card
    train = card.label_map[:256]
    for train_id, name in [*enumerate(card.classes), (IGNORE_LABEL, "(ignored)")]:
        mine = train == train_id
        points = int(raw_labels[mine].sum())
        frames = int(frames_with[train_id])
        report.labels.append(
            {"class": name, "points": points, "share": round(points / total, 6), "frames": frames}
        )
    report.categories = {
        card.categories.get(raw, f"id {raw}"): int(count) for raw, count in enumerate(raw_labels) if count
    }
    unknown = [raw for raw in np.flatnonzero(raw_labels).tolist() if raw not in card.categories]
    if unknown:
        report.notes.append(f"raw label ids {unknown} are in no category; their points are ignored")


def _describe_intensity(index: LogIndex, report: Report, low: float, high: float) -> None:
    if not np.isfinite([low, high]).all():
        return
    scale = index.card.intensity_max
    report.intensity = {"smallest": low, "largest": high, "becomes_1": scale}
    if high <= scale / 100 and high <= 1.0:
        report.notes.append(
            f"the largest intensity is {high:g} while {scale:g} becomes 1: the log seems to be scaled already; "
            'state {"intensity": {"raw_max": 1}} in dataset.json'
        )
    elif high > scale * 1.01 and low >= 0:  # negative ones are a problem of the columns
        report.notes.append(
            f"intensities run from {low:g} to {high:g} while 0 to {scale:g} becomes [0, 1]: the rest is clipped; "
            "state the largest value as intensity.raw_max in dataset.json"
        )
