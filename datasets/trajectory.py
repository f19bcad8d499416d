"""Where a vehicle was over time: poses at some instants, and those between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ..geometry import Transform, compose, nearest_rotation

LONGEST_GAP_US = 1_000_000  # poses further apart than this say nothing of the time between


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """Poses in time.

    Attributes:
        times_us: (M,) int64 strictly ascending. poses: (M, 4, 4) of each of these.
    """

    times_us: NDArray[np.int64]
    poses: NDArray[np.float64]

    @classmethod
    def of(cls, times_us: NDArray[np.int64], poses: NDArray[np.float64]) -> Trajectory:
        """From poses in any order; of those of one instant the first counts."""
        times_us, first = np.unique(times_us, return_index=True)
        return cls(times_us, poses[first])

    def __len__(self) -> int:
        return len(self.times_us)

    def at(self, time_us: int, *, max_gap_us: int) -> Transform | None:
        """(4, 4) the pose at a time: the turn on the shortest way between its two neighbours, the place on a line.

        None before the first pose, after the last, and where its neighbours are further apart than ``max_gap_us``.
        """
        after = int(np.searchsorted(self.times_us, time_us))
        if after < len(self) and self.times_us[after] == time_us:
            return self.poses[after]
        if not 0 < after < len(self) or self.times_us[after] - self.times_us[after - 1] > max_gap_us:
            return None
        return self.between(np.array([time_us]), np.array([after - 1]))[0]

    def between(self, times_us: NDArray[np.integer], segment: NDArray[np.integer]) -> NDArray[np.float64]:
        """(K, 4, 4) poses at K times by the motion from pose ``segment`` to the next one, beyond both as well."""
        start, stop = self.times_us[segment], self.times_us[segment + 1]
        share = (times_us - start) / (stop - start)
        first = self.poses[segment]
        turned = compose(np.swapaxes(first[:, :3, :3], 1, 2), self.poses[segment + 1][:, :3, :3])
        turn = Rotation.from_matrix(nearest_rotation(turned))
        found = np.zeros((len(times_us), 4, 4))
        found[:, :3, :3] = compose(
            first[:, :3, :3], Rotation.from_rotvec(turn.as_rotvec() * share[:, None]).as_matrix()
        )
        step = self.poses[segment + 1][:, :3, 3] - first[:, :3, 3]
        found[:, :3, 3] = first[:, :3, 3] + share[:, None] * step
        found[:, 3, 3] = 1
        return found

    def around(self, times_us: NDArray[np.integer], *, max_gap_us: int) -> NDArray[np.float64]:
        """(K, 4, 4) poses at K times, before the first and after the last pose by the motion beside them.

        Between two poses further apart than ``max_gap_us`` nobody knows how the vehicle moved: there the motion beside
        the nearer of the two goes on, if it was seen more closely. There must be two poses or more.
        """
        last, length_us = len(self) - 2, np.diff(self.times_us)
        segment = np.clip(np.searchsorted(self.times_us, times_us, side="right") - 1, 0, last)
        towards = np.where(2 * times_us < self.times_us[segment] + self.times_us[segment + 1], -1, 1)
        beside = np.clip(segment + towards, 0, last)
        gap = (length_us[segment] > max_gap_us) & (length_us[beside] < length_us[segment])
        return self.between(times_us, np.where(gap, beside, segment))
