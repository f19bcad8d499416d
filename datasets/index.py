"""A prepared log: every scan is a row, sorted by scene and time, and every question about time is asked here."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from ..geometry import Transform
from .card import DatasetCard
from .cloud import to_cloud
from .complete import KEY_FRAMES_ONLY
from .formats import FilePoints, look_up, read_labels, read_points
from .frame import Camera, Clip, Frame
from .read import read_image
from .records import Boxes, Place
from .selection import select_rows
from .store import Columns, prepare_command, read_columns, read_header
from .write import NO_TIME

log = logging.getLogger(__name__)


class LogIndex:
    """Index of a driving log; opens in milliseconds to a second and pickles as a path, whatever its size.

    Attributes:
        folder, root: where the index and the data lie. card: what is known about the dataset.
        hash: sha256 of the rows, equal on every machine; that of the card is ``card.hash``.
        dataset: whose reader listed the log. version: of its tables. variant: ``clean``, or how a copy was corrupted.
        scenes: names in the log's order. channels: camera channels of the log.
        scene_of (R,) int32, order (R,) int64, time_us (R,) int64, is_key (R,) bool: of every scan (key frames and
            sweeps), sorted by scene, then order; ``NO_TIME`` where a time is not known.
        camera_count (R,) int64: images of every scan.
        has_times, has_poses: whether they are known of every scan.
    """

    def __init__(self, folder: str | Path, *, root: str | Path | None = None) -> None:
        self.folder = Path(folder)
        header = read_header(self.folder)
        self.root = _find_root(self.folder, header, root)
        self.hash: str = header["hash"]
        self.dataset: str = header["dataset"]
        self.version: str = header["version"]
        self.variant: str = header["variant"]
        self.sources: dict[str, str] = header["sources"]
        self.card = DatasetCard.from_dict(header["card"])
        self.scenes: tuple[str, ...] = tuple(header["scenes"])
        self.channels: tuple[str, ...] = tuple(header["channels"])
        self.warnings: tuple[str, ...] = tuple(header["warnings"])
        self._box_categories: tuple[str, ...] = tuple(header["box_categories"])
        self._frames = read_columns(self.folder, "frames", self.hash)
        self._cameras = read_columns(self.folder, "cameras", self.hash)
        self._boxes: Columns | None = None  # read when first asked for: most jobs never do
        self.scene_of: NDArray[np.int32] = self._frames["scene"]
        self.order: NDArray[np.int64] = self._frames["order"]
        self.time_us: NDArray[np.int64] = self._frames["time_us"]
        self.is_key: NDArray[np.bool_] = self._frames["is_key"]
        self._keys = np.flatnonzero(self.is_key)
        self._camera_start = np.searchsorted(self._cameras["frame"], np.arange(len(self) + 1))
        self.camera_count: NDArray[np.int64] = np.diff(self._camera_start)
        self.has_times = bool((self.time_us != NO_TIME).all())
        self.has_poses = not np.isnan(self._frames["ego_to_world"]).any()

    @classmethod
    def open(cls, folder: str | Path, *, root: str | Path | None = None) -> LogIndex:
        """The index in ``folder``; ``root`` says where the data lie if they have moved.

        Raises:
            InputError: no index, another schema, damaged files, or no data folder; the message says what to run.
        """
        return cls(folder, root=root)

    def __len__(self) -> int:
        """Number of scans, sweeps included."""
        return len(self.scene_of)

    def __repr__(self) -> str:
        return (
            f"LogIndex({str(self.folder)!r}: {' '.join(filter(None, (self.card.name, self.version)))}, "
            f"{len(self.scenes)} scenes, "
            f"{len(self._keys)} key frames, {len(self) - len(self._keys)} sweeps)"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        # loader processes read the tables themselves: a spawned worker receives three strings
        return _reopen, (str(self.folder.absolute()), str(self.root.absolute()), self.hash, self.card.hash)

    # ---- which scans ------------------------------------------------------------------------------------------

    def rows(
        self, selection: str | Sequence[str] | None = None, *, keys_only: bool = True
    ) -> NDArray[np.int64]:
        """(R,) int64 rows that ``selection`` names, ascending; see ``selection.select_rows`` for the terms.

        Raises:
            InputError: a term names nothing in this log.
        """
        return select_rows(
            selection,
            scenes=self.scenes,
            splits=self.card.splits,
            scene_of=self.scene_of,
            is_key=self.is_key,
            split_of=self._frames["split"],
            keys_only=keys_only,
        )

    def tokens(self, rows: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """Unique names of the scans (in nuScenes schema: the LIDAR_TOP sample_data tokens)."""
        return [value.decode() for value in self._frames["token"][np.asarray(rows, dtype=np.int64)].tolist()]

    def sample_tokens(self, rows: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """The log's own names of the key frames (nuScenes: sample tokens); empty for sweeps."""
        return [value.decode() for value in self._frames["sample"][np.asarray(rows, dtype=np.int64)].tolist()]

    def scene(self, row: int) -> str:
        """Name of the scene of a scan."""
        return self.scenes[self.scene_of[row]]

    def has_labels(self, row: int) -> bool:
        """Whether a label file belongs to the scan."""
        return bool(self._frames["label_path"][row])

    def require(self, what: str, purpose: str, *, times: bool = False, poses: bool = False) -> None:
        """Make sure that the log knows what a job needs; nothing is made up for it.

        Args:
            what: the job, in words that begin a sentence. purpose: what else can be done, in words that end it.
            times, poses: whether it needs those of every scan.

        Raises:
            InputError: the log lacks one of them.
        """
        lacking = " and ".join(
            name
            for name, needed in (
                ("times", times and not self.has_times),
                ("poses", poses and not self.has_poses),
            )
            if needed
        )
        if lacking:
            raise InputError(
                f"{self.folder}: {what} needs {lacking} of every scan, and this log ({self.card.name}) lacks some; "
                f"{purpose}"
            )

    def neighbour(self, row: int, offset: int, *, max_gap_s: float | None = None) -> int | None:
        """Row of the key frame ``offset`` key frames later (earlier if negative) in the same scene, or None.

        From a sweep, +1 is the next key frame and -1 the one before it. The answer comes from the log's time order,
        whatever subset of rows is in use.

        Args:
            max_gap_s: None too if the two scans are further apart in time than this [s].

        Raises:
            InputError: ``max_gap_s`` of a log that does not know its times.
        """
        row = self._check(row)
        if offset == 0:
            return row
        position = int(np.searchsorted(self._keys, row)) + offset
        if not self.is_key[row] and offset > 0:
            position -= 1
        if not 0 <= position < len(self._keys):
            return None
        other = int(self._keys[position])
        if self.scene_of[other] != self.scene_of[row]:
            return None
        if max_gap_s is None:
            return other
        self.require("a neighbour within so many seconds", "ask for one by its number alone", times=True)
        gap_us = abs(int(self.time_us[other]) - int(self.time_us[row]))
        return None if gap_us > max_gap_s * 1e6 else other

    def neighbour_at(
        self, row: int, seconds: float, *, tolerance_s: float, among: NDArray[np.int64] | None = None
    ) -> int | None:
        """Row of the key frame of the same scene that is nearest in time to ``seconds`` after ``row``, or None.

        Of two that are equally near, the earlier. The answer comes from the log's time order, whatever the rate of the
        key frames.

        Args:
            seconds: from the scan to its neighbour [s], negative for earlier ones; 0 gives ``row``. Only key frames on
                that side of ``row`` are neighbours.
            tolerance_s: None if the nearest is further than this from the asked time [s].
            among: (K,) ascending rows of key frames to choose from; all of the log when None.

        Raises:
            InputError: the log does not know its times.
        """
        self.require("a neighbour in seconds", 'count key frames instead: times.unit="frames"', times=True)
        row = self._check(row)
        if seconds == 0:
            return row
        first, stop = self._scene_rows(row)
        first, stop = (row + 1, stop) if seconds > 0 else (first, row)
        keys = self._keys if among is None else among
        keys = keys[slice(*np.searchsorted(keys, [first, stop]))]
        asked_us = int(self.time_us[row]) + round(seconds * 1e6)
        after = int(np.searchsorted(self.time_us[keys], asked_us))
        beside = keys[max(after - 1, 0) : after + 1].tolist()
        if not beside:
            return None
        gap_us, other = min((abs(int(self.time_us[key]) - asked_us), key) for key in beside)
        return None if gap_us > tolerance_s * 1e6 else int(other)

    def key_interval_s(self, among: NDArray[np.int64] | None = None) -> float:
        """Usual time between key frames of a scene [s], the median; 0 where no scene has two, or no time is known.

        Args:
            among: (K,) ascending rows of key frames to look at; all of the log when None.
        """
        if not self.has_times:
            return 0.0
        keys = self._keys if among is None else among
        gaps_us = np.diff(self.time_us[keys])[np.diff(self.scene_of[keys]) == 0]
        return float(np.median(gaps_us)) * 1e-6 if len(gaps_us) else 0.0

    def key_step(self) -> float:
        """Usual step between the places of key frames in their scene, the median; 1 where no scene has two."""
        steps = np.diff(self.order[self._keys])[np.diff(self.scene_of[self._keys]) == 0]
        return float(np.median(steps)) if len(steps) else 1.0

    def sweeps(self, row: int, count: int, *, after: int = 0) -> list[int]:
        """Rows of scans (key frames or not) around ``row`` in its scene.

        Up to ``count`` just before it, newest first, then up to ``after`` just after it, oldest first.
        """
        row = self._check(row)
        first, stop = self._scene_rows(row)
        before = range(row - 1, max(first, row - count) - 1, -1)
        return [*before, *range(row + 1, min(stop, row + 1 + after))]

    # ---- what is in them --------------------------------------------------------------------------------------

    def frame(
        self,
        row: int,
        *,
        cameras: Sequence[str] | None = None,
        points: bool = True,
        images: bool = True,
        labels: bool = True,
        boxes: bool = False,
        raw_intensity: bool = False,
    ) -> Frame:
        """One scan read from its files.

        Args:
            cameras: channels to include, in this order; None for all, () for none. Those the scan lacks are absent.
            points: read the points and their labels; otherwise there are none of either.
            images: decode the images; otherwise the cameras come without pixels.
            labels: read point labels where the log has them; scans without keep None.
            boxes: include the annotated objects (None where the log has no boxes for this scan).
            raw_intensity: intensity in 0..255, as published code has it, instead of [0, 1].

        Raises:
            InputError: a file is missing or wrong (the message names it), or the log has no such channel.
        """
        row = self._check(row)
        time_us = _time(self.time_us[row])
        file = self.file_points(row) if points else FilePoints(_no_columns(self.card.columns), None, 0)
        if points and not len(file.columns["x"]):
            _warn_of_empty_scan(self.point_path(row))
        return Frame(
            token=self._frames["token"][row].decode(),
            scene=self.scene(row),
            time_us=time_us,
            is_key=bool(self.is_key[row]),
            cloud=to_cloud(self.card, file, time_us, raw_intensity=raw_intensity),
            lidar_to_ego=_matrix(self._frames["lidar_to_ego"][row]),
            ego_to_world=_pose(self._frames["ego_to_world"][row]),
            dataset=self.card.name,
            variant=self.variant,
            cameras=tuple(self._camera(i, images) for i in self._camera_rows(row, cameras)),
            labels=self._labels(row, file) if labels and points else None,
            boxes=self.boxes(row) if boxes else None,
        )

    def labels(self, row: int) -> NDArray[np.uint8] | None:
        """Train ids of a scan, 255 = ignore, one a row of its files, from its label file alone; None where it has none.

        Raises:
            InputError: the file cannot be read.
        """
        raw = self.file_labels(self._check(row), None)
        return None if raw is None else look_up(self.card.label_map, raw)

    def clip(
        self,
        row: int,
        offsets: Sequence[int] = (-1, 0, 1),
        *,
        sweeps: int = 0,
        sweeps_after: int = 0,
        max_gap_s: float | None = None,
        **frame_options: Any,
    ) -> Clip:
        """The scan ``row`` with its neighbours; one that does not exist is absent, never a repeat.

        Args:
            offsets: of the neighbours in key frames; 0 is always included.
            sweeps: number of earlier scans to add (points only), newest first.
            sweeps_after: number of later scans to add after those, oldest first.
            max_gap_s: as in ``neighbour``.
            frame_options: as in ``frame``, for the centre and the neighbours.
        """
        found = {offset: self.neighbour(row, offset, max_gap_s=max_gap_s) for offset in sorted({0, *offsets})}
        frames = {offset: self.frame(r, **frame_options) for offset, r in found.items() if r is not None}
        bare = {"cameras": (), "labels": False, "raw_intensity": frame_options.get("raw_intensity", False)}
        around = self.sweeps(row, sweeps, after=sweeps_after)
        return Clip(frames, tuple(self.frame(r, **bare) for r in around))

    def cameras(
        self,
        rows: Sequence[int] | NDArray[np.integer] | None = None,
        *,
        channels: Sequence[str] | None = None,
    ) -> list[Camera]:
        """The cameras of the scans (default: all key frames) without pixels, scan by scan.

        Raises:
            InputError: the log has no such channel.
        """
        chosen = [int(row) for row in (self._keys if rows is None else rows)]
        return [
            self._camera(i, False) for row in chosen for i in self._camera_rows(self._check(row), channels)
        ]

    def boxes(self, row: int) -> Boxes | None:
        """Annotated objects of a scan; None for sweeps and for logs without annotation."""
        if not self._frames["has_boxes"][row]:
            return None
        if self._boxes is None:
            self._boxes = read_columns(self.folder, "boxes", self.hash)
        table = self._boxes
        start, stop = np.searchsorted(table["frame"], [row, row + 1])
        return Boxes(
            centers=table["center"][start:stop].copy(),
            sizes=table["size"][start:stop].copy(),
            rotations=table["rotation"][start:stop].copy(),
            categories=tuple(self._box_categories[i] for i in table["category"][start:stop]),
            tracks=tuple(value.decode() for value in table["track"][start:stop].tolist()),
            velocities=table["velocity"][start:stop].copy(),
            status=tuple(value.decode() for value in table["status"][start:stop].tolist()),
            points=table["points"][start:stop].copy(),
        )

    def ego_positions(self) -> NDArray[np.float64]:
        """(R, 3) where the vehicle is at each scan [m, world], NaN where that is not known.

        Every scene may have a world of its own.
        """
        return self.ego_poses()[:, :, 3].copy()

    def ego_poses(self) -> NDArray[np.float64]:
        """(R, 3, 4) upper rows of ``ego_to_world`` of every scan, NaN where it is not known; not to be written to."""
        return self._frames["ego_to_world"].reshape(-1, 3, 4)

    def camera_delays(self) -> dict[str, NDArray[np.float64]]:
        """Channel -> (K,) seconds from the scan to the exposure of each of its images, usually negative.

        Images and scans whose time is not known are left out.
        """
        scan_us, image_us = self.time_us[self._cameras["frame"]], self._cameras["time_us"]
        known = (scan_us != NO_TIME) & (image_us != NO_TIME)
        delay_s, channel = ((image_us - scan_us) * 1e-6)[known], self._cameras["channel"][known]
        return {name: delay_s[channel == i] for i, name in enumerate(self.channels)}

    def source(self, what: str) -> Path:
        """The file that gives the log's ``times``, ``poses`` or ``calibration``, for messages; else its root."""
        return self.root / self.sources[what] if what in self.sources else self.root

    def point_path(self, row: int) -> Path:
        """File of the scan's points."""
        return self.root / self._frames["path"][row].decode()

    def label_path(self, row: int) -> Path | None:
        """File of the scan's point labels, or None."""
        return self.root / self._frames["label_path"][row].decode() if self.has_labels(row) else None

    # ---- inside -----------------------------------------------------------------------------------------------

    def _check(self, row: int) -> int:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} is outside this index of {len(self)} scans")
        return int(row)

    def _scene_rows(self, row: int) -> tuple[int, int]:
        """First row of the scan's scene, and the one after its last."""
        scene = self.scene_of[row]
        return int(np.searchsorted(self.scene_of, scene)), int(np.searchsorted(self.scene_of, scene, "right"))

    def file_points(self, row: int) -> FilePoints:
        """The points of a scan, as they stand in its file.

        Raises:
            InputError: the file is missing or wrong; the message names it.
        """
        card, key = self.card, self._frames["key"][row].decode()
        try:
            return read_points(
                self.point_path(row),
                card.columns,
                format=card.point_format,
                key=key,
                no_return=card.no_return,
                range_m=card.range_m,
            )
        except MissingFileError as error:
            if self.is_key[row]:
                raise
            raise MissingFileError(
                f"{error}; it is a sweep, prepare with {KEY_FRAMES_ONLY} to go without"
            ) from None

    def file_labels(self, row: int, points: int | None) -> NDArray[np.uint32] | None:
        """uint32 raw ids, one a row of a scan's file; None where it has no labels.

        Args:
            points: number of rows of the scan's file; None takes any.

        Raises:
            InputError: the file is missing, wrong, or of another number of points.
        """
        path, key = self.label_path(row), self._frames["label_key"][row].decode()
        return None if path is None else read_labels(path, points, key=key, **self.card.labels)

    def instances(self, row: int, points: int) -> NDArray[np.uint32] | None:
        """(N,) uint32 instance of each of so many points, 0 for none; None where the scan has no such file.

        Raises:
            InputError: the file is missing, wrong, or of another number of points.
        """
        place = Place(self._frames["instance_path"][row].decode(), self._frames["instance_key"][row].decode())
        if not place.path:
            return None
        return read_labels(self.root / place.path, points, key=place.key, **self.card.instances)

    def _labels(self, row: int, file: FilePoints) -> NDArray[np.uint8] | None:
        raw = self.file_labels(row, file.rows)
        if raw is None:
            return None
        return look_up(self.card.label_map, raw if file.row is None else raw[file.row])

    def _camera_rows(self, row: int, channels: Sequence[str] | None) -> list[int]:
        """Rows of the camera table for one scan, in the asked order."""
        rows = range(self._camera_start[row], self._camera_start[row + 1])
        if channels is None:
            return list(rows)
        for channel in channels:
            if channel not in self.channels:
                raise InputError(
                    f"{channel!r} is no camera of this log; choose of {', '.join(self.channels)}"
                )
        there = {self.channels[self._cameras["channel"][i]]: i for i in rows}
        return [there[channel] for channel in channels if channel in there]

    def _camera(self, i: int, image: bool) -> Camera:
        table = self._cameras
        path = self.root / table["path"][i].decode()
        size = (int(table["height"][i]), int(table["width"][i]))
        return Camera(
            token=table["token"][i].decode(),
            channel=self.channels[table["channel"][i]],
            time_us=_time(table["time_us"][i]),
            intrinsics=table["intrinsics"][i].reshape(3, 3).copy(),
            camera_to_ego=_matrix(table["camera_to_ego"][i]),
            ego_to_world=_pose(table["ego_to_world"][i]),
            path=str(path),
            size=size,
            model=table["model"][i].decode(),
            distortion=tuple(table["distortion"][i].tolist()),
            image=read_image(path, size) if image else None,
        )


