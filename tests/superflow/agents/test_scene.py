"""Scenes against plain arithmetic on the log's own tables; JSON; what nobody can tell."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from superflow.agents.scene import SceneObject, SceneRecord
from superflow.agents.scene_log import box_around, class_name, scene_of
from superflow.agents.words import (
    APPLIES,
    CATEGORIES,
    STATUSES,
    annotated_category,
    category_of,
    is_known,
    status_of,
    status_of_class,
)
from superflow.datasets.card import CARDS, load_card
from superflow.datasets.prepare import prepare
from superflow.errors import InputError
from superflow.geometry import rotation_z


def thing(**changes) -> SceneObject:
    values = {"track": "a", "category": "car", "center": (1.0, 2.0, 0.5), "size": (4.0, 2.0, 1.5), "yaw": 0.1}
    return SceneObject(**{**values, "points": 9, **changes})


def turned(quaternion, vector):
    """A vector turned by a unit quaternion w, x, y, z, by the formula with two cross products."""
    w, axis = quaternion[0], np.array(quaternion[1:])
    return np.array(vector) + 2 * np.cross(axis, np.cross(axis, vector) + w * np.array(vector))


def test_objects_of_boxes_stand_where_the_tables_say(small_index):
    row = int(small_index.rows()[1])
    scene, boxes, frame = (
        scene_of(small_index, row),
        small_index.boxes(row),
        small_index.frame(row, cameras=()),
    )
    assert scene.source == "boxes"
    assert len(scene.objects) == len(boxes) > 0
    pose = frame.ego_to_world
    for i, found in enumerate(scene.objects):
        back = pose[:3, :3] @ np.array(found.center) + pose[:3, 3]
        np.testing.assert_allclose(back, boxes.centers[i], atol=1e-6)
        ahead = turned(boxes.rotations[i] / np.linalg.norm(boxes.rotations[i]), [1.0, 0.0, 0.0])
        ahead = pose[:3, :3].T @ ahead
        assert math.isclose(math.sin(found.yaw - math.atan2(ahead[1], ahead[0])), 0, abs_tol=1e-9)
        assert math.cos(found.yaw - math.atan2(ahead[1], ahead[0])) > 0
        assert found.size == tuple(boxes.sizes[i])
        assert (found.track, found.points) == (boxes.tracks[i], boxes.points[i])
        assert found.category == category_of(boxes.categories[i])
        if np.isfinite(boxes.velocities[i, :2]).all():
            world = pose[:3, :3] @ np.array([*found.velocity, 0.0])
            np.testing.assert_allclose(world[:2], boxes.velocities[i, :2], atol=0.02)  # the vehicle rolls
        else:
            assert found.velocity is None
    ego = frame.points[:, :3] @ frame.lidar_to_ego[:3, :3].T + frame.lidar_to_ego[:3, 3]
    np.testing.assert_allclose(scene.points[:, :3], ego, atol=1e-4)


def test_json_gives_the_same_scene_to_the_last_bit(small_index):
    scene = scene_of(small_index, int(small_index.rows()[0]))
    again = SceneRecord.from_json(scene.to_json())
    assert again == scene
    assert again.points.tobytes() == scene.points.tobytes()
    assert again.objects == scene.objects
    assert (
        SceneRecord.from_json(replace(scene, points=None, ego_to_world=None, time_us=None).to_json()).points
        is None
    )
    assert replace(scene, scene="another") != scene


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"objects": [{"track": "a"}]}, "no scene record"),
        ({"source": "guess"}, "'guess' is no source"),
        ({"points": {"shape": [2, 4], "float32": "AAAA"}}, "no scene record"),
        ({"ego_to_world": [1, 2]}, "no scene record"),
        *(({name: wrong}, name) for name in ("token", "scene") for wrong in (None, 7, ["a"])),
        *(({"time_us": wrong}, "time_us is") for wrong in (float("inf"), 2.7, True, "5")),
        *(({"objects": wrong}, "objects is no list") for wrong in ("", {}, "car", None)),
        *(({"ego_to_world": [[wrong] * 4] * 4}, "no scene record") for wrong in (10**400, "1", None, True)),
        ({"ego_to_world": np.eye(4).ravel().tolist()}, "no scene record"),
        *(
            ({"points": {"shape": shape, "float32": "AAAAAAAAAAAAAAAAAAAAAA=="}}, "no scene record")
            for shape in ([-1, 4], [4, 1], [4], None, ["1", 4], [1, 4, 1])
        ),
    ],
)
def test_what_is_no_scene_is_said(change, said):
    values = SceneRecord("t", "s", (thing(),)).to_dict()
    with pytest.raises(InputError, match=said):
        SceneRecord.from_dict({**values, **change})
    for wrong in (
        {"category": "cart"},
        {"status": ["flying"]},
        {"yaw": float("nan")},
        {"center": [1.0, 2.0]},
        {"center": [1.0, 2.0], "size": [4.0, 2.0, 1.5, 1.0]},
        {"velocity": [1.0]},
        *({"points": wrong} for wrong in (2.7, True, "5", -5, float("inf"), None)),
        *({"center": [wrong, 0.0, 0.0]} for wrong in ("1", True, None, 10**400, float("-inf"))),
        {"size": [4.0, -2.0, 1.5]},
        {"yaw": "0"},
        {"status": "moving"},
        {"status": ""},
        {"track": None},
    ):
        with pytest.raises(InputError, match=r"no scene record|is no"):
            SceneRecord.from_dict({**values, "objects": [{**values["objects"][0], **wrong}]})
    with pytest.raises(InputError, match="no JSON"):
        SceneRecord.from_json("{")
    twice = SceneRecord("t", "s", (thing(),)).to_json().replace('"objects"', '"objects": [], "objects"')
    with pytest.raises(InputError, match="the key 'objects' stands twice"):
        SceneRecord.from_json(twice)


def test_the_sensor_can_tell_what_has_points_and_is_near():
    objects = (
        thing(track="few", points=4),
        thing(track="enough", points=5),
        thing(track="far", center=(30.0, 40.1, 0.0)),
        thing(track="edge", center=(30.0, 40.0, 0.0)),
    )
    scene = SceneRecord("t", "s", objects)
    assert [o.track for o in scene.answerable(max_range_m=50.0).objects] == ["enough", "edge"]
    assert [o.track for o in scene.answerable().objects] == ["enough", "far", "edge"]


def test_status_words_are_true_false_or_not_known():
    assert thing(status=("parked",)).is_in("parked") is True
    assert thing(status=("parked",)).is_in("moving") is False
    assert thing(status=("parked",)).is_in("still") is True
    assert thing().is_in("parked") is None
    assert thing(velocity=(0.3, 0.3)).is_in("moving") is False
    assert thing(velocity=(0.3, 0.3)).is_in("parked") is None  # it stands, and why is not told
    assert thing(velocity=(3.0, 0.0)).is_in("parked") is False
    assert thing(velocity=(0.3, 0.4)).is_in("moving") is True  # the limit itself moves
    # the dataset's word counts
    assert thing(velocity=(3.0, 0.0), status=("stopped",)).is_in("moving") is False
    assert thing().is_in("with rider") is False
    bicycle = thing(category="bicycle", status=("with rider",))
    assert (bicycle.is_in("with rider"), bicycle.is_in("without rider"), bicycle.is_in("moving")) == (
        True,
        False,
        None,
    )
    for category in CATEGORIES:
        for word in STATUSES:
            if category not in APPLIES[word]:
                assert thing(category=category).is_in(word) is False


def test_words_of_datasets():
    assert category_of("vehicle.bus.bendy") == "bus"
    assert category_of("vehicle.emergency.police") == "other vehicle"
    assert category_of("human.pedestrian.child") == "pedestrian"
    assert category_of("flat.sidewalk") is None
    assert category_of("vehicle.ego") is None
    assert (category_of("moving-bicyclist"), status_of_class("moving-bicyclist")) == (
        "bicycle",
        ("moving", "with rider"),
    )
    assert status_of("object_motion.moving pedestrian_age.adult") == ("moving",)
    assert status_of("pedestrian.sitting_lying_down") == ("sitting",)
    assert status_of("") == ()
    things = [name for name in load_card("nuscenes").classes if category_of(name)]
    assert len(things) == 10
    assert len({category_of(name) for name in things}) == 10


@pytest.mark.parametrize("name", sorted(path.stem for path in CARDS.glob("*.yaml")))
def test_every_class_of_a_card_is_an_object_or_said_to_be_background(name):
    card = load_card(name)
    for each in card.classes:
        assert is_known(each), f"say in superflow/agents/words.py what {each!r} is, or that it is background"
    for each in card.categories.values():
        found = annotated_category(each, class_name(card, each))
        assert found in CATEGORIES or found is None, each


def test_a_thing_of_an_unknown_name_is_told_by_its_class_and_never_left_out():
    card = load_card("pandaset")
    assert annotated_category("Pickup Truck", class_name(card, "Pickup Truck")) in ("car", "truck")
    assert annotated_category("hovercraft", "") == "other object"
    assert annotated_category("vehicle.hovercraft", "") == "other vehicle"
    assert annotated_category("Road", class_name(card, "Road")) is None
    assert annotated_category("vehicle.ego", "") is None
    assert annotated_category("building", "barrier") is None  # its own name counts before its class


# names of the boxes of datasets whose cards have no class for them, or a wider one -> word, None for "other object"
BOXES = {
    "pandaset": {
        "Other Vehicle - Construction Vehicle": "construction vehicle",
        "Towed Object": "trailer",
        "Emergency Vehicle": "other vehicle",
        "Semi-truck": "truck",
    },
    "argoverse2": {
        "REGULAR_VEHICLE": "car",
        "PEDESTRIAN": "pedestrian",
        "CONSTRUCTION_CONE": "traffic cone",
        "BICYCLE": "bicycle",
        "BICYCLIST": "pedestrian",  # the cycle has a box of its own
        "MOTORCYCLE": "motorcycle",
        "MOTORCYCLIST": "pedestrian",
        "WHEELED_RIDER": "pedestrian",
        "OFFICIAL_SIGNALER": "pedestrian",
        "BUS": "bus",
        "SCHOOL_BUS": "bus",
        "ARTICULATED_BUS": "bus",
        "TRUCK": "truck",
        "BOX_TRUCK": "truck",
        "TRUCK_CAB": "truck",
        "VEHICULAR_TRAILER": "trailer",
        "LARGE_VEHICLE": "other vehicle",
        "RAILED_VEHICLE": "other vehicle",
        "DOG": "other object",
        "BOLLARD": "other object",
    },
}


@pytest.mark.parametrize("name", BOXES)
def test_boxes_of_other_datasets_have_the_words_of_queries(name):
    card = load_card(name)
    found = {each: annotated_category(each, class_name(card, each)) for each in BOXES[name]}
    assert found == BOXES[name]


def test_case_and_what_joins_the_words_of_a_name_do_not_matter():
    for name in ("Traffic Cone", "traffic-cone", "TRAFFIC_CONE", "traffic cone"):
        assert category_of(name) == annotated_category(name, name) == "traffic cone"
    assert [category_of(each) for each in ("Car", "Construction Vehicle", "Moving-Bicyclist")] == [
        "car",
        "construction vehicle",
        "bicycle",
    ]
    assert status_of_class("Moving-Bicyclist") == ("moving", "with rider")
    assert [category_of(each) for each in CATEGORIES if each != "other object"] == list(CATEGORIES[:-1])
    assert category_of("other-object") is None  # SemanticKITTI's background
    assert not is_known("lorry")


@pytest.mark.parametrize("yaw", [-1.2, 0.0, 0.4, 1.5])
def test_the_box_around_points_of_a_turned_rectangle(yaw):
    grid = np.stack(np.meshgrid(np.linspace(-2, 2, 9), np.linspace(-1, 1, 5), [0.0, 1.5]), -1).reshape(-1, 3)
    points = (grid @ rotation_z(yaw)[:3, :3].T + [10, -4, 0.5]).astype(np.float32)
    center, size, found = box_around(points)
    np.testing.assert_allclose(center, [10, -4, 1.25], atol=1e-4)
    np.testing.assert_allclose(size, [4, 2, 1.5], atol=1e-4)
    assert abs(math.sin(found - yaw)) < 1e-4
    assert -math.pi / 2 < found <= math.pi / 2


def kitti(folder, labels: dict[str, list[int] | None]):
    """A prepared log of SemanticKITTI's layout: scans of sequence 08, a point a label."""
    for stem, raw in labels.items():
        count = 7 if raw is None else len(raw)
        points = np.arange(1, 4 * count + 1, dtype="<f4").reshape(count, 4) * np.float32([1, 0.5, 0.1, 0.01])
        sequence = folder / "kitti" / "sequences" / "08"
        for name in ("velodyne", "labels"):
            (sequence / name).mkdir(parents=True, exist_ok=True)
        (sequence / "velodyne" / f"{stem}.bin").write_bytes(points.tobytes())
        if raw is not None:
            (sequence / "labels" / f"{stem}.label").write_bytes(np.array(raw, "<u4").tobytes())
    return prepare("semantickitti", folder / "kitti", folder / "prepared")


