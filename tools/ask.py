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
    from superflow.datasets.index import LogIndex


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("ask", __doc__)
    parser.add_argument("question", help='as in "how many cars are ahead?"')
    parser.add_argument(
        "--run",
        type=Path,
        default=Path("work_dirs/quickstart"),
        help="folder of `superflow quickstart` (default: %(default)s)",
    )
    parser.add_argument("--index", type=Path, help="prepared log (default: RUN/prepared)")
    parser.add_argument("--backbone", help="file or name of a backbone (default: RUN/backbone.safetensors)")
    parser.add_argument("--model", type=Path, help="folder of the trained model (default: RUN/ask)")
    parser.add_argument(
        "--frame", help="scan: scene[a:b], a split's or scene's first (default: the first that is held out)"
    )
    parser.add_argument(
        "--steps", type=count, default=1000, help="of the training on questions (default: %(default)s)"
    )
    parser.add_argument(
        "--questions", type=count, default=1500, help="of each kind to train on (default: %(default)s)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the training (default: %(default)s)")
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
    from superflow.agents.vlm.ask import REPORT, Training, answer_on, kept_report, train_on, wording
    from superflow.agents.vlm.sft import Recipe
    from superflow.hub.backbone import load
    from superflow.quickstart.frames import split_scenes

    question = wording(args.question)  # refuses before the work
    folder = args.model or args.run / "ask"
    if not (folder / REPORT).is_file():
        backbone = load(args.backbone or args.run / "backbone.safetensors")
        training = Training(
            questions=args.questions,
            alignment=Recipe(steps=max(1, round(0.6 * args.steps)), learning_rate=3e-3),
            recipe=Recipe(steps=args.steps, learning_rate=2e-3),
            seed=args.seed,
        )
        with progress_bar() as show:
            train_on(index, backbone, folder, training, frames=split_scenes(index), progress=show)
    report = kept_report(folder, index)
    model, processor = load_vlm(folder)
    said, known = answer_on(model, processor, index, row, args.question)
    print(f"{where}: {question}")
    print(f"answer: {said}")
    if known:
        print(f"the log's labels say: {known}")
    print(_limits(report), file=sys.stderr)


def _limits(report: dict) -> str:
    return (
        f"Of {report['questions']['val']} questions on {len(report['scans']['val'])} held-out scans this model answers "
        f"{report['right']:g} % rightly, {report['right_without_scan']:g} % without looking at them; always the most "
        f"frequent answer is {report['right_most_frequent']:g} %. It was trained on {len(report['scans']['train'])} "
        f"scans of this log ({report['log']}) alone."
    )


if __name__ == "__main__":
    sys.exit(main())
