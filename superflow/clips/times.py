"""Which frames make a clip: the centre and the times around it that exist and may be used."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import numpy as np

from ..datasets.index import LogIndex

_log = logging.getLogger(__name__)

UNITS = ("frames", "seconds")
BORDERS = ("absent", "repeat", "other")
JITTER = 1.25  # times of scans vary; without it half of a jittering log would just miss its neighbours
ENOUGH = 4  # key frames of a scene: with fewer, half of the times between them can be holes


class ClipTimes:
    """Finds the frames around a centre, within its scene and among the chosen frames.

    Args:
        index: the log.
        chosen: rows that clips may use.
        offsets: times around the centre, 0 among them: in key frames, or in seconds.
        unit: ``frames``, or ``seconds``: then the nearest key frame on that side of the centre is taken.
        tolerance_s: how far from the asked second it may lie, or from the time that so many key frames usually take.
            None: of seconds, what the usual time between the chosen frames needs, so that frames slower than the asked
            time still have neighbours, and some more for jitter; of frames, half of what one takes, so that a frame
            that lies behind a hole in the log is no neighbour.
        border: a time that does not exist, or was not chosen, is ``absent``; or ``repeat`` takes the centre itself
            (published), and ``other`` the time on the other side of the centre, where that exists.

    Raises:
        ValueError: unknown words, or offsets that make no sense.
    """

    def __init__(
        self,
        index: LogIndex,
        chosen: Iterable[int],
        offsets: Sequence[float] = (-1, 0, 1),
        *,
        unit: str = "frames",
        tolerance_s: float | None = None,
        border: str = "absent",
    ) -> None:
        if unit not in UNITS:
            raise ValueError(f"times.unit {unit!r} is unknown; use one of {', '.join(UNITS)}")
        if border not in BORDERS:
            raise ValueError(f"times.border {border!r} is unknown; use one of {', '.join(BORDERS)}")
        self._index, self._border = index, border
        self._rows = np.unique(np.asarray(list(chosen), dtype=np.int64))
        self._chosen = frozenset(self._rows.tolist())
        self._asked = _numbered(offsets, unit)
        self._unit, self._tolerance_s = unit, tolerance_s
        self._interval_s = index.key_interval_s(self._rows if unit == "seconds" else None)
        self._interval_of_scene: dict[int, float] = {}
        self._step = 1.0 if index.has_times else index.key_step()
        self._warn_if_alone()

    def rows(self, row: int) -> dict[int, int]:
        """Number of each time that was found -> its row.

        Numbers are the offsets where they count frames; seconds are numbered ..., -1, 0, 1, ... in order.
        """
        own: dict[int, int] = {}
        for number, asked in self._asked.items():
            other = self._at(row, asked)
            # the key frames may be too rare to tell two asked seconds apart
            if other is not None and not (self._unit == "seconds" and other in own.values()):
                own[number] = other
        found = {
            number: own[number] if number in own else self._instead(row, asked)
            for number, asked in self._asked.items()
        }
        return {number: other for number, other in found.items() if other is not None}

    def _instead(self, row: int, asked: float) -> int | None:
        """What stands in for a time that does not exist."""
        if self._border == "other":
            return self._at(row, -asked)
        return row if self._border == "repeat" else None

    def _at(self, row: int, asked: float) -> int | None:
        """The chosen key frame that many frames or seconds after ``row``."""
        if self._unit == "seconds":
            tolerance_s = self._tolerance_s
            if tolerance_s is None:
                tolerance_s = JITTER * max(0.5 * self._interval_s, self._interval_s - abs(asked))
            return self._index.neighbour_at(row, asked, tolerance_s=tolerance_s, among=self._rows)
        if not self._index.has_times:
            return self._counted(row, int(asked))
        usual_s = self._usual_s(row)
        tolerance_s = 0.5 * usual_s if self._tolerance_s is None else self._tolerance_s
        other = self._index.neighbour(row, int(asked), max_gap_s=abs(asked) * usual_s + tolerance_s)
        return other if other in self._chosen else None

    def _counted(self, row: int, asked: int) -> int | None:
        """``_at`` where only the order of the scans is known: one that lies behind a hole in it is no neighbour."""
        other = self._index.neighbour(row, asked)
        if other is None or other not in self._chosen:
            return None
        steps = abs(int(self._index.order[other] - self._index.order[row]))
        return other if steps <= (abs(asked) + 0.5) * self._step else None

    def _usual_s(self, row: int) -> float:
        """Usual time between key frames in the row's scene, or in the log where the scene is too short to tell."""
        scene = int(self._index.scene_of[row])
        if scene not in self._interval_of_scene:
            keys = self._index.rows()
            keys = keys[self._index.scene_of[keys] == scene]
            self._interval_of_scene[scene] = (
                self._index.key_interval_s(keys) if len(keys) >= ENOUGH else self._interval_s
            )
        return self._interval_of_scene[scene]

    def _warn_if_alone(self) -> None:
        """Say it when no frame has a neighbour at any asked time: terms over time would be 0 without a word."""
        others = [asked for asked in self._asked.values() if asked]
        sample = self._rows[:: max(1, len(self._rows) // 100)].tolist()
        if others and not any(self._at(row, asked) is not None for row in sample for asked in others):
            _log.warning(
                "none of the %d chosen frames has another one %s %s away: terms over time will be empty; "
                "choose other offsets or more frames",
                len(self._rows),
                " or ".join(f"{asked:g}" for asked in others),
                self._unit if self._unit == "seconds" else "key frames",
            )


def _numbered(offsets: Sequence[float], unit: str) -> dict[int, float]:
    """Number of each time -> what was asked for: the offset in frames itself, or the rank of the seconds."""
    if 0 not in offsets or len(set(offsets)) != len(offsets):
        raise ValueError(f"offsets {tuple(offsets)} must be distinct and hold 0, the centre")
    if unit == "seconds":
        before = sorted((value for value in offsets if value < 0), reverse=True)
        after = sorted(value for value in offsets if value > 0)
        ranked = {-place: value for place, value in enumerate(before, start=1)} | {0: 0.0}
        return ranked | dict(enumerate(after, start=1))
    if any(value != int(value) for value in offsets):
        raise ValueError(
            f'offsets {tuple(offsets)} are key frames, whole numbers; or set times.unit="seconds"'
        )
    return {int(value): value for value in offsets}
