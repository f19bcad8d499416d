"""Write a page of figures from the tables of benchmarks of places.

    cp work_dirs/places/places.csv docs/evidence/places.csv
    cp work_dirs/places/recipes.csv docs/evidence/places_recipes.csv
    superflow evidence docs/evidence

FOLDER.md gets the means over seeds with their spread, how many labels a backbone saves, and the command of each row;
FOLDER the pictures. FOLDER/introduction.md, where there is one, comes first on the page, FOLDER/NAME.md, heading and
text, before the figures of NAME.csv; sections stand in the order in which the introduction links to their tables.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from superflow.tools.command import command_parser, run_command


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = command_parser("evidence", __doc__)
    parser.add_argument("folder", type=Path, help="folder of tables, such as docs/evidence")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0 when the page is written, 2 when there is nothing to write it from."""
    args = parse_args(argv)
    return run_command("superflow evidence", lambda: _evidence(args))


def _evidence(args: argparse.Namespace) -> int:
    from superflow.benchmark.evidence.page import write_page

    print(write_page(args.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
