"""Samples from one real scene: geometry survives the trip from files to pairs, and chance comes from the seed alone."""

from __future__ import annotations

import inspect
import pickle
from collections import Counter
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from superflow.camera.occlusion import ScanSurface, scan_surface
from superflow.camera.projection import project
from superflow.camera.superpixels import write_superpixels
from superflow.clips import clouds as clip_clouds
from superflow.clips.batch import Batch, collate
from superflow.clips.clouds import ClipClouds
from superflow.clips.dataset import PretrainDataset
from superflow.clips.pairing import FramePairs, pair
from superflow.clips.times import ClipTimes
from superflow.clips.views import TeacherViews
from superflow.datasets.index import LogIndex
from superflow.datasets.sets.nuscenes import write_index
from superflow.errors import InputError

FRAMES = ["scene-9002[0:6]"]
STILL = {"rotation_rad": (0.0, 0.0), "flip": 0.0, "scale": (1.0, 1.0)}


@pytest.fixture(scope="module")
def index(pandaset_root, tmp_path_factory) -> LogIndex:
    return write_index(pandaset_root, tmp_path_factory.mktemp("prepared"), version="v1.0-mini")


def dataset(index: LogIndex, **options) -> PretrainDataset:
    """With the options of its parts by their own names."""
    options = {"frames": FRAMES, "region": "world_cell", "max_points": 3000, "size": (64, 112)} | options
    parts = {"times": ClipTimes, "clouds": ClipClouds, "views": TeacherViews}
    for part, made in parts.items():
        own = inspect.signature(made).parameters.keys() - {"limits", "raw_intensity", "superpixels"}
        options[part] = {name: options.pop(name) for name in own & options.keys()}
    return PretrainDataset(index, **options)


def tensors(batch: Batch) -> dict[str, Tensor]:
    return {f.name: value for f in fields(batch) if isinstance(value := getattr(batch, f.name), Tensor)}


def test_a_sample_depends_on_its_seed_alone(index):
    one, two = dataset(index), pickle.loads(pickle.dumps(dataset(index, keep_frames=4)))
    first, again, other = one[2, 7], two[2, 7], one[2, 8]
    two[1, 3]  # what was read before changes nothing
    assert all(torch.equal(value, tensors(again)[name]) for name, value in tensors(first).items())
    assert all(torch.equal(value, tensors(two[2, 7])[name]) for name, value in tensors(first).items())
    assert not torch.equal(first.points[:100], other.points[:100])


def test_mistake_09_the_first_frame_has_no_previous_one(index):
    assert dataset(index)[0, 0].cloud_offset.tolist() == [0, 1, 0]
    assert dataset(index)[2, 0].cloud_offset.tolist() == [-1, 0, 1, 0]
    assert dataset(index, border="repeat", sweeps=0)[0, 0].cloud_offset.tolist() == [-1, 0, 1]


def test_mistake_08_neighbours_are_chosen_frames_of_the_same_scene(index):
    every_fourth = dataset(index, frames=["scene-9002[0:16:4]"], sweeps=0)
    assert every_fourth[1, 0].cloud_offset.tolist() == [0]  # its direct neighbours were not chosen
    apart = dataset(index, frames=["scene-9002[0:16:4]"], sweeps=0, offsets=(-4, 0, 4))[1, 0]
    assert apart.tokens == tuple(index.tokens(index.rows(["scene-9002[0:12:4]"])))
    last = dataset(index, frames=["scene-9002", "scene-9102"], sweeps=0)
    assert last[55, 0].cloud_offset.tolist() == [-1, 0]


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_pairs_are_projections_in_pixels_of_the_view(index, flip):
    batch = dataset(index, augmentation=STILL, flip=flip, sweeps=0)[2, 0]
    frames = {
        token: index.frame(int(row), images=False)
        for row, token in zip(index.rows(FRAMES), index.tokens(index.rows(FRAMES)))
    }
    rows = torch.randperm(len(batch.pair_point), generator=torch.Generator().manual_seed(0))[:300]
    worst = 0.0
    for row in rows.tolist():
        point = int(batch.pair_point[row])
        frame = frames[batch.tokens[int(batch.cloud[point])]]
        candidates = []
        for camera in frame.cameras:
            homogeneous = frame.lidar_to_camera(camera) @ np.append(batch.points[point, :3].numpy(), 1.0)
            u, v, depth = camera.intrinsics @ homogeneous[:3]
            if depth > 1:
                u, v = (
                    (u / depth + 0.5) * 112 / camera.size[1] - 0.5,
                    (v / depth + 0.5) * 64 / camera.size[0] - 0.5,
                )
                candidates.append((111 - u if flip else u, v))
        worst = max(worst, min(np.abs(np.array(c) - batch.pair_pixel[row].numpy()).max() for c in candidates))
    assert worst < 1e-2


