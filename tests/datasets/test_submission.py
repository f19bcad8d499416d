"""Predictions as the servers of nuScenes and SemanticKITTI take them, read back by plain means."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from predicted import write_predictions
from test_kitti_family import scan

from superflow.datasets.card import card_names, load_card
from superflow.datasets.index import LogIndex
from superflow.datasets.predictions.files import NUMBERS
from superflow.datasets.predictions.submission import server_of
from superflow.datasets.prepare import prepare
from superflow.datasets.sets.nuscenes import write_index
from superflow.errors import InputError

# of the official development kits: class -> number in a submission
NUSCENES = {
    **{"barrier": 1, "bicycle": 2, "bus": 3, "car": 4, "construction_vehicle": 5, "motorcycle": 6, "pedestrian": 7},
    **{"traffic_cone": 8, "trailer": 9, "truck": 10, "driveable_surface": 11, "other_flat": 12, "sidewalk": 13},
    **{"terrain": 14, "manmade": 15, "vegetation": 16},
}  # fmt: skip
SEMANTICKITTI = (10, 11, 15, 18, 20, 30, 31, 32, 40, 44, 48, 49, 50, 51, 70, 71, 72, 80, 81)


def predictor(num_classes: int):
    """The class of the i-th point is i modulo C; of the last point nothing is predicted."""

    def predict(scan):
        scores = torch.zeros(len(scan.points), num_classes)
        at = torch.arange(len(scores))
        scores[at, at % num_classes] = 1
        scores[-1] = 0
        return scores

    return predict


def plain_zip(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as packed:
        assert packed.testzip() is None
        return {name: packed.read(name) for name in packed.namelist()}


@pytest.fixture(scope="module")
def nuscenes(tmp_path_factory, make_small_log) -> LogIndex:
    folder = tmp_path_factory.mktemp("nuscenes")
    return write_index(make_small_log(folder / "log").write(), folder / "index")


def test_nuscenes_gets_a_zip_of_bytes_by_token_with_its_record(nuscenes, tmp_path):
    index = nuscenes
    assert index.card.name == "nuscenes"
    rows = index.rows("val").tolist()
    made = write_predictions(
        index, rows, predictor(16), index.card.classes, tmp_path / "made", server=True, packed=True
    )
    assert made["numbers"] == NUSCENES
    files = plain_zip(tmp_path / "made.zip")
    said = json.loads(files.pop("val/submission.json"))
    assert said == {
        "meta": {
            "use_camera": False,
            "use_lidar": True,
            "use_radar": False,
            "use_map": False,
            "use_external": False,
        }
    }
    assert sorted(files) == sorted(f"lidarseg/val/{token}_lidarseg.bin" for token in index.tokens(rows))
    for token in index.tokens(rows):
        own = files[f"lidarseg/val/{token}_lidarseg.bin"]
        assert own == (tmp_path / f"made/lidarseg/val/{token}_lidarseg.bin").read_bytes()
        assert list(own) == [1 + i % 16 for i in range(49)] + [15], "a byte a point, 1 to 16"
    assert made["points_without_prediction"] == len(rows)


def test_a_server_takes_one_split(nuscenes, tmp_path):
    with pytest.raises(InputError, match="are not all of one of the splits test, val, train"):
        write_predictions(
            nuscenes,
            nuscenes.rows().tolist(),
            predictor(16),
            nuscenes.card.classes,
            tmp_path / "made",
            server=True,
        )


def test_semantickitti_gets_its_original_ids_in_the_tree_of_its_server(tmp_path):
    root = tmp_path / "kitti/sequences"
    for sequence, stem in (("11", "000000"), ("11", "000002"), ("21", "000000")):
        scan(root / sequence, stem, [0] * 40)
    index = prepare("semantickitti", tmp_path / "kitti", tmp_path / "out")
    (tmp_path / "made/sequences/08/predictions").mkdir(parents=True)
    (tmp_path / "made/sequences/08/predictions/old.label").write_bytes(b"of an earlier run")
    made = write_predictions(
        index,
        index.rows("test").tolist(),
        predictor(19),
        index.card.classes,
        tmp_path / "made",
        server=True,
        packed=True,
    )
    assert tuple(made["numbers"].values()) == SEMANTICKITTI
    files = plain_zip(tmp_path / "made.zip")
    assert sorted(files) == [
        "sequences/11/predictions/000000.label",
        "sequences/11/predictions/000002.label",
        "sequences/21/predictions/000000.label",
    ]
    for data in files.values():
        assert list(struct.unpack("<40I", data)) == [SEMANTICKITTI[i % 19] for i in range(39)] + [0]
    np.testing.assert_array_equal(index.card.label_map[list(SEMANTICKITTI)], np.arange(19))


@pytest.mark.parametrize("name", [name for name in card_names() if server_of(name)])
def test_every_server_has_a_number_for_each_class_of_its_card(name):
    server, card = server_of(name), load_card(name)
    largest = np.iinfo(NUMBERS.get(server["format"], "i4")).max
    numbers = server.get("numbers")
    assert numbers is None or (
        set(numbers) == set(card.classes) and len(set(numbers.values())) == len(numbers)
    )
    assert all(
        0 <= number <= largest
        for number in [server["none"], *(numbers.values() if numbers else card.categories)]
    )
    assert set(server.get("splits", ())) <= {*card.splits, "test"}, (
        "Waymo's reader names the split of each scan"
    )
    assert not Path(server["path"]).is_absolute()


def test_without_a_server_or_its_classes_it_is_refused(nuscenes, tmp_path):
    scan(tmp_path / "poss/sequences/02", "000000", [4, 5])
    index = prepare("semanticposs", tmp_path / "poss", tmp_path / "out")
    with pytest.raises(InputError, match="the card of semanticposs names no evaluation server"):
        write_predictions(index, [0], predictor(13), index.card.classes, tmp_path / "made", server=True)
    with pytest.raises(
        InputError, match=r"the model has other classes \(near, far\) than the server of nuscenes"
    ):
        write_predictions(nuscenes, [0], predictor(2), ("near", "far"), tmp_path / "made", server=True)
