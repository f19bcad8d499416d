"""Finer classes of points: below the name of what nuScenes calls them, and where the street has such things."""

from __future__ import annotations

import numpy as np
import pytest

from superflow.street import classes, people, scenery, trace, vehicles
from superflow.street.classes import CATEGORIES, COARSE, FINER_CATEGORIES
from superflow.street.compiled import jit
from superflow.street.lidar import STREET_LIDAR
from superflow.street.recorder import Recorder
from superflow.street.rig import make_rig
from superflow.street.scanner import scan
from superflow.street.scene import make_scene, scene_rng
from superflow.street.shapes import LEAF_BALL, LEAF_BOX
from superflow.street.textures import BARK, ground_class
from superflow.street.tracks import track_poses

NAMES = {name: number for number, name in enumerate(FINER_CATEGORIES)}
MAKERS = {
    **{f"vehicle {name}": make for name, make in vehicles.VEHICLES.items()},
    **{f"ridden {name}": lambda rng, make=make: make(rng, True) for name, make in vehicles.RIDDEN.items()},
    "pedestrian": people.make_pedestrian,
    "building": lambda rng: scenery.make_building(rng, 12.0, 9.0, 7.0),
    "tree": lambda rng: scenery.make_tree(rng, 6.0),
    "bush": lambda rng: scenery.make_bush(rng, 1.0),
    "grass": scenery.make_grass,
    "hedge": lambda rng: scenery.make_row(rng, "hedge", 5.0, 1.5),
    "wall": lambda rng: scenery.make_row(rng, "wall", 5.0, 1.5),
    "fence": lambda rng: scenery.make_row(rng, "fence", 5.0, 1.5),
    "lamp post": scenery.make_lamp_post,
    "traffic light": scenery.make_traffic_light,
    "sign": scenery.make_sign,
    "furniture": scenery.make_furniture,
    "cone": scenery.make_cone,
    "barrier": scenery.make_barrier,
    "litter": scenery.make_litter,
}
FINER_OF = {
    "building": {classes.BUILDING},
    "tree": {classes.TRUNK, classes.VEGETATION},
    "hedge": {classes.VEGETATION},
    "wall": {classes.WALL},
    "fence": {classes.FENCE},
    "lamp post": {classes.POLE, classes.MANMADE},  # with banners
    "traffic light": {classes.POLE, classes.TRAFFIC_LIGHT},
    "sign": {classes.POLE, classes.TRAFFIC_SIGN},
    "ridden bicycle": {NAMES["vehicle.bicycle"], classes.BICYCLE_RIDER},
    "ridden motorcycle": {NAMES["vehicle.motorcycle"], classes.MOTORCYCLE_RIDER},
}


def test_numbers_are_those_of_the_names():
    assert len(set(FINER_CATEGORIES)) == len(FINER_CATEGORIES)
    assert FINER_CATEGORIES[:32] == CATEGORIES
    for constant in ("PARKING", "BUILDING", "WALL", "FENCE", "POLE", "TRAFFIC_SIGN", "TRAFFIC_LIGHT", "TRUNK",
                     "SIDEWALK", "TERRAIN", "MANMADE", "VEGETATION"):  # fmt: skip
        assert FINER_CATEGORIES[getattr(classes, constant)].endswith(f".{constant.lower()}")
    assert FINER_CATEGORIES[classes.ROAD] == "flat.driveable_surface"
    assert FINER_CATEGORIES[classes.OTHER_FLAT] == "flat.other"
    assert FINER_CATEGORIES[classes.BICYCLE_RIDER] == "vehicle.bicycle.rider"
    assert FINER_CATEGORIES[classes.MOTORCYCLE_RIDER] == "vehicle.motorcycle.rider"


def test_coarse_is_the_name_above():
    for number, name in enumerate(FINER_CATEGORIES):
        above = next(known for known in CATEGORIES if name == known or name.startswith(known + "."))
        assert CATEGORIES[COARSE[number]] == above
    assert (COARSE[len(FINER_CATEGORIES) :] == np.arange(len(FINER_CATEGORIES), 256)).all()


