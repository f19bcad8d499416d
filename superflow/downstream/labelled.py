"""Whether labelled frames hold anything to learn from, or to be judged on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.frame import IGNORE_LABEL
from ..errors import InputError

Labels = Callable[[int], NDArray[np.uint8] | None]


def labelled_rows(index: Any, frames: Any) -> list[int]:
    """Rows of ``frames``, as `LogIndex.rows` takes them, that have labels."""
    return [int(row) for row in index.rows(frames) if index.has_labels(int(row))]


def few_labelled(labels: Tensor, count: int) -> Tensor | None:
    """(N,) bool, the points of ``labels`` (N,) that have one, where they are too few to lose any; else None.

    Few are at most half of ``count``, the number of points that a thinned scan is to have.
    """
    labelled = labels != IGNORE_LABEL
    return labelled if int(labelled.sum()) <= count // 2 else None


def require_labelled_points(
    index: Any, rows: Iterable[int], purpose: str, *, labels: Labels | None = None
) -> None:
    """Make sure that one of some frames has a point of a class; files are read up to the first such frame.

    Args:
        index: a ``LogIndex``. rows: of it.
        purpose: what the frames are for, such as "validation".
        labels: gives the (N,) train ids of a row, or None; ``index.labels`` by default, which reads no points.

    Raises:
        InputError: none has.
    """
    rows = [int(row) for row in rows]
    for row in rows:
        found = (labels or index.labels)(row)
        if found is not None and bool((found != IGNORE_LABEL).any()):
            return
    raise InputError(
        f"{index.root}: none of the {len(rows)} {purpose} frames has a point of a class "
        f"({_shorten(index.card.classes)}); look at their label files and at the ids of the classes in the card and in "
        "category.json, or choose other frames"
    )


def require_apart(
    index: Any,
    train: Sequence[int],
    evaluate: Sequence[int],
    choosing: Mapping[str, Sequence[int]],
    where: str,
) -> None:
    """Make sure that rows of ``index`` are not learned from and judged on, or all of them chosen by.

    Args:
        choosing: name -> rows that options are chosen by. where: what names them, for errors.

    Raises:
        InputError: a row is in ``train`` and in ``evaluate``; or one of ``choosing`` is not a part of ``train`` that
            leaves others.
    """
    if both := set(train) & set(evaluate):
        token = index.tokens([min(both)])[0]
        raise InputError(f"{where}: scan {token} is in train and in evaluate; a figure needs other scans")
    for part, rows in choosing.items():
        if not set(rows) < set(train):
            raise InputError(f"{where}: {part} must be a part of train that leaves scans to learn from")


def _shorten(names: tuple[str, ...]) -> str:
    return ", ".join(names if len(names) <= 4 else (*names[:3], "...", names[-1]))
