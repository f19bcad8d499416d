"""The datasets that can be prepared, as `superflow prepare --list` prints them."""

from __future__ import annotations

from collections.abc import Iterator

from superflow.datasets.catalogue import Facts, facts_of
from superflow.datasets.prepare import DATASETS


def dataset_lines() -> Iterator[str]:
    """What a user should know of each dataset before it is downloaded, by the lines."""
    for name in DATASETS:
        facts = facts_of(name)
        yield from (name,) if facts is None else _lines(facts)
        yield ""


def _lines(facts: Facts) -> Iterator[str]:
    disk = "disk space unknown" if facts.disk_gb is None else f"{facts.disk_gb:g} GB"
    no_labels = "no point labels" if facts.cameras is not None else "no classes of its own"
    labels = f"{facts.classes} classes" if facts.classes else no_labels
    if facts.label_sets:
        labels += f" (--label-set: {', '.join(facts.label_sets)})"
    yield f"{facts.name}: {'recorded' if facts.real else 'simulated'}, {disk}, {labels}"
    cameras = "those of your log" if facts.cameras is None else ", ".join(facts.cameras) or "none"
    yield f"  cameras     {cameras}"
    yield f"  licence     {facts.licence}"
    yield f"  ask         {facts.ask or facts.source}"
    for number, line in enumerate(facts.tree.strip("\n").splitlines()):
        yield f"  {'' if number else 'tree':<10}  {line}"
    for number, sentence in enumerate(facts.unverified):
        yield f"  {'' if number else 'unverified':<10}  {sentence}"
