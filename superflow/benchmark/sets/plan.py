"""A benchmark over prepared sets: its protocols, and the plan of places that they and some sets make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..places.measures import MEASURES
from ..places.plan import Evaluation, Log, MeasurePlan, PlacesArm, PlacesPlan
from ..places.plan_file import check_plan
from ..plan_file import entries, read_entry, read_plan, refer, refuse_absent


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
    `run.frames_of`.
    """

    path: Path
    protocols: Mapping[str, Protocol] = entries(Protocol)
    measures: Mapping[str, MeasurePlan] = entries(MeasurePlan)
    evaluations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)

    def evaluation(self, name: str) -> Evaluation:
        """What the plan says of a set's frames."""
        where = f"{self.path}: evaluations: {name!r}"
        return read_entry(Evaluation, self.evaluations[name], where, name=name, log=name)

    def chosen(self, names: Sequence[str]) -> dict[str, Protocol]:
        """The protocols of these names, in the plan's order.

        Raises:
            InputError: one is unknown.
        """
        refuse_absent(names, self.protocols, f"--protocols: {self.path}")
        return {name: protocol for name, protocol in self.protocols.items() if name in names}


def load_sets_plan(path: Path) -> SetsPlan:
    """The plan in a YAML file.

    Raises:
        InputError: an unknown key, or a name that stands for nothing.
    """
    plan = read_plan(path, SetsPlan, path=path)
    for protocol in plan.protocols.values():
        measure = plan.measures.get(protocol.measure)
        if measure is None or protocol.budget not in measure.budgets:
            raise InputError(
                f"{path}: protocols: {protocol.name!r}: the plan has no measure {protocol.measure!r} with a budget "
                f"{protocol.budget!r}; add it to measures"
            )
        refer([protocol.measure], MEASURES, f"{path}: measures")
        columns = MEASURES[protocol.measure].columns
        if protocol.figure not in columns:
            raise InputError(
                f"{path}: protocols: {protocol.name!r}: {protocol.figure!r} can be no column; "
                + (
                    f"choose of {', '.join(columns)}"
                    if columns
                    else f"{protocol.measure} has no figure that can, and is for plans of places"
                )
            )
        if twice := [other.name for other in plan.protocols.values() if other.title == protocol.title][1:]:
            raise InputError(
                f"{path}: protocols: {protocol.name!r} and {twice[0]!r} have one title, {protocol.title!r}; "
                "name them apart"
            )
    for name in plan.evaluations:
        plan.evaluation(name)
    return plan


def plan_of_places(
    plan: SetsPlan,
    protocols: Mapping[str, Protocol],
    sets: Mapping[str, Path],
    frames: Mapping[str, Evaluation],
    weights: Mapping[str, str],
    *,
    with_random: bool,
    allow_leakage: bool = False,
) -> PlacesPlan:
    """The plan of places of some protocols: an arm for each backbone, an evaluation for each set.

    Args:
        frames: of each set that is measured, see `run.read_sets`. with_random: beside each backbone random weights of
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
    made = PlacesPlan(
        logs=logs,
        arms=arms,
        evaluations=frames,
        measures=measures,
        seeds=plan.seeds,
        allow_leakage=allow_leakage,
    )
    check_plan(made, plan.path)
    return made


def random_arm(weights: str) -> str:
    """The name of random weights in the encoder of a backbone."""
    return f"random as {weights}"
