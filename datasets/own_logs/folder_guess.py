"""A first draft of the ``folder.yaml`` of an own log, out of its files; what they do not tell is a question."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError, MissingFileError, first_few
from ...files.access import is_text, no_folder, read_text, reading
from ..formats.bags import find_bags
from ..names import in_number_order
from .file_pattern import SCENE
from .folder_layout import FORMATS, QUESTION
from .guess_columns import guess_points
from .motion_files import read_kitti_poses, read_times, read_tum_poses

_IMAGES = (".jpg", ".jpeg", ".png")
_TEXTS = (".txt", ".tum", ".csv")
_DEPTH = 6  # folders below the root that are looked into
_MOST_FOLDERS = 20000
_CLOCKS = ("1.0e-3", "1.0e-6", "1.0e-9")  # units of times in files of poses, beside seconds
_LINES = 50  # of a text file that are looked at


@dataclass(frozen=True, slots=True)
class _Group:
    """Files of one ending in folders that are alike."""

    parts: tuple[str, ...]  # of the folder; ``{scene}`` where drives differ
    ending: str
    folders: tuple[str, ...]
    files: tuple[str, ...]  # of the first of these

    @property
    def pattern(self) -> str:
        return "/".join((*self.parts, f"{self.beginning}*{self.ending}"))

    @property
    def beginning(self) -> str:
        """What all file names begin with before their numbers."""
        first, last = (edge(self.files).removesuffix(self.ending) for edge in (min, max))
        same = (i for i, pair in enumerate(zip(first, last)) if pair[0] != pair[1])
        common = first[: next(same, len(first))]
        # a number is whole in what stands for the scan, also one with a fraction
        return re.sub(r"([0-9]+\.)?[0-9]*$", "", common) if re.search("[0-9]", self.files[0]) else ""

    @property
    def stems(self) -> list[str]:
        return sorted(
            (name.removeprefix(self.beginning).removesuffix(self.ending) for name in self.files),
            key=in_number_order,
        )

    @property
    def name(self) -> str:
        """The folder that tells what the files are of."""
        plain = [part for part in self.parts if part not in (SCENE, "data", "images", "image", "rgb")]
        return plain[-1] if plain else self.ending.strip(".")

    @property
    def whole_name(self) -> str:
        """All folders and the ending, which tell it from every other group."""
        return "_".join([*(part for part in self.parts if part != SCENE), self.ending.strip(".")])


def draft_layout(root: Path) -> str:
    """The text of a ``folder.yaml`` for the files below ``root``.

    Raises:
        MissingFileError, InputError: there are no files of points, or the first of them cannot be read.
    """
    if not root.is_dir():
        raise MissingFileError(f"{root}: {no_folder(root)}; check the path")
    groups = _groups(root)
    clouds = [group for group in groups if _format(group) and not _is_label(group.parts, group.ending)]
    if not clouds:
        bags = find_bags(root)
        how = (
            f"read its bags ({bags[0]}) with `superflow prepare ros`" if bags else "give the folder that does"
        )
        raise MissingFileError(f"{root}: holds no file of points that ends with {', '.join(FORMATS)}; {how}")
    points, lines = _points_among(root, clouds)
    others = [group.pattern for group in clouds if group is not points]
    if others:
        lines.append(f"# other files of points, which are left out: {', '.join(others)}")
    lines += _label_lines(root, points, groups)
    lines += _time_lines("times", points, "")
    lines += _text_lines(root, points)
    cameras = [group for group in groups if group.ending.lower() in _IMAGES and not _is_label(group.parts)]
    if cameras:
        lines.append("cameras:")
    alike = Counter(camera.name for camera in cameras)
    for camera in cameras:
        lines += _camera_lines(root, camera, camera.name if alike[camera.name] == 1 else camera.whole_name)
    head = (
        '# Drafted from the files. Put an answer in place of every "?"; docs/own_data.md explains the keys.'
    )
    return "\n".join([head, f'licence: "{QUESTION}"  # of your data; results carry it', *lines]) + "\n"


def _points_among(root: Path, clouds: Sequence[_Group]) -> tuple[_Group, list[str]]:
    """The largest of the groups whose first file holds points, with its lines of the draft."""

    def size(group: _Group) -> int:
        with reading(root):
            return _first(root, group).stat().st_size * len(group.files) * len(group.folders)

    refused: InputError | None = None
    for group in sorted(clouds, key=size, reverse=True):
        try:
            return group, list(_point_lines(root, group))
        except InputError as error:
            refused = refused or error
    assert refused is not None
    raise refused


def _groups(root: Path) -> list[_Group]:
    """All files below the root by their endings and alike folders."""
    held: dict[tuple[tuple[str, ...], str], list[str]] = {}
    for parts, names in _walk(root):
        for name in names:
            stem, ending = os.path.splitext(name)
            if stem.endswith(".pcd") and ending == ".bin":  # nuScenes' bare rows
                ending = ".pcd.bin"
            if ending.lower() in (*FORMATS, *_IMAGES, ".pcd.bin", ".label"):
                held.setdefault((parts, ending), []).append(name)
    alike = {key: _scene_place(key, held) for key in held}
    groups: dict[tuple[tuple[str, ...], str], _Group] = {}
    for (parts, ending), names in sorted(held.items()):
        place = alike[parts, ending]
        shape = parts if place is None else (*parts[:place], SCENE, *parts[place + 1 :])
        before = groups.get((shape, ending))
        folders = (*(before.folders if before else ()), "/".join(parts))
        groups[shape, ending] = _Group(shape, ending, folders, before.files if before else tuple(names))
    return list(groups.values())


def _scene_place(
    key: tuple[tuple[str, ...], str], held: Mapping[tuple[tuple[str, ...], str], Sequence[str]]
) -> int | None:
    """Which part of a folder's path is a drive: the first that other folders of such files have another name in.

    Folders of images that differ in their last part are cameras, and labels beside points are no drive.
    """
    parts, ending = key
    last = len(parts) - 1 if ending.lower() in _IMAGES else len(parts)
    for place in range(last):
        for others, kind in held:
            alike = others[:place] == parts[:place] and others[place + 1 :] == parts[place + 1 :]
            alike = alike and _is_label(others) == _is_label(parts)
            if kind == ending and alike and len(others) == len(parts) and others[place] != parts[place]:
                return place
    return None


def _walk(root: Path) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Parts of the path and names of the files of each folder below the root; links are followed, once to a folder."""
    seen = 0
    known = set[str]()
    with reading(root):
        for folder, inside, names in os.walk(root, followlinks=True):
            place = os.path.realpath(folder)
            if place in known:
                inside.clear()
                continue
            known.add(place)
            parts = Path(folder).relative_to(root).parts
            inside[:] = sorted(name for name in inside if is_text(name) and not name.startswith("."))
            if len(parts) >= _DEPTH:
                inside.clear()
            seen += 1
            if seen > _MOST_FOLDERS:
                raise InputError(f"{root}: has more than {_MOST_FOLDERS} folders; give the log's own root")
            yield parts, sorted(name for name in names if is_text(name) and not name.startswith("."))


