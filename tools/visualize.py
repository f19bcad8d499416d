"""Pictures of one frame of a prepared log, as PNG files.

    superflow visualize --index prepared/log --frame 12 --out pictures
    superflow visualize --index prepared/log --frame 12 --backbone backbone.safetensors --out pictures
    superflow visualize --index prepared/log --frame 12 --superpixels prepared/log/superpixels/slic --out pictures
    superflow visualize --index prepared/log --frame 12 --backbone street-tiny --pick 12.5 3.0 --out pictures

Without a backbone: points by class, from above and on the images. With one: points by the principal components of
their features, and by similarity to one point (--pick X Y in metres, forward and left; default: 10 m ahead).
"""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from superflow.errors import InputError
from superflow.option_values import Range
from superflow.tools.command import command_parser, number_in, run_command

if TYPE_CHECKING:
    from superflow.datasets.index import LogIndex

WHAT = ("classes", "features", "similarity", "depth", "superpixels")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_parser("visualize", __doc__)
    parser.add_argument("--index", type=Path, required=True, help="folder that `superflow prepare` wrote")
    parser.add_argument("--frame", default="0", help="token of the key frame, or its number")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for the PNG files")
    parser.add_argument("--what", nargs="+", choices=WHAT, help="default: everything that the inputs allow")
    parser.add_argument("--backbone", help="exported file, checkpoint, or registered name")
    parser.add_argument("--superpixels", type=Path, help="folder of superpixel maps")
    parser.add_argument("--cameras", nargs="+", help="channels (default: all)")
    parser.add_argument(
        "--pick",
        nargs=2,
        type=number_in(Range()),
        default=(10.0, 0.0),
        metavar=("X", "Y"),
        help="point to compare with [m]",
    )
    parser.add_argument(
        "--extent", type=number_in(Range(1, 2000)), default=50.0, help="half side of the view from above [m]"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse_args(argv)
    return run_command("superflow visualize", lambda: _visualize(args))


def _visualize(args: argparse.Namespace) -> int:
    from superflow.datasets.index import LogIndex
    from superflow.pictures.frame_pictures import PictureOptions, write_frame_pictures

    index = LogIndex.open(args.index)
    options = PictureOptions(
        what=args.what,
        backbone=args.backbone,
        superpixels=args.superpixels,
        cameras=args.cameras,
        pick=tuple(args.pick),
        extent_m=args.extent,
    )
    for path in write_frame_pictures(index, _row(index, args.frame), args.out, options):
        print(path)
    return 0


def _row(index: LogIndex, wanted: str) -> int:
    """Row of a key frame by its token, its sample's token, or its number: tokens may be numbers too."""
    rows = index.rows()
    for names in (index.tokens(rows), index.sample_tokens(rows)):
        if wanted in names:
            return int(rows[names.index(wanted)])
    if wanted.isdecimal() and int(wanted) < len(rows):
        return int(rows[int(wanted)])
    raise InputError(
        f"--frame {wanted}: is no token of {index.folder} and no number below {len(rows)}; choose 0 to {len(rows) - 1}"
    )


if __name__ == "__main__":
    sys.exit(main())
