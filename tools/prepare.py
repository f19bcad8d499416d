"""Prepare a driving log: its index, the regions of its images, and what a teacher sees in them.

    superflow prepare --list
    superflow prepare nuscenes --root data/nuscenes --out prepared/nuscenes --version v1.0-mini
    superflow prepare semantickitti --root data/kitti --out prepared/kitti --check --pictures
    superflow prepare nuscenes --root my_log --out prepared/my_log --check
    superflow prepare nuscenes --root huge_log --out prepared/huge_log --check --sample 500
    superflow prepare semantickitti --root data/kitti --out prepared/few --scenes 00 08 --limit 500
    superflow prepare nuscenes_c --root data/nuscenes_c --out prepared/fog_heavy --variant fog/heavy
    superflow prepare folder --root my_log --guess
    superflow prepare folder --root my_log --out prepared/my_log --check
    superflow prepare ros --bag drive.mcap --out prepared/drive --check
    superflow prepare superpixels --index prepared/my_log --provider slic --workers 8 --quality
    superflow prepare features --index prepared/my_log --frames train --teacher efficientnet_lite0
    superflow prepare corrupted --index prepared/kitti --frames val --variant fog snow/heavy --out corrupted/kitti
    superflow prepare tokens --index prepared/my_log --frames train --percent 10 --out ten_percent.txt

Each command can be run again: the index is replaced in one step; finished superpixels and features are kept.
"""

from __future__ import annotations

import argparse
import inspect
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from superflow.datasets.prepare import DATASETS
from superflow.errors import InputError
from superflow.files.writes import write_json
from superflow.option_values import Range
from superflow.together import usable_cores
from superflow.tools.command import (
    command_parser,
    count,
    count_or_none,
    named_values,
    number_in,
    run_command,
    say_next,
)
from superflow.tools.log_arguments import add_log_arguments, log_options
from superflow.tools.own_log_arguments import add_own_arguments, guess, own_options
from superflow.tools.progress_bar import progress_bar

if TYPE_CHECKING:
    from superflow.datasets.index import LogIndex

