"""How long the index of a log like nuScenes takes: made tables in its proportions, whose files are not there."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ...datasets.prepare import prepare
from ...datasets.sets.nuscenes.tables import read_rows
from .options import Options, Table, spread
from .turns import in_turn

VERSION = "v1.0-trainval"
WHOLE = 850  # scenes of nuScenes-trainval
SAMPLES, OBJECTS, BOXES = 40, 60, 35  # a scene, a scene, a sample
# channel prefix, how many, modality, recordings a second
SENSORS = (("LIDAR_TOP", 1, "lidar", 20), ("CAM_", 6, "camera", 12), ("RADAR_", 5, "radar", 13))
LARGE = ("sample_data", "ego_pose", "sample_annotation")
IMAGE = (900, 1600)  # height, width
Rows = list[dict[str, Any]]


def measure(options: Options) -> list[Table]:
    """CPU seconds to index ``options.scenes`` scenes, and to decode their large tables alone."""
    with TemporaryDirectory(prefix="superflow_tables_") as folder:
        root = Path(folder) / "log"
        counts = write_tables(root, options.scenes)
        works = {
            "the index": lambda: prepare("nuscenes", root, Path(folder) / "index", version=VERSION),
            "rows of the large tables decoded, no more": lambda: [
                sum(1 for _ in read_rows(root / VERSION / f"{name}.json")) for name in LARGE
            ],
        }
        turns = in_turn(works, rounds=options.rounds, clock=options.clock)
    lines = [
        [
            name,
            f"{turns.median(name):.2f}",
            spread(took),
            f"{turns.median(name) * WHOLE / options.scenes:.0f}",
        ]
        for name, took in turns.seconds.items()
    ]
    sizes = ", ".join(f"{counts[name]:,} of {name}" for name in LARGE)
    return [
        Table(
            f"Index of {options.scenes} scenes in the proportions of nuScenes",
            ("what", "s", "from, to", f"times {WHOLE} / {options.scenes} scenes"),
            lines,
            [f"Rows: {sizes}.", turns.conditions()],
            {**turns.record(), "rows": counts},
        )
    ]


def write_tables(root: Path, scenes: int) -> dict[str, int]:
    """Tables of ``scenes`` scenes under ``root``; how many rows each has."""
    made = _Made()
    for number in range(scenes):
        made.add_scene(number)
    folder = root / VERSION
    folder.mkdir(parents=True)
    for name, rows in made.tables.items():
        (folder / f"{name}.json").write_text(json.dumps(rows, indent=0))
    return {name: len(rows) for name, rows in made.tables.items()}


class _Made:
    """The tables, by name, as they grow scene by scene."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        channels = [
            (f"{prefix}{number}" if count > 1 else prefix, modality, hz)
            for prefix, count, modality, hz in SENSORS
            for number in range(count)
        ]
        self._sensors = [(self._token(), channel, modality, hz) for channel, modality, hz in channels]
        names = ("vehicle.car", "human.pedestrian.adult", "flat.driveable_surface")
        self.tables: dict[str, Rows] = {
            "sensor": [{"token": t, "channel": c, "modality": m} for t, c, m, _ in self._sensors],
            "category": [{"token": self._token(), "name": n, "index": i} for i, n in enumerate(names, 1)],
            "log": [{"token": self._token(), "logfile": "n001-2020-01-02-03-04-05+0000"}],
            **{name: [] for name in ("scene", "sample", "instance", "calibrated_sensor", *LARGE)},
        }

    def add_scene(self, number: int) -> None:
        """A scene of 20 s: its samples, boxes and recordings."""
        start, scene = 1_500_000_000_000_000 + number * 10**8, self._token()
        samples = [self._token() for _ in range(SAMPLES)]
        log = self.tables["log"][0]["token"]
        self._add(
            "scene", token=scene, name=f"scene-{number:04d}", log_token=log, first_sample_token=samples[0]
        )
        for place, token in enumerate(samples):
            time = start + place * 500_000
            self._add("sample", token=token, timestamp=time, scene_token=scene, **_links(samples, place))
        categories = [row["token"] for row in self.tables["category"]]
        objects = [self._token() for _ in range(OBJECTS)]
        for place, token in enumerate(objects):
            self._add("instance", token=token, category_token=categories[place % len(categories)])
        for sample in samples:
            for token in objects[:BOXES]:
                self._add_box(sample, token)
        for sensor in self._sensors:
            self._add_recordings(sensor, start, samples)

    def _add_box(self, sample: str, track: str) -> None:
        self._add(
            "sample_annotation",
            token=self._token(),
            sample_token=sample,
            instance_token=track,
            visibility_token="4",
            attribute_tokens=[],
            translation=self._position(),
            size=self._position(),
            rotation=self._rotation(),
            prev="",
            next="",
            num_lidar_pts=1,
            num_radar_pts=0,
        )

    def _add_recordings(self, sensor: tuple[str, str, str, int], start: int, samples: list[str]) -> None:
        of, channel, modality, hz = sensor
        camera, calibration = modality == "camera", self._token()
        matrix = [[1266.4, 0.0, 816.2], [0.0, 1266.4, 491.5], [0.0, 0.0, 1.0]] if camera else []
        place_of = {"translation": self._position(), "rotation": self._rotation()}
        self._add(
            "calibrated_sensor", token=calibration, sensor_token=of, camera_intrinsic=matrix, **place_of
        )
        tokens = [self._token() for _ in range(hz * (SAMPLES - 1) // 2 + 1)]
        keys = {round(place * hz / 2) for place in range(SAMPLES)}
        ending = "jpg" if camera else "pcd.bin"
        for place, token in enumerate(tokens):
            time, pose = start + place * 1_000_000 // hz, self._token()
            self._add(
                "ego_pose",
                token=pose,
                timestamp=time,
                rotation=self._rotation(),
                translation=self._position(),
            )
            kind = "samples" if place in keys else "sweeps"
            self._add(
                "sample_data",
                token=token,
                sample_token=samples[min(-(-2 * place // hz), SAMPLES - 1)],
                ego_pose_token=pose,
                calibrated_sensor_token=calibration,
                timestamp=time,
                fileformat="jpg" if camera else "pcd",
                is_key_frame=place in keys,
                height=IMAGE[0] if camera else 0,
                width=IMAGE[1] if camera else 0,
                filename=f"{kind}/{channel}/n015-2018-07-24-11-22-45+0800__{channel}__{time}.{ending}",
                **_links(tokens, place),
            )

    def _add(self, table: str, **row: Any) -> None:
        self.tables[table].append(row)

    def _token(self) -> str:
        return self._rng.bytes(16).hex()

    def _position(self) -> list[float]:
        return self._rng.uniform(0.1, 2000, 3).tolist()

    def _rotation(self) -> list[float]:
        numbers = self._rng.normal(size=4)
        return (numbers / np.linalg.norm(numbers)).tolist()


def _links(tokens: list[str], place: int) -> dict[str, str]:
    """Who is before and after a token in its chain."""
    return {
        "prev": tokens[place - 1] if place else "",
        "next": tokens[place + 1] if place + 1 < len(tokens) else "",
    }
