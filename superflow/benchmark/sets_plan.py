"""A benchmark over prepared sets: its protocols, and the plan of places that they and some sets make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ..datasets.card_file import read_yaml
from ..errors import InputError
from .measures import MEASURES
from .places_plan import (
    Evaluation,
    Log,
    MeasurePlan,
    PlacesArm,
    PlacesPlan,
    check_plan,
    read_part,
    refuse_unknown,
)


@dataclass(frozen=True, slots=True)
class Protocol:
    """One column of the table: a measure at a budget. figure: which of the measure's, the first where it is empty."""

    name: str
    measure: str
    budget: str = "all"
    figure: str = ""
    title: str = ""

    def __post_init__(self) -> None:
        if self.measure in MEASURES and not self.figure:
            object.__setattr__(self, "figure", MEASURES[self.measure].first)
        if not self.title:
            object.__setattr__(self, "title", self.name)


@dataclass(frozen=True, slots=True)
class SetsPlan:
    """What is measured on every set.

    evaluations: set -> its frames, ``train``, ``evaluate`` and what else an `Evaluation` has, instead of those of
    `sets.frames_of`.
    """

    path: Path
    protocols: Mapping[str, Protocol]
    measures: Mapping[str, MeasurePlan]
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)

    def chosen(self, names: Sequence[str]) -> dict[str, Protocol]:
        """The protocols of these names, in the plan's order.

        Raises:
            InputError: one is unknown.
        """
        if unknown := [name for name in names if name not in self.protocols]:
            raise InputError(
                f"--protocols: {self.path} has no {unknown[0]!r}; it has {', '.join(self.protocols)}"
            )
        return {name: protocol for name, protocol in self.protocols.items() if name in names}


def is_sets_plan(path: Path) -> bool:
    """Whether a plan names protocols and so is one for prepared sets."""
    return "protocols" in read_yaml(path)


def load_sets_plan(path: Path) -> SetsPlan:
    """The plan in a YAML file.

    Raises:
        InputError: an unknown key, or a name that stands for nothing.
    """
    content = read_yaml(path)
    refuse_unknown(content, [f.name for f in fields(SetsPlan) if f.name != "path"], f"{path}")
    measures = read_part(path, "measures", content.get("measures"))
    protocols = {}
    for name, entry in (content.get("protocols") or {}).items():
        where = f"{path}: protocols: {name!r}"
        if not isinstance(entry, dict) or "measure" not in entry:
            raise InputError(f"{where} is {entry!r}; give a mapping with the key measure")
        refuse_unknown(entry, [f.name for f in fields(Protocol) if f.name != "name"], where)
        protocol = Protocol(str(name), **entry)
        if protocol.measure not in measures or protocol.budget not in measures[protocol.measure].budgets:
            raise InputError(
                f"{where}: the plan has no measure {protocol.measure!r} with a budget {protocol.budget!r}; "
                "add it to measures"
            )
        protocols[protocol.name] = protocol
    evaluations = content.get("evaluations") or {}
    for name, entry in evaluations.items():
        known = [f.name for f in fields(Evaluation) if f.name not in ("name", "log")]
        where = f"{path}: evaluations: {name!r}"
        if not isinstance(entry, dict) or not {"train", "evaluate"} <= set(entry):
            raise InputError(f"{where} is {entry!r}; give a mapping with the keys train and evaluate")
        refuse_unknown(entry, known, where)
    return SetsPlan(path, protocols, measures, evaluations, tuple(content.get("seeds", (0,))))


def plan_of_places(
    plan: SetsPlan,
    protocols: Mapping[str, Protocol],
    sets: Mapping[str, Path],
    frames: Mapping[str, Evaluation],
    weights: Mapping[str, str],
    *,
    with_random: bool,
) -> PlacesPlan:
    """The plan of places of some protocols: an arm for each backbone, an evaluation for each set.

    Args:
        frames: of each set that is measured, see `sets.read_sets`. with_random: beside each backbone random weights of
            its encoder.
    """
    arms = {name: PlacesArm(name, "given", weights=path) for name, path in weights.items()}
    if with_random:
        arms |= {
            random_arm(name): PlacesArm(random_arm(name), "random", weights=path)
            for name, path in weights.items()
        }
    measures = {}
    for name, measure in plan.measures.items():
        budgets = [protocol.budget for protocol in protocols.values() if protocol.measure == name]
        if budgets:
            kept = {budget: measure.budgets[budget] for budget in measure.budgets if budget in budgets}
            measures[name] = replace(measure, budgets=kept)
    logs = {name: Log(name, root=str(sets[name])) for name in frames}
    made = PlacesPlan(logs, {}, arms, frames, measures, plan.seeds)
    check_plan(made, plan.path)
    return made


def random_arm(weights: str) -> str:
    """The name of random weights in the encoder of a backbone."""
    return f"random as {weights}"
