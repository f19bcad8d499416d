"""Ask about a scan: a small language model that looks through a pretrained backbone answers.

    superflow ask "how many cars are ahead?"                            a scan of the quickstart's log
    superflow ask "is there a bus behind me?" --frame scene-0009[4:5]
    superflow ask "how many trucks are there?" --run work_dirs/quickstart-mylog
    superflow ask "Which object is the nearest?" --objects              SmolLM2 reads the scene's objects as text

The first question trains the model on the log's training scans, some minutes on two cores, and keeps it in RUN/ask; its
accuracy on the held-out scans stands below each answer. Held out is what the quickstart measures on: the split `val`,
of a log without splits the last quarter of its scenes, or of its one scene. A model that is kept answers whatever
--backbone, --steps, --questions and --seed say, and about no other log: delete its folder to train anew. It knows "is
there ..." and "how many ...", in the words of `superflow find`, up to 30 m from the vehicle, and nothing of motion,
which one scan does not show.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from superflow.errors import InputError, MissingFileError, require
from superflow.tools.command import command_parser, count, run_command, seed
from superflow.tools.progress_bar import progress_bar

if TYPE_CHECKING:
    from superflow.agents.vlm.ask import Training
    from superflow.datasets.index import LogIndex

STEPS, QUESTIONS, SEED = 1000, 1500, 0


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("ask", __doc__)
    parser.add_argument("question", help='as in "how many cars are ahead?"')
    parser.add_argument(
        "--run",
        type=Path,
        default=Path("work_dirs/quickstart"),
        help="folder of `superflow quickstart`",
    )
    parser.add_argument("--index", type=Path, help="prepared log (default: RUN/prepared)")
    parser.add_argument("--backbone", help="file or name of a backbone (default: RUN/backbone.safetensors)")
    parser.add_argument("--model", type=Path, help="folder of the trained model (default: RUN/ask)")
    parser.add_argument(
        "--frame", help="scan: scene[a:b], a split's or scene's first (default: the first that is held out)"
    )
    parser.add_argument("--steps", type=count, help=f"of the training on questions (default: {STEPS})")
    parser.add_argument("--questions", type=count, help=f"of each kind to train on (default: {QUESTIONS})")
    parser.add_argument("--seed", type=seed, help=f"of the training (default: {SEED})")
    parser.add_argument(
        "--objects",
        action="store_true",
        help="no training: SmolLM2 reads the labelled objects as text, and may be asked anything",
    )
    parser.add_argument("--cwd", type=Path, help=argparse.SUPPRESS)  # where the shell script was called
    args = parser.parse_args(argv)
    if args.cwd is not None:
        for name in ("run", "index", "model", "backbone"):
            given = getattr(args, name)
            if given not in (None, parser.get_default(name)) and (args.cwd / given).exists():
                setattr(args, name, type(given)(args.cwd / given))  # a backbone may be a name
    return args


def main(argv: list[str] | None = None) -> int:
    """0 with an answer, 2 when the input cannot be used."""
    args = parse_args(argv)
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is imported
    return run_command("superflow ask", lambda: _ask(args))


def _ask(args: argparse.Namespace) -> int:
    trained = [
        name
        for name in ("model", "backbone", "steps", "questions", "seed")
        if getattr(args, name) is not None
    ]
    if args.objects and trained:
        raise InputError(f"--objects asks a model that is not trained here; leave --{trained[0]} out")
    require("transformers", "agents").utils.logging.disable_progress_bar()
    index = _index(args)
    row = int(index.rows(args.frame or _first_choice(index, args.objects))[0])
    where = f"{index.scene(row)}, scan {index.tokens([row])[0]}"
    if args.objects:
        _ask_objects(index, row, where, args.question)
    else:
        _ask_scan(args, index, row, where)
    return 0


def _index(args: argparse.Namespace) -> LogIndex:
    from superflow.datasets.index import LogIndex

    prepared = args.run / "prepared"
    if args.index is None and not prepared.is_dir():
        raise MissingFileError(
            f"{args.run}: the quickstart has not run into this folder; run it first, as in `superflow quickstart`, or "
            "give the folder of its run with --run, or a prepared log with --index and weights with --backbone"
        )
    return LogIndex.open(args.index or prepared)


def _first_choice(index: LogIndex, objects: bool) -> list[str] | None:
    """Terms of the scans that are held out; of all where nothing is trained and too few are there."""
    from superflow.quickstart.frames import split_scenes

    try:
        return split_scenes(index)[1]
    except InputError:
        if not objects:
            raise
        return None


def _ask_objects(index: LogIndex, row: int, where: str, question: str) -> None:
    from superflow.agents.scene_log import scene_of
    from superflow.agents.vlm.object_tape import ask_tape
    from superflow.agents.vlm.pretrained import smollm2

    scene = scene_of(index, row, points=False)
    print(f"{where}: {question}")
    print(f"answer: {ask_tape(smollm2(), scene, question)}")
    print(
        "SmolLM2-135M read the labelled objects; it was not trained on scenes, and errs often",
        file=sys.stderr,
    )


def _ask_scan(args: argparse.Namespace, index: LogIndex, row: int, where: str) -> None:
    from superflow.agents.vlm import load_vlm
    from superflow.agents.vlm.ask import REPORT, answer_on, kept_report, train_on, wording
    from superflow.benchmark.rows import held
    from superflow.hub.backbone import load
    from superflow.quickstart.frames import split_scenes

    question = wording(args.question)  # refuses before the work
    folder = args.model or args.run / "ask"
    given = {name: getattr(args, name) for name in ("steps", "questions", "seed")}
    given = {name: value for name, value in given.items() if value is not None}
    if not (folder / REPORT).is_file():
        with held(folder.with_name(f"{folder.name}.lock")):  # another process may be training there
            if not (folder / REPORT).is_file():
                backbone = load(args.backbone or args.run / "backbone.safetensors")
                with progress_bar() as show:
                    frames = split_scenes(index)
                    train_on(index, backbone, folder, _training(given), frames=frames, progress=show)
    if args.backbone is not None:
        given["backbone"] = load(args.backbone).card.weights_sha256
    report = kept_report(folder, index, given)
    model, processor = load_vlm(folder)
    said, known = answer_on(model, processor, index, row, args.question)
    print(f"{where}: {question}")
    print(f"answer: {said}")
    if known:
        print(f"the log's labels say: {known}")
    if index.tokens([row])[0] in report["scans"]["train"]:
        print(
            "This scan is one of those that the model was trained on: it may know it by heart.",
            file=sys.stderr,
        )
    print(_limits(report), file=sys.stderr)


def _training(given: dict[str, int]) -> Training:
    """What was given on the command line, else the defaults."""
    from superflow.agents.vlm.ask import Training
    from superflow.agents.vlm.sft import Recipe

    chosen = {"steps": STEPS, "questions": QUESTIONS, "seed": SEED, **given}
    steps = chosen["steps"]
    return Training(
        questions=chosen["questions"],
        alignment=Recipe(steps=max(1, round(0.6 * steps)), learning_rate=3e-3),
        recipe=Recipe(steps=steps, learning_rate=2e-3),
        seed=chosen["seed"],
    )


def _limits(report: dict) -> str:
    return (
        f"Of {report['questions']['val']} questions on {len(report['scans']['val'])} held-out scans this model answers "
        f"{report['right']:g} % rightly, {report['right_without_scan']:g} % without looking at them; always the most "
        f"frequent answer is {report['right_most_frequent']:g} %. It was trained on {len(report['scans']['train'])} "
        f"scans of this log ({report['log']}) alone."
    )


if __name__ == "__main__":
    sys.exit(main())
