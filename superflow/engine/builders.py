"""What configs can name: thin shells that import a room only when one of its things is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from ..errors import InputError
from .registry import DATASETS, MODELS

ENCODER = "superflow.lidar.encoder:LidarEncoder"
TEACHER = "superflow.camera.teacher:make_teacher"
LIMITS = "superflow.lidar.limits:Limits"
TIMES = "superflow.clips.times:ClipTimes"
CLOUDS = "superflow.clips.clouds:ClipClouds"
VIEWS = "superflow.clips.views:TeacherViews"
CROP = "superflow.camera.crops:random_crop_view"
AUGMENT = "superflow.lidar.augment:augment"

# type in a config -> what it stands for
_MODELS = {
    "Pretrainer": "superflow.method.pretrainer:Pretrainer",
    "Segmentor": "superflow.downstream.segmentor:Segmentor",
}
_DATASETS = {
    "PretrainDataset": "superflow.clips.dataset:PretrainDataset",
    "MixtureDataset": "superflow.clips.mixture:MixtureDataset",
    "SegmentDataset": "superflow.downstream.segment_data:SegmentDataset",
}
# callable -> its arguments that are dicts of another callable's arguments
PARTS: dict[str, dict[str, str]] = {
    _MODELS["Pretrainer"]: {"student": ENCODER, "teacher": TEACHER},
    _MODELS["Segmentor"]: {"encoder": ENCODER, "limits": LIMITS},
    _DATASETS["PretrainDataset"]: {
        "times": TIMES,
        "clouds": CLOUDS,
        "views": VIEWS,
        "augmentation": AUGMENT,
        "limits": LIMITS,
    },
    VIEWS: {"crop": CROP},
    _DATASETS["SegmentDataset"]: {"augmentation": AUGMENT, "limits": LIMITS},
    ENCODER: {"backbone": "superflow.lidar.minkunet:MinkUNet"},
}
# arguments that the code supplies and a config cannot
SUPPLIED: dict[str, tuple[str, ...]] = {
    AUGMENT: ("points", "generator"),
    TIMES: ("index", "chosen"),
    CLOUDS: ("index", "limits", "raw_intensity"),
    VIEWS: ("superpixels",),
    CROP: ("view", "size", "generator", "antialias"),
    "superflow.lidar.minkunet:MinkUNet": ("in_channels",),
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
        "offset_unit": "times.unit",
        "offset_tolerance_s": "times.tolerance_s",
        "view_size": "views.size",
        **{key.partition(".")[2]: key for key in _PARTS_OF_CLIPS},
    },
    "SegmentDataset": {"selection": "frames"},
}
# keys that configs had -> what became of them
GONE: dict[str, str] = {
    **{old: f"{owner} has it as {new}" for owner, keys in MOVED.items() for old, new in keys.items()},
    "occlusion_cell_px": "leave it out: how far beams lie apart is now measured on each scan, for any size of image",
}


def find(target: str) -> Callable[..., Any]:
    """The callable that ``package.module:name`` stands for."""
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)


def as_plain(value: Any) -> Any:
    """Config dicts as plain dicts, so that nothing behind this door meets a type of mmengine."""
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(as_plain(item) for item in value)
    return value


def make_pretrainer(
    *, student: Mapping[str, Any], teacher: Mapping[str, Any] | None = None, **options: Any
) -> Any:
    """A `Pretrainer` from the arguments of its encoder and its teacher.

    ``features``, ``num_classes``: the runner puts those of its data here, see `teacher_features.features_of_data` and
    `classes.classes_of_pretraining`.
    """
    encoder = find(ENCODER)(**as_plain(student))
    frozen = None if teacher is None else find(TEACHER)(**as_plain(teacher))
    return find(_MODELS["Pretrainer"])(encoder, frozen, **as_plain(options))


def make_segmentor(
    *,
    num_classes: int | None = None,
    encoder: Mapping[str, Any] | None = None,
    pretrained: str | Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """A `Segmentor`; without ``encoder``, the one that the ``pretrained`` file describes.

    ``num_classes``: None in a config means those of its data, which the runner puts here.
    """
    if num_classes is None:
        raise InputError("model.num_classes: no dataset of the config names its classes; give their number")
    if encoder is None and isinstance(pretrained, str):
        encoder = find("superflow.hub.encoder_file:read_encoder_file")(pretrained).config
    return find(_MODELS["Segmentor"])(
        as_plain(encoder), num_classes, pretrained=as_plain(pretrained), **as_plain(options)
    )


def _shell(target: str) -> Callable[..., Any]:
    def build(**options: Any) -> Any:
        return find(target)(**as_plain(options))

    return build


def _register() -> None:
    special: dict[str, Callable[..., Any]] = {"Pretrainer": make_pretrainer, "Segmentor": make_segmentor}
    for registry, table in ((MODELS, _MODELS), (DATASETS, _DATASETS)):
        for name, target in table.items():
            build = special.get(name) or _shell(target)
            build.target = target  # type: ignore[attr-defined]  # the config check reads its signature
            registry.register_module(name=name, module=build)


_register()
