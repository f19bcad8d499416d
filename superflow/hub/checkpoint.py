"""Checkpoints of plain types: tensors, numbers, strings, lists and dicts, so that loading them runs no code.

A checkpoint is a dict with ``meta`` (iteration, seed, config text, best value, what rebuilds the model),
``state_dict`` (the weights to use: averaged ones where an average is kept) and what resuming needs:
``training_state_dict`` (only beside averaged weights), ``optimizer``, ``param_schedulers``.
"""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError, MissingFileError, first_few, first_line
from ..files.access import check_readable, read_text
from ..files.writes import write_atomically, write_text

_log = logging.getLogger(__name__)

POINTER = "last_checkpoint"  # text file that names the newest checkpoint of its folder
_STATISTICS = ("running_mean", "running_var")  # of batch norm, as PyTorch names them
_NUMBERED = re.compile(r"iter_(\d+)\.pth")


def plain(value: Any, where: str = "checkpoint") -> Any:
    """``value`` with tuples as lists, NumPy numbers and arrays as numbers and tensors, tensors detached on CPU.

    Raises:
        TypeError: something else is inside; the message says where.
    """
    if value is None or (
        isinstance(value, bool | int | float | str) and type(value).__module__ == "builtins"
    ):
        return value
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {_key(key, where): plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, f"{where}[{row}]") for row, item in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{where} is a {type(value).__name__}; checkpoints hold plain types only")


