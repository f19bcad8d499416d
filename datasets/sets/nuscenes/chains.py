"""Are the prev/next chains of a log whole? A broken one is an error before anything is written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ....errors import InputError
from ...formats.kinds import shorten
from .typed_tables import MEND, Row


def check_samples(folder: Path, scenes: Sequence[Row], samples: Sequence[Row]) -> dict[str, int]:
    """sample token -> position of its scene, after walking every scene from its first sample to its last.

    Raises:
        InputError: a link leads nowhere, into another scene, back, or against time; or samples are left over.
    """
    path = folder / "sample.json"
    by_token = {row["token"]: row for row in samples}
    position = {row["token"]: i for i, row in enumerate(scenes)}
    names = Counter(scene["name"] for scene in scenes)
    if len(names) < len(scenes):
        raise InputError(
            f"{folder / 'scene.json'}: two scenes share the name {names.most_common(1)[0][0]!r}; rename one of them"
        )
    scene_of: dict[str, int] = {}
    for scene in scenes:
        before, token = None, scene["first_sample_token"]
        while token:
            row = by_token.get(token)
            if row is None:
                raise InputError(
                    f"{path}: broken chain in {scene['name']}: there is no sample {shorten(token)}; {MEND}"
                )
            if row["scene_token"] != scene["token"]:
                raise InputError(
                    f"{path}: broken chain: the sample {token!r} is reached from {scene['name']} "
                    f"but belongs to another scene; {MEND}"
                )
            if token in scene_of:
                raise InputError(
                    f"{path}: broken chain in {scene['name']}: it returns to the sample {token!r}; {MEND}"
                )
            if before is not None and row["timestamp"] <= before["timestamp"]:
                raise InputError(
                    f"{path}: broken chain in {scene['name']}: the time of sample {token!r} does not ascend; {MEND}"
                )
            if (row["prev"] or "") != (before["token"] if before is not None else ""):
                raise InputError(
                    f"{path}: broken chain in {scene['name']}: prev of sample {token!r} is not the sample before it; "
                    f"{MEND}"
                )
            scene_of[token] = position[scene["token"]]
            before, token = row, row["next"]
    left = len(samples) - len(scene_of)
    if left:
        first = next(row["token"] for row in samples if row["token"] not in scene_of)
        raise InputError(
            f"{path}: broken chain: {left} samples are reached from no scene's first sample (first: {first}); {MEND}"
        )
    return scene_of


def check_scans(
    path: Path,
    *,
    token: Sequence[str],
    prev: Sequence[str],
    next: Sequence[str],
    time_us: NDArray[np.int64],
    scene: NDArray[np.int32],
    scenes: Sequence[str],
) -> list[str]:
    """Sentences about scenes whose scans form several chains instead of one; time order still holds there.

    All arguments have one entry for each LiDAR scan. Ascending times rule out cycles.

    Raises:
        InputError: a link leads nowhere, into another scene, against time, or is not answered by its reverse.
    """
    row_of = {name: i for i, name in enumerate(token)}
    for name, links, back in (("next", next, prev), ("prev", prev, next)):
        linked = [i for i, link in enumerate(links) if link]
        targets = [row_of.get(links[i], -1) for i in linked]
        here, there = np.array(linked, dtype=np.int64), np.array(targets, dtype=np.int64)
        alone = np.array([back[j] != token[i] for i, j in zip(linked, targets)], dtype=np.bool_)
        gain = (time_us[there] - time_us[here]) * (1 if name == "next" else -1)
        for wrong, reason in (
            (there < 0, "is no LiDAR scan of this log"),
            (scene[there] != scene[here], "is in another scene"),
            (gain <= 0, "is not later in time" if name == "next" else "is not earlier in time"),
            (alone, "does not point back"),
        ):
            if wrong.any():
                i = linked[int(np.argmax(wrong))]
                raise InputError(
                    f"{path}: broken chain in {scenes[scene[i]]}: {name} of {token[i]!r}, {shorten(links[i])}, "
                    f"{reason}; {MEND}"
                )
    heads = np.bincount(scene[[not link for link in prev]], minlength=len(scenes))
    return [
        f"{path.name}: the LiDAR scans of {scenes[i]} form {heads[i]} chains instead of one; "
        "their order is taken from time"
        for i in np.flatnonzero(heads > 1).tolist()
    ]
