"""Compare ways of pretraining by the same probe: a plan's arms, each with several seeds, on one log.

    superflow benchmark pandaset --data LOG --out work_dirs/pandaset --seeds 0 1 2 --jobs 2
    superflow benchmark pandaset --prepared work_dirs/prepared --out work_dirs/pandaset --arms random SuperFlow++

Each arm and seed is a process of one thread and writes OUT/ARM/seed_N/benchmark.json; run again, finished ones are
kept and stopped ones resume. The table goes to OUT/table.md and as a picture to OUT/table.png, every figure to
OUT/table.json.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from superflow.files.access import check_place
from superflow.files.writes import write_atomically
from superflow.tools.command import run_command
from superflow.tools.log_arguments import add_log_arguments, log_options, refuse_log_arguments

if TYPE_CHECKING:
    from superflow.benchmark.plan import Plan

log = logging.getLogger("superflow.benchmark")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="superflow benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "plan",
        type=Path,
        help="a YAML plan, or the name of a shipped one (pandaset, pandaset_viewpoint, quickstart)",
    )
    data = parser.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", type=Path, help="a log in nuScenes schema; prepared into OUT/prepared")
    data.add_argument("--prepared", type=Path, help="folder that an earlier preparation filled")
    add_log_arguments(parser)
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", metavar="NAME", help="only these arms")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    parser.add_argument(
        "--teacher", default="efficientnet_lite0", help="image teacher (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    if args.data is None:
        refuse_log_arguments(parser, args)
    return args


def main(argv: list[str] | None = None) -> int:
    """0 when every arm has its figures, 2 when the input cannot be used."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    args = parse_args(argv)
    # before torch is imported, here and in the child processes: spinning workers would stall each other
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    return run_command("superflow benchmark", lambda: _benchmark(args))


def _benchmark(args: argparse.Namespace) -> int:
    from superflow.benchmark.arms import LOOKUP, lookup_control, run_arms
    from superflow.benchmark.chart import draw_chart
    from superflow.benchmark.plan import load_plan
    from superflow.benchmark.table import markdown, read_results, table

    plan = replace(load_plan(args.plan), teacher=args.teacher)
    arms = list(plan.arms) if args.arms is None else [plan.arm(name) for name in args.arms]
    check_place(args.out)
    prepared = args.prepared or _prepare(plan, args)
    tasks = [(plan, arm, seed, prepared, args.out) for seed in args.seeds for arm in arms]
    try:
        for number, record in enumerate(run_arms(tasks, jobs=args.jobs), start=1):
            log.info("%d of %d: %s, seed %d is done", number, len(tasks), record["arm"], record["seed"])
    finally:  # a run that failed does not take the others' figures with it
        control = lookup_control(plan, prepared=prepared, out=args.out)
        rows = table(plan, [*([control] if control else []), *read_results(args.out)])
        with write_atomically(args.out / "table.json", "w") as file:
            json.dump(rows, file, indent=1)
        with write_atomically(args.out / "table.md", "w") as file:
            file.write(markdown(rows) + "\n")
        print(markdown(rows))
        draw_chart(rows, args.out / "table.png", leave_out=[LOOKUP])
    return 0


def _prepare(plan: Plan, args: argparse.Namespace) -> Path:
    from superflow.benchmark.arms import labelled_frames
    from superflow.benchmark.preparation import prepare_features, prepare_index, prepare_superpixels

    prepared = args.out / "prepared"
    index = prepare_index(args.data, prepared, **log_options(args))
    labelled_frames(plan, index)  # refuses before the work
    features = prepare_features(index, plan.train, teacher=args.teacher, threads=args.jobs)
    for provider, options in plan.superpixels.items():
        shared = {"features": str(features)} if provider == "clusters" else {}
        prepare_superpixels(index, plan.train, provider=provider, workers=args.jobs, **shared, **options)
    return prepared


if __name__ == "__main__":
    sys.exit(main())
