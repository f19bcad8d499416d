"""The ``superflow`` command: each subcommand is a file of this folder, imported only when it is called."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import NoReturn

from superflow.errors import suggest
from superflow.tools.command import end_command

# subcommand -> (module of superflow.tools, one line)
COMMANDS = {
    "prepare": ("prepare", "index a driving log, cut its images into superpixels, cache teacher features"),
    "train": ("train", "pretrain, probe or fine-tune what a config describes"),
    "test": ("test", "evaluate a checkpoint on a config's test set"),
    "export": ("export", "write a checkpoint's backbone as one file that superflow.load reads"),
    "visualize": ("visualize", "draw scans, features, superpixels and predictions as PNG"),
    "find": (
        "find",
        'the scans of a log in which something is true: "a pedestrian within 15 m of a parked truck"',
    ),
    "ask": ("ask", 'a language model answers about a scan: "how many cars are ahead?"'),
    "serve": ("serve", "a page and an OpenAI-like endpoint that answer about scans"),
    "serve-check": ("serve_check", "both servers of serve under load, and killed: what came of each request"),
    "make-questions": (
        "make_questions",
        "questions about scenes, with verifiers, to train and examine language models",
    ),
    "score-answers": ("score_answers", "figures of a model's answers to NuScenes-QA or DriveLM"),
    "compare-poses": ("compare_poses", "how far estimated poses of a log drift from its own"),
    "make-drive": ("make_drive", "make a synthetic drive in nuScenes schema"),
    "benchmark": (
        "benchmark",
        "compare what a plan names: ways of pretraining, backbones, answers about scans",
    ),
    "evidence": ("evidence", "write a page of figures from the tables of benchmarks of places"),
    "benchmark-speed": (
        "benchmark_speed",
        "time each part against its rival, beside what the machine can do",
    ),
    "quickstart": ("quickstart", "everything once, on a made or a given log, with a report"),
}


def main(argv: list[str] | None = None) -> int:
    """Run ``superflow COMMAND ARGUMENTS``; 2 when there is no such command."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return 0
    if argv[0] == "--version":
        from superflow import __version__

        print(__version__)
        return 0
    if argv[0] not in COMMANDS:
        near = suggest(argv[0], COMMANDS, words="the nearest is")
        print(f"superflow: there is no command {argv[0]!r}{near}\n\n{usage()}", file=sys.stderr)
        return 2
    return import_module(f"superflow.tools.{COMMANDS[argv[0]][0]}").main(argv[1:])


def usage() -> str:
    """The commands, one a line."""
    lines = [f"  {name:<16}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "Unlabelled driving logs in, a pretrained LiDAR backbone out.",
            "",
            "superflow COMMAND [ARGUMENTS]      superflow COMMAND --help      superflow --version",
            "",
            *lines,
        ]
    )


def console() -> NoReturn:
    """What is installed as ``superflow``."""
    end_command(main())


if __name__ == "__main__":
    console()
