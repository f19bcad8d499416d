"""Where the data of a set lie, and what is said beside it of logs of one's own: folders of files and ROS bags."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from superflow.errors import InputError
from superflow.files.writes import write_text


def add_own_arguments(log: argparse.ArgumentParser, name: str) -> None:
    """Add ``--root`` and ``--out``, and those of the door ``name``."""
    log.add_argument("--root", type=Path, required=name != "ros", help="folder of the data")
    log.add_argument("--out", type=Path, required=name != "folder", help="folder of the index")
    if name == "folder":
        log.add_argument(
            "--layout", type=Path, help="what says how the files are read; default: ROOT/folder.yaml"
        )
        log.add_argument(
            "--guess", action="store_true", help="only write a first draft of that file, to be completed"
        )
    if name == "ros":
        log.add_argument(
            "--bag", type=Path, nargs="+", metavar="BAG", help="only these; default: all in --root"
        )
        log.add_argument(
            "--topics", nargs="+", metavar="TOPIC", help="read only these; default: all that can be"
        )
        log.add_argument(
            "--typestore", metavar="NAME", help="release of ROS 2 whose messages these are, as ros2_humble"
        )


def own_options(args: argparse.Namespace) -> dict[str, Any]:
    """What was given, as options of `datasets.sets.prepare`; ``args.root`` is set where only bags were named.

    Raises:
        InputError: something is missing.
    """
    if args.out is None:
        raise InputError("--out is missing; give the folder of the index, or --guess to draft folder.yaml")
    if args.kind == "folder":
        return {"layout": args.layout}
    if args.kind != "ros":
        return {}
    given: list[Path] = args.bag or []
    if args.root is None and not given:
        raise InputError("--bag or --root is missing; give bags, or a folder that holds some")
    if args.root is None:
        args.root = Path(os.path.commonpath([bag.absolute().parent for bag in given]))
    for bag in given:
        if not bag.exists() or args.root.absolute() not in bag.absolute().parents:
            raise InputError(f"--bag {bag}: there is no such bag below {args.root}; check the path")
    bags = [bag.absolute().relative_to(args.root.absolute()).as_posix() for bag in given]
    return {"bags": bags, "topics": args.topics, "typestore": args.typestore}


def guess(root: Path, layout: Path | None) -> int:
    """Write a draft of ``folder.yaml`` and print it.

    Raises:
        InputError: there is one, or no files of points.
    """
    from superflow.datasets.own_logs.folder_guess import draft_layout
    from superflow.datasets.own_logs.folder_layout import NAME

    path = layout or root / NAME
    if os.path.lexists(path):
        raise InputError(f"{path}: is there already, and is left alone; move it away to draft it anew")
    text = draft_layout(root)
    write_text(path, text)
    print(f"{text}\n{path}: complete this draft, then run again without --guess")
    return 0
