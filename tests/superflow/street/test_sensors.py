"""LiDAR and cameras record the same world at their own times."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from superflow.geometry import invert, to_quaternion, transform_points
from superflow.street import shapes, trace
from superflow.street.fans import pixel_rays
from superflow.street.lidar import STREET_LIDAR, Lidar, draw_lidar
from superflow.street.recorder import BOX_MARGIN, Recorder
from superflow.street.rig import draw_rig, make_rig
from superflow.street.scanner import Echoes, add_noise, respond
from superflow.street.scene import make_scene, scene_rng

TIME = 1.05
SIZE = (96, 168)


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder(make_scene(0, 4, 3.0), make_rig(scene_rng(0, 4, 3), *SIZE), seed=0, number=4)


@pytest.fixture(scope="module")
def sweep(recorder):
    return recorder.sweep(TIME)


@pytest.fixture(scope="module")
def exposures(recorder):
    found = {}
    for sensor in recorder.rig.cameras:
        t = recorder.exposure_time(sensor, TIME)
        found[sensor.channel] = (sensor, t, recorder.exposure(sensor, t, *SIZE))
    return found


def to_world(recorder, t):
    return recorder.ego_to_world(t) @ recorder.rig.mount.sensor_to_ego


def wall_errors(recorder, sweep, points, t):
    """Distances [m] of the points on fixed boxes from those boxes, by the pose at the sweep's time."""
    world = recorder.stage.world
    row = np.maximum(sweep.prims, 0)
    chosen = (sweep.prims >= 0) & (world.kind[row] == shapes.BOX) & (world.mover[row] < 0)
    where = transform_points(to_world(recorder, t), points[chosen, :3].astype(np.float64))
    matrix = world.matrix[row[chosen]].reshape(-1, 3, 4)
    unit = np.einsum("nij,nj->ni", matrix[..., :3], where) + matrix[..., 3]
    outside = (np.abs(unit) - 1.0) * world.half[row[chosen]]
    return np.abs(outside.max(axis=1)), np.linalg.norm(points[chosen, :3], axis=1)


def test_file_rows_are_those_of_nuscenes(sweep):
    assert sweep.points.dtype == np.float32
    assert sweep.points.shape[1] == 5
    assert 15_000 < len(sweep.points) <= 32 * 1085
    intensity, ring = sweep.points[:, 3], sweep.points[:, 4]
    assert set(np.unique(ring)) == set(range(32))
    assert intensity.min() >= 0
    assert intensity.max() <= 255
    assert np.array_equal(intensity, np.rint(intensity))
    assert len(np.unique(intensity)) > 60
    assert len(sweep.labels) == len(sweep.points)
    # ring 0 looks down, ring 31 up
    slope = np.rad2deg(np.arctan2(sweep.points[:, 2], np.hypot(sweep.points[:, 0], sweep.points[:, 1])))
    far = np.linalg.norm(sweep.points[:, :3], axis=1) > 4  # near points move more by the compensation
    assert np.abs(slope - (-30.67 + ring * 41.34 / 31))[far].max() < 3.0


def test_walls_of_two_sweeps_line_up_after_the_pose_chain(recorder, sweep):
    """Motion over the sweep is compensated: fixed boxes are as thin as the range noise, in every sweep."""
    for t, turn in (
        (TIME, sweep),
        (TIME + STREET_LIDAR.turn_s, recorder.sweep(TIME + STREET_LIDAR.turn_s)),
        (2.05, recorder.sweep(2.05)),
    ):
        errors, _ = wall_errors(recorder, turn, turn.points, t)
        assert len(errors) > 400
        assert np.sqrt(np.mean(errors**2)) < 0.025
        assert np.quantile(errors, 0.99) < 0.07


def test_mistake_10_sweep_without_motion_compensation_would_be_seen(recorder, sweep):
    """The same points left in the sensor's frame of their own column miss the walls by decimetres."""
    assert recorder.scene.ego.pace.speed > 3
    times = TIME + STREET_LIDAR.times
    ego = [recorder.ego_to_world(float(t)) for t in times[::50]]
    azimuth = np.arctan2(sweep.points[:, 0], sweep.points[:, 1])
    turned = np.mod(azimuth - STREET_LIDAR.azimuths[0], 2 * np.pi)
    column = np.clip((turned / (2 * np.pi) * len(times)).astype(int), 0, len(times) - 1)
    raw = sweep.points.copy()
    lidar = recorder.rig.mount.sensor_to_ego
    back = [invert(pose @ lidar) @ to_world(recorder, TIME) for pose in ego]
    for k, undo in enumerate(back):
        chosen = column // 50 == k
        raw[chosen] = transform_points(undo, sweep.points[chosen])
    right, _ = wall_errors(recorder, sweep, sweep.points, TIME)
    wrong, _ = wall_errors(recorder, sweep, raw, TIME)
    assert np.sqrt(np.mean(wrong**2)) > 3 * np.sqrt(np.mean(right**2))


