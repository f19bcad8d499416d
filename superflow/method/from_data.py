"""What a model takes from the data of its run: how many classes it tells apart, which cached features it learns."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..camera.cache import FeatureCache
from ..errors import InputError
from .matches import CloudsInImages, LabelledPoints
from .objectives import OBJECTIVES

_log = logging.getLogger(__name__)


def options_of_data(model: Mapping[str, Any], datasets: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a `Pretrainer` or `Segmentor` (``model``, its options and ``type``) that its ``datasets`` say."""
    if model["type"] == "Segmentor":
        return {"num_classes": number_of_classes(model.get("num_classes"), datasets)}
    classes = classes_of_pretraining(model, datasets)
    _say_what_the_null_spares(model, datasets)
    return {"num_classes": classes, "features": features_of_data(model, datasets)}


def _say_what_the_null_spares(model: Mapping[str, Any], datasets: Mapping[str, Any]) -> None:
    """Of shuffled pairs an objective that reads none knows nothing, and goes on to learn."""
    parts = [part for data in datasets.values() for part in getattr(data, "parts", [data])]
    if not any(getattr(part, "shuffle_pairs", False) for part in parts):
        return
    named = [entry.get("type") for entry in model.get("objectives", ())]
    without = {CloudsInImages, LabelledPoints}
    if spared := [
        name for name in named if name in OBJECTIVES and without.issuperset(OBJECTIVES[name].reads)
    ]:
        _log.warning(
            "shuffle_pairs changes nothing for %s: what reads no pairs goes on to learn; leave it out for a null",
            ", ".join(spared),
        )


def number_of_classes(given: int | None, datasets: Mapping[str, Any]) -> int | None:
    """The number of classes of the ``datasets`` of a run (stage -> dataset); ``given`` where none names its classes.

    Raises:
        InputError: ``given`` is another number, or the datasets have unlike classes.
    """
    named = {
        stage: tuple(data.class_names) for stage, data in datasets.items() if getattr(data, "class_names", ())
    }
    if not named:
        return given
    (first, names), *others = named.items()
    for stage, classes in others:
        if classes != names:
            raise InputError(
                f"{stage}_dataloader: has {len(classes)} classes ({_shorten(classes)}) and {first}_dataloader "
                f"{len(names)} ({_shorten(names)}); prepare both logs with one card"
            )
    if given not in (None, len(names)):
        raise InputError(
            f"model.num_classes: is {given}, but {first}_dataloader has {len(names)} classes ({_shorten(names)}); "
            "leave it None, or prepare the log with another card"
        )
    return len(names)


def classes_of_pretraining(model: Mapping[str, Any], datasets: Mapping[str, Any]) -> int | None:
    """The number of classes that an objective of a `Pretrainer` learns; None where none learns from labels.

    Labels are read where the objectives name one that learns from them, and nowhere else.

    Raises:
        InputError: a dataset reads labels and nothing learns from them, or the reverse; or see `number_of_classes`.
    """
    named = [entry.get("type") for entry in model.get("objectives", ())]
    learned = any(name in OBJECTIVES and LabelledPoints in OBJECTIVES[name].reads for name in named)
    for stage, data in datasets.items():
        read = bool(getattr(data, "class_names", ()))
        if read and not learned:
            raise InputError(
                f"{stage}_dataloader.dataset: reads labels, and no objective learns from them; set its clouds.labels "
                "to False, or add dict(type='segmentation') to model.objectives"
            )
        if learned and not read and hasattr(data, "class_names"):
            raise InputError(
                f"{stage}_dataloader.dataset: reads no labels, and the objective segmentation learns from them; set "
                "its clouds.labels to True, or leave the objective out"
            )
    return number_of_classes(model.get("num_classes"), datasets) if learned else None


def features_of_data(model: Mapping[str, Any], datasets: Mapping[str, Any]) -> str | Path | None:
    """The folder that ``model.features`` stands for: that of the ``datasets`` (stage -> dataset); None with a teacher.

    Datasets that know of no features (they have no attribute ``features``) leave ``model.features`` as it is.

    Raises:
        InputError: images where features are due, or the reverse; features of another teacher, size or reduction in
            another dataset or in ``model.features``.
    """
    known = {
        f"{stage}_dataloader.dataset.views.features": data.features
        for stage, data in datasets.items()
        if hasattr(data, "features")
    }
    given = model.get("features")
    if not known:
        return given
    for key, cache in known.items():
        if model.get("teacher") is None and cache is None:
            raise InputError(
                f"{key}: is not set, and without model.teacher features are learned that were computed before; "
                "give the folder that `superflow prepare features` made"
            )
        if model.get("teacher") is not None and cache is not None:
            raise InputError(
                f"{key}: holds features that were computed before, so model.teacher would see no image; "
                "set one of the two to None"
            )
    (first, cache), *others = known.items()
    if cache is None:
        return given  # beside a teacher, which the pretrainer refuses
    if given is not None and Path(given).resolve() != cache.folder.resolve():
        others.append(("model.features", FeatureCache.open(given)))
    for key, other in others:
        if differing := _differing(cache, other):
            raise InputError(
                f"{key}: {other.folder} and {cache.folder} of {first} have other {differing}; "
                + ("leave it out, the data say it" if key == "model.features" else "give features made alike")
            )
    return cache.folder


def _differing(one: Any, other: Any) -> str:
    """What two caches were made with that differs; the images they hold may."""
    keys = one.record["key"], other.record["key"]
    found = [name for name in sorted({*keys[0], *keys[1]}) if keys[0].get(name) != keys[1].get(name)]
    values = [
        f"{name.removesuffix('_sha256')} ({_of_key(keys[1], name)} and {_of_key(keys[0], name)})"
        for name in found
    ]
    return ", ".join(values)


def _of_key(key: Mapping[str, Any], name: str) -> str:
    value = key.get(name)
    if isinstance(value, Mapping):
        value = f"{value.get('name')}, {str(value.get('sha256'))[:8]}"
    return str(value)[:60]


def _shorten(names: tuple[str, ...]) -> str:
    return ", ".join(names if len(names) <= 4 else (*names[:2], "...", names[-1]))
