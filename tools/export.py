"""Write the backbone of a training checkpoint as one .safetensors file with its card.

The card holds all that is known of the training: limits, objectives, teacher, data, and the resolved config with the
paths that stand in it. Points outside the limits get no feature from the file, see
`superflow.hub.backbone.Backbone.extract`.

superflow export work_dirs/superflowpp_small --out backbone.safetensors
superflow export work_dirs/superflowpp_small --out backbone.safetensors --recalibrate prepared/my_log --frames train
superflow export work_dirs/go_on_small --average-with street-tiny --out backbone.safetensors
superflow export work_dirs/superflowpp_small/iter_200.pth --install --name mine
python -c 'import superflow; print(superflow.load("mine").card)'
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superflow.errors import InputError
from superflow.files.access import check_place
from superflow.option_values import Range
from superflow.tools.command import command_parser, number_in, run_command

if TYPE_CHECKING:
    from superflow.hub.backbone import BackboneCard
    from superflow.lidar.encoder import LidarEncoder


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_parser("export", __doc__)
    parser.add_argument("checkpoint", type=Path, help="folder of a run, or a .pth of it")
    parser.add_argument(
        "--out", type=Path, help="file to write (.safetensors); default: beside the checkpoint"
    )
    parser.add_argument(
        "--install",
        action="store_true",
        help="write into $SUPERFLOW_HOME, else ~/.cache/superflow, to load it by name",
    )
    parser.add_argument(
        "--half", action="store_true", help="store the convolutions in float16: half the size"
    )
    parser.add_argument("--name", help="name in the card and in the registry; default: the file's name")
    parser.add_argument(
        "--average-with",
        metavar="START",
        help="take the mean of its weights and those of the backbone that it began with: a file or a name",
    )
    parser.add_argument(
        "--share", type=number_in(Range(0, 1, above=True)), help="of START in that mean (default: 0.5)"
    )
    parser.add_argument(
        "--recalibrate",
        type=Path,
        metavar="INDEX",
        help="take batch-norm statistics anew from whole scans of this index: training saw thinned, augmented and "
        "merged ones",
    )
    parser.add_argument(
        "--frames", nargs="+", metavar="TERM", help="of these splits, scenes or scene[a:b]; training frames"
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0 when the file is written, 2 when the input cannot be used."""
    args = parse_args(argv)
    return run_command("superflow export", lambda: _export(args))


def _export(args: argparse.Namespace) -> int:
    from superflow.hub.averaging import HALF, average_with
    from superflow.hub.backbone import card_of, check_free, save_backbone
    from superflow.hub.encoder_file import build_encoder, read_encoder_file

    if args.frames and not args.recalibrate:
        raise InputError("--frames chooses the scans of --recalibrate; give that index too")
    if args.share is not None and not args.average_with:
        raise InputError("--share is that of --average-with; give that backbone too")
    file = read_encoder_file(args.checkpoint)
    name, out = _place(args, file.path)
    check_free(out)
    check_place(out.parent)
    encoder, card = build_encoder(file), replace(card_of(file), name=name)
    if args.average_with:
        share = HALF if args.share is None else args.share
        encoder, card = average_with(encoder, card, args.average_with, share=share)
    if args.recalibrate:
        encoder, card = _recalibrated(encoder, card, args)
    card = save_backbone(encoder, out, card, half=args.half)
    print(json.dumps(_shown(card), indent=2))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {card.channels} channels; superflow.load({str(out)!r})")
    return 0


def _place(args: argparse.Namespace, read: Path) -> tuple[str, Path]:
    """The name in the card, and the file to write; ``read`` is what was read.

    Raises:
        InputError: the options name two places or none, or a file would take the place of what was read unasked.
    """
    from superflow.hub.shelf import registry_folder

    if args.out is not None:
        if args.install:
            raise InputError("--install writes into the registry folder; leave out --out")
        return args.name or args.out.stem, args.out
    checkpoint = args.checkpoint if args.checkpoint.stem not in ("", "..") else args.checkpoint.resolve()
    name = args.name or checkpoint.stem
    if Path(name).name != name or name == "..":
        raise InputError(
            f"--name {name!r} cannot be a file's name; give the file with --out, or another name"
        )
    out = (registry_folder() if args.install else checkpoint.parent) / f"{name}.safetensors"
    if out.exists() and out.samefile(read):
        raise InputError(
            f"{out}: is what is exported, and would be written over; give --out or another --name"
        )
    return name, out


def _shown(card: BackboneCard) -> dict[str, Any]:
    """The card for the screen: what it says, without the text of the config."""
    shown = {key: value for key, value in asdict(card).items() if value}
    if config := card.training.get("config"):
        shown["training"]["config"] = f"{len(config.splitlines())} lines, in the file"
    return shown


def _recalibrated(
    encoder: LidarEncoder, card: BackboneCard, args: argparse.Namespace
) -> tuple[LidarEncoder, BackboneCard]:
    from superflow.datasets.index import LogIndex
    from superflow.downstream.recalibration import recalibrate_on_log

    index = LogIndex.open(args.recalibrate)
    return recalibrate_on_log(encoder, card, index, index.rows(args.frames))


if __name__ == "__main__":
    sys.exit(main())