def _no_columns(names: Sequence[str]) -> dict[str, NDArray[np.float32]]:
    return dict.fromkeys(names, np.empty(0, np.float32))


@cache
def _warn_of_empty_scan(path: Path) -> None:
    """Say it once a process: such a scan stops nothing, but somebody should know."""
    log.warning("%s: holds no points; leave this frame out of the selection or copy the file again", path)


def _matrix(values: NDArray[np.float64]) -> Transform:
    """(4, 4) from the 12 numbers of its upper rows."""
    a_to_b = np.eye(4)
    a_to_b[:3] = values.reshape(3, 4)
    return a_to_b


def _pose(values: NDArray[np.float64]) -> Transform | None:
    return None if np.isnan(values[0]) else _matrix(values)


def _time(value: np.int64) -> int | None:
    return None if value == NO_TIME else int(value)


def _find_root(folder: Path, header: dict[str, Any], root: str | Path | None) -> Path:
    """The data folder: the given one, the recorded one, or the one at the same place relative to the index."""
    if root is not None:
        if not Path(root).is_dir():
            raise MissingFileError(f"{root}: there is no such data folder; check the root that was given")
        return Path(root).absolute()
    recorded = Path(header["root"])
    relative = Path(os.path.normpath(folder.absolute() / header["root_from_index"]))
    for place in (recorded, relative):
        if place.is_dir():
            return place
    raise MissingFileError(
        f"{recorded}: the data folder of the index {folder} is no longer there; "
        f"open the index with its new root, or prepare again with "
        f"`{prepare_command(folder, header['dataset'])}`"
    )


def _reopen(folder: str, root: str, digest: str, card_digest: str) -> LogIndex:
    """What a loader process does to receive an index."""
    index = LogIndex(folder, root=root)
    if (index.hash, index.card.hash) != (digest, card_digest):
        raise InputError(f"{folder}: the index was prepared anew while it was in use; start the run again")
    return index
