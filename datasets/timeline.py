"""When the scans of a log were taken, and which stand beside which: every question about time is asked here."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .columns import NO_TIME
from .records import APART
from .store import Columns
from .trajectory import LONGEST_GAP_US

_HOLE = 1.5  # of the usual step between the scans of a scene: there one is missing, at least
_ENOUGH = 3  # steps of a scene: of fewer, half can be holes


class Timeline:
    """Scans sorted by scene and time.

    Attributes:
        name: of the log, for messages.
        scene_of (R,) int32, order (R,) int64, time_us (R,) int64, is_key (R,) bool: of every scan (key frames and
            sweeps), sorted by scene, then order; ``NO_TIME`` where a time is not known.
        has_times, has_poses: whether they are known of every scan.
    """

    def __init__(self, name: str, frames: Columns) -> None:
        self.name = name
        self.scene_of: NDArray[np.int32] = frames["scene"]
        self.order: NDArray[np.int64] = frames["order"]
        self.time_us: NDArray[np.int64] = frames["time_us"]
        self.is_key: NDArray[np.bool_] = frames["is_key"]
        self.has_times = bool((self.time_us != NO_TIME).all())
        self.has_poses = not np.isnan(frames["ego_to_world"]).any()
        self._keys = np.flatnonzero(self.is_key)

    def __len__(self) -> int:
        """Number of scans, sweeps included."""
        return len(self.scene_of)

    def require(self, what: str, purpose: str, *, times: bool = False, poses: bool = False) -> None:
        """Make sure that the log knows what a job needs; nothing is made up for it.

        Args:
            what: the job, in words that begin a sentence. purpose: what else can be done, in words that end it.
            times, poses: whether it needs those of every scan.

        Raises:
            InputError: the log lacks one of them.
        """
        lacking = " and ".join(
            name
            for name, needed in (
                ("times", times and not self.has_times),
                ("poses", poses and not self.has_poses),
            )
            if needed
        )
        if lacking:
            raise InputError(
                f"{self.name}: {what} needs {lacking} of every scan, and this log lacks some; {purpose}"
            )

    def neighbour(self, row: int, offset: int, *, max_gap_s: float | None = None) -> int | None:
        """Row of the key frame ``offset`` key frames later (earlier if negative) in the same scene, or None.

        From a sweep, +1 is the next key frame and -1 the one before it. The answer comes from the log's time order,
        whatever subset of rows is in use.

        Args:
            max_gap_s: None too if the two scans are further apart in time than this [s].

        Raises:
            InputError: ``max_gap_s`` of a log that does not know its times.
        """
        row = self._check(row)
        if offset == 0:
            return row
        position = int(np.searchsorted(self._keys, row)) + offset
        if not self.is_key[row] and offset > 0:
            position -= 1
        if not 0 <= position < len(self._keys):
            return None
        other = int(self._keys[position])
        if self.scene_of[other] != self.scene_of[row]:
            return None
        if max_gap_s is None:
            return other
        self.require("a neighbour within so many seconds", "ask for one by its number alone", times=True)
        gap_us = abs(int(self.time_us[other]) - int(self.time_us[row]))
        return None if gap_us > max_gap_s * 1e6 else other

    def neighbour_at(
        self, row: int, seconds: float, *, tolerance_s: float, among: NDArray[np.int64] | None = None
    ) -> int | None:
        """Row of the key frame of the same scene that is nearest in time to ``seconds`` after ``row``, or None.

        Of two that are equally near, the earlier. The answer comes from the log's time order, whatever the rate of the
        key frames.

        Args:
            seconds: from the scan to its neighbour [s], negative for earlier ones; 0 gives ``row``. Only key frames on
                that side of ``row`` are neighbours.
            tolerance_s: None if the nearest is further than this from the asked time [s].
            among: (K,) ascending rows of key frames to choose from; all of the log when None.

        Raises:
            InputError: the log does not know its times.
        """
        self.require("a neighbour in seconds", 'count key frames instead: times.unit="frames"', times=True)
        row = self._check(row)
        if seconds == 0:
            return row
        first, stop = self._scene_rows(row)
        first, stop = (row + 1, stop) if seconds > 0 else (first, row)
        keys = self._keys if among is None else among
        keys = keys[slice(*np.searchsorted(keys, [first, stop]))]
        asked_us = int(self.time_us[row]) + round(seconds * 1e6)
        after = int(np.searchsorted(self.time_us[keys], asked_us))
        beside = keys[max(after - 1, 0) : after + 1].tolist()
        if not beside:
            return None
        gap_us, other = min((abs(int(self.time_us[key]) - asked_us), key) for key in beside)
        return None if gap_us > tolerance_s * 1e6 else int(other)

    def key_interval_s(self, among: NDArray[np.int64] | None = None) -> float:
        """Usual time between key frames of a scene [s], the median; 0 where no scene has two, or no time is known.

        Args:
            among: (K,) ascending rows of key frames to look at; all of the log when None.
        """
        if not self.has_times:
            return 0.0
        keys = self._keys if among is None else among
        gaps_us = np.diff(self.time_us[keys])[np.diff(self.scene_of[keys]) == 0]
        return float(np.median(gaps_us)) * 1e-6 if len(gaps_us) else 0.0

    def key_step(self) -> float:
        """Usual step between the places of key frames in their scene, the median; 1 where no scene has two."""
        steps = np.diff(self.order[self._keys])[np.diff(self.scene_of[self._keys]) == 0]
        steps = steps[steps < APART]
        return float(np.median(steps)) if len(steps) else 1.0

    def sweeps(self, row: int, count: int, *, after: int = 0) -> list[int]:
        """Rows of scans (key frames or not) around ``row`` in its scene, none behind a hole in the recording.

        Up to ``count`` just before it, newest first, then up to ``after`` just after it, oldest first.
        """
        row = self._check(row)
        first, stop = np.searchsorted(self._run, [self._run[row], self._run[row] + 1]).tolist()
        before = range(row - 1, max(first, row - count) - 1, -1)
        return [*before, *range(row + 1, min(stop, row + 1 + after))]

    def is_unbroken(self, row: int, other: int) -> bool:
        """Whether two scans are of one scene with no hole in the recording between them."""
        return bool(self._run[self._check(row)] == self._run[self._check(other)])

    def behind_holes(self) -> NDArray[np.int64]:
        """Rows of the first scans behind each hole in the recording of a scene."""
        return np.flatnonzero((np.diff(self._run) > 0) & (np.diff(self.scene_of) == 0)) + 1

    @cached_property
    def _run(self) -> NDArray[np.int64]:
        """(R,) ascending: scans of one number are of one scene, with no hole between them.

        A hole is a step of more than the usual one of its scene (of the log, where the scene is too short to tell), and
        of more than a second where times are known: a few scans that a driver dropped are none.
        """
        within = np.diff(self.scene_of) == 0
        steps = np.diff(self.time_us if self.has_times else self.order)
        least = LONGEST_GAP_US if self.has_times else 0
        new = ~within
        borders = [0, *(np.flatnonzero(new) + 1).tolist(), len(self)]
        for mine in (slice(start, stop - 1) for start, stop in pairwise(borders) if stop - start > 1):
            usual = np.median(steps[mine] if len(steps[mine]) >= _ENOUGH else steps[within])
            new[mine] = (steps[mine] > least) & (steps[mine] > _HOLE * usual)
        return np.append(0, np.cumsum(new | (np.diff(self.order) >= APART)))

    def _check(self, row: int) -> int:
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} is outside this index of {len(self)} scans")
        return int(row)

    def _scene_rows(self, row: int) -> tuple[int, int]:
        """First row of the scan's scene, and the one after its last."""
        scene = self.scene_of[row]
        return int(np.searchsorted(self.scene_of, scene)), int(np.searchsorted(self.scene_of, scene, "right"))