def test_cached_views_and_images_have_the_same_pairs_and_regions(index, tmp_path):
    rows = index.rows(FRAMES)
    write_superpixels(index.cameras(rows), tmp_path, provider="slic", workers=0)
    batch = dataset(index, region="superpixel", superpixels=tmp_path, flip=0.0, sweeps=0, offsets=(0,))[1, 0]
    assert batch.superpixels.shape == (3, 64, 112)
    u, v = (batch.pair_pixel + 0.5).floor().long().T
    under = batch.superpixels[batch.pair_image.long(), v.clamp(0, 63), u.clamp(0, 111)]
    assert torch.equal(under.long(), torch.where(batch.pair_region < 0, 65535, batch.pair_region))
    assert batch.id_scope == "image"  # SLIC counts anew in every image
    assert batch.images.shape == (3, 3, 64, 112)
    images = batch.to("cpu").images
    assert 0 <= float(images.min()) < 0.2 < 0.8 < float(images.max()) <= 1


def test_images_without_regions_are_counted_before_the_first_step(index, tmp_path):
    rows = index.rows(FRAMES)
    write_superpixels(index.cameras(rows[:-1]), tmp_path, provider="slic", workers=0)
    lacking, images = (len(index.camera_tokens(some)) for some in (rows[-1:], rows))
    said = (
        rf"{tmp_path}: {lacking} of the {images} images .* no regions .*`superflow prepare superpixels .*slic"
    )
    with pytest.raises(ValueError, match=said):
        dataset(index, region="superpixel", superpixels=tmp_path)


def test_a_scan_seen_from_elsewhere_keeps_its_pairs_and_regions(index):
    options = dict(augmentation=STILL, flip=0.0, sweeps=1, sweep_points=500, cell_m=2.0)
    batch = dataset(index, viewpoint_m=20.0, **options)[2, 0]
    frames = [index.frame(int(row), images=False) for row in index.rows(FRAMES)[1:4]]
    spots = []
    for cloud, frame in enumerate(frames):
        points = batch.points[batch.cloud == cloud].numpy()
        assert len(points) == pytest.approx(3000, rel=0.1)
        # z, intensity and ring are as they were and name most points; x and y have moved by one spot
        place = {tuple(row[2:]): row for row in frame.points}
        shifts = np.array([place[tuple(row[2:])][:2] - row[:2] for row in points])
        spot = np.median(shifts, axis=0)
        assert (np.abs(shifts - spot).max(axis=1) < 1e-3).mean() > 0.9
        spots.append(spot)
        rows = np.flatnonzero((batch.cloud[batch.pair_point] == cloud).numpy())[::97]
        for row in rows:  # each pair's pixel is that of the point where it really lies
            x, y, z = batch.points[batch.pair_point[row], :3].numpy()
            real = np.array([x + spot[0], y + spot[1], z, 1.0])
            off = []
            for camera in frame.cameras:
                u, v, depth = camera.intrinsics @ (frame.lidar_to_camera(camera) @ real)[:3]
                scale = np.array([112, 64]) / camera.size[::-1]
                view = (np.array([u, v]) / depth + 0.5) * scale - 0.5
                off.append(np.abs(view - batch.pair_pixel[row].numpy()).max())
            assert min(off) < 1e-2
    assert all(0.1 < np.linalg.norm(spot) <= 20 for spot in spots)
    assert np.linalg.norm(spots[0] - spots[1]) > 0.1
    dense = batch.points[batch.cloud == 3].numpy()
    there = {tuple(row) for row in frames[1].points}
    assert all(tuple(row) in there for row in dense[:100])  # the dense cloud stays where it was
    with pytest.raises(ValueError, match="say to how many points with max_points"):
        dataset(index, viewpoint_m=5.0, max_points=None)


