"""Stand-ins: each is read by its set's own reader, with points, classes, poses and images where they belong."""

from __future__ import annotations

import json

import numpy as np
import pytest

from superflow.benchmark.stand_ins import STAND_INS, StandInTask, make_stand_in, stand_in_tasks
from superflow.benchmark.stand_ins.words import raw_ids
from superflow.camera.projection import project
from superflow.datasets.card import load_card
from superflow.datasets.check.log import check_log
from superflow.datasets.index import LogIndex
from superflow.datasets.prepare import DATASETS
from superflow.datasets.recordings import recordings_of
from superflow.errors import InputError
from superflow.street.classes import FINER_CATEGORIES

EXPECTED = {  # class of a card that a word of the street must become
    "semantickitti": {
        "vehicle.car": "car",
        "static.manmade.wall": None,
        "static.manmade.building": "building",
        "vehicle.bicycle.rider": "bicyclist",
    },
    "semanticposs": {
        "human.pedestrian.adult": "person",
        "flat.sidewalk": "ground",
        "vehicle.bus.rigid": "car",
    },
    "waymo": {"static.vegetation.trunk": "tree_trunk", "movable_object.trafficcone": "construction_cone"},
    "rellis3d": {"flat.terrain": "grass", "static.vegetation": "bush", "vehicle.truck": "vehicle"},
    "synth4d": {
        "vehicle.bicycle": "vehicle",
        "static.manmade.traffic_light": None,
        "static.manmade": "manmade",
    },
    "daps3d": {"flat.terrain": "surface", "static.manmade.pole": "obstacle"},
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_the_streets_classes_have_the_words_of_a_set(name):
    card = load_card(name)
    ids = raw_ids(card, merged=name == "daps3d")
    for word, expected in EXPECTED[name].items():
        found = card.label_map[ids[FINER_CATEGORIES.index(word)]]
        assert (None if found == 255 else card.classes[found]) == expected, word
    if name == "daps3d":
        assert set(ids.tolist()) <= {0, 10, 30, 40, 50}, "files of DAPS-1 hold no other number"


def test_every_stand_in_is_of_a_set_and_an_unknown_one_is_refused(tmp_path):
    assert set(STAND_INS) <= set(DATASETS)
    assert len(STAND_INS) == 11
    assert [task.name for task in stand_in_tasks(["all"], tmp_path)] == list(STAND_INS)
    with pytest.raises(
        InputError, match="--stand-ins: there is none of 'kitti'; there are nuscenes, semantickitti"
    ):
        stand_in_tasks(["waymo", "kitti"], tmp_path)


@pytest.fixture(scope="module", params=list(STAND_INS))
def made(request, tmp_path_factory) -> LogIndex:
    folder = tmp_path_factory.mktemp("stand_ins")
    return LogIndex.open(make_stand_in(StandInTask(request.param, folder, scans=2)))


def test_it_is_read_as_a_log_without_problems_and_marked_as_made(made):
    assert not made.card.real
    assert made.card.name == f"{made.dataset} stand-in"
    assert recordings_of(made.card.name, made.scenes) == (), "it holds no drive of the set"
    report = check_log(made, project=project)
    assert [str(problem) for problem in report.problems] == []
    for split in ("train", "val"):
        rows = made.rows(split)
        labels = [made.frame(int(row), images=False).labels for row in rows if made.has_labels(int(row))]
        seen = np.unique(np.concatenate(labels))
        assert len(seen[seen < 255]) > 2, "several classes to learn"
    again = StandInTask(made.dataset, made.root.parent.parent, scans=2)
    assert again.is_made()
    before = {path: path.stat().st_mtime_ns for path in made.root.rglob("*") if path.is_file()}
    assert LogIndex.open(make_stand_in(again)).hash == made.hash
    assert {path: path.stat().st_mtime_ns for path in before} == before, "what is there is kept"
    with pytest.raises(InputError, match=r"holds a stand-in of other settings .* delete the folder"):
        make_stand_in(StandInTask(made.dataset, made.root.parent.parent, scans=3))
    assert json.loads((made.root / "dataset.json").read_text())["real"] is False


def test_ground_is_below_and_images_show_what_the_points_are(made):
    row = int(made.rows("train")[0])
    frame = made.frame(row)
    xyz = frame.cloud.xyz
    flat = xyz[np.hypot(xyz[:, 0], xyz[:, 1]) < 15]
    ground = 0.0 if frame.lidars else -1.8  # of several LiDARs points are in the frame of the vehicle
    assert np.median(flat[:, 2]) == pytest.approx(ground + 0.2, abs=0.6), "most of what is near is ground"
    assert len(frame.cameras) == len(made.channels)
    if not frame.cameras:
        return
    # plants are greener than what is paved, where the points of both fall on the pictures
    green: dict[bool, list[float]] = {True: [], False: []}
    names = np.array([*made.card.classes, *[""] * (256 - len(made.card.classes))])
    for frame in (made.frame(int(row)) for row in made.rows("train") if made.has_labels(int(row))):
        for camera in frame.cameras:
            seen = project(frame.cloud.xyz, frame.lidar_to_camera(camera), camera.lens)
            u, v = np.rint(seen.pixels).astype(int).T
            colours = camera.image[v, u].astype(float)
            excess, words = colours[:, 1] - colours[:, [0, 2]].mean(axis=1), names[frame.labels[seen.rows]]
            green[True] += excess[np.isin(words, ("vegetation", "plants", "bush"))].tolist()
            green[False] += excess[np.isin(words, ("road", "driveable_surface", "concrete"))].tolist()
    assert min(map(len, green.values())) > 50
    assert np.mean(green[True]) > np.mean(green[False]) + 8