INDEX: dict[str, Any] = {
    "type": Path,
    "required": True,
    "help": "folder that `superflow prepare DATASET` wrote",
}
FRAMES: dict[str, Any] = {"nargs": "+", "metavar": "TERM", "help": "only these splits, scenes or scene[a:b]"}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line; ``kind`` says which of the jobs."""
    parser = command_parser("prepare", __doc__)
    parser.add_argument(
        "--list", action="store_true", help="the datasets: disk space, cameras, labels, licence, where to ask"
    )
    kinds = parser.add_subparsers(dest="kind")

    for name in DATASETS:
        _add_dataset(kinds, name)
    for add in (_add_superpixels, _add_features, _add_corrupted, _add_tokens):
        add(kinds)
    args = parser.parse_args(argv)
    if args.list == bool(args.kind):
        parser.error("name a dataset or another job, or give --list alone")
    return args


def _add_dataset(kinds: Any, name: str) -> None:
    own = {"nuscenes": "a log in nuScenes schema", "folder": "a folder of your own files", "ros": "ROS bags"}
    what = f"{own[name]} (docs/own_data.md)" if name in own else f"{name} (docs/datasets.md)"
    log = kinds.add_parser(name, help=f"index {what}")
    add_own_arguments(log, name)
    add_log_arguments(log)
    log.add_argument("--scenes", nargs="+", metavar="SCENE", help="only these scenes, or splits of scenes")
    log.add_argument("--variant", metavar="COPY", help="which corrupted copy, as fog/heavy (nuscenes_c)")
    log.add_argument("--limit", type=count, metavar="N", help="only the first N key frames of those")
    log.add_argument(
        "--poses", metavar="kiss-icp", help="make poses out of the scans instead of taking the log's"
    )
    log.add_argument(
        "--no-sweep-compensation",
        action="store_true",
        help="leave scans as they were taken, though points carry times and poses are known",
    )
    log.add_argument("--label-set", default="", metavar="NAME", help="classes: one of the card's label sets")
    log.add_argument(
        "--check", action="store_true", help="read everything; report and pictures go to OUT/check"
    )
    log.add_argument(
        "--pictures",
        action="store_true",
        help="with --check: also draw a scan from above by class, and how classes, ranges and intensities are spread",
    )
    log.add_argument(
        "--sample",
        type=count,
        metavar="N",
        help="with --check: read only N key frames, spread over the scenes, and the sweep before each",
    )
    log.add_argument(
        "--workers",
        type=count_or_none,
        default=usable_cores(),
        help="processes for --check (default: all cores)",
    )


def _add_superpixels(kinds: Any) -> None:
    maps = kinds.add_parser("superpixels", help="cut the images of an index into regions")
    maps.add_argument("--index", **INDEX)
    maps.add_argument("--out", type=Path, help="folder of the maps; default: INDEX/superpixels/PROVIDER")
    maps.add_argument(
        "--provider", default="slic", help="slic, clusters, masks or segmenter: docs/superpixels.md"
    )
    maps.add_argument("--frames", **FRAMES)
    maps.add_argument("--channels", nargs="+", metavar="CAM", help="only these cameras")
    maps.add_argument(
        "--workers", type=count_or_none, default=usable_cores(), help="processes (default: all cores)"
    )
    maps.add_argument(
        "--quality", action="store_true", help="then measure the regions against points and labels"
    )
    maps.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="passed to the provider, e.g. segments=150; may be repeated",
    )


def _add_features(kinds: Any) -> None:
    features = kinds.add_parser(
        "features", help="cache a frozen teacher's features of the images of an index"
    )
    features.add_argument("--index", **INDEX)
    features.add_argument("--out", type=Path, help="folder of the cache; default: INDEX/features/TEACHER")
    features.add_argument("--teacher", default="efficientnet_lite0", help="one of docs/teachers.md")
    features.add_argument(
        "--weights", type=Path, help="file with its weights; default: installed or downloaded ones"
    )
    features.add_argument("--frames", **FRAMES)
    features.add_argument(
        "--fit-frames",
        nargs="+",
        metavar="TERM",
        help="frames the projection is fitted on, some of --frames; default: all of them",
    )
    features.add_argument(
        "--size", type=count, nargs=2, default=(448, 832), metavar=("H", "W"), help="of what it sees [pixels]"
    )
    features.add_argument(
        "--components", type=count_or_none, default=64, help="directions kept, 0 for all channels"
    )
    features.add_argument(
        "--reduction-of",
        type=Path,
        metavar="FOLDER",
        help="take statistics and directions of these features of another log, so that both can be mixed",
    )
    features.add_argument("--device", default="cpu", help="cpu or cuda")


def _add_corrupted(kinds: Any) -> None:
    corrupted = kinds.add_parser(
        "corrupted", help="write corrupted copies of the scans of an index, in the form of its files"
    )
    corrupted.add_argument("--index", **INDEX)
    corrupted.add_argument(
        "--out", type=Path, required=True, help="folder of the copies, each in CORRUPTION/LEVEL"
    )
    corrupted.add_argument(
        "--variant", nargs="*", default=[], metavar="NAME", help="fog, or fog/heavy; default: all 24"
    )
    corrupted.add_argument(
        "--corrected", action="store_true", help="without the mistakes of the published code"
    )
    corrupted.add_argument("--frames", **FRAMES)


def _add_tokens(kinds: Any) -> None:
    tokens = kinds.add_parser("tokens", help="list the labelled frames of a k %% experiment")
    tokens.add_argument("--index", **INDEX)
    tokens.add_argument("--out", type=Path, required=True, help="text file to write, one token a line")
    tokens.add_argument(
        "--percent",
        type=number_in(Range(0, 100, above=True)),
        required=True,
        help="k; 100 / k must be a whole number",
    )
    tokens.add_argument(
        "--rule",
        choices=("scene", "frame"),
        default="scene",
        help="every (100/k)-th scene (nuScenes, the default) or frame (SemanticKITTI)",
    )
    tokens.add_argument(
        "--frames", nargs="+", metavar="TERM", help="of these splits, scenes or scene[a:b] (default: all)"
    )


def main(argv: list[str] | None = None) -> int:
    """0 when all is well, 1 when --check found something wrong, 2 when the input cannot be used."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    args = parse_args(argv)
    return run_command(
        "superflow prepare", lambda: _list() if args.list else _JOBS.get(args.kind, _dataset)(args)
    )