def test_world_cells_name_the_same_place_at_all_times(index):
    batch = dataset(index, augmentation=STILL, sweeps=0, cell_m=1.0, cameras_per_clip=None)[2, 0]
    lidar_to_world = {
        token: index.frame(int(row), cameras=()).lidar_to_world
        for row, token in zip(index.rows(FRAMES), index.tokens(index.rows(FRAMES)))
    }
    cells: dict[int, set] = {}
    for point, region in zip(batch.pair_point.tolist(), batch.pair_region.tolist()):
        to_world = lidar_to_world[batch.tokens[int(batch.cloud[point])]]
        world = (to_world @ np.append(batch.points[point, :3].double().numpy(), 1.0))[:3]
        # a point on a border may fall to either side once its coordinates were rounded to float32
        if np.abs(world - np.round(world)).min() > 1e-3:
            cells.setdefault(region, set()).add(tuple(np.floor(world).astype(int)))
    assert all(len(found) == 1 for found in cells.values())
    times = batch.cloud_offset[batch.cloud[batch.pair_point].long()]
    some = batch.pair_region.unique()[:200]
    shared = [len(times[batch.pair_region == region].unique()) for region in some]
    assert max(shared) == 3


def test_mistake_16_the_dense_cloud_can_share_the_augmentation(index):
    shared = dataset(index, share_dense=True, offsets=(0,), max_points=None, limits={"range_m": (3.0, 10.0)})[
        3, 5
    ]
    alone = dataset(index, share_dense=False, offsets=(0,), max_points=None, limits={"range_m": (3.0, 10.0)})[
        3, 5
    ]
    for batch, equal in ((shared, True), (alone, False)):
        sparse, dense = (batch.points[batch.cloud == cloud] for cloud in (0, 1))
        assert len(dense) > 2 * len(sparse)
        assert torch.equal(sparse, dense[: len(sparse)]) is equal


def test_a_shared_augmentation_is_that_of_one_sensor(index):
    """Both clouds answer to light alike and are as exact, however many points each has."""
    as_other = {
        "jitter_m": 0.1,
        "intensity_gain": (0.5, 1.5),
        "intensity_power": (0.5, 2.0),
        "drop_intensity": 0.5,
    }
    options = {"offsets": (0,), "max_points": None, "limits": {"range_m": (3.0, 10.0)}, "share_dense": True}
    still = dataset(index, augmentation=STILL, **options)
    other = dataset(index, augmentation=STILL | as_other, **options)
    dropped = set()
    for seed in range(8):
        before, after = still[3, seed], other[3, seed]
        sparse, dense = (after.points[after.cloud == cloud] for cloud in (0, 1))
        torch.testing.assert_close(sparse[:, 3], dense[: len(sparse), 3], rtol=0, atol=0, equal_nan=True)
        noise = (after.points - before.points)[:, :3]
        deviations = [float(noise[after.cloud == cloud].std()) for cloud in (0, 1)]
        assert deviations[0] == pytest.approx(deviations[1], rel=0.15)
        dropped.add(bool(sparse[:, 3].isnan().all()))
    assert dropped == {True, False}


def test_the_null_keeps_pixels_and_moves_points(index):
    plain, null = dataset(index, sweeps=0)[2, 0], dataset(index, sweeps=0, shuffle_pairs=True)[2, 0]
    assert torch.equal(plain.pair_pixel, null.pair_pixel)
    assert (plain.pair_point != null.pair_point).float().mean() > 0.9
    assert torch.equal(plain.cloud[plain.pair_point], null.cloud[null.pair_point])
    assert torch.equal(plain.pair_point.sort().values, null.pair_point.sort().values)


def test_mistake_37_intensity_is_scaled_unless_raw_is_asked_for(index):
    scaled, raw = dataset(index, sweeps=0)[0, 0], dataset(index, sweeps=0, raw_intensity=True)[0, 0]
    assert float(scaled.points[:, 3].max()) <= 1
    assert torch.allclose(scaled.points[:, 3] * 255, raw.points[:, 3], atol=1e-3)


