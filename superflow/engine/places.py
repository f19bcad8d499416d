"""What may stand where in a config: one table of its keys, completed by the signatures of what its dicts build."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mmengine.registry import LOG_PROCESSORS, OPTIMIZERS, VISBACKENDS, VISUALIZERS, Registry
from mmengine.runner import Runner

from ..errors import InputError, suggest
from ..method.objectives import OBJECTIVES
from .builders import PARTS, SUPPLIED, arguments
from .hooks import DEFAULT_HOOKS
from .launch import start_distributed
from .registry import DATASETS, HOOKS, LOOPS, METRICS, MODELS, OPTIM_WRAPPERS, PARAM_SCHEDULERS

_UNKNOWN = inspect.Parameter.empty


@dataclass(frozen=True)
class Place:
    """What may stand in one place of a config; in a list, in each of its entries. A value, unless one of these is set.

    registry: a dict with ``type`` (or the type ``default``) out of this registry. call: or a dict of this callable's
    arguments. keys: or exactly these keys. each: or any keys, all with this place.
    supplied: arguments that come from the code. further: keys beside the arguments.
    annotation, default, required: of the parameter that the place is for, where they are known.
    """

    registry: Registry | Mapping[str, Any] | None = None
    call: Callable[..., Any] | None = None
    keys: Mapping[str, Place] | None = None
    each: Place | None = None
    supplied: tuple[str, ...] = ()
    further: Mapping[str, Place] = field(default_factory=dict)
    annotation: Any = _UNKNOWN
    default: Any = _UNKNOWN
    required: bool = False

    @property
    def is_value(self) -> bool:
        """Whether nothing is known of what is in it."""
        return self.registry is None and self.call is None and self.keys is None and self.each is None

    @property
    def default_value(self) -> Any:
        """What stands for a key that is left out; None where that is not known."""
        return None if self.default is _UNKNOWN else self.default

    def known(self, node: Mapping[str, Any], where: str) -> dict[str, Place] | None:
        """Key -> place of all that ``node`` may hold; None where that cannot be known.

        Raises:
            InputError: it has no ``type``, or one that is not there.
        """
        if self.is_value:
            return None
        if self.keys is not None:
            return dict(self.keys)
        if self.each is not None:
            return dict.fromkeys(node, self.each)
        target = self.call or self._target(node, where)
        parameters = arguments(target)
        if parameters is None:
            return None
        found: dict[str, Place] = {}
        for name, parameter in parameters.items():
            required = parameter.default is _UNKNOWN
            if name in PARTS.get(target, {}):
                found[name] = Place(call=PARTS[target][name], required=required)
            elif name == "objectives":
                found[name] = Place(OBJECTIVES, supplied=("sizes",), required=required)
            elif name not in (*self.supplied, *SUPPLIED.get(target, ())):
                found[name] = Place(
                    annotation=parameter.annotation, default=parameter.default, required=required
                )
        return {**found, **self.further, "type": _TEXT}

    def _target(self, node: Mapping[str, Any], where: str) -> Callable[..., Any]:
        """What the ``type`` of ``node`` stands for."""
        assert self.registry is not None
        name = node.get("type", self.default_value)
        if name is None:
            raise InputError(f"{where}: has no 'type'; choose one of {', '.join(_names(self.registry))}")
        if callable(name):
            return name
        try:
            found = self.registry.get(name)
        except RuntimeError:  # mmengine tried to import the name
            found = None
        if found is None:
            raise InputError(f"{where}.type: there is no {name!r}{suggest(str(name), _names(self.registry))}")
        return found


_ANY, _TEXT = Place(), Place(annotation="str | None")


def _keys(names: str, **further: Place) -> Place:
    """A place of exactly these keys."""
    return Place(keys={**dict.fromkeys(names.split(), _ANY), **further})


def top_places() -> dict[str, Place]:
    """Place of every top-level key."""
    loader = _keys(
        "batch_size num_workers persistent_workers prefetch_factor pin_memory timeout",
        dataset=Place(DATASETS),
    )
    parts = ("runner", "dataloader", "evaluator")
    optimizer = {
        "optimizer": Place(OPTIMIZERS, supplied=("params",)),
        "paramwise_cfg": _keys(
            "norm_decay_mult bias_decay_mult", custom_keys=Place(each=_keys("lr_mult decay_mult"))
        ),
        "clip_grad": _keys("max_norm norm_type clip_value error_if_nonfinite foreach", type=_TEXT),
    }
    hook = {"priority": _ANY}
    backends = Place(VISBACKENDS, further={"save_dir": _TEXT})
    runner = {
        name: Place(annotation=parameter.annotation, default=parameter.default)
        for name, parameter in inspect.signature(Runner.__init__).parameters.items()
        if name not in ("self", "cfg", "data_preprocessor")
    }
    return {
        **runner,
        **dict.fromkeys(("custom_imports", "find_unused_parameters", "model_wrapper_cfg"), _ANY),
        **dict.fromkeys(("data_root", "sync_bn"), _TEXT),
        "allow_leakage": Place(annotation=bool, default=False),
        "model": Place(MODELS),
        **{f"{stage}_dataloader": loader for stage in ("train", "val", "test")},
        **{
            f"{stage.lower()}_cfg": Place(LOOPS, default=f"{stage}Loop", supplied=parts)
            for stage in ("Train", "Val", "Test")
        },
        **{f"{stage}_evaluator": Place(METRICS) for stage in ("val", "test")},
        "optim_wrapper": Place(OPTIM_WRAPPERS, default="OptimWrapper", further=optimizer),
        "param_scheduler": Place(PARAM_SCHEDULERS, supplied=("optimizer", "param_name")),
        "default_hooks": Place(
            keys={
                name: Place(HOOKS, default=entry["type"], further=hook)
                for name, entry in DEFAULT_HOOKS.items()
            }
        ),
        "custom_hooks": Place(HOOKS, further=hook),
        "visualizer": Place(VISUALIZERS, further={"vis_backends": backends, "name": _TEXT}),
        "log_processor": Place(LOG_PROCESSORS, default="LogProcessor"),
        "auto_scale_lr": _keys("enable base_batch_size"),
        "randomness": _keys("seed deterministic"),
        "env_cfg": _keys(
            "threads cudnn_benchmark", dist_cfg=Place(call=start_distributed, supplied=("launcher",))
        ),
    }


def _names(registry: Any) -> list[str]:
    if isinstance(registry, Mapping):
        return sorted(registry)
    registry.import_from_location()
    return sorted({*registry.module_dict, *(_names(registry.parent) if registry.parent else ())})
