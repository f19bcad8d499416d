"""Predictions as the evaluation server of a dataset takes them: its tree or its messages, its numbers, one archive.

What a server wants stands under ``server`` in the card of the set: ``path`` of the file of a scan, with {split},
{scene}, {token} and {name} (of the file of points, without ending); ``format`` of its numbers; ``numbers`` of the
classes, where they are others than those of the label files; ``none`` for points of which nothing is predicted;
``splits``, of which all scans of one submission must be of one; ``records``: further JSON files by their paths; and
``archive``, where it takes another than zip. ``format: waymo`` are messages that hold many scans, see
`waymo_submission`.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.access import file_in
from ...files.writes import write_atomically, write_bytes, write_json
from ..card import CARDS
from ..formats.yaml_files import read_yaml
from ..frame import IGNORE_LABEL
from ..index import LogIndex
from .files import NUMBERS, raw_ids, stem
from .waymo import WaymoSubmission


def server_of(name: str) -> dict[str, Any] | None:
    """What the packaged card ``name`` says of its set's evaluation server; None where it says nothing."""
    path = CARDS / f"{name}.yaml"
    return read_yaml(path).get("server") if path.is_file() else None


class Submission(Protocol):
    """The files of one submission."""

    numbers: NDArray[np.uint32]  # (256,) what stands for each train id, 255 for none

    @property
    def archive(self) -> str:
        """One of ``ARCHIVES``, for `pack`."""

    def write(self, index: LogIndex, row: int, numbers: NDArray[np.uint32], folder: Path) -> Sequence[Path]:
        """Take the numbers (rows of the file,) of one scan, once; the files that are complete with it."""

    def pass_over(self) -> None:
        """The next scan's numbers are in a file of an earlier submission of the same scans."""

    def finish(self, folder: Path) -> Sequence[Path]:
        """Write what is to follow after the last scan."""


def submission_of(
    index: LogIndex, rows: Sequence[int], classes: Sequence[str], about: Mapping[str, str]
) -> Submission:
    """That for the server of the index's dataset and the scans ``rows``.

    Args:
        classes: names of the model's classes, in the order of its scores.
        about: who submits what, by the names that the server has for it.

    Raises:
        InputError: the card names no server, the classes are none of the card's, the scans are not of one split, or the
            server asks for something else about the submission.
    """
    name = index.card.name
    server = server_of(name)
    if server is None:
        raise InputError(
            f"{index.folder}: the card of {name} names no evaluation server; write its predictions without --server"
        )
    if tuple(classes) != index.card.classes:
        some = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
        raise InputError(
            f"the model has other classes ({some}) than the server of {name} scores; write its predictions "
            "without --server"
        )
    split, numbers = _split(index, rows, server.get("splits", ())), _numbers(server, index)
    if server["format"] == "waymo":
        return WaymoSubmission(server, numbers, about)
    if about:
        raise InputError(f"the server of {name} asks nothing about a submission; leave out --server-fields")
    return TreeSubmission(server, numbers, split)


@dataclass
class TreeSubmission:
    """A `Submission` of a file a scan."""

    server: Mapping[str, Any]
    numbers: NDArray[np.uint32]
    split: str

    @property
    def archive(self) -> str:
        return str(self.server.get("archive", "zip"))

    def pass_over(self) -> None:
        """Nothing waits for other scans."""

    def write(self, index: LogIndex, row: int, numbers: NDArray[np.uint32], folder: Path) -> list[Path]:
        """Write the numbers of one scan at its place below ``folder``."""
        points = index.point_path(row)
        words = {
            "split": self.split,
            "scene": index.scene(row),
            "token": index.tokens([row])[0],
            "name": stem(points.name),
        }
        path = self._place(self.server["path"], words, folder)
        if path.absolute() == points.absolute():
            raise InputError(f"{path}: is the scan itself; choose another folder for the predictions")
        write_bytes(path, numbers.astype(NUMBERS[self.server["format"]]).tobytes())
        return [path]

    def finish(self, folder: Path) -> list[Path]:
        """Write the further files that the server wants."""
        paths = []
        for place, content in self.server.get("records", {}).items():
            paths.append(self._place(place, {"split": self.split}, folder))
            write_json(paths[-1], content)
        return paths

    @staticmethod
    def _place(pattern: str, words: dict[str, str], folder: Path) -> Path:
        for part in PurePosixPath(pattern).parts:
            folder = file_in(folder, part.format(**words))
        return folder


def _numbers(server: dict[str, Any], index: LogIndex) -> NDArray[np.uint32]:
    classes = index.card.classes
    table = raw_ids(index.card, classes)
    own = server.get("numbers")
    if own is not None:
        lacking = [name for name in classes if name not in own]
        if lacking:
            raise InputError(
                f"the server of {index.card.name} scores no class {lacking[0]!r} (label set "
                f"{index.card.label_set or 'of the card'!r}); prepare the log with the classes of the card"
            )
        table[: len(classes)] = [own[name] for name in classes]
    table[len(classes) : IGNORE_LABEL + 1] = server["none"]
    return table


def _split(index: LogIndex, rows: Sequence[int], splits: Sequence[str]) -> str:
    """The split that all scans are of; "" where the server asks for none."""
    if not splits:
        return ""
    known = {*index.card.splits, *index.row_splits}
    for split in splits:
        if split in known and set(rows) <= _rows_of(index, split):
            return str(split)
    raise InputError(
        f"the {len(rows)} scans are not all of one of the splits {', '.join(splits)}, and the server of "
        f"{index.card.name} takes one; choose it with --prediction-frames"
    )


def _rows_of(index: LogIndex, split: str) -> set[int]:
    try:
        return set(index.rows(split, keys_only=False).tolist())
    except InputError:  # the log holds no scan of it
        return set()


def pack(folder: Path, files: Sequence[Path], archive: str = "zip") -> Path:
    """Pack ``files`` below ``folder`` by their paths in it, into an archive of its name beside it.

    Args:
        archive: its ending, one of ``ARCHIVES``.

    Raises:
        InputError: it cannot be written.
    """
    target = folder.absolute()
    target = target.with_name(f"{target.name}.{archive}")
    with write_atomically(target) as file:
        ARCHIVES[archive](file, {path.relative_to(folder).as_posix(): path for path in sorted(files)})
    return target


def _zip(file: IO[bytes], paths: Mapping[str, Path]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3, strict_timestamps=False) as packed:
        for name, path in paths.items():
            packed.write(path, name)


def _tar_gz(file: IO[bytes], paths: Mapping[str, Path]) -> None:
    with tarfile.open(fileobj=file, mode="w:gz", compresslevel=3) as packed:
        for name, path in paths.items():
            packed.add(path, name)


ARCHIVES: Mapping[str, Callable[[IO[bytes], Mapping[str, Path]], None]] = {"zip": _zip, "tar.gz": _tar_gz}
