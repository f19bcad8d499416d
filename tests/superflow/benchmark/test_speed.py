"""The benchmark measures what it says, on clouds like those of a street."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
import torch

from superflow.benchmark.speed import (
    clouds,
    growth,
    growth_parts,
    kernels,
    network,
    reading,
    sample,
    scans,
    step,
    tables,
    threads,
    turns,
)
from superflow.benchmark.speed.batches import make_batch
from superflow.benchmark.speed.options import Options
from superflow.datasets.prepare import prepare
from superflow.errors import InputError
from superflow.lidar.minkunet import MinkUNet
from superflow.lidar.sparse import Pyramid
from superflow.method.regions import region_table
from superflow.street.drive import DriveSettings
from superflow.tools import benchmark_speed


def test_a_made_street_looks_like_one():
    points = clouds.made_street(0)
    assert points.equal(clouds.made_street(0))
    assert not points.equal(clouds.made_street(1))
    assert 25_000 < len(points) < 34_880
    ranges = points[:, :2].norm(dim=1)
    assert ranges.max() < 80.2
    assert 0.2 < float((points[:, 2] < -1.7).float().mean()) < 0.7  # ground
    assert float((points[:, 2] > 1).float().mean()) > 0.05  # facades
    voxels = clouds.exactly(20_000, [points, clouds.made_street(1)], 0.1)
    pairs = 1 + sum(Pyramid.from_voxels(voxels).subm(0).counts) / 20_000
    assert len(voxels) == 20_000
    assert 3 < pairs < 6  # neighbours of a voxel, itself included, as in real scans of 32 beams


@pytest.mark.skipif(find_spec("spconv") is None, reason="spconv has no wheel for this platform or Python")
def test_spconv_indexes_the_same_cells():
    from spconv.core import ConvAlgo
    from spconv.pytorch import ops

    voxels = clouds.exactly(500, [clouds.made_street(0)], 0.3)
    pyramid = Pyramid.from_voxels(voxels).build(5)
    found = []
    plain = ops.get_indice_pairs
    try:
        ops.get_indice_pairs = lambda *given, **options: found.append(plain(*given, **options)) or found[-1]
        network.spconv_index(pyramid, 5)
    finally:
        ops.get_indice_pairs = plain
    assert ConvAlgo.Native is not None
    assert [len(cells) for cells, _, _ in found[::2]] == [len(pyramid.level(k)) for k in range(5)]
    for level, (_, _, counts) in enumerate(found[::2]):  # spconv lists half of the offsets, and the centre
        assert counts.tolist()[:13] == pyramid.subm(level).counts[:13]


def test_a_step_is_timed_part_by_part():
    voxels = clouds.exactly(500, [clouds.made_street(0)], 0.3)
    step = network.network_step(MinkUNet("tiny", width=0.25), "torch", voxels, torch.ones(500, 4))
    assert list(step) == ["maps", "forward", "backward"]
    assert all(0 < part["thread"] <= part["process"] * 1.5 and part["wall"] > 0 for part in step.values())
    assert all(value > 0 for value in turns.ceilings("wall").values())
    assert 100 < turns.peak_memory_mb() < 100_000


def test_the_benchmark_tells_every_figure(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(network, "usable_backends", lambda: ["torch"])
    out, page = tmp_path / "speed.json", tmp_path / "speed.md"
    options = ["--voxels", "400", "--size", "0.4", "--depth", "tiny", "--rounds", "2", "--loaded"]
    assert benchmark_speed.main(["networks", *options, "--json", str(out), "--markdown", str(page)]) == 0
    result = json.loads(out.read_text())
    quiet, loaded = result["networks"]
    assert "busy process" in loaded["title"]
    assert len(quiet["seconds"]["torch"]) == 2
    assert set(quiet["parts"]["torch"]) == {"maps", "forward", "backward"}
    assert quiet["sgemm_gflops"] > 0
    assert len(quiet["load"]) == 2
    shown = capsys.readouterr().out
    assert "GB/s between them; load" in shown
    assert page.read_text().rstrip().splitlines()[2:] == shown.rstrip().splitlines()[2:]


def test_threads_are_timed_beside_one(monkeypatch):
    monkeypatch.setattr(threads, "usable_backends", lambda: ["compiled", "torch"])
    before = torch.get_num_threads()
    (table,) = threads.measure(Options(voxels=[400], size_m=0.4, depth="tiny", rounds=1, threads=2))
    assert torch.get_num_threads() == before
    assert [row[0] for row in table.rows] == ["compiled", "torch"]
    assert list(table.record["seconds"]) == ["compiled, 1", "compiled, 2", "torch, 1", "torch, 2"]
    assert table.record["clock"] == "wall"


def test_works_take_turns_and_ratios_are_taken_round_by_round(monkeypatch):
    order: list[str] = []
    seconds = iter([9.0, 9.0, 1.0, 2.0, 3.0, 4.0])  # the first round does not count

    def timed(work):
        work()
        return {"thread": next(seconds)}

    monkeypatch.setattr(turns, "timed", timed)
    monkeypatch.setattr(turns, "ceilings", lambda clock: {"sgemm_gflops": 1.0, "copy_gbytes": 1.0})
    works = {name: (lambda name=name: order.append(name)) for name in "ab"}
    found = turns.in_turn(works, rounds=2, clock="thread")
    assert order == ["a", "b"] * 3
    assert found.seconds == {"a": [1.0, 3.0], "b": [2.0, 4.0]}
    assert found.ratios("a", "b") == [0.5, 0.75]
    assert found.median("b") == 3.0


def grow(megabytes: int):
    return lambda: torch.ones(megabytes * 2**18).sum()


def test_memory_is_that_of_a_process_of_its_own():
    peak, added = turns.in_fresh_process(grow, 200)
    assert 150 < added < peak
    alone = turns.timed_in_fresh_process(grow, 1, rounds=2, clock="thread")
    assert len(alone.seconds) == 2
    assert alone.process_s > sum(alone.seconds)
    assert alone.ceilings["sgemm_gflops"] > 0


def test_every_part_of_a_step_is_there(capsys):
    options = ["--depth", "tiny", "--size", "1.0", "--rounds", "1", "--points", "500"]
    assert benchmark_speed.main(["parts", *options]) == 0
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


def test_a_batch_pairs_points_with_images_of_their_clip_and_time():
    options = Options(points=50)
    batch = make_batch(options, clips=2, cameras=3, images=torch.rand(18, 3, 56, 84), view=(56, 84))
    pairs, table = batch.pairs, batch.image_table
    cloud = batch.cloud[pairs.point]
    assert torch.equal(table.clip[pairs.image], batch.cloud_clip[cloud])
    assert torch.equal(table.offset[pairs.image], batch.cloud_offset[cloud])
    assert len(region_table(batch).groups) == 4
    assert batch.superpixels is not None
    assert len(batch.superpixels.unique()) > 4


def test_the_orders_of_work_are_compared_only_while_their_losses_agree(monkeypatch):
    options = Options(rounds=1, clips=1, points=100, size_m=1.0)
    monkeypatch.setattr(step, "CAMERAS", 1)
    monkeypatch.setattr(step, "VIEW", (64, 96))
    (table,) = step.measure(options)
    assert [row[0] for row in table.rows] == list(step.ARMS)
    assert table.record["difference"] < step.AGREE
    true = step.published_loss
    monkeypatch.setattr(
        step, "published_loss", lambda *given, **more: {k: v * 1.001 for k, v in true(*given, **more).items()}
    )
    with pytest.raises(InputError, match="losses that should be equal differ by"):
        step.measure(options)


def test_a_sample_of_the_gpu_config_is_timed_and_weighed(monkeypatch):
    monkeypatch.setattr(sample, "SAMPLES", 1)
    drive = DriveSettings(seconds=1.5, image_size=(64, 112), lidar_hz=2)
    (table,) = sample.measure(Options(rounds=1), drive)
    first, whole, bare = table.record["arms"].values()
    assert ", 9 images" in table.title
    assert first["points"] == whole["points"] == bare["points"] > 50_000
    assert whole["megabytes"] == first["megabytes"] > bare["megabytes"] + 9 * 3 * 224 * 448 / 1e6
    assert 16e-6 * bare["points"] < bare["megabytes"] < 30e-6 * bare["points"]
    assert [row[0] for row in table.rows] == list(sample.ARMS)
    assert all(len(arm["faults"]) == 2 for arm in table.record["arms"].values())  # the warm round too


@pytest.fixture
def thin_scans(monkeypatch) -> None:
    """A vote of few points, of a street seen by few beams."""
    monkeypatch.setattr(kernels, "POINTS", 1500)
    monkeypatch.setattr(kernels, "dense_scan", lambda count: clouds.made_street(0, beams=16, azimuths=250))


def test_layers_superpixels_and_votes_are_timed_beside_what_they_are_held_to(monkeypatch, thin_scans):
    monkeypatch.setattr(kernels, "IMAGE", (90, 160))
    options = Options(voxels=[400], size_m=0.4, rounds=1)
    tables = [*kernels.layers(options), *kernels.superpixels(options), *kernels.votes(options)]
    told = "\n".join(table.markdown() for table in tables)
    works = ("forward", "two products", "made", "written", "read", "ten, by trees", "four", "four, all new")
    assert all(f"| {work} |" in told for work in works)
    assert "a product / forward: " in told
    assert "four, by trees / four, all new: " in told


def test_votes_and_trees_are_of_the_same_points(thin_scans):
    scans_ = kernels._scans()
    voted, by_trees = kernels._vote(scans_, [-1, 1]), kernels._by_trees(scans_, [-1, 1])
    near = by_trees.sum(1) > 0
    assert near.mean() > 0.3
    changed = (voted != scans_[0].probabilities).any(1).numpy()
    assert near[changed].mean() > 0.8  # who votes lies near


def test_features_of_a_scan(monkeypatch):
    monkeypatch.setattr(scans, "POINTS", 2000)
    (table,) = scans.measure(Options(rounds=1, depth="tiny", size_m=1.0))
    assert len(table.rows) == len(network.usable_backends())


@pytest.mark.parametrize("name", growth_parts.PARTS)
def test_every_part_of_the_growth_can_be_called_again(name):
    work = growth_parts.PARTS[name].make(300)
    work()
    work()


@pytest.fixture
def linear(monkeypatch) -> list[tuple[str, int]]:
    """What is measured, where every part takes a second a thousand, and memory, as a process of its own would tell."""
    called = []
    names = {part.make: name for name, part in growth_parts.PARTS.items()}

    def alone(make, size, *, rounds, clock):
        called.append((names[make], size))
        took = size / 1000
        return turns.Alone(
            [took], 100 + size / 100, size / 100, 2 + took, {"sgemm_gflops": 50.0, "copy_gbytes": 1.0}
        )

    monkeypatch.setattr(growth, "timed_in_fresh_process", alone)
    return called


def test_growth_goes_on_from_what_its_file_holds(linear, tmp_path):
    keep = tmp_path / "growth.csv"
    (first,) = growth.measure(Options(sizes=(1000, 2000), budget_s=1000, keep=keep))
    assert linear == [(name, size) for size in (1000, 2000) for name in growth_parts.PARTS]
    assert [row[0].split(" (")[0] for row in first.rows] == list(growth_parts.PARTS)
    linear.clear()
    (second,) = growth.measure(Options(sizes=(1000, 2000, 4000), budget_s=1000, keep=keep))
    assert linear == [(name, 4000) for name in growth_parts.PARTS]
    assert second.rows[0] == [
        "voxels (points)",
        "1,000,000",
        "1,000,000",
        "1,000,000",
        "1.00",
        "40",
        "10,486",
    ]
    for name in ("growth.png", "growth.svg"):
        growth.draw_growth(second.record, tmp_path / name)
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "growth.svg").read_bytes()
    assert growth.exponent([10, 100, 1000], [1.0, 100.0, 10_000.0]) == pytest.approx(2.0)


def test_sizes_that_would_go_over_the_budget_are_left_out_and_named(linear):
    (table,) = growth.measure(Options(sizes=(1000, 2000, 4000, 8000), budget_s=50))
    # 18 and 24 s for all parts at 1000 and 2000; at 4000 the first takes 6 of the 8 s that are left
    assert linear[-1] == ("voxels", 4000)
    assert (
        "kernel maps of 4,000 points and more: left out, it would take some 6 s of the 2 s that are left"
        in str(table.notes)
    )
    assert "voxels of 8,000 points and more: left out, it would take some 10 s of the 2 s" in str(table.notes)
    assert table.rows[1][1:5] == ["1,000,000", "1,000,000", "-", "1.00"]


def test_sizes_that_the_machine_has_no_memory_for_are_left_out_and_named(linear, monkeypatch):
    monkeypatch.setattr(growth, "available_memory_mb", lambda: 125.0)
    (table,) = growth.measure(Options(sizes=(1000, 2000, 4000), budget_s=1000))
    assert {size for _, size in linear} == {1000, 2000}
    assert "it would take some 0 GB of the 0 GB that are free" in table.notes[1]


def test_no_more_is_measured_than_is_of_use(linear):
    growth.measure(Options(sizes=(300_000, 2_000_000), budget_s=1e9))
    most = {name: max(size for of, size in linear if of == name) for name in growth_parts.PARTS}
    assert (most["network step"], most["index"], most["voxels"]) == (300_000, 300_000, 2_000_000)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["speed"], "'speed' is unknown; choose from networks"),
        (["parts", "--plot", "x.png"], "add the measure growth"),
        (["parts", "--keep", "x.csv"], "add the measure growth"),
        (["--rounds", "0"], "--rounds: is '0'; give a whole number from 1 on"),
    ],
)
def test_options_that_cannot_serve_are_refused(given, told, capsys):
    with pytest.raises(SystemExit):
        benchmark_speed.parse_args(given)
    assert told in capsys.readouterr().err


def test_a_log_that_is_not_there_is_named(tmp_path, capsys):
    options = ["--data", str(tmp_path / "none"), "--voxels", "10", "--depth", "tiny"]
    assert benchmark_speed.main(["networks", *options]) == 2
    assert str(tmp_path / "none") in capsys.readouterr().err


def test_a_log_is_read_as_often_as_asked_and_memory_is_looked_at_on_the_way():
    (table,) = reading.measure(Options(scans=10))
    assert [row[1] for row in table.rows] == ["10", "10", "6", "8"]
    assert [count for count, _ in table.record["memory_mb"]] == [0, 2, 4, 6, 8, 10]
    assert all(megabytes > 50 for _, megabytes in table.record["memory_mb"])
    assert all(figure > 0 for figure in table.record["a CPU second"].values())


def test_made_tables_are_indexed(tmp_path):
    counts = tables.write_tables(tmp_path, 2)
    assert counts["sample_data"] == counts["ego_pose"] == 2 * (391 + 6 * 235 + 5 * 254)
    index = prepare("nuscenes", tmp_path, tmp_path / "index", version=tables.VERSION)
    assert len(index) == 2 * 391
    assert len(index.rows()) == 2 * tables.SAMPLES
    (table,) = tables.measure(Options(scenes=1, rounds=1))
    assert [row[0] for row in table.rows] == list(table.record["seconds"])
