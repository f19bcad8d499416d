"""How many classes a model tells apart: those of its data."""

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
    from ..method.matches import LabelledPoints
    from ..method.objectives import OBJECTIVES

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


def _shorten(names: tuple[str, ...]) -> str:
    return ", ".join(names if len(names) <= 4 else (*names[:2], "...", names[-1]))
