"""Values of a config that are of another type than their place takes, and numbers that mean nothing there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from mmengine.hooks import Hook
from mmengine.registry import Registry

from superflow.engine import load_config
from superflow.engine.keys import Place, check_config, top_places
from superflow.engine.registry import DATASETS, HOOKS, LOOPS, MODELS, OPTIM_WRAPPERS, PARAM_SCHEDULERS
from superflow.engine.values import LOOKED_AT, RANGES, check_value, kinds_of, range_of
from superflow.errors import InputError
from superflow.method.objectives import OBJECTIVES

PRETRAINS, TRAINS = "pretrain/superflowpp_small.py", "downstream/supervised_small.py"
TERM, DATA = "model.objectives.0", "train_dataloader.dataset"


@pytest.mark.parametrize(
    ("config", "option", "message"),
    [
        # each of these trained without a word, in another way than was asked for
        (TRAINS, f"{DATA}.raw_intensity=maybe", r"raw_intensity: is 'maybe'; give True or False"),
        (TRAINS, f"{DATA}.viewpoint_m=-5", r"viewpoint_m: is -5; give a number from 0 on"),
        (TRAINS, "train_cfg.val_interval=-3", r"val_interval: is -3; give a whole number from 0 on"),
        (PRETRAINS, f"{TERM}.temperature=-1", r"objectives\[0\]\.temperature: is -1; give a number above 0"),
        (PRETRAINS, f"{TERM}.weight=-1", r"weight: is -1; give a number from 0 on"),
        (PRETRAINS, f"{TERM}.max_rows=-1", r"max_rows: is -1; give a whole number from 1 on"),
        (PRETRAINS, f"{TERM}.tolerance=2", r"tolerance: is 2; give a number from -1 to 1"),
        (PRETRAINS, f"{DATA}.cameras_per_clip=-1", r"cameras_per_clip: is -1; give a whole number from 1"),
        (PRETRAINS, f"{DATA}.cell_m=-1", r"cell_m: is -1; give a number above 0"),
        (
            PRETRAINS,
            f"{DATA}.times.offsets=[nan,0]",
            r"offsets: holds nan; give each as a number that is finite",
        ),
        (PRETRAINS, f"{DATA}.times.tolerance_s=-1", r"tolerance_s: is -1"),
        (PRETRAINS, f"{DATA}.clouds.sweeps=-1", r"sweeps: is -1"),
        (PRETRAINS, f"{DATA}.views.flip=2", r"flip: is 2; give a number from 0 to 1"),
        (PRETRAINS, "model.channels=0", r"channels: is 0; give a whole number from 1 on"),
        (PRETRAINS, "optim_wrapper.clip_grad.max_norm=-1", r"max_norm: is -1; give a number above 0"),
        # these broke off with an error of the program, some of them after hours
        (PRETRAINS, "train_cfg.max_iters=1.5", r"train_cfg\.max_iters: is 1\.5; give a whole number or None"),
        (PRETRAINS, "train_cfg.max_iters=abc", r"train_cfg\.max_iters: is 'abc'"),
        (PRETRAINS, "train_dataloader.batch_size=2.5", r"batch_size: is 2\.5; give a whole number"),
        (PRETRAINS, "default_hooks.checkpoint.max_keep_ckpts=1.5", r"max_keep_ckpts: is 1\.5"),
        (PRETRAINS, "default_hooks.health.interval=0", r"interval: is 0"),
        (PRETRAINS, "optim_wrapper.accumulative_counts=0", r"accumulative_counts: is 0"),
        (
            PRETRAINS,
            "randomness.seed=-1",
            r"randomness\.seed: is -1; give a whole number from 0 to 4294967295",
        ),
        (PRETRAINS, "env_cfg.threads=-3", r"threads: is -3"),
        (PRETRAINS, "log_level=LOUD", r"log_level: is 'LOUD'; the nearest known one is"),
        (PRETRAINS, "model.region.ignore=3", r"model\.region\.ignore: is 3; give a list"),
        (PRETRAINS, "model.region.min_points=0", r"min_points: is 0"),
        (PRETRAINS, f"{DATA}.views.size=56,112,3", r"views\.size: is .56, 112, 3.; give 2 values"),
        (PRETRAINS, f"{DATA}.augmentation.scale=[0.9]", r"augmentation\.scale: is .0\.9.; give 2 values"),
        (
            "pretrain/on_mix_small.py",
            f"{DATA}.parts.0.clouds.sweeps=-1",
            r"parts\[0\]\.clouds\.sweeps: is -1; give a whole number from 0 on",
        ),
    ],
)
def test_a_value_that_means_nothing_is_refused_before_the_work(
    config: str, option: str, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        load_config(config, options=[option])


def test_usual_values_pass() -> None:
    load_config(
        PRETRAINS,
        options={
            "train_cfg.max_iters": np.int64(5),
            "optim_wrapper.clip_grad.max_norm": math.inf,  # logs the norm and limits nothing
            f"{TERM}.max_rows": None,
            f"{DATA}.clouds.max_points": (10, 20),
            f"{DATA}.limits.range_m": (0.0, math.inf),
            "model.region.min_points": 2,
            "optim_wrapper.optimizer.lr": 0,
        },
    )


def places_of_numbers() -> Iterator[str]:
    """Keys of all numbers that a config of our own parts can hold."""
    registries = {
        "train_cfg": LOOPS,
        "custom_hooks": HOOKS,
        "optim_wrapper": OPTIM_WRAPPERS,
        "param_scheduler": PARAM_SCHEDULERS,
        "model": MODELS,
    }
    nodes = [(top, {"type": name}) for top, registry in registries.items() for name in _own(registry)]
    nodes += [("train_dataloader", {"dataset": {"type": name}}) for name in _own(DATASETS)]
    nodes += [("model", {"type": "Pretrainer", "objectives": {"type": name}}) for name in OBJECTIVES]
    for top, node in nodes:
        yield from _numbers_in(top_places()[top], top, node)


def _own(registry: Registry) -> list[str]:
    """Names that do not come from a test."""
    return [name for name, made in registry.module_dict.items() if made.__module__.startswith("superflow.")]


def _numbers_in(place: Place, where: str, node: Any) -> Iterator[str]:
    if place.keys is None:
        if kinds_of(where.rpartition(".")[2], place.annotation, place.default) & {"whole", "number"}:
            yield where
        return
    try:
        inner = place.keys(node, where) or {}
    except InputError:  # of many types, which are gone through by themselves
        return
    for key, further in inner.items():
        yield from _numbers_in(further, f"{where}.{key}", node.get(key, {}))


def test_every_number_of_a_config_has_a_range() -> None:
    found = set(places_of_numbers())
    assert len(found) > 60
    assert {"model.objectives.temperature", f"{DATA}.clouds.sweeps", "param_scheduler.pct_start"} <= found
    lacking = [
        where for where in found if range_of(where) is None and not any(part in where for part in LOOKED_AT)
    ]
    assert not lacking, "a name in RANGES of superflow/engine/values.py says which numbers these take"


@pytest.mark.parametrize("name", sorted(RANGES))
def test_ranges_refuse_what_is_no_number_and_take_their_ends(name: str) -> None:
    rule = RANGES[name]
    for wrong in (math.nan, -math.inf, *((rule.least - 1,) if math.isfinite(rule.least) else ())):
        with pytest.raises(InputError, match=rf"^part\.{name}: is .*; give a (whole )?number"):
            check_value(wrong, f"part.{name}", "float", 0.5)
    if math.isfinite(rule.least):
        check_value(int(rule.least) + rule.above, f"part.{name}", "int", 1)


@HOOKS.register_module()
class HookOfSomeone(Hook):
    """As mmengine's hooks of before, ``interval=-1`` is never; other names have other meanings here, too."""

    def __init__(
        self, interval: int = -1, size: float = 0.5, momentum: float = 2.0, hidden=None, seed=1
    ) -> None: ...


@pytest.mark.parametrize("options", [{"interval": -1}, {"size": 0.25}, {"momentum": 3.0}])
def test_numbers_of_someone_s_own_code_mean_what_that_code_says(options: dict[str, Any]) -> None:
    config = load_config(PRETRAINS)
    config.custom_hooks = [{"type": "HookOfSomeone", **options}]
    check_config(config)
    config.custom_hooks = [{"type": "HookOfSomeone", **dict.fromkeys(options, "often")}]
    with pytest.raises(InputError, match=r"custom_hooks\[0\]\.\w+: is 'often'; give a (whole )?number"):
        check_config(config)
    config.custom_hooks = [{"type": "HookOfSomeone", "hidden": "many", "seed": 0.5}]  # without annotations
    check_config(config)