def write_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Write atomically: after a kill or on a full disk the previous files are whole and no partial one has a name.

    Raises:
        InputError: the disk is full or the folder cannot be written.
    """
    content = plain(checkpoint)
    try:
        with write_atomically(path) as file:
            torch.save(content, file)
    # torch's zip writer hides the system's reason behind one of its own; closing the file may then fail as well
    except (RuntimeError, InputError) as error:
        reason: BaseException | None = error
        while reason is not None and not isinstance(reason, OSError):
            reason = reason.__context__
        if reason is None:
            raise
        raise InputError(
            f"{path}: cannot be written ({reason.strerror or reason}); "
            "free some space and start again with --resume, earlier checkpoints are untouched"
        ) from error


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The dict in a checkpoint file, on CPU.

    Raises:
        MissingFileError: no such file.
        InputError: the file is damaged, or holds more than plain types.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path}: there is no such checkpoint; check the path")
    check_readable(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path}: is no checkpoint of plain tensors and numbers, and is not loaded, since that could run code; "
            "give one that `superflow train` wrote"
        ) from error
    except Exception as error:  # torch reads foreign bytes as a pickle and then raises whatever they lead to
        raise InputError(
            f"{path}: is no readable checkpoint ({first_line(error)}); delete it and use an earlier one"
        ) from error
    parts = (
        [checkpoint.get(name) for name in ("meta", "state_dict")] if isinstance(checkpoint, dict) else [None]
    )
    if not all(isinstance(part, dict) for part in parts):
        raise InputError(f"{path}: is no checkpoint of superflow, it lacks 'meta' or 'state_dict'")
    return checkpoint


def point_to(path: Path) -> None:
    """Make ``path`` the newest checkpoint of its folder. The name alone is stored: folders may be moved."""
    write_text(path.parent / POINTER, path.name)


def find_last(work_dir: str | Path) -> Path | None:
    """The newest whole checkpoint of ``work_dir``, or None."""
    pointer = Path(work_dir) / POINTER
    if pointer.is_file():
        named = Path(work_dir) / Path(read_text(pointer).strip()).name
        if named.is_file():
            return named
    numbered = list_checkpoints(work_dir)
    return numbered[-1] if numbered else None


def list_checkpoints(work_dir: str | Path) -> list[Path]:
    """Regular checkpoints of a folder by iteration; the best one is not among them."""
    named = [path for path in Path(work_dir).glob("iter_*.pth") if _NUMBERED.fullmatch(path.name)]
    return sorted(named, key=saved_iteration)


def saved_iteration(path: Path) -> int:
    """Iterations done at a regular checkpoint, by its name."""
    match = _NUMBERED.fullmatch(path.name)
    assert match is not None, f"{path} is no regular checkpoint"
    return int(match[1])


def not_finite(checkpoint: Mapping[str, Any], parameters: Collection[str]) -> list[str]:
    """Names of the tensors of a checkpoint that hold what no training goes on from.

    That is a nan anywhere, and in weights, their averages, the optimizer's state and the statistics of batch norm an
    infinite number, too. Other buffers may hold one: masks do.

    Args:
        parameters: names of the weights among the model's tensors.
    """
    found = []
    for part in ("state_dict", "training_state_dict", "optimizer"):
        for name, value in _tensors(checkpoint.get(part, {}), part):
            own = name.removeprefix(f"{part}.")
            strict = part == "optimizer" or own in parameters or own.endswith(_STATISTICS)
            value = value if value.element_size() > 1 else value.float()  # 8 bits know no isfinite
            broken = ~torch.isfinite(value) if strict else torch.isnan(value)
            if broken.any():
                found.append(name)
    return found


def _tensors(value: Any, where: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor) and (value.is_floating_point() or value.is_complex()):
        yield where, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for row, item in enumerate(value):
            yield from _tensors(item, f"{where}[{row}]")


def load_weights(model: nn.Module, state: Mapping[str, Tensor], source: str, optional: str = "") -> None:
    """Copy ``state`` into ``model``: every name, shape and kind of number must fit, or nothing is copied.

    Args:
        source: file name, for the message.
        optional: names that start with this may be missing (a teacher is named, not stored).

    Raises:
        InputError: the file belongs to another architecture, whose first differences are named, is of an old form, or
            holds what is not finite.
    """
    if any(name.startswith(("queues.", "temperatures.")) for name in state):
        raise InputError(
            f"{source}: is of an earlier version, whose queues and learned temperatures have other names; end that run "
            "with its version, or export its backbone and begin a new one"
        )
    own = model.state_dict()
    differences = list(_differences(own, state, optional))
    if differences:
        raise InputError(
            f"{source}: does not fit this model: {first_few(differences, '; ')}; "
            "use the config that it was trained with, or another file"
        )
    if broken := not_finite({"state_dict": state}, [name for name, _ in model.named_parameters()]):
        raise InputError(
            f"{source}: {broken[0].removeprefix('state_dict.')} is not finite, so nothing can be computed with it; "
            "use an earlier checkpoint"
        )
    model.load_state_dict({name: state[name] for name in own if name in state}, strict=not optional)


def options_of_start(model: Mapping[str, Any], start: Mapping[str, Any]) -> dict[str, Any]:
    """What the checkpoint that a run begins with says of its model's pretraining, in place of ``model.pretrained``.

    The weights come from there, so the file of the pretraining is not read again, and may be gone.

    Args:
        model: options of a `Pretrainer` or `Segmentor`, and its ``type``. start: the checkpoint; {} for none.
    """
    record = start.get("superflow", {})
    if record.get("kind") != str(model["type"]).lower():
        return {}  # its weights will not fit, which is said when they are loaded
    known = {"pretrained": record.get("pretrained")}
    if "student" not in model and model.get("encoder") is None:  # a segmentor may leave it to the file
        known["encoder"] = record["encoder"]
    return known


def check_start(
    checkpoint: Mapping[str, Any], source: str, *, record: Mapping[str, Any], parameters: Collection[str]
) -> None:
    """Look at a checkpoint whose weights a run is to begin with.

    Args:
        source: its name, for messages. record: of the model and, under ``data``, of the data of the run.
        parameters: names of the weights among the model's tensors.

    A warning is logged where its encoder was trained with another grid, other inputs or limits.

    Raises:
        InputError: it was trained with another teacher, on another scale of intensity or on other classes than it is
            judged by, or is not finite.
    """
    trained = checkpoint.get("superflow", {}).get("data", {}).get("train", {})
    check_teacher(checkpoint, record, source)
    check_intensity(trained.get("raw_intensity"), record["data"], source)
    check_classes(trained.get("classes"), record["data"], source)
    before = checkpoint.get("superflow", {})
    if before.get("kind") == record.get("kind") and all(
        isinstance(of.get("encoder"), Mapping) for of in (before, record)
    ):
        _tell_of_settings(before, record, source)
    if broken := not_finite(checkpoint, parameters):
        raise InputError(
            f"{source}: {broken[0]} is not finite, so nothing can go on from it; use an earlier checkpoint"
        )


def _tell_of_settings(before: Mapping[str, Any], now: Mapping[str, Any], source: str) -> None:
    """Warn where the same weights are to see other voxels or inputs of them, or another region, than in training."""
    was, own = ({"limits": of.get("limits"), **of["encoder"]} for of in (before, now))
    told = [
        f"{name} {own[name]} instead of {was[name]}"
        for name in ("grid", "inputs", "reduce", "limits")
        if name in was and name in own and plain(was[name]) != plain(own[name])
    ]
    if told:
        _log.warning(
            "%s: was trained with other settings (model has %s), so figures are not those of what was trained; unless "
            "that is meant, give the config it was trained with (config.py beside it)",
            source,
            "; ".join(told),
        )


def check_teacher(checkpoint: Mapping[str, Any], record: Mapping[str, Any], source: str) -> None:
    """Compare the teacher that a checkpoint names with that of a model's ``record``.

    Raises:
        InputError: they differ; the student was made for the other one's features.
    """
    before, now = checkpoint.get("superflow", {}).get("teacher"), record.get("teacher")
    for key in ("name", "sha256"):
        if before and now and before.get(key) != now.get(key):
            raise InputError(
                f"{source}: was trained with the teacher {before.get('name')} ({key} {before.get(key)}), "
                f"this run has {now.get('name')} ({now.get(key)}); use the same teacher"
            )


def check_intensity(raw: bool | None, data: Mapping[str, Mapping[str, Any]], source: str) -> None:
    """Compare the scale of intensity that weights were trained on with what the datasets of a run give.

    Args:
        raw: whether it was 0..255; None where that is not known.
        data: record of each dataset by its stage.

    Raises:
        InputError: they differ; to the weights every point would look dark, or far too bright.
    """
    scale = {True: "0..255", False: "0..1"}
    for stage, record in data.items():
        given = record.get("raw_intensity")
        if raw is not None and given is not None and given != raw:
            key = f"{stage}_dataloader.dataset"
            raise InputError(
                f"{source}: was trained on intensity {scale[raw]}, but {key} gives {scale[given]}; "
                f"set {key}.raw_intensity={raw}"
            )


def check_classes(classes: Sequence[str] | None, data: Mapping[str, Mapping[str, Any]], source: str) -> None:
    """Compare the classes that weights tell apart with those that they are judged by, where nothing is trained.

    Args:
        classes: names in the order of the scores; None where they are not known.
        data: record of each dataset by its stage.

    Raises:
        InputError: they differ: as many, but others, would give wrong figures.
    """
    for stage, record in data.items() if "train" not in data else ():
        given = record.get("classes")
        if classes is not None and given is not None and list(given) != list(classes):
            number, (had, has) = first_difference(classes, given)
            raise InputError(
                f"{source}: was trained on other classes than {stage}_dataloader.dataset has (number {number} of "
                f"{len(classes)} is {had}, there {has}); prepare that log with the card and the label set of the "
                "training"
            )


def first_difference(one: Sequence[str], other: Sequence[str]) -> tuple[int, tuple[str, str]]:
    """Number and names of the first class that two lists do not have alike; "none" where one has ended."""
    pairs = zip_longest(one, other, fillvalue="none")
    return next((number, pair) for number, pair in enumerate(pairs) if pair[0] != pair[1])


def with_tuples(state: Mapping[str, Any]) -> dict[str, Any]:
    """State of an optimizer with the tuples of its groups back (betas), where the checkpoint has lists."""
    groups = [
        {
            key: tuple(value) if isinstance(value, list) and key != "params" else value
            for key, value in group.items()
        }
        for group in state["param_groups"]
    ]
    return {**state, "param_groups": groups}


def _differences(own: Mapping[str, Tensor], state: Mapping[str, Tensor], optional: str) -> Iterator[str]:
    for name, tensor in own.items():
        if name in state and state[name].shape != tensor.shape:
            yield f"{name} is {tuple(state[name].shape)} in the file and {tuple(tensor.shape)} in the model"
        elif name in state and tensor.is_floating_point() and not state[name].is_floating_point():
            yield f"{name} is of {state[name].dtype} in the file and of {tensor.dtype} in the model"
    for name in own:
        if name not in state and not (optional and name.startswith(optional)):
            yield f"the file has no {name}"
    for name in state:
        if name not in own:
            yield f"the model has no {name}"


def _key(key: Any, where: str) -> Any:
    if not isinstance(key, str | int):
        raise TypeError(f"{where} has the key {key!r}; keys are strings or numbers")
    return key
