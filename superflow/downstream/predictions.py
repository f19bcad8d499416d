"""What a model says of the scans of a log, as files: for a server, or beside a log of one's own."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..clips.sources import named
from ..datasets.cloud import file_values
from ..datasets.frame import IGNORE_LABEL
from ..datasets.index import LogIndex
from ..datasets.predictions.files import LogFiles
from ..datasets.predictions.submission import pack, submission_of
from ..files.access import check_place
from ..files.writes import write_json
from ..progress import LogLines, track
from .done_scans import DoneScans, check_made_by, done_scans
from .features import read_scan
from .metrics import NO_PREDICTION, class_predictions
from .vote_log import Predictor

_log = logging.getLogger(__name__)

RECORD = "predictions.json"
_HELD = {"what": "predictions", "left": RECORD}


class PredictionFiles:
    """A file a scan below ``folder`` (of Waymo's server: of many), and ``predictions.json`` with what its numbers mean.

    Rows of a file that are no points, and points beyond the model's range, get the number of no class.

    Args:
        rows: of ``index``, the scans to predict. classes: names of the model's classes, in the order of its scores.
        server: in the tree and the numbers of the set's evaluation server, see `datasets.predictions.submission`.
        server_fields: what that server wants to know of the submission, by its names.
        made_by: what the predictions follow from, as the hash of the weights, of JSON types: files that were written
            by the same stay. None: not known, and all are written.

    Raises:
        InputError: the folder cannot be written, or holds what was made by something else; there is no such server, or
            it asks for other ``server_fields``.
    """

    def __init__(
        self,
        index: LogIndex,
        rows: Sequence[int],
        classes: Sequence[str],
        folder: str | Path,
        *,
        server: bool = False,
        server_fields: Mapping[str, str] | None = None,
        made_by: Mapping[str, Any] | None = None,
    ) -> None:
        self.index, self.rows, self.folder = index, [int(row) for row in rows], Path(folder)
        self.form = (
            submission_of(index, rows, classes, server_fields or {})
            if server
            else LogFiles(index.card, classes)
        )
        self._said = {
            "numbers": {name: int(self.form.numbers[i]) for i, name in enumerate(classes)},
            "none": int(self.form.numbers[IGNORE_LABEL]),
            "form": "server" if server else "log",
            "dataset": index.card.name,
            "variant": index.variant,
            "index_hash": index.hash,
        }
        self._made_by = None
        if made_by is not None:
            self._made_by = {**made_by, **self._said}
            if server:  # some hold scans together in a file
                self._made_by |= {"server_fields": dict(server_fields or {}), "scans": self._scans_hash}
        check_place(folder)
        check_made_by(folder, self._made_by, **_HELD)

    def write(
        self, predict: Predictor, *, packed: bool = False, record: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Write what is not there yet.

        Args:
            packed: also as one archive of the folder's name beside it, a zip file or what the server takes, without
                ``predictions.json``.
            record: what else is to stand there, of the model.

        Returns:
            What ``predictions.json`` says.

        Raises:
            InputError: a scan cannot be read, or the folder cannot be written.
        """
        with done_scans(self.folder, self._made_by, **_HELD) as done:
            files, missing = self._write_scans(predict, done)
            said = {
                **(record or {}),
                "scans": len(self.rows),
                "points_without_prediction": missing,
                **self._said,
                "zip": str(pack(self.folder, files, self.form.archive)) if packed else None,
            }
            write_json(self.folder / RECORD, said)
        return said

    def _write_scans(self, predict: Predictor, done: DoneScans) -> tuple[list[Path], int]:
        """All files, and how many points have no prediction."""
        tokens = self.index.tokens(self.rows)
        ready, missing = {token for token in tokens if token in done}, dict.fromkeys(tokens, 0)
        waiting: list[str] = []  # scans whose file waits for others of it
        what, progress = "predictions of scans", LogLines(_log, quiet=True)
        left = self._left(ready)
        for row in track(left, what, progress, total=len(tokens), ready=len(ready)):
            token = self.index.tokens([row])[0]
            of_rows, missing[token] = _of_rows(self.index, row, predict)
            files = self.form.write(self.index, row, self.form.numbers[of_rows], self.folder)
            waiting.append(token)
            self._told(done, waiting if files else [], files, missing)
        last = list(self.form.finish(self.folder))
        self._told(done, waiting, last, missing)
        of_scans = [path for token in tokens for path in done.files(token)]
        return list(dict.fromkeys((*of_scans, *last))), sum(done.figures(token) for token in tokens)

    def _left(self, ready: set[str]) -> Iterator[int]:
        """Rows of the scans that have no file, while the form passes over the others."""
        for row in self.rows:
            if self.index.tokens([row])[0] in ready:
                self.form.pass_over()
            else:
                yield row

    @staticmethod
    def _told(done: DoneScans, waiting: list[str], files: Sequence[Path], missing: Mapping[str, int]) -> None:
        for token in waiting:
            done.add(token, files, missing[token])
        waiting.clear()

    @cached_property
    def _scans_hash(self) -> str:
        """Of the scans in their order."""
        return hashlib.sha256("\n".join(self.index.tokens(self.rows)).encode()).hexdigest()


def _of_rows(index: LogIndex, row: int, predict: Predictor) -> tuple[NDArray[np.integer], int]:
    """Train ids of the rows of a scan's file, and how many of its points have no prediction."""
    scan = read_scan(index, row, labels=False)
    with named(scan.points, scan.source):
        found = class_predictions(predict(scan)).numpy()
    train_ids = np.where(found == NO_PREDICTION, IGNORE_LABEL, found)
    of_rows = file_values(train_ids, scan.file_row, scan.file_rows, absent=IGNORE_LABEL)
    return of_rows, int((found == NO_PREDICTION).sum())
