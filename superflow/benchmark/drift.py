"""How far poses that were estimated drift away from a log's own: by KITTI's measure, over stretches of the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..geometry import matrix_of

STRETCH_M = 100.0
STEP = 5  # scans between the beginnings of stretches


@dataclass(frozen=True, slots=True)
class Drift:
    """Of all scenes together.

    way_m: driven by the log's poses. stretches: how many were compared; stretch_m: their length, that of the shortest
    scene where it is below ``STRETCH_M``. percent: mean distance between where both say a stretch ends, in per cent of
    its length. degrees: mean angle between how both stand there, for 100 m.
    """

    way_m: float
    scenes: int
    stretches: int
    stretch_m: float
    percent: float
    degrees: float

    def text(self) -> str:
        """One sentence."""
        return (
            f"{self.percent:.2f} % and {self.degrees:.2f} degrees per 100 m, over {self.stretches} stretches of "
            f"{self.stretch_m:.0f} m of {self.way_m:.0f} m in {self.scenes} scenes"
        )


def drift(known: Any, estimated: Any) -> Drift:
    """Of the index ``estimated`` from the index ``known``: of one log, with poses of the log and estimated ones.

    Raises:
        InputError: they do not hold the same scans, or a scan has no pose.
    """
    rows, others = known.rows(None, keys_only=False), estimated.rows(None, keys_only=False)
    if known.tokens(rows) != estimated.tokens(others):
        raise InputError(
            f"{estimated.folder}: holds other scans than {known.folder}; prepare the same log with and without --poses"
        )
    poses = [matrix_of(index.ego_poses()[own]) for index, own in ((known, rows), (estimated, others))]
    for index, own in ((known, poses[0]), (estimated, poses[1])):
        if not np.isfinite(own).all():
            raise InputError(f"{index.folder}: a scan has no pose; prepare a log whose scans have theirs")
    scenes = [np.flatnonzero(known.scene_of[rows] == scene) for scene in np.unique(known.scene_of[rows])]
    return drift_of([(poses[0][own], poses[1][own]) for own in scenes])


def drift_of(pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> Drift:
    """The same of (S, 4, 4) poses of each scene, known and estimated, whatever their worlds.

    Raises:
        InputError: the vehicle never moves.
    """
    ways = [_way(known) for known, _ in pairs]
    length = min(STRETCH_M, min(way[-1] for way in ways))
    if length < 1.0:
        raise InputError("a scene is shorter than a metre; drift is measured where the vehicle moves")
    shifts, angles = [], []
    for (known, estimated), way in zip(pairs, ways):
        for start in range(0, len(way), STEP):
            end = int(np.searchsorted(way, way[start] + length - 1e-9))
            if end == len(way):
                break
            off = np.linalg.inv(_between(known, start, end)) @ _between(estimated, start, end)
            stretch = way[end] - way[start]
            shifts.append(100.0 * float(np.linalg.norm(off[:3, 3])) / stretch)
            cosine = np.clip((np.trace(off[:3, :3]) - 1.0) / 2.0, -1.0, 1.0)
            angles.append(float(np.rad2deg(np.arccos(cosine))) * 100.0 / stretch)
    return Drift(
        float(sum(way[-1] for way in ways)),
        len(pairs),
        len(shifts),
        float(length),
        float(np.mean(shifts)),
        float(np.mean(angles)),
    )


def _way(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    """(S,) metres driven up to each scan."""
    steps = np.linalg.norm(np.diff(poses[:, :3, 3], axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def _between(poses: NDArray[np.float64], start: int, end: int) -> NDArray[np.float64]:
    """(4, 4) from the vehicle at the end to that at the start."""
    between: NDArray[np.float64] = np.linalg.inv(poses[start]) @ poses[end]
    return between
