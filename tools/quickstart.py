"""The main job from end to end on a synthetic drive or on your log; tools/quickstart.sh installs and calls this.

    superflow quickstart                       a synthetic drive, into work_dirs/quickstart
    superflow quickstart --data ROOT           a log in nuScenes schema

Run again, it goes on where it stopped. It ends in one table and writes OUT/report.html with pictures.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import sys
from pathlib import Path

from superflow.together import usable_cores
from superflow.tools.command import add_leakage_argument, command_parser, count, run_command, seed
from superflow.tools.log_arguments import add_log_arguments, log_options, refuse_log_arguments

OUT = Path("work_dirs/quickstart")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("quickstart", __doc__)
    parser.add_argument("--data", type=Path, metavar="ROOT", help="folder with samples/, sweeps/ and v1.0-*/")
    add_log_arguments(parser)
    parser.add_argument("--out", type=Path, help="default: work_dirs/quickstart, or work_dirs/quickstart-LOG")
    parser.add_argument("--teacher", default="efficientnet_lite0", help="image teacher")
    parser.add_argument("--seeds", type=seed, nargs="+", default=[0], help="each trains and probes once")
    parser.add_argument(
        "--max-frames",
        type=count,
        default=120,
        help="training key frames of a large log, spread over its scenes",
    )
    parser.add_argument(
        "--jobs",
        type=count,
        default=min(4, usable_cores()),
        help="processes at a time (default: cores, at most 4)",
    )
    add_leakage_argument(parser)
    parser.add_argument("--cwd", type=Path, help=argparse.SUPPRESS)  # where the shell script was called
    args = parser.parse_args(argv)
    if args.data is None:
        refuse_log_arguments(parser, args)
    if args.card is not None and args.cwd is not None and args.card.endswith((".yaml", ".yml")):
        args.card = str(args.cwd / args.card)
    if args.data is not None and args.cwd is not None:
        args.data = args.cwd / args.data
    if args.out is None:
        args.out = OUT if args.data is None else OUT.with_name(f"{OUT.name}-{args.data.resolve().name}")
        if args.cwd not in (None, Path.cwd()):  # what is printed shall be found from there
            args.out = Path.cwd() / args.out
    elif args.cwd is not None:
        args.out = args.cwd / args.out
    return args


def main(argv: list[str] | None = None) -> int:
    """0 when the report is written, 2 when the input cannot be used."""
    args = parse_args(argv)
    # before torch is imported, here and in the child processes: spinning workers would stall each other
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr
    )
    return run_command("superflow quickstart", lambda: _quickstart(args))


def _quickstart(args: argparse.Namespace) -> int:
    from superflow.benchmark.plan_file import check_seeds
    from superflow.quickstart.report import summary_table
    from superflow.quickstart.run import QuickstartOptions, run_quickstart

    options = QuickstartOptions(
        out=args.out,
        data=args.data,
        reading=log_options(args),
        teacher=args.teacher,
        seeds=tuple(check_seeds(args.seeds, "--seeds")),
        max_frames=args.max_frames,
        jobs=args.jobs,
        allow_leakage=args.allow_leakage,
    )
    result = run_quickstart(options)
    print(summary_table(result))
    for what, path in (
        ("report", args.out / "report.html"),
        ("backbone", result.backbone),
        ("figures of every arm and seed", args.out / "runs"),
        ("prepared log", args.out / "prepared"),
    ):
        print(f"{what}: {path}")
    where = [] if args.out == OUT else ["--run", str(args.out)]
    print(f"ask it: {shlex.join([*_ask_command(args.cwd), 'how many cars are ahead?', *where])}")
    return 0


def _ask_command(caller: Path | None) -> list[str]:
    """The script beside the one that was called, as it is found from there; None: no script was."""
    if caller is None:
        return ["superflow", "ask"]
    script = Path("tools/ask.sh")  # scripts work in the root of the checkout
    return ["bash", str(script if caller == Path.cwd() else script.absolute())]


if __name__ == "__main__":
    sys.exit(main())
