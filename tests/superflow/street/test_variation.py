"""Places and appearance drawn anew: what changes with a group, what stays, and that scenes remain sound."""

from __future__ import annotations

import numpy as np
import pytest

from superflow.geometry import invert, transform_points
from superflow.street.light import Film
from superflow.street.place import KINDS, PLAIN_PLACE, draw_place
from superflow.street.recorder import Recorder
from superflow.street.render import develop
from superflow.street.rig import make_rig
from superflow.street.scene import make_scene, scene_rng
from superflow.street.street import make_street
from superflow.street.trace import HEIGHT
from superflow.street.tracks import track_poses

TERRAIN, VEGETATION, WALK = 27, 30, 26


def record(number, vary):
    scene = make_scene(1, number, 2.0, vary)
    return Recorder(scene, make_rig(scene_rng(1, number, 3), 64, 112), seed=1, number=number)


@pytest.fixture(scope="module")
def places():
    return {number: record(number, ("place",)) for number in (0, 2, 8, 9)}


def test_every_kind_of_place_is_drawn_and_kinds_overlap():
    drawn = [draw_place(np.random.default_rng(n)) for n in range(300)]
    assert {place.name for place in drawn} == {kind.name for kind in KINDS}
    trees = {name: [p.trees for p in drawn if p.name == name] for name in ("main road", "suburb")}
    assert max(trees["main road"]) > min(trees["suburb"])
    assert all(place.slope < 0.13 for place in drawn)
    assert {place.rare for place in drawn} == {True, False}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_street_keeps_to_its_place(kind):
    streets = [make_street(np.random.default_rng(n), 20.0, kind) for n in range(3)]
    plain = [make_street(np.random.default_rng(n), 20.0, PLAIN_PLACE) for n in range(3)]
    for street in streets:
        assert kind.lane[0] <= street.lane <= kind.lane[1]
        assert kind.curb[0] <= street.curb <= kind.curb[1]
        assert kind.walk[0] <= street.walk[1] <= kind.walk[1]

    def roughness(ones):
        return np.mean([np.abs(np.diff(street.ground[..., HEIGHT], n=2, axis=1)).mean() for street in ones])

    assert (roughness(streets) > roughness(plain)) == (kind.bumps > 0)


def test_places_differ_in_what_the_lidar_sees(places):
    shares = np.array(
        [
            np.bincount(sweep.labels, minlength=32) / len(sweep.labels)
            for sweep in (recorder.sweep(1.05) for recorder in places.values())
        ]
    )
    assert len({recorder.scene.description for recorder in places.values()}) > 2
    assert np.ptp(shares[:, VEGETATION]) > 0.08
    assert (shares[:, [24, TERRAIN]].sum(axis=1) > 0.05).all()


def test_the_way_stays_free_in_every_place(places):
    """Branches and grass may hang over; nothing else stands where the vehicle drives."""
    for recorder in places.values():
        scene = recorder.scene
        ego = scene.placed[0]
        poses = track_poses(scene.street, [scene.ego], np.linspace(0.0, 2.0, 9))[:, 0]
        for thing in scene.placed[1:]:
            if thing.pose is None or thing.model.label in (TERRAIN, 28, VEGETATION):
                continue
            middle = transform_points(thing.pose, ((thing.low + thing.high) / 2)[None])
            local = np.concatenate([transform_points(invert(pose), middle) for pose in poses])
            assert not ((local > ego.low) & (local < ego.high))[:, :2].all(axis=1).any()


def test_appearance_leaves_the_geometry_and_the_labels():
    plain, other = record(3, ()), record(3, ("appearance",))
    assert other.stage.world.matrix.tobytes() == plain.stage.world.matrix.tobytes()
    assert not np.array_equal(other.stage.world.color, plain.stage.world.color)
    assert not np.array_equal(other.stage.world.reflectance, plain.stage.world.reflectance)
    camera = plain.rig.cameras[0]
    before, after = (recorder.exposure(camera, 1.0, 64, 112) for recorder in (plain, other))
    assert np.array_equal(before.labels, after.labels)
    assert np.abs(before.image.astype(float) - after.image).mean() > 8
    first, again = other.scene.light, record(3, ("appearance",)).scene.light
    assert first.levels.tobytes() == again.levels.tobytes()


def test_pictures_of_all_lights_can_be_seen():
    means = []
    for number in range(12):
        recorder = record(number, ("appearance",))
        image = recorder.exposure(recorder.rig.cameras[0], 1.0, 48, 84).image
        means.append(image.mean())
        assert image.std() > 15
    assert min(means) > 25
    assert max(means) < 235
    assert np.ptp(means) > 30


def test_film_balances_saturates_and_bends():
    image, rng = np.full((8, 8, 3), (0.2, 0.3, 0.4)), np.random.default_rng(0)
    plain = develop(image, Film(1.0, noise=0.0), 1.0, rng).mean(axis=(0, 1))
    warm = develop(image, Film(1.0, noise=0.0, balance=np.array([1.3, 1.0, 0.7])), 1.0, rng).mean(axis=(0, 1))
    grey = develop(image, Film(1.0, noise=0.0, saturation=0.0), 1.0, rng).mean(axis=(0, 1))
    dark = develop(image, Film(1.0, noise=0.0, gamma=1.4), 1.0, rng).mean(axis=(0, 1))
    assert warm[0] > plain[0] + 5
    assert warm[2] < plain[2] - 5
    assert np.ptp(grey) < 1
    assert (dark < plain - 5).all()
    assert develop(image, Film(1.0, noise=0.05), 1.0, rng).std(axis=(0, 1)).min() > 8
    np.testing.assert_allclose(
        develop(image, Film(1.0, noise=0.0), 2.0, rng), develop(2 * image, Film(1.0, noise=0.0), 1.0, rng)
    )
