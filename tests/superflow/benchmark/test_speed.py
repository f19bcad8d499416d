"""The benchmark measures what it says, on clouds like those of a street."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
import torch

from superflow.benchmark import speed
from superflow.lidar.minkunet import MinkUNet
from superflow.lidar.sparse import Pyramid
from superflow.tools import benchmark_speed


def test_a_made_street_looks_like_one():
    points = speed.made_street(0)
    assert points.equal(speed.made_street(0))
    assert not points.equal(speed.made_street(1))
    assert 25_000 < len(points) < 34_880
    ranges = points[:, :2].norm(dim=1)
    assert ranges.max() < 80.2
    assert 0.2 < float((points[:, 2] < -1.7).float().mean()) < 0.7  # ground
    assert float((points[:, 2] > 1).float().mean()) > 0.05  # facades
    voxels = speed.exactly(20_000, [points, speed.made_street(1)], 0.1)
    pairs = 1 + sum(Pyramid.from_voxels(voxels).subm(0).counts) / 20_000
    assert len(voxels) == 20_000
    assert 3 < pairs < 6  # neighbours of a voxel, itself included, as in real scans of 32 beams


@pytest.mark.skipif(find_spec("spconv") is None, reason="spconv has no wheel for this platform or Python")
def test_spconv_indexes_the_same_cells():
    from spconv.core import ConvAlgo
    from spconv.pytorch import ops

    voxels = speed.exactly(500, [speed.made_street(0)], 0.3)
    pyramid = Pyramid.from_voxels(voxels).build(5)
    found = []
    plain = ops.get_indice_pairs
    try:
        ops.get_indice_pairs = lambda *given, **options: found.append(plain(*given, **options)) or found[-1]
        speed.spconv_index(pyramid, 5)
    finally:
        ops.get_indice_pairs = plain
    assert ConvAlgo.Native is not None
    assert [len(cells) for cells, _, _ in found[::2]] == [len(pyramid.level(k)) for k in range(5)]
    for level, (_, _, counts) in enumerate(found[::2]):  # spconv lists half of the offsets, and the centre
        assert counts.tolist()[:13] == pyramid.subm(level).counts[:13]


def test_a_step_is_timed_part_by_part():
    voxels = speed.exactly(500, [speed.made_street(0)], 0.3)
    step = speed.network_step(MinkUNet("tiny", width=0.25), "torch", voxels, torch.ones(500, 4))
    assert list(step) == ["maps", "forward", "backward"]
    assert all(0 < part["thread"] <= part["process"] * 1.5 and part["wall"] > 0 for part in step.values())
    assert all(value > 0 for value in speed.ceilings("wall").values())
    assert 100 < speed.peak_memory_mb() < 100_000


def test_the_benchmark_tells_every_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(benchmark_speed, "usable_backends", lambda: ["torch"])
    out = tmp_path / "speed.json"
    options = ["--voxels", "400", "--size", "0.4", "--depth", "tiny", "--rounds", "1", "--loaded"]
    assert benchmark_speed.main([*options, "--json", str(out)]) == 0
    result = json.loads(out.read_text())
    (network,) = result["networks"]
    assert {"quiet", "loaded"} <= set(network)
    assert network["quiet"]["torch"]["steps"][0] == pytest.approx(
        sum(network["quiet"]["torch"][part] for part in ("maps", "forward", "backward"))
    )
    assert network["quiet"]["sgemm_gflops"] > 0
    assert "GB/s copy" in capsys.readouterr().out


def test_ratios_are_taken_pair_by_pair(monkeypatch):
    seconds = iter([9.0, 9.0, 1.0, 2.0, 3.0, 4.0])  # the first round does not count

    def step(net, backend, voxels, features):
        return {
            "maps": {"thread": 0.0, "wall": 0.0},
            "forward": (value := {"thread": next(seconds), "wall": 1.0}) and value,
        }

    monkeypatch.setattr(benchmark_speed, "usable_backends", lambda: ["torch", "spconv"])
    monkeypatch.setattr(benchmark_speed, "network_step", step)
    monkeypatch.setattr(benchmark_speed, "ceilings", lambda clock: {"sgemm_gflops": 1.0})
    result = benchmark_speed.alternate(MinkUNet("tiny"), [None] * 3, 2, "thread")
    assert result["ratios"] == [0.5, 0.75]


def test_every_part_of_a_step_is_there(capsys):
    assert benchmark_speed.main(["--parts", "--depth", "tiny", "--size", "1.0", "--rounds", "1"]) == 0
    told = capsys.readouterr().out
    for part in (
        "teacher",
        "voxelise",
        "kernel maps",
        "student",
        "pooling",
        "losses",
        "backward",
        "optimiser",
        "memory",
    ):
        assert part in told


def test_a_log_that_is_not_there_is_named(tmp_path, capsys):
    assert benchmark_speed.main(["--data", str(tmp_path / "none"), "--voxels", "10", "--depth", "tiny"]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err