@pytest.mark.parametrize("name", MAKERS)
def test_parts_are_of_their_object_or_finer(name):
    found = set()
    for seed in range(20):
        model = MAKERS[name](np.random.default_rng(seed))
        labels = {part.label for part in model.parts}
        assert (COARSE[list(labels)] == model.label).all()
        assert name in FINER_OF or labels == {model.label}
        for part in model.parts:
            if part.kind in (LEAF_BALL, LEAF_BOX) or part.material == BARK:
                assert (part.label == classes.TRUNK) == (part.material == BARK)
        found |= labels
    assert found == FINER_OF.get(name, found)


def test_signs_and_riders_are_above_what_carries_them():
    for seed in range(10):
        rng = np.random.default_rng(seed)
        for model, above in (
            (scenery.make_sign(rng), classes.TRAFFIC_SIGN),
            (scenery.make_traffic_light(rng), classes.TRAFFIC_LIGHT),
            (vehicles.make_bicycle(rng, True), classes.BICYCLE_RIDER),
            (vehicles.make_motorcycle(rng, True), classes.MOTORCYCLE_RIDER),
        ):
            heights = {True: [], False: []}
            for part in model.parts:
                heights[part.label == above].append(part.center[2])
            assert np.mean(heights[True]) > np.mean(heights[False]) + 0.3


@pytest.fixture(scope="module", params=[(0, ()), (1, ()), (2, ("place",)), (4, ("place",))])
def recorder(request):
    number, vary = request.param
    return Recorder(
        make_scene(5, number, 3.0, vary), make_rig(scene_rng(5, number, 3), 32, 56), seed=5, number=number
    )


def ground_hits(recorder):
    """x, y and finer class of what a turn without noise meets of the ground."""
    lidar = STREET_LIDAR
    poses = track_poses(recorder.scene.street, [recorder.scene.ego], 1.05 + lidar.times)[:, 0]
    turn = scan(recorder._caster(1.0, 1.05), poses @ recorder.rig.mount.sensor_to_ego, lidar)
    on_ground = turn.prims == trace.GROUND
    hits = turn.origins[:, None] + turn.ranges[..., None] * turn.directions
    return hits[on_ground][:, 0], hits[on_ground][:, 1], turn.labels[on_ground]


def test_parking_is_what_is_paved_beside_lanes_and_side_roads(recorder):
    """Against the street's own plan, layer by layer."""
    x, y, labels = ground_hits(recorder)
    street = recorder.scene.street
    paved = street.layer(trace.ROAD, x, y) < 0
    lanes = np.abs(street.layer(trace.ACROSS, x, y)) <= street.lanes * street.lane + 0.3
    side_road = np.abs(street.layer(trace.SIDE, x, y)) <= street.side_half + 5.0
    want = np.where(paved, np.where(lanes | side_road, classes.ROAD, classes.PARKING), labels)
    assert np.array_equal(want, labels)
    assert not np.isin(labels[~paved], (classes.ROAD, classes.PARKING)).any()
    assert (labels == classes.ROAD).sum() > 1000


def test_vehicles_park_on_parking_and_drive_on_the_road(recorder):
    scene, world = recorder.scene, recorder.stage.world
    street = scene.street
    standing = [thing.pose[:2, 3] for thing in scene.placed if thing.attribute == "vehicle.parked"]
    x, y = np.array(standing).T
    own = street.layer(trace.ROAD, x, y) < 0  # the others stand on grass and pavements
    own &= np.abs(street.layer(trace.SIDE, x, y)) > street.side_half + 5.0
    assert own.any()
    assert (ground_labels(world, x[own], y[own]) == classes.PARKING).all()
    moving = [thing.track for thing in scene.placed if thing.attribute == "vehicle.moving"]
    x, y = np.moveaxis(
        track_poses(street, [scene.ego, *moving], np.linspace(0, 3, 7))[..., :2, 3].reshape(-1, 2), 1, 0
    )
    assert (ground_labels(world, x, y) == classes.ROAD).all()


@jit
def ground_labels(world, x, y):
    """Finer classes of the ground at x, y (N,)."""
    labels = np.zeros(len(x), dtype=np.uint8)
    for i in range(len(x)):
        labels[i] = ground_class(world, x[i], y[i])[1]
    return labels
