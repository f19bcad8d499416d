"""DriveLM-nuScenes (arXiv 2312.14150): key frames with their questions, object tags, and answers for its challenge.

A file is ``{scene: {scene_description, key_frames: {sample token: {key_object_infos, QA, image_paths}}}}``, and QA
has the four ``PARTS``; test files have no objects, and ``tag`` says how an answer is scored. Read from the samples and
the evaluation of its repository.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...files.writes import write_json
from .entries import Entry
from .frames import rows_of

if TYPE_CHECKING:
    from ...datasets.index import LogIndex

PARTS = ("perception", "prediction", "planning", "behavior")
# number of a question -> how its answer is scored
TAGS = {0: "accuracy", 1: "GPT", 2: "language", 3: "match"}
_AGAIN = "give a file of DriveLM-nuScenes' form, as its repository has them"
_SCORED_AGAIN = (
    "give a file of the challenge with golds and tags, as challenge_frames makes of a training one"
)
_ANSWERS_AGAIN = "give what the challenge takes, a list of objects with `id` and `answer`"
_NUMBER = r"\s*([+-]?\d+(?:\.\d+)?)\s*"
_TAG = re.compile(rf"<\s*(c\d+)\s*,\s*(CAM_\w+)\s*,{_NUMBER},{_NUMBER}>")


@dataclass(frozen=True, slots=True)
class ObjectTag:
    """How texts name an object: its name, its camera, and its centre x, y there [pixels of the 1600 x 900 image]."""

    name: str
    camera: str
    x: float
    y: float

    @property
    def text(self) -> str:
        """As ``<c1,CAM_BACK,1088.3,497.5>``."""
        return f"<{self.name},{self.camera},{self.x},{self.y}>"


@dataclass(frozen=True, slots=True)
class KeyObject:
    """An object that questions are about. box: left, top, right, bottom [pixels]; status, description may be None."""

    tag: ObjectTag
    category: str
    status: str | None
    description: str | None
    box: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class DriveQuestion:
    """A question of a key frame.

    Attributes:
        part: of ``PARTS``. answer: None in the hidden test. tags: of ``TAGS``; none in training files.
        more: what else stands there, as the edges of the graph (``con_up``, ``con_down``), as JSON has it.
    """

    part: str
    question: str
    answer: str | None
    tags: tuple[int, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class KeyFrame:
    """A key frame with its questions, by parts in the order of ``PARTS``.

    Attributes:
        scene: token. token: of the sample. images: camera -> path as the file has it. description: of the scene.
    """

    scene: str
    token: str
    questions: tuple[DriveQuestion, ...]
    objects: tuple[KeyObject, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    description: str | None = None

    def named(self) -> Iterator[tuple[str, DriveQuestion]]:
        """Each question with the name that its answer has in the challenge: scene, token, and number in the frame."""
        for i, question in enumerate(self.questions):
            yield f"{self.scene}_{self.token}_{i}", question


def tags_in(text: str) -> list[ObjectTag]:
    """The object tags of a text, in its order; whole numbers and signs count, too."""
    return [ObjectTag(name, camera, float(x), float(y)) for name, camera, x, y in _TAG.findall(text)]


def read_frames(path: str | Path, *, scored: bool = False) -> list[KeyFrame]:
    """The key frames of a training or test file, in its order.

    Args:
        scored: each question must have its gold answer and the tags that say how to score others.

    Raises:
        MissingFileError, InputError: there is none; the message names the first entry that is wrong.
    """
    file = Entry.of_file(path, _SCORED_AGAIN if scored else _AGAIN, missing="give the file of questions")
    found = []
    for scene in file.names():
        entry = file.at(scene)
        description = entry.at("scene_description").text() if entry.has("scene_description") else None
        frames = entry.at("key_frames")
        found += [_frame(frames.at(token), scene, token, description, scored) for token in frames.names()]
    return found


def write_frames(frames: Sequence[KeyFrame], path: str | Path) -> None:
    """Write a file that ``read_frames`` reads as the same frames."""
    scenes: dict[str, dict[str, Any]] = {}
    for frame in frames:
        about = {} if frame.description is None else {"scene_description": frame.description}
        scene = scenes.setdefault(frame.scene, {**about, "key_frames": {}})
        scene["key_frames"][frame.token] = _frame_values(frame)
    write_json(path, scenes, allow_nan=False)


def read_answers(path: str | Path, frames: Sequence[KeyFrame]) -> dict[str, str]:
    """Name of a question -> a model's answer, of a list of answers or of a submission, which has it as ``results``.

    Raises:
        MissingFileError, InputError: there is none, it is no such file, a question is answered twice, or one of
            ``frames`` not at all.
    """
    file = Entry.of_file(path, _ANSWERS_AGAIN, missing="give the file of a model's answers")
    found: dict[str, str] = {}
    for entry in (file.at("results") if isinstance(file.value, dict) else file).items():
        name = entry.at("id").text()
        if name in found:
            raise entry.error(f"answers {name!r} a second time")
        found[name] = entry.at("answer").text()
    missing = next((name for frame in frames for name, _ in frame.named() if name not in found), None)
    if missing is not None:
        raise file.error(f"has no answer to the question {missing}")
    return found


def write_answers(frames: Sequence[KeyFrame], answers: Mapping[str, str], path: str | Path) -> None:
    """Write answers to the questions of these frames as the challenge takes them; ``answers`` by their names.

    Raises:
        KeyError: a question has no answer.
    """
    rows = [
        {"id": name, "question": question.question, "answer": answers[name]}
        for frame in frames
        for name, question in frame.named()
    ]
    write_json(path, rows)


def paired(frames: Sequence[KeyFrame], index: LogIndex) -> list[tuple[KeyFrame, int]]:
    """Key frames of a prepared log, each with its row; others are left out.

    Raises:
        InputError: none is of this log.
    """
    rows = rows_of((frame.token for frame in frames), index)
    return [(frame, rows[frame.token]) for frame in frames if frame.token in rows]


def _frame(entry: Entry, scene: str, token: str, description: str | None, scored: bool) -> KeyFrame:
    parts = entry.at("QA")
    other = next((part for part in parts.names() if part not in PARTS), None)
    if other is not None:
        raise parts.at(other).error(f"is none of {', '.join(PARTS)}")
    questions = [
        _question(each, part, scored) for part in PARTS if parts.has(part) for each in parts.at(part).items()
    ]
    objects = entry.at("key_object_infos") if entry.has("key_object_infos") else None
    images = entry.at("image_paths") if entry.has("image_paths") else None
    return KeyFrame(
        scene,
        token,
        tuple(questions),
        () if objects is None else tuple(_object(objects, key) for key in objects.names()),
        {} if images is None else {camera: images.at(camera).text() for camera in images.names()},
        description,
    )


def _question(entry: Entry, part: str, scored: bool) -> DriveQuestion:
    missing = next((key for key in ("A", "tag") if not entry.has(key)), None)
    if scored and missing is not None:
        raise entry.error(f"has no {missing!r}")
    tags = tuple(each.count() for each in entry.at("tag").items()) if entry.has("tag") else ()
    if not set(tags) <= set(TAGS):
        raise entry.at("tag").error(f"is {list(tags)}, and there are only {', '.join(map(str, TAGS))}")
    known = ("Q", "A", "tag")
    return DriveQuestion(
        part,
        entry.at("Q").text(),
        entry.at("A").text() if entry.has("A") else None,
        tags,
        {key: entry.value[key] for key in entry.names() if key not in known},
    )


def _object(objects: Entry, key: str) -> KeyObject:
    entry = objects.at(key)
    match = _TAG.fullmatch(key)
    if match is None:
        raise entry.error("is named by no tag as <c1,CAM_FRONT,800.0,450.0>")
    box = tuple(each.number() for each in entry.at("2d_bbox").items())
    if len(box) != 4:
        raise entry.at("2d_bbox").error(f"has {len(box)} numbers and not four")
    status, description = (
        entry.at(name).text() if entry.has(name) else None for name in ("Status", "Visual_description")
    )
    return KeyObject(tags_in(key)[0], entry.at("Category").text(), status, description, box)


def _frame_values(frame: KeyFrame) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if frame.objects:
        values["key_object_infos"] = {
            o.tag.text: {
                "Category": o.category,
                "Status": o.status,
                "Visual_description": o.description,
                "2d_bbox": list(o.box),
            }
            for o in frame.objects
        }
    values["QA"] = {part: [_values(q) for q in frame.questions if q.part == part] for part in PARTS}
    values["image_paths"] = dict(frame.images)
    return values


def _values(question: DriveQuestion) -> dict[str, Any]:
    tags = {"tag": list(question.tags)} if question.tags else {}
    return {"Q": question.question, "A": question.answer, **question.more, **tags}
