"""What may stand where in a config: the signatures of what its dicts build."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import mmengine.optim
import mmengine.runner
import mmengine.visualization
from mmengine.registry import LOG_PROCESSORS, OPTIMIZERS, VISBACKENDS, VISUALIZERS, Registry

from ..errors import InputError, suggest
from .builders import PARTS, SUPPLIED, find
from .hooks import DEFAULT_HOOKS
from .launch import start_distributed
from .registry import DATASETS, HOOKS, LOOPS, METRICS, MODELS, OPTIM_WRAPPERS, PARAM_SCHEDULERS


@dataclass(frozen=True)
class Leaf:
    """A value that is not looked into; annotation and default of the parameter that it is for, where they are known."""

    annotation: Any = inspect.Parameter.empty
    default: Any = inspect.Parameter.empty


ANY, TEXT = Leaf(), Leaf("str | None")


@dataclass(frozen=True)
class Slot:
    """What may stand in one place of a config; in a list, in each of its entries.

    registry, default: a dict with ``type`` (or the default one) out of this registry.
    call: or a dict of this callable's arguments. keys: or exactly these keys, each with a slot or a leaf.
    each: or any keys, all with this slot.
    supplied: arguments that come from the code. further: keys beside the arguments.
    """

    registry: Registry | None = None
    default: str | None = None
    call: Callable[..., Any] | None = None
    keys: Mapping[str, Any] | None = None
    each: Any = None
    supplied: tuple[str, ...] = ()
    further: Mapping[str, Any] = field(default_factory=dict)

    def accepted(self, node: Mapping[str, Any], where: str) -> dict[str, Any] | None:
        """Key -> slot of all that ``node`` may hold; None when that cannot be known."""
        if self.keys is not None:
            return dict(self.keys)
        if self.each is not None:
            return dict.fromkeys(node, self.each)
        name, parameters = self._parameters(node, where)
        if parameters is None:
            return None
        parts: dict[str, Any] = {part: Slot(call=find(call)) for part, call in PARTS.get(name, {}).items()}
        if "objectives" in parameters:
            parts["objectives"] = ObjectiveSlot()
        return {**_leaves(parameters), **parts, **self.further, "type": TEXT}

    def required(self, node: Mapping[str, Any], where: str) -> list[str]:
        """Keys that ``node`` cannot do without."""
        if self.keys is not None or self.each is not None:
            return []
        parameters = self._parameters(node, where)[1] or {}
        return [name for name, parameter in parameters.items() if parameter.default is parameter.empty]

    def _parameters(
        self, node: Mapping[str, Any], where: str
    ) -> tuple[str, dict[str, inspect.Parameter] | None]:
        target = self.call or self._find(node, where)
        # a shell stands for another callable; its own parameters (with their defaults) come on top
        stands_for = getattr(target, "target", None)
        name = stands_for or f"{target.__module__}:{target.__qualname__}"
        parameters = _arguments(find(stands_for) if stands_for else target)
        if parameters is None:
            return name, None
        if stands_for:
            parameters |= _arguments(target, own=True) or {}
        supplied = {*self.supplied, *self.further, *SUPPLIED.get(name, ())}
        return name, {key: parameter for key, parameter in parameters.items() if key not in supplied}

    def _find(self, node: Mapping[str, Any], where: str) -> Callable[..., Any]:
        name = node.get("type", self.default)
        if self.registry is None or name is None:
            raise InputError(f"{where}: has no 'type'; choose one of {', '.join(_names(self.registry))}")
        if callable(name):
            return name
        try:
            found = self.registry.get(name)
        except RuntimeError:  # mmengine tried to import the name
            found = None
        if found is None:
            raise InputError(f"{where}.type: there is no {name!r}{suggest(name, _names(self.registry))}")
        return found


class ObjectiveSlot:
    """An objective: its ``type`` is a key of `objectives.OBJECTIVES`, and the rest its arguments."""

    keys = registry = None

    def accepted(self, node: Mapping[str, Any], where: str) -> dict[str, Any]:
        """Key -> slot of all that ``node`` may hold."""
        from ..method.objectives import OBJECTIVES

        name = node.get("type")
        if name not in OBJECTIVES:
            raise InputError(f"{where}.type: there is no {name!r}{suggest(str(name), OBJECTIVES)}")
        known = _arguments(OBJECTIVES[name]) or {}
        own = {key: known[key] for key in known if key != "sizes"}  # the pretrainer says them
        return {**_leaves(own), "type": TEXT}

    def required(self, node: Mapping[str, Any], where: str) -> list[str]:
        """Nothing but the type."""
        return ["type"]


def top_slots() -> dict[str, Any]:
    """Slot of every top-level key."""
    loader = Slot(
        keys={
            **dict.fromkeys(("batch_size", "num_workers", "persistent_workers", "prefetch_factor"), ANY),
            **dict.fromkeys(("pin_memory", "timeout"), ANY),
            "dataset": Slot(DATASETS),
        }
    )
    hook = {"priority": ANY}
    loop = ("runner", "dataloader", "evaluator")
    metric = Slot(METRICS)
    passive = inspect.signature(mmengine.runner.Runner.__init__).parameters
    slots: dict[str, Any] = _leaves(passive)
    for name in ("self", "cfg", "data_preprocessor", "auto_scale_lr"):
        del slots[name]
    slots |= dict.fromkeys(("custom_imports", "find_unused_parameters", "model_wrapper_cfg"), ANY)
    slots |= dict.fromkeys(("data_root", "sync_bn"), TEXT)
    slots |= {
        "model": Slot(MODELS),
        **dict.fromkeys(("train_dataloader", "val_dataloader", "test_dataloader"), loader),
        "train_cfg": Slot(LOOPS, default="TrainLoop", supplied=loop),
        "val_cfg": Slot(LOOPS, default="ValLoop", supplied=loop),
        "test_cfg": Slot(LOOPS, default="TestLoop", supplied=loop),
        "val_evaluator": metric,
        "test_evaluator": metric,
        "optim_wrapper": Slot(
            OPTIM_WRAPPERS,
            default="OptimWrapper",
            further={
                "optimizer": Slot(OPTIMIZERS, supplied=("params",)),
                "paramwise_cfg": Slot(
                    keys={
                        "custom_keys": Slot(each=Slot(keys=dict.fromkeys(("lr_mult", "decay_mult"), ANY))),
                        **dict.fromkeys(("norm_decay_mult", "bias_decay_mult"), ANY),
                    }
                ),
                "clip_grad": Slot(
                    keys={
                        **dict.fromkeys(("max_norm", "norm_type", "clip_value"), ANY),
                        **dict.fromkeys(("error_if_nonfinite", "foreach"), ANY),
                        "type": TEXT,
                    }
                ),
            },
        ),
        "param_scheduler": Slot(PARAM_SCHEDULERS, supplied=("optimizer", "param_name")),
        "default_hooks": Slot(
            keys={
                name: Slot(HOOKS, default=entry["type"], further=hook)
                for name, entry in DEFAULT_HOOKS.items()
            }
        ),
        "custom_hooks": Slot(HOOKS, further=hook),
        "visualizer": Slot(
            VISUALIZERS, further={"vis_backends": Slot(VISBACKENDS, further={"save_dir": TEXT}), "name": TEXT}
        ),
        "log_processor": Slot(LOG_PROCESSORS, default="LogProcessor"),
        "auto_scale_lr": Slot(keys=dict.fromkeys(("enable", "base_batch_size"), ANY)),
        "randomness": Slot(keys={"seed": ANY, "deterministic": ANY}),
        "env_cfg": Slot(
            keys={
                "threads": ANY,
                "cudnn_benchmark": ANY,
                "dist_cfg": Slot(call=start_distributed, supplied=("launcher",)),
            }
        ),
    }
    return slots


def _leaves(parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    return {name: Leaf(parameter.annotation, parameter.default) for name, parameter in parameters.items()}


def _arguments(target: Callable[..., Any], *, own: bool = False) -> dict[str, inspect.Parameter] | None:
    """Named parameters of a callable, of a class with those it passes on to its bases; None where any name goes.

    Args:
        own: leave out what is passed on, and never None.
    """
    callables = [target]
    if inspect.isclass(target):
        callables = [vars(base)["__init__"] for base in target.__mro__ if "__init__" in vars(base)] or [
            target
        ]
    found: dict[str, inspect.Parameter] = {}
    for function in callables:
        parameters = list(inspect.signature(function).parameters.values())
        for parameter in parameters:
            if parameter.name != "self" and parameter.kind not in (
                parameter.VAR_KEYWORD,
                parameter.VAR_POSITIONAL,
            ):
                found.setdefault(parameter.name, parameter)
        if own or not any(parameter.kind == parameter.VAR_KEYWORD for parameter in parameters):
            return found
    return None


def _names(registry: Registry) -> list[str]:
    registry.import_from_location()
    names: set[str] = set()
    while registry is not None:
        names |= set(registry.module_dict)
        registry = registry.parent
    return sorted(names)
