"""The datasets that can be prepared: a name, and the module that lists its scans.

A module has ``scans(root, card, report) -> Iterator[ScanRow]`` and a card of the same name; ``SOURCES`` may say which
files give times, poses and calibration. One whose logs say themselves what they are has ``open_log`` instead.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, MissingFileError
from ..files.access import no_folder
from ..progress import Progress, silent

if TYPE_CHECKING:  # the table of names must not wait for numpy
    from .card import DatasetCard
    from .index import LogIndex
    from .records import ScanRow
    from .write import ListedLog

SETS = (
    *("nuscenes", "semantickitti", "scribblekitti", "semanticposs", "semanticstf", "synlidar", "daps3d"),
    *("kitti_raw", "rellis3d", "argoverse2", "synth4d", "nuscenes_c", "waymo", "pandaset_raw"),
)
OWN_LOGS = ("folder", "ros")
DATASETS = {
    **{name: f"superflow.datasets.sets.{name}" for name in SETS},
    **{name: f"superflow.datasets.own_logs.{name}" for name in OWN_LOGS},
}
_TOLD = 10  # warnings that are logged; index.json has all
log = logging.getLogger(__name__)

_CHOICES = {
    "version": "tables of a log in nuScenes schema",
    "variant": "one of several corrupted copies",
    "layout": "the folder.yaml of an own log that lies elsewhere",
    "label_set": "classes of a card",
    "bags": "some of the bags",
    "topics": "topics of a bag",
    "typestore": "types of messages of a bag",
}


def prepare(
    name: str,
    root: str | Path,
    out: str | Path,
    *,
    card: DatasetCard | None = None,
    label_set: str = "",
    poses: str | None = None,
    progress: Progress = silent,
    **options: Any,
) -> LogIndex:
    """Index the log of the dataset ``name`` under ``root`` into the folder ``out``, replacing an older index there.

    Args:
        card: what is known about the dataset instead of what the packaged card says; ``dataset.json`` in the root
            overrules both.
        label_set: which of the card's label sets makes the classes; "" takes its ``classes``.
        poses: one of `odometry.ESTIMATORS`, which makes them out of the scans; None takes those of the log.
        options: of `write.write_rows`, and what is chosen of a log: ``version`` (which tables of one in nuScenes
            schema), ``variant`` (which of several corrupted copies), ``layout`` (the ``folder.yaml`` of a folder),
            ``bags``, ``topics`` and ``typestore`` (which of ROS bags, and of which release their messages are).

    What the log goes without is logged as warnings, which the index keeps.

    Raises:
        InputError: there is no such dataset, or its files are not as they must be; nothing is written.
    """
    from ..files.writes import building
    from .card_keys import nearest_name
    from .index import LogIndex
    from .stated import read_stated
    from .write import PREPARING, write_rows

    if name not in DATASETS:
        raise InputError(f"{name}: no dataset has this name; {nearest_name(name, DATASETS)}")
    root, out = Path(root), Path(out)
    if not root.is_dir():
        raise MissingFileError(f"{root}: {no_folder(root)}; give the folder of the data with --root")
    if label_set and card:
        raise InputError("--label-set chooses classes of a packaged card; a --card has its own")
    chosen = {key: value for key in _CHOICES if (value := options.pop(key, None))}
    listed = _listed(name, root, card, label_set, chosen, progress)
    if poses:
        from .odometry import with_estimated_poses

        listed = with_estimated_poses(root, listed, poses, progress=progress)
    digest = write_rows(root, out, listed, progress=progress, **options)
    with building(out, PREPARING):  # while another one writes, nothing is whole
        index = LogIndex.open(out, root=root)
    if index.hash != digest:
        raise InputError(
            f"{out}: another process has prepared a log here at the same time; give each a folder of its own"
        )
    is_part = any(options.get(key) is not None for key in ("scenes", "limit"))
    _tell(index, states_splits=name in OWN_LOGS or "splits" in read_stated(root), is_part=is_part)
    return index


def _tell(index: LogIndex, *, states_splits: bool, is_part: bool) -> None:
    """Log what the log goes without; its own splits are held against it where all of it was prepared."""
    from .lacks import shared_scans, slips_of_splits, some_lack

    slips = slips_of_splits(index) if states_splits and not is_part else ()
    for warning in (*index.warnings[:_TOLD], *some_lack(index), *slips, *shared_scans(index)):
        log.warning("%s", warning)
    if len(index.warnings) > _TOLD:
        log.warning(
            "... and %d more warnings, in %s", len(index.warnings) - _TOLD, index.folder / "index.json"
        )


def _listed(
    name: str,
    root: Path,
    card: DatasetCard | None,
    label_set: str,
    chosen: dict[str, Any],
    progress: Progress,
) -> ListedLog:
    """The log by its dataset's own ``open_log``, which takes what is ``chosen``; else by its ``scans`` and the card."""
    from .card import load_card
    from .stated import overruled, read_stated, stated_card
    from .write import ListedLog

    module = import_module(DATASETS[name])
    opener = getattr(module, "open_log", None)
    if label_set and opener is not None:
        chosen = {**chosen, "label_set": label_set}
    for key in chosen:
        if opener is None or key not in signature(opener).parameters:
            option = key.replace("_", "-")
            raise InputError(f"--{option} chooses {_CHOICES[key]}; {name} has none, leave it out")
    if opener is not None:
        opened: ListedLog = opener(root, card, progress=progress, **chosen)
        return opened
    stated = read_stated(root)
    card = card or stated_card(root, stated, label_set=label_set) or load_card(name, label_set=label_set)
    card = overruled(card, root, stated)
    warnings: list[str] = []
    return ListedLog(
        dataset=name,
        card=card,
        scans=_some(module.scans(root, card, warnings), name, root),
        warnings=warnings,
        sources=getattr(module, "SOURCES", {}),
    )


def _some(scans: Iterable[ScanRow], name: str, root: Path) -> Iterator[ScanRow]:
    """The scans; that there are none is an error that shows which folders are expected."""
    found = False
    for scan in scans:
        found = True
        yield scan
    if not found:
        from .catalogue import expected_tree

        raise MissingFileError(
            f"{root}: holds no scan of {name}; give the folder that does with --root\n{expected_tree(name, root)}"
        )
