"""Stand-ins of datasets: made streets in the layout, raw ids, axes and sensor geometry of each.

FOLDER/roots/NAME       files as the set's own reader takes them; dataset.json says that they are made
FOLDER/prepared/NAME    their index

Beams and their angles are those of the set's sensor, firings a turn are fewer. Weather, places and habits of annotation
are the street's: figures on stand-ins tell whether something runs, not how good it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...datasets.card import DatasetCard, load_card
from ...errors import InputError
from ...files.access import check_place, read_json
from ...files.writes import write_json
from ...street.lidar import Lidar
from .files import Form, write_kitti_form, write_rellis, write_synth4d
from .recording import Eye, Street
from .waymo import write_waymo

SCANS = 6  # of a scene
FORMAT = 1  # raised whenever the same settings give other files
COLUMNS = 512  # firings a turn
MARK = "dataset.json"  # its place in a root says that all files are there
COPY = "fog/moderate"  # of nuScenes-C
AGAIN = "delete the folder to have it made again"

Writer = Callable[[Sequence[Street], Path, DatasetCard], None]


@dataclass(frozen=True, slots=True)
class StandIn:
    """How a set is written.

    beams_deg: elevations of its LiDAR, or of that of each scene. scenes: name -> its length in scenes; the last one is
    for evaluation. options: of its preparation.
    """

    write: Writer
    beams_deg: Sequence[NDArray[np.float64]]
    scenes: Mapping[str, int]
    eyes: Mapping[str, Eye] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def streets(self, seed: int, scans: int) -> list[Street]:
        """The scenes, each a street of its own."""
        lidars = [
            Lidar(np.deg2rad(np.sort(beams)), columns=COLUMNS, turn_s=0.1, max_range=100.0)
            for beams in self.beams_deg
        ]
        return [
            Street(name, number, seed, scans * length, lidars[number % len(lidars)], self.eyes)
            for number, (name, length) in enumerate(self.scenes.items())
        ]


# elevations [deg] of public data sheets; those of Waymo lie between its published ends, denser towards the horizon
_HDL64 = np.concatenate([np.linspace(2, -8.33, 32), np.linspace(-8.83, -24.33, 32)])
_PANDORA = np.concatenate([[7, 6, 5, 4, 3], np.linspace(2, -6, 25), np.arange(-7, -17, -1)])
_OS0, _OS1 = np.linspace(-45, 45, 64), np.linspace(-16.6, 16.6, 64)
_WAYMO = 2.4 - 20.0 * np.linspace(1, 0, 64) ** 1.5
_HDL32 = np.linspace(-30.67, 10.67, 32)

_STEREO = {"image_2": Eye((0.27, 0.06, -0.08)), "image_3": Eye((0.27, -0.47, -0.08))}
_ALL_ROUND = {
    "FRONT": Eye((0.6, 0.0, 0.3), size=(160, 240)),
    "FRONT_LEFT": Eye((0.6, 0.1, 0.3), 45.0, (160, 240)),
    "FRONT_RIGHT": Eye((0.6, -0.1, 0.3), -45.0, (160, 240)),
    "SIDE_LEFT": Eye((0.5, 0.1, 0.3), 90.0, (110, 240)),
    "SIDE_RIGHT": Eye((0.5, -0.1, 0.3), -90.0, (110, 240)),
}
_OF_KITTI = {"00": 1, "01": 1, "02": 1, "08": 1}


def _kitti_form(form: Form) -> Writer:
    return partial(write_kitti_form, form)


STAND_INS: dict[str, StandIn | None] = {  # None: of nuScenes' schema, which the street's own drives have
    "nuscenes": None,
    "semantickitti": StandIn(_kitti_form(Form(motion=True)), [_HDL64], _OF_KITTI, _STEREO),
    "waymo": StandIn(write_waymo, [_WAYMO], {f"stand_in_{number}": 1 for number in range(4)}, _ALL_ROUND),
    "scribblekitti": StandIn(_kitti_form(Form(motion=True, scribbles=True)), [_HDL64], _OF_KITTI, _STEREO),
    "rellis3d": StandIn(
        write_rellis,
        [_OS1],
        {"00000": 1, "00001": 1, "00003": 1, "00004": 1},
        {"pylon_camera_node": Eye((0.1, 0.0, -0.1), size=(150, 240))},
        {"rescale_intrinsics": True},
    ),
    "semanticposs": StandIn(_kitti_form(Form()), [_PANDORA], {"00": 1, "01": 1, "03": 1, "02": 1}),
    "semanticstf": StandIn(_kitti_form(Form(inside="", weather=True)), [_HDL64], {"train": 3, "val": 1}),
    "synlidar": StandIn(_kitti_form(Form(inside="")), [_HDL64], {"00": 1, "01": 1, "02": 1, "12": 1}),
    "daps3d": StandIn(
        _kitti_form(Form(inside="daps-1/data", points="clouds", merged=True)), [_OS0], _OF_KITTI
    ),
    "synth4d": StandIn(
        write_synth4d,
        [_HDL64, _HDL32],
        {
            f"{style}/{town}": 1
            for town in ("Town03", "Town06")
            for style in ("kitti_synth", "nuscenes_synth")
        },
    ),
    "nuscenes_c": None,
}


@dataclass(frozen=True, slots=True)
class StandInTask:
    """A stand-in that is to be made and prepared: one piece of work. scans: of a scene."""

    name: str
    folder: Path
    scans: int = SCANS

    @property
    def root(self) -> Path:
        return self.folder / "roots" / self.name

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared" / self.name

    @property
    def settings(self) -> dict[str, Any]:
        """What its files depend on."""
        return {"stand_in": self.name, "format": FORMAT, "scans": self.scans}

    def is_made(self) -> bool:
        """Whether files and index are there.

        Raises:
            InputError: the folder holds one of other settings.
        """
        return self.is_written() and (self.prepared / "index.json").is_file()

    def is_written(self) -> bool:
        """Whether its files are there; an index can be made of them."""
        mark = self.root / MARK
        held = read_json(mark, AGAIN).get("settings", {}) if mark.is_file() else {}
        if held.get("stand_in") and held != self.settings:
            raise InputError(f"{self.root}: holds a stand-in of other settings ({held}); {AGAIN}")
        # a drive that the mark does not vouch for yet has settings of its own
        return bool(held == self.settings)


def stand_in_tasks(names: Sequence[str], folder: Path, scans: int = SCANS) -> list[StandInTask]:
    """A task for each of these sets, or for ``all`` of them.

    Raises:
        InputError: one has no stand-in.
    """
    chosen = list(STAND_INS) if list(names) == ["all"] else names
    for name in chosen:
        if name not in STAND_INS:
            raise InputError(
                f"--stand-ins: there is none of {name!r}; there are {', '.join(STAND_INS)}, or all"
            )
    return [StandInTask(name, folder, scans) for name in chosen]


def make_stand_in(task: StandInTask) -> Path:
    """Write and prepare a stand-in, as far as that is not done; the folder of its index.

    Raises:
        InputError: the folder holds one of other settings.
    """
    from ...datasets.prepare import prepare

    if task.is_made():
        return task.prepared
    if not task.is_written():
        check_place(task.root)
        _write(task)
    made = STAND_INS[task.name]
    options = dict(made.options) if made else {}
    prepare(task.name, task.root, task.prepared, **options)
    return task.prepared


def _write(task: StandInTask) -> None:
    made, seed = STAND_INS[task.name], 100 + list(STAND_INS).index(task.name)
    if made is None:
        said = _write_drive(task, seed)
    else:
        card = load_card(task.name)
        made.write(made.streets(seed, task.scans), task.root, card)
        said = {}
    said |= {
        "name": f"{task.name} stand-in",  # another name than the set's: it holds none of its drives
        "real": False,
        "licence": "Apache-2.0 (generated)",
        "source": "superflow benchmark datasets --stand-ins",
        "settings": task.settings,
    }
    write_json(task.root / MARK, said)


def _write_drive(task: StandInTask, seed: int) -> dict[str, Any]:
    """A drive in nuScenes' schema; of nuScenes-C with a corrupted copy. What the drive says of itself."""
    from ...datasets.corruptions.corrupted_copy import write_copy
    from ...datasets.corruptions.models import Variant
    from ...datasets.sets.nuscenes import write_index
    from ...street.drive import DriveSettings, make_drive

    is_copy = task.name == "nuscenes_c"
    settings = DriveSettings(
        seconds=task.scans / 2, seed=seed, image_size=(128, 224), lidar_hz=2, images=not is_copy
    )
    make_drive(task.root, scenes=4, val_scenes=1, settings=settings)
    if is_copy:
        index = write_index(task.root, task.folder / "clean" / task.name)
        write_copy(index, index.rows().tolist(), Variant.parse(COPY), task.root)
    said = read_json(task.root / MARK, AGAIN)
    return {key: said[key] for key in ("splits", "version")}