def project(recorder, sweep, sensor, t):
    """Pixels (N, 2) and distances from the eye (N,) by the pose chain with both times."""
    camera_to_world = recorder.ego_to_world(t) @ sensor.sensor_to_ego
    world = transform_points(to_world(recorder, TIME), sweep.points[:, :3].astype(np.float64))
    local = transform_points(invert(camera_to_world), world)
    pixels = (
        local[:, :2] / np.maximum(local[:, 2:], 1e-3) @ sensor.intrinsics[:2, :2].T + sensor.intrinsics[:2, 2]
    )
    pixels[local[:, 2] < 1.0] = -1
    return pixels, np.linalg.norm(local, axis=1)


def agreement(recorder, sweep, exposures, shift=0.0):
    """Share of points in view, not occluded and away from edges, whose class is that of the pixel."""
    same = total = 0
    fixed = recorder.stage.world.mover[np.maximum(sweep.prims, 0)] < 0
    for sensor, t, exposure in exposures.values():
        pixels, distances = project(recorder, sweep, sensor, t + shift)
        u, v = np.rint(pixels).astype(int).T
        seen = (u >= 1) & (v >= 1) & (u < SIZE[1] - 1) & (v < SIZE[0] - 1) & fixed
        u, v = np.clip(u, 1, SIZE[1] - 2), np.clip(v, 1, SIZE[0] - 2)
        around = np.stack([exposure.labels[v + j, u + i] for j in (-1, 0, 1) for i in (-1, 0, 1)])
        seen &= (around == around[:1]).all(axis=0)  # a pixel is wide; at a border both answers are right
        seen &= np.abs(exposure.distances[v, u] - distances) < 0.2 + 0.05 * distances
        same += (exposure.labels[v, u] == sweep.labels)[seen].sum()
        total += seen.sum()
    return same / total, total


def test_image_and_lidar_show_the_same_world(recorder, sweep, exposures):
    share, total = agreement(recorder, sweep, exposures)
    assert total > 3000
    assert share > 0.97


def test_depth_of_the_image_is_the_range_of_the_lidar(recorder, sweep, exposures):
    sensor, t, exposure = exposures["CAM_FRONT"]
    pixels, distances = project(recorder, sweep, sensor, t)
    u, v = np.rint(pixels).astype(int).T
    seen = (u >= 0) & (v >= 0) & (u < SIZE[1]) & (v < SIZE[0]) & (sweep.labels == 24)
    error = np.abs(exposure.distances[v[seen], u[seen]] - distances[seen]) / distances[seen]
    assert seen.sum() > 100
    assert np.median(error) < 0.05


def test_mistake_12_one_pose_for_both_clocks_shifts_points(recorder, sweep, exposures):
    """Cameras fire before the sweep ends: their own ego pose is not the LiDAR's."""
    moved = []
    for sensor, t, _ in exposures.values():
        own, _ = project(recorder, sweep, sensor, t)
        lidar_time, _ = project(recorder, sweep, sensor, TIME)
        seen = (own >= 0).all(axis=1) & (own < SIZE[::-1]).all(axis=1)
        moved.append(np.abs(own - lidar_time)[seen].max(initial=0.0))
        assert t <= TIME
    assert max(moved) > 2.0


def test_occluded_points_exist(recorder, sweep, exposures):
    """The roof LiDAR sees what a camera does not, as mistake 13 warns: the drive can test for it."""
    sensor, t, exposure = exposures["CAM_FRONT_LEFT"]
    pixels, distances = project(recorder, sweep, sensor, t)
    u, v = np.rint(pixels).astype(int).T
    seen = (u >= 0) & (v >= 0) & (u < SIZE[1]) & (v < SIZE[0])
    hidden = distances[seen] > exposure.distances[v[seen], u[seen]] * 1.2 + 0.5
    assert 0.005 < hidden.mean() < 0.5


def test_boxes_contain_their_points(recorder, sweep):
    annotations = recorder.annotations(sweep, TIME, SIZE)
    assert len(annotations) > 15
    world = transform_points(to_world(recorder, TIME), sweep.points[:, :3].astype(np.float64))
    instances = np.where(sweep.prims >= 0, recorder.stage.world.instance[np.maximum(sweep.prims, 0)], -1)
    for found in annotations:
        thing = recorder.scene.placed[found.placed]
        own = world[instances == found.placed]
        assert len(own) == found.points
        pose = thing.pose_at(recorder.scene.street, TIME)
        np.testing.assert_allclose(to_quaternion(pose), found.rotation, atol=1e-9)
        local = (own - found.center) @ pose[:3, :3]
        slack = 0.06 if thing.track is None else 0.9  # others' motion over the turn stays in the points
        assert (np.abs(local) <= found.size[[1, 0, 2]] / 2 + slack).all()
        assert found.size.min() > 2 * BOX_MARGIN
        assert 1 <= found.visibility <= 4
    assert len({found.visibility for found in annotations}) > 1


