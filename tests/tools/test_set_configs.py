"""What is shipped to pretrain on each set with cameras, and on a mix of three."""

from __future__ import annotations

from pathlib import Path

import pytest

from superflow.datasets.catalogue import facts_of
from superflow.datasets.prepare import DATASETS
from superflow.engine.config import load_config, shipped_configs
from superflow.engine.loader import build_dataset
from superflow.hub.checkpoint import read_checkpoint
from superflow.tools.main import main

MIX = "pretrain/on_mix_small.py"
CONFIGS = {
    name.removeprefix("pretrain/on_").removesuffix("_small.py"): name
    for name in shipped_configs()
    if name.startswith("pretrain/on_") and name != MIX
}
OF_OTHERS = {"scribblekitti", "nuscenes_c"}  # the images of SemanticKITTI and nuScenes


def test_each_set_with_cameras_has_a_config_and_no_other():
    assert {name for name in DATASETS if facts_of(name).cameras != ()} - OF_OTHERS == set(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
def test_it_is_the_small_method_on_the_folder_of_that_set(name):
    own, small = load_config(CONFIGS[name]), load_config("pretrain/superflowpp_small.py")
    assert own.data_root == f"prepared/{name}"
    data, base = own.train_dataloader.dataset, small.train_dataloader.dataset
    assert data.index == own.data_root
    assert data.views.features == f"{own.data_root}/features/efficientnet_lite0"
    assert (own.model, own.optim_wrapper, own.train_cfg) == (
        small.model,
        small.optim_wrapper,
        small.train_cfg,
    )
    differing = {key for key in data if data[key] != base[key]}
    assert {"index", "views"} <= differing <= {"index", "views", "frames", "times"}
    lines = Path(shipped_configs()[CONFIGS[name]]).read_text().splitlines()
    assert f"#   superflow train {CONFIGS[name]}" in lines
    assert any(line.startswith(f"#   superflow prepare {name} ") for line in lines)


def test_the_mix_of_three_trains(prepared_log, tmp_path):
    """On three logs under the names of its sets, here the same one, with other features than the shipped teacher's."""
    parts = load_config(MIX).train_dataloader.dataset.parts
    names = [Path(part.index).name for part in parts]
    assert names == ["nuscenes", "semantickitti", "waymo"]
    single = load_config("pretrain/superflowpp_small.py").train_dataloader.dataset
    for part in parts:
        assert {key for key in part if part[key] != single.get(key)} <= {"index", "views", "times", "weight"}
    root = tmp_path / "prepared"
    root.mkdir()
    for name in names:
        (root / name).symlink_to(prepared_log / "prepared")
    options = {"model.student.backbone.width": 0.25, "train_cfg.max_iters": 2}
    for i, name in enumerate(names):
        where = f"train_dataloader.dataset.parts.{i}"
        options |= {
            f"{where}.views.features": f"{root}/{name}/features/filter_bank",
            f"{where}.views.size": "(36,64)",
        }
    dataset = build_dataset(
        load_config(
            MIX, options=[f"{k}={v}" for k, v in options.items()], data_root=root
        ).train_dataloader.dataset
    )
    assert [part["share"] for part in dataset.record()["parts"]] == [0.5, 0.25, 0.25]
    run = ["train", MIX, "--data-root", str(root), "--work-dir", str(tmp_path / "run"), "--cfg-options"]
    assert main([*run, *(f"{key}={value}" for key, value in options.items())]) == 0
    state = read_checkpoint(tmp_path / "run/iter_2.pth")["state_dict"]
    assert all(value.isfinite().all() for value in state.values())
