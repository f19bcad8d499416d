"""Which drives of the world a scene was made of: other datasets hold the same ones under names of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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


def _pandaset(scene: str) -> str:
    """Of a sequence, or of a scene in nuScenes schema that is named after it, as 002 or pandaset-002."""
    return f"PandaSet {scene.removeprefix('pandaset-')}"


_RECORDING: dict[str, Callable[[str], str]] = {  # card -> what is a scene's recording
    "semantickitti": _odometry,
    "scribblekitti": _odometry,
    "kitti_raw": lambda scene: f"KITTI {scene.removesuffix('_sync')}",
    "daps3d": _daps,  # DAPS-1 scans what was built from SemanticKITTI
    "nuscenes": lambda scene: f"nuScenes {scene}",
    "nuscenes_c": lambda scene: f"nuScenes {scene}",
    **dict.fromkeys(("pandaset", "pandaset_nuscenes", "pandaset_raw"), _pandaset),
}


def recordings_of(dataset: str, scenes: Iterable[str]) -> tuple[str, ...]:
    """Names of the recordings that these scenes are, sorted; none of a dataset that shares its drives with no other.

    Args:
        dataset: name of its card.
    """
    name = _RECORDING.get(dataset)
    return () if name is None else tuple(sorted({name(scene) for scene in scenes}))
