"""``make_drive``: scenes, each its own shard, joined into a log in nuScenes schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..errors import InputError
from ..files.access import check_place, read_json
from ..files.writes import write_bytes, write_json
from ..progress import Progress, silent
from ..together import SPAWN, processes
from .compiled import cache_folder
from .recorder import Recorder
from .rig import CAMERAS, FIRST_S, KEY_S, SEVENTH, draw_rig, make_rig
from .scene import make_scene, scene_rng
from .schema import TABLES, VERSION, SceneTables, fixed_tables, nearest_key
from .variation import check_groups

# a file whole or not at all; the shard vouches for it, so it need not reach the disk at once
_write = partial(write_bytes, sync=False)
FORMAT = 3  # raised whenever the same settings give other bytes
LIDAR_RATES = (2, 4, 10, 20)


@dataclass(frozen=True, slots=True)
class DriveSettings:
    """What decides every byte of a drive, apart from how many scenes it has, and from how a CPU rounds brightness.

    Attributes:
        seconds: length of a scene [s]; two key frames a second.
        seed: scene k depends on (seed, k) and these settings alone.
        image_size: height, width of the images [pixel].
        lidar_hz: sweeps recorded a second, at most: one that turns more often keeps them evenly.
        jpeg_quality: 1 .. 100.
        vary: groups of what is drawn anew for each scene, see ``variation.GROUPS``.
        images: whether the cameras record; without them a drive is made several times faster.
    """

    seconds: float = 5.0
    seed: int = 0
    image_size: tuple[int, int] = (256, 448)
    lidar_hz: int = 20
    jpeg_quality: int = 90
    images: bool = True
    vary: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "vary", check_groups(self.vary))
        if not 1.0 <= self.seconds <= 60.0:
            raise InputError(
                f"seconds {self.seconds} is outside 1 .. 60; make more scenes for a longer drive"
            )
        if self.lidar_hz not in LIDAR_RATES:
            raise InputError(
                f"lidar_hz {self.lidar_hz} does not fit the key frames; choose one of {LIDAR_RATES}"
            )
        if not 0 <= self.seed < 2**31:
            raise InputError(f"seed {self.seed} is outside 0 .. 2^31 - 1; choose another")
        if min(self.image_size) < 32 or max(self.image_size) > 4096:
            raise InputError(
                f"image_size {self.image_size} is outside 32 .. 4096; choose height and width between"
            )

    @property
    def key_times(self) -> np.ndarray:
        """(K,) times of the key frames in a scene [s]: the end of a LiDAR turn."""
        return FIRST_S + KEY_S * np.arange(int(self.seconds / KEY_S))

    def sweeps_per_key(self, turn_s: float) -> int:
        """Sweeps from one key frame up to the next, the key included, of a LiDAR with turns of ``turn_s``."""
        return round(min(self.lidar_hz, 1.0 / turn_s) * KEY_S)


def make_drive(
    root: str | Path,
    *,
    scenes: int = 11,
    val_scenes: int | None = None,
    settings: DriveSettings | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> Path:
    """Write a drive in nuScenes schema under ``root`` and return that folder. Finished scenes are kept.

    Args:
        scenes: how many; the last ``val_scenes`` (a quarter, at least one) are the split "val".
        workers: processes; the files do not depend on it.
        progress: told of the key frames of all scenes.

    Raises:
        InputError: ``root`` holds a drive with other settings, or cannot be written.
    """
    settings = settings or DriveSettings()
    if scenes < 2:
        raise InputError(
            f"scenes {scenes} is too few; a drive needs at least one to train on and one to evaluate"
        )
    val_scenes = max(1, round(scenes / 4)) if val_scenes is None else val_scenes
    if not 0 < val_scenes < scenes:
        raise InputError(
            f"val_scenes {val_scenes} leaves a split of {scenes} scenes empty; choose a number between"
        )
    root = Path(root)
    shards = root / ".shards"
    _claim(root, shards, settings)
    if _shard_path(shards, scenes).exists():
        raise InputError(
            f"{root}: holds more than {scenes} scenes already; choose another folder or more scenes"
        )
    missing = [k for k in range(scenes) if not _shard_path(shards, k).exists()]
    keys = len(settings.key_times)
    if missing:
        (root / "dataset.json").unlink(missing_ok=True)  # not valid while scenes are being added
        progress("key frames", (scenes - len(missing)) * keys, scenes * keys)
    for count in _record_scenes(root, missing, settings, workers):
        progress("key frames", (scenes - len(missing)) * keys + count, scenes * keys)
    _join(root, [_read_shard(_shard_path(shards, k)) for k in range(scenes)], settings, val_scenes)
    return root


def scene_name(number: int) -> str:
    """Name of scene ``number`` (0, 1, ...)."""
    return f"scene-{number + 1:04d}"


def _shard_path(shards: Path, number: int) -> Path:
    return shards / f"{scene_name(number)}.json"


def _identity(settings: DriveSettings) -> dict[str, Any]:
    return json.loads(json.dumps({"format": FORMAT, **asdict(settings)}))


def _claim(root: Path, shards: Path, settings: DriveSettings) -> None:
    """Mark the folder as this drive's, or refuse."""
    check_place(root)
    mark = shards / "settings.json"
    if mark.exists():
        held = read_json(mark, f"delete {root} and make the drive again")
        if held != _identity(settings):
            differing = sorted(
                k for k in {*held, *_identity(settings)} if held.get(k) != _identity(settings).get(k)
            )
            raise InputError(
                f"{root}: holds a drive made with other settings ({', '.join(differing)}); "
                "choose another folder or delete this one"
            )
        return
    if root.exists() and any(root.iterdir()):
        raise InputError(f"{root}: is not empty and no synthetic drive; choose another folder")
    write_json(mark, _identity(settings), indent=None)


