"""A small model that is trained on the spot on questions about one log, and what it answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import InputError
from ...files.access import make_folder, read_json
from ...files.writes import write_json
from ...hub.backbone import Backbone
from ...progress import Progress, silent, track
from .. import query as ask
from ..bootcamps.bootcamp import Bootcamp, Identity
from ..bootcamps.phrases import NEAR_M
from ..bootcamps.registry import families
from ..query_answer import Scenery
from ..query_parse import parse_query
from ..query_text import text_of
from ..scene import SceneRecord
from ..scene_log import scene_of
from ..words import STATUSES
from .alignment import align, counts_of
from .bev import BevGrid
from .build import build
from .language import tiny
from .model import LidarVLM
from .pointing import pointed_at
from .processor import LidarProcessor
from .sft import Example, Recipe, answers, train
from .tower import planes_of

if TYPE_CHECKING:
    from ...datasets.index import LogIndex

FAMILIES = ("exist", "count")  # what a model of this size can learn within minutes
RANGE_M = 30.0  # of what is asked about
GRID = BevGrid(rows=32, columns=32, cell_m=2.0, tile=32)
MERGE = 4  # cells a side of a token: 64 tokens a scan, each of 8 m
CELL_WIDTH = 16  # of the layer that all cells share
PARTS = 2  # a side, in which a token learns where in its square things stand
REPORT = "ask.json"
KNOWN = (["is", "there"], ["are", "there"], ["how", "many"])  # first words of what can be asked
SHOWN = 80  # characters of a question that an error repeats
SIDES = 8  # quarter turns, and each mirrored


Terms = Sequence[str]  # of scans, as ``LogIndex.rows`` takes them


@dataclass(frozen=True, slots=True)
class Training:
    """How the model is made. questions: of each family, on the training scans; examined: on the held-out ones.

    alignment: of the stage before questions, see `alignment`. recipe: of that on questions.
    """

    questions: int = 1500
    examined: int = 100
    alignment: Recipe = field(default_factory=lambda: Recipe(steps=600, learning_rate=3e-3))
    recipe: Recipe = field(default_factory=Recipe)
    seed: int = 0


def scans_of(
    index: LogIndex, rows: NDArray[np.integer], backbone: Backbone, grid: BevGrid, progress: Progress = silent
) -> dict[str, Tensor]:
    """Token -> planes of each scan, which a frozen backbone needs to make only once."""
    found = {}
    for row in track(rows.tolist(), "looking at scans", progress):
        frame = index.frame(row, cameras=(), labels=False, images=False)
        found[frame.token] = planes_of(backbone, frame.points[:, :4], grid, lidar_to_ego=frame.lidar_to_ego)
    return found


def cases_of(scenes: Sequence[SceneRecord], count: int, seed: int) -> list[Identity]:
    """Questions with answers, ``count`` of each of ``FAMILIES``, none for what one scan does not show: motion."""
    camps = [
        without_motion(families()[name])(scenes, seed=len(FAMILIES) * seed + number, max_range_m=RANGE_M)
        for number, name in enumerate(FAMILIES)
    ]
    return [camp.case_generator() for camp in camps for _ in range(count)]


def without_motion(family: type[Bootcamp]) -> type[Bootcamp]:
    """The family with questions without a status or a speed only, which one scan does not show."""

    class Still(family):  # type: ignore[valid-type, misc]
        @classmethod
        def name(cls) -> str:
            return family.name()

        def ask(self, scenery: Scenery) -> dict[str, Any] | None:
            drawn = (super(Still, self).ask(scenery) for _ in range(20))
            return next((a for a in drawn if a and not _is_of_motion(a["query"])), None)

    return Still


def _is_of_motion(query: str) -> bool:
    """Whether a query asks for a status or a speed."""
    return any(word in query for word in (*STATUSES, "faster than", "slower than"))


def turned(planes: Tensor, side: int) -> Tensor:
    """Planes (C, n, n) of the scan from another side: ``side % 4`` quarter turns of the world to the left, then left
    and right swapped from 4 on."""
    planes = torch.rot90(planes, side % 4, (1, 2))
    return planes.flip(2) if side >= 4 else planes


def turn_of(side: int) -> NDArray[np.float64]:
    """(4, 4) from the frame of the vehicle to that of ``turned`` planes; a mirror from side 4 on."""
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[side % 4]
    mirror = -1 if side >= 4 else 1
    matrix = np.eye(4)
    matrix[:2, :2] = [[cos, -sin], [mirror * sin, mirror * cos]]
    return matrix


def seen_from(scene: SceneRecord, side: int) -> SceneRecord:
    """The record of ``turned`` planes; without points and pose."""
    angle, mirror = np.pi / 2 * (side % 4), -1.0 if side >= 4 else 1.0
    (a, b), (c, d) = turn_of(side)[:2, :2].tolist()

    def turn(x: float, y: float) -> tuple[float, float]:
        return a * x + b * y, c * x + d * y

    objects = tuple(
        replace(
            thing,
            center=(*turn(*thing.center[:2]), thing.center[2]),
            yaw=mirror * (thing.yaw + angle),
            velocity=None if thing.velocity is None else turn(*thing.velocity),
        )
        for thing in scene.objects
    )
    return replace(scene, token=view_name(scene.token, side), objects=objects, points=None, ego_to_world=None)


def view_name(token: str, side: int) -> str:
    """Name of a scan as it is seen from a side: that of the record of ``seen_from``."""
    return f"{token}/{side}" if side else token


def example_of(case: Identity) -> Example:
    """A case as something to learn; a small model gets the question alone, not how to answer it."""
    family = families()[case["family"]]
    return Example(case["scene"], family.sentence(case["asked"]), family.reply.text(case["gold"]))


def train_on(
    index: LogIndex,
    backbone: Backbone,
    folder: Path,
    training: Training = Training(),
    *,
    frames: tuple[Terms, Terms] = (("train",), ("val",)),
    progress: Progress = silent,
) -> dict[str, Any]:
    """Train a small model on the log's training scans, examine it on its held-out ones, write both into ``folder``.

    Args:
        frames: terms of the scans to train on, and of those that are held out.

    Returns:
        the report: right answers in per cent on the held-out scans with the scan, with an empty one, and of the answer
        that is the most frequent for each family in training.

    Raises:
        InputError: the log has no boxes or instances, or no scenes for training and evaluation, or one for both.
    """
    rows = {part: index.rows(list(terms)) for part, terms in zip(("train", "val"), frames)}
    if not all(map(len, rows.values())):
        raise InputError(
            f"{index.folder} has no scans for training or none held out; prepare a log that has both"
        )
    if shared := set(rows["train"].tolist()) & set(rows["val"].tolist()):
        raise InputError(
            f"{index.folder}: {len(shared)} of the scans are for training and held out; give splits that share "
            "none, since a figure needs scans that nobody trained on"
        )
    views, cases = _asked(index, rows, training)
    examples = {part: [example_of(case) for case in cases[part]] for part in cases}
    texts = {text for e in examples["train"] for text in (e.question, e.answer)}
    torch.manual_seed(training.seed)
    model, processor = build(
        tiny(texts), backbone=backbone, grid=GRID, merge=MERGE, cell_width=CELL_WIDTH, question_first=True
    )
    scans = scans_of(index, np.concatenate([*rows.values()]), backbone, GRID, progress)
    processor.scans = {view_name(t, side): turned(p, side) for t, p in scans.items() for side in range(SIDES)}
    losses = _learn(model, processor, views, cases["train"], examples["train"], training, progress)
    report = {
        "log": index.card.name,
        "index_hash": index.hash,
        "scans": {part: index.tokens(rows[part]) for part in rows},
        "seed": training.seed,
        "made_of": made_of(training, backbone),
        "questions": {part: len(examples[part]) for part in examples},
        "loss": round(float(np.mean(losses[-20:])), 4),
        **_examine(model, processor, cases, examples),
    }
    model.save_pretrained(make_folder(folder))
    processor.save_pretrained(folder)
    write_json(folder / REPORT, report)
    return report


def _asked(
    index: LogIndex, rows: Mapping[str, NDArray[np.integer]], training: Training
) -> tuple[dict[str, SceneRecord], dict[str, list[Identity]]]:
    """Views of the training scans by name, from all their sides; and the questions of both parts."""
    scenes = {part: [scene_of(index, int(row), points=False) for row in rows[part]] for part in rows}
    views = {
        view.token: view for s in scenes["train"] for side in range(SIDES) for view in [seen_from(s, side)]
    }
    return views, {
        "train": cases_of([*views.values()], training.questions, training.seed),
        "val": cases_of(scenes["val"], training.examined, training.seed + 1),
    }


def _learn(
    model: LidarVLM,
    processor: LidarProcessor,
    views: Mapping[str, SceneRecord],
    cases: Sequence[Identity],
    examples: Sequence[Example],
    training: Training,
    progress: Progress,
) -> list[float]:
    """Tokens learn what stands in their squares, then to answer and to point; the loss of each step on questions."""
    drawn = torch.Generator().manual_seed(training.seed)
    counts = {
        name: counts_of(view, GRID, MERGE, parts=PARTS, max_range_m=RANGE_M) for name, view in views.items()
    }
    planes = {name: processor.scans[name] for name in views}
    align(model, planes, counts, training.alignment, generator=drawn, progress=progress)
    targets = [pointed_at(views[case["scene"]], case["asked"], GRID, MERGE) for case in cases]
    return train(
        model, processor, examples, training.recipe, generator=drawn, pointing=targets, progress=progress
    )


def made_of(training: Training, backbone: Backbone) -> dict[str, Any]:
    """What a report says of the training: each of its options by name, and the backbone's weights by their hash."""
    return {
        "steps": training.recipe.steps,
        "questions": training.questions,
        "seed": training.seed,
        "backbone": backbone.card.weights_sha256,
    }


