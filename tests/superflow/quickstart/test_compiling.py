"""What is compiled beside the drive is what training, probes and votes call, and nothing stays at work."""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from functools import partial
from typing import Any

import pytest
import torch
from numba.core.registry import CPUDispatcher

from superflow.camera.superpixels import write_superpixels
from superflow.clips.batch import collate
from superflow.clips.dataset import PretrainDataset
from superflow.datasets.index import LogIndex
from superflow.datasets.sets.nuscenes import write_index
from superflow.downstream.vote_log import evaluate_voting
from superflow.downstream.voting import VotingOptions
from superflow.lidar.encoder import LidarEncoder
from superflow.quickstart import compiling
from superflow.street.drive import DriveSettings, make_drive


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> LogIndex:
    folder = tmp_path_factory.mktemp("log")
    settings = DriveSettings(seconds=2.0, image_size=(48, 84), lidar_hz=4)
    return write_index(make_drive(folder / "drive", scenes=2, settings=settings), folder / "prepared")


@pytest.fixture
def called(monkeypatch):
    """What compiled functions are called from Python, with the kinds of their arguments, from now on."""
    found: set[tuple[str, tuple[Any, ...]]] = set()

    def told(function: CPUDispatcher) -> Any:
        def call(*given: Any) -> Any:
            found.add((function.py_func.__qualname__, tuple(map(function.typeof_pyval, given))))
            return function(*given)

        return call

    def begin() -> set[tuple[str, tuple[Any, ...]]]:
        modules = [module for name, module in sys.modules.items() if name.startswith("superflow.")]
        for module in modules:
            for name, value in list(vars(module).items()):
                if isinstance(value, CPUDispatcher) and not module.__name__.startswith("superflow.street"):
                    monkeypatch.setattr(module, name, told(value))
        return found

    return begin


def later_stages(index: LogIndex, folder) -> None:
    dataset = PretrainDataset(
        index,
        frames="train",
        times={"offsets": (-0.5, 0.0, 0.5), "unit": "seconds"},
        clouds={"max_points": 2000, "sweeps": 1, "sweep_points": 500},
        views={"size": (48, 84)},
        cameras_per_clip=None,
        limits={"range_m": (1.5, 60.0), "height_m": (-5.0, 14.0)},
        region="world_cell",
        cell_m=0.5,
    )
    batch = collate([dataset[1, 0]]).to("cpu")
    encoder = LidarEncoder(grid={"type": "cubic", "size_m": 0.5}, backbone={"depth": "tiny", "width": 0.25})
    encoder(batch.points, batch.cloud, batch.num_clouds).features.sum().backward()
    write_superpixels(index.cameras(index.rows("train")[:1]), folder)

    def predict(scan):
        return torch.rand(len(scan.points), len(index.card.classes)).softmax(dim=1)

    evaluate_voting(index, index.rows("val"), predict, {"voted": VotingOptions.window(1)}, labelled_rows=[])


def test_all_that_later_stages_call_is_compiled_ahead(index, called, tmp_path):
    compiling.compile_ahead()  # compiled before anything is replaced
    later_stages(index, tmp_path / "once")
    found = called()
    compiling.compile_ahead()
    ahead = set(found)
    found.clear()
    later_stages(index, tmp_path / "again")
    assert len({name for name, _ in found}) > 15
    assert found <= ahead


@pytest.mark.parametrize("why_not", ["no folder", "compiled already", "one core"])
def test_nothing_is_compiled_beside_where_that_gains_nothing(monkeypatch, tmp_path, why_not):
    monkeypatch.setattr(compiling, "cache_folder", lambda _: None if why_not == "no folder" else tmp_path)
    monkeypatch.setattr(compiling, "usable_cores", lambda: 1 if why_not == "one core" else 2)
    if why_not == "compiled already":
        (tmp_path / "clips").mkdir()
        (tmp_path / "clips" / "pairing._chosen.nbi").touch()
    monkeypatch.setattr(compiling, "SPAWN", None)  # no process can come of it
    with compiling.compiling_beside():
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_what_compiles_ends_with_the_stage_beside_it(monkeypatch, tmp_path):
    monkeypatch.setattr(compiling, "SPAWN", multiprocessing.get_context("fork"))
    monkeypatch.setattr(compiling, "cache_folder", lambda _: tmp_path)
    monkeypatch.setattr(compiling, "usable_cores", lambda: 2)
    monkeypatch.setattr(compiling, "_quietly", partial(time.sleep, 60))
    before = multiprocessing.active_children()

    def stage() -> None:
        with compiling.compiling_beside():
            assert len(multiprocessing.active_children()) == len(before) + 1
            raise KeyError

    with pytest.raises(KeyError):
        stage()
    assert multiprocessing.active_children() == before
