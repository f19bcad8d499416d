"""Voting with a trained segmentor on the datasets of its config: figures, and pseudo-labels to train on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.card import RAW_FULL
from ..datasets.selection import without
from ..errors import InputError
from .pseudo_labels import PseudoLabelFiles
from .segment_data import SegmentDataset
from .segmentor import Segmentor
from .vote_log import Predictor, evaluate_voting, segmentor_predictor
from .voting import VotingOptions

WINDOW = 2  # key frames each way


class VoteRun:
    """Which frames are judged, which may not vote because their labels trained the model, and which get pseudo-labels.

    Args:
        evaluated: the test set. trained: the training set of the model, perhaps of another log.
        pseudo_frames: what ``LogIndex.rows`` takes, or None. Frames of ``trained`` among them keep their own labels.

    Raises:
        InputError: a dataset is no ``SegmentDataset``; a frame is evaluated although the model was trained on its
            labels, or although it is to get pseudo-labels; or no frame is left to label.
    """

    def __init__(
        self, evaluated: Any, trained: Any, pseudo_frames: str | Sequence[str] | None = None
    ) -> None:
        for dataset in (evaluated, trained):
            if not isinstance(dataset, SegmentDataset):
                raise InputError(
                    f"voting needs the frames of a SegmentDataset, not of a {type(dataset).__name__}"
                )
        self.index = evaluated.index
        self.evaluated: list[int] = evaluated.rows.tolist()
        self.labelled = _rows_of(self.index, trained)
        self._refuse(self.labelled, "the model was trained on its labels; take it out of the test set")
        self.pseudo: list[int] = []
        if pseudo_frames is not None:
            chosen = [int(row) for row in self.index.rows(pseudo_frames)]
            self._refuse(chosen, "it is to get pseudo-labels; choose other frames for these")
            self.pseudo = without(chosen, self.labelled)
            if not self.pseudo:
                terms = [pseudo_frames] if isinstance(pseudo_frames, str) else pseudo_frames
                raise InputError(
                    f"pseudo-labels for {' '.join(terms)}: the model was trained on the labels of all these frames; "
                    "choose others"
                )
        self._full_intensity = RAW_FULL if evaluated.raw_intensity else 1.0

    def report(self, segmentor: Segmentor) -> dict[str, Any]:
        """`evaluate_voting` on the evaluated frames, offline and causal."""
        variants = {
            "offline": VotingOptions.window(WINDOW),
            "causal": VotingOptions.window(WINDOW, causal=True),
        }
        predict = self._predictor(segmentor)
        return evaluate_voting(self.index, self.evaluated, predict, variants, labelled_rows=self.labelled)

    def files(self, folder: str | Path, made_by: Mapping[str, Any]) -> PseudoLabelFiles:
        """The pseudo-labels of ``folder``; frames of the training set vote with their labels.

        Args:
            made_by: what the predictions of the segmentor follow from; the scale of intensity is known here.
        """
        return PseudoLabelFiles(
            self.index,
            self.pseudo,
            folder,
            VotingOptions.window(WINDOW),
            evaluation_rows=self.evaluated,
            labelled_rows=self.labelled,
            made_by={**made_by, "full_intensity": self._full_intensity},
        )

    def write(
        self, segmentor: Segmentor, files: PseudoLabelFiles, record: Mapping[str, Any]
    ) -> dict[str, Any]:
        """`PseudoLabelFiles.write` of those that `files` gave."""
        return files.write(self._predictor(segmentor), record=record)

    def _predictor(self, segmentor: Segmentor) -> Predictor:
        return segmentor_predictor(segmentor, full_intensity=self._full_intensity)

    def _refuse(self, rows: Sequence[int], why: str) -> None:
        if both := set(rows) & set(self.evaluated):
            raise InputError(
                f"frame {self.index.tokens([min(both)])[0]} is evaluated although {why} ({len(both)} in all)"
            )


def check_trained_on(trained: Any, record: Mapping[str, Any], checkpoint: str | Path) -> None:
    """Make sure that the frames that must not vote are those the checkpoint was trained on.

    Args:
        trained: the training set. record: what the checkpoint says of its data, by stage.

    Raises:
        InputError: ``trained`` names other frames than the record.
    """
    if record.get("train", {}).get("tokens_hash") != trained.record().get("tokens_hash"):
        raise InputError(
            f"{checkpoint}: was not trained on the {len(trained)} frames of this config's train_dataloader; give the "
            "config.py beside it, or the same --cfg-options, since frames that it was trained on may not vote"
        )


def _rows_of(index: Any, dataset: SegmentDataset) -> list[int]:
    """Rows of ``index`` that are the frames of ``dataset``, by their tokens."""
    tokens = set(dataset.index.tokens(dataset.rows))
    return [row for row, token in enumerate(index.tokens(np.arange(len(index)))) if token in tokens]
