"""Everything that training reads, made from a log once: index, teacher features, superpixels, under one folder.

PREPARED/                        the index (index.json, frames.parquet, ...)
PREPARED/features/TEACHER/       cached teacher features
PREPARED/superpixels/PROVIDER/   superpixel maps
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .errors import InputError

log = logging.getLogger(__name__)

DEFAULT_TEACHER = "efficientnet_lite0"


def prepare_index(root: str | Path, prepared: str | Path) -> Any:
    """The index of the log under ``root`` (nuScenes schema) in ``prepared``, made anew: it is cheap, logs change.

    Raises:
        InputError: the log cannot be read, or ``prepared`` belongs to another log.
    """
    from .datasets.index import LogIndex
    from .datasets.nuscenes import write_index

    root, prepared = Path(root), Path(prepared)
    if (prepared / "index.json").is_file():
        before = LogIndex.open(prepared).root
        if before.resolve() != root.resolve():
            raise InputError(
                f"{prepared}: is the preparation of {before}, not of {root}; choose another folder for this log"
            )
    return write_index(root, prepared)


def prepare_features(
    index: Any,
    frames: str | Sequence[str] | None,
    *,
    teacher: str = DEFAULT_TEACHER,
    teacher_path: str | Path | None = None,
    size: tuple[int, int] = (448, 832),
    components: int | None = 64,
    threads: int | None = None,
) -> Path:
    """Folder of the teacher's features of all images of ``frames``; what is there already is kept.

    The projection to ``components`` is fitted on these images, so they must be training frames only.
    """
    from .camera.cache import build_feature_cache
    from .camera.teacher import make_teacher

    folder = Path(index.folder) / "features" / teacher
    cameras = index.cameras(index.rows(frames))
    build_feature_cache(
        cameras,
        make_teacher(teacher, path=teacher_path),
        folder,
        size=size,
        components=components,
        threads=threads,
    )
    return folder


def prepare_superpixels(
    index: Any,
    frames: str | Sequence[str] | None,
    *,
    provider: str = "slic",
    workers: int = 1,
    **options: Any,
) -> Path:
    """Folder of the superpixel maps of all images of ``frames``; maps that are there already are kept."""
    from .camera.superpixels import write_superpixels

    folder = Path(index.folder) / "superpixels" / provider
    write_superpixels(
        index.cameras(index.rows(frames)), folder, provider=provider, workers=workers, **options
    )
    return folder
