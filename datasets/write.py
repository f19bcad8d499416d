"""An index from the scans that a dataset's reader lists: one writer for every dataset."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files.access import check_place
from ..files.writes import building
from ..geometry import compose
from ..progress import Progress, silent
from .card import DatasetCard
from .columns import NO_TIME, Names, Rows, trajectory_of
from .complete import KEY_FRAMES_ONLY, POSED_ONLY, keep_frames, keep_scenes, whole_scenes
from .corruptions.copy_mark import CLEAN, variant_of
from .formats.images import image_size
from .names import check_file_names, check_picture_names
from .partial import some_scans
from .records import ScanRow
from .rigid import check_geometry
from .split_lists import join_splits
from .stated import read_stated
from .store import Columns, write_tables

_UNEVEN = 0.02  # of the scales of width and height: rounding of small images is below
PREPARING = ".preparing"  # the file that is locked while an index is written


@dataclass
class ListedLog:
    """What a dataset's reader says of a log: its scans, and what they are to be read with.

    Attributes:
        dataset: name in the table of datasets. scans: in any order, each scene's together.
        warnings: sentences for the user; a reader may add some while it lists.
        version: which of several tables of the log was read. variant: ``clean``, or the corruption of a copy.
        poses: what estimated them; "" where they are the log's own.
        sources: what is wrong in ``times``, ``poses`` or ``calibration`` stands in these files, below the root.
        scenes, channels, categories: names beyond those that occur in the scans, in the order of their codes.
        recordings: scene -> the drive of the world that it is of, where the log tells it otherwise than by the name of
            the scene; see `recordings`.
    """

    dataset: str
    card: DatasetCard
    scans: Iterable[ScanRow]
    warnings: list[str] = field(default_factory=list)
    version: str = ""
    variant: str = CLEAN
    poses: str = ""
    sources: dict[str, str] = field(default_factory=dict)
    scenes: list[str] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)
    categories: list[str] = field(default_factory=list)
    recordings: dict[str, str] = field(default_factory=dict)


def write_rows(
    root: Path,
    out: Path,
    listed: ListedLog,
    *,
    rescale_intrinsics: bool = False,
    complete_scenes: bool = False,
    key_frames_only: bool = False,
    posed_only: bool = False,
    scenes: Sequence[str] | None = None,
    limit: int | None = None,
    sweep_compensation: bool = True,
    progress: Progress = silent,
) -> str:
    """Write the index of a listed log under ``root`` into the folder ``out``, replacing an older one in one step.

    Returns its hash.

    Args:
        rescale_intrinsics: take every image's size from its file and scale the intrinsics by the ratio to the size
            that was listed: for a copy of a log whose images were made smaller.
        complete_scenes: leave out scenes of which files are missing: for a log that was downloaded in part.
        key_frames_only: leave out the sweeps between key frames: for a log that comes without their files.
        posed_only: leave out scans without a pose: for a log whose localisation begins late or was lost.
        scenes, limit: which part of the log, see `partial.some_scans`.
        sweep_compensation: bring the points of a scan to one instant while it is read, where they carry their time,
            poses are known, and the card does not say that the files have them so.

    Raises:
        InputError: nothing is listed, names or times contradict each other, a transform is not rigid; nothing is
            written.
    """
    check_place(out)
    listed = _as_marked(root, listed)
    names = Names(listed.scenes, listed.channels, listed.categories)
    is_part = scenes is not None or limit is not None
    scans = some_scans(listed.scans, scenes=scenes, limit=limit, splits=listed.card.splits)
    tables = _tables(root, listed, names, scans)
    frames, cameras = tables["frames"], tables["cameras"]
    frames["splits"], row_splits = join_splits(
        root,
        listed.card.split_files,
        frames,
        listed.warnings,
        stated=read_stated(root).get("splits", ()),
        is_part=is_part,
    )
    del frames["split"]
    held = list(names.scenes)
    _check(root, listed, frames, cameras, names)
    check_geometry(root, listed.sources, tables)
    if key_frames_only:
        keep_frames(frames["is_key"], tables)
    if posed_only:
        _keep_posed(root, tables)
    if is_part or posed_only:  # a log's own list of scenes names the others, too
        held = _keep(np.isin(np.arange(len(held)), frames["scene"]), held, tables)
    whole = whole_scenes(root, tables, len(held))
    if complete_scenes:
        held = _keep_whole(root, whole, held, tables)
    # of other images, a size that is not the stated one is refused when they are read
    unknown = (cameras["width"] <= 0) | (cameras["height"] <= 0) | rescale_intrinsics
    if unknown.any():
        listed.warnings += _sizes_from_images(
            cameras, np.flatnonzero(unknown), root, listed.card.image_format, progress
        )
        _check_sizes(root, listed.sources, frames["scene"][cameras["frame"]], cameras)
    header = _header(root, listed, names, held, row_splits, tables)
    if sweep_compensation and listed.card.time and not listed.card.compensated and _moves(frames):
        header["sweep_compensation"] = True  # of indices without, the hash stays what it was
    place = os.path.relpath(root.absolute(), out.absolute())
    with building(out, PREPARING):  # files of two indices must not take turns
        digest = write_tables(out, header, {"root": str(root.absolute()), "root_from_index": place}, tables)
    return digest


def _tables(root: Path, listed: ListedLog, names: Names, scans: Iterable[ScanRow]) -> dict[str, Columns]:
    """The columns of all scans; names that occur in them get their codes."""
    rows = Rows()
    for scan in scans:
        rows.add(scan, names)
    if not len(rows.scene):
        raise InputError(f"{root}: holds no scan of {listed.dataset}; check the log's root")
    return rows.columns(names)


def _header(
    root: Path,
    listed: ListedLog,
    names: Names,
    held: list[str],
    row_splits: Any,
    tables: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """What index.json says of the log beside its place; ``held``: its scenes."""
    frames, cameras = tables["frames"], tables["cameras"]
    header: dict[str, Any] = {
        "dataset": listed.dataset,
        "version": listed.version,
        "variant": listed.variant,
        "sources": listed.sources,
        "card": listed.card.to_dict(),
        "card_hash": listed.card.hash,
        "scenes": held,
        "row_splits": row_splits,
        "channels": list(names.channels),
        "box_categories": list(names.categories),
        "lidars": list(names.lidars),
        "warnings": listed.warnings,
        "counts": {
            "key_frames": int(frames["is_key"].sum()),
            "sweeps": int((~frames["is_key"]).sum()),
            "images": len(cameras["frame"]),
            "boxes": len(tables["boxes"]["frame"]),
        },
    }
    if listed.poses:
        header["poses"] = listed.poses
    if recordings := {**listed.recordings, **read_stated(root).get("recordings", {})}:
        header["recordings"] = {scene: recordings[scene] for scene in held if scene in recordings}
    return header


def _as_marked(root: Path, listed: ListedLog) -> ListedLog:
    """The log, of the variant that its folder is marked as."""
    variant = variant_of(root)
    if variant is None or variant == listed.variant:
        return listed
    if listed.variant != CLEAN:
        raise InputError(
            f"{root}: is marked as the corrupted copy {variant}, and holds {listed.variant}; give the folder in which "
            "both lie"
        )
    return replace(listed, variant=variant)


def _moves(frames: Columns) -> bool:
    """Whether there is a scene of which two poses are known in time."""
    scenes = np.unique(frames["scene"]).tolist()
    of = (np.flatnonzero(frames["scene"] == scene) for scene in scenes)
    return any(
        trajectory_of(frames["time_us"][rows], frames["ego_to_world"][rows]) is not None for rows in of
    )


def _keep(keep: NDArray[np.bool_], scenes: list[str], tables: dict[str, Columns]) -> list[str]:
    """Leave only some scenes in the columns; their names."""
    keep_scenes(keep, tables)
    return [scene for scene, kept in zip(scenes, keep) if kept]


def _keep_posed(root: Path, tables: dict[str, Columns]) -> None:
    """Leave only the scans that have a pose, of which there is one at least."""
    frames = tables["frames"]
    posed = ~np.isnan(frames["ego_to_world"][:, 0])
    if not posed.any():
        raise InputError(
            f"{root}: no scan has a pose; leave out {POSED_ONLY}, or have poses made of the scans with --poses kiss-icp"
        )
    keep_frames(posed, tables)


def _keep_whole(
    root: Path, whole: NDArray[np.bool_], scenes: list[str], tables: dict[str, Columns]
) -> list[str]:
    """Leave only the scenes that are whole, of which there is one at least."""
    held = _keep(whole, scenes, tables)
    if not held:
        raise InputError(
            f"{root}: no scene has all the files that its tables name; complete the download, or leave out the "
            f"sweeps with {KEY_FRAMES_ONLY} if only those are missing"
        )
    return held


def _check(root: Path, listed: ListedLog, frames: Columns, cameras: Columns, names: Names) -> None:
    """What every index relies on: names that are files and occur once, places that ascend with time."""
    tokens = [token.decode() for token in frames["token"].tolist()]
    images = [token.decode() for token in cameras["token"].tolist()]
    check_file_names(tokens, "token", root)
    check_file_names(images, "token", root)
    check_file_names(list(names.channels), "channel", root)
    check_picture_names(root, list(names.scenes), tokens, list(names.channels))
    for kind, listed_names in (("scans", tokens), ("images", images)):
        if len(set(listed_names)) < len(listed_names):
            twice = Counter(listed_names).most_common(1)[0][0]
            raise InputError(f"{root}: two {kind} have the name {twice}; list each once")
    same = np.diff(frames["scene"]) == 0
    scenes = list(names.scenes)
    for i in np.flatnonzero(same & (np.diff(frames["order"]) == 0))[:1].tolist():
        raise InputError(
            f"{root}: the scans {tokens[i]} and {tokens[i + 1]} have the same place in {scenes[frames['scene'][i]]}; "
            "number them apart, or take one away"
        )
    known = (frames["time_us"][1:] != NO_TIME) & (frames["time_us"][:-1] != NO_TIME)
    for i in np.flatnonzero(same & known & (np.diff(frames["time_us"]) <= 0))[:1].tolist():
        is_twin = frames["time_us"][i] == frames["time_us"][i + 1]
        raise InputError(
            f"{root / listed.sources.get('times', '')}: the time of the scan {tokens[i + 1]} "
            f"{'is also' if is_twin else 'lies before'} that of {tokens[i]}, which comes first in "
            f"{scenes[frames['scene'][i]]}; mend the times{', or take one of the two away' if is_twin else ''}"
        )


def _check_sizes(root: Path, sources: Mapping[str, str], scene: NDArray[np.int32], cameras: Columns) -> None:
    """Refuse images of several sizes that are said to be of one lens: its intrinsics are right for one of them.

    Args:
        scene: (K,) of each image.
    """
    sizes: dict[tuple[int, int, bytes], int] = {}
    for i in range(len(scene)):
        lens = int(scene[i]), int(cameras["channel"][i]), cameras["intrinsics"][i].tobytes()
        first = sizes.setdefault(lens, i)
        if any(cameras[side][i] != cameras[side][first] for side in ("height", "width")):
            told = (
                f"{cameras['path'][k].decode()} {cameras['height'][k]} x {cameras['width'][k]}"
                for k in (first, i)
            )
            raise InputError(
                f"{root / sources.get('calibration', '')}: has one lens for images of several sizes, {', '.join(told)} "
                "pixels; state the size that it is for and prepare with --rescale-intrinsics, or make them alike"
            )


def _sizes_from_images(
    cameras: Columns, rows: NDArray[np.int64], root: Path, format: str, progress: Progress
) -> list[str]:
    """Put the own size of each image of ``rows`` into the columns; intrinsics follow where another was listed.

    A sentence where those have other proportions than their images, which may be cut instead of resized.
    """
    total, uneven = len(rows), list[str]()
    progress("reading image sizes", 0, total)
    for done, i in enumerate(rows.tolist()):
        path, key = (cameras[name][i].decode() for name in ("path", "key"))
        height, width = image_size(root / path, format=format, key=key)
        stated_height, stated_width = cameras["height"][i], cameras["width"][i]
        if stated_width > 0 and stated_height > 0:
            # pixel (0, 0) is the centre of the first pixel, so the image starts at -0.5
            scale = np.diag([width / stated_width, height / stated_height, 1.0])
            if abs(scale[0, 0] / scale[1, 1] - 1) > _UNEVEN:
                uneven.append(f"{path} {width} x {height} for {stated_width} x {stated_height}")
            scale[:2, 2] = (np.diag(scale)[:2] - 1) / 2
            cameras["intrinsics"][i] = compose(scale, cameras["intrinsics"][i].reshape(3, 3)).reshape(-1)
        cameras["height"][i], cameras["width"][i] = height, width
        if done % 100 == 0 or done + 1 == total:
            progress("reading image sizes", done + 1, total)
    return [
        f"{root}: {len(uneven)} images have other proportions than their intrinsics (first: {one} pixels), which "
        "follow as if they were resized; of images that were cut, state the intrinsics of the cut ones"
        for one in uneven[:1]
    ]
