"""What the images hold, and whether the points of their scans fall on them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..formats.images import is_shown_turned
from ..frame import Camera, Frame
from ..index import LogIndex
from .calibration import Mount, describe_mount, looks_where_points_are
from .motion import moves
from .overlay import Project
from .report import Problem, Report

_STEP_PX = 8  # images are looked at in every eighth row and column
_BLANK = 16  # grey values, of 256, between the darkest and the brightest pixel of an image of nothing

IMAGE = np.dtype(
    [
        ("row", "i8"),
        ("camera", "i4"),  # position in LogIndex.channels
        (
            "share",
            "f8",
        ),  # of the scan's points that fall on the image; NaN where the scan has none to judge by
        ("any", "?"),  # whether any does
        ("depth_m", "f8"),  # median of those points; NaN without
        ("brightness", "f8"),  # mean, 0 to 255; NaN where the image cannot be read
        ("contrast", "f8"),  # brightest minus darkest pixel
        ("digest", "u4"),
    ]
)


def measure_image(row: int, camera: int, image: NDArray[np.uint8] | None) -> NDArray[np.void]:
    """A record of ``IMAGE`` of an image (H, W, 3), of which no point is known yet; None where it cannot be read."""
    facts = np.zeros((), IMAGE)
    facts["row"], facts["camera"] = row, camera
    facts["share"] = facts["depth_m"] = facts["brightness"] = facts["contrast"] = np.nan
    if image is not None:
        small = image[::_STEP_PX, ::_STEP_PX]
        facts["brightness"], facts["contrast"] = small.mean(), np.ptp(small)
        facts["digest"] = zlib.crc32(small.tobytes())
    return facts


def measure_points(
    facts: NDArray[np.void], frame: Frame, camera: Camera, project: Project, points: NDArray[np.float32]
) -> None:
    """Enter into ``facts`` how many of the points (N, 3+) fall on the image; N > 0 [m, lidar frame]."""
    seen = project(points, frame.lidar_to_camera(camera), camera.lens)
    facts["share"], facts["any"] = len(seen.rows) / len(points), len(seen.rows) > 0
    facts["depth_m"] = np.median(seen.depth) if facts["any"] else np.nan


def judge_cameras(
    index: LogIndex,
    images: NDArray[np.void],
    mounts: dict[str, Mount],
    sectors: NDArray[np.int64],
    report: Report,
    *,
    trust_points: bool,
) -> None:
    """Fill the table of cameras, add problems and notes.

    Args:
        images: (I,) of ``IMAGE``. mounts: how each camera looks. sectors: points by azimuth, as in ``CLOUD``.
        trust_points: false where the points are known to be wrong, so that none on an image says nothing of the camera.
    """
    if not report.counts["images"]:
        report.notes.append("no camera: fine for probing and fine-tuning; pretraining needs images")
    of = {channel: images[images["camera"] == number] for number, channel in enumerate(index.channels)}
    of = {channel: mine for channel, mine in of.items() if len(mine)}
    report.cameras = [_table_row(channel, mine) for channel, mine in of.items()]
    report.notes += _shown_turned(index, of)
    problems = [*_empty_images(index, of, report), *_frozen(index, of, report), *_two_alike(index, of)]
    if trust_points:
        problems += _without_points(index, of, mounts, sectors, report)
    report.add(problems, first=True)


def _table_row(channel: str, images: NDArray[np.void]) -> dict[str, Any]:
    judged = images[np.isfinite(images["share"])]

    def rounded(values: NDArray[Any], function: Any, digits: int) -> float | None:
        values = values[np.isfinite(values)]
        return round(float(function(values)), digits) if len(values) else None

    return {
        "camera": channel,
        "images": len(images),
        "points_share": rounded(judged["share"], np.mean, 6),
        "smallest_share": rounded(judged["share"], np.min, 6),
        "frames_with_points": rounded(judged["any"].astype(float), np.mean, 6),
        "depth_m": rounded(judged["depth_m"], np.median, 2),
        "brightness": rounded(images["brightness"], np.mean, 1),
    }


def _without_points(
    index: LogIndex,
    images: dict[str, NDArray[np.void]],
    mounts: dict[str, Mount],
    sectors: NDArray[np.int64],
    report: Report,
) -> Iterator[Problem]:
    """Cameras on whose images no point falls: wrong ones, and those that look where the LiDAR does not."""
    judged = {channel: mine[np.isfinite(mine["share"])] for channel, mine in images.items()}
    judged = {channel: mine for channel, mine in judged.items() if len(mine)}
    seen = {channel: int(mine["any"].sum()) for channel, mine in judged.items()}
    elsewhere = []
    for channel, count in seen.items():
        if count:
            if count < len(judged[channel]) / 2:
                report.notes.append(
                    f"{channel}: points fall on only {count} of {len(judged[channel])} images"
                )
        elif any(seen.values()) and not looks_where_points_are(mounts[channel], sectors):
            elsewhere.append(channel)
        else:
            yield Problem(
                "no points on images",
                channel,
                f"{index.source('calibration')}: no LiDAR point falls on any image of "
                f"{channel} ({len(judged[channel])} were read); {describe_mount(mounts[channel])}; look at its "
                "rotation and translation (camera to vehicle, w x y z; camera frame x right, y down, z forward), "
                "camera_intrinsic and poses",
            )
    if elsewhere:
        report.notes.append(
            f"no LiDAR point falls on any image of {', '.join(elsewhere)}: by calibration they look where the LiDAR "
            "sees nothing; if that is not so, mend the calibration, else leave them out of training"
        )


def _shown_turned(index: LogIndex, images: dict[str, NDArray[np.void]]) -> Iterator[str]:
    """Cameras whose first image is shown otherwise than it is stored, which its intrinsics may be for."""
    for channel, mine in images.items():
        (camera,) = index.cameras([int(mine["row"][0])], channels=[channel])
        try:
            turned = is_shown_turned(camera.path, format=camera.format, key=camera.key)
        except InputError:  # told of where images are read
            continue
        if turned:
            yield (
                f"{channel}: viewers turn its images, as EXIF tells them to, and here they are read as stored, "
                f"{camera.size[1]} x {camera.size[0]} pixels: intrinsics and lidar_to_camera must be of those"
            )


def _empty_images(index: LogIndex, images: dict[str, NDArray[np.void]], report: Report) -> Iterator[Problem]:
    """Images that hold one colour."""
    for channel, mine in images.items():
        read = mine[np.isfinite(mine["contrast"])]
        blank = read[read["contrast"] < _BLANK]
        if len(blank) and len(blank) == len(read):
            yield Problem(
                "empty images",
                channel,
                f"{_files(index)}: all {len(read)} images of {channel} that were read hold nothing but one colour "
                f"(brightness {read['brightness'].mean():.0f} of 255); export them again, or leave the camera out",
            )
        elif len(blank):
            first = index.cameras([int(blank["row"][0])], channels=[channel])[0].path
            report.notes.append(
                f"{channel}: {len(blank)} of {len(read)} images hold nothing but one colour (first: {first})"
            )


def _frozen(index: LogIndex, images: dict[str, NDArray[np.void]], report: Report) -> Iterator[Problem]:
    """Cameras that always show the same picture, which no recorded one does."""
    frozen = []
    for channel, mine in images.items():
        shown = mine[mine["contrast"] >= _BLANK]["digest"]
        if len(shown) > 2 and len(np.unique(shown)) == 1:
            frozen.append(channel)
    if frozen and not moves(index):
        report.notes.append(
            f"{', '.join(frozen)}: all images are the same picture; was one written to every file?"
        )
    for channel in frozen if moves(index) else ():
        said = f"all images of {channel} that were read are the same picture while the vehicle moves"
        yield Problem("same images", channel, f"{_files(index)}: {said}; export every image to its own file")


def _two_alike(index: LogIndex, images: dict[str, NDArray[np.void]]) -> Iterator[Problem]:
    """Two cameras that show the same picture in every frame."""
    shown: dict[str, dict[int, int]] = {}
    for channel, mine in images.items():
        mine = mine[mine["contrast"] >= _BLANK]
        shown[channel] = dict(zip(mine["row"].tolist(), mine["digest"].tolist()))
    for one, two in combinations(shown, 2):
        both = shown[one].keys() & shown[two].keys()
        if both and all(shown[one][row] == shown[two][row] for row in both):
            yield Problem(
                "same images",
                two,
                f"{_files(index)}: {one} and {two} show the same picture in all {len(both)} frames that were read; "
                "give each camera its own files",
            )


def _files(index: LogIndex) -> str:
    return str(index.source("times"))
