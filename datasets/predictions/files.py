"""Predicted classes in files of the form that the log came in: a PCD with a class column, or a number for each row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.access import file_in
from ...files.writes import write_bytes
from ..card import DatasetCard
from ..formats.pcd import with_column
from ..frame import IGNORE_LABEL
from ..index import LogIndex

COLUMN = "class"  # of a PCD
NUMBERS = {"u1": "<u1", "u2": "<u2", "u4": "<u4", "i4": "<i4"}  # of label files of bare numbers


def raw_ids(card: DatasetCard, classes: Sequence[str]) -> NDArray[np.uint32]:
    """(256,) the number in label files for each train id, 255 for what is none of the classes.

    Those of the card where its classes are these: of several that mean one class that of its name, else the lowest; and
    numbers that it does not use where none does. Else 1, 2, ... in the order of ``classes``, with 0 for none.

    Raises:
        InputError: the card's label files can hold no number that it does not use.
    """
    table = np.zeros(IGNORE_LABEL + 1, np.uint32)
    of_class: dict[int, int] = {}
    for raw, name in sorted(card.categories.items(), reverse=True):
        of_class[card.class_of.get(name, IGNORE_LABEL)] = raw
    for raw, name in sorted(card.categories.items(), reverse=True):
        train_id = card.class_of.get(name, IGNORE_LABEL)
        if train_id != IGNORE_LABEL and card.classes[train_id] == name:
            of_class[train_id] = raw
    if tuple(classes) != card.classes or not card.categories:
        table[: len(classes)] = 1 + np.arange(len(classes))
        return table
    spare = set(range(2 * IGNORE_LABEL + len(card.categories))) - card.categories.keys()
    unused = iter(number for number in sorted(spare) if _can_be_stored(card, number))
    for train_id in (*range(len(classes)), IGNORE_LABEL):
        if (number := of_class[train_id] if train_id in of_class else next(unused, None)) is None:
            raise InputError(
                f"the labels of {card.name} have a category for each number that their files can hold, and none is "
                "left for points without a class; write them with a wider format"
            )
        table[train_id] = number
    table[len(classes) :] = table[IGNORE_LABEL]
    return table


def _in_files(card: DatasetCard) -> tuple[str, int, int]:
    """NumPy's type, mask and shift of the numbers in files of predictions: as in the label files, if these are bare."""
    said = card.labels
    if card.point_format == "pcd" or said["format"] not in NUMBERS:
        return "<u4", 0xFFFFFFFF, 0
    return NUMBERS[said["format"]], said.get("mask", 0xFFFFFFFF), said.get("shift", 0)


def _can_be_stored(card: DatasetCard, number: int) -> bool:
    """Whether ``number`` is read as what was written."""
    dtype, mask, shift = _in_files(card)
    stored = (number << shift) & mask
    return stored >> shift == number and stored <= np.iinfo(dtype).max


class LogFiles:
    """The form of the log itself, with the methods of a `submission.Submission`: a file a scan."""

    archive = "zip"

    def __init__(self, card: DatasetCard, classes: Sequence[str]) -> None:
        self.numbers = raw_ids(card, classes)
        if tuple(classes) == card.classes:  # read by the card again, they are its ids
            self.numbers <<= np.uint32(_in_files(card)[2])

    def write(self, index: LogIndex, row: int, numbers: NDArray[np.uint32], folder: Path) -> list[Path]:
        return [write_prediction(index, row, numbers, folder)]

    def pass_over(self) -> None:
        """Nothing waits for other scans."""

    def finish(self, folder: Path) -> list[Path]:
        return []


def write_prediction(index: LogIndex, row: int, numbers: NDArray[np.uint32], folder: Path) -> Path:
    """Write the numbers of one scan below ``folder``, at the path that its points have below the log's root.

    A PCD comes back as one, with all that it held and a column ``class``; of other files, and of scans that lie in
    bags or are merged of several files, a file of bare numbers, ending with ``.label``.

    Args:
        numbers: (rows of the file,).

    Raises:
        InputError: the path cannot be one below ``folder``, or it cannot be written.
    """
    inside = PurePosixPath(index.point_path(row).relative_to(index.root).as_posix())
    source = index.point_path(row)
    if index.card.point_format == "pcd":
        data = with_column(source, COLUMN, numbers)
        target = _below(folder, inside)
    else:
        data = numbers.astype(_in_files(index.card)[0]).tobytes()
        if index.point_key(row):  # one of the scans that the file holds
            inside = inside / index.tokens([row])[0]
        target = _below(folder, inside.parent / f"{stem(inside.name)}.label")
    if target.absolute() == source.absolute():
        raise InputError(f"{target}: is the scan itself; choose another folder for the predictions")
    write_bytes(target, data)
    return target


def _below(folder: Path, inside: PurePosixPath) -> Path:
    for part in inside.parts:
        folder = file_in(folder, part)
    return folder


def stem(name: str) -> str:
    """The name without its ending, ``.pcd.bin`` as well."""
    return (
        name.removesuffix(".bin").removesuffix(".pcd")
        if name.endswith(".pcd.bin")
        else name.rpartition(".")[0] or name
    )
