"""How good regions are for LiDAR: do their points have one class, and do two cameras agree on them?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...datasets.frame import IGNORE_LABEL, Frame
from ..occlusion import scan_surface
from ..projection import nearest_pixels, project
from .ids import IGNORE
from .store import read_record, read_superpixels


@dataclass(frozen=True, slots=True)
class QualityReport:
    """Figures over all frames; None where nothing could be counted (no labels, no overlap, ids not shared).

    A *pair* is a point on an image where it is visible. A *double view* is a point that two cameras of one frame
    see, both with a region; a point in three cameras is three double views.
    """

    images: int
    regions: float  # ids with a pixel, mean over images
    hit: float  # ids with a pair, mean over images
    points_a_region: float  # pairs of a hit id, median
    coverage: float | None  # share of pairs whose pixel has a region
    # share of labelled pairs that have the commonest class of their region in this image
    purity: float | None
    purity_log: float | None  # the same with regions over all images; only for shared ids
    # share of labelled double views whose two regions have the same commonest class
    view_classes: float | None
    view_ids: float | None  # share of double views with the same id twice; only for shared ids
    # adjusted Rand index of two cameras' regions on their double views, mean over them
    view_partition: float | None
    double_views: int

    def record(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def table(self) -> str:
        """One line a figure."""
        values = self.record().items()
        return "\n".join(
            f"{name:16} {'-' if v is None else f'{v:.3f}' if isinstance(v, float) else v}"
            for name, v in values
        )


def quality_report(frames: Iterable[Frame], folder: str | Path, *, hide: bool = True) -> QualityReport:
    """Figures of the regions in ``folder`` on ``frames``, which carry points, cameras and perhaps labels.

    Args:
        hide: leave out points that something nearer hides from the camera.

    Raises:
        InputError: a map is missing or does not fit its image.
    """
    shared = bool(read_record(folder)["shared_ids"])
    counts = _Counts(shared)
    for frame in frames:
        labels = np.full(len(frame.points), IGNORE_LABEL, np.uint8) if frame.labels is None else frame.labels
        surface = scan_surface(frame.points, frame.by_lidar) if hide else None
        views = []
        for camera in frame.cameras:
            ids = read_superpixels(folder, camera.token, camera.size).astype(np.int64)
            view = (frame.lidar_to_camera(camera), camera.lens)
            seen = project(frame.points, *view)
            if surface is not None:
                seen = seen.select(~surface.hides(seen, *view))
            column, row = nearest_pixels(seen.pixels, camera.size).T
            views.append(counts.add_image(ids, ids[row, column], seen.rows, labels[seen.rows]))
        for first, second in combinations(views, 2):
            counts.add_views(first, second)
    return counts.report()


@dataclass(frozen=True, slots=True)
class _View:
    """Pairs of one image that have a region."""

    rows: NDArray[np.int64]  # of the cloud, ascending
    ids: NDArray[np.int64]
    classes: NDArray[np.int64]  # of the point
    # commonest class of the point's region in this image, IGNORE_LABEL without labels
    dominant: NDArray[np.int64]


class _Counts:
    """Sums over images and double views."""

    def __init__(self, shared: bool) -> None:
        self.shared = shared
        self.images = self.regions = self.hit = 0
        self.sizes: list[NDArray[np.int64]] = []
        self.pairs = self.covered = self.labelled = self.pure = 0
        self.over_log = np.zeros((0, 256), np.int64)  # row = shared id, column = class
        self.doubles = self.doubles_labelled = self.same_class = self.same_id = 0
        self.partition = 0.0
        self.partitioned = 0

    def add_image(
        self,
        regions: NDArray[np.int64],
        ids: NDArray[np.int64],
        rows: NDArray[np.int64],
        labels: NDArray[np.uint8],
    ) -> _View:
        has = ids != IGNORE
        ids, rows, classes = ids[has], rows[has], labels[has].astype(np.int64)
        present = np.unique(regions)
        hit, place, size = np.unique(ids, return_inverse=True, return_counts=True)
        table = np.zeros((len(hit), 256), np.int64)
        np.add.at(table, (place, classes), 1)
        table[:, IGNORE_LABEL] = 0
        dominant = np.where(table.any(axis=1), table.argmax(axis=1), IGNORE_LABEL)
        self.images += 1
        self.regions += len(present) - int(IGNORE in present)
        self.hit += len(hit)
        self.sizes.append(size)
        self.pairs += len(has)
        self.covered += len(ids)
        self.labelled += int(table.sum())
        self.pure += int(table.max(axis=1, initial=0).sum())
        if self.shared and len(hit):
            missing = max(int(hit[-1]) + 1 - len(self.over_log), 0)
            self.over_log = np.pad(self.over_log, ((0, missing), (0, 0)))
            self.over_log[hit] += table
        return _View(rows, ids, classes, dominant[place])

    def add_views(self, first: _View, second: _View) -> None:
        _, a, b = np.intersect1d(first.rows, second.rows, assume_unique=True, return_indices=True)
        if not len(a):
            return
        self.doubles += len(a)
        self.same_id += int((first.ids[a] == second.ids[b]).sum())
        known = (first.classes[a] != IGNORE_LABEL) & (first.dominant[a] != IGNORE_LABEL)
        known &= second.dominant[b] != IGNORE_LABEL
        self.doubles_labelled += int(known.sum())
        self.same_class += int((first.dominant[a] == second.dominant[b])[known].sum())
        index = adjusted_rand(first.ids[a], second.ids[b])
        if index is not None:
            self.partition += index * len(a)
            self.partitioned += len(a)

    def report(self) -> QualityReport:
        images = max(self.images, 1)
        sizes = np.concatenate([*self.sizes, np.zeros(0, np.int64)])
        log_total = int(self.over_log.sum())
        return QualityReport(
            images=self.images,
            regions=self.regions / images,
            hit=self.hit / images,
            points_a_region=float(np.median(sizes)) if len(sizes) else 0.0,
            coverage=_share(self.covered, self.pairs),
            purity=_share(self.pure, self.labelled),
            purity_log=_share(int(self.over_log.max(axis=1).sum()), log_total) if self.shared else None,
            view_classes=_share(self.same_class, self.doubles_labelled),
            view_ids=_share(self.same_id, self.doubles) if self.shared else None,
            view_partition=self.partition / self.partitioned if self.partitioned else None,
            double_views=self.doubles,
        )


def adjusted_rand(first: NDArray[np.int64], second: NDArray[np.int64]) -> float | None:
    """Agreement of two groupings (P,) of the same points (Hubert and Arabie 1985): 1 equal, 0 as by chance.

    It compares which points lie together, so the ids themselves need not correspond. None if fewer than two
    points, or if both groupings are trivial (all together or all apart) and nothing can be said.
    """
    table = np.unique(np.stack([first, second]), axis=1, return_counts=True)[1]
    sums = [np.unique(groups, return_counts=True)[1] for groups in (first, second)]
    together, one, other = (float((n * (n - 1) // 2).sum()) for n in (table.astype(np.int64), *sums))
    total = len(first) * (len(first) - 1) / 2
    if total == 0:
        return None
    chance = one * other / total
    best = (one + other) / 2
    return None if best == chance else (together - chance) / (best - chance)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
