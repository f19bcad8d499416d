"""What configs can name: the models and datasets of the other rooms, and which of their arguments are dicts in turn."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from ..camera.crops import random_crop_view
from ..camera.teacher import make_teacher
from ..clips.clouds import ClipClouds
from ..clips.dataset import PretrainDataset
from ..clips.mixture import MixtureDataset
from ..clips.times import ClipTimes
from ..clips.views import TeacherViews
from ..downstream.segment_data import SegmentDataset
from ..downstream.segmentor import Segmentor
from ..errors import InputError
from ..hub.encoder_file import fill_encoder, read_encoder_file
from ..lidar.augment import augment
from ..lidar.encoder import LidarEncoder
from ..lidar.limits import Limits
from ..lidar.minkunet import MinkUNet
from ..method.objectives import OBJECTIVES
from ..method.pretrainer import Pretrainer
from .registry import DATASETS, MODELS


def make_pretrainer(
    *,
    student: Mapping[str, Any],
    teacher: Mapping[str, Any] | None = None,
    pretrained: str | Mapping[str, Any] | None = None,
    **options: Any,
) -> Pretrainer:
    """A `Pretrainer` from the arguments of its encoder and its teacher.

    ``pretrained``: backbone whose weights the student begins with, a file, the folder of a run, or a name as
    ``street-tiny``; or what `Pretrainer.record` said of it, when all weights are about to come from a checkpoint.
    ``features``: the runner puts those of its data here, see `method.from_data`.
    """
    encoder = LidarEncoder(**student)
    begun = fill_encoder(encoder, pretrained) if isinstance(pretrained, str) else pretrained
    return Pretrainer(
        encoder, None if teacher is None else make_teacher(**teacher), pretrained=begun, **options
    )


def make_segmentor(
    *,
    num_classes: int | None = None,
    encoder: Any = None,
    pretrained: str | Mapping[str, Any] | None = None,
    **options: Any,
) -> Segmentor:
    """A `Segmentor`; without ``encoder``, the one that the ``pretrained`` file describes.

    ``num_classes``: None in a config means those of its data, which the runner puts here.
    """
    if num_classes is None:
        raise InputError("model.num_classes: no dataset of the config names its classes; give their number")
    if encoder is None and isinstance(pretrained, str):
        encoder = read_encoder_file(pretrained).config
    return Segmentor(encoder, num_classes, pretrained=pretrained, **options)


# builder -> the class that its further arguments go to
PASSES_ON: dict[Callable[..., Any], type] = {make_pretrainer: Pretrainer, make_segmentor: Segmentor}
# callable -> its arguments that are dicts of another callable's arguments, or with a type out of a table
PARTS: dict[Callable[..., Any], dict[str, Callable[..., Any] | Mapping[str, Any]]] = {
    make_pretrainer: {"student": LidarEncoder, "teacher": make_teacher, "objectives": OBJECTIVES},
    make_segmentor: {"encoder": LidarEncoder, "limits": Limits},
    PretrainDataset: {
        **{"times": ClipTimes, "clouds": ClipClouds, "views": TeacherViews},
        **{"augmentation": augment, "limits": Limits},
    },
    TeacherViews: {"crop": random_crop_view},
    SegmentDataset: {"augmentation": augment, "limits": Limits},
    LidarEncoder: {"backbone": MinkUNet},
}
# arguments that the code supplies and a config cannot
SUPPLIED: dict[Callable[..., Any], tuple[str, ...]] = {
    augment: ("points", "generator"),
    ClipTimes: ("index", "chosen"),
    ClipClouds: ("index", "limits", "raw_intensity"),
    TeacherViews: ("superpixels",),
    random_crop_view: ("view", "size", "generator", "antialias"),
    MinkUNet: ("in_channels",),
}
_PARTS_OF_CLIPS = (
    *("times.offsets", "times.border", "clouds.sweeps", "clouds.sweeps_after", "clouds.max_sweep_age_s"),
    *("clouds.drop_moving", "clouds.occlusion", "clouds.max_points", "clouds.sweep_points"),
    *("clouds.viewpoint_m", "clouds.keep_frames", "views.crop", "views.flip", "views.antialias"),
    "views.features",
)
# dataset -> keys that it had -> where it has them now
MOVED: dict[str, dict[str, str]] = {
    "PretrainDataset": {
        **{"offset_unit": "times.unit", "offset_tolerance_s": "times.tolerance_s", "view_size": "views.size"},
        **{key.partition(".")[2]: key for key in _PARTS_OF_CLIPS},
    },
    "SegmentDataset": {"selection": "frames"},
}
# keys that configs had -> what became of them
GONE: dict[str, str] = {
    **{old: f"{owner} has it as {new}" for owner, keys in MOVED.items() for old, new in keys.items()},
    "by_epoch": "leave it out: runs are counted in iterations, also where they are max_epochs long",
    "occlusion_cell_px": "leave it out: how far beams lie apart is now measured on each scan, for any size of image",
}


def as_plain(value: Any, of_text: Callable[[str], str] = str) -> Any:
    """Config dicts as plain dicts, so that what is built meets no type of mmengine; ``of_text`` of every text."""
    if isinstance(value, Mapping):
        return {key: as_plain(item, of_text) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(as_plain(item, of_text) for item in value)
    return of_text(value) if isinstance(value, str) else value


def with_folder(value: Any, old: str, new: str) -> Any:
    """``value`` with the folder ``new`` in the place of ``old`` in every path of it that begins so."""
    old, new = old.rstrip("/"), new.rstrip("/")

    def moved(path: str) -> str:
        return new + path[len(old) :].rstrip("/") if f"{path}/".startswith(f"{old}/") else path

    return as_plain(value, moved)


def arguments(target: Callable[..., Any]) -> dict[str, inspect.Parameter] | None:
    """Named parameters of a callable, with those that it passes on to its bases; None where any name goes."""
    if inspect.isclass(target):
        chain = [vars(base)["__init__"] for base in target.__mro__ if "__init__" in vars(base)] or [target]
    else:
        chain = [target, PASSES_ON[target]] if target in PASSES_ON else [target]
    found: dict[str, inspect.Parameter] = {}
    for function in chain:
        parameters = inspect.signature(function).parameters.values()
        for parameter in parameters:
            if parameter.name != "self" and parameter.kind not in (
                parameter.VAR_KEYWORD,
                parameter.VAR_POSITIONAL,
            ):
                found.setdefault(parameter.name, parameter)
        if not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
            return found
    return None


MODELS.register_module(name="Pretrainer", module=make_pretrainer)
MODELS.register_module(name="Segmentor", module=make_segmentor)
for dataset in (PretrainDataset, MixtureDataset, SegmentDataset):
    DATASETS.register_module(module=dataset)