CAR, MOVING_CAR, ROAD = 10, 252, 40


def test_objects_of_instances_are_one_for_each_class_and_number(tmp_path):
    first = [CAR | 1 << 16] * 2 + [MOVING_CAR | 1 << 16] * 3 + [ROAD | 3 << 16, CAR]
    index = kitti(tmp_path, {"000000": first, "000001": [CAR | 1 << 16, ROAD]})
    scene, later = scene_of(index, 0), scene_of(index, 1)
    assert scene.source == "instances"
    assert [(o.category, o.points, o.status) for o in scene.objects] == [
        ("car", 2, ()),
        ("car", 3, ("moving",)),
    ]
    moving = scene.points[2:5, :3]
    np.testing.assert_allclose(scene.objects[1].center, (moving.min(0) + moving.max(0)) / 2, atol=1e-4)
    assert scene.objects[0].track == later.objects[0].track
    assert SceneRecord.from_json(scene.to_json()) == scene
    assert scene.ego_to_world is None


def test_a_scan_without_boxes_and_instances_has_no_objects_to_ask_for(tmp_path):
    for raw in (None, [CAR, CAR, ROAD]):
        index = kitti(tmp_path, {"000000": [CAR | 1 << 16], "000001": raw})
        if raw is None:
            with pytest.raises(InputError, match="neither boxes nor instances"):
                scene_of(index, 1)
        else:
            assert scene_of(index, 1).objects == ()  # too few to be seen have no number


def test_labels_without_numbers_of_instances_are_not_a_scan_without_objects(tmp_path):
    unnumbered = [CAR] * 30 + [MOVING_CAR] * 20 + [ROAD | 7 << 16]
    index = kitti(
        tmp_path,
        {
            "000000": unnumbered[1:],
            "000001": unnumbered,
            "000002": [*unnumbered, CAR | 1 << 16],
            "000003": [0] * 60,
        },
    )
    assert scene_of(index, 0).objects == scene_of(index, 3).objects == ()
    with pytest.raises(InputError, match=r"08_000001 .* has 50 points of things and none with a number"):
        scene_of(index, 1)
    assert [o.points for o in scene_of(index, 2).objects] == [1]