def _first(root: Path, group: _Group) -> Path:
    return root / group.folders[0] / sorted(group.files, key=in_number_order)[0]


def _point_lines(root: Path, points: _Group) -> Iterator[str]:
    guess = guess_points(_first(root, points), _format(points))
    yield "points:"
    yield f"  files: {_quoted(points.pattern)}{_drives(points)}"
    yield f"  columns: {guess.columns}{guess.remark}"
    yield f'  axes: "{QUESTION}"  # forward-left-up or right-forward-up (x, y, z), or four rows of a rigid 4 x 4'
    if guess.no_return:
        yield "  no_return: [nan, zero]  # the first file has rows that are no points"
    if guess.time:
        yield f"  time: {guess.time}"
        yield f'  compensated: "{QUESTION}"  # true where scans were brought to one instant already, else false'
    if guess.scale:
        rule = "" if guess.scale[0] == "linear" else f"rule: {guess.scale[0]}, "
        yield f"intensity: {{{rule}raw_max: {guess.scale[1]:g}}}  # up to {guess.largest:g} in the first file"


def _drives(group: _Group) -> str:
    """A remark about what is taken for a drive each."""
    if SCENE not in group.parts:
        return ""
    place = group.parts.index(SCENE)
    names = [folder.split("/")[place] for folder in group.folders]
    return f"  # {first_few(names)} are taken for drives, each of its own"


def _quoted(text: str) -> str:
    """As YAML reads it back, whatever signs are in it."""
    return json.dumps(text, ensure_ascii=False)


def _format(group: _Group) -> str:
    """Of the points in such files; "" where they are no files of points."""
    return FORMATS.get("." + group.ending.rpartition(".")[2].lower(), "")


def _is_label(parts: Sequence[str], ending: str = "") -> bool:
    return ending == ".label" or any("label" in part.lower() for part in parts)


