"""The names that configs use, what they stand for, and which of its arguments are dicts in turn.

Own types: ``custom_imports = dict(imports=["my_package.my_module"])`` in a config, and in that module
``@MODELS.register_module()`` (or ``DATASETS``, ``HOOKS``, ``METRICS``) above a class. The other rooms know nothing of
mmengine: theirs are registered here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mmengine import registry as root
from mmengine.registry import Registry

from ..camera.crops import random_crop_view
from ..camera.teacher import make_teacher
from ..clips.clouds import ClipClouds
from ..clips.dataset import PretrainDataset
from ..clips.mixture import MixtureDataset, PartOfMixture
from ..clips.times import ClipTimes
from ..clips.views import TeacherViews
from ..downstream.segment_data import SegmentDataset
from ..downstream.segmentor import Segmentor
from ..lidar.augment import augment
from ..lidar.encoder import LidarEncoder
from ..lidar.limits import Limits
from ..lidar.minkunet import MinkUNet
from ..method.launch import start_distributed
from ..method.objectives import OBJECTIVES
from ..method.passes import check_rules
from ..method.pooling import region_options
from ..method.pretrainer import Pretrainer

SCOPE = "superflow"


def _child(name: str) -> Registry:
    """A registry that asks mmengine's where it has no entry."""
    parent = getattr(root, name)
    return Registry(parent.name, scope=SCOPE, parent=parent)


MODELS = _child("MODELS")
DATASETS = _child("DATASETS")
HOOKS = _child("HOOKS")
METRICS = _child("METRICS")
LOOPS = _child("LOOPS")
OPTIM_WRAPPERS = _child("OPTIM_WRAPPERS")
PARAM_SCHEDULERS = _child("PARAM_SCHEDULERS")
# nothing of ours is in these; mmengine warns of every scope that lacks one
for other in ("OPTIMIZERS", "VISUALIZERS", "VISBACKENDS", "LOG_PROCESSORS", "EVALUATOR", "MODEL_WRAPPERS"):
    _child(other)
for model in (Pretrainer, Segmentor):
    MODELS.register_module(module=model)
for dataset in (PretrainDataset, MixtureDataset, SegmentDataset):
    DATASETS.register_module(module=dataset)

_OF_CLIPS: dict[str, Callable[..., Any]] = {
    **{"times": ClipTimes, "clouds": ClipClouds, "views": TeacherViews},
    **{"augmentation": augment, "limits": Limits},
}
# callable -> its arguments that are dicts of another callable's arguments, or with a type out of a table
PARTS: dict[Callable[..., Any], Mapping[str, Callable[..., Any] | Mapping[str, Any]]] = {
    Pretrainer: {
        **{"student": LidarEncoder, "teacher": make_teacher, "objectives": OBJECTIVES},
        **{"region": region_options, "batch_norm": check_rules},
    },
    Segmentor: {"encoder": LidarEncoder, "limits": Limits},
    PretrainDataset: _OF_CLIPS,
    PartOfMixture: _OF_CLIPS,
    MixtureDataset: {"parts": PartOfMixture},
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
    start_distributed: ("launcher",),
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