def test_mistake_33_a_crop_without_pairs_ends(index):
    batch = dataset(index, crop={"tries": 3}, limits={"range_m": (0.0, 0.01)}, sweeps=0)[1, 0]
    assert len(batch.pair_point) == 0
    assert batch.images.shape[1:] == (3, 64, 112)


def test_samples_of_different_length_collate(index):
    batch = collate([dataset(index)[0, 1], dataset(index)[3, 2]]).to("cpu")
    assert batch.num_clouds == 3 + 4
    assert int(batch.pair_image.max()) < len(batch.images)
    assert torch.equal(batch.cloud_clip[batch.cloud[batch.pair_point]], batch.image_clip[batch.pair_image])
    assert torch.equal(
        batch.cloud_offset[batch.cloud[batch.pair_point]], batch.image_offset[batch.pair_image]
    )


def test_options_that_do_not_fit_are_named(index):
    with pytest.raises(ValueError, match="superpixels=FOLDER"):
        dataset(index, region="superpixel")
    with pytest.raises(
        ValueError, match=r"nowhere.superpixels\.json: there is no such file; make superpixels with"
    ):
        dataset(index, region="superpixel", superpixels="nowhere")
    with pytest.raises(ValueError, match="crop needs images, and with cached features none is read"):
        dataset(index, crop={}, features="nowhere")
    with pytest.raises(ValueError, match="region 'segment'"):
        dataset(index, region="segment")


def test_superpixels_that_nothing_reads_are_said(index, tmp_path, caplog):
    dataset(index)
    assert caplog.text == ""
    dataset(index, superpixels=tmp_path)
    assert (
        f"region=\"world_cell\" reads no superpixels, so superpixels='{tmp_path}' does nothing" in caplog.text
    )
    dataset(index, one_depth_per_superpixel=True)
    assert "so one_depth_per_superpixel does nothing" in caplog.text


def test_times_in_seconds_are_the_frames_that_far_away(index):
    frames = ["scene-9002[0:12]"]
    seconds = dataset(index, frames=frames, offsets=(-0.5, 0.0, 0.2, 0.5), unit="seconds", sweeps=0)
    counted = dataset(index, frames=frames, offsets=(-5, 0, 2, 5), sweeps=0)
    assert seconds[6, 3].tokens == counted[6, 3].tokens
    assert seconds[6, 3].cloud_offset.tolist() == [-1, 0, 1, 2]
    assert counted[6, 3].cloud_offset.tolist() == [-5, 0, 2, 5]
    assert seconds[1, 3].cloud_offset.tolist() == [0, 1, 2]  # nothing half a second before
    exact = dataset(index, offsets=(0, 0.55), unit="seconds", tolerance_s=0.01, sweeps=0)
    assert exact[0, 0].cloud_offset.tolist() == [0]  # scans come every 0.1 s


def test_frames_without_any_neighbour_are_named_when_the_data_are_opened(index, caplog):
    dataset(index, frames=["scene-9002[0:16:4]"], sweeps=0)
    assert "none of the 4 chosen frames has another one -1 or 1 key frames away" in caplog.text
    caplog.clear()
    dataset(index, frames=["scene-9002[0:16:4]"], sweeps=0, offsets=(-4, 0, 4))
    dataset(index, frames=["scene-9002[0:1]"], sweeps=0, offsets=(0,))
    assert caplog.text == ""


def test_frames_without_images_are_left_out_and_counted(index, caplog):
    dropped = LogIndex.open(index.folder)
    dropped.camera_count = index.camera_count.copy()
    dropped.camera_count[dropped.rows(FRAMES)[2]] = 0
    with caplog.at_level("INFO"):
        kept = dataset(dropped, sweeps=0)
    assert kept.rows.tolist() == np.delete(index.rows(FRAMES), 2).tolist()
    assert "1 of 6 chosen frames have no camera image and are left out" in caplog.text
    assert kept[2, 0].cloud_offset.tolist() == [0, 1]  # nor is it a neighbour
    dropped.camera_count[:] = 0
    with pytest.raises(InputError, match="none of the 6 chosen frames has a camera image"):
        dataset(dropped)


