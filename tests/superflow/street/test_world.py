"""The grid walk against all primitives one by one, and the scene that it walks through."""

from __future__ import annotations

import numpy as np
import pytest

from superflow.geometry import invert, transform_points
from superflow.street import shapes, trace
from superflow.street.lidar import STREET_LIDAR
from superflow.street.recorder import Recorder
from superflow.street.rig import make_rig
from superflow.street.scene import make_scene, scene_rng
from superflow.street.street import MARGIN
from superflow.street.tracks import track_poses

TIME = 1.25


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder(make_scene(3, 0, 3.0), make_rig(scene_rng(3, 0, 3), 64, 96), seed=3, number=0)


def slow_trace(stage, movers, origin, direction, t_max):
    """Nearest hit: every primitive, and the ground in steps of a centimetre."""
    world, best, found = stage.world, shapes.FAR, trace.MISS
    for p in range(len(world.kind)):
        o, d = origin, direction
        if world.mover[p] >= 0:
            matrix = movers.world_to_object[0, world.mover[p]].reshape(3, 4)
            o, d = matrix[:, :3] @ o + matrix[:, 3], matrix[:, :3] @ d
        t = shapes.intersect(
            world.kind[p], world.matrix[p], world.half[p], *world.shape[p], world.seed[p], *o, *d, 0.5, t_max
        )
        if t < best:
            best, found = t, p
    steps = np.arange(0.5, t_max, 0.01)
    way = origin + steps[:, None] * direction
    inside = (way[:, :2] > world.grid[:2]).all(axis=1)
    inside &= (way[:, :2] < world.grid[:2] + world.grid[3:5] * world.grid[2]).all(axis=1)
    below = (way[:, 2] < stage.scene.street.height(way[:, 0], way[:, 1])) & inside
    if below.any() and steps[below.argmax()] < best:
        best, found = steps[below.argmax()], trace.GROUND
    return best, found


def test_grid_walk_equals_all_primitives_one_by_one(recorder):
    rng = np.random.default_rng(0)
    movers = recorder.stage.movers_at(TIME)
    caster = trace.Caster(recorder.stage.world, movers, recorder.stage.scratch)
    directions = rng.normal(size=(150, 3)) * (1.0, 1.0, 0.12) - (0.0, 0.0, 0.12)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    origins = np.repeat((recorder.ego_to_world(TIME) @ [1.0, 0.0, 2.2, 1.0])[None, :3], 150, axis=0)
    origins += rng.normal(0, 0.1, origins.shape)
    distances, prims = caster.cast(origins, directions, skip=-1, t_min=0.5, t_max=60.0)
    shadow = caster.cast(origins, directions, skip=-1, t_min=0.5, t_max=60.0, shadow=True)[1] != trace.MISS
    world_prims = 0
    for n in range(150):
        t, p = slow_trace(recorder.stage, movers, origins[n], directions[n], 60.0)
        assert (prims[n] == p) or abs(distances[n] - t) < 0.02, (n, prims[n], p, distances[n], t)
        assert distances[n] == pytest.approx(t, abs=0.02)
        assert shadow[n] or p < 0
        world_prims += p >= 0
    assert world_prims > 30
    assert (prims == trace.GROUND).sum() > 30


def test_moving_things_are_met_where_they_are_at_that_moment(recorder):
    """Halfway through an interval a mover stands halfway, for the ray as for the tables."""
    stage, street = recorder.stage, recorder.scene.street
    movers = stage.movers_at(1.0, 1.05)
    caster = trace.Caster(stage.world, movers, stage.scratch)
    found = 0
    for m, row in enumerate(stage.movers[1:], 1):
        thing = recorder.scene.placed[row]
        pose = thing.pose_at(street, 1.025)
        middle = pose[:3, :3] @ ((thing.low + thing.high) / 2) + pose[:3, 3]
        above = middle + (0.0, 0.0, 30.0)
        down = np.array([[0.0, 0.0, -1.0]])
        _, prims = caster.cast(above[None], down, skip=-1, t_min=0.1, t_max=60.0, share=np.array([0.5]))
        if prims[0] >= 0 and stage.world.mover[prims[0]] == m:
            found += 1
            blended = movers.world_to_object[:, m].mean(axis=0).reshape(3, 4)
            np.testing.assert_allclose(blended, invert(pose)[:3], atol=2e-3)
    assert found > 5


def test_ground_is_the_same_for_rays_and_for_what_stands_on_it(recorder):
    rng = np.random.default_rng(0)
    street = recorder.scene.street
    x, y, _ = street.place(rng.uniform(20, street.length - 20, 300), rng.uniform(-20, 20, 300))
    slow = street.height(x, y)
    fast = [trace.ground_height(recorder.stage.world, *xy) for xy in zip(x, y)]
    np.testing.assert_allclose(fast, slow, atol=1e-5)