def _record_scenes(root: Path, numbers: list[int], settings: DriveSettings, workers: int) -> Iterator[int]:
    """Record scenes, in this process or several, and yield the number of key frames done so far."""
    if not numbers:
        return
    if workers <= 1 or len(numbers) == 1:
        done = 0
        for number in numbers:
            for _ in record_scene(root, number, settings):
                done += 1
                yield done
        return
    _warm_up(settings)  # compile once, not in every worker
    counter = SPAWN.Value("q", 0)
    total = len(numbers) * len(settings.key_times)
    with processes(min(workers, len(numbers)), _keep_counter, (counter,)) as pool:
        pending = {pool.submit(_record_in_worker, root, number, settings) for number in numbers}
        while pending:
            finished, pending = wait(pending, timeout=0.5, return_when=FIRST_EXCEPTION)
            for job in finished:
                job.result()
            yield min(counter.value, total)


_counter: Any = None


def _keep_counter(counter: Any) -> None:
    global _counter
    _counter = counter
    cv2.setNumThreads(1)


def _record_in_worker(root: Path, number: int, settings: DriveSettings) -> None:
    for _ in record_scene(root, number, settings):
        with _counter.get_lock():
            _counter.value += 1


def _warm_up(settings: DriveSettings) -> None:
    """Compile everything, into the cache that the workers read."""
    if cache_folder() is None:
        return
    recorder, rig = _make_recorder(settings, 0)
    recorder.annotations(recorder.sweep(FIRST_S), FIRST_S, settings.image_size)
    if settings.images:
        recorder.exposure(rig.cameras[0], FIRST_S, 2, 2)


def _make_recorder(settings: DriveSettings, number: int):
    scene = make_scene(settings.seed, number, settings.seconds, settings.vary)
    if "sensor" in settings.vary:
        rig = draw_rig(scene_rng(settings.seed, number, 4), *settings.image_size)
    else:
        rig = make_rig(scene_rng(settings.seed, number, 3), *settings.image_size)
    return Recorder(scene, rig, seed=settings.seed, number=number), rig


