"""A prepared log whose scans are corrupted while they are read; nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..card import RAW_FULL
from ..cloud import Cloud
from ..index import LogIndex
from .copy_mark import CLEAN
from .domain import Domain
from .models import Variant, corrupt


class CorruptedIndex(LogIndex):
    """The log of an index in one variant, for evaluation.

    Points that are lost are rows of the file that are no points; labels of noise are ignored.

    Args:
        variant: CORRUPTION/LEVEL, see `corruptions.models.Variant`. rows: those that are corrupted; None for all.

    Raises:
        InputError: there is no such variant, the log is a corrupted copy already, or what `LogIndex` raises.
    """

    def __init__(
        self,
        folder: str | Path,
        variant: str,
        *,
        root: str | Path | None = None,
        rows: Sequence[int] | None = None,
    ) -> None:
        super().__init__(folder, root=root)
        self._variant = Variant.parse(variant)
        if self.variant != CLEAN:
            raise InputError(
                f"{self.folder}: holds the corrupted copy {self.variant}; corrupt the clean log instead"
            )
        self.variant = str(self._variant)
        self._domain = Domain.of(self.card, is_published=self._variant.is_published)
        self._only = None if rows is None else frozenset(map(int, rows))

    def __reduce__(self) -> tuple[Any, ...]:
        rows = None if self._only is None else sorted(self._only)
        known = (self.hash, self.card.hash)
        return _reopen, (str(self.folder.absolute()), self.variant, str(self.root.absolute()), rows, known)

    def read_cloud(
        self, row: int, *, labels: bool, raw_intensity: bool
    ) -> tuple[Cloud, NDArray[np.uint8] | None]:
        if self._only is not None and row not in self._only:
            return super().read_cloud(row, labels=labels, raw_intensity=raw_intensity)
        cloud, train_ids = super().read_cloud(row, labels=True, raw_intensity=False)
        found = corrupt(cloud, train_ids, self._variant, self._domain, token=self.tokens([row])[0])
        cloud = found.cloud
        if raw_intensity and cloud.intensity is not None:
            cloud = replace(cloud, intensity=cloud.intensity * np.float32(RAW_FULL))
        return cloud, found.labels(train_ids) if labels else None


def in_variant(index: LogIndex, variant: str, rows: Sequence[int] | None = None) -> LogIndex:
    """The index itself for ``clean``, else its `CorruptedIndex`."""
    return index if variant == CLEAN else CorruptedIndex(index.folder, variant, root=index.root, rows=rows)


def _reopen(
    folder: str, variant: str, root: str, rows: Sequence[int] | None, known: tuple[str, str]
) -> CorruptedIndex:
    """What a loader process does to receive an index."""
    index = CorruptedIndex(folder, variant, root=root, rows=rows)
    if (index.hash, index.card.hash) != known:
        raise InputError(f"{folder}: the index was prepared anew while it was in use; start the run again")
    return index
