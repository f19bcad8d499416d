"""Evaluate a trained model on the test set of its config.

superflow test CONFIG work_dirs/NAME/best_miou.pth
superflow test CONFIG work_dirs/NAME                     the newest checkpoint of a folder
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from superflow.errors import MissingFileError
from superflow.tools.train import add_common, read_config, run


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="superflow test", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("config", help="the config that the model was trained with")
    parser.add_argument("checkpoint", type=Path, help=".pth file, or the folder of a run")
    add_common(parser)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """0 when all is well, 2 when the input cannot be used."""
    return run("superflow test", parse_args(argv), _test)


def _test(args: argparse.Namespace) -> int:
    from superflow.distributed import rank
    from superflow.engine import build_runner
    from superflow.engine.checkpoint import find_last

    checkpoint = find_last(args.checkpoint) if args.checkpoint.is_dir() else args.checkpoint
    if checkpoint is None:
        raise MissingFileError(
            f"{args.checkpoint}: holds no checkpoint; give the folder of a run or a .pth file"
        )
    config = read_config(args, load_from=checkpoint)
    if args.work_dir is None:
        config.work_dir = str(checkpoint.parent)
    for part in ("dataloader", "cfg", "evaluator"):  # without a test set of its own, the validation set
        if config.get(f"test_{part}") is None:
            config[f"test_{part}"] = config.get(f"val_{part}")
    for part in ("train_dataloader", "train_cfg", "optim_wrapper", "param_scheduler"):
        config[part] = None
    for part in ("dataloader", "cfg", "evaluator"):
        config[f"val_{part}"] = None
    metrics = build_runner(config).test()
    if rank() == 0:
        for line in table(metrics):
            print(line)
    return 0


def table(metrics: dict[str, Any]) -> list[str]:
    """The scalar metrics, one a line."""
    numbers = {name: value for name, value in metrics.items() if isinstance(value, int | float)}
    width = max(map(len, numbers), default=0)
    return [f"{name:<{width}}  {value:8.2f}" for name, value in numbers.items()]


if __name__ == "__main__":
    sys.exit(main())
