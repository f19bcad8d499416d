"""The file of a plan of places: what it takes from other plans, and whether its names stand for something."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...datasets.corruptions.corrupted_index import CLEAN
from ...datasets.corruptions.models import Variant
from ...datasets.formats.yaml_files import read_yaml
from ...errors import InputError
from ..plan_file import check_value, read_entry, refer, refuse_same_files, refuse_unknown
from .measures import MEASURES, check_measure
from .plan import AVERAGED, FIXED_KINDS, PLACES_KINDS, MeasurePlan, PlacesArm, PlacesPlan, Source
from .recipe_search import SEARCHES

_FEATURES = {"teacher": str, "components": int | None}  # of an arm: what they may be
_PARTS = ("logs", "sources", "arms", "evaluations", "measures")


def load_places_plan(path: Path) -> PlacesPlan:
    """The plan in a YAML file.

    An entry that is the name of another plan beside it stands for that plan's entry of the same name, and its log;
    an arm comes without sources that are there alone.

    Raises:
        InputError: an unknown key, or a name that stands for nothing.
    """
    content = _with_entries_of_others(read_yaml(path), path)
    plan = read_entry(PlacesPlan, content, f"{path}", only_budgets=None, asked_teacher=None)
    check_plan(plan, path)
    return plan


def _with_entries_of_others(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    parts = {part: content.get(part) for part in _PARTS}
    full: dict[str, Any] = {part: dict(own) for part, own in parts.items() if isinstance(own, dict)}
    for part, named in list(full.items()):
        for name, entry in list(named.items()):
            if not isinstance(entry, str):
                continue
            other = read_yaml(path.parent / entry)
            found = _mapping(other.get(part)).get(name)
            if not isinstance(found, dict):
                raise InputError(
                    f"{path}: {part}: {name!r} is to be that of {entry}, which has none of its own"
                )
            named[name] = found if part != "arms" else _on_sources(found, _mapping(content.get("sources")))
            log = _mapping(other.get("logs")).get(str(found.get("log")))
            if log is not None:
                full.setdefault("logs", {}).setdefault(found["log"], log)
    return {**content, **full}


def _mapping(value: Any) -> Mapping[str, Any]:
    """A part of a plan that has not been looked at; of another type it has no entries, which is refused later."""
    return value if isinstance(value, dict) else {}


def _on_sources(arm: Mapping[str, Any], sources: Mapping[str, Any]) -> dict[str, Any]:
    """An arm of another plan, without sources that are there alone."""
    own = dict(arm)
    if isinstance(own.get("sources"), list):
        own["sources"] = [name for name in own["sources"] if name in sources]
    if isinstance(own.get("by_source"), dict):
        own["by_source"] = {name: options for name, options in own["by_source"].items() if name in sources}
    return own


def check_plan(plan: PlacesPlan, path: Path) -> None:
    """Refuse a plan whose names stand for nothing.

    Raises:
        InputError: the first that does, with the file ``path`` of the plan.
    """
    for log in plan.logs.values():
        if log.drive is not None and log.root is not None:
            raise InputError(f"{path}: logs: {log.name!r} has both a root and a drive; leave one out")
    refuse_same_files(plan.sources, f"{path}: sources")
    refuse_same_files(plan.arms, f"{path}: arms")
    for source in plan.sources.values():
        _check_source(source, plan, f"{path}: sources: {source.name!r}")
    for arm in plan.arms.values():
        _check_arm(arm, plan, f"{path}: arms: {arm.name!r}")
    for evaluation in plan.evaluations.values():
        refer([evaluation.log], plan.logs, f"{path}: evaluations: {evaluation.name!r}")
        if evaluation.new_places_m is not None and evaluation.new_places_m <= 0:
            raise InputError(
                f"{path}: evaluations: {evaluation.name!r}: new_places_m must be above 0, or null"
            )
        if evaluation.variant != CLEAN:
            try:
                Variant.parse(evaluation.variant)
            except InputError as error:
                raise InputError(f"{path}: evaluations: {evaluation.name!r}: {error}") from error
    for measure in plan.measures.values():
        _check_measure(measure, plan, f"{path}: measures: {measure.name!r}")


def _check_source(source: Source, plan: PlacesPlan, where: str) -> None:
    from ...camera.superpixels import PROVIDERS

    if bool(source.log) == bool(source.mix):
        raise InputError(f"{where} needs either a log or a mix of other sources")
    refer(source.mix, plan.sources, where)
    if twice := [part for part in source.mix if plan.sources[part].mix]:
        raise InputError(f"{where} mixes {twice[0]!r}, which is a mix; name its parts")
    if wrong := [part for part, weight in source.mix.items() if not weight > 0]:
        raise InputError(f"{where}: the weight of {wrong[0]!r} is {source.mix[wrong[0]]}; give one above 0")
    refer(source.options, dict.fromkeys(PLACES_KINDS), f"{where}: options")
    refer(source.superpixels, PROVIDERS, f"{where}: superpixels")
    refer([source.log] if source.log else [], plan.logs, where)


def _check_arm(arm: PlacesArm, plan: PlacesPlan, where: str) -> None:
    refuse_unknown(arm.features, _FEATURES, f"{where}: features")
    for key, value in arm.features.items():
        check_value(value, _FEATURES[key], f"{where}: features: {key}")
    if arm.kind not in PLACES_KINDS:
        raise InputError(f"{where}: kind {arm.kind!r} is unknown; use {' or '.join(PLACES_KINDS)}")
    has_config, has_weights = bool(arm.config), bool(arm.weights)
    fits = {
        "given": has_weights > has_config,
        "random": has_weights != has_config,
        AVERAGED: not has_weights and not has_config,
    }
    if not fits.get(arm.kind, has_config > has_weights):
        needs = "weights" if arm.kind == "given" else "config"
        raise InputError(
            f"{where} lacks {needs!r} or has one too many; a given backbone has weights "
            "alone, a random one weights or a config, an averaged one neither, all others a config alone"
        )
    refer([*(arm.sources or ()), *arm.by_source], plan.sources, where)
    if arm.start is not None:
        refer([arm.start], plan.arms, f"{where}: start")
        if arm.kind in FIXED_KINDS:
            raise InputError(f"{where}: an arm that trains nothing cannot start from another's backbone")
        if arm.name in plan.starts(arm.name):
            raise InputError(f"{where}: starts from itself, by {', '.join(plan.starts(arm.name))}")
    if arm.kind == AVERAGED and (arm.start is None or plan.arms[arm.start].start is None):
        raise InputError(f"{where}: an averaged arm needs as 'start' an arm that has a start of its own")
    if not 0 < arm.share < 1:
        raise InputError(f"{where}: share is {arm.share:g}; give one above 0 and below 1")


def _check_measure(measure: MeasurePlan, plan: PlacesPlan, where: str) -> None:
    refer([measure.name], MEASURES, where)
    refer([measure.search], SEARCHES, f"{where}: search")
    refer(measure.arms or (), plan.arms, where)
    refer(measure.evaluations or (), plan.evaluations, where)
    refer([*measure.recipe_of, *measure.recipe_of.values()], measure.budgets, where)
    check_measure(measure, where)
    for name in measure.evaluations or plan.evaluations:
        if measure.name == "robustness" and plan.evaluations[name].variant != CLEAN:
            raise InputError(
                f"{where}: corrupts clean scans, and those of {name!r} are {plan.evaluations[name].variant} "
                "already; name others under evaluations"
            )
    for budget, other in measure.recipe_of.items():
        if other in measure.recipe_of:
            raise InputError(f"{where}: {budget!r} takes the recipe of {other!r}, which has none of its own")