def _list() -> int:
    from superflow.tools.dataset_list import dataset_lines

    print(*dataset_lines(), sep="\n")
    return 0


def _dataset(args: argparse.Namespace) -> int:
    from superflow.datasets.prepare import prepare

    if getattr(args, "guess", False):
        _refuse_beside_guess(args)
        return guess(args.root, args.layout)
    if args.sample is not None and not args.check:
        raise InputError("--sample says how much --check reads; give --check with it")
    if args.pictures and not args.check:
        raise InputError("--pictures says what --check draws; give --check with it")
    reading = log_options(args) | {"scenes": args.scenes, "limit": args.limit, "variant": args.variant}
    reading |= own_options(args)
    reading |= {"poses": args.poses, "sweep_compensation": not args.no_sweep_compensation}
    with progress_bar() as progress:
        index = prepare(
            args.kind, args.root, args.out, label_set=args.label_set, **reading, progress=progress
        )
    print(
        f"{index!r}\n{args.out / 'index.json'}: {'real data' if index.card.real else 'made data'}, hash {index.hash}"
    )
    code = _check(index, args.out, args.sample, args.workers, more=args.pictures) if args.check else 0
    if code == 0:
        _say_next(index, args.out)
    return code


def _say_next(index: LogIndex, out: Path) -> None:
    """Name the command that makes what the configs want of this log beside its index."""
    rows = index.rows()
    splits = {name for name, scenes in index.card.splits.items() if {*scenes} & {*index.scenes}}
    splits |= {*index.row_splits}
    if index.camera_count[rows].any():
        frames = ["--frames", "train"] if "train" in splits else []
        say_next("prepare", "features", "--index", out, *frames)
    elif {"train", "val"} <= splits and any(index.has_labels(row) for row in rows.tolist()):
        say_next("train", "downstream/finetune_small.py", "--data-root", out)


def _refuse_beside_guess(args: argparse.Namespace) -> None:
    """Every option but the folder and the layout is for the index, which a draft does not make."""
    bare = vars(parse_args([args.kind, "--root", str(args.root), "--guess"]))
    idle = [name for name, value in vars(args).items() if name != "layout" and value != bare[name]]
    if idle:
        words = ", ".join(f"--{name.replace('_', '-')}" for name in idle)
        raise InputError(
            f"--guess only drafts the layout and makes no index, so it takes no {words}; leave it out, complete the "
            "draft, and give it without --guess"
        )


def _check(index: LogIndex, out: Path, sample: int | None, workers: int, *, more: bool) -> int:
    from superflow.camera.projection import project
    from superflow.datasets.check.log import check_log
    from superflow.datasets.check.overlay import fastest_key, write_overlays
    from superflow.pictures.log_pictures import write_log_pictures
    from superflow.tools.check_tables import show_report, verdict

    folder = out / "check"
    with progress_bar() as progress:
        report = check_log(index, project=project, sample=sample, workers=workers, progress=progress)
    for old in folder.glob("*.png"):
        old.unlink()
    try:
        row = fastest_key(index)
        pictures = write_overlays(index, folder, project=project, row=row)
        pictures += write_log_pictures(index, row, report.labels, folder) if more else []
        report.pictures = [str(path) for path in pictures]
    except InputError as error:
        report.notes.append(f"no pictures: {error}")
    write_json(folder / "report.json", report.to_dict())
    show_report(report)
    print(f"{folder / 'report.json'}: {verdict(report)}")
    for picture in report.pictures:
        print(picture)
    return 0 if report.ok else 1


