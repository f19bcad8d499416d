"""Evaluate a trained model on the test set of its config.

superflow test CONFIG work_dirs/NAME/best_miou.pth
superflow test CONFIG work_dirs/NAME                     the newest checkpoint of a folder
superflow test CONFIG work_dirs/NAME --test-time-augmentation    the mean of turned and mirrored scans
superflow test CONFIG work_dirs/NAME --vote              also with votes of the scans around each scan
superflow test CONFIG work_dirs/NAME --corruptions       also in fog, snow, ... at three levels: mCE and mRR
superflow test CONFIG work_dirs/NAME --corruptions fog snow/heavy
superflow test CONFIG work_dirs/NAME --pseudo-labels DIR --pseudo-frames train
superflow test CONFIG work_dirs/NAME --predictions DIR --prediction-index prepared/my_log
superflow test CONFIG work_dirs/NAME --predictions DIR --prediction-frames test --server --zip
superflow test CONFIG work_dirs/NAME --predictions DIR --prediction-frames test --server --zip \\
    --server-fields account_name=EMAIL unique_method_name=NAME      Waymo's wants to know who submits
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superflow.errors import InputError, MissingFileError
from superflow.files.writes import write_json
from superflow.tools.command import command_parser, count, end_command, named_values
from superflow.tools.train import add_common, read_config, run

if TYPE_CHECKING:
    from superflow.datasets.corruptions.models import Variant
    from superflow.downstream.vote_run import VoteRun


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_parser("test", __doc__)
    parser.add_argument("config", help="the config that the model was trained with")
    parser.add_argument("checkpoint", type=Path, help=".pth file, or the folder of a run")
    parser.add_argument(
        "--test-time-augmentation",
        nargs="?",
        type=count,
        const=4,
        metavar="TURNS",
        help="predict the mean over so many turns of each scan (4), each also mirrored; the result says it",
    )
    parser.add_argument(
        "--vote",
        action="store_true",
        help="then let the scans around each scan vote; frames whose labels trained the model never do",
    )
    parser.add_argument(
        "--corruptions",
        nargs="*",
        metavar="NAME",
        help="then corrupt the scans: these, as fog or fog/heavy, or all eight at three levels",
    )
    parser.add_argument(
        "--corrected",
        action="store_true",
        help="with --corruptions, leave out the mistakes of the published code; figures are others than published ones",
    )
    parser.add_argument(
        "--pseudo-labels",
        type=Path,
        metavar="DIR",
        help="write voted pseudo-labels of --pseudo-frames, for train_dataloader.dataset.pseudo_labels=DIR",
    )
    parser.add_argument(
        "--pseudo-frames",
        nargs="+",
        metavar="TERM",
        help="splits, scenes or scene[a:b]; of these, frames that the model was trained on keep their labels",
    )
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="DIR",
        help="then write a class for each point, in the form that the log came in",
    )
    parser.add_argument(
        "--prediction-index", type=Path, metavar="INDEX", help="of this prepared log, without labels perhaps"
    )
    parser.add_argument(
        "--prediction-frames", nargs="+", metavar="TERM", help="of these frames (default: all key frames)"
    )
    parser.add_argument(
        "--server",
        action="store_true",
        help="with --predictions, in the tree and the numbers of the set's evaluation server",
    )
    parser.add_argument(
        "--server-fields",
        nargs="+",
        metavar="KEY=VALUE",
        help="with --server, what that server wants to know of the submission, as account_name=me@example.org",
    )
    parser.add_argument(
        "--zip",
        action="store_true",
        help="with --predictions, also packed, ready to be sent: DIR.zip, for Waymo's server DIR.tar.gz",
    )
    add_common(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0 when all is well, 2 when the input cannot be used."""
    return run("superflow test", parse_args(argv), _test)


