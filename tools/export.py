"""Write the backbone of a training checkpoint as one .safetensors file with its card.

superflow export work_dirs/superflowpp_small --out backbone.safetensors
superflow export work_dirs/superflowpp_small/iter_200.pth --install --name street-tiny
python -c 'import superflow; print(superflow.load("street-tiny").card)'
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

from superflow.errors import InputError


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="superflow export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", type=Path, help="folder of a run, or a .pth of it")
    parser.add_argument(
        "--out", type=Path, help="file to write (.safetensors); default: beside the checkpoint"
    )
    parser.add_argument(
        "--install", action="store_true", help="write into the registry folder, to load it by name"
    )
    parser.add_argument("--name", help="name in the card and in the registry; default: the file's name")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        return _export(args)
    except InputError as error:
        print(f"superflow export: {error}", file=sys.stderr)
        return 2


def _export(args: argparse.Namespace) -> int:
    from superflow.encoder_file import build_encoder, read_encoder_file
    from superflow.hub import card_of, registry_folder, save_backbone

    file = read_encoder_file(args.checkpoint)
    name = args.name or (args.out.stem if args.out else args.checkpoint.stem)
    out = args.out or args.checkpoint.with_name(f"{name}.safetensors")
    if args.install:
        out = registry_folder() / f"{name}.safetensors"
    card = save_backbone(build_encoder(file), out, replace(card_of(file), name=name))
    print(json.dumps({key: value for key, value in asdict(card).items() if value}, indent=2))
    print(f"{out}: {out.stat().st_size / 1e6:.1f} MB, {card.channels} channels; superflow.load({str(out)!r})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
