"""Predictions as the evaluation server of a dataset takes them: its tree, its numbers, one zip file.

What a server wants stands under ``server`` in the card of the set: ``path`` of the file of a scan, with {split},
{scene}, {token} and {name} (of the file of points, without ending); ``format`` of its numbers; ``numbers`` of the
classes, where they are others than those of the label files; ``none`` for points of which nothing is predicted;
``splits``, of which all scans of one submission must be of one; and ``records``: further JSON files by their paths.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files.access import file_in
from ..files.writes import write_atomically
from .card import CARDS
from .card_file import read_yaml
from .frame import IGNORE_LABEL
from .index import LogIndex
from .prediction_files import NUMBERS, raw_ids, stem

ZIP = ".zip"


def server_of(name: str) -> dict[str, Any] | None:
    """What the packaged card ``name`` says of its set's evaluation server; None where it says nothing."""
    path = CARDS / f"{name}.yaml"
    return read_yaml(path).get("server") if path.is_file() else None


@dataclass(frozen=True)
class Submission:
    """The form of one submission. ``numbers``: (256,) what stands for each train id, 255 for none."""

    server: dict[str, Any]
    split: str
    numbers: NDArray[np.uint32]

    @classmethod
    def of(cls, index: LogIndex, rows: Sequence[int], classes: Sequence[str]) -> Submission:
        """That of the server of the index's dataset for the scans ``rows``.

        Args:
            classes: names of the model's classes, in the order of its scores.

        Raises:
            InputError: the card names no server, the classes are none of the card's, or the scans are not of one split.
        """
        server = server_of(index.card.name)
        if server is None:
            raise InputError(
                f"{index.folder}: the card of {index.card.name} names no evaluation server; write its predictions "
                "without --server"
            )
        if tuple(classes) != index.card.classes:
            raise InputError(
                f"the model has other classes ({', '.join(classes)[:100]}) than the server of {index.card.name} "
                "scores; write its predictions without --server"
            )
        return cls(server, _split(index, rows, server.get("splits", ())), _numbers(server, index))

    def write(self, index: LogIndex, row: int, numbers: NDArray[np.uint32], folder: Path) -> Path:
        """Write the numbers (rows of the file,) of one scan at its place below ``folder``."""
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
        with write_atomically(path) as file:
            file.write(numbers.astype(NUMBERS[self.server["format"]]).tobytes())
        return path

    def write_records(self, folder: Path) -> list[Path]:
        """Write the further files that the server wants."""
        paths = []
        for place, content in self.server.get("records", {}).items():
            paths.append(self._place(place, {"split": self.split}, folder))
            with write_atomically(paths[-1], "w") as file:
                json.dump(content, file, indent=1)
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
    scenes = {index.scene(row) for row in rows}
    for split in splits:
        if scenes <= set(index.card.splits.get(split, ())):
            return str(split)
    raise InputError(
        f"the {len(rows)} scans are not all of one of the splits {', '.join(splits)}, and the server of "
        f"{index.card.name} takes one; choose it with --prediction-frames"
    )


def pack(folder: Path, files: Sequence[Path]) -> Path:
    """Pack ``files`` below ``folder`` by their paths in it, into a zip file of its name beside it.

    Raises:
        InputError: it cannot be written.
    """
    target = folder.absolute()
    target = target.with_name(target.name + ZIP)
    with (
        write_atomically(target) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=3, strict_timestamps=False) as packed,
    ):
        for path in sorted(files):
            packed.write(path, path.relative_to(folder).as_posix())
    return target
