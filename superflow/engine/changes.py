"""What comes of a difference between the run that a checkpoint belongs to and the run that is to go on from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..errors import InputError

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
        *("train_cfg.val_interval", "train_cfg.val_interval_epochs", "train_cfg.val_begin"),
        "train_dataloader",  # its batches are counted over all processes, see `continuation`
        "train_dataloader.dataset.clouds.keep_frames",
        *("val_dataloader", "val_cfg", "test_dataloader", "test_cfg", "test_evaluator"),
        *("model.pretrained", "model.features", "model.teacher.path"),  # the records know what is there
        *(
            "data.test",
            "data.*.licence",
            "data.*.limits",
            "data.*.raw_intensity",
            "data.*.pseudo_labels.folder",
        ),
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
    "optim_wrapper": "optimizer and schedules",
    "param_scheduler": "optimizer and schedules",
    "default_hooks": "optimizer and schedules",
    "model": "model and objectives",
    "record": "model and objectives",
    "train_dataloader": "data",
    "data": "data",
}


class Change(NamedTuple):
    """A setting or a record that is another one than before, and what comes of it."""

    key: str
    before: Any
    now: Any
    effect: str

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
    refused = [change for change in changes if change.effect == REFUSED]
    if refused:
        parts = dict.fromkeys(_PARTS.get(change.key.partition(".")[0], "settings") for change in refused)
        more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
        raise InputError(
            f"{source}: its {', '.join(parts)} are not those of this config "
            f"({'; '.join(map(str, refused[:3]))}{more}); resume with the config it was trained with "
            "(config.py beside it), or take its weights by load_from into another work_dir"
        )
    told = [change for change in changes if change.effect == TOLD]
    if not told:
        return ""
    return (
        f"{source}: the run goes on, but not as one that was never stopped: {'; '.join(map(str, told))}; "
        "from here on settings and learning rates are those of this config"
    )


def effect_of(key: str) -> str:
    """What comes of a difference at ``key``, by ``CHANGES``."""
    steps = key.split(".")
    fitting = [
        pattern
        for pattern in CHANGES
        if len(names := pattern.split(".")) <= len(steps)
        and all(name in ("*", step) for name, step in zip(names, steps))
    ]
    return CHANGES[max(fitting, key=lambda pattern: pattern.count("."))] if fitting else REFUSED


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:40]}...{text[-15:]}"
