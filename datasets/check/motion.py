"""Whether the times and poses of a log are those of a vehicle that drives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..cloud import TIME
from ..index import LogIndex
from .report import Problem, Report

_FASTEST_M_S = 70.0  # an ego pose that moves faster than this is wrong
_SHORTEST_S, _LONGEST_S = 1e-3, 10.0  # usual gaps outside come from time stamps of another unit
_LAST_US = 10**17  # the year 5138
_LATEST_S = 0.1  # cameras further from their scan than this were matched wrongly
_SHORTEST_SCAN_S = 5e-3  # from the first to the last point of a scan
_STILL_M = 0.05  # in a whole scene: a vehicle that stood, or degrees of a globe, of which 1e-5 are a metre
_STEP_M = 0.3  # steps from which the direction of travel is seen


def judge_times(index: LogIndex, report: Report) -> None:
    """Gaps between scans of a scene, and cameras that are far from their scan in time."""
    if not index.has_times:
        report.notes.append(
            "the log does not know the times of all scans: neighbours are counted, not "
            "timed, and there are no dense clouds"
        )
        return
    for number, scene in enumerate(index.scenes):
        rows = np.flatnonzero(index.scene_of == number)
        keys = rows[index.is_key[rows]]
        if len(rows) and index.time_us[rows].max() > _LAST_US:
            report.add([_far_future(index, int(rows[-1]))])
        gaps = {
            name: np.diff(index.time_us[some]) * 1e-6
            for name, some in (("key_frames", keys), ("scans", rows))
        }
        row: dict[str, Any] = {"name": scene, "key_frames": len(keys), "sweeps": len(rows) - len(keys)}
        row["seconds"] = round(float(np.ptp(index.time_us[rows])) * 1e-6, 3) if len(rows) else 0.0
        for name, gap in gaps.items():
            if not len(gap):
                continue
            middle = float(np.median(gap))
            if name == "scans" and not _SHORTEST_S <= middle <= _LONGEST_S:
                report.notes.append(
                    f"{scene}: the usual gap between scans is {middle:g} s; time stamps must be in microseconds"
                )
            row[f"{name}_gap_s"] = {"median": round(middle, 4), "largest": round(float(gap.max()), 4)}
            if gap.max() > 1.75 * middle and (name == "key_frames" or len(keys) < len(rows)):
                report.notes.append(
                    f"{scene}: {int((gap > 1.75 * middle).sum())} time gaps between {name.replace('_', ' ')} are up to "
                    f"{gap.max():.2f} s, the usual one is {middle:.2f} s"
                )
        report.scenes.append(row)
    for channel, delays_s in index.camera_delays().items():
        late = int((np.abs(delays_s) > _LATEST_S).sum())
        if late:
            report.notes.append(
                f"{channel}: {late} of {len(delays_s)} images are more than {_LATEST_S} s from their scan"
            )


def _far_future(index: LogIndex, row: int) -> Problem:
    token, time = index.tokens([row])[0], int(index.time_us[row])
    return Problem(
        "time",
        token,
        f"{index.source('times')}: the timestamp {time} of {token} lies after the year 5000; "
        "times are in microseconds, convert nanoseconds",
    )


def judge_poses(index: LogIndex, report: Report) -> None:
    """Ego motion between scans of a scene must be one that a vehicle can make."""
    if not index.has_poses:
        report.notes.append(
            "the log does not know the poses of all scans: no dense clouds, world cells or votes over time"
        )
    if np.isnan(index.ego_positions()).any(axis=1).all():
        return  # else those that are known are judged
    report.notes += _point_times(index)
    if index.poses:
        report.notes.append(f"the poses are {index.poses}: they drift, and results carry the mark")
    report.notes += _sweeps(index)
    report.add(_jumps(index))
    report.notes += _standing(index)
    report.notes += _degrees(index)
    report.notes += _sideways(index)
    report.notes += _upside_down(index)


def _sweeps(index: LogIndex) -> Iterator[str]:
    """Whether the points of a scan are of one instant, where the vehicle moves while it is taken."""
    card = index.card
    if index.sweep_compensation:
        yield "scans are brought to one instant while they are read, by the times of their points and the poses"
    if card.compensated:
        return
    if card.time:
        known = np.isfinite(index.ego_positions()).all(axis=1)
        alone = int((np.bincount(index.scene_of[known], minlength=len(index.scenes)) < 2).sum())
        if alone:
            yield f"{alone} of {len(index.scenes)} scenes have no two poses; their scans stay as they were taken"
    if index.sweep_compensation or not moves(index):
        return
    if card.time:
        yield "scans are read as they were taken, point by point, although their points carry times"
    else:
        yield (
            "the points carry no time, so scans are not brought to one instant (0.1 s at 10 m/s are 1 m); if "
            "they are of one already, let the card say so: compensated: true in points"
        )


def _point_times(index: LogIndex) -> Iterator[str]:
    """Whether points take as long as a LiDAR does for a scan; times of another unit may be those of an instant."""
    if not index.card.time or index.card.compensated:
        return
    spans_s = []
    for row in index.rows()[:: max(1, len(index.rows()) // 3)][:3].tolist():
        try:
            times_s = index.frame(row, cameras=(), labels=False).cloud.extra[TIME]
        except InputError:  # told of where scans are read
            continue
        if np.isfinite(times_s).any():
            spans_s.append(float(np.nanmax(times_s) - np.nanmin(times_s)))
    if spans_s and max(spans_s) < _SHORTEST_SCAN_S:
        yield (
            f"the points of a scan are taken within {max(spans_s):.2g} s by their times, in which no LiDAR turns: look "
            "at unit_s of points.time, by which scans are brought to one instant"
        )


def moves(index: LogIndex) -> bool:
    """Whether the vehicle is ever more than a metre from where it was first in the scene; no if nobody knows."""
    poses, scene_of, _ = _known(index)
    first = np.searchsorted(scene_of, scene_of)
    return bool((np.linalg.norm(poses[:, :, 3] - poses[first, :, 3], axis=1) > 1.0).any())


def _known(index: LogIndex) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int64]]:
    """(K, 3, 4) the poses that are known, (K,) the scenes and (K,) the rows of their scans."""
    rows = np.flatnonzero(np.isfinite(index.ego_poses()).all(axis=(1, 2)))
    return index.ego_poses()[rows], index.scene_of[rows], rows


def _jumps(index: LogIndex) -> Iterator[Problem]:
    poses, scene_of, rows = _known(index)
    same = np.diff(scene_of) == 0
    # where nobody knows the times, the longest that there may be between two scans
    seconds = np.diff(index.time_us[rows]) * 1e-6 if index.has_times else _LONGEST_S * np.diff(rows)
    metres = np.linalg.norm(np.diff(poses[:, :, 3], axis=0), axis=1)
    for i in np.flatnonzero(same & (metres > _FASTEST_M_S * seconds + 0.5)).tolist():
        scene, token = index.scene(int(rows[i])), index.tokens([int(rows[i + 1])])[0]
        within = f"{seconds[i]:.3f} s" if index.has_times else "one step"
        yield Problem(
            "pose",
            token,
            f"{index.source('poses')}: in {scene} the vehicle jumps {metres[i]:.1f} m in {within} before the scan "
            f"{token}; mend the poses or cut the scene there",
        )


def _standing(index: LogIndex) -> Iterator[str]:
    """Scenes in which the pose is the same to the last bit, as no localisation gives it."""
    poses, scene_of, _ = _known(index)
    standing = []
    for number, scene in enumerate(index.scenes):
        mine = poses[scene_of == number]
        if len(mine) > 2 and (mine == mine[0]).all():
            standing.append(scene)
    if standing:
        yield (
            f"in {len(standing)} of {len(index.scenes)} scenes (first: {standing[0]}) the pose never changes: right if "
            "the vehicle stood; if it drove, dense clouds and votes over time will not fit, write its poses"
        )


def _degrees(index: LogIndex) -> Iterator[str]:
    """A log in which no vehicle gets anywhere, at places that can be latitude and longitude."""
    poses, scene_of, _ = _known(index)
    places = poses[:, :2, 3]
    spans = np.array([np.ptp(places[scene_of == scene], axis=0) for scene in np.unique(scene_of).tolist()])
    largest = np.sort(np.abs(places).max(axis=0))
    if (spans < _STILL_M).all() and (spans > 0).any() and 1 < largest[0] <= 90 and largest[1] <= 180:
        yield (
            f"the vehicle never gets further than {spans.max():.2g} m: right if it stood; degrees of latitude and "
            "longitude are no metres, bring them to a plane first"
        )


def _sideways(index: LogIndex) -> Iterator[str]:
    """A vehicle that does not travel along its own x axis, as it seems to where rotations are wrong."""
    poses, scene_of, _ = _known(index)
    steps = np.diff(poses[:, :, 3], axis=0)
    seen = (np.diff(scene_of) == 0) & (np.linalg.norm(steps, axis=1) > _STEP_M)
    if seen.sum() < 3:
        return
    own = np.einsum("rji,rj->ri", poses[:-1, :, :3][seen], steps[seen])  # in the vehicle's frame
    along = np.median(own / np.linalg.norm(own, axis=1, keepdims=True), axis=0)
    if along[0] < 0.5:
        way = (
            "backward"
            if along[0] < -0.5
            else f"along its own {'y' if abs(along[1]) > abs(along[2]) else 'z'} axis"
        )
        yield (
            f"the vehicle travels {way} most of the time: rotations of ego_pose are w, x, y, z, and take x forward, "
            "y left, z up of the vehicle to the world"
        )


def _upside_down(index: LogIndex) -> Iterator[str]:
    """A vehicle on its head, as quaternions in another order make it of one that drives on a level street."""
    up = _known(index)[0][:, 2, 2]
    if len(up) and np.median(up) < -0.5:
        yield (
            "z of the vehicle points downwards in the world most of the time: quaternions are w, x, y, z in nuScenes' "
            "tables and x, y, z, w in TUM's files; right only where z of the world points downwards"
        )
