"""The backbones that come with the package: there, small, free to use, and what their cards say."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import superflow
from superflow.benchmark.shipped import SHIPPED, metrics_of
from superflow.hub.shelf import SHIPPED as FOLDER
from superflow.hub.shelf import registered

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module", params=SHIPPED)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def backbone(name):
    return superflow.load(name)


def test_the_folder_holds_what_can_be_made_again():
    assert {path.stem for path in FOLDER.glob("*.safetensors")} == set(SHIPPED)


def test_it_is_found_by_name_and_sees_points(name, backbone):
    assert name in registered()
    generator = np.random.default_rng(0)
    points = generator.normal(0, 8, (3000, 4)).astype(np.float32)
    points[:, 3] = generator.random(3000)
    features = backbone.extract(points)
    assert features.shape == (3000, backbone.out_channels)
    seen = backbone.within_limits(points)
    assert np.isfinite(features).all()
    assert features[seen].std(axis=0).min() > 0


def test_it_is_small_and_its_card_says_what_it_is(name, backbone):
    assert (FOLDER / f"{name}.safetensors").stat().st_size <= 3_000_000
    card = backbone.card
    assert card.licence == "Apache-2.0"
    assert (card.teacher["name"], card.teacher["licence"]) == ("efficientnet_lite0", "Apache-2.0")
    assert all(data["real"] is False for data in card.data.values())
    assert re.fullmatch("[0-9a-f]{40}", card.training["commit"])
    assert {"seed", "iter", "config", "cpu_seconds"} <= card.training.keys()
    text = json.dumps(asdict(card))
    assert not re.search(r"""["' ](/|[A-Z]:\\\\|~)\w""", text), "a path of the machine that made it"


def test_its_figures_are_those_of_the_evidence(name, backbone):
    """Seeds that were measured after it was made change no figure that it carries."""
    shipped = SHIPPED[name]
    with open(ROOT / f"docs/evidence/{shipped.plan}.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["source"], row["arm"]) == shipped.rows]
    assert {figure["measure"] for figure in backbone.card.metrics} >= {"linear probe", "fine-tuning"}
    for figure in backbone.card.metrics:
        where = figure["log"], figure["measure"], figure["budget"]
        own = [r for r in rows if (r["evaluation log"], r["measure"], r["budget"]) == where]
        own.sort(key=lambda row: int(row["seed"]))
        first = [float(row["mIoU"]) for row in own[: figure["seeds"]]]
        assert len(first) == figure["seeds"]
        assert figure["mIoU"] == pytest.approx(sum(first) / len(first), abs=0.006)


def test_figures_of_several_seeds_are_gathered():
    shipped = SHIPPED["street-tiny"]
    source, arm = shipped.rows
    row = {"source": source, "arm": arm, "evaluation log": "kitti", "measure": "kNN", "budget": "all"}
    none = row | {"budget": "of a log without its classes", "mIoU": ""}
    rows = [row | {"mIoU": "20.0"}, row | {"mIoU": "23.0"}, row | {"arm": "random", "mIoU": "1.0"}, none]
    (figure,) = metrics_of(rows, shipped)
    assert (figure["mIoU"], figure["lowest"], figure["highest"], figure["seeds"]) == (21.5, 20.0, 23.0, 2)


def test_the_averaged_one_is_the_mean_of_what_it_names():
    """Its weights lie where the card says: between street-tiny's and those of the further training."""
    averaged, first = superflow.load("street-tiny-averaged"), superflow.load("street-tiny")
    record = averaged.card.method["averaged"]
    assert record["share"] == 0.5
    assert record["weights_sha256"] == averaged.card.method["pretrained"]["weights_sha256"]
    assert averaged.encoder.config() == first.encoder.config()
    apart = [
        float((own.detach() - began.detach()).norm() / began.detach().norm())
        for own, began in zip(averaged.encoder.parameters(), first.encoder.parameters(), strict=True)
    ]
    assert 0 < max(apart) < 1, "further from its start than a mean with it can be"
