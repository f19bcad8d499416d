"""Cases of our own families as NuScenes-QA's questions.

Its form has no place for an answer that nobody knows, for counts above ten or for limits, so only cases that it can say
are written, all of one range; `INFO` tells it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ...errors import InputError
from ..bootcamps.bootcamp import COMMON, Identity
from ..bootcamps.export import mixed_cases
from ..bootcamps.registry import families, family_of
from ..scene import SceneRecord
from .nuscenes_qa import ANSWERS, TYPES, Question

HOPS = (0, 1)  # of the published questions
TRIES = 20  # cases for a question
LIMITS = {name: values[0] for name, values in COMMON.items()}
INFO = {"made_by": "superflow make-questions", **LIMITS}
_SAID_AS = {"sitting": "not standing"}  # of what one who stands not does, it knows no more


def made_questions(
    scenes: Sequence[SceneRecord],
    count: int,
    *,
    frame_of: Mapping[str, str] | None = None,
    names: Sequence[str] | None = None,
    split: str | None = None,
    seed: int = 0,
) -> Iterator[Question]:
    """Questions about scenes, types in turn; fewer than ``count`` where most cases have no answer in this form.

    Args:
        frame_of: token of a scene -> the name of its frame in the file, where it is another one.
        names: of ``TYPES``; None for all of which the scenes allow a question.

    Raises:
        InputError: as of `bootcamps.export.mixed_cases`, which knows only the ``TYPES`` here; no case had an answer.
    """
    made = 0
    for case in mixed_cases(scenes, TRIES * count, names=names, levels=_levels(), seed=seed):
        question = question_of(case, frame_of or {}, split)
        if question is not None:
            made += 1
            yield question
        if made == count:
            return
    if not made:
        raise InputError(
            f"none of {TRIES * count} questions about these scenes has an answer in NuScenes-QA's form; "
            "write another form, or give scenes whose objects are seen and known"
        )


def question_of(case: Identity, frame_of: Mapping[str, str], split: str | None = None) -> Question | None:
    """A case of one of the ``TYPES`` as a question; None where the gold is none of the answers."""
    family = family_of(case)
    gold = family.reply.text(case["gold"])
    answer = _SAID_AS.get(gold, gold)
    if answer not in ANSWERS:
        return None
    return Question(
        sample_token=frame_of.get(case["scene"], case["scene"]),
        question=family.sentence(case["asked"]),
        answer=answer,
        num_hop=case["asked"]["hops"],
        template_type=case["family"],
        split=split,
    )


def _levels() -> dict[str, list[dict[str, Any]]]:
    """Of each type the difficulties that its questions have; what is compared is a status, never a number."""
    return {name: [each for each in families()[name].difficulty_grid() if _is_known(each)] for name in TYPES}


def _is_known(level: Mapping[str, Any]) -> bool:
    limits = {name: level[name] for name in LIMITS}
    return limits == LIMITS and level["hops"] in HOPS and level.get("of", "status") == "status"
