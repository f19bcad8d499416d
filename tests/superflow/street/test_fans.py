"""Whole pictures and turns of rays against the same rays one by one, and shadows against a walk to the sun."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from numba import njit

from superflow.street import trace
from superflow.street.fans import image_fans, turn_fans
from superflow.street.lidar import STREET_LIDAR
from superflow.street.recorder import Recorder
from superflow.street.rig import make_rig
from superflow.street.scene import make_scene, scene_rng
from superflow.street.shadows import SHADOW_RANGE, in_shadow, mover_shadows
from superflow.street.tracks import track_poses

TIME = 1.05


@pytest.fixture(scope="module", params=(0, 3))
def recorder(request) -> Recorder:
    number = request.param
    return Recorder(
        make_scene(7, number, 3.0), make_rig(scene_rng(7, number, 3), 64, 112), seed=7, number=number
    )


def check(fans, caster, skip, t_min, t_max):
    """All rays meet what single rays meet; the ground's ridges that a ray only grazes may be missed by either."""
    distances, prims = fans.meet(caster.world, caster.movers, t_min, t_max)
    rays = fans.directions.shape[1]
    alone, met = caster.cast(
        np.repeat(np.broadcast_to(fans.origins, (len(distances), 3)), rays, axis=0),
        fans.directions.reshape(-1, 3),
        share=np.repeat(np.broadcast_to(fans.share, len(distances)), rays),
        skip=skip,
        t_min=t_min,
        t_max=t_max,
    )
    distances, prims = distances.ravel(), prims.ravel()
    same = (prims == met) & ((np.abs(distances - alone) < 0.02) | (met == trace.MISS))
    same |= np.abs(distances - alone) < 0.02  # two surfaces that touch
    ground = (prims == trace.GROUND) | (met == trace.GROUND)
    assert same[~ground].all()
    assert same.mean() > 0.995
    assert {trace.GROUND, trace.MISS} < set(prims.tolist())
    assert (prims >= 0).mean() > 0.1


@pytest.mark.parametrize("camera", [1, 2, 4])
def test_image_meets_what_single_rays_meet(recorder, camera):
    sensor = recorder.rig.sensors[camera]
    pose = recorder.ego_to_world(TIME) @ sensor.sensor_to_ego
    stage = recorder.stage
    caster = trace.Caster(stage.world, stage.movers_at(TIME), stage.scratch)
    fans = image_fans(stage.world, caster.movers, pose, sensor.intrinsics, 64, 112, skip=0, t_max=120.0)
    check(fans, caster, 0, 0.05, 120.0)


@pytest.mark.parametrize("elevations", [STREET_LIDAR.elevations, np.deg2rad(np.linspace(-89.5, 89.5, 40))])
def test_turn_meets_what_single_rays_meet(recorder, elevations):
    """The sensor and others move during the turn; the second sensor also looks straight down and up."""
    stage, times = recorder.stage, TIME + STREET_LIDAR.times
    poses = (
        track_poses(recorder.scene.street, [recorder.scene.ego], times)[:, 0]
        @ recorder.rig.mount.sensor_to_ego
    )
    caster = trace.Caster(stage.world, stage.movers_at(float(times[0]), TIME), stage.scratch)
    azimuths = STREET_LIDAR.azimuths
    sin, cos = np.sin(azimuths)[:, None], np.cos(azimuths)[:, None]
    directions = np.stack(
        [sin * np.cos(elevations), cos * np.cos(elevations), 0 * sin + np.sin(elevations)], axis=-1
    )
    fans = turn_fans(stage.world, caster.movers, poses, directions, azimuths, elevations, 80.0)
    check(fans, caster, -1, 0.9, 80.0)


@njit
def shadows_of(world, moving, points):
    found = np.zeros(len(points), dtype=np.bool_)
    for n in range(len(points)):
        found[n] = in_shadow(world, moving, points[n, 0], points[n, 1], points[n, 2])
    return found


def test_shadow_is_what_a_walk_to_the_sun_meets(recorder):
    stage = recorder.stage
    caster = trace.Caster(stage.world, stage.movers_at(TIME), stage.scratch)
    ego = recorder.ego_to_world(TIME)[:3, 3]
    points = ego + np.random.default_rng(0).uniform((-30, -30, 0.2), (30, 30, 3.0), (8000, 3))
    sun = np.broadcast_to(stage.world.sun, points.shape)
    met = caster.cast(points, sun, skip=-1, t_min=0.02, t_max=SHADOW_RANGE, shadow=True)[1]
    found = shadows_of(stage.world, mover_shadows(stage.world, caster.movers), points)
    np.testing.assert_array_equal(found, met != trace.MISS)
    movers = stage.world.mover[np.maximum(met, 0)] >= 0
    assert (movers & (met >= 0)).sum() > 20
    assert 0.05 < found.mean() < 0.95


def test_uncounted_references_are_neither_kept_nor_lost(recorder):
    """Compiled functions that count no references leave those of the arrays that they are handed as they were."""
    stage = recorder.stage
    before = [sys.getrefcount(array) for array in stage.world]
    sweep = recorder.sweep(1.0)
    for _ in range(3):
        assert recorder.sweep(1.0).points.tobytes() == sweep.points.tobytes()
        recorder.exposure(recorder.rig.cameras[0], 1.0, 16, 28)
    assert [sys.getrefcount(array) for array in stage.world] == before
