"""One of two processes that train the needy toy. Usage: RANK=... first_batches_rank.py CONFIG FOLDER RANKS..."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from superflow.engine import build_runner, load_config
from superflow.errors import InputError
from superflow.method.launch import leave

if __name__ == "__main__":
    config, folder, ranks = Path(sys.argv[1]), Path(sys.argv[2]), [int(word) for word in sys.argv[3:]]
    options = {
        "model": {"type": "NeedyModel", "ranks": ranks, "_delete_": True},
        "train_cfg.max_iters": 4,
        "default_hooks.first_batches.batches": 2,
    }
    runner = build_runner(load_config(config, options=options, work_dir=folder, launcher="pytorch"))
    said = ""
    try:
        runner.train()
    except InputError as error:
        said = str(error)
    (folder / f"rank_{runner.rank}.json").write_text(json.dumps({"iter": runner.iter, "said": said}))
    leave()  # one that ends before the other has parted may take it down, as `tools.train.run` knows
