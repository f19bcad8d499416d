"""Labelled scans for probing and fine-tuning."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..clips.batch import Batch
from ..clips.sources import source_of
from ..datasets.corruptions.corrupted_index import CLEAN, in_variant
from ..datasets.frame import IGNORE_LABEL, Frame
from ..datasets.index import LogIndex
from ..errors import InputError
from ..files.access import file_in, read_json, reading
from ..hub.checkpoint import first_difference
from ..lidar.augment import augment
from ..lidar.limits import Count, Limits, draw_count
from ..lidar.viewpoint import check_viewpoint, thin_as_from_elsewhere
from ..protocol import data_record
from .done_scans import JOURNAL
from .fractions import check_once, read_tokens
from .labelled import few_labelled, require_labelled_points

_log = logging.getLogger(__name__)

PSEUDO_RECORD = "pseudo_labels.json"  # what made the pseudo-labels of its folder


class SegmentDataset(Dataset):
    """One labelled scan an item, as a ``Batch`` of one cloud.

    In training a scan is cropped to ``limits``, thinned to ``max_points`` and augmented. In evaluation it is
    returned whole and in the order of its file: what a model cannot see is an error of the model, not a point less.

    Args:
        index: a ``LogIndex`` or the folder of one.
        frames: what ``LogIndex.rows`` takes: a split name, a list of scene terms, None for everything.
        rows: rows of the index, instead of ``frames``.
        tokens: path of a token list (k % experiments), or the tokens; keeps only these of the chosen rows.
        train: augment, crop and thin.
        max_points: points kept in training, drawn anew for each seed: a number, a pair between which it is drawn
            too (`lidar.limits.draw_count`), or None for all. Labelled points all stay where they are few, at most half.
        limits: region kept in training, ``Limits`` or a dict of its fields.
        augmentation: options of ``lidar.augment.augment``, such as ``dict(flip=0.5)``.
        viewpoint_m: in training a scan is thinned, and its coordinates shifted, as if its scanner had stood at a random
            spot up to so many metres away, see ``lidar.viewpoint``; needs ``max_points``. 0 leaves it where it was.
        raw_intensity: intensity in 0..255 instead of [0, 1], as published code has it.
        variant: ``clean``, or how scans are corrupted while they are read, as ``fog/heavy``; for evaluation only.
        pseudo_labels: folder that `superflow test --pseudo-labels` wrote. Frames with a file there are trained on it,
            the others on their own labels.

    Frames without labels are left out, and their number is logged.

    Raises:
        InputError: nothing with labels is chosen, a token of the list is not among the chosen rows, or
            ``pseudo_labels`` are none of theirs or are given for an evaluation.
    """

    draws_by_seed = True  # and so may be drawn from in a thread

    def __init__(
        self,
        index: LogIndex | str | Path,
        *,
        frames: str | Sequence[str] | None = None,
        rows: Sequence[int] | None = None,
        tokens: str | Path | Sequence[str] | None = None,
        train: bool = False,
        max_points: Count = None,
        limits: Limits | dict[str, Any] | None = None,
        augmentation: dict[str, Any] | None = None,
        viewpoint_m: float = 0.0,
        raw_intensity: bool = False,
        variant: str = CLEAN,
        pseudo_labels: str | Path | None = None,
    ) -> None:
        if rows is not None and frames is not None:
            raise InputError("give SegmentDataset either rows or frames, not both")
        if train and variant != CLEAN:
            raise InputError(
                f"variant={variant}: corrupted scans are to be judged on; give it to the evaluation only"
            )
        self.index = in_variant(LogIndex.open(index) if isinstance(index, str | Path) else index, variant)
        chosen = self.index.rows(frames) if rows is None else rows
        self.rows = np.asarray(chosen, dtype=np.int64)
        if tokens is not None:
            self.rows = _only_tokens(self.index, self.rows, tokens)
        if len(self.rows) == 0:
            raise InputError(f"{frames!r} chooses no frame of the index; see its splits and scenes")
        self.train = train
        self.pseudo_labels = None if pseudo_labels is None else Path(pseudo_labels)
        if self.pseudo_labels is not None:
            self._check_pseudo_labels(self.pseudo_labels)
        self.rows = self._labelled(self.rows)
        self.max_points = max_points
        self.limits = Limits.from_record(limits)
        self.augmentation = dict(augmentation or {})
        check_viewpoint(viewpoint_m, max_points)
        self.viewpoint_m = viewpoint_m
        self.raw_intensity = raw_intensity

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the train ids."""
        return tuple(self.index.card.classes)

    @property
    def frame_tokens(self) -> list[str]:
        """Tokens of the frames, in their order."""
        return self.index.tokens(self.rows)

    def record(self) -> dict[str, Any]:
        """What the run's record says of its data."""
        record = data_record(self.index, self.rows, limits=self.limits, raw_intensity=self.raw_intensity)
        record["classes"] = list(self.class_names)
        if self.pseudo_labels is not None:
            pseudo = [token for token in self.index.tokens(self.rows) if self._pseudo_path(token).is_file()]
            record["pseudo_labels"] = {"folder": str(self.pseudo_labels), "frames": len(pseudo)}
        return record

    def _labelled(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those of ``rows`` that have labels, of their own or made ones."""
        tokens = self.index.tokens(rows)
        kept = np.array(
            [
                self.index.has_labels(int(row))
                or (self.pseudo_labels is not None and self._pseudo_path(token).is_file())
                for row, token in zip(rows, tokens)
            ]
        )
        if not kept.any():
            raise InputError(
                f"none of the {len(rows)} chosen frames has labels; choose labelled frames, or pretrain on this log "
                "instead"
            )
        if not kept.all():
            _log.info("%d of %d chosen frames have no labels and are left out", (~kept).sum(), len(rows))
        return rows[kept]

    def labels_of(self, frame: Frame) -> NDArray[np.uint8] | None:
        """(N,) train ids of a frame, 255 for none: its pseudo-labels where it has some, else its own labels or None.

        Raises:
            InputError: the pseudo-labels are of another number of points or of other classes.
        """
        labels = self._pseudo_labels_of(frame.token)
        if labels is None:
            return frame.labels
        foreign = (labels >= len(self.class_names)) & (labels != IGNORE_LABEL)
        cloud = frame.cloud
        rows = cloud.rows_of_file
        if len(labels) != rows:
            wrong = f"{len(labels)} labels for a scan of {rows} points"
        elif foreign.any():
            wrong = f"class {labels[foreign][0]} in a log of {len(self.class_names)} classes"
        else:
            return labels if cloud.file_row is None else labels[cloud.file_row]
        path = self._pseudo_path(frame.token)
        raise InputError(f"{path}: {wrong}; write it again with `superflow test --pseudo-labels` on this log")

    def require_labelled_points(self, purpose: str) -> None:
        """Make sure that there is something to learn or to judge; see `labelled.require_labelled_points`.

        Raises:
            InputError: no frame has a point of a class.
        """
        require_labelled_points(self.index, self.rows, purpose, labels=self._label_file)

    def _label_file(self, row: int) -> NDArray[np.uint8] | None:
        """Train ids of a scan as in its file, which is not compared with the scan."""
        labels = self._pseudo_labels_of(self.index.tokens([row])[0])
        return self.index.labels(row) if labels is None else labels

    def _pseudo_labels_of(self, token: str) -> NDArray[np.uint8] | None:
        """What the file of a frame's pseudo-labels holds; None where it has none."""
        path = None if self.pseudo_labels is None else self._pseudo_path(token)
        if path is None or not path.is_file():
            return None
        with reading(path):
            return np.fromfile(path, dtype=np.uint8)

    def __getitem__(self, key: int | tuple[int, int]) -> Batch:
        """Sample ``item`` or ``(item, seed)``; everything random comes from ``seed`` alone."""
        item, seed = key if isinstance(key, tuple) else (key, 0)
        if not 0 <= item < len(self.rows):
            raise IndexError(f"item {item} of {len(self.rows)}")
        frame = self.index.frame(
            int(self.rows[item]), cameras=(), images=False, labels=True, raw_intensity=self.raw_intensity
        )
        labelled = self.labels_of(frame)
        if labelled is None:
            raise InputError(
                f"frame {frame.token} has no labels; choose labelled frames, or pretrain on this log instead"
            )
        points = torch.from_numpy(frame.points)
        labels = torch.from_numpy(labelled.astype(np.int64))
        if self.train:
            origins = None if frame.origins is None else torch.from_numpy(frame.origins)
            points, labels = self._vary(points, labels, origins, torch.Generator().manual_seed(int(seed)))
        source = source_of(self.index, int(self.rows[item]))
        return Batch.of_cloud(points, labels=labels, tokens=(frame.token,), sources=((source,),))

    def _pseudo_path(self, token: str) -> Path:
        assert self.pseudo_labels is not None
        return pseudo_label_path(self.pseudo_labels, token)

    def _check_pseudo_labels(self, folder: Path) -> None:
        if not self.train:
            raise InputError(
                f"pseudo_labels={folder}: a model is not judged by predictions; give it to the training set only"
            )
        if not any(self._pseudo_path(token).is_file() for token in self.index.tokens(self.rows)):
            raise InputError(
                f"{folder}: holds no pseudo-labels of the {len(self.rows)} chosen frames; write some with "
                "`superflow test --pseudo-labels`, or choose their frames too"
            )
        if not (folder / PSEUDO_RECORD).is_file():
            if (folder / JOURNAL).is_file():
                _log.warning("%s: the job that writes these pseudo-labels was stopped before its end", folder)
            return
        names = read_json(folder / PSEUDO_RECORD, "write the pseudo-labels again").get("class_names")
        if names is not None and names != list(self.class_names):
            number, (had, has) = first_difference(names, self.class_names)
            raise InputError(
                f"{folder}: its pseudo-labels are of other classes than this log has (number {number} is {had}, here "
                f"{has}); write them again with `superflow test --pseudo-labels` on this log"
            )

    def _vary(
        self, points: Tensor, labels: Tensor, origins: Tensor | None, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        if self.limits is not None:
            inside = self.limits.mask(points)
            points, labels = points[inside], labels[inside]
            origins = None if origins is None else origins[inside]
        count = draw_count(
            len(points),
            self.max_points,
            lambda: float(torch.rand((), generator=generator, dtype=torch.float64)),
        )
        if self.viewpoint_m:
            kept, spot = thin_as_from_elsewhere(points, self.viewpoint_m, count, generator, origins=origins)
            kept = _with_few_labelled(kept, labels, count, generator)
            points, labels = points[kept], labels[kept]
            points[:, :2] -= spot
        elif count < len(points):
            kept = torch.randperm(len(points), generator=generator)[:count].sort().values
            kept = _with_few_labelled(kept, labels, count, generator)
            points, labels = points[kept], labels[kept]
        points, _ = augment(points, generator, **self.augmentation)
        return points, labels


def _with_few_labelled(kept: Tensor, labels: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Ascending rows to keep: ``kept``, or all labelled points and some of ``kept`` where labels are few.

    Where someone has marked a hundred points of a scan, thinning would leave a handful to learn from.
    """
    few = few_labelled(labels, count)
    if few is None:
        return kept
    marked, others = few.nonzero()[:, 0], kept[~few[kept]]
    others = others[torch.randperm(len(others), generator=generator)[: count - len(marked)]]
    return torch.cat([marked, others]).sort().values


def pseudo_label_path(folder: str | Path, token: str) -> Path:
    """File of a frame's pseudo-labels: uint8 train ids, 255 = unsure, one a row of the scan's file.

    Raises:
        InputError: the token cannot be the name of a file.
    """
    return file_in(folder, f"{token}_pseudo.bin")


def _only_tokens(index: LogIndex, rows: np.ndarray, tokens: str | Path | Sequence[str]) -> np.ndarray:
    source = str(tokens) if isinstance(tokens, str | Path) else "the token list"
    wanted = read_tokens(tokens) if isinstance(tokens, str | Path) else list(tokens)
    check_once(wanted, source)
    if not wanted:
        raise InputError(f"{source}: names no frame; write one token a line, or leave it out")
    row_of = dict(zip(index.tokens(rows), rows.tolist()))
    unknown = [token for token in wanted if token not in row_of]
    if unknown:
        raise InputError(
            f"{source}: token {unknown[0]} ({len(unknown)} in all) is not among the {len(rows)} chosen frames; "
            "the list belongs to another dataset or split"
        )
    return np.array([row_of[token] for token in wanted], dtype=np.int64)
