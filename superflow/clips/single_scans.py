"""What a log that knows no pose at all can give a clip: scans one at a time."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..datasets.index import LogIndex

_log = logging.getLogger(__name__)


def single_scans(
    index: LogIndex, times: Mapping[str, Any], clouds: Mapping[str, Any], region: str
) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Arguments of `ClipTimes` and `ClipClouds`, and what they leave out of those that were asked; it is told once.

    A log of which some poses are known is not changed: what needs those of every scan says so.

    Args:
        times, clouds: as they were asked. region: see `ClipDataset`.
    """
    times, clouds = dict(times), dict(clouds)
    if knows_poses(index):
        return times, clouds, []
    left_out = []
    if clouds.get("sweeps", 2) or clouds.get("sweeps_after", 0):
        clouds |= {"sweeps": 0, "sweeps_after": 0}
        left_out.append("the dense cloud of several scans")
    if region == "world_cell":  # a cell of one scan's surroundings is none of another's
        times = {"offsets": [0]}
        left_out.append("the scans before and after")
    if left_out:
        _log.warning(
            "%s: knows no pose, so clips are single scans; left out: %s, and what learns from them; prepare "
            "the log with --poses kiss-icp to have them",
            *(index.folder, " and ".join(left_out)),
        )
    return times, clouds, left_out


def knows_poses(index: LogIndex) -> bool:
    """Whether the pose of any scan is known."""
    return not np.isnan(index.ego_poses()[:, 0, 0]).all()
