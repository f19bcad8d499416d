"""Arguments of every command that indexes a log in nuScenes schema: how its tables and images are to be read."""

from __future__ import annotations

import argparse
from typing import Any

NAMES = ("version", "card", "rescale_intrinsics", "complete_scenes", "key_frames_only", "posed_only")


def add_log_arguments(parser: argparse.ArgumentParser) -> None:
    """Add one option for each of ``NAMES``."""
    parser.add_argument(
        "--version",
        help="folder of the tables (nuScenes schema); default: the only one, else v1.0-trainval, else v1.0-mini",
    )
    parser.add_argument("--card", help="dataset card: a name or a .yaml file; default: recognised")
    parser.add_argument(
        "--rescale-intrinsics",
        action="store_true",
        help="take image sizes from the files and scale the intrinsics",
    )
    parser.add_argument(
        "--complete-scenes", action="store_true", help="leave out scenes of which files are missing"
    )
    parser.add_argument(
        "--key-frames-only", action="store_true", help="leave out the sweeps between key frames"
    )
    parser.add_argument("--posed-only", action="store_true", help="leave out scans of which no pose is known")


def log_options(args: argparse.Namespace) -> dict[str, Any]:
    """What was given, as options of `datasets.nuscenes.write_index`.

    Raises:
        InputError: there is no such card, or it lacks something.
    """
    given = {name: getattr(args, name) for name in NAMES if getattr(args, name)}
    if "card" in given:
        from superflow.datasets.card import load_card

        given["card"] = load_card(given["card"])
    return given


def refuse_log_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """End the command with one sentence where an option says how to read a log and no log is given."""
    for name in NAMES:
        if getattr(args, name):
            parser.error(f"--{name.replace('_', '-')} says how a log is read; give the log with --data ROOT")
