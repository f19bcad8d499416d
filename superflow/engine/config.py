"""Configs: mmengine's Python files, read strictly."""

from __future__ import annotations

import ast
import copy
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from pprint import pformat
from typing import Any

import torch
from mmengine.config import Config, ConfigDict

from ..errors import InputError, MissingFileError, suggest
from ..files.access import read_text
from ..hub.checkpoint import find_last
from ..method.launch import launcher_of
from ..option_values import allowed_types, read_value
from .keys import Place, check_config, check_option, top_places
from .optim import AMP_ON_CPU
from .registry import SCOPE, as_plain, with_folder

# of each pair a config has one: a length or an interval in iterations or in epochs
_PAIRS = (("max_iters", "max_epochs"), ("val_interval", "val_interval_epochs"))
# types of the key of frames of a log, also for datasets that do not say what they take
_FRAMES = frozenset({"str", "texts", "None"})


def load_config(
    path: str | Path,
    *,
    options: Mapping[str, Any] | Iterable[str] | None = None,
    work_dir: str | Path | None = None,
    data_root: str | Path | None = None,
    seed: int | None = None,
    amp: bool = False,
    resume: bool | str | Path = False,
    load_from: str | Path | None = None,
    launcher: str | None = None,
    allow_leakage: bool = False,
) -> Config:
    """A checked config, ready for `runner.build_runner`.

    Args:
        path: a config file, or the name of one that comes with the package (``pretrain/NAME.py``).
        options: dotted key to value; or the text of ``--cfg-options``, as `parse_options` takes it.
        work_dir: folder of the run; without it the config's, or ``work_dirs/NAME``.
        data_root: takes the place of the config's ``data_root`` in every path that begins with it.
        seed: of the whole run.
        amp: mixed precision, on CUDA only.
        resume: True continues the newest checkpoint of the work folder, where there is one; or a checkpoint, or the
            folder of a run, whose newest one it is.
        load_from: checkpoint, or folder of a run, to take weights from.
        launcher: ``none``, ``pytorch`` or ``slurm``; without it the config's, or what the environment says.
        allow_leakage: evaluate on drives that the weights were trained on; the result says it.

    Raises:
        InputError: no such file, a key that nothing reads, or options that cannot be used here.
    """
    path = find_config(path)
    config, set_by_option = _read_with(path, options, data_root)
    check_config(config._cfg_dict)
    _complete(config, work_dir=f"work_dirs/{path.stem}", amp=amp)
    if launcher is None and "launcher" not in set_by_option and config.get("launcher", "none") == "none":
        launcher = launcher_of(os.environ)
    given = {"work_dir": work_dir, "load_from": load_from, "launcher": launcher, "randomness.seed": seed}
    given["allow_leakage"] = allow_leakage or None
    texts = {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
    config.merge_from_dict({key: value for key, value in texts.items() if value is not None})
    _refuse_empty(work_dir=config.work_dir, load_from=config.get("load_from"), resume=resume)
    newest = find_last(config.work_dir) if resume is True or resume == "auto" else _newest_of(resume)
    if (start := config.get("load_from")) is not None:
        config.load_from = str(_newest_of(start))
    if newest:  # else a new run, with the weights of load_from if there are any
        config.resume, config.load_from = True, str(newest)
    return config


def _read_with(path: Path, options: Any, data_root: str | Path | None) -> tuple[Config, set[str]]:
    """A file's config with options and another ``data_root``, and the keys of these options; see `load_config`."""
    roots = _check_variables(path)
    try:
        # mmengine would lay the code out anew for every log
        config = Config.fromfile(str(path), format_python_code=False)
    except Exception as error:  # a config is code: whatever it raises is about the file
        said = f"{type(error).__name__}: {error}"
        raise InputError(f"{path}: cannot be read ({said}); correct the file") from error
    if isinstance(options, Mapping):
        for key in options:
            check_option(config._cfg_dict, key)
    else:
        options = parse_options(options or (), config._cfg_dict)
    options = copy.deepcopy(dict(options))  # merging takes keys such as _delete_ out of it
    data_root = options.pop("data_root", None) if data_root is None else data_root
    _refuse_empty(data_root=data_root)
    _merge(config, options)
    if data_root is not None and not roots:
        raise InputError(f"{path}: has no data_root that --data-root could replace; set its paths one by one")
    # paths in base files were made with the base's data_root, whatever this file or the caller says
    new = str(data_root or config.get("data_root"))
    for old in (root for root in roots if root.rstrip("/") != new.rstrip("/")):
        for key in config.keys() - {"work_dir"}:
            config[key] = with_folder(config[key], old, new)
    return config, set(options)


def parse_options(options: Iterable[str], config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """``["a.b=1", "c=[1,2]"]`` as ``{"a.b": 1, "c": [1, 2]}``; see `option_values.read_value` for the notation.

    Args:
        config: what the options are for; the type that a key's place takes decides what its text means. Without it,
            only ``frames`` is known to take text.

    Raises:
        InputError: an option without a value, a key that ``config`` has no place for, or a bracket that is not closed.
    """
    parsed: dict[str, Any] = {}
    for option in options:
        key, found, text = option.partition("=")
        if not found:
            raise InputError(f"--cfg-options {option}: has no value; write KEY=VALUE")
        place = Place() if config is None else check_option(config, key)
        allowed = allowed_types(place.annotation, place.default)
        if not allowed and key.rpartition(".")[2] == "frames":
            allowed = _FRAMES
        try:
            parsed[key] = read_value(text, allowed)
        except InputError as error:
            raise InputError(f"--cfg-options {option}: {error}") from error
    return parsed


def find_config(name: str | Path) -> Path:
    """The file ``name``, or the config of that name that comes with the package.

    Raises:
        MissingFileError: neither exists; the nearest shipped name is given.
    """
    path = Path(name)
    if path.is_file():
        return path.resolve()
    shipped, named = shipped_configs(), path.as_posix().removeprefix("configs/").removesuffix(".py")
    if f"{named}.py" in shipped:
        return shipped[f"{named}.py"]
    near = suggest(path.as_posix(), shipped, words="the nearest that comes with superflow is")
    raise MissingFileError(f"{path}: there is no such config{near or '; check the path'}")


def config_text(config: Config) -> str:
    """The resolved config as a Python file that `load_config` reads again."""
    entries = as_plain(config.to_dict()).items()
    return "\n".join(f"{key} = {pformat(value, width=100, sort_dicts=False)}\n" for key, value in entries)


def shipped_configs() -> dict[str, Path]:
    """Configs of the package by name, ``pretrain/NAME.py``."""
    import superflow

    roots = [Path(place) / "configs" for place in superflow.__path__]
    return {
        path.relative_to(root).as_posix(): path for root in roots for path in sorted(root.glob("[a-z]*/*.py"))
    }


def _check_variables(path: Path) -> list[str]:
    """Every ``data_root`` of a file and its bases.

    Raises:
        InputError: a top-level name is no key and is not used in its file, so that it must be a misspelt key.
    """
    try:
        tree = ast.parse(read_text(path))
    except SyntaxError as error:
        raise InputError(
            f"{path}:{error.lineno}: is no valid Python ({error.msg}); correct the line"
        ) from error
    names = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    keys, used = {*top_places(), "_base_"}, {node.id for node in names if isinstance(node.ctx, ast.Load)}
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    values = {name.id: node.value for node in assigned for name in node.targets if isinstance(name, ast.Name)}
    for name, value in values.items():
        if name not in keys | used:
            near = suggest(name, keys, words="the nearest known key is")
            raise InputError(f"{path}:{value.lineno}: nothing reads {name!r}{near}")
    root = values.get("data_root")
    roots = [str(root.value)] if isinstance(root, ast.Constant) else []
    bases = ast.literal_eval(values["_base_"]) if "_base_" in values else []
    for base in [bases] if isinstance(bases, str) else bases:
        if (path.parent / base).is_file():  # mmengine says it of a missing one
            roots += _check_variables(path.parent / base)
    return list(dict.fromkeys(roots))


def _merge(config: Config, options: Mapping[str, Any]) -> None:
    """Lay options over the config; one for one of a pair takes the place of the other."""
    for key in options:
        node: Any = config
        for step in key.split(".")[:-1]:
            if not isinstance(node, list | tuple) and node.get(step) is None:
                node.pop(step, None)  # merging lays dicts over dicts, not over None
                break
            node = node[int(step)] if isinstance(node, list | tuple) else node[step]
    for one, other in (*_PAIRS, *(pair[::-1] for pair in _PAIRS)):
        if options.get(f"train_cfg.{one}") is not None and f"train_cfg.{other}" not in options:
            config.train_cfg.pop(other, None)
    config.merge_from_dict(options)


def _complete(config: Config, *, work_dir: str, amp: bool) -> None:
    """Defaults, and mixed precision where it is asked for.

    An evaluation set alone is enough: its loop and its metric follow from what is trained, and go with it.

    Raises:
        InputError: training lacks something, or ``amp`` cannot be had.
    """
    lacking = [name for name in ("train_dataloader", "optim_wrapper") if config.get(name) is None]
    if lacking and config.get("train_cfg") is not None:
        raise InputError(
            f"{lacking[0]}: is missing, and there is a train_cfg; give both, or set train_cfg=None"
        )
    config.setdefault("default_scope", SCOPE)
    config.setdefault("work_dir", work_dir)
    config.setdefault("randomness", ConfigDict(seed=0))
    pretrains = (config.get("model") or {}).get("type") == "Pretrainer"
    for stage in ("val", "test"):
        if config.get(f"{stage}_dataloader") is not None:
            config.setdefault(f"{stage}_cfg", ConfigDict())
            metric = "LossMetric" if pretrains else "SegmentationMetric"
            config.setdefault(f"{stage}_evaluator", ConfigDict(type=metric))
        for part in ("cfg", "evaluator") if config.get(f"{stage}_dataloader") is None else ():
            if config.get(f"{stage}_{part}") is not None:
                config[f"{stage}_{part}"] = None
    if amp:
        if not torch.cuda.is_available():
            raise InputError(f"--amp: {AMP_ON_CPU}")
        if config.get("optim_wrapper") is None:
            raise InputError("--amp: the config trains nothing, it has no optim_wrapper")
        config.optim_wrapper.type = "AmpOptimWrapper"


def _newest_of(place: Any) -> Any:
    """The newest checkpoint of a run's folder; what is no such folder stays as it is."""
    return place if not place or not Path(place).is_dir() else find_last(place) or place


def _refuse_empty(**paths: Any) -> None:
    """A path without a letter is most often a variable of a shell that is not set."""
    for name, path in paths.items():
        if path is not None and not str(path).strip():
            raise InputError(f"{name}: is empty; give a path, or leave it out")
