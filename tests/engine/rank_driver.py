"""One of several processes that train the toy together. Usage: RANK=... rank_driver.py CONFIG FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch

from superflow.engine import build_runner, load_config
from superflow.errors import InputError
from superflow.method.launch import leave

OPTIONS: dict[str, Any] = {
    "model.norm": False,  # each process normalises with its own batch, so norm would differ from the joint batch
    "model.dropout": 0.0,
    "model.contrast": True,
    "train_cfg.max_iters": 8,
    "auto_scale_lr": {"enable": True, "base_batch_size": 16},
    "default_hooks.checkpoint.interval": 4,
    "default_hooks.checkpoint.max_keep_ckpts": 2,
}


def train(config: Path, work_dir: Path, resume: Path | bool = False, **options: Any) -> Any:
    options = {**OPTIONS, **options}
    runner = build_runner(
        load_config(config, options=options, work_dir=work_dir, launcher="pytorch", resume=resume)
    )
    runner.train()
    return runner


if __name__ == "__main__":
    config, folder = Path(sys.argv[1]), Path(sys.argv[2])
    train(config, folder / "two")
    train(config, folder / "resumed", resume=folder / "two" / "iter_4.pth")
    runner = train(
        config, folder / "norm", **{"model.norm": True, "train_cfg.max_iters": 2, "custom_hooks": []}
    )
    buffers = dict(runner.plain_model.named_buffers())
    torch.save(buffers, folder / f"buffers_{runner.rank}.pt")
    try:  # each with a folder of its own, as on disks of two machines
        train(config, folder / ("two", "apart")[runner.rank], resume=True, **{"train_cfg.max_iters": 9})
    except InputError as error:
        (folder / f"refused_{runner.rank}.txt").write_text(str(error))
    leave()
