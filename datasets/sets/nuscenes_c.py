"""nuScenes-C (Robo3D): corrupted copies of the scans of nuScenes' validation scenes, under the tables of nuScenes.

One index holds one copy, which is its variant: no scan of it is ever filed as clean. Points and labels are the copy's
own; corruptions add, drop and reorder points, so that clean labels never belong to them. Images, poses and boxes are
nuScenes'.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from ...errors import InputError, MissingFileError
from ...files.access import file_names, folder_names
from ...progress import Progress, silent
from ..card import DatasetCard, load_card
from ..catalogue import expected_tree
from ..corruptions.models import CORRECTED
from ..records import Place, ScanRow
from ..write import ListedLog
from . import nuscenes

SCANS = "samples/LIDAR_TOP"
SNOW_COLUMN = "snow"  # in place of the ring: 0 untouched, 1 attenuated, 2 a flake


def open_log(
    root: Path,
    card: DatasetCard | None = None,
    *,
    version: str | None = None,
    variant: str | None = None,
    progress: Progress = silent,
) -> ListedLog:
    """The scans of one copy.

    Args:
        card, version: as in `nuscenes.open_log`.
        variant: folder of the copy, CORRUPTION/LEVEL; None takes the only one.

    Raises:
        InputError: there is no such copy, or none of its scans is in the tables; whatever `nuscenes.open_log` raises.
    """
    variant = _choose(root, variant)
    own = load_card("nuscenes_c") if card is None else card
    log = nuscenes.open_log(root, own, version=version, progress=progress)
    # those of nuScenes' tables, and what corruptions add
    categories = {**own.categories, **log.card.categories}
    columns = log.card.columns
    if variant.startswith("snow"):
        columns = tuple(SNOW_COLUMN if name == "ring" else name for name in columns)
    return replace(
        log,
        dataset="nuscenes_c",
        variant=variant,
        card=replace(log.card, categories=categories, columns=columns),
        scans=_corrupted(log.scans, root, variant, log.version, log.warnings),
    )


def _choose(root: Path, variant: str | None) -> str:
    found = list(_variants(root))
    if variant is None and len(found) == 1:
        return found[0]
    if not found:
        raise MissingFileError(
            f"{root}: holds no scan of nuscenes_c; give the folder that does with --root\n"
            + expected_tree("nuscenes_c", root)
        )
    if variant not in found:
        asked = "holds several copies" if variant is None else f"holds no copy {variant!r}"
        raise InputError(f"{root}: {asked}; choose one with --variant: {', '.join(found)}")
    return variant


def _variants(root: Path) -> Iterator[str]:
    """The copies below a root: CORRUPTION/LEVEL, sorted."""
    for corruption in folder_names(root):
        for level in folder_names(root / corruption):
            for name in (f"{corruption}/{level}", f"{corruption}/{level}/{CORRECTED}"):
                if (root / name / SCANS).is_dir():
                    yield name


def _corrupted(
    scans: Iterable[ScanRow], root: Path, variant: str, version: str, warnings: list[str]
) -> Iterator[ScanRow]:
    """The scans of the tables that the copy has, with its files."""
    there = set(file_names(root / variant / SCANS))
    folders = root / variant / "lidarseg"
    labels = {
        name.removesuffix("_lidarseg.bin"): f"{variant}/lidarseg/{folder}/{name}"
        for folder in folder_names(folders)
        for name in file_names(folders / folder)
    }
    count = unlabelled = 0
    for scan in scans:
        name = scan.points.path.rpartition("/")[2]
        if not scan.is_key or name not in there:
            continue
        label = labels.get(scan.token)
        unlabelled += label is None
        count += 1
        yield replace(
            scan,
            points=Place(f"{variant}/{SCANS}/{name}"),
            labels=Place(label) if label else None,
            instances=None,
        )
    if not count:
        raise InputError(
            f"{root / variant / SCANS}: none of its {len(there)} files is a key frame of the tables in {version}; take "
            "the tables of nuScenes trainval, whose validation scenes these are"
        )
    if count < len(there):
        warnings.append(
            f"{variant}: {len(there) - count} of {len(there)} files are no key frame of the tables"
        )
    if unlabelled:
        warnings.append(
            f"{variant}: {unlabelled} of {count} scans have no labels of their own; they go without"
        )
