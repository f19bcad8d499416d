"""Whether scans can be learned from: problems and notes about their points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..index import LogIndex
from .clouds import FAR_M
from .motion import moves
from .report import Problem, Report

_USUAL_M = (0.5, 300.0)  # the 99th percentile of a usual scan's ranges is above, their median below
_WAY_M = 3.0  # deviation of a vehicle's places from which it is seen whether scans go with it
_ALL_AT_ORIGIN = 0.99  # share of a scan's points that makes it a problem
_DISTINCT = 0.1  # fewer of its points that differ make it one, too
_DENSE = 0.15  # share of a layer's points from which it is taken for the ground
_NOTED = 0.05  # share of a scan's points that are told where they are copies or at the origin


def scan_problems(path: Path, cloud: NDArray[np.void]) -> Iterator[Problem]:
    """A scan of which nothing, or next to nothing, is a shape."""
    points = int(cloud["points"])
    returns = round(points * (1 - float(cloud["origin"])))
    if cloud["origin"] >= _ALL_AT_ORIGIN:
        yield Problem(
            "points at the origin",
            str(path),
            f"{path}: {points - returns:,} of {points:,} points lie at (0, 0, 0); "
            "export the scan again, without rows that stand for no return",
        )
    elif returns >= 20 and 1 - cloud["copies"] < _DISTINCT:
        yield Problem(
            "identical points",
            str(path),
            f"{path}: {float(cloud['copies']):.1%} of {returns:,} points are copies of others; export the scan again",
        )


def ground_height(clouds: NDArray[np.void]) -> float | None:
    """Height of the ground in the lidar frame [m], the densest layer of the usual scan; None where there is none."""
    dense = clouds[clouds["layer"] > _DENSE]["layer_m"]
    return float(np.median(dense)) if len(dense) > len(clouds) / 2 else None


def judge_clouds(index: LogIndex, clouds: NDArray[np.void], report: Report) -> bool:
    """Fill the table of the report, add problems and notes; true where coordinates can be trusted.

    Args:
        clouds: (R,) of ``CLOUD``.
    """
    clouds = clouds[clouds["origin"] < _ALL_AT_ORIGIN]
    if not len(clouds):
        return False
    _fill_table(clouds, report)
    if 1 - np.median(clouds["copies"]) < _DISTINCT:
        return False
    wrong = _wrong_frame(index, clouds) or _wrong_unit(index, clouds)
    report.add(wrong, first=True)
    if not wrong:
        report.add(_one_for_all(index, clouds), first=True)
        report.add(_far_points(index, clouds))
        report.notes += _repeated(index, clouds)
        report.notes += _notes(clouds, index.card.has_intensity)
    return not wrong


def _fill_table(clouds: NDArray[np.void], report: Report) -> None:
    names = ("smallest", "percent_1", "median", "percent_99", "largest")

    def line(values: Any) -> dict[str, float]:
        return {name: round(float(value), 4) for name, value in zip(names, values)}

    def across(values: NDArray[Any]) -> dict[str, float]:
        return line(np.percentile(values, (0, 1, 50, 99, 100)))

    report.clouds = {"points": across(clouds["points"])}
    for name in ("range_m", "height_m", "intensity"):
        usual = np.median(clouds[name], axis=0)
        report.clouds[name] = line([clouds[name][:, 0].min(), *usual[1:4], clouds[name][:, 4].max()])
    for name in ("origin", "copies"):
        report.clouds[f"{name}_share"] = across(clouds[name])


def _wrong_frame(index: LogIndex, clouds: NDArray[np.void]) -> list[Problem]:
    """Scans whose middle is far from the sensor, or goes with the vehicle through the world."""
    centres, spread = clouds["centre_m"], clouds["spread_m"]
    distance = np.linalg.norm(centres, axis=1)
    apart = (distance > _USUAL_M[1]) & (distance > 5 * spread)
    vehicle = index.ego_positions()[clouds["row"]]
    way_m, left_m = (float(np.linalg.norm(np.std(p[:, :2], axis=0))) for p in (vehicle, centres - vehicle))
    world = np.full(len(clouds), len(clouds) >= 5 and way_m > _WAY_M and left_m < 0.5 * way_m)
    if np.mean(world | apart) <= 0.5:
        return []
    row = int(np.flatnonzero(world | apart)[0])
    path, (x, y, z) = index.point_path(int(clouds["row"][row])), centres[row].tolist()
    return [
        Problem(
            "frame of the points",
            str(path),
            f"{path}: its points lie around ({x:.0f}, {y:.0f}, {z:.0f}) and within {spread[row]:.0f} m of there, as do "
            "most scans: these are coordinates of the world; export points in the frame of the sensor, [m], from the "
            "exact coordinates (float32 holds UTM to half a metre)",
        )
    ]


def _wrong_unit(index: LogIndex, clouds: NDArray[np.void]) -> list[Problem]:
    """Scans much wider or narrower than any LiDAR of a vehicle sees."""
    _, _, middle, wide, _ = np.median(clouds["range_m"], axis=0).tolist()
    if wide >= _USUAL_M[0] and middle <= _USUAL_M[1]:
        return []
    path = index.point_path(int(clouds["row"][0]))
    digits = 0 if middle > 10 else 4
    width = f"{2 * wide / 1000:.3g} km" if wide > 500 else f"{2 * wide:.2g} m"
    return [
        Problem(
            "unit of the points",
            str(path),
            f"{path}: clouds are {width} wide, half of the points of a usual scan lie within {middle:,.{digits}f}: "
            "metres? Coordinates must be in metres in the frame of the sensor; convert the files",
        )
    ]


def _one_for_all(index: LogIndex, clouds: NDArray[np.void]) -> Iterator[Problem]:
    """The same points in every scan, as no sensor gives them."""
    if len(clouds) > 2 and len(np.unique(clouds["digest"])) == 1 and moves(index):
        path = index.point_path(int(clouds["row"][0]))
        yield Problem(
            "same points",
            str(path),
            f"{path}: the points of all {len(clouds)} scans that were read are these, while the vehicle moves; export "
            "every scan to its own file",
        )


def _repeated(index: LogIndex, clouds: NDArray[np.void]) -> Iterator[str]:
    """Scans of which another file holds the same points, where not all do."""
    of_file = {
        (index.point_path(row), index.point_key(row)): i for i, row in enumerate(clouds["row"].tolist())
    }
    files, clouds = list(of_file), clouds[list(of_file.values())]
    kind = [("points", "i8"), ("digest", "u4"), ("spread_m", "f8")]
    seen = np.rec.fromarrays([clouds[name] for name, _ in kind], dtype=kind)
    _, first, of = np.unique(seen, return_index=True, return_inverse=True)
    twins = np.flatnonzero(first[of] != np.arange(len(clouds)))
    if len(twins) and len(first) > 1:
        one, other = (" ".join(map(str, filter(None, files[i]))) for i in (twins[0], first[of[twins[0]]]))
        yield (
            f"{len(twins)} of {len(clouds)} scans that were read have the very points of another one (first: {one}, as "
            f"{other}): a driver that repeats itself, or files that were copied twice; leave them out"
        )


def _far_points(index: LogIndex, clouds: NDArray[np.void]) -> Iterator[Problem]:
    for cloud in clouds[clouds["far"] > 0]:
        path = index.point_path(int(cloud["row"]))
        yield Problem(
            "far points",
            str(path),
            f"{path}: {int(cloud['far'])} of {int(cloud['points']):,} points lie further than {FAR_M / 1000:g} km "
            f"from the sensor, up to {cloud['range_m'][4]:.3g} m (first: row {int(cloud['first_far'])}); remove these "
            "rows and their labels",
        )


def _notes(clouds: NDArray[np.void], has_intensity: bool) -> Iterator[str]:
    share = clouds["origin"].mean()
    if share > _NOTED:
        yield (
            f"{share:.1%} of the points lie at (0, 0, 0): rows that stand for no return; leave them out, "
            "with their labels"
        )
    share = clouds["copies"].mean()
    if share > _NOTED:
        yield f"{share:.1%} of the points are copies of others of their scan: two returns of one beam?"
    ground = ground_height(clouds)
    if ground is not None and ground > 0.5:
        yield (
            f"the densest layer of the points lies {ground:.1f} m above the sensor, where no ground can be: "
            "z must point up; look at the axes of the card, and at where the sensor is mounted"
        )
    height = float(np.median(clouds["height_m"][:, 2]))
    if abs(height) > 20:
        yield f"half of the points lie {'above' if height > 0 else 'below'} {height:.0f} m: z must point up, [m]"
    low, high = clouds["intensity"][:, 0].min(), clouds["intensity"][:, 4].max()
    if low == high and has_intensity:
        yield f"every point has intensity {low:g}: nothing can be learned from that column"
