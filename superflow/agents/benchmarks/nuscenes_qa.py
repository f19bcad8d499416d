"""NuScenes-QA (arXiv 2305.14836): its question files, answers to them, and exact match by type and hop.

A file is ``{"info": ..., "questions": [{split, sample_token, question, answer, num_hop, template_type}, ...]}``. The 30
answers are those of its published table; of other golds its training code knows nothing. Its evaluation pairs golds and
answers by their position in the file, so the order is kept, and answers that name their questions are held against it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import suggest
from ...files.writes import write_json
from ..bootcamps.replies import Number, Unreadable
from ..query_text import NOUNS, plural_of
from .entries import Entry
from .frames import rows_of
from .scores import Scores, percent

if TYPE_CHECKING:
    from ...datasets.index import LogIndex

TYPES = ("exist", "count", "object", "status", "comparison")
ANSWERS = (
    *map(str, range(11)),
    *("no", "yes", "barrier", "bicycle", "bus", "car", "construction vehicle", "motorcycle", "moving"),
    *("not standing", "parked", "pedestrian", "standing", "stopped", "traffic cone", "trailer", "truck"),
    *("with rider", "without rider"),
)
_AGAIN = "give a file of NuScenes-QA's form, as `superflow make-questions` writes it to a .json"
_COUNTED = [word for noun in NOUNS for word in (noun, plural_of(noun))]


@dataclass(frozen=True, slots=True)
class Question:
    """One question, with the names of the file.

    Attributes:
        sample_token: of a key frame. answer: of ``ANSWERS``, the gold one or a model's text.
        num_hop: 0 or 1 in the published files. template_type: of ``TYPES``. split: None where the file has none.
    """

    sample_token: str
    question: str
    answer: str
    num_hop: int
    template_type: str
    split: str | None = None


def read_questions(path: str | Path) -> list[Question]:
    """The questions of a file with their gold answers, in its order.

    Raises:
        MissingFileError, InputError: there is none; the message names the first entry that is wrong.
    """
    found = []
    for entry in _questions(path):
        question = _question(entry)
        if question.answer not in ANSWERS:
            raise entry.at("answer").error(f"is {question.answer!r}, none of the {len(ANSWERS)} answers")
        found.append(question)
    return found


def write_questions(questions: Sequence[Question], path: str | Path, info: Any = None) -> None:
    """Write a file of this form; ``info`` are JSON types."""
    rows = [{k: v for k, v in asdict(question).items() if v is not None} for question in questions]
    write_json(path, {"info": info, "questions": rows}, allow_nan=False)


def read_answers(path: str | Path, questions: Sequence[Question]) -> list[str]:
    """A model's answers, one a question and in their order.

    The file is a list of answers, or one in the form of the questions with the model's answers in place of the golds.

    Raises:
        MissingFileError, InputError: there is none; there are more or fewer than questions, or one is to another.
    """
    file = Entry.of_file(path, _AGAIN, missing="give the file of a model's answers")
    plain = isinstance(file.value, list)
    entries = list(file.items() if plain else file.at("questions").items())
    if len(entries) != len(questions):
        raise file.error(
            f"is not of these questions, which are {len(questions)}; its answers are {len(entries)}"
        )
    if plain:
        return [_text_or_count(entry) for entry in entries]
    found = []
    for entry, question in zip(entries, questions):
        given = [entry.at(key).text() for key in ("sample_token", "question")]
        if given != [question.sample_token, question.question]:
            raise entry.error(
                f"answers {given[1]!r} of {given[0]!r} where {question.question!r} of {question.sample_token!r} "
                "stands in the file of questions"
            )
        found.append(_text_or_count(entry.at("answer")))
    return found


def write_answers(questions: Sequence[Question], answers: Sequence[str], path: str | Path) -> None:
    """Write a model's answers as ``read_answers`` reads them, each with its question."""
    write_questions([replace(q, answer=a) for q, a in zip(questions, answers, strict=True)], path)


def paired(questions: Sequence[Question], index: LogIndex) -> list[tuple[Question, int]]:
    """Questions about key frames of a prepared log, each with its row; others are left out.

    Raises:
        InputError: none is about this log.
    """
    rows = rows_of((q.sample_token for q in questions), index)
    return [(q, rows[q.sample_token]) for q in questions if q.sample_token in rows]


def read_answer(text: str) -> str | None:
    """The one of ``ANSWERS`` that a model's text means: "Yes.", "three", "3 cars"; None where it means none, or two."""
    plain = " ".join(text.lower().split()).removesuffix(".")
    if plain in ANSWERS:
        return plain
    try:
        number = Number().value(text, {"nouns": _COUNTED})
    except Unreadable:
        return None
    return str(number) if str(number) in ANSWERS else None


def scores(questions: Sequence[Question], answers: Sequence[str]) -> list[Scores]:
    """Overall, then by type and by type and hop, in per cent.

    ``exact`` is the published figure: equal texts. ``read`` counts what ``read_answer`` reads, for models that write.
    ``frequent`` is what always the most frequent gold of a type and hop would give, without a look at any scene; since
    these very golds tell it, it is a high bar. ``unread`` are texts that mean none of the answers, or several.
    """
    rows: dict[str, list[tuple[Question, str]]] = {}
    for question, answer in zip(questions, answers, strict=True):
        by_hop = f"{question.template_type}_{question.num_hop}"
        for name in ("Overall", question.template_type, by_hop):
            rows.setdefault(name, []).append((question, answer))
    golds: dict[tuple[str, int], Counter[str]] = {}
    for question in questions:
        golds.setdefault((question.template_type, question.num_hop), Counter())[question.answer] += 1
    frequent = {kind: counts.most_common(1)[0][0] for kind, counts in golds.items()}
    return [
        Scores(
            name,
            len(rows[name]),
            {
                "exact": percent([q.answer == a for q, a in rows[name]]),
                "read": percent([q.answer == read_answer(a) for q, a in rows[name]]),
                "frequent": percent(
                    [q.answer == frequent[q.template_type, q.num_hop] for q, _ in rows[name]]
                ),
                "unread": percent([read_answer(a) is None for _, a in rows[name]]),
            },
        )
        for name in sorted(rows)  # capitals first
    ]


def _questions(path: str | Path) -> list[Entry]:
    file = Entry.of_file(path, _AGAIN, missing="give the file of questions")
    return list(file.at("questions").items())


def _question(entry: Entry) -> Question:
    kind = entry.at("template_type").text()
    if kind not in TYPES:
        raise entry.at("template_type").error(f"is {kind!r}, no type of question{suggest(kind, TYPES)}")
    return Question(
        sample_token=entry.at("sample_token").text(),
        question=entry.at("question").text(),
        answer=_text_or_count(entry.at("answer")),
        num_hop=entry.at("num_hop").count(),
        template_type=kind,
        split=entry.at("split").text() if entry.has("split") else None,
    )


def _text_or_count(entry: Entry) -> str:
    """Counts may stand as numbers; the published evaluation makes text of them, too."""
    return str(entry.count()) if isinstance(entry.value, int) else entry.text()