def test_moving_things_smear_by_their_own_speed(recorder):
    """Points of a mover lie on it at their own column's time, not at the sweep's."""
    stage = recorder.stage
    turn = recorder.sweep(TIME)
    rows = stage.world.mover[np.maximum(turn.prims, 0)]
    rows[turn.prims < 0] = -1
    fast = [m for m in range(1, len(stage.movers)) if (rows == m).sum() > 30 and speed_of(recorder, m) > 2.0]
    assert fast
    world = transform_points(to_world(recorder, TIME), turn.points[:, :3].astype(np.float64))
    azimuth = np.arctan2(turn.points[:, 0], turn.points[:, 1])
    for m in fast:
        own = rows == m
        turned = np.mod(azimuth[own] - STREET_LIDAR.azimuths[0], 2 * np.pi) / (2 * np.pi)
        if np.ptp(turned) > 0.5:
            continue  # stands across the seam
        t = TIME - STREET_LIDAR.turn_s + turned.mean() * STREET_LIDAR.turn_s
        thing = recorder.scene.placed[stage.movers[m]]
        local = transform_points(invert(thing.pose_at(recorder.scene.street, t)), world[own])
        assert (local > thing.low - 0.12).all()
        assert (local < thing.high + 0.12).all()


def speed_of(recorder, m):
    track = recorder.scene.placed[recorder.stage.movers[m]].track
    return track.pace.speed


def test_noise_has_the_stated_size():
    rng = np.random.default_rng(0)
    shape = (1085, 32)
    ranges = np.full(shape, 12.0)
    ranges[:, 0] = 0.0
    echoes = Echoes(
        np.zeros((1085, 3)),
        np.zeros((*shape, 3)),
        ranges,
        np.full(shape, 0.2),
        np.zeros(shape),
        np.zeros(shape),
    )
    measured, intensity, back = add_noise(echoes, replace(STREET_LIDAR, dropout=0.03), rng)
    assert not back[:, 0].any()
    assert (measured - ranges)[:, 1:].std() == pytest.approx(0.02, rel=0.03)
    assert 1 - back[:, 1:].mean() == pytest.approx(0.03, abs=0.005)
    assert intensity.mean() == pytest.approx(51, rel=0.02)
    far = Echoes(
        echoes.origins,
        echoes.directions,
        np.full(shape, 70.0),
        np.full(shape, 0.02),
        echoes.labels,
        echoes.prims,
    )
    # little light comes back from far and dark
    assert add_noise(far, STREET_LIDAR, np.random.default_rng(0))[2].mean() < 0.6


def test_recordings_repeat_in_any_order(recorder, sweep):
    other = Recorder(make_scene(0, 4, 3.0), recorder.rig, seed=0, number=4)
    sensor = recorder.rig.cameras[1]
    other.exposure(sensor, 0.5, 32, 48)  # whatever was recorded before must not matter
    assert other.sweep(TIME).points.tobytes() == sweep.points.tobytes()
    first = recorder.exposure(sensor, 0.7, 32, 48).image
    assert first.tobytes() == other.exposure(sensor, 0.7, 32, 48).image.tobytes()


def test_pixel_zero_is_the_centre_of_the_first_pixel():
    intrinsics = np.array([[100.0, 0, 3.0], [0, 50.0, 2.0], [0, 0, 1]])
    rays = pixel_rays(intrinsics, 5, 7).reshape(5, 7, 3)
    np.testing.assert_allclose(rays[2, 3], (0, 0, 1))
    np.testing.assert_allclose(rays[4, 0] / rays[4, 0, 2], (-0.03, 0.04, 1))
    np.testing.assert_allclose(np.linalg.norm(rays, axis=-1), 1.0)


def test_images_are_light_and_coloured(exposures):
    for _, _, exposure in exposures.values():
        assert exposure.image.dtype == np.uint8
        assert 40 < exposure.image.mean() < 220
        assert exposure.image.astype(float).std() > 20
        assert set(np.unique(exposure.labels)) > {24, 255}
        assert np.isinf(exposure.distances[exposure.labels == 255]).all()
    assert trace.MISS == -1


# --- other sensors ------------------------------------------------------------------------------------------------


