"""How far the poses of one index drift from those of another: of the same log, with its own poses and estimated ones.

superflow prepare kitti_raw --root R --out prepared/drive
superflow prepare kitti_raw --root R --out prepared/estimated --poses kiss-icp
superflow compare-poses prepared/drive prepared/estimated
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from superflow.tools.command import command_parser, run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("compare-poses", __doc__)
    parser.add_argument("known", type=Path, help="index with the log's own poses")
    parser.add_argument("estimated", type=Path, help="index of the same log with estimated ones")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0 when the drift is printed, 2 when the input cannot be used."""
    args = parse_args(argv)
    return run_command("superflow compare-poses", lambda: _compare(args))


def _compare(args: argparse.Namespace) -> int:
    from superflow.benchmark.drift import drift
    from superflow.datasets.index import LogIndex

    known, estimated = LogIndex.open(args.known), LogIndex.open(args.estimated)
    print(f"{estimated.poses or 'poses of the log'}: {drift(known, estimated).text()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