def test_ground_normal_is_that_of_the_slopes(recorder):
    """Beside the smooth ground also on the faces of curbs; a step across an edge of the grid says nothing."""
    world, step = recorder.stage.world, 1e-5
    ego = recorder.ego_to_world(TIME)[:2, 3]
    steep = 0
    for x, y in ego + np.random.default_rng(0).uniform(-25, 25, (3000, 2)):
        slopes = []
        for dx, dy in ((step, 0.0), (0.0, step)):
            here = trace.ground_height(world, x, y)
            before = (here - trace.ground_height(world, x - dx, y - dy)) / step
            after = (trace.ground_height(world, x + dx, y + dy) - here) / step
            slopes.append((before, after))
        if any(abs(before - after) > 1e-3 for before, after in slopes):
            continue
        want = np.array([-slopes[0][0], -slopes[1][0], 1.0])
        found = np.empty(3)
        trace.ground_normal(world, x, y, found)
        np.testing.assert_allclose(found, want / np.linalg.norm(want), atol=2e-3)
        steep += want[2] / np.linalg.norm(want) < 0.9
    assert steep > 10


def test_surface_points_lie_on_their_primitive(recorder):
    """The metric coordinates of a hit on a box are on its border, and the normal looks back at the sensor."""
    stage = recorder.stage
    caster = trace.Caster(stage.world, stage.movers_at(TIME), stage.scratch)
    origin = (recorder.ego_to_world(TIME) @ [1.0, 0.0, 2.2, 1.0])[:3]
    angles = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles), np.full(400, -0.03)], axis=1)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    distances, prims = caster.cast(origin[None], directions, skip=0, t_min=0.1, t_max=70.0)
    normal, local = np.empty(3), np.empty(3)
    boxes = np.flatnonzero((prims >= 0) & (stage.world.kind[np.maximum(prims, 0)] == shapes.BOX))
    assert len(boxes) > 20
    for n in boxes:
        point = origin + distances[n] * directions[n]
        trace.surface(stage.world, caster.movers, 0.0, prims[n], *point, normal, local)
        assert np.abs(np.abs(local) / stage.world.half[prims[n]]).max() == pytest.approx(1.0, abs=1e-6)
        assert normal @ directions[n] < 0
        assert np.linalg.norm(normal) == pytest.approx(1.0)


def test_scene_depends_on_seed_and_number_alone():
    first, again, other = make_scene(5, 2, 2.0), make_scene(5, 2, 2.0), make_scene(5, 3, 2.0)
    assert first.street.ground.tobytes() == again.street.ground.tobytes()
    assert len(first.placed) == len(again.placed)
    for a, b in zip(first.placed, again.placed):
        assert a.model.label == b.model.label
        assert a.pose is b.pose or a.pose.tobytes() == b.pose.tobytes()
    assert first.street.ground.shape != other.street.ground.shape or not np.array_equal(
        first.street.ground, other.street.ground
    )


def test_nothing_stands_in_the_way_of_the_vehicle(recorder):
    scene = recorder.scene
    ego = scene.placed[0]
    times = np.linspace(0.0, 3.0, 13)
    poses = track_poses(scene.street, [scene.ego], times)[:, 0]
    for thing in scene.placed[1:]:
        if thing.pose is None or thing.model.label in (28, 30):  # branches may hang over the road
            continue
        corners = np.array(
            [(x, y, 0.5) for x in (thing.low[0], thing.high[0]) for y in (thing.low[1], thing.high[1])]
        )
        world = transform_points(thing.pose, corners)
        for pose in poses:
            local = transform_points(invert(pose), world)
            hit = (local[:, :2] > ego.low[:2]).all(axis=1) & (local[:, :2] < ego.high[:2]).all(axis=1)
            assert not hit.any()


def test_track_moves_at_its_pace(recorder):
    """The pose's derivative is the speed that the pace states, and the vehicle looks where it goes."""
    scene = recorder.scene
    before, after = (scene.ego.pose(scene.street, t) for t in (1.0, 1.2))
    way = after[:3, 3] - before[:3, 3]
    expected = scene.ego.pace.distance(1.2) - scene.ego.pace.distance(1.0)
    assert np.linalg.norm(way) == pytest.approx(expected, rel=0.15)  # the lane is not the middle of the road
    assert way @ before[:3, 0] / np.linalg.norm(way) > 0.98
    np.testing.assert_allclose(before[:3, :3] @ before[:3, :3].T, np.eye(3), atol=1e-9)
    assert scene.ego.along == MARGIN


def test_rig_looks_where_nuscenes_does():
    rig = {sensor.channel: sensor for sensor in make_rig(np.random.default_rng(0), 90, 160).sensors}
    forward = rig["CAM_FRONT"].sensor_to_ego[:3, 2]
    assert forward @ [1, 0, 0] > 0.99  # optical axis
    assert rig["CAM_FRONT"].sensor_to_ego[:3, 1] @ [0, 0, -1] > 0.99  # image rows go down
    assert rig["CAM_BACK_LEFT"].sensor_to_ego[:3, 2] @ [0, 1, 0] > 0.9
    assert rig["LIDAR_TOP"].sensor_to_ego[:3, 1] @ [1, 0, 0] > 0.99  # y forward
    order = sorted((s for c, s in rig.items() if c != "LIDAR_TOP"), key=lambda s: s.delay_s)
    assert [s.channel for s in order] == [
        "CAM_FRONT_LEFT", "CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK_RIGHT", "CAM_BACK", "CAM_BACK_LEFT",
    ]  # fmt: skip
    assert len(STREET_LIDAR.elevations) == 32
    assert np.all(np.diff(STREET_LIDAR.elevations) > 0)