def record_scene(root: Path, number: int, settings: DriveSettings) -> Iterator[float]:
    """Write the files of one scene, then its shard of the tables; yields the time of each key frame done."""
    recorder, rig = _make_recorder(settings, number)
    start_us = 1_700_000_000_000_000 + number * 120_000_000
    name = scene_name(number)
    description = recorder.scene.description
    if "sensor" in settings.vary:
        description += (
            f"; {len(rig.lidar.elevations)} beams, {1 / rig.lidar.turn_s:.0f} Hz, {len(rig.cameras)} cameras"
        )
    tables = SceneTables(settings.seed, name, description, start_us)
    for sensor in rig.sensors if settings.images else (rig.mount,):
        tables.add_calibration(sensor.channel, sensor.sensor_to_ego, sensor.intrinsics)
    keys = settings.key_times + (rig.lidar.turn_s - FIRST_S)  # no turn starts before the scene
    sweeps = settings.sweeps_per_key(rig.lidar.turn_s)
    samples = [tables.add_sample(t) for t in keys]
    for row, t in enumerate(keys):
        _record_key(root, recorder, rig, tables, samples[row], float(t), settings)
        if row + 1 < len(keys):
            for step in range(1, sweeps):
                between = float(t) + step * KEY_S / sweeps
                sample = samples[nearest_key(keys, between)]
                data = tables.add_data(
                    "LIDAR_TOP", between, sample, recorder.ego_to_world(between), key=False
                )
                _write(root / data["filename"], recorder.sweep(between).points.tobytes())
        yield float(t)
    write_json(_shard_path(root / ".shards", number), tables.finish(), indent=None)


def _record_key(root, recorder, rig, tables, sample, t, settings) -> None:
    sweep = recorder.sweep(t)
    data = tables.add_data("LIDAR_TOP", t, sample, recorder.ego_to_world(t), key=True)
    _write(root / data["filename"], sweep.points.tobytes())
    _write(root / tables.add_labels(data, "lidarseg"), sweep.labels.tobytes())
    _write(root / tables.add_labels(data, "lidarseg_fine"), sweep.finer.tobytes())
    for found in recorder.annotations(sweep, t, settings.image_size):
        thing = recorder.scene.placed[found.placed]
        tables.add_annotation(sample, found, thing.attribute, thing.model.label)
    for sensor in rig.cameras if settings.images else ():
        when = recorder.exposure_time(sensor, t)
        image = recorder.exposure(sensor, when, *settings.image_size).image
        row = tables.add_data(
            sensor.channel, when, sample, recorder.ego_to_world(when), key=True, size=settings.image_size
        )
        quality = [cv2.IMWRITE_JPEG_QUALITY, settings.jpeg_quality]
        _write(root / row["filename"], cv2.imencode(".jpg", image[..., ::-1], quality)[1].tobytes())


def _read_shard(path: Path) -> dict[str, list[dict[str, Any]]]:
    return read_json(path, "delete it to have the scene made again")


def _join(root: Path, shards: Iterable[dict[str, list]], settings: DriveSettings, val_scenes: int) -> None:
    """Write the tables of all scenes, the map's mask and, last, dataset.json."""
    rows: dict[str, list] = {table: [] for table in TABLES}
    for shard in shards:
        for table, part in shard.items():
            rows[table] += part
    channels = {"LIDAR_TOP": "lidar"}
    if settings.images:
        every = CAMERAS | SEVENTH if "sensor" in settings.vary else CAMERAS
        channels |= dict.fromkeys(every, "camera")
    rows.update(fixed_tables(settings.seed, channels, [row["token"] for row in rows["log"]]))
    for table in TABLES:
        write_json(root / VERSION / f"{table}.json", rows[table], indent=None)
    mask = cv2.imencode(".png", np.zeros((64, 64), dtype=np.uint8))[1].tobytes()
    write_bytes(root / rows["map"][0]["filename"], mask)
    names = [row["name"] for row in rows["scene"]]
    summary = {
        "name": "synthetic",
        "real": False,
        "licence": "Apache-2.0 (generated)",
        "generator": f"superflow make-drive, format {FORMAT}",
        "version": VERSION,
        "seed": settings.seed,
        "settings": _identity(settings),
        "splits": {"train": names[:-val_scenes], "val": names[-val_scenes:]},
    }
    write_json(root / "dataset.json", summary)