def _test(args: argparse.Namespace) -> int:
    from superflow.engine import build_runner
    from superflow.hub.checkpoint import find_last
    from superflow.method.distributed import rank

    _check_together(args)
    fields = _server_fields(args.server_fields or [])
    variants = _variants(args)  # refuses before the work
    checkpoint = find_last(args.checkpoint) if args.checkpoint.is_dir() else args.checkpoint
    if checkpoint is None:
        raise MissingFileError(
            f"{args.checkpoint}: holds no checkpoint; give the folder of a run or a .pth file"
        )
    if not checkpoint.is_file():  # before a folder for the figures is made beside it
        raise MissingFileError(f"{checkpoint}: there is no such checkpoint; check the path")
    config = _evaluated(args, checkpoint)
    trained = _training_set(config, checkpoint) if args.vote or args.pseudo_labels else None
    if config.test_dataloader is None:
        raise InputError(
            f"{args.config}: has neither a test_dataloader nor a val_dataloader, so there is nothing to evaluate on; "
            "write one into the config"
        )
    for part in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        config[part] = None
    runner = build_runner(config)
    votes = None if trained is None else _vote_run(args, runner, trained)  # refuses before the work
    predictions = None if args.predictions is None else _predictions(args, runner, fields)
    metrics = runner.test()
    if rank() == 0:
        for line in table(metrics):
            print(line)
    if votes is not None:
        _vote(args, runner, votes)
    if predictions is not None and rank() == 0:
        made = predictions()
        packed = f", packed as {made['zip']}" if made["zip"] else ""
        print(f"{args.predictions}: predictions of {made['scans']} scans{packed}")
    if variants:
        from superflow.benchmark.corruptions import corruption_table, test_corrupted

        report = test_corrupted(config, variants, metrics)
        if rank() == 0:
            print(*corruption_table(report), sep="\n")
    return 0


def _check_together(args: argparse.Namespace) -> None:
    """Refuse options that say something about what was not asked for."""
    if (args.pseudo_labels is None) != (args.pseudo_frames is None):
        raise InputError(
            "--pseudo-labels and --pseudo-frames belong together; give the folder and the frames"
        )
    if args.corrected and args.corruptions is None:
        raise InputError("--corrected says how scans are corrupted; give --corruptions with it")
    beside = ("prediction_index", "prediction_frames", "server", "zip")
    if args.predictions is None and any(getattr(args, name) for name in beside):
        raise InputError(
            "--prediction-index, --prediction-frames, --server and --zip say what is predicted and how; give the "
            "folder, --predictions, too"
        )
    if args.server_fields and not args.server:
        raise InputError("--server-fields is for an evaluation server; give --server with it")


def _evaluated(args: argparse.Namespace, checkpoint: Path) -> Any:
    """The config of a run that tests alone, what the checkpoint was trained with still in it."""
    config = read_config(args, load_from=checkpoint)
    if args.predictions is not None and config.model.type != "Segmentor":
        raise InputError(
            f"--predictions writes the classes of a Segmentor, and {config.model.type} gives none; leave it out"
        )
    if args.test_time_augmentation is not None:
        _augment(config, args.test_time_augmentation)
    if args.work_dir is None:
        config.work_dir = str(checkpoint.parent)
    for part in ("dataloader", "cfg", "evaluator"):  # without a test set of its own, the validation set
        if config.get(f"test_{part}") is None:
            config[f"test_{part}"] = config.get(f"val_{part}")
        config[f"val_{part}"] = None
    return config


def _augment(config: Any, turns: int) -> None:
    if config.model.type != "Segmentor":
        raise InputError(
            f"--test-time-augmentation averages the classes of a Segmentor, and {config.model.type} gives none; leave "
            "it out"
        )
    config.model.test_time_augmentation = turns


def _of_model(runner: Any) -> dict[str, Any]:
    """What files of predictions say of the model."""
    turns = runner.plain_model.test_time_augmentation
    return {"checkpoint": str(runner.loaded_from), "iteration": runner.loaded_iteration} | (
        {"test_time_augmentation": turns} if turns else {}
    )


def _made_by(runner: Any) -> dict[str, Any]:
    """What its predictions follow from, so that only the same model goes on in a folder."""
    from superflow.hub.checkpoint import read_checkpoint
    from superflow.hub.encoder_file import weights_hash

    model = runner.plain_model.record()
    named = ("encoder", "limits", "test_time_augmentation")
    weights = read_checkpoint(runner.cfg.load_from)["state_dict"]  # the runner has them when it begins
    return {"weights_sha256": weights_hash(weights), **{name: model.get(name) for name in named}}


def _server_fields(texts: list[str]) -> dict[str, str]:
    return named_values("--server-fields", texts, "KEY=VALUE, as account_name=me@example.org")