def test_a_border_can_take_the_other_side(index):
    other = dataset(index, border="other", sweeps=0)
    first, middle = other[0, 0], other[2, 0]
    assert first.cloud_offset.tolist() == middle.cloud_offset.tolist() == [-1, 0, 1]
    assert first.tokens[0] == first.tokens[2] != first.tokens[1]
    assert len(set(middle.tokens)) == 3
    alone = dataset(index, frames=["scene-9002[0:16:4]"], border="other", sweeps=0)
    assert alone[0, 0].cloud_offset.tolist() == [0]  # neither side was chosen


def dense_part(batch: Batch) -> tuple[Tensor, Tensor]:
    kept = batch.cloud_dense[batch.cloud.long()]
    return batch.points[kept], batch.age[kept]


def test_the_age_of_a_point_is_that_of_its_scan(index):
    options = {"offsets": (0,), "max_points": 500, "sweep_points": 300, "sweeps": 2, "sweeps_after": 1}
    batch = dataset(index, **options)[3, 0]
    assert not batch.age[~batch.cloud_dense[batch.cloud.long()]].any()
    _, age = dense_part(batch)
    seconds, counts = (age * 10).round().unique(return_counts=True)
    assert seconds.tolist() == [-1, 0, 1, 2]
    assert counts.tolist() == [300, 500, 300, 300]
    _, near = dense_part(dataset(index, max_sweep_age_s=0.15, **options)[3, 0])
    assert (near * 10).round().unique().tolist() == [-1, 0, 1]


@pytest.mark.parametrize("drop_moving", [False, True])
@pytest.mark.parametrize("occlusion", [False, True])
def test_hidden_points_of_a_dense_cloud_are_those_that_the_whole_scan_hides(index, occlusion, drop_moving):
    options = {"occlusion": occlusion, "drop_moving": drop_moving, "max_points": 3000, "sweep_points": 2000}
    data = dataset(index, **options, limits={"range_m": (2.0, 40.0)})
    row = int(data.rows[3])
    channels = data.clouds.channels(row)[::-1]
    dense = data.clouds.draw({0: row}, channels, np.random.default_rng(0))[-1]
    assert dense.dense
    assert len(dense.points) > 6500
    whole = scan_surface(index.frame(row, images=False).points)
    thinned = scan_surface(dense.points)
    hidden = differently = 0
    for place, camera in enumerate(dense.cameras(channels)):
        view = (dense.frame.lidar_to_camera(camera), camera.lens)
        seen = project(dense.points, *view)
        gone = whole.hides(seen, *view) if occlusion else np.zeros(len(seen), bool)
        mine = dense.pairs.camera == place
        np.testing.assert_array_equal(dense.pairs.point[mine], seen.rows[~gone])
        np.testing.assert_array_equal(dense.pairs.pixel[mine], seen.pixels[~gone])
        hidden += gone.sum()
        differently += (gone & ~thinned.hides(seen, *view)).sum()
    assert len(dense.pairs.point) > 3000
    assert bool(hidden > 100) is occlusion
    assert bool(differently > 0.2 * hidden) is occlusion


@pytest.mark.parametrize("keep_frames", [0, 4])
def test_pairs_are_those_of_the_whole_scan_with_all_cameras_of_which_some_are_chosen(index, keep_frames):
    options = {"limits": {"range_m": (3.0, 40.0)}, "sweep_points": 500, "keep_frames": keep_frames}
    data = dataset(index, **options)
    rows = data.times.rows(int(data.rows[2]))
    channels = data.clouds.channels(rows[0])[1::2][::-1]
    for _ in range(2):
        generator = np.random.default_rng(5)
        for cloud, (_, row) in zip(data.clouds.draw(rows, channels, generator), sorted(rows.items())):
            frame = index.frame(row, images=False, labels=False)
            every = pair(frame, frame.points, frame.cameras, surface=scan_surface(frame.points))
            place = {tuple(point): number for number, point in enumerate(frame.points.tolist())}
            chosen = np.array([place[tuple(point)] for point in cloud.points.tolist()])
            names = [camera.channel for camera in frame.cameras]
            some = every.of(chosen, [names.index(channel) for channel in channels])
            assert len(some.point) > 500
            for column in fields(FramePairs):
                np.testing.assert_array_equal(
                    getattr(cloud.pairs, column.name), getattr(some, column.name), strict=True
                )


