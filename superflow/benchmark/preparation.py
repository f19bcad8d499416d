"""Everything that training reads, made from a log once: index, teacher features, superpixels, under one folder.

PREPARED/                        the index (index.json, frames.arrow, ...)
PREPARED/features/TEACHER/       cached teacher features
PREPARED/superpixels/PROVIDER/   superpixel maps
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import InputError
from .results import json_hash

log = logging.getLogger(__name__)

DEFAULT_TEACHER = "efficientnet_lite0"


def refuse_other_log(prepared: Path, root: str | Path) -> None:
    """Raise an InputError where ``prepared`` holds the index of another log than the one under ``root``."""
    from ..datasets.index import LogIndex

    if (prepared / "index.json").is_file():
        before = LogIndex.open(prepared).root
        if before.resolve() != Path(root).resolve():
            raise InputError(
                f"{prepared}: is the preparation of {before}, not of {root}; choose another folder for this log"
            )


def prepare_index(root: str | Path, prepared: str | Path, **reading: Any) -> Any:
    """The index of the log under ``root`` (nuScenes schema) in ``prepared``, made anew: it is cheap, logs change.

    Args:
        reading: options of `datasets.sets.nuscenes.write_index`, such as ``version`` and ``card``.

    Raises:
        InputError: the log cannot be read, or ``prepared`` belongs to another log.
    """
    from ..datasets.sets.nuscenes import write_index

    refuse_other_log(Path(prepared), root)
    return write_index(root, prepared, **reading)


def prepare_features(
    index: Any,
    frames: str | Sequence[str] | None,
    *,
    folder: str | Path | None = None,
    fit_frames: str | Sequence[str] | None = None,
    teacher: str = DEFAULT_TEACHER,
    weights: str | Path | None = None,
    size: tuple[int, int] = (448, 832),
    components: int | None = 64,
    reduction_of: str | Path | None = None,
    threads: int | None = None,
    device: str = "cpu",
) -> Path:
    """Folder of the teacher's features of all images of ``frames``; what is there already is kept.

    The projection to ``components`` is fitted on ``fit_frames``, some of ``frames``, else on all of these: training
    frames only; or it is that of ``reduction_of``, the features of another log.

    Raises:
        InputError: the frames have no images, ``fit_frames`` are not among them, or an input cannot be used.
    """
    from ..camera.cache_build import build_feature_cache
    from ..camera.teacher import make_teacher
    from ..devices import usable_device

    place = usable_device(device)  # before a teacher is read
    folder = Path(folder or Path(index.folder) / "features" / teacher)
    rows, fit_rows = index.rows(frames), index.rows(fit_frames or frames)
    outside = sorted(set(fit_rows.tolist()) - set(rows.tolist()))
    if outside:
        raise InputError(
            f"--fit-frames: {len(outside)} of {len(fit_rows)} frames are not among --frames (first: "
            f"{index.tokens(outside)[0]} of {index.scene(outside[0])}); choose them among those that get features"
        )
    build_feature_cache(
        index.cameras(rows),
        make_teacher(teacher, path=weights),
        folder,
        size=size,
        components=components,
        reduction_of=reduction_of,
        fit_tokens=[camera.token for camera in index.cameras(fit_rows)],
        threads=threads,
        device=place,
    )
    return folder


def prepare_superpixels(
    index: Any,
    frames: str | Sequence[str] | None,
    *,
    folder: str | Path | None = None,
    channels: Sequence[str] | None = None,
    provider: str = "slic",
    workers: int = 0,
    **options: Any,
) -> Path:
    """Folder of the superpixel maps of all images of ``frames``; maps that are there already are kept.

    Args:
        channels: only these cameras. workers: processes, 0 for none beside this one. options: of the provider.
    """
    from ..camera.superpixels import write_superpixels

    folder = Path(folder or Path(index.folder) / "superpixels" / provider)
    cameras = index.cameras(index.rows(frames), channels=channels)
    write_superpixels(cameras, folder, provider=provider, workers=workers, **options)
    return folder


def prepare_providers(
    index: Any, frames: Any, providers: Mapping[str, Mapping[str, Any]], *, features: Path, workers: int
) -> None:
    """`prepare_superpixels` by each provider with its options; clusters are those of ``features``."""
    for provider, options in providers.items():
        made_of = {"features": str(features)} if provider == "clusters" else {}
        prepare_superpixels(index, frames, provider=provider, workers=workers, **made_of, **options)


def prepared_hashes(config: Any) -> dict[str, str]:
    """What made the teacher features and superpixels that a config's training set reads, as far as they are there.

    They lie beside the index under names that say little: other ones may have taken their place.
    """
    from ..camera.cache import read_record
    from ..camera.superpixels import read_record as read_regions
    from ..camera.superpixels.store import RECORD

    dataset = config.train_dataloader.dataset
    parts = dataset.get("parts", [dataset])
    features = [
        Path(part["views"]["features"]) for part in parts if (part.get("views") or {}).get("features")
    ]
    superpixels = [Path(part["superpixels"]) for part in parts if part.get("superpixels")]
    keys = [record["key"] for folder in features if (record := read_record(folder)) is not None]
    regions = [read_regions(folder) for folder in superpixels if (folder / RECORD).is_file()]
    made_by = [(region["options"], region.get("made_by")) for region in regions]
    found = {}
    if keys:
        found["teacher features"] = f"{keys[0]['teacher']['name']} {json_hash(keys, 8)}"
    if regions:
        found["superpixels"] = f"{regions[0]['provider']} {json_hash(made_by, 8)}"
    return found
