"""How many classes a segmentor tells apart: those of its data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError


def number_of_classes(given: int | None, datasets: Mapping[str, Any]) -> int | None:
    """The number of classes of the ``datasets`` of a run (stage -> dataset); ``given`` where none names its classes.

    Raises:
        InputError: ``given`` is another number, or the datasets have unlike classes.
    """
    named = {
        stage: tuple(data.class_names) for stage, data in datasets.items() if hasattr(data, "class_names")
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


def _shorten(names: tuple[str, ...]) -> str:
    return ", ".join(names if len(names) <= 4 else (*names[:2], "...", names[-1]))
