"""What some scans of a scene have and others lack, which is mostly a file that was cut off or not copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from .columns import NO_TIME

if TYPE_CHECKING:
    from .index import LogIndex


def some_lack(index: LogIndex) -> Iterator[str]:
    """A sentence each about times, poses and labels that only some key frames of a scene have."""
    rows = index.rows()
    scenes = index.scene_of[rows]
    known = {
        "time": index.time_us[rows] != NO_TIME,
        "pose": ~np.isnan(index.ego_poses()[rows]).any(axis=(1, 2)),
        "labels": np.array([index.has_labels(row) for row in rows.tolist()], np.bool_),
    }
    for what, has in known.items():
        cut = [scene for scene in np.unique(scenes).tolist() if len(set(has[scenes == scene].tolist())) > 1]
        for scene in cut[:1]:
            without = rows[(scenes == scene) & ~has]
            more = f"; so it is in {len(cut) - 1} more scenes" if len(cut) > 1 else ""
            yield (
                f"{index.name}: {len(without)} of the {int((scenes == scene).sum())} scans of {index.scenes[scene]} "
                f"have no {what}, the first is {index.tokens(without[:1])[0]}{more}"
            )
