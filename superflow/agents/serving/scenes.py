"""Scans of a prepared log by their token: for the eyes, and for a page that draws them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..bootcamps.ground import outline
from ..scene_log import ego_points, scene_of
from .refusal import Refusal

if TYPE_CHECKING:
    from ...datasets.index import LogIndex

MOST_DRAWN = 40_000  # points of a scan that go to a page


class Scenes:
    """The key frames of a log."""

    def __init__(self, index: LogIndex) -> None:
        self._index = index
        rows = index.rows()
        self._rows = dict(zip(index.tokens(rows), rows.tolist()))

    def listed(self) -> list[dict[str, str]]:
        """Token and scene of each."""
        return [{"token": token, "scene": self._index.scene(row)} for token, row in self._rows.items()]

    def points(self, token: Any) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Points (N, 4) x, y, z [m], intensity of a scan, and (4, 4) from their frame to the vehicle's.

        Raises:
            Refusal: 404, there is no scan of that token.
        """
        frame = self._index.frame(self._row(token), cameras=(), labels=False, images=False)
        return frame.points[:, :4], frame.lidar_to_ego

    def drawing(self, token: Any) -> dict[str, Any]:
        """What a page draws of a scan, in the vehicle's frame [m]; raises as ``points`` does.

        points: base64 of (N, 2) int16 x, y in centimetres; classes: base64 of (N,) uint8, None where the log has
        none; names, colours of the classes; objects: category, four corners of the outline, points.
        """
        row = self._row(token)
        frame = self._index.frame(row, cameras=(), images=False)
        points = ego_points(frame)
        near = np.flatnonzero(np.abs(points[:, :2]).max(1, initial=0) < 300)
        near = near[:: max(1, -(-len(near) // MOST_DRAWN))]
        labels = None if frame.labels is None else frame.labels[near].astype(np.uint8)
        card = self._index.card
        return {
            "token": token,
            "scene": frame.scene,
            "points": _base64((points[near, :2] * 100).round().astype("<i2")),
            "classes": None if labels is None else _base64(labels),
            "names": list(card.classes),
            "colours": np.asarray(card.palette).tolist(),
            "objects": self._objects(row),
        }

    def _objects(self, row: int) -> list[dict[str, Any]]:
        try:
            scene = scene_of(self._index, row, points=False)
        except InputError:  # the log has neither boxes nor instances, and is drawn without objects
            return []
        return [
            {
                "category": thing.category,
                "outline": np.asarray(outline(thing)).tolist(),
                "points": thing.points,
            }
            for thing in scene.objects
        ]

    def _row(self, token: Any) -> int:
        row = self._rows.get(token) if isinstance(token, str) else None
        if row is None:
            raise Refusal(404, "unknown_scene", f"there is no scan {token!r:.60} in the log that is served")
        return row


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()
