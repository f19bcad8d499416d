"""What differs between the run of a checkpoint and the run that is to go on from it, and what comes of that."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError, first_few
from ..option_values import allowed_types
from .keys import TOP, Place
from .registry import MOVED, with_folder

FREE = "free"  # training does not see it
BY_DATA = "by data"  # free where the data's records are equal, else refused
EVALUATION = "evaluation"  # training does not see it, but the best checkpoint so far was chosen by it
TOLD = "told"  # the user's wish: the run goes on, and it is said that it is no longer one run
REFUSED = "refused"  # it would be another run

# effect -> keys of a config, and of the records that checkpoints hold, where a difference has it. The longest one that
# a key begins with decides (* is any one name); without any, the difference is refused.
_KEYS = {
    FREE: (
        *("work_dir", "resume", "load_from", "launcher", "experiment_name", "default_scope", "data_root"),
        *("allow_leakage", "data.*.recordings"),
        *("log_level", "log_processor", "visualizer", "custom_imports", "env_cfg", "find_unused_parameters"),
        "randomness.seed",  # is looked at alone
        "default_hooks",
        *("train_cfg.val_interval", "train_cfg.val_interval_epochs"),
        "train_dataloader",  # its batches are counted over all processes, see `_items_a_step`
        "train_dataloader.dataset.clouds.keep_frames",
        *("val_dataloader", "val_cfg", "test_dataloader", "test_cfg", "test_evaluator"),
        *("model.pretrained", "model.features", "model.teacher.path"),  # the records know what is there
        *("data.test", "data.*.licence", "data.*.limits", "data.*.raw_intensity"),
        "data.*.pseudo_labels.folder",
        "record.pretrained",  # where the weights began
        "record.teacher",  # its name and weights are looked at when they are loaded
    ),
    BY_DATA: tuple(f"train_dataloader.dataset.{name}" for name in ("index", "frames")),
    EVALUATION: (
        *("val_dataloader.dataset", "val_evaluator", "data.val"),
        *("default_hooks.checkpoint.save_best", "default_hooks.checkpoint.rule"),
    ),
    TOLD: (
        *("train_cfg.max_iters", "train_cfg.max_epochs", "param_scheduler.*.*"),
        *("optim_wrapper.optimizer.lr", "optim_wrapper.clip_grad", "auto_scale_lr"),
        "custom_hooks",  # an average begins with the weights that are there
        *("randomness.deterministic", "env_cfg.threads", "env_cfg.cudnn_benchmark"),
    ),
    REFUSED: ("train_dataloader.dataset", "default_hooks.param_scheduler", "record.teacher.cached"),
}
CHANGES = {key: effect for effect, keys in _KEYS.items() for key in keys}
_PARTS = {
    **dict.fromkeys(("optim_wrapper", "param_scheduler", "default_hooks"), "optimizer and schedules"),
    **dict.fromkeys(("model", "record"), "model and objectives"),
    **dict.fromkeys(("train_dataloader", "data"), "data"),
}


class Change(NamedTuple):
    """A setting or a record that is another one than before, and what comes of it."""

    key: str
    before: Any
    now: Any
    effect: str

    @property
    def is_of_evaluation(self) -> bool:
        """Whether the best checkpoint so far was chosen by what is no longer so."""
        return self.effect == EVALUATION

    def __str__(self) -> str:
        if self.before is None and isinstance(self.now, Mapping):
            return f"{self.key} was not there"
        if self.now is None and isinstance(self.before, Mapping):
            return f"{self.key} is no longer there"
        return f"{self.key} was {_shorten(self.before)} and is {_shorten(self.now)}"


def check_changes(changes: Iterable[Change], source: str) -> str:
    """One sentence on what is told; empty where nothing is.

    Args:
        source: the checkpoint's name.

    Raises:
        InputError: a change that makes it another run.
    """
    refused, told = ([change for change in changes if change.effect == effect] for effect in (REFUSED, TOLD))
    if refused:
        parts = dict.fromkeys(_PARTS.get(change.key.partition(".")[0], "settings") for change in refused)
        raise another_run(source, ", ".join(parts), first_few(refused, "; "))
    if not told:
        return ""
    return (
        f"{source}: the run goes on, but not as one that was never stopped: {'; '.join(map(str, told))}; "
        "from here on settings and learning rates are those of this config"
    )


def another_run(source: str, parts: str, why: object) -> InputError:
    """The refusal to go on from the checkpoint ``source``, some ``parts`` of which are others."""
    return InputError(
        f"{source}: its {parts} are not those of this config ({why}); resume with the config it was trained with "
        "(config.py beside it), or take its weights by load_from into another work_dir"
    )


def effect_of(key: str) -> str:
    """What comes of a difference at ``key``, by ``CHANGES``."""
    steps = key.split(".")
    fitting = {
        len(names): effect
        for names, effect in ((pattern.split("."), effect) for pattern, effect in CHANGES.items())
        if len(names) <= len(steps) and all(name in ("*", step) for name, step in zip(names, steps))
    }
    return fitting[max(fitting)] if fitting else REFUSED


def find_changes(
    checkpoint: Mapping[str, Any], *, config: str, record: Mapping[str, Any], processes: int
) -> list[Change]:
    """What differs between the run that wrote ``checkpoint`` and this one, but for its seed.

    Args:
        config: of this run, as `config.config_text` writes it.
        record: of this run, as checkpoints hold it under ``superflow``: of the model, and under ``data`` of the data.
        processes: of this run.
    """
    meta, was = checkpoint["meta"], checkpoint.get("superflow", {})
    before, now = (_as_now(read_settings(text)) for text in (meta["config"], config))
    settings = list(_differences(before, now, TOP, ""))
    data = list(_differences(was.get("data", {}), record.get("data", {}), Place(), "data"))
    model, model_now = ({key: value for key, value in of.items() if key != "data"} for of in (was, record))
    another = any(key.startswith("model.") and effect_of(key) == REFUSED for key, *_ in settings)
    found = [*settings, *(() if another else _differences(model, model_now, Place(), "record")), *data]
    # equal records of the data know more than the names of its folder and frames
    told = {"hash", "tokens_hash"} <= was.get("data", {}).get("train", {}).keys()
    same_data = told and not any(effect_of(key) == REFUSED for key, *_ in data)
    changes = _items_a_step(before, now, meta["world_size"], processes)
    for key, old, new, place in found:
        effect = effect_of(key)
        if effect == BY_DATA:
            effect = FREE if same_data else REFUSED
        if effect == REFUSED and _moved(old, new, place):
            effect = TOLD
        if effect != FREE:
            changes.append(Change(key, old, new, effect))
    return changes


def read_settings(text: str) -> dict[str, Any]:
    """The keys of a config's text; paths under its ``data_root`` without it, so that the folder may have moved.

    What is no plain value, such as a class, stays text. Lists of things with types are `_Typed`.
    """
    settings = {}
    for entry in re.split(r"^(?=\w+ = )", text, flags=re.MULTILINE)[1:]:
        key, _, value = entry.partition(" = ")
        try:
            settings[key] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            settings[key] = value.strip()
    if isinstance(settings.get("param_scheduler"), Mapping):  # one may stand for a list of them
        settings["param_scheduler"] = [settings["param_scheduler"]]
    if isinstance(root := settings.get("data_root"), str):
        settings = with_folder(settings, root, "<data_root>")
    return _by_type(settings)


class _Typed(dict[str, Any]):
    """Things of a list by their types: one more of them is one difference, wherever it stands."""


def _by_type(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _by_type(item) for key, item in value.items()}
    if not isinstance(value, list | tuple):
        return value
    items, named = type(value)(_by_type(item) for item in value), _Typed()
    for item in items:
        if not isinstance(item, Mapping) or "type" not in item:
            return items
        name = str(item["type"])
        named[name if name not in named else f"{name}#{len(named)}"] = item
    return named or items


def _as_now(settings: dict[str, Any]) -> dict[str, Any]:
    """Keys of an earlier version in their present places; the one default hook that training sees, if unnamed."""
    for loader in ("train_dataloader", "val_dataloader"):
        data = (settings.get(loader) or {}).get("dataset") or {}
        for old, new in MOVED.get(str(data.get("type")), {}).items():
            if old in data:
                part, _, name = new.rpartition(".")
                (data.setdefault(part, {}) if part else data)[name] = data.pop(old)
    return {**settings, "default_hooks": {"param_scheduler": {}, **(settings.get("default_hooks") or {})}}


def _differences(before: Any, now: Any, place: Place, key: str) -> Iterator[tuple[str, Any, Any, Place]]:
    """Key, value before and now, and place of everything that differs; what is left out has its default.

    What only one of two records holds was not recorded then, and is no difference.
    """
    is_record = key.partition(".")[0] in ("data", "record") and key.count(".") < 2
    if isinstance(before or now, _Typed) and isinstance(now or before, _Typed):
        for name in dict.fromkeys((*(before or ()), *(now or ()))):
            yield from _differences((before or {}).get(name), (now or {}).get(name), place, f"{key}.{name}")
    elif not isinstance(before, Mapping) or not isinstance(now, Mapping):
        if _plain(before) != _plain(now):
            yield key, before, now, place
    elif before.get("type", place.default) != now.get("type", place.default):
        types = [side.get("type", place.default) for side in (before, now)]
        yield f"{key}.type", *types, Place()
    else:
        places = (place.keys(now, key) if place.keys else None) or {}
        for name in dict.fromkeys((*before, *now)):
            if name != "type" and not (is_record and (name not in before or name not in now)):
                inner = places.get(name, Place())
                default = None if inner.required or inner.keys is not None else inner.default
                old, new = before.get(name, default), now.get(name, default)
                yield from _differences(old, new, inner, f"{key}.{name}" if key else name)


def _items_a_step(
    before: Mapping[str, Any], now: Mapping[str, Any], processes: int, processes_now: int
) -> list[Change]:
    """A step of all processes together decides which items are drawn when; that of each one, its batch norm."""
    key = "train_dataloader.batch_size"
    size, size_now = ((of.get("train_dataloader") or {}).get("batch_size", 1) for of in (before, now))
    if processes == processes_now:
        return [] if size == size_now else [Change(key, size, size_now, REFUSED)]
    effect = TOLD if size * processes == size_now * processes_now else REFUSED
    return [Change(f"{key} x processes", f"{size} x {processes}", f"{size_now} x {processes_now}", effect)]


def _moved(before: Any, now: Any, place: Place) -> bool:
    """Whether a folder or file of the same name lies elsewhere now; what is in it is not known."""
    texts = isinstance(before, str) and isinstance(now, str)
    return texts and "Path" in allowed_types(place.annotation) and Path(before).name == Path(now).name


def _plain(value: Any) -> Any:
    """``value`` as it is compared: whether a list or a tuple was written is no difference."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}...{text[-15:]}"
