"""Every shipped pretraining config for one core trains on a small log, and each of its objectives learns something."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from superflow.engine.config import load_config, shipped_configs
from superflow.hub.checkpoint import read_checkpoint
from superflow.tools.main import main

CONFIGS = sorted(
    name
    for name in shipped_configs()
    if name.startswith("pretrain/")
    and "_small" in name
    and not name.startswith("pretrain/on_")  # of each set: test_set_configs.py
    # what starts from another run or backbone: test_made_labels.py
    and load_config(name).model.type == "Pretrainer"
    and "pretrained" not in load_config(name).model
)


@pytest.fixture(scope="module")
def prepared(prepared_log: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The index with clusters beside the usual superpixels, and features that keep the teacher's scales."""
    import shutil

    folder = tmp_path_factory.mktemp("with_clusters") / "prepared"
    shutil.copytree(prepared_log / "prepared", folder)
    images = ["--index", str(folder), "--workers", "1", "--provider", "clusters", "--option", "clusters=3"]
    assert (
        main(["prepare", "superpixels", *images, "--option", f"features={folder}/features/filter_bank"]) == 0
    )
    scales = ["--teacher", "filter_bank", "--size", "32", "64", "--components", "0"]
    assert (
        main(["prepare", "features", "--index", str(folder), *scales, "--out", f"{folder}/features/scales"])
        == 0
    )
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_it_trains(name, prepared, tmp_path, capsys):
    options = ["train_cfg.max_iters=2", "train_dataloader.batch_size=1", "model.student.backbone.width=0.25"]
    data = load_config(name).train_dataloader.dataset
    options.append("train_dataloader.dataset.frames=scene-0001[1:3]")
    if data.type == "PretrainDataset":
        cache = "scales" if data.views.features.endswith("_scales") else "filter_bank"
        options.append(f"train_dataloader.dataset.views.features={prepared}/features/{cache}")
        options.append("train_dataloader.dataset.views.size=(36,64)")
    run = ["--data-root", str(prepared), "--work-dir", str(tmp_path), "--cfg-options", *options]
    assert main(["train", name, *run]) == 0
    said = capsys.readouterr()
    assert "of the objectives" not in said.out  # that were 0 all the time
    state = read_checkpoint(tmp_path / "iter_2.pth")["state_dict"]
    assert all(value.isfinite().all() for value in state.values() if torch.is_floating_point(value))
