"""Datasets in folders of the KITTI kind: SEQUENCE/velodyne/NAME.bin with labels of the same name beside them.

What differs between them is a `Layout`; their files in this room hold little else. Ego and LiDAR frame are the same.
An image belongs to the scan of its name; the camera is triggered when the scanner faces forward, and the scan is
brought to that instant, so both have one pose.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.access import file_names, folder_names, read_text
from ...geometry import Transform, compose, invert, matrix_of
from ..card import DatasetCard
from ..formats.transforms import check_rigid
from ..names import in_number_order
from ..records import APART, CameraRow, Place, ScanRow
from ..split_lists import tell_strangers

_COUNTED = re.compile(r"[0-9]{6}")  # names of scans to which lines of text files belong
_LARGEST = 1e12  # of metres and seconds: as in `kinds`, and microseconds of it are int64
MOTION = {
    "times": "sequences/SS/times.txt",
    "poses": "sequences/SS/poses.txt",
    "calibration": "sequences/SS/calib.txt",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a dataset of this kind keeps what belongs to a sequence.

    Attributes:
        folders: which folders below the root hold sequences -> what stands before the name of each of those in that of
            its scene. Of those with the same word, the first that is there is read.
        points, labels: folder of a sequence.
        labels_of: split of the card -> folder of the labels of its sequences, where that is another one.
        cameras: folder of images -> the row of calib.txt that projects on them.
        motion: whether there may be times.txt, poses.txt and calib.txt.
        ordered: False where scans that follow each other in a folder are no neighbours in time.
        lists: text file of a sequence with NAME,WORD a line: the split ``SEQUENCE_WORD`` has these scans.
        first: sequence -> number of the scan that the first line of its text files is of, where that is not 0.
    """

    folders: Mapping[str, str] = field(default_factory=lambda: {"sequences": "", "dataset/sequences": ""})
    points: str = "velodyne"
    labels: str = "labels"
    labels_of: Mapping[str, str] = field(default_factory=dict)
    cameras: Mapping[str, str] = field(default_factory=dict)
    motion: bool = True
    ordered: bool = True
    lists: str = ""
    first: Mapping[str, int] = field(default_factory=dict)


def sequences(layout: Layout, root: Path, card: DatasetCard, report: list[str]) -> Iterator[ScanRow]:
    """Every scan of every sequence below ``root``."""
    holes: list[str] = []
    count = 0
    for inside, before in _folders(layout, root):
        for name in _sequences(root / inside, layout.points):
            reader = _Sequence(layout, card, root, f"{inside}/{name}".lstrip("/"), before + name, report)
            rows = list(reader.rows())
            if layout.ordered and any(after.order - row.order > 1 for row, after in pairwise(rows)):
                holes.append(before + name)
            count += 1
            yield from rows
    if holes:
        report.append(
            f"the numbers of the scans have gaps in {len(holes)} of {count} sequences (first: {holes[0]}); scans "
            "on both sides of one are no neighbours"
        )


def _folders(layout: Layout, root: Path) -> Iterator[tuple[str, str]]:
    read: set[str] = set()
    for inside, before in layout.folders.items():
        if before not in read and _sequences(root / inside, layout.points):
            read.add(before)
            yield inside, before


def _sequences(folder: Path, points: str) -> list[str]:
    """Names of the folders that hold a folder of points, ascending."""
    return folder_names(folder, points)


