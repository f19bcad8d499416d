"""What a model says of the scans of a log, as files: for a server, or beside a log of one's own."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clips.sources import named
from ..datasets.cloud import file_values
from ..datasets.frame import IGNORE_LABEL
from ..datasets.index import LogIndex
from ..datasets.predictions.files import raw_ids, write_prediction
from ..datasets.predictions.submission import pack, submission_of
from ..files.access import check_place
from ..files.writes import write_json
from ..progress import LogLines, track
from .features import read_scan
from .metrics import NO_PREDICTION, class_predictions
from .vote_log import Predictor

_log = logging.getLogger(__name__)


def write_predictions(
    index: LogIndex,
    rows: Sequence[int],
    predict: Predictor,
    classes: Sequence[str],
    folder: str | Path,
    *,
    server: bool = False,
    server_fields: Mapping[str, str] | None = None,
    packed: bool = False,
    record: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write a file a scan below ``folder`` (of Waymo's server: of many), and ``predictions.json``, which says what its
    numbers mean.

    Rows of a file that are no points, and points beyond the model's range, get the number of no class.

    Args:
        classes: names of the model's classes, in the order of its scores.
        server: in the tree and the numbers of the set's evaluation server, see `datasets.submission`.
        server_fields: what that server wants to know of the submission, by its names.
        packed: also as one archive of the folder's name beside it, a zip file or what the server takes, without
            ``predictions.json``.
        record: what else is to stand there, of the model.

    Returns:
        What ``predictions.json`` says.

    Raises:
        InputError: a scan cannot be read, the folder cannot be written, or there is no such server or it asks for
            other ``server_fields``.
    """
    folder = Path(folder)
    check_place(folder)
    form = submission_of(index, rows, classes, server_fields or {}) if server else None
    numbers = raw_ids(index.card, classes) if form is None else form.numbers
    files: list[Path] = []
    missing = 0
    for row in track(rows, "predictions of scans", LogLines(_log, quiet=True)):
        of_rows, without = _of_rows(index, row, predict)
        missing += without
        if form is None:
            files.append(write_prediction(index, row, numbers[of_rows], folder))
        else:
            files += form.write(index, row, numbers[of_rows], folder)
    files += [] if form is None else form.finish(folder)
    archive = "zip" if form is None else form.server.get("archive", "zip")
    said = {
        **(record or {}),
        "scans": len(rows),
        "numbers": {name: int(numbers[i]) for i, name in enumerate(classes)},
        "none": int(numbers[IGNORE_LABEL]),
        "points_without_prediction": missing,
        "form": "server" if server else "log",
        "zip": str(pack(folder, files, archive)) if packed else None,
        "dataset": index.card.name,
        "variant": index.variant,
        "index_hash": index.hash,
    }
    write_json(folder / "predictions.json", said)
    return said


def _of_rows(index: LogIndex, row: int, predict: Predictor) -> tuple[NDArray[np.integer], int]:
    """Train ids of the rows of a scan's file, and how many of its points have no prediction."""
    scan = read_scan(index, row, labels=False)
    with named(scan.points, scan.source):
        found = class_predictions(predict(scan)).numpy()
    train_ids = np.where(found == NO_PREDICTION, IGNORE_LABEL, found)
    of_rows = file_values(train_ids, scan.file_row, scan.file_rows, absent=IGNORE_LABEL)
    return of_rows, int((found == NO_PREDICTION).sum())
