"""Time each part against its rival, in turn, beside what this machine can do.

    superflow benchmark-speed                                 everything: some ten minutes
    superflow benchmark-speed networks                        MinkUNet-18, 20k and 60k voxels, our back end and spconv
    superflow benchmark-speed networks --loaded --threads 2   again while other processes keep all cores busy
    superflow benchmark-speed threads --voxels 20000          the same step by one thread and by several, wall clock
    superflow benchmark-speed launches --voxels 20000         kernels that a device starts for MinkUNet-34, counted
    superflow benchmark-speed layers                          a layer of 32 channels beside products of the same pairs
    superflow benchmark-speed parts                           the parts of a pretraining step
    superflow benchmark-speed step --memory                   a SuperFlow++ step: the published order of work and ours
    superflow benchmark-speed sample                          a training sample of the GPU config, from files to batch
    superflow benchmark-speed scans                           features of a scan of 100,000 points
    superflow benchmark-speed votes superpixels               votes beside k-d trees; superpixels, their file
    superflow benchmark-speed growth --plot growth.png        voxels, maps, votes, regions, index, step from 10^4 up
    superflow benchmark-speed growth --keep growth.csv --budget 1200   larger sizes, going on from what the file holds
    superflow benchmark-speed reading                         index and scans a second, memory over 10,000 scans
    superflow benchmark-speed tables --scenes 40              the index of made tables in nuScenes' proportions
    superflow benchmark-speed networks --data work_dirs/prepared   clouds of a prepared log instead of a made street

What is compared takes turns (A B A B) in one process, with the same weights and inputs, and the ceilings of the machine
(matrix product, memory copy) are measured between. Ratios are taken round by round, so that a machine whose speed
drifts does not decide. Seconds are CPU time of the thread, of the process with --threads 2 and more. Memory is that of
a fresh process each.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # read when torch is imported

import torch

from superflow.benchmark.speed.growth import draw_growth
from superflow.benchmark.speed.options import SIZES, Options, Table
from superflow.benchmark.speed.report import MEASURES, machine, markdown, measure, record
from superflow.files.access import check_place
from superflow.files.writes import write_json, write_text
from superflow.lidar.minkunet import MINKUNET
from superflow.option_values import Range
from superflow.tools.command import command_parser, count, number_in, run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("benchmark-speed", __doc__)
    known = ", ".join(MEASURES)
    parser.add_argument("measures", nargs="*", metavar="MEASURE", help=f"of {known} (default: all)")
    parser.add_argument(
        "--voxels", type=count, nargs="+", default=[20_000, 60_000], help="of networks, launches, layers"
    )
    parser.add_argument(
        "--size",
        type=number_in(Range(0, above=True)),
        help="side of a voxel [m] (default: 0.1; with tiny students 0.25)",
    )
    parser.add_argument(
        "--depth",
        choices=[str(depth) for depth in MINKUNET],
        help="of the network (default: 18 in networks, 34 in launches, tiny in parts and step, tiny and 34 in scans)",
    )
    parser.add_argument("--rounds", type=count, default=5, help="A B rounds that count")
    parser.add_argument(
        "--threads",
        type=count,
        default=1,
        help="threads of PyTorch (default: 1; in threads as many as cores)",
    )
    parser.add_argument("--data", type=Path, help="folder of a prepared log; by default a street is made")
    parser.add_argument(
        "--loaded", action="store_true", help="networks and threads again beside one busy process a core"
    )
    parser.add_argument("--memory", action="store_true", help="peak memory too, in a fresh process each")
    parser.add_argument("--clips", type=count, default=4, help="of a step")
    parser.add_argument("--points", type=count, default=8000, help="of a cloud in parts and step")
    parser.add_argument("--sizes", type=count, nargs="+", default=list(SIZES), help="of growth")
    parser.add_argument(
        "--budget",
        type=count,
        default=300,
        metavar="SECONDS",
        help="CPU time of growth; sizes that would go over are left out and named",
    )
    parser.add_argument(
        "--keep", type=Path, metavar="CSV", help="figures of growth: added one by one, not measured again"
    )
    parser.add_argument("--scans", type=count, default=10_000, help="of the log of reading")
    parser.add_argument("--scenes", type=count, default=20, help="of the tables (default: 20; nuScenes: 850)")
    parser.add_argument("--json", type=Path, help="also write every figure there")
    parser.add_argument("--markdown", type=Path, help="also write the tables there")
    parser.add_argument("--plot", type=Path, help="PNG or SVG of the growth")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.measures if name not in MEASURES]:
        parser.error(f"measure {unknown[0]!r} is unknown; choose from {known}")
    args.measures = args.measures or list(MEASURES)
    if args.plot and "growth" not in args.measures:
        parser.error("--plot draws the growth; add the measure growth")
    if args.keep and "growth" not in args.measures:
        parser.error("--keep is of the growth; add the measure growth")
    return args


def main(argv: list[str] | None = None) -> int:
    """Print the tables; 0, or 2 when the input cannot be used."""
    args = parse_args(argv)
    torch.set_num_threads(args.threads)
    return run_command("superflow benchmark-speed", lambda: _measure(args))


def _measure(args: argparse.Namespace) -> int:
    for path in (args.json, args.markdown, args.plot, args.keep):
        if path:
            check_place(path.parent)
    options = Options(
        voxels=args.voxels,
        size_m=args.size,
        depth=int(args.depth) if args.depth and args.depth.isdecimal() else args.depth,
        rounds=args.rounds,
        data=args.data,
        loaded=args.loaded,
        memory=args.memory,
        clips=args.clips,
        points=args.points,
        sizes=args.sizes,
        budget_s=args.budget,
        keep=args.keep,
        scans=args.scans,
        scenes=args.scenes,
        threads=args.threads,
        clock="thread" if args.threads == 1 else "process",
    )
    made_on = machine()
    print(", ".join(f"{key} {value}" for key, value in made_on.items()), end="\n\n")
    tables: list[tuple[str, Table]] = []
    for name, table in measure(args.measures, options):
        tables.append((name, table))
        print(table.markdown(), flush=True)
    if args.json:
        write_json(args.json, record(made_on, options, tables))
    if args.markdown:
        write_text(args.markdown, markdown(made_on, tables))
    for name, table in tables:
        if name == "growth" and args.plot:
            draw_growth(table.record, args.plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