def _predictions(
    args: argparse.Namespace, runner: Any, fields: dict[str, str]
) -> Callable[[], dict[str, Any]]:
    """What writes them; a server that will not take them is told before the work."""
    from superflow.datasets.card import RAW_FULL
    from superflow.datasets.index import LogIndex
    from superflow.downstream.predictions import PredictionFiles
    from superflow.downstream.vote_log import segmentor_predictor

    judged = runner.test_loop.dataloader.dataset
    index = LogIndex.open(args.prediction_index) if args.prediction_index else judged.index
    full = RAW_FULL if judged.raw_intensity else 1.0
    files = PredictionFiles(
        index,
        index.rows(args.prediction_frames).tolist(),
        judged.class_names,
        args.predictions,
        server=args.server,
        server_fields=fields,
        made_by={**_made_by(runner), "full_intensity": full},
    )

    def write() -> dict[str, Any]:
        predict = segmentor_predictor(runner.plain_model, full_intensity=full)
        return files.write(predict, packed=args.zip, record=_of_model(runner))

    return write


def _variants(args: argparse.Namespace) -> list[Variant]:
    from superflow.datasets.corruptions.models import chosen_variants

    return (
        [] if args.corruptions is None else chosen_variants(args.corruptions, is_published=not args.corrected)
    )


def _training_set(config: Any, checkpoint: Path) -> Any:
    """The labelled frames that the checkpoint was trained on, which may not vote."""
    from superflow.downstream.vote_run import check_trained_on
    from superflow.engine.loader import build_dataset
    from superflow.hub.checkpoint import read_checkpoint

    if config.model.type != "Segmentor" or config.get("train_dataloader") is None:
        raise InputError(
            "--vote and --pseudo-labels need the config that a Segmentor was trained with, train_dataloader included"
        )
    if config.get("launcher", "none") != "none":
        raise InputError("--vote and --pseudo-labels run in one process; start them without a launcher")
    try:
        trained = build_dataset(config.train_dataloader.dataset)
    except InputError as error:
        raise InputError(
            f"the training frames of this config, which may not vote, cannot be read ({error}); give the config.py "
            f"beside {checkpoint}, or the --cfg-options that it was trained with"
        ) from error
    check_trained_on(trained, read_checkpoint(checkpoint)["superflow"].get("data", {}), checkpoint)
    return trained


def _vote_run(args: argparse.Namespace, runner: Any, trained: Any) -> VoteRun:
    from superflow.downstream.vote_run import VoteRun

    votes = VoteRun(runner.test_loop.dataloader.dataset, trained, args.pseudo_frames)
    if args.pseudo_labels:
        votes.files(args.pseudo_labels, _made_by(runner))  # looks at the folder
    return votes


def _vote(args: argparse.Namespace, runner: Any, votes: VoteRun) -> None:
    if args.vote:
        report = votes.report(runner.plain_model) | _of_model(runner)
        write_json(runner.work_path / "test_votes.json", report)
        for line in vote_table(report):
            print(line)
    if args.pseudo_labels:
        files = votes.files(args.pseudo_labels, _made_by(runner))
        made = votes.write(runner.plain_model, files, _of_model(runner))
        kept, right = made["quality"]["kept"], made["quality"]["accuracy"]
        known = "" if right is None else f", {right:.1f} % of those with an annotation right"
        print(
            f"{args.pseudo_labels}: pseudo-labels of {made['frames']} frames, {kept:.1f} % of the points{known}"
        )


def vote_table(report: dict[str, Any]) -> list[str]:
    """mIoU unvoted and voted, each vote beside its control: smoothing within the scan itself."""
    lines = [f"{'':<15}     mIoU  control", f"{'unvoted':<15}{_number(report['unvoted'])}"]
    for name, variant in report["variants"].items():
        numbers = _number(variant["scores"]) + _number(variant["control"])
        lines.append(f"{'voted, ' + name:<15}{numbers}")
    return lines


def _number(summary: dict[str, Any]) -> str:
    return f"{'-':>9}" if summary["miou"] is None else f"{summary['miou']:9.2f}"


def table(metrics: dict[str, Any]) -> list[str]:
    """The scalar metrics, one a line."""
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    width = max(map(len, numbers), default=0)
    return [f"{name:<{width}}  {value:8.2f}" for name, value in numbers.items()]


if __name__ == "__main__":
    end_command(main())
