"""Scans of a log in which a condition is true, with the objects that make it so."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError
from ..progress import Progress, silent, track
from . import query as ask
from .query_answer import MIN_POINTS, Scenery, Truth, related
from .query_parse import parse_query
from .scene import SceneObject, SceneRecord
from .scene_log import scene_of

if TYPE_CHECKING:
    from ..datasets.index import LogIndex


@dataclass(frozen=True, slots=True)
class Match:
    """What a condition is on one scan.

    Attributes:
        truth: None where nobody can tell. objects: the things that are asked for, in the order of the record; of an
            "or" those of its true parts; none where the condition is not true.
        anchors: those that they stand in the wanted relations to.
    """

    scene: SceneRecord
    truth: Truth
    objects: tuple[SceneObject, ...]
    anchors: tuple[SceneObject, ...]


def parse_condition(text: str) -> ask.Condition:
    """The condition that a sentence says; "is there ..." is one, too.

    Raises:
        InputError: it cannot be read, or asks for something else than yes or no.
    """
    query = parse_query(text)
    if isinstance(query, ask.IsThere):
        return query.condition
    if isinstance(query, ask.Amount | ask.Not | ask.And | ask.Or):
        return query
    raise InputError(
        f'{text!r} is a question, and scans are found by what is in them; say that, as in "at least 2 cars behind me"'
    )


def match(
    condition: ask.Condition,
    scene: SceneRecord,
    *,
    min_points: int = MIN_POINTS,
    max_range_m: float = math.inf,
) -> Match:
    """The condition on a scene; options as of `query_answer.answer`."""
    scenery = Scenery(scene, min_points, max_range_m)
    truth = scenery.holds(condition)
    things = list(_wanted(scenery, condition)) if truth else []
    subjects = {id(o) for each in things for o in scenery.found(each)}
    anchors = {id(o) for each in things for o in _anchors(scenery, each, scenery.found(each))} - subjects
    return Match(
        scene,
        truth,
        tuple(o for o in scene.objects if id(o) in subjects),
        tuple(o for o in scene.objects if id(o) in anchors),
    )


def scenes_of(
    index: LogIndex,
    rows: Iterable[int],
    *,
    checkpoint: str | Path | None = None,
    points: bool = False,
    progress: Progress = silent,
) -> Iterator[SceneRecord]:
    """Scenes of a ``LogIndex``, of boxes or instances, or with a fine-tuned network's checkpoint of its predictions.

    Raises:
        InputError: a scan has neither boxes nor instances, or the checkpoint is not one for this log.
    """
    tracked = track([int(row) for row in rows], "looking at scans", progress)
    if checkpoint is None:
        for row in tracked:
            yield scene_of(index, row, points=points)
        return
    from .scene_clusters import load_predictor, predicted_scene

    predict = load_predictor(checkpoint, index.card.classes)
    for row in tracked:
        yield predicted_scene(index, row, predict, points=points)


def _wanted(scenery: Scenery, condition: ask.Condition) -> Iterator[ask.Things]:
    """The things that make it true by being there; what is denied, or bounded above, is not to be seen."""
    if not scenery.holds(condition):
        return  # one part of an "or" may be untrue
    if isinstance(condition, ask.And | ask.Or):
        for part in condition.conditions:
            yield from _wanted(scenery, part)
    elif isinstance(condition, ask.Amount) and condition.comparison != "at most" and condition.number > 0:
        yield condition.things


def _anchors(scenery: Scenery, things: ask.Things, found: Sequence[SceneObject]) -> Iterator[SceneObject]:
    """What objects that were found as things stand in relations to, and the anchors of these."""
    for relation in things.relations:
        if isinstance(relation, ask.Speed) or isinstance(relation.anchor, ask.Ego) or relation.negated:
            continue
        met = [
            anchor
            for anchor in scenery.found(relation.anchor)
            if any(o is not anchor and related(o, anchor, relation) for o in found)
        ]
        yield from met
        yield from _anchors(scenery, relation.anchor, met)