def _superpixels(args: argparse.Namespace) -> int:
    from superflow.benchmark.preparation import prepare_superpixels
    from superflow.datasets.index import LogIndex

    index = LogIndex.open(args.index)
    folder = prepare_superpixels(
        index,
        args.frames,
        folder=args.out,
        channels=args.channels,
        provider=args.provider,
        workers=args.workers,
        **_options(args.option, args.provider),
    )
    count = len(index.cameras(index.rows(args.frames), channels=args.channels))
    print(f"{folder}: superpixels of {count} images by {args.provider}")
    if args.quality:
        _quality(index, index.rows(args.frames), args.channels, folder)
    return 0


def _quality(index: LogIndex, rows: Any, channels: list[str] | None, folder: Path) -> None:
    """Print what the regions are worth on up to twenty frames of the rows, evenly spaced."""
    from superflow.camera.superpixels import quality_report

    some = rows[:: max(1, -(-len(rows) // 20))]
    frames = (index.frame(int(row), cameras=channels, images=False) for row in some)
    print(f"quality on {len(some)} frames\n{quality_report(frames, folder).table()}")


def _features(args: argparse.Namespace) -> int:
    import torch

    from superflow.benchmark.preparation import prepare_features
    from superflow.datasets.index import LogIndex

    if args.reduction_of and args.fit_frames:
        raise InputError("--fit-frames: nothing is fitted with --reduction-of; leave one of them out")
    index = LogIndex.open(args.index)
    folder = prepare_features(
        index,
        args.frames,
        folder=args.out,
        fit_frames=args.fit_frames,
        teacher=args.teacher,
        weights=args.weights,
        size=tuple(args.size),
        components=args.components or None,
        reduction_of=args.reduction_of,
        threads=min(torch.get_num_threads(), 8),  # an image each, and memory for its maps
        device=args.device,
    )
    print(f"{folder}: features of {len(index.cameras(index.rows(args.frames)))} images by {args.teacher}")
    return 0


def _corrupted(args: argparse.Namespace) -> int:
    from superflow.datasets.corruptions.corrupted_copy import write_copy
    from superflow.datasets.corruptions.models import chosen_variants
    from superflow.datasets.index import LogIndex

    index = LogIndex.open(args.index)
    rows = index.rows(args.frames).tolist()
    for variant in chosen_variants(args.variant, is_published=not args.corrected):
        with progress_bar() as progress:
            folder, written = write_copy(index, rows, variant, args.out, progress=progress)
        print(f"{folder}: {len(rows)} scans of {index.card.name} in {variant}, {written} written now")
    return 0


def _tokens(args: argparse.Namespace) -> int:
    from superflow.datasets.index import LogIndex
    from superflow.downstream.fractions import write_fraction

    index = LogIndex.open(args.index)
    count = write_fraction(args.out, index, args.percent, rule=args.rule, frames=args.frames)
    print(f"{args.out}: {count} of {len(index.rows(args.frames))} frames, {args.percent:g} % by {args.rule}")
    return 0


_JOBS = {"corrupted": _corrupted, "superpixels": _superpixels, "features": _features, "tokens": _tokens}


def _options(pairs: list[str], provider: str) -> dict[str, Any]:
    """``["segments=150"]`` as ``{"segments": 150}``: text where the provider takes text, else read as YAML."""
    if not pairs:
        return {}
    from superflow.camera.superpixels.provider import provider_class
    from superflow.option_values import allowed_types, read_value, takes_text

    taken = inspect.signature(provider_class(provider)).parameters
    options: dict[str, Any] = {}
    form = "KEY=VALUE, as in segments=150"
    for key, value in named_values("--option", pairs, form).items():
        pair = f"{key}={value}"
        if not key.isidentifier():
            raise InputError(f"--option {pair}: give {form}")
        allowed = allowed_types(taken[key].annotation, taken[key].default) if key in taken else frozenset()
        if takes_text(allowed):
            options[key] = read_value(value, allowed)
            continue
        try:
            options[key] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that cannot be
            raise InputError(
                f"--option {pair}: {value!r} cannot be read as YAML; put it in quotes"
            ) from error
    return options


if __name__ == "__main__":
    sys.exit(main())
