"""Make a synthetic drive in nuScenes schema: LiDAR sweeps, six cameras, point labels, boxes with tracks.

  superflow make-drive --out data/synthetic
  superflow make-drive --out data/big --scenes 100 --seconds 20 --workers 16
  superflow make-drive --out data/labels --scenes 300 --lidar-hz 2 --no-images
  superflow make-drive --out data/varied --scenes 100 --vary sensor place appearance

Run again with the same settings, it goes on where it stopped; with more scenes, it adds them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from superflow.option_values import Range
from superflow.street.variation import GROUPS
from superflow.together import usable_cores
from superflow.tools.command import (
    command_parser,
    count,
    count_or_none,
    number_in,
    run_command,
    say_next,
    seed,
)
from superflow.tools.progress_bar import progress_bar


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line of ``superflow make-drive``."""
    parser = command_parser("make-drive", __doc__)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="ROOT", help="new folder, or one to go on with"
    )
    parser.add_argument("--scenes", type=count, default=11, help="how many")
    parser.add_argument(
        "--val-scenes", type=count, help="how many of them, the last, are for evaluation; default 1/4"
    )
    parser.add_argument(
        "--seconds",
        type=number_in(Range(1, 60)),
        default=5.0,
        help="length of a scene, two key frames a second",
    )
    parser.add_argument("--seed", type=seed, default=0, help="scene k depends on the seed and k alone")
    parser.add_argument(
        "--image-size",
        type=count,
        nargs=2,
        default=(256, 448),
        metavar=("H", "W"),
        help="of the pictures [pixels]",
    )
    parser.add_argument(
        "--vary",
        nargs="+",
        default=(),
        choices=GROUPS,
        metavar="GROUP",
        help=f"draw anew for each scene: {', '.join(GROUPS)}; default: the plain street",
    )
    parser.add_argument(
        "--no-images", action="store_true", help="LiDAR, labels, boxes and poses only, several times faster"
    )
    parser.add_argument("--lidar-hz", type=count, default=20, help="sweeps recorded a second: 2, 4, 10 or 20")
    parser.add_argument(
        "--workers", type=count_or_none, default=usable_cores(), help="processes; default: all cores"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Make the drive; returns the exit code."""
    args = parse_args(argv)
    return run_command("superflow make-drive", lambda: _make_drive(args))


def _make_drive(args: argparse.Namespace) -> int:
    from superflow.street.drive import DriveSettings, make_drive

    start = time.perf_counter()
    told: list[int] = []  # first what was there already
    settings = DriveSettings(
        seconds=args.seconds,
        seed=args.seed,
        image_size=tuple(args.image_size),
        lidar_hz=args.lidar_hz,
        images=not args.no_images,
        vary=tuple(args.vary),
    )
    with progress_bar(counts=True) as show:

        def count(what: str, done: int, total: int) -> None:
            told.append(done)
            show(what, done, total)

        make_drive(
            args.out,
            scenes=args.scenes,
            val_scenes=args.val_scenes,
            settings=settings,
            workers=args.workers,
            progress=count,
        )
    seconds = time.perf_counter() - start
    made = told[-1] - told[0] if told else 0
    print(
        f"{args.scenes} scenes in {args.out} after {seconds:.0f} s, {made / seconds:.2f} key frames a second"
    )
    say_next("prepare", "nuscenes", "--root", args.out, "--out", "work_dirs/prepared")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
