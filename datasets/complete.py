"""Logs that were downloaded in part: which scenes are whole, and an index of only those."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..files.access import reading
from .store import Columns

logger = logging.getLogger(__name__)

KEY_FRAMES_ONLY = "--key-frames-only"
POSED_ONLY = "--posed-only"


def whole_scenes(root: Path, tables: Mapping[str, Columns], scenes: int) -> NDArray[np.bool_]:
    """(S,) True for scenes of which every file is there; tells the user of missing ones."""
    folders: dict[bytes, set[bytes]] = {}

    def is_missing(path: bytes) -> bool:
        folder, name = os.path.split(path)
        # one listing a folder: half a million single look-ups are slow on network disks
        if folder not in folders:
            folders[folder] = _names_in(os.path.join(os.fsencode(root), folder))
        return name not in folders[folder]

    frames, cameras, lidars = (tables[name] for name in ("frames", "cameras", "lidars"))
    whole = np.ones(scenes, dtype=bool)
    missing, of_key_frames = 0, 0
    for paths, frame in (
        (frames["path"], np.arange(len(frames["scene"]))),
        (frames["label_path"], np.arange(len(frames["scene"]))),
        (cameras["path"], cameras["frame"]),
        (lidars["path"], lidars["frame"]),
        (lidars["label_path"], lidars["frame"]),
    ):
        absent = frame[[bool(path) and is_missing(path) for path in paths.tolist()]]
        missing += len(absent)
        of_key_frames += int(frames["is_key"][absent].sum())
        whole[frames["scene"][absent]] = False
    if missing:
        logger.warning(
            "%s: %d files that the tables name are missing, of %d of %d scenes; complete the download, or index %s",
            *(root, missing, int((~whole).sum()), scenes, _rest(missing, of_key_frames)),
        )
    return whole


def _rest(missing: int, of_key_frames: int) -> str:
    """What can be indexed of a log that lacks files, in words with the option for it."""
    if not of_key_frames:
        return f"what is there with {KEY_FRAMES_ONLY} and train with sweeps=0: all of them are sweeps"
    others = (
        ""
        if of_key_frames == missing
        else f" ({missing - of_key_frames} of them are sweeps: {KEY_FRAMES_ONLY})"
    )
    return f"the other scenes with --complete-scenes{others}"


def _names_in(folder: bytes) -> set[bytes]:
    """Names of the files in a folder; none where there is no such folder.

    Raises:
        InputError: it is there and cannot be listed, which is not what a download that is not finished looks like.
    """
    with reading(os.fsdecode(folder)):
        try:
            return set(os.listdir(folder))
        except (FileNotFoundError, NotADirectoryError):
            return set()


def keep_scenes(keep: NDArray[np.bool_], tables: Mapping[str, Columns]) -> None:
    """Leave only the scenes where ``keep`` (S,) is true in the columns, and renumber scenes and frames."""
    frames = tables["frames"]
    keep_frames(keep[frames["scene"]], tables)
    frames["scene"] = (np.cumsum(keep) - 1)[frames["scene"]].astype(np.int32)


def keep_frames(rows: NDArray[np.bool_], tables: Mapping[str, Columns]) -> None:
    """Leave only the scans where ``rows`` (R,) is true in the columns, and renumber them."""
    new_row = np.cumsum(rows) - 1
    for name, table in tables.items():
        if name == "frames":
            table.update({key: column[rows] for key, column in table.items()})
            continue
        kept = rows[table["frame"]]
        table.update({key: column[kept] for key, column in table.items()})
        table["frame"] = new_row[table["frame"]]
