"""Which drives of the world a scene was made of: other datasets hold the same ones under names of their own."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

# KITTI's odometry sequences and the raw drives that they were cut from (devkit of KITTI's odometry benchmark)
_DRIVES = {
    "00": "2011_10_03_drive_0027",
    "01": "2011_10_03_drive_0042",
    "02": "2011_10_03_drive_0034",
    "03": "2011_09_26_drive_0067",
    "04": "2011_09_30_drive_0016",
    "05": "2011_09_30_drive_0018",
    "06": "2011_09_30_drive_0020",
    "07": "2011_09_30_drive_0027",
    "08": "2011_09_30_drive_0028",
    "09": "2011_09_30_drive_0033",
    "10": "2011_09_30_drive_0034",
}


def _odometry(scene: str) -> str:
    return f"KITTI {_DRIVES.get(scene, f'odometry {scene}')}"  # drives of the test sequences are not public


def _daps(scene: str) -> str:
    part, _, sequence = scene.rpartition("_")
    return _odometry(sequence) if part == "daps-1" else f"DAPS-2 {sequence}"


# names that say of themselves which recording it is, in whatever dataset and with whatever beside them
_TELLING = (
    (re.compile(r"(?<![a-z0-9])pandaset[-_ ]?(\d{3})(?!\d)", re.IGNORECASE), "PandaSet {}"),
    (re.compile(r"(?<!\d)(20\d\d_\d\d_\d\d_drive_\d{4})(?!\d)"), "KITTI {}"),
)
_NUSCENES_LOG = re.compile(r"n\d{3}-20\d\d-\d\d-\d\d-")


_RECORDING: dict[str, Callable[[str], str]] = {  # card -> what is a scene's recording
    "semantickitti": _odometry,
    "scribblekitti": _odometry,
    "kitti_raw": lambda scene: f"KITTI {scene.removesuffix('_sync')}",
    "daps3d": _daps,  # DAPS-1 scans what was built from SemanticKITTI
    "nuscenes": lambda scene: f"nuScenes {scene}",
    "nuscenes_c": lambda scene: f"nuScenes {scene}",
    **dict.fromkeys(("pandaset", "pandaset_nuscenes", "pandaset_raw"), lambda scene: f"PandaSet {scene}"),
}


def recording_named(scene: str, drive: str = "") -> str | None:
    """The recording that a name tells by itself, as ``pandaset-002``; None where none does.

    Args:
        scene: its name. drive: what the log calls the drive that the scene was cut from; conversions that give scenes
            other names keep it, so it counts first.
    """
    for name in (drive, scene):
        for pattern, recording in _TELLING:
            if found := pattern.search(name):
                return recording.format(found[1])
    return f"nuScenes {scene}" if _NUSCENES_LOG.match(drive) else None


def recordings_of(
    dataset: str, scenes: Iterable[str], known: Mapping[str, str] | None = None
) -> tuple[str, ...]:
    """Names of the recordings that these scenes are, sorted; none of scenes that no other dataset can hold.

    Args:
        dataset: name of its card. known: recordings of scenes, where the log says it.
    """
    name = _RECORDING.get(dataset)
    found = set()
    for scene in scenes:
        said = (known or {}).get(scene) or recording_named(scene)
        if said or name:
            found.add(said or name(scene))  # type: ignore[misc]  # one of the two
    return tuple(sorted(found))
