"""A prepared log: every scan is a row, sorted by scene and time; what it says of them, and what their files hold."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, MissingFileError
from ..geometry import matrix_of
from .card import DatasetCard
from .columns import NO_TIME, boxes_of, pose_of, time_of
from .frame import Camera, Clip, Frame
from .recordings import recordings_of
from .records import CAMERA_MODELS, Boxes
from .scan_files import ScanFiles, empty_cloud
from .selection import select_rows
from .store import Columns, prepare_command, read_columns, read_header

log = logging.getLogger(__name__)


class LogIndex(ScanFiles):
    """Index of a driving log; opens in milliseconds to a second and pickles as a path, whatever its size.

    Attributes, beside those of `Timeline` and `ScanFiles`:
        folder: where the index lies.
        hash: sha256 of the rows, equal on every machine; that of the card is ``card.hash``.
        dataset: whose reader listed the log. version: of its tables. variant: ``clean``, or how a copy was corrupted.
        poses: "" where they are the log's, else what estimated them.
        scenes: names in the log's order. channels: camera channels of the log.
        row_splits: splits of scans, beside those of scenes in the card.
        known_recordings: scene -> the drive of the world that it is of, where the log says it.
        camera_count (R,) int64: images of every scan.
    """

    def __init__(self, folder: str | Path, *, root: str | Path | None = None) -> None:
        self.folder = Path(folder)
        header = read_header(self.folder)
        self.hash: str = header["hash"]
        self.dataset: str = header["dataset"]
        self.version: str = header["version"]
        self.variant: str = header["variant"]
        self.sources: dict[str, str] = header["sources"]
        self.scenes: tuple[str, ...] = tuple(header["scenes"])
        self.channels: tuple[str, ...] = tuple(header["channels"])
        self.row_splits: tuple[str, ...] = tuple(header["row_splits"])
        self.warnings: tuple[str, ...] = tuple(header["warnings"])
        self.known_recordings: dict[str, str] = header.get("recordings", {})
        self._box_categories: tuple[str, ...] = tuple(header["box_categories"])
        super().__init__(
            _find_root(self.folder, header, root),
            DatasetCard.from_dict(header["card"]),
            self.folder,
            read_columns(self.folder, "frames", self.hash),
            read_columns(self.folder, "lidars", self.hash),
            header["lidars"],
            sweep_compensation=header.get("sweep_compensation", False),
        )
        self.poses: str = header.get("poses", "")
        self._cameras = read_columns(self.folder, "cameras", self.hash)
        self._boxes: Columns | None = None  # read when first asked for: most jobs never do
        self._camera_start = np.searchsorted(self._cameras["frame"], np.arange(len(self) + 1))
        self.camera_count: NDArray[np.int64] = np.diff(self._camera_start)

    @classmethod
    def open(cls, folder: str | Path, *, root: str | Path | None = None) -> LogIndex:
        """The index in ``folder``; ``root`` says where the data lie if they have moved.

        Raises:
            InputError: no index, another schema, damaged files, or no data folder; the message says what to run.
        """
        return cls(folder, root=root)

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
            row_splits={
                name: self._frames["splits"] >> bit & 1 == 1 for bit, name in enumerate(self.row_splits)
            },
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

    def recordings(self, rows: Sequence[int] | NDArray[np.integer]) -> tuple[str, ...]:
        """Drives of the world that the scans are of, where other datasets hold the same; see `recordings`."""
        codes = np.unique(self.scene_of[np.asarray(rows, dtype=np.int64)]).tolist()
        return recordings_of(self.card.name, [self.scenes[code] for code in codes], self.known_recordings)

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
        lidars = self.lidars(row)
        if points:
            cloud, train_ids = self.read_cloud(row, labels=labels, raw_intensity=raw_intensity)
        else:
            cloud, train_ids = empty_cloud(self.card), None
        return Frame(
            token=self._frames["token"][row].decode(),
            scene=self.scene(row),
            time_us=time_of(self.time_us[row]),
            is_key=bool(self.is_key[row]),
            cloud=cloud,
            lidar_to_ego=matrix_of(self._frames["lidar_to_ego"][row]),
            ego_to_world=pose_of(self._frames["ego_to_world"][row]),
            dataset=self.card.name,
            variant=self.variant,
            lidars=lidars,
            cameras=tuple(self._camera(i, images) for i in self._camera_rows(row, cameras)),
            labels=train_ids,
            boxes=self.boxes(row) if boxes else None,
        )

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

    def camera_tokens(self, rows: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """Tokens of all images of the scans, as those of `cameras`, without the rest."""
        chosen = np.isin(self._cameras["frame"], np.asarray(rows, dtype=np.int64))
        return [value.decode() for value in self._cameras["token"][chosen].tolist()]

    def camera_channels(self, row: int) -> list[str]:
        """Names of the cameras that saw a scan, in the order of `cameras`."""
        row = self._check(row)
        of_row = self._cameras["channel"][self._camera_start[row] : self._camera_start[row + 1]]
        return [self.channels[channel] for channel in of_row.tolist()]

    def boxes(self, row: int) -> Boxes | None:
        """Annotated objects of a scan; None for sweeps and for logs without annotation."""
        if not self._frames["has_boxes"][row]:
            return None
        if self._boxes is None:
            self._boxes = read_columns(self.folder, "boxes", self.hash)
        return boxes_of(self._boxes, row, self._box_categories)

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

    def has_images(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(N, C) whether each of ``rows`` has an image of each of ``channels``."""
        has = np.zeros((len(self), len(self.channels)), np.bool_)
        has[self._cameras["frame"], self._cameras["channel"]] = True
        return has[rows]

    def images_without_pose(self) -> list[str]:
        """Tokens of images that are taken at another time than their scan, whose pose is known where theirs is not."""
        table = self._cameras
        scan_us, image_us = self.time_us[table["frame"]], table["time_us"]
        moved = (scan_us != NO_TIME) & (image_us != NO_TIME) & (scan_us != image_us)
        lacks = np.isnan(table["ego_to_world"][:, 0]) & ~np.isnan(self.ego_poses()[table["frame"], 0, 0])
        return [token.decode() for token in table["token"][moved & lacks].tolist()]

    def source(self, what: str) -> Path:
        """The file that gives the log's ``times``, ``poses`` or ``calibration``, for messages; else its root."""
        return self.root / self.sources[what] if what in self.sources else self.root

    # ---- inside -----------------------------------------------------------------------------------------------

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
        model = table["model"][i].decode()
        camera = Camera(
            token=table["token"][i].decode(),
            channel=self.channels[table["channel"][i]],
            time_us=time_of(table["time_us"][i]),
            intrinsics=table["intrinsics"][i].reshape(3, 3).copy(),
            camera_to_ego=matrix_of(table["camera_to_ego"][i]),
            ego_to_world=pose_of(table["ego_to_world"][i]),
            path=str(path),
            size=size,
            model=model,
            distortion=tuple(table["distortion"][i, : CAMERA_MODELS[model]].tolist()),
            key=table["key"][i].decode(),
            format=self.card.image_format,
        )
        return replace(camera, image=camera.read()) if image else camera


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
