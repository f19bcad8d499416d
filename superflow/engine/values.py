"""What a value of a config may be: of a type that its place takes, and a number that means something there.

Where nothing looks, a word is true, a negative number of cameras leaves one out, a negative temperature or limit of the
gradient trains the other way, and a broken number of checkpoints ends the run when the first of them is written.
"""

from __future__ import annotations

import inspect
from typing import Any

from ..errors import InputError, suggest
from ..option_values import Range, allowed_types, check_kind, check_length, check_numbers, kinds_taken

_COUNT, _MAYBE_NONE = Range(1, whole=True), Range(0, whole=True)
_AMOUNT, _POSITIVE, _SHARE, _ANY = Range(0), Range(0, above=True), Range(0, 1), Range()
_KEYS: dict[Range, str] = {
    _COUNT: "max_iters batch_size prefetch_factor accumulative_counts base_batch_size batches interval "
    "interval_exp_name max_keep_ckpts window_size threads total_steps T_max "
    "channels num_classes hidden prototypes stages max_rows max_pairs queue min_points "
    "cameras_per_clip size tries",
    _MAYBE_NONE: "val_interval num_workers begin begin_iter end num_digits port "
    "sweeps sweeps_after keep_frames max_points sweep_points min_pairs rounds test_time_augmentation",
    _AMOUNT: "lr eta_min weight_decay lr_mult decay_mult norm_decay_mult bias_decay_mult timeout "
    "weight lovasz lovasz_weight cross_entropy_weight class_weights zipf "
    "tolerance_s max_sweep_age_s viewpoint_m jitter_m seconds",
    _POSITIVE: "max_epochs val_interval_epochs eta_max div_factor final_div_factor norm_type "
    "temperature target_temperature cell_m width scale area ratio intensity_gain intensity_power",
    Range(0, above=True, endless=True): "max_norm clip_value",  # infinite: the norm is logged and not limited
    _SHARE: "flip drop_intensity drop_point_intensity min_share quantile pct_start eta_min_ratio momentum",
    Range(-1, 1): "tolerance",
    _ANY: "offsets rotation_rad range_power height_m",
    Range(-1, whole=True): "last_step",
    Range(0, 2**32 - 1, whole=True): "seed",
}
# last name of a key -> its range; `tests/engine/test_engine_values.py` finds places of numbers that have none
RANGES = {name: each for each, names in _KEYS.items() for name in names.split()}
# what looks at its numbers itself, or takes any of them
LOOKED_AT = ("limits.", "grid", "backbone.depth", "backbone.output", "ignore", "rows")
CHOICES = {
    "log_level": ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"),
    "default_scope": ("superflow",),
}


def check_value(value: Any, where: str, annotation: Any, default: Any, *, any_number: bool = False) -> None:
    """Look at the value of one key.

    Args:
        where: the whole key. annotation, default: of the parameter that it is for, as ``keys.Place`` has them.
        any_number: only the type of an annotation is looked at: someone's own code may mean anything by the name.

    Raises:
        InputError: it is of a type that is not taken there, a list of fewer or more values, or a number that means
            nothing there.
    """
    if any_number and annotation is inspect.Parameter.empty:
        return
    name = where.rpartition(".")[2]
    check_kind(value, where, kinds_of(name, annotation, default))
    check_length(value, where, annotation)
    if any_number:
        return
    if (known := CHOICES.get(name)) and value not in known:
        raise InputError(f"{where}: is {value!r}{suggest(str(value), known)}")
    if rule := range_of(where):
        check_numbers(value, where, rule)


def range_of(where: str) -> Range | None:
    """The range of the numbers of a key; None where it looks at them itself, or where there is no rule."""
    is_looked_at = any(f".{part}" in f".{where}." for part in LOOKED_AT)
    return None if is_looked_at else RANGES.get(where.rpartition(".")[2])


def kinds_of(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> set[str]:
    """Kinds of values that a parameter takes; none where nothing is known of it, or where it takes anything."""
    if not allowed_types(annotation, default):  # a key of mmengine's without a signature
        rule = RANGES.get(name)
        return set() if rule is None else {"none", "whole"} | (set() if rule.whole else {"number"})
    return kinds_taken(annotation, default)
