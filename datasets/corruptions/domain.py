"""What models of corruption must know of a dataset: their strengths for its sensor, and which classes are what."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..cloud import Cloud
from ..frame import IGNORE_LABEL

if TYPE_CHECKING:
    from ..card import DatasetCard

LEVELS = ("light", "moderate", "heavy")
Three = tuple[float, float, float]  # one a level


@dataclass(frozen=True, slots=True)
class Strengths:
    """How strong each model is at the three levels, as Robo3D (Kong et al. 2023) has it for a dataset."""

    backscatter: Three  # of fog [1/m]
    water_mm: Three  # on wet ground
    wet_noise: Three  # of the laser's power, relative: what is weaker is lost on wet ground
    snowfall_mm_h: Three
    fall_speed_m_s: Three  # of flakes
    blur_m: Three  # standard deviation of motion blur
    crosstalk: Three  # share of the points
    lost_echoes: Three  # share of an object's points
    intensity_full: float  # of the dataset's files, in whose units some models add noise
    rounds: bool  # files hold whole numbers of intensity


NUSCENES = Strengths(
    backscatter=(0.008, 0.05, 0.2),
    water_mm=(0.2, 1.0, 1.2),
    wet_noise=(0.2, 0.3, 0.7),
    snowfall_mm_h=(0.5, 1.0, 2.5),
    fall_speed_m_s=(2.0, 1.6, 1.6),
    blur_m=(0.20, 0.25, 0.30),  # the last two are published for SemanticKITTI alone
    crosstalk=(0.03, 0.07, 0.12),  # the last two are not in the published code
    lost_echoes=(0.75, 0.85, 0.95),
    intensity_full=255.0,
    rounds=True,
)
SEMANTICKITTI = replace(
    NUSCENES,
    wet_noise=(0.3, 0.3, 0.7),
    crosstalk=(0.006, 0.008, 0.01),
    intensity_full=1.0,
    rounds=False,
)
_LIKE_KITTI = ("semantickitti", "scribblekitti", "kitti_raw", "semanticstf", "synlidar", "daps3d")
_GROUND = {
    *("driveable_surface", "other_flat", "sidewalk", "road", "parking", "other_ground", "ground", "walkable"),
    *("road_marking", "lane_marker", "driveway", "surface"),
}
_VEHICLES = {
    *("bicycle", "bus", "car", "construction_vehicle", "motorcycle", "trailer", "truck"),
    *("other_vehicle", "vehicle", "bike"),
}
_RINGS = ("ring", "channel", "laser_number")  # columns that say which beam saw a point


@dataclass(frozen=True, slots=True)
class Domain:
    """A dataset, as corruptions see it.

    ground, vehicles: train ids. elevation_deg: of the lowest and the highest beam. is_published: with the mistakes of
    the published code, whose figures others are compared with; else without them.
    """

    name: str
    strengths: Strengths = NUSCENES
    beams: int = 32
    elevation_deg: tuple[float, float] = (-30.67, 10.67)
    ground: tuple[int, ...] = ()
    vehicles: tuple[int, ...] = ()
    is_published: bool = True

    @classmethod
    def of(cls, card: DatasetCard, *, is_published: bool = True) -> Domain:
        """The domain of a card; one that says nothing of its sensor is taken for one of 32 beams."""
        names = [name.lower().replace("-", "_") for name in card.classes]
        low, high = card.sensor.get("elevation_deg") or (-30.67, 10.67)
        return cls(
            name=card.name,
            strengths=SEMANTICKITTI if card.name in _LIKE_KITTI else NUSCENES,
            beams=int(card.sensor.get("beams") or 32),
            elevation_deg=(float(low), float(high)),
            ground=tuple(i for i, name in enumerate(names) if name in _GROUND),
            vehicles=tuple(i for i, name in enumerate(names) if name in _VEHICLES),
            is_published=is_published,
        )

    def rings(self, cloud: Cloud) -> NDArray[np.int64]:
        """(N,) number of the beam that saw each point: as a column says it, else by elevation in even steps."""
        for name in _RINGS:
            if name in cloud.extra:
                return cloud.extra[name].astype(np.int64)
        low, high = np.radians(self.elevation_deg)
        elevation = np.arctan2(cloud.xyz[:, 2], np.hypot(cloud.xyz[:, 0], cloud.xyz[:, 1]))
        return np.clip((elevation - low) / (high - low) * self.beams, 0, self.beams - 1).astype(np.int64)

    def intensity(self, cloud: Cloud, model: str) -> NDArray[np.float64]:
        """(N,) in [0, 1].

        Raises:
            InputError: the dataset has none.
        """
        if cloud.intensity is None:
            raise InputError(f"{model}: its model needs intensities, and {self.name} has none; leave it out")
        return cloud.intensity.astype(np.float64)

    def of_classes(
        self, labels: NDArray[np.uint8] | None, ids: tuple[int, ...], model: str, what: str
    ) -> NDArray[np.uint8]:
        """``labels``, which name points of the classes ``ids``.

        Raises:
            InputError: there are no labels, or the dataset has no such class.
        """
        if labels is None:
            raise InputError(
                f"{model}: its model needs labels, and a scan of {self.name} has none; choose labelled scans"
            )
        if not ids:
            raise InputError(
                f"{model}: its model needs {what}, and {self.name} has no such class; leave it out"
            )
        return labels


# what a point has become, as the raw ids that the published copies give it
FOG_RETURN, SNOW_RETURN, CROSSTALK_POINT = 41, 42, 43


@dataclass(frozen=True, slots=True, eq=False)
class Corrupted:
    """What became of a scan.

    rows: (M,) int64 row of the scan that each point was; ascending. noise: (M,) uint8, 0 or one of `FOG_RETURN`,
    `SNOW_RETURN` and `CROSSTALK_POINT` for points that are no longer of the thing that they were seen on.
    """

    cloud: Cloud
    rows: NDArray[np.int64]
    noise: NDArray[np.uint8]

    def labels(self, before: NDArray[np.uint8] | None) -> NDArray[np.uint8] | None:
        """(M,) train ids, noise ignored, of those of the scan."""
        return (
            None
            if before is None
            else np.where(self.noise > 0, IGNORE_LABEL, before[self.rows]).astype(np.uint8)
        )


def changed(
    cloud: Cloud,
    *,
    xyz: NDArray[np.floating] | None = None,
    intensity: NDArray[np.floating] | None = None,
    noise: NDArray[np.uint8] | None = None,
    keep: NDArray[np.bool_] | None = None,
) -> Corrupted:
    """The scan with other coordinates, intensities and rows; each (N,) or (N, 3), None leaves it as it is."""
    rows = np.arange(len(cloud)) if keep is None else np.flatnonzero(keep)
    noise = np.zeros(len(cloud), np.uint8) if noise is None else noise
    moved = replace(
        cloud,
        xyz=cloud.xyz if xyz is None else xyz.astype(np.float32),
        intensity=cloud.intensity if intensity is None else intensity.astype(np.float32),
    )
    return Corrupted(moved if keep is None else moved.at(rows), rows, noise[rows])


def ranges_of(cloud: Cloud) -> NDArray[np.float64]:
    """(N,) distance of each point from the origin of the cloud [m]."""
    return np.linalg.norm(cloud.xyz.astype(np.float64), axis=1)
