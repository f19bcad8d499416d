"""The ground of a scene while it is being furnished: what is taken, and what has been placed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .classes import MANMADE, VEGETATION
from .parts import Model
from .place import Place
from .street import STEP, Street
from .trace import ROAD
from .tracks import Placed

CYCLES = (14, 21)
VEHICLE_LABELS = (15, 16, 17, 18, 22, 23)
PEDESTRIANS = (2, 3, 4, 6)


class Site:
    """The street with a raster of what is taken, and the list that grows."""

    def __init__(
        self,
        rng: np.random.Generator,
        street: Street,
        placed: list[Placed],
        window: tuple[float, float],
        place: Place,
    ):
        self.rng, self.street, self.placed = rng, street, placed
        self.place = place
        self.window = window  # stretch of the street [m] that is furnished
        self.taken: NDArray[np.bool_] = np.zeros(street.ground.shape[:2], dtype=bool)

    def _cells(self, x, y, yaw, low, high, margin):
        nx = int(np.ceil((high[0] - low[0] + 2 * margin) / 0.35)) + 1
        ny = int(np.ceil((high[1] - low[1] + 2 * margin) / 0.35)) + 1
        u = np.linspace(low[0] - margin, high[0] + margin, nx)[:, None]
        v = np.linspace(low[1] - margin, high[1] + margin, ny)[None, :]
        px = x + np.cos(yaw) * u - np.sin(yaw) * v
        py = y + np.sin(yaw) * u + np.cos(yaw) * v
        i = np.rint((px - self.street.origin[0]) / STEP).astype(np.int64)
        j = np.rint((py - self.street.origin[1]) / STEP).astype(np.int64)
        return px, py, j, i

    def put(
        self, model: Model, along: float, across: float, turn: float = 0.0, *, where: str = "off", margin: float = 0.15,
        attribute: str = "", tilted: bool | None = None, footprint=None,
    ) -> bool:  # fmt: skip
        """Place a standing object if its footprint is free; ``where``: off the road, on it, or anywhere.

        ``footprint``: (low, high) corners in the object's frame, where not the whole object needs ground.
        """
        street = self.street
        x, y, heading = (float(v) for v in street.place(along, across))
        yaw = heading + turn
        low, high = footprint or model.bounds()
        px, py, j, i = self._cells(x, y, yaw, low, high, margin)
        rows, columns = self.taken.shape
        if (
            j.min() < 2
            or i.min() < 2
            or j.max() >= rows - 2
            or i.max() >= columns - 2
            or self.taken[j, i].any()
        ):
            return False
        road = street.layer(ROAD, px, py)
        if (where == "off" and road.min() < 0.1) or (where == "road" and road.max() > -0.05):
            return False
        self.taken[j, i] = True
        annotated = model.label not in (MANMADE, VEGETATION)
        if tilted is None:
            tilted = model.label in VEHICLE_LABELS or model.label in CYCLES
        base = 0.3 * (high[0] - low[0])
        pose = street.stand(x, y, yaw, tilted=tilted, base=max(base, 0.3))
        if not attribute:
            attribute = standing_attribute(model.label)
        self.placed.append(Placed(model, pose=pose, annotated=annotated, attribute=attribute))
        return True

    def reserve(self, along: float, across: float, half: tuple[float, float]) -> None:
        """Keep a rectangle of the street free."""
        x, y, yaw = (float(v) for v in self.street.place(along, across))
        _, _, j, i = self._cells(x, y, yaw, (-half[0], -half[1]), half, 0.0)
        inside = (j >= 0) & (i >= 0) & (j < self.taken.shape[0]) & (i < self.taken.shape[1])
        self.taken[j[inside], i[inside]] = True

    def along(self) -> float:
        """A random place on the furnished stretch."""
        return float(self.rng.uniform(*self.window))

    def count(self, per_100_m: float) -> int:
        """Poisson number for a density along the street."""
        return int(self.rng.poisson(per_100_m * (self.window[1] - self.window[0]) / 100.0))


def standing_attribute(label: int) -> str:
    """nuScenes' attribute of a thing that does not move, by its raw class; none for scenery."""
    if label in VEHICLE_LABELS:
        return "vehicle.parked"
    if label in CYCLES:
        return "cycle.without_rider"
    return "pedestrian.standing" if label in PEDESTRIANS else ""