@dataclass
class _Sequence:
    layout: Layout
    card: DatasetCard
    root: Path
    inside: str
    scene: str
    report: list[str]

    def rows(self) -> Iterator[ScanRow]:
        layout, inside = self.layout, self.inside
        folder = self.root / inside
        names = stems(folder / layout.points, ".bin")
        if layout.motion:  # lines of text files are found by number
            names = counted(names, _COUNTED, folder / layout.points, self.report)
        scans = _in_order(names, layout)
        label_folder = self._label_folder()
        labelled = set(stems(folder / label_folder, ".label"))
        images = {channel: set(stems(folder / channel, ".png")) for channel in layout.cameras}
        first = self._first_line(scans)
        cameras, times, poses = self._motion(list(scans.values()), first, any(images.values()))
        words = self._words(scans)
        for stem, order in scans.items():
            time_us = None if times is None else round(float(times[order - first, 0]) * 1e6)
            pose = None if poses is None else _lidar_pose(poses[order - first], cameras["Tr"])
            labels = Place(f"{inside}/{label_folder}/{stem}.label") if stem in labelled else None
            token = f"{self.scene}_{stem}"
            yield ScanRow(
                scene=self.scene,
                token=token,
                order=order,
                points=Place(f"{inside}/{layout.points}/{stem}.bin"),
                lidar_to_ego=np.eye(4),
                labels=labels,
                instances=labels if self.card.instances else None,
                time_us=time_us,
                ego_to_world=pose,
                split=words.get(stem, ""),
                cameras=tuple(
                    CameraRow(
                        channel=channel,
                        token=f"{token}_{channel}",
                        image=Place(f"{inside}/{channel}/{stem}.png"),
                        intrinsics=cameras[row][:, :3],
                        camera_to_ego=_camera_to_lidar(folder / "calib.txt", cameras[row], cameras["Tr"]),
                        time_us=time_us,
                        ego_to_world=pose,
                    )
                    for channel, row in layout.cameras.items()
                    if stem in images[channel]
                ),
            )

    def _label_folder(self) -> str:
        """Which labels the sequence has: never full ones where the dataset gives it sparse ones."""
        for split, folder in self.layout.labels_of.items():
            if self.scene in self.card.splits.get(split, ()):
                own = folder
                break
        else:
            own = self.layout.labels
        if self.layout.labels_of and not (self.root / self.inside / own).is_dir():
            self.report.append(f"{self.root / self.inside / own}: is not there; these scans have no labels")
        return own

    def _first_line(self, scans: Mapping[str, int]) -> int:
        """Number of the scan that the first line of a text file is of; 0 where scans were numbered anew from there."""
        first = self.layout.first.get(self.inside.rpartition("/")[2], 0)
        return first if all(number >= first for number in scans.values()) else 0

    def _motion(
        self, numbers: list[int], first: int, has_images: bool
    ) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """Matrices of calib.txt, times and poses, as far as they are there."""
        if not self.layout.motion:
            return {}, None, None
        folder = self.root / self.inside
        needed = has_images or (folder / "poses.txt").is_file()
        cameras = _cameras(folder / "calib.txt", (*self.layout.cameras.values(), "Tr"), needed)
        times = number_lines(folder / "times.txt", 1, numbers, self.report, first)
        return cameras, times, number_lines(folder / "poses.txt", 12, numbers, self.report, first)

    def _words(self, scans: Collection[str]) -> dict[str, str]:
        """Stem of a scan -> the split of scans that the list of the sequence puts it in."""
        name = self.layout.lists.format(self.scene)
        path = self.root / self.inside / name
        if not name or not path.is_file():
            return {}
        pairs = [line.strip().split(",") for line in read_text(path).splitlines() if line.strip()]
        if any(len(pair) != 2 for pair in pairs):
            raise InputError(f"{path}: must hold NAME,WEATHER a line; copy it again, or leave it out")
        words = {Path(stem).stem: f"{self.scene}_{word.strip()}" for stem, word in pairs}
        tell_strangers(path, words, scans, self.report)
        return words


def stems(folder: Path, ending: str) -> list[str]:
    """Names of the files of a folder that end so, without their ending, ascending; none without the folder."""
    return [name.removesuffix(ending) for name in file_names(folder, ending)]


def counted(names: list[str], number: re.Pattern[str], folder: Path, report: list[str]) -> list[str]:
    """Those of the names of the scans in ``folder`` that are numbers as the dataset has them; others are told of."""
    odd = [name for name in names if not number.fullmatch(name)]
    if odd:
        report.append(
            f"{folder}: {len(odd)} files, as {odd[0]!r}, have names that are no numbers of scans; they are passed over"
        )
    return [name for name in names if number.fullmatch(name)]


def _in_order(names: list[str], layout: Layout) -> dict[str, int]:
    """Stem -> place in time: its number, or its rank where names are no numbers; apart where there is no order."""
    if not layout.ordered:
        return {name: APART * rank for rank, name in enumerate(names)}
    if all(name.isascii() and name.isdecimal() for name in names):
        return dict(sorted(((name, int(name)) for name in names), key=lambda pair: pair[1]))
    return {name: rank for rank, name in enumerate(sorted(names, key=in_number_order))}


