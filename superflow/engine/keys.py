"""What may stand where in a config, by the signatures of what its dicts build; keys that nothing would read are found.

That is before anything is built: a misspelt key must not train for a day.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from mmengine.registry import LOG_PROCESSORS, OPTIMIZERS, VISBACKENDS, VISUALIZERS
from mmengine.runner import Runner

from ..errors import InputError, suggest
from ..method.launch import start_distributed
from . import evaluation as evaluation  # what these register can be named
from . import loops as loops
from .hooks import DEFAULT_HOOKS
from .registry import (
    DATASETS,
    GONE,
    HOOKS,
    LOOPS,
    METRICS,
    MODELS,
    OPTIM_WRAPPERS,
    PARAM_SCHEDULERS,
    PARTS,
    SUPPLIED,
)
from .values import check_value


class Place(NamedTuple):
    """What may stand in one place of a config; in a list, in each of its entries.

    keys: from a dict that stands there and its name, the place of each key that it may hold, or None where any goes;
    raises InputError where its ``type`` is missing or not there. Without ``keys`` a value is there.
    may_be_built: what the dict describes may stand there, too. annotation, default, required: of the parameter that
    the place is for, where they are known. is_foreign: that parameter is of someone's own code.
    """

    keys: Callable[[Mapping[str, Any], str], Mapping[str, Place] | None] | None = None
    may_be_built: bool = False
    annotation: Any = inspect.Parameter.empty
    default: Any = None
    required: bool = False
    is_foreign: bool = False


_KNOWN_CODE = ("superflow", "mmengine", "torch")  # whose parameters mean what their names say in `values`

TOP = Place(lambda node, where: top_places())  # of a whole config


def check_config(config: Mapping[str, Any]) -> None:
    """Look at every known key of a config.

    Raises:
        InputError: a key that nothing reads (with the nearest that something does), an unknown ``type``, a required
            argument that is missing, or a value that its place does not take, see `values.check_value`.
    """
    for name, place in top_places().items():
        if name in config:
            _check(config[name], place, name)


def _check(node: Any, place: Place, where: str) -> None:
    if place.keys is None:
        check_value(node, where, place.annotation, place.default, any_number=place.is_foreign)
    elif node is None:
        return
    elif isinstance(node, list | tuple):
        for number, item in enumerate(node):
            _check(item, place, f"{where}[{number}]")
    elif isinstance(node, Mapping):
        places = place.keys(node, where)
        if places is None:
            return
        for key in node:
            if key not in places:
                raise InputError(f"{where}.{key}: nothing reads this key{_instead(key, places)}")
        for key, inner in places.items():
            if inner.required and key not in node:
                raise InputError(f"{where}: has no {key!r}, which it needs")
            if key in node:
                _check(node[key], inner, f"{where}.{key}")
    elif not place.may_be_built:
        raise InputError(f"{where}: is {node!r}; it must be a dict")


def check_option(config: Mapping[str, Any], key: str) -> Place:
    """What is to stand in the place of one key of ``--cfg-options``, before it is merged.

    Raises:
        InputError: it is not in the config, and what its place builds would not take it.
    """
    where, node, place, steps = "the config", config, TOP, key.split(".")
    if not all(steps):
        raise InputError(
            f"--cfg-options {key}=...: a name is missing in the key; write KEY=VALUE, as in a.b=1"
        )
    for depth, step in enumerate(steps, 1):
        if isinstance(node, list | tuple):
            if not step.isdigit() or int(step) >= len(node):
                raise InputError(
                    f"--cfg-options {key}: {where} is a list of {len(node)}, {step!r} is none of it"
                )
            node = node[int(step)]
        else:
            if node is None and place.keys is not None:
                node = {}  # an option under it takes the place of None
            if not isinstance(node, Mapping):
                raise InputError(f"--cfg-options {key}: {where} is {node!r} and has no keys")
            found = place.keys({step: None, **node}, where) if place.keys else {}
            free = found is None  # what takes any argument and hands it on, as a file may name it, too
            places = found or {}
            if step not in places and not free and (depth == 1 or step not in node):
                raise InputError(f"--cfg-options {key}: {_no_key(step, node, places, where)}")
            place, node = places.get(step, Place()), node.get(step, {})
        where = ".".join(steps[:depth])
    return place


def _no_key(key: str, node: Mapping[str, Any], places: Mapping[str, Place], where: str) -> str:
    if key in node:  # at the top, where files have variables
        return (
            f"{key!r} is a variable of the config file, which was used when the file was read; set the key that it "
            "went into"
        )
    known = places if where == "the config" else {**node, **places}
    return f"{where} has no {key!r}{_instead(key, known, words='the nearest known key is')}"


def _instead(key: str, known: Iterable[str], **words: str) -> str:
    """What to write instead of a key that nothing reads."""
    return f"; {GONE[key]}" if key in GONE else suggest(key, known, **words)


_TEXT = Place(annotation="str | None")


def top_places() -> dict[str, Place]:
    """Place of every top-level key."""
    multipliers = _these("lr_mult decay_mult")
    optim_wrapper = _typed(
        OPTIM_WRAPPERS,
        "OptimWrapper",
        supplied=("loss_scale", "use_fsdp"),  # follow from the precision, see `optim.AmpOptimWrapper`
        optimizer=_typed(OPTIMIZERS, supplied=("params",)),
        paramwise_cfg=_these(
            "norm_decay_mult bias_decay_mult",
            custom_keys=Place(lambda node, where: dict.fromkeys(node, multipliers)),
        ),
        clip_grad=_these("max_norm norm_type clip_value error_if_nonfinite foreach", type=_TEXT),
    )
    loader = "batch_size num_workers persistent_workers prefetch_factor pin_memory timeout"
    hooks = {name: _typed(HOOKS, hook["type"], priority=Place()) for name, hook in DEFAULT_HOOKS.items()}
    places = {
        **(arguments(Runner) or {}),
        **dict.fromkeys(("custom_imports", "find_unused_parameters", "model_wrapper_cfg"), Place()),
        **dict.fromkeys(("data_root", "sync_bn"), _TEXT),
        "allow_leakage": Place(annotation=bool, default=False),
        "model": _typed(MODELS),
        "optim_wrapper": optim_wrapper,
        "param_scheduler": _typed(PARAM_SCHEDULERS, supplied=("optimizer", "param_name")),
        "default_hooks": _these("", **hooks),
        "custom_hooks": _typed(HOOKS, priority=Place()),
        "visualizer": _typed(VISUALIZERS, vis_backends=_typed(VISBACKENDS, save_dir=_TEXT), name=_TEXT),
        "log_processor": _typed(LOG_PROCESSORS, "LogProcessor"),
        "auto_scale_lr": _these("enable base_batch_size"),
        "randomness": _these("seed deterministic"),
        "env_cfg": _these("threads cudnn_benchmark", dist_cfg=_typed(start_distributed)),
    }
    for stage in ("train", "val", "test"):
        supplied = ("runner", "dataloader", "evaluator")
        places[f"{stage}_dataloader"] = _these(loader, dataset=_typed(DATASETS))
        places[f"{stage}_cfg"] = _typed(LOOPS, f"{stage.title()}Loop", supplied=supplied)
        if stage != "train":
            places[f"{stage}_evaluator"] = _typed(METRICS)
    return {name: place for name, place in places.items() if name not in ("cfg", "data_preprocessor")}


def _these(names: str, **further: Place) -> Place:
    """A place of exactly these keys."""
    return Place(lambda node, where: {**dict.fromkeys(names.split(), Place()), **further})


def _typed(
    source: Any, default: str | None = None, *, supplied: tuple[str, ...] = (), **further: Place
) -> Place:
    """A place of a dict of the arguments of ``source``, or of what ``type`` (else ``default``) names in it, a registry.

    Args:
        supplied: those that the code gives. further: keys beside them.
    """

    def keys(node: Mapping[str, Any], where: str) -> Mapping[str, Place] | None:
        target = source if callable(source) else _target(source, node.get("type") or default, where)
        found = arguments(target)
        if found is None:
            return None
        return {"type": _TEXT, **{name: found[name] for name in found if name not in supplied}, **further}

    return Place(keys, may_be_built=callable(source), default=default)


def arguments(target: Callable[..., Any]) -> dict[str, Place] | None:
    """Places of a callable's named arguments, with those that a class passes on to its bases; None where any goes."""
    chain: list[tuple[Any, str]] = [(target, getattr(target, "__module__", ""))]
    if inspect.isclass(target):
        bases = [base for base in target.__mro__ if "__init__" in vars(base)]
        chain = [(vars(base)["__init__"], base.__module__) for base in bases] or chain
    found: dict[str, Place] = {}
    for function, module in chain:
        parameters = inspect.signature(function).parameters.values()
        is_foreign = module.partition(".")[0] not in _KNOWN_CODE
        for each in parameters:
            if not each.kind.name.startswith("VAR_") and each.name not in ("self", *found):
                known = {"annotation": each.annotation, "default": each.default, "is_foreign": is_foreign}
                found[each.name] = Place(required=each.default is each.empty, **known)
        if all(each.kind.name != "VAR_KEYWORD" for each in parameters):
            break
    else:
        return None
    for name, part in PARTS.get(target, {}).items():
        inner = _typed(part, supplied=("sizes",) if isinstance(part, Mapping) else ())
        found[name] = inner._replace(required=found[name].required)
    return {name: place for name, place in found.items() if name not in SUPPLIED.get(target, ())}


def _target(registry: Any, name: Any, where: str) -> Callable[..., Any]:
    """What ``name`` stands for."""
    if name is None:
        raise InputError(f"{where}: has no 'type'; choose one of {', '.join(_names(registry))}")
    if callable(name):
        return name
    try:
        found = registry.get(name)
    except RuntimeError:  # mmengine tried to import the name
        found = None
    if found is None:
        raise InputError(f"{where}.type: there is no {name!r}{suggest(str(name), _names(registry))}")
    return found


def _names(registry: Any) -> list[str]:
    if isinstance(registry, Mapping):
        return sorted(registry)
    registry.import_from_location()
    return sorted({*registry.module_dict, *(_names(registry.parent) if registry.parent else ())})