@pytest.mark.parametrize("keep_frames", [0, 4])
def test_a_clip_is_read_once_and_seen_by_its_cameras_alone(index, keep_frames, monkeypatch):
    data = dataset(index, cameras_per_clip=2, keep_frames=keep_frames, sweeps=1)
    counted: Counter[str] = Counter()

    def count(owner: type, name: str) -> None:
        plainly = getattr(owner, name)
        monkeypatch.setattr(
            owner, name, lambda *given, **named: counted.update([name]) or plainly(*given, **named)
        )

    count(LogIndex, "read_cloud")
    count(ScanSurface, "_drawn")
    data[3, 0]
    assert counted == {"read_cloud": 4, "_drawn": 6}  # three scans and a sweep, which the centre hides
    data[3, 0]
    assert counted == {"read_cloud": 5 if keep_frames else 8, "_drawn": 6 if keep_frames else 12}


def test_what_moved_away_can_be_left_out_of_the_dense_cloud(pandaset_root, tmp_path):
    moving = write_index(pandaset_root, tmp_path, version="v1.0-mini")
    options = {
        "frames": ["scene-9102"],
        "offsets": (0,),
        "sweeps": 5,
        "max_points": 2000,
        "sweep_points": None,
    }
    all_of_it, some = (
        dense_part(dataset(moving, drop_moving=drop, **options)[7, 0])[1] for drop in (False, True)
    )
    # judged by the whole scan, before the centre's cloud is thinned, whose points all stay
    assert int((some == 0).sum()) == int((all_of_it == 0).sum()) == 2000
    assert 0.9 * len(all_of_it) < len(some) < 0.9999 * len(all_of_it)


def test_the_number_of_points_can_be_drawn(index):
    drawn = dataset(index, max_points=(500, 50_000), offsets=(0,), sweeps=0)
    counts = [len(drawn[2, seed].points) for seed in range(12)]
    assert min(counts) < 3000 < 12_000 < max(counts)
    assert all(500 <= count <= 50_000 for count in counts)
    assert len(drawn[2, 3].points) == counts[3]


def test_a_superpixel_can_be_held_to_one_depth(index, tmp_path):
    write_superpixels(index.cameras(index.rows(FRAMES)), tmp_path, provider="slic", workers=0)
    options = {"region": "superpixel", "superpixels": tmp_path, "flip": 0.0, "sweeps": 0, "offsets": (0,)}
    options |= {"augmentation": STILL, "cameras_per_clip": 1}
    every, one = (dataset(index, one_depth_per_superpixel=held, **options)[1, 0] for held in (False, True))
    distance = {
        name: batch.points[batch.pair_point, :3].norm(dim=1) for name, batch in (("all", every), ("one", one))
    }
    assert 0.5 * len(every.pair_point) < len(one.pair_point) < 0.98 * len(every.pair_point)
    spread = [
        float(
            distance[name][batch.pair_region == region].max()
            / distance[name][batch.pair_region == region].min()
        )
        for name, batch in (("all", every), ("one", one))
        for region in one.pair_region[one.pair_region >= 0].unique().tolist()
    ]
    half = len(spread) // 2
    assert max(spread[half:]) < 2.5 < max(spread[:half])


def test_times_that_make_no_sense_are_named(index):
    with pytest.raises(ValueError, match=r"\(-0\.5, 0, 0\.5\) are key frames, whole numbers"):
        dataset(index, offsets=(-0.5, 0, 0.5))
    with pytest.raises(ValueError, match="must be distinct and hold 0"):
        dataset(index, offsets=(-1, 1))
    with pytest.raises(ValueError, match=r"times\.unit 'hours' is unknown; use one of frames, seconds"):
        dataset(index, unit="hours")
    with pytest.raises(ValueError, match="border 'mirror' is unknown; use one of absent, repeat, other"):
        dataset(index, border="mirror")


def test_what_hides_points_is_looked_for_only_where_there_are_images(index, monkeypatch):
    looked: list[int] = []

    def found(points: np.ndarray, by_lidar: Any) -> ScanSurface:
        looked.append(len(points))
        return scan_surface(points, by_lidar)

    monkeypatch.setattr(clip_clouds, "scan_surface", found)
    bare = dataset(index, images=False)[2, 0]
    assert not looked
    assert dataset(index)[2, 0].tokens == bare.tokens
    assert len(looked) == 3  # scans of three times; the dense cloud has that of the middle one
