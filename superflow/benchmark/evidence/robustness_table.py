"""The part of the page of figures about corrupted scans: what is left of each backbone's probe."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

from ...datasets.card import card_names, load_card
from ...datasets.corruptions.corrupted_index import CLEAN
from ...datasets.corruptions.domain import LEVELS
from ...datasets.corruptions.models import CORRUPTIONS
from ...downstream.robustness import robustness
from ..markdown import LEAKY, table_lines
from ..rows import Row

ROBUSTNESS = "robustness"  # measures of rows are this, a colon and the variant

_EXPLANATION = (
    "mIoU [%], of each corruption the mean over three levels. The probe sees no turned or mirrored scans, unlike that "
    "of the tables above. mCE [%]: errors relative to those of a MinkUNet-18 trained on all labels of clean scans "
    "(Robo3D); mRR [%]: what is left of the clean figure, which flatters a backbone that has little to lose."
)


def robustness_lines(rows: Iterable[Row]) -> list[str]:
    """A table for each log: clean mIoU, the mean over three levels of each corruption, mCE and mRR [%].

    Figures are means over the seeds, of which the first column says how many; of a corruption that lacks a level of
    one of them there is none. mCE, relative to the published
    MinkUNet-18, stands where the log's dataset has that baseline; like mRR it is of all eight corruptions or not there.
    """
    by_log: dict[str, dict[tuple[str, str], list[Row]]] = {}
    for row in rows:
        if row["measure"].startswith(f"{ROBUSTNESS}: "):
            table = by_log.setdefault(row["evaluation log"], {})
            table.setdefault((row["source"], row["arm"]), []).append(row)
    lines = []
    for log, table in sorted(by_log.items()):
        there = {_variant(row)[0] for own in table.values() for row in own if row["mIoU"]}
        names = [name for name in CORRUPTIONS if name in there]
        heads = ["pretrained on", "arm", "seeds", CLEAN, *names, "mCE", "mRR"]
        lines += [f"### Corrupted scans of {log}: linear probe fitted on clean ones", "", _EXPLANATION, ""]
        lines += [*table_lines(heads, (_cells(backbone, own, names) for backbone, own in table.items())), ""]
    return lines


def baseline_of(dataset: str, classes: int) -> str:
    """``dataset``, or nothing where its log has another number of classes than its card in this package.

    The published baseline was judged on those: of another label set, or one's own classes, it says nothing.
    """
    return dataset if dataset in card_names() and len(load_card(dataset).classes) == classes else ""


def _cells(backbone: tuple[str, str], rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    means = _means(rows)
    corrupted = {name: [means[name]] for name in names if name in means}
    dataset, _, of = rows[0]["label set"].partition(", ")
    classes = of.partition(" ")[0]
    dataset = baseline_of(dataset, int(classes)) if classes.isdecimal() else ""
    found = None
    if len(corrupted) == len(CORRUPTIONS) and means.get(CLEAN, 0) > 0:
        found = robustness(means[CLEAN], corrupted, dataset)
    figures = [means.get(name) for name in (CLEAN, *names)]
    figures += [None, None] if found is None else [found.mce, found.mrr]
    seeds, mark = len({row["seed"] for row in rows}), LEAKY if any(row["leakage"] for row in rows) else ""
    return [*backbone, f"{seeds}", *("-" if value is None else f"{value:.1f}{mark}" for value in figures)]


def _means(rows: Sequence[Row]) -> Mapping[str, float]:
    """Corruption, or clean, to the mean mIoU over levels and seeds, where all of these are there."""
    values: dict[str, dict[tuple[str, str], float]] = {}
    seeds = {row["seed"] for row in rows}
    for row in rows:
        if row["mIoU"]:
            name, level = _variant(row)
            values.setdefault(name, {})[row["seed"], level] = float(row["mIoU"])
    return {
        name: sum(own.values()) / len(own)
        for name, own in values.items()
        if own.keys() == set(product(seeds, ("",) if name == CLEAN else LEVELS))
    }


def _variant(row: Row) -> tuple[str, str]:
    """Corruption and level of a row; clean has no level."""
    name, _, level = row["measure"].partition(": ")[2].partition("/")
    return name, level
