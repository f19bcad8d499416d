"""Questions about driving scenes, each with what its verifier needs.

    superflow make-questions --index prepared/log --frames train --count 10000 --out questions.jsonl
    superflow make-questions --made 500 --count 20000 --families exist count gap --out questions.parquet --with-scene

A .jsonl file has a line `{data_source, prompt, ground_truth}` a question, a .parquet file verl's rows. An answer's
score is `reward_function` (trl) or `compute_score` (verl) of `superflow.agents.bootcamps.export`. A .json file has the
form of NuScenes-QA, with those of its five types that have one of its 30 answers; `superflow score-answers` scores it.
--with-scene puts the scene's objects as text before each question, for language models without eyes.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from superflow.errors import InputError
from superflow.files.access import check_place
from superflow.tools.command import command_parser, count, refuse_over, run_command, seed
from superflow.tools.progress_bar import progress_bar

if TYPE_CHECKING:
    from superflow.agents.bootcamps.bootcamp import Identity
    from superflow.agents.scene import SceneRecord


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_parser("make-questions", __doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--index", type=Path, help="folder that `superflow prepare` wrote")
    source.add_argument(
        "--made", type=count, metavar="N", help="ask about N scenes of thrown objects instead"
    )
    parser.add_argument("--frames", nargs="+", help="splits, scenes or scene[a:b] (default: every key frame)")
    parser.add_argument(
        "--predictions", type=Path, help="checkpoint or run of a fine-tuned network, to ask it instead"
    )
    parser.add_argument("--out", type=Path, required=True, help="a .jsonl, .parquet or .json file")
    parser.add_argument("--count", type=count, default=1000, help="questions")
    parser.add_argument("--families", nargs="+", help="default: all that these scenes allow a question of")
    parser.add_argument(
        "--split", help="what rows of .parquet and .json call themselves; chooses no scans (default: train)"
    )
    parser.add_argument("--with-scene", action="store_true", help="the scene as text before each question")
    parser.add_argument("--seed", type=seed, default=0, help="of the questions, and of what --made throws")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    return run_command("superflow make-questions", lambda: _make(args))


def _make(args: argparse.Namespace) -> int:
    from superflow.agents.benchmarks.nuscenes_qa import TYPES
    from superflow.agents.bootcamps.registry import families

    if args.out.suffix not in WRITERS:
        raise InputError(f"--out {args.out}: is none of {', '.join(WRITERS)}; choose one of them")
    if args.made is not None and (args.frames or args.predictions):
        raise InputError("--made asks about no log; leave --frames and --predictions out, or give --index")
    if args.split is not None and args.out.suffix == ".jsonl":
        raise InputError(
            "--split names rows of .parquet and .json, and a .jsonl has no place for it; leave it out"
        )
    if args.split is not None and args.index is not None and args.frames is None:
        print(
            f"--split {args.split} is a name alone: the questions are about all key frames; --frames chooses",
            file=sys.stderr,
        )
    if args.index is not None:
        refuse_over("--out", args.out, args.index / "index.json")
    check_place(args.out.parent)
    scenes = _scenes(args)
    asked = list(WRITERS[args.out.suffix](args, scenes))
    twice = len(asked) - len(set(asked))
    told = f", {twice} of them a second time" if twice else ""
    print(f"{args.out}: {len(asked)} questions about {len(scenes)} scenes{told}")
    if args.made is not None:
        print(
            f"another file of --seed {args.seed} asks about the same thrown scenes; hold out with another seed",
            file=sys.stderr,
        )
    asked_of = Counter(question.family for question in asked)
    known = TYPES if args.out.suffix == ".json" else tuple(families())
    missing = [name for name in args.families or known if not asked_of[name]]
    if missing:
        print(
            f"none of {', '.join(missing)}: the scenes allow none, or --count ended before", file=sys.stderr
        )
    return 0


class Asked(NamedTuple):
    """A question that was written: of a type, about a scan, in these words."""

    family: str
    scene: str
    text: str


def _write_cases(args: argparse.Namespace, scenes: list[SceneRecord]) -> list[Asked]:
    from superflow.agents.bootcamps.export import (
        json_row,
        mixed_cases,
        prompt_of,
        verl_row,
        write_jsonl,
        write_parquet,
    )
    from superflow.agents.scene_text import scene_text

    scene_of = {scene.token: scene for scene in scenes}
    written: list[Asked] = []
    cases = _noted(mixed_cases(scenes, args.count, names=args.families, seed=args.seed), written)
    asked = ((case, prompt_of(case, scene_of, scene_text if args.with_scene else None)) for case in cases)
    if args.out.suffix == ".jsonl":
        write_jsonl((json_row(case, prompt) for case, prompt in asked), args.out)
    else:
        rows = (
            verl_row(case, prompt, index=i, split=args.split or SPLIT)
            for i, (case, prompt) in enumerate(asked)
        )
        write_parquet(rows, args.out)
    return written


def _write_nuscenes_qa(args: argparse.Namespace, scenes: list[SceneRecord]) -> list[Asked]:
    from superflow.agents.benchmarks.frames import frame_names
    from superflow.agents.benchmarks.nuscenes_qa import write_questions
    from superflow.agents.benchmarks.nuscenes_qa_made import INFO, made_questions
    from superflow.datasets.index import LogIndex

    if args.with_scene:
        raise InputError(f"--out {args.out}: this form has no place for scenes; leave --with-scene out")
    frame_of = {} if args.index is None else frame_names(LogIndex.open(args.index))
    questions = list(
        made_questions(
            scenes,
            args.count,
            frame_of=frame_of,
            names=args.families,
            split=args.split or SPLIT,
            seed=args.seed,
        )
    )
    write_questions(questions, args.out, INFO)
    return [Asked(each.template_type, each.sample_token, each.question) for each in questions]


SPLIT = "train"
WRITERS = {".jsonl": _write_cases, ".parquet": _write_cases, ".json": _write_nuscenes_qa}


def _noted(cases: Iterator[Identity], written: list[Asked]) -> Iterator[Identity]:
    """The same cases; each is noted on the way."""
    from superflow.agents.bootcamps.registry import family_of

    for case in cases:
        written.append(Asked(case["family"], case["scene"], family_of(case).prompt_func(case)))
        yield case


def _scenes(args: argparse.Namespace) -> list[SceneRecord]:
    if args.made is not None:
        import numpy as np

        from superflow.agents.bootcamps.made_scenes import made_scenes

        # scenes of another seed are others, and have other tokens
        return list(made_scenes(np.random.default_rng(args.seed), args.made, name=f"made-{args.seed}"))
    from superflow.agents.find import scenes_of
    from superflow.datasets.index import LogIndex

    index = LogIndex.open(args.index)
    with progress_bar(counts=True) as show:
        found = scenes_of(index, index.rows(args.frames), checkpoint=args.predictions, progress=show)
        return list(found)


if __name__ == "__main__":
    sys.exit(main())
