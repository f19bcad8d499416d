"""Answers of a model to questions of a published benchmark, scored by what needs no other model.

    superflow score-answers --form nuscenes-qa --questions NuScenes_val_questions.json --answers answers.json
    superflow score-answers --form drivelm --questions test_eval.json --answers output.json --json scores.json

nuscenes-qa: a list of answers in the order of the questions, or the file of questions with the model's answers in it.
drivelm: what its challenge takes, a list of {id, answer}, alone or as the `results` of a submission; questions need
the challenge's tags.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from superflow.errors import InputError
from superflow.tools.command import command_parser, refuse_over, run_command

if TYPE_CHECKING:
    from superflow.agents.benchmarks.scores import Scores


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("score-answers", __doc__)
    parser.add_argument("--form", choices=FORMS, required=True, help="of the files")
    parser.add_argument(
        "--questions", type=Path, required=True, help="file of questions with their gold answers"
    )
    parser.add_argument("--answers", type=Path, required=True, help="file of a model's answers")
    parser.add_argument("--json", type=Path, help="write the figures into this file, too")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0 with a table, 2 when a file cannot be used."""
    args = parse_args(argv)
    return run_command("superflow score-answers", lambda: _score(args))


def _score(args: argparse.Namespace) -> int:
    from superflow.agents.benchmarks.scores import table
    from superflow.files.writes import write_json

    if args.questions.exists() and args.answers.exists() and args.questions.samefile(args.answers):
        raise InputError(
            f"--answers {args.answers}: is the file of questions itself, whose golds are all right; give the file with "
            "the model's answers"
        )
    if args.json is not None:
        refuse_over("--json", args.json, args.questions, args.answers)
    rows, notes = FORMS[args.form](args.questions, args.answers)
    if not rows:
        raise InputError(
            f"{args.questions}: has no questions to score; give the file of questions with answers"
        )
    print(table(rows))
    print(notes, file=sys.stderr)
    if args.json is not None:
        write_json(args.json, {"scores": [asdict(row) for row in rows], "notes": notes})
    return 0


def _nuscenes_qa(questions: Path, answers: Path) -> tuple[list[Scores], str]:
    from superflow.agents.benchmarks.nuscenes_qa import read_answers, read_questions, scores

    asked = read_questions(questions)
    return scores(asked, read_answers(answers, asked)), (
        'Per cent of questions. exact: the answer\'s text is the gold one, as published. read: it means it, as "Yes." '
        'or "three cars". frequent: always the most frequent gold of these questions\' type and hop, without a look '
        "at the scene. unread: it means none of the 30 answers, or several."
    )


def _drivelm(questions: Path, answers: Path) -> tuple[list[Scores], str]:
    from superflow.agents.benchmarks.drivelm import read_answers, read_frames
    from superflow.agents.benchmarks.drivelm_scores import scores

    frames = read_frames(questions, scored=True)
    return scores(frames, read_answers(answers, frames)) if frames else [], (
        'Per cent. exact: the challenge\'s way to read answers, over all questions. read: what they mean, as "A." or '
        "the text of option A; tags by camera. gated: exact over the asked share of questions, which are about objects "
        "that the answer to the frame's first question found; so the challenge has it. frequent: always the most "
        "frequent gold. The GPT score, and the half of match and the final score that need it, are not computed. "
        "Sentences are cut into words without the challenge's Java program: compare them among themselves."
    )


FORMS = {"nuscenes-qa": _nuscenes_qa, "drivelm": _drivelm}


if __name__ == "__main__":
    sys.exit(main())