def test_sensors_drawn_differ_in_what_real_ones_differ_in():
    rigs = [draw_rig(np.random.default_rng(n), 90, 160) for n in range(200)]
    lidars = [rig.lidar for rig in rigs]
    assert {16, 32, 40, 64, 128} <= {len(lidar.elevations) for lidar in lidars}
    assert {lidar.turn_s for lidar in lidars} == {0.05, 0.1}
    assert {len(rig.cameras) for rig in rigs} == set(range(1, 8))
    for rig in rigs:
        lidar = rig.lidar
        assert (np.diff(lidar.elevations) > 0).all()
        assert np.deg2rad(-45) < lidar.elevations[0] < np.deg2rad(-10)
        assert 0 < lidar.elevations[-1] < np.deg2rad(30)
        assert 30_000 > len(lidar.azimuths) * len(lidar.elevations) / 4.1 > 3_000
        assert 1.6 <= rig.mount.sensor_to_ego[2, 3] <= 3.2
        channels = [sensor.channel for sensor in rig.sensors]
        assert channels[0] == "LIDAR_TOP"
        assert len(set(channels)) == len(channels)
        assert "CAM_FRONT" in channels
        for sensor in rig.cameras:
            assert 0 < sensor.delay_s <= lidar.turn_s
            assert 0.25 < sensor.intrinsics[0, 0] / 160 < 3.0
    spacing = [np.diff(lidar.elevations).max() / np.diff(lidar.elevations).min() for lidar in lidars]
    assert min(spacing) < 1.01
    assert max(spacing) > 5


@pytest.mark.parametrize("number", range(3))
def test_sweep_of_another_sensor_keeps_its_geometry(recorder, number):
    """Walls stay where the pose chain says, rings where the beams look, ranges below the sensor's."""
    rig = draw_rig(np.random.default_rng(number), *SIZE)
    rig = replace(rig, lidar=replace(rig.lidar, mixed=0.0))
    other = Recorder(recorder.scene, rig, seed=0, number=4)
    turn = other.sweep(TIME)
    errors, _ = wall_errors(other, turn, turn.points, TIME)
    assert len(errors) > 100
    assert np.sqrt(np.mean(errors**2)) < 1.25 * rig.lidar.sigma_m
    distance = np.linalg.norm(turn.points[:, :3], axis=1)
    assert distance.max() < rig.lidar.max_range + 2
    ring = turn.points[:, 4].astype(int)
    assert ring.max() < len(rig.lidar.elevations)
    slope = np.arcsin(turn.points[:, 2] / distance)
    far = distance > 8
    assert np.abs(slope - rig.lidar.elevations[ring])[far].max() < np.deg2rad(3)


def flat_turn(ranges, strength=0.2):
    none = np.zeros(ranges.shape)
    return Echoes(np.zeros((len(ranges), 3)), none[..., None], ranges, none + strength, none, none)


def test_intensity_is_linear_bent_or_falls_with_the_range():
    strength, ranges = np.linspace(0, 1, 11), np.full(11, 20.0)
    plain = Lidar(STREET_LIDAR.elevations)
    np.testing.assert_array_equal(respond(strength, ranges, plain), strength)
    bent = respond(strength, ranges, replace(plain, bend=20.0))
    assert bent[[0, -1]] == pytest.approx([0, 1])
    assert (np.diff(bent, 2) < 0).all()
    np.testing.assert_allclose(respond(strength, ranges, replace(plain, falloff=1.0)), strength / 2)
    np.testing.assert_allclose(respond(strength, ranges, replace(plain, gain=3.0)), 3 * strength)
    _, coarse, _ = add_noise(
        flat_turn(np.full((99, 32), 9.0)), replace(plain, step=8), np.random.default_rng(0)
    )
    assert set(np.unique(coarse) % 8) == {0}


def test_mixed_returns_lie_between_the_two_surfaces():
    ranges = np.full((1000, 32), 10.0)
    ranges[501:] = 12.0
    ranges[:500] = 12.0  # column 500 is a post before a wall
    lidar = replace(STREET_LIDAR, sigma_m=0.0, dropout=0.0, mixed=0.5)
    measured, _, _ = add_noise(flat_turn(ranges), lidar, np.random.default_rng(0))
    moved = measured != ranges
    assert set(np.nonzero(moved)[0]) == {500}
    assert 8 <= moved.sum() <= 24
    assert (measured[moved] > 10).all()
    assert (measured[moved] < 12).all()


def test_drawn_lidar_depends_on_its_generator_alone():
    first, again = draw_lidar(np.random.default_rng(3)), draw_lidar(np.random.default_rng(3))
    assert first.elevations.tobytes() == again.elevations.tobytes()
    assert replace(first, elevations=0) == replace(again, elevations=0)
