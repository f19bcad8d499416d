"""Stand-ins in folders of single files: KITTI's form, RELLIS-3D's and Synth4D's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...datasets.card import DatasetCard
from ...files.writes import write_atomically, write_bytes
from ...geometry import invert, to_quaternion, transform_points
from .recording import Street, Taken
from .words import raw_ids

# the mark of the whole set vouches for a file, so it need not reach the disk at once
_write = partial(write_bytes, sync=False)
_NUMBERS = {"u1": np.uint8, "u4": np.uint32, "i4": np.int32, "npy": np.int32}  # of label files
_SCRIBBLED = 0.08  # share of the points that a scribble reaches
_WEATHER = ("snow", "rain", "dense_fog", "light_fog")


@dataclass(frozen=True, slots=True)
class Form:
    """How a set of KITTI's kind differs.

    inside: of the folders of scenes. motion: with times, poses and calibration. scribbles: all scenes but those of
    ``val`` have a few labels. merged: see `words.raw_ids`. weather: VAL/VAL.txt names that of each scan.
    """

    inside: str = "sequences"
    points: str = "velodyne"
    motion: bool = False
    scribbles: bool = False
    merged: bool = False
    weather: bool = False


def write_kitti_form(form: Form, streets: Sequence[Street], root: Path, card: DatasetCard) -> None:
    """SCENE/velodyne, SCENE/labels and what else the form has."""
    ids = raw_ids(card, merged=form.merged)
    for street in streets:
        folder = root / form.inside / street.name
        sparse = form.scribbles and street.name not in card.splits["val"]
        labels = "scribbles" if sparse else "labels"
        rng = np.random.default_rng([street.seed, street.number, 1])
        poses, times = [], []
        for scan in street.taken():
            stem = f"{scan.number:06d}"
            numbers = ids[scan.finer]
            if sparse:
                numbers = np.where(rng.random(len(numbers)) < _SCRIBBLED, numbers, 0)
            _write(folder / form.points / f"{stem}.bin", point_rows(card, scan).tobytes())
            _write(folder / labels / f"{stem}.label", label_bytes(card, numbers))
            for channel, image in scan.images.items():
                _write_image(folder / channel / f"{stem}.png", image)
            poses.append(scan.lidar_to_world)
            times.append(f"{(scan.time_us - street.start_us) * 1e-6:.6f}")
        if form.motion:
            _write_lines(folder / "times.txt", times)
            _write_motion(folder, street, poses)
        if form.weather:
            lines = [f"{number:06d},{_WEATHER[number % len(_WEATHER)]}" for number in range(street.scans)]
            _write_lines(folder / f"{street.name}.txt", lines)


def _write_motion(folder: Path, street: Street, poses: Sequence[NDArray[np.float64]]) -> None:
    """calib.txt and poses.txt: the first camera is the reference, the world is that of its first frame."""
    eyes = list(street.eyes.values())
    to_camera = invert(eyes[0].camera_to_lidar)
    lines = []
    for number, eye in enumerate(eyes, start=2):  # P2 and P3 are the colour cameras
        beside = invert(eye.camera_to_lidar) @ invert(to_camera)
        lines.append(f"P{number}: {_numbers(eye.intrinsics @ beside[:3])}")
    _write_lines(folder / "calib.txt", [*lines, f"Tr: {_numbers(to_camera[:3])}"])
    start = invert(poses[0])
    in_camera = [to_camera @ start @ pose @ invert(to_camera) for pose in poses]
    _write_lines(folder / "poses.txt", [_numbers(pose[:3]) for pose in in_camera])


def write_rellis(streets: Sequence[Street], root: Path, card: DatasetCard) -> None:
    """RELLIS-3D: organised clouds, of which the rays without return are zeros, and one camera."""
    from ...datasets.sets.rellis3d import CAMERA, IMAGE_SIZE, LABELS, POINTS

    ids = raw_ids(card)
    listed: dict[str, list[str]] = {"train": [], "val": []}
    for street in streets:
        folder, eye = root / street.name, street.eyes[CAMERA]
        rng = np.random.default_rng([street.seed, street.number, 1])
        rays = len(street.lidar.elevations) * street.lidar.columns
        poses, times = [], []
        for scan in street.taken():
            stem = f"{scan.number:06d}"
            place = np.sort(rng.permutation(rays)[: len(scan.xyz)])
            rows, numbers = np.zeros((rays, len(card.columns)), "<f4"), np.zeros(rays, np.uint32)
            rows[place], numbers[place] = point_rows(card, scan), ids[scan.finer]
            _write(folder / POINTS / f"{stem}.bin", rows.tobytes())
            _write(folder / LABELS / f"{stem}.label", label_bytes(card, numbers))
            seconds, rest = divmod(scan.time_us, 1_000_000)
            _write_image(
                folder / CAMERA / f"frame{stem}-{seconds}_{rest // 1000:03d}.jpg", scan.images[CAMERA]
            )
            poses.append(_numbers((scan.lidar_to_world @ card.file_to_lidar)[:3]))
            times.append(f"{scan.time_us * 1e-6:.6f}")
            part = "train" if street is not streets[-1] else "val"
            listed[part].append(f"{street.name}/{POINTS}/{stem}.bin {street.name}/{LABELS}/{stem}.label")
        _write_lines(folder / "poses.txt", poses)
        _write_lines(folder / "times.txt", times)
        grown = IMAGE_SIZE[1] / eye.size[1]  # camera_info.txt is of the published size
        _write_camera(folder, eye.intrinsics, invert(card.file_to_lidar) @ eye.camera_to_lidar, grown)
    for part, lines in listed.items():
        _write_lines(root / f"pt_{part}.lst", lines)


def _write_camera(folder: Path, k: NDArray[np.float64], pose: NDArray[np.float64], grown: float) -> None:
    """camera_info.txt of images that are so many times as large, and transforms.yaml."""
    center = [(value + 0.5) * grown - 0.5 for value in k[:2, 2]]
    lens = np.array([k[0, 0] * grown, k[1, 1] * grown, *center])
    _write_lines(folder / "camera_info.txt", [_numbers(lens)])
    text = [f"    {name}: {float(value)!r}" for name, value in zip("wxyz", to_quaternion(pose))]
    shift = [f"    {name}: {float(value)!r}" for name, value in zip("xyz", pose[:3, 3])]
    _write_lines(
        folder / "transforms.yaml", ["os1_cloud_node-pylon_camera_node:", "  q:", *text, "  t:", *shift]
    )


def write_synth4d(streets: Sequence[Street], root: Path, card: DatasetCard) -> None:
    """Synth4D: arrays of NumPy, of two sensors, with our text files in place of the pickled splits."""
    ids = raw_ids(card)
    listed: dict[str, list[str]] = {"training_split": [], "validation_split": []}
    for street in streets:
        for scan in street.taken():
            path = f"{street.name}/velodyne/{scan.number:06d}.npy"
            _write_array(root / path, point_rows(card, scan))
            _write_array(
                root / street.name / "labels" / f"{scan.number:06d}.npy", ids[scan.finer].astype(np.int32)
            )
            listed["training_split" if street is not streets[-1] else "validation_split"].append(path)
    for name, lines in listed.items():
        _write_lines(root / f"{name}.txt", lines)


def point_rows(card: DatasetCard, scan: Taken) -> NDArray[np.float32]:
    """(N, C) in the columns, axes and units of the set."""
    own = transform_points(invert(card.file_to_lidar), scan.xyz)
    known = {"x": own[:, 0], "y": own[:, 1], "z": own[:, 2], "channel": scan.ring, "ring": scan.ring}
    known["intensity"] = scan.intensity * card.intensity_max
    return np.stack([known[name] for name in card.columns], axis=1).astype("<f4")


def label_bytes(card: DatasetCard, numbers: NDArray[np.integer]) -> bytes:
    """The label file of these numbers."""
    return numbers.astype(np.dtype(_NUMBERS[card.labels["format"]]).newbyteorder("<")).tobytes()


def _numbers(values: NDArray[np.float64]) -> str:
    return " ".join(f"{value:.9g}" for value in values.ravel().tolist())


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    """A file of lines of text, whole or not at all."""
    _write(path, "".join(f"{line}\n" for line in lines).encode())


def _write_image(path: Path, image: NDArray[np.uint8]) -> None:
    """The same of an RGB image, in the format of the file's ending."""
    _write(path, cv2.imencode(path.suffix, image[..., ::-1])[1].tobytes())


def _write_array(path: Path, values: NDArray[np.generic]) -> None:
    with write_atomically(path, sync=False) as file:
        np.save(file, values)
