"""Which frames make a clip: the centre and the times around it that exist and may be used."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .datasets.index import LogIndex

UNITS = ("frames", "seconds")
BORDERS = ("absent", "repeat", "other")


class ClipTimes:
    """Finds the frames around a centre, within its scene and among the chosen frames.

    Args:
        index: the log.
        chosen: rows that clips may use.
        offsets: times around the centre, 0 among them: in key frames, or in seconds.
        unit: ``frames``, or ``seconds``: then the nearest key frame on that side of the centre is taken.
        tolerance_s: how far from the asked second it may lie; None: half the usual time between key frames of the log.
        border: a time that does not exist, or was not chosen, is ``absent``; or ``repeat`` takes the centre itself
            (published), and ``other`` the time on the other side of the centre, where that exists.

    Raises:
        ValueError: unknown words, or offsets that make no sense.
    """

    def __init__(
        self,
        index: LogIndex,
        chosen: Iterable[int],
        offsets: Sequence[float],
        *,
        unit: str = "frames",
        tolerance_s: float | None = None,
        border: str = "absent",
    ) -> None:
        if unit not in UNITS:
            raise ValueError(f"offset_unit {unit!r} is unknown; use one of {', '.join(UNITS)}")
        if border not in BORDERS:
            raise ValueError(f"border {border!r} is unknown; use one of {', '.join(BORDERS)}")
        if unit == "frames" and tolerance_s is not None:
            raise ValueError('offset_tolerance_s is for offset_unit="seconds"; leave it out for key frames')
        self._index, self._border = index, border
        self._chosen = frozenset(int(row) for row in chosen)
        self._asked = _numbered(offsets, unit)
        self._tolerance_s: float | None = None
        if unit == "seconds":
            self._tolerance_s = 0.5 * index.key_interval_s() if tolerance_s is None else tolerance_s

    def rows(self, row: int) -> dict[int, int]:
        """Number of each time that was found -> its row.

        Numbers are the offsets where they count frames; seconds are numbered ..., -1, 0, 1, ... in order.
        """
        found: dict[int, int] = {}
        for number, asked in self._asked.items():
            other = self._at(row, asked)
            if self._tolerance_s is not None and other in found.values():
                other = None  # the key frames are too rare to tell two asked seconds apart
            if other is None and self._border == "other":
                other = self._at(row, -asked)
            if other is None and self._border == "repeat":
                other = row
            if other is not None:
                found[number] = other
        return found

    def _at(self, row: int, asked: float) -> int | None:
        """The chosen key frame that many frames or seconds after ``row``."""
        if self._tolerance_s is None:
            other = self._index.neighbour(row, int(asked))
        else:
            other = self._index.neighbour_at(row, asked, tolerance_s=self._tolerance_s)
        return other if other in self._chosen else None


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
            f'offsets {tuple(offsets)} are key frames, whole numbers; or set offset_unit="seconds"'
        )
    return {int(value): value for value in offsets}