def kept_report(folder: Path, index: LogIndex, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What ``train_on`` wrote of the model that is kept in ``folder``.

    Args:
        given: of `made_of`, what the model must be made of.

    Raises:
        InputError: it was trained on another log than ``index``, of which its figures say nothing; or is made of
            something else than what was ``given``.
    """
    report = read_json(folder / REPORT, f"delete {folder} to train anew")
    if report.get("index_hash") != index.hash:
        raise InputError(
            f"{folder}: this model was trained on another prepared log than {index.folder}, and its accuracy is "
            "measured there; ask about that one with --index, or name another folder with --model to train there"
        )
    made = report.get("made_of", {})
    other = next((name for name, value in (given or {}).items() if made.get(name) != value), None)
    if other is not None:
        raise InputError(
            f"{folder}: the model that is kept there was not made with this --{other} ({made.get(other, 'unknown')}); "
            "leave it out, or name another folder with --model to train there"
        )
    return report


def _examine(
    model: LidarVLM,
    processor: LidarProcessor,
    cases: dict[str, list[Identity]],
    examples: dict[str, list[Example]],
) -> dict[str, float]:
    asked = examples["val"]
    said = answers(model, processor, asked)
    seen = processor.scans
    processor.scans = {name: torch.zeros_like(planes) for name, planes in seen.items()}
    blind = answers(model, processor, asked)
    processor.scans = seen
    often = {
        name: Counter(
            e.answer for c, e in zip(cases["train"], examples["train"]) if c["family"] == name
        ).most_common(1)[0][0]
        for name in FAMILIES
    }
    frequent = [often[case["family"]] for case in cases["val"]]
    return {
        name: _right(cases["val"], texts)
        for name, texts in (("right", said), ("right_without_scan", blind), ("right_most_frequent", frequent))
    }


def _right(cases: Sequence[Identity], texts: Sequence[str]) -> float:
    """Per cent of texts that the families' verifiers take."""
    scores = [families()[case["family"]].check(text, case).value for case, text in zip(cases, texts)]
    return round(100 * float(np.mean(scores)), 1)


def wording(question: str) -> str:
    """A question in the words that the small model was trained on.

    Raises:
        InputError: it cannot be read, asks for something else than whether, or how many, for a status or a speed, or in
            a form that the model was not trained on.
    """
    shown = question if len(question) <= SHOWN else f"{question[:SHOWN]}..."
    unknown = (
        f'{shown!r}: this small model knows only "is there ..." and "how many ...", '
        'as in "how many cars are ahead?"'
    )
    try:
        text = text_of(parse_query(question))
    except InputError as error:
        if question.lower().split()[:2] in KNOWN:
            raise
        raise InputError(unknown) from error
    if not text.startswith(("is there ", "how many ")):
        raise InputError(unknown)
    if _is_of_motion(text):
        raise InputError(
            f"{shown!r}: this small model learned from questions without a status or a speed, which one scan "
            'does not show; leave such words out, as in "how many cars are ahead?"'
        )
    if not _was_trained(parse_query(question)):
        raise InputError(
            f"{shown!r}: this small model learned from questions about one kind of thing with at most one place, seen "
            f'from me; ask so, as in "how many cars are ahead?" or "is there a bus within {NEAR_M[1]:g} m of me?" '
            f"({', '.join(f'{metres:g}' for metres in NEAR_M)} m)"
        )
    return f"{text[0].upper()}{text[1:]}?"


def _was_trained(query: ask.Query) -> bool:
    """Whether `cases_of` asks such questions: to another one it says something, too, and nobody has counted how often
    that is right."""
    match query:
        case ask.IsThere(ask.Amount(things, "at least", 1)) | ask.HowMany(things):
            places = things.relations
        case _:
            return False
    return (
        things.pick is None
        and len(places) <= 1
        and all(
            isinstance(place, ask.Within | ask.Toward) and not place.negated and place.anchor == ask.Ego()
            for place in places
        )
        and all(place.metres in NEAR_M for place in places if isinstance(place, ask.Within))
    )


def answer_on(
    model: LidarVLM, processor: LidarProcessor, index: LogIndex, row: int, question: str
) -> tuple[str, str]:
    """What the model answers on a scan, and what the log's labels say; empty where it has none."""
    frame = index.frame(row, cameras=(), labels=False, images=False)
    processor.scans = {"scan": {"points": frame.points[:, :4], "lidar_to_ego": frame.lidar_to_ego}}
    (said,) = answers(model, processor, [Example("scan", wording(question), "")])
    return said, _labels_say(index, row, question)


def _labels_say(index: LogIndex, row: int, question: str) -> str:
    query = parse_query(question)
    family = families()["count" if text_of(query).startswith("how many") else "exist"]
    try:
        scene = scene_of(index, row, points=False)
    except InputError:
        return ""
    return family.answer(scene, {"query": text_of(query), "min_points": 5, "max_range_m": RANGE_M})