def _label_lines(root: Path, points: _Group, groups: Sequence[_Group]) -> list[str]:
    labels = [group for group in groups if _is_label(group.parts, group.ending)]
    if not labels:
        return []
    group = labels[0]
    path = _first(root, group)
    kind = "npy" if group.ending == ".npy" else QUESTION
    if group.ending in (".label", ".bin"):
        first = guess_points(_first(root, points), _format(points))
        with reading(path):
            size = path.stat().st_size
        kind = {1: "u1", 2: "u2", 4: "u4"}.get(size // max(first.rows, 1), QUESTION)
        kind = kind if kind != QUESTION and size == first.rows * int(kind[1]) else QUESTION
    remark = "  # mask: 0xffff where instances lie above the classes"
    return [
        f'labels: {{files: {_quoted(group.pattern)}, format: "{kind}"}}{remark}',
        f'classes: "{QUESTION}"  # and categories, or labels_of: the name of a packaged card',
    ]


def _time_lines(key: str, group: _Group, indent: str) -> list[str]:
    """Names of ten digits and more that are times of this century."""
    stems = group.stems
    if all(re.fullmatch("1[0-9]{9,18}", stem) for stem in stems) and len(set(map(len, stems))) == 1:
        unit = f"1.0e-{len(stems[0]) - 10}"
    elif all(re.fullmatch(r"1[0-9]{9}\.[0-9]{1,9}", stem) for stem in stems):
        unit = "1.0"
    else:
        return []
    first = datetime.fromtimestamp(int(stems[0][:10]), UTC)
    return [f"{indent}{key}: {{name: {unit}}}  # the names are times, from {first:%Y-%m-%d} on"]


def _text_lines(root: Path, points: _Group) -> Iterator[str]:
    """Text files of as many numbers a line as poses and times have, in the root or beside the drives."""
    place = points.parts.index(SCENE) + 1 if SCENE in points.parts else 0
    first = points.folders[0].split("/")[:place]
    folder = root.joinpath(*first)
    written = "/".join(points.parts[:place])
    found: dict[int, list[str]] = {}
    with reading(folder):
        names = sorted(os.listdir(folder))
    for name in names:
        if name.endswith(_TEXTS) and (folder / name).is_file():
            found.setdefault(_width(folder / name), []).append("/".join(filter(None, (written, name))))
    readers: tuple[tuple[int, str, Callable[[Path], object]], ...] = (
        (12, "kitti", read_kitti_poses),
        *((8, f"tum, unit_s: {unit}", partial(_poses_by, float(unit))) for unit in _CLOCKS),
        (8, "tum", read_tum_poses),
    )
    for width, form, read in readers:
        # eight numbers may be those of an inertial unit, which are no poses
        files = [file for file in found.get(width, []) if _can_be_read(folder / Path(file).name, read)]
        more = f"; {', '.join(files[1:])} could be, too" if files[1:] else ""
        if files:
            remark = f"of: CAMERA where they are those of a camera{more}"
            yield f"poses: {{file: {_quoted(files[0])}, form: {form}}}  # {remark}"
            break
    if 1 in found and not _time_lines("times", points, ""):
        yield f"times: {{file: {_quoted(found[1][0])}, unit_s: {_unit_of_times(folder / Path(found[1][0]).name)}}}"


def _unit_of_times(path: Path) -> str:
    """Seconds of the unit of a text file of times: that of a clock of our century, else 1."""
    return next((unit for unit in _CLOCKS if _can_be_read(path, partial(_times_by, float(unit)))), "1")


def _poses_by(unit_s: float, path: Path) -> None:
    """Refuse poses of TUM's form whose times are not those of a clock of this unit."""
    _of_century(path, read_tum_poses(path, unit_s).times_us)


def _times_by(unit_s: float, path: Path) -> None:
    """Refuse times that are not those of a clock of this unit."""
    _of_century(path, read_times(path, unit_s))


def _of_century(path: Path, times_us: NDArray[np.int64]) -> None:
    if not len(times_us) or not 1e15 <= times_us[0] < 1e16:
        raise InputError(f"{path}: has times of another unit; state it")


def _can_be_read(path: Path, read: Callable[[Path], object]) -> bool:
    try:
        read(path)
    except InputError:
        return False
    return True


def _width(path: Path) -> int:
    """How many numbers most of the first lines of a text file hold; 0 for other files."""
    try:
        lines = [line for line in read_text(path).splitlines()[:_LINES] if line.strip() and line[0] != "#"]
        names = 1 if lines and re.match("[A-Za-z_]", lines[0]) else 0  # as the readers pass it over
        widths = Counter(
            len([float(word) for word in re.split(r"[,;\s]+", line.strip())]) for line in lines[names:]
        )
    except ValueError:  # also InputError: no text at all
        return 0
    return widths.most_common(1)[0][0] if widths else 0


def _camera_lines(root: Path, camera: _Group, name: str) -> Iterator[str]:
    yield f"  {name if re.fullmatch('[A-Za-z][A-Za-z0-9_-]*', name) else _quoted(name)}:"
    yield f"    images: {_quoted(camera.pattern)}"
    infos = [name for name in sorted(os.listdir(root)) if name.endswith((".yaml", ".yml"))]
    info = next((name for name in infos if _is_camera_info(root / name) and camera.name in name), None)
    if info:
        yield f"    camera_info: {_quoted(info)}"
    else:
        yield f'    intrinsics: "{QUESTION}"  # [fx, fy, cx, cy]; model: pinhole, radial_tangential or fisheye'
    yield f'    lidar_to_camera: "{QUESTION}"  # three rows of four numbers; camera: x right, y down, z forward'
    yield from _time_lines("times", camera, "    ")


def _is_camera_info(path: Path) -> bool:
    try:
        return "camera_matrix" in read_text(path)
    except InputError:
        return False