def _cameras(path: Path, names: tuple[str, ...], needed: bool) -> dict[str, NDArray[np.float64]]:
    """(3, 4) matrices of calib.txt by name: of the cameras, and Tr from the LiDAR to the left grey camera."""
    if not path.is_file() and not needed:
        return {}
    found = matrices(path)
    for name in names:
        if name not in found:
            raise InputError(
                f"{path}: has no {name} of 12 numbers, without which points, poses and images do not meet; take the "
                "calib.txt of KITTI's odometry calibration archive (the one of the colour images has no Tr)"
            )
    check_rigid(path, "Tr", found["Tr"])
    return found


def key_lines(path: Path) -> dict[str, NDArray[np.float64]]:
    """Numbers of a text file of ``key: numbers`` lines by key; other lines, as dates are, are passed over."""
    found: dict[str, NDArray[np.float64]] = {}
    for line in read_text(path).splitlines():
        name, _, values = line.partition(":")
        try:
            numbers = np.array(values.split(), dtype=np.float64)
        except ValueError:
            continue
        if not np.isfinite(numbers).all():
            continue
        if not np.array_equal(found.setdefault(name.strip(), numbers), numbers):
            raise InputError(f"{path}: has two lines {name.strip()[:60]} of unlike numbers; copy it again")
    return found


def matrices(path: Path) -> dict[str, NDArray[np.float64]]:
    """The (3, 4) matrices of such a file."""
    return {name: values.reshape(3, 4) for name, values in key_lines(path).items() if len(values) == 12}


def number_lines(
    path: Path, width: int, numbers: list[int], report: list[str], first: int = 0
) -> NDArray[np.float64] | None:
    """(lines, ``width``) numbers of a text file of one line a scan, by number from ``first`` on; None without it."""
    if not path.is_file():
        report.append(f"{path}: is not there; the scans go without")
        return None
    # a blank line between others is refused, too: the number of each line behind it would be that of another scan
    rows = [line.split() for line in read_text(path).rstrip().splitlines()]
    try:
        values = np.array(rows, dtype=np.float64).reshape(len(rows), width)
    except ValueError as error:
        raise InputError(f"{path}: must hold {width} numbers a line; copy it again") from error
    if not (np.abs(values) <= _LARGEST).all():  # not so either where one is NaN
        raise InputError(f"{path}: a number in it is not finite or beyond {_LARGEST:g}; copy it again")
    if numbers and len(values) <= numbers[-1] - first:
        raise InputError(
            f"{path}: has {len(values)} lines of numbers for scans up to number {numbers[-1]}; copy it again"
        )
    return values


def _lidar_pose(line: NDArray[np.float64], lidar_to_camera: NDArray[np.float64]) -> Transform:
    """LiDAR to world: the line is the pose of the left grey camera, in a world of its first frame."""
    camera_to_world, to_camera = matrix_of(line), matrix_of(lidar_to_camera)
    return compose(invert(to_camera), camera_to_world, to_camera)


def _camera_to_lidar(
    path: Path, projection: NDArray[np.float64], lidar_to_gray: NDArray[np.float64]
) -> Transform:
    """The projection is K [I | b]: the camera stands beside the left grey one, turned alike."""
    return invert(compose(beside(path, projection), matrix_of(lidar_to_gray)))


def beside(path: Path, projection: NDArray[np.float64]) -> Transform:
    """From the reference camera to the one of a projection K [I | b], which stands in ``path``.

    Raises:
        InputError: there is no such camera.
    """
    to_camera = np.eye(4)
    x, y, z = projection[:, :3].T
    cofactors = np.stack([np.cross(y, z), np.cross(z, x), np.cross(x, y)])
    with np.errstate(divide="ignore", invalid="ignore"):  # Cramer's rule; of a singular one nothing finite
        to_camera[:3, 3:] = compose(cofactors, projection[:, 3:]) / (x * cofactors[0]).sum()
    if not (np.abs(to_camera) <= _LARGEST).all():
        raise InputError(
            f"{path}: {' '.join(f'{value:g}' for value in projection.ravel())} projects on no image; copy it again"
        )
    return to_camera
