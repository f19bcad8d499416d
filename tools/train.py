"""Train what a config describes: pretraining, a probe or fine-tuning.

superflow train CONFIG                                   into work_dirs/NAME
superflow train CONFIG --dry-run                         a few steps: shapes, hours, memory, disk; nothing is kept
superflow train CONFIG --resume                          go on from the newest checkpoint, if there is one
superflow train CONFIG --cfg-options train_cfg.max_iters=200 model.student.backbone.depth=18
torchrun --nproc_per_node=8 -m superflow.tools.train CONFIG --amp
srun --kill-on-bad-exit --ntasks-per-node=8 --gpus-per-task=1 superflow train CONFIG
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from superflow.errors import InputError
from superflow.tools.command import (
    STOPPED,
    add_leakage_argument,
    command_parser,
    count_or_none,
    end_command,
    run_command,
    say_next,
    seed,
)


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = command_parser("train", __doc__)
    parser.add_argument("config", help="a config file, or the name of one that comes with superflow")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="go on from this checkpoint; without a value, from the newest of the work folder if there is one",
    )
    parser.add_argument("--amp", action="store_true", help="mixed precision (CUDA only)")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="a few steps and one evaluation batch; print shapes, and hours, memory and disk of the run",
    )
    add_common(parser)
    return parser.parse_args(argv)


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options that training and testing share."""
    parser.add_argument("--work-dir", help="folder for checkpoints and logs; default: work_dirs/NAME")
    parser.add_argument("--data-root", help="replaces the config's data_root in all paths")
    parser.add_argument("--seed", type=seed, help="of everything random; default: the config's")
    parser.add_argument(
        "--cfg-options",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="overrides: a.b=1 a.c=[1,2] list.0.key=x; a key that nothing reads is an error",
    )
    add_leakage_argument(parser)
    parser.add_argument(
        "--launcher",
        choices=("none", "pytorch", "slurm"),
        help="how processes were started; default: what torchrun or srun left in the environment",
    )
    # torch.distributed.launch passes it; torchrun and srun set the environment instead
    parser.add_argument("--local-rank", "--local_rank", type=count_or_none, help=argparse.SUPPRESS)


def main(argv: list[str] | None = None) -> int:
    """0 when all is well, 1 when training broke off, 2 when the input cannot be used."""
    again = "stopped; add --resume to go on from the newest checkpoint"
    return run("superflow train", parse_args(argv), _train, stopped=again)


def run(program: str, args: argparse.Namespace, work: Any, *, stopped: str = STOPPED) -> int:
    """Call ``work(args)`` with the environment that torch reads at import, and say what stopped it."""
    prepare_environment(args)
    try:
        return run_command(program, lambda: work(args), stopped=stopped)
    finally:
        if "torch" in sys.modules:  # without it there are no processes to part from
            from superflow.method.launch import stop_distributed

            stop_distributed()


def prepare_environment(args: argparse.Namespace) -> None:
    """Set what torch and its libraries read when they are imported."""
    # spinning OpenMP workers stall everything when cores are shared
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products
    if args.local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(args.local_rank))


def read_config(args: argparse.Namespace, **options: Any) -> Any:
    """The config with the options of the command line laid over it."""
    from superflow.engine import load_config

    return load_config(
        args.config,
        options=args.cfg_options,
        work_dir=args.work_dir,
        data_root=args.data_root,
        seed=args.seed,
        launcher=args.launcher,
        allow_leakage=args.allow_leakage,
        **options,
    )


def _train(args: argparse.Namespace) -> int:
    from superflow.benchmark.speed.dry_run import dry_run
    from superflow.engine import build_runner
    from superflow.engine.hooks import DivergedError

    config = read_config(args, amp=args.amp, resume=False if args.resume is None else args.resume)
    if config.get("train_cfg") is None:
        raise InputError(f"{args.config}: has no train_cfg, so there is nothing to train; try superflow test")
    if args.dry_run:
        dry_run(config, print)
        return 0
    try:
        build_runner(config).train()
    except DivergedError as error:
        print(f"superflow train: {error}", file=sys.stderr)
        return 1
    _say_next(config)
    return 0


def _say_next(config: Any) -> None:
    """Name what makes use of the weights; ``config.py`` in the folder of the run has its options, too."""
    from superflow.method.distributed import rank

    work_dir = Path(config.work_dir)
    if rank() == 0 and config.model.type == "Pretrainer":
        say_next("export", work_dir, "--out", "backbone.safetensors")
    elif rank() == 0 and config.get("test_dataloader") is not None:
        say_next("test", work_dir / "config.py", work_dir)


if __name__ == "__main__":
    end_command(main())
