"""Which cached teacher features a pretrainer learns from: those that its data read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError


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
        from ..camera.cache import FeatureCache

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
        f"{name.removesuffix('_sha256')} ({_short(keys[1], name)} and {_short(keys[0], name)})"
        for name in found
    ]
    return ", ".join(values)


def _short(key: Mapping[str, Any], name: str) -> str:
    value = key.get(name)
    if isinstance(value, Mapping):
        value = f"{value.get('name')}, {str(value.get('sha256'))[:8]}"
    return str(value)[:60]
