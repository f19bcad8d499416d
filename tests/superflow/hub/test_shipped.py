"""The backbone that comes with the package: there, small, free to use, and what its card says."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

import superflow
from superflow.benchmark.shipped import ARM, NAME, SOURCE, metrics_of
from superflow.hub.shelf import SHIPPED, registered

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def backbone():
    return superflow.load(NAME)


def test_it_is_found_by_name_and_sees_points(backbone):
    assert NAME in registered()
    generator = np.random.default_rng(0)
    points = generator.normal(0, 8, (3000, 4)).astype(np.float32)
    points[:, 3] = generator.random(3000)
    features = backbone.extract(points)
    assert features.shape == (3000, backbone.out_channels)
    seen = backbone.within_limits(points)
    assert np.isfinite(features).all()
    assert features[seen].std(axis=0).min() > 0


def test_it_is_small_and_its_card_says_what_it_is(backbone):
    assert (SHIPPED / f"{NAME}.safetensors").stat().st_size <= 3_000_000
    card = backbone.card
    assert card.licence == "Apache-2.0"
    assert (card.teacher["name"], card.teacher["licence"]) == ("efficientnet_lite0", "Apache-2.0")
    assert all(data["real"] is False for data in card.data.values())
    assert re.fullmatch("[0-9a-f]{40}", card.training["commit"])
    assert {"seed", "iter", "config", "cpu_seconds"} <= card.training.keys()
    text = json.dumps(asdict(card))
    assert not re.search(r"""["' ](/|[A-Z]:\\\\|~)\w""", text), "a path of the machine that made it"


def test_its_figures_are_those_of_the_evidence(backbone):
    """Seeds that were measured after it was made change no figure that it carries."""
    with open(ROOT / "docs" / "evidence" / "places.csv", newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["source"], row["arm"]) == (SOURCE, ARM)]
    assert {figure["measure"] for figure in backbone.card.metrics} >= {"linear probe", "fine-tuning"}
    for figure in backbone.card.metrics:
        where = figure["log"], figure["measure"], figure["budget"]
        own = [r for r in rows if (r["evaluation log"], r["measure"], r["budget"]) == where]
        own.sort(key=lambda row: int(row["seed"]))
        first = [float(row["mIoU"]) for row in own[: figure["seeds"]]]
        assert len(first) == figure["seeds"]
        assert figure["mIoU"] == pytest.approx(sum(first) / len(first), abs=0.006)


def test_figures_of_several_seeds_are_gathered():
    row = {"source": SOURCE, "arm": ARM, "evaluation log": "kitti", "measure": "kNN", "budget": "all"}
    rows = [row | {"mIoU": "20.0"}, row | {"mIoU": "23.0"}, row | {"arm": "random", "mIoU": "1.0"}]
    (figure,) = metrics_of(rows)
    assert (figure["mIoU"], figure["lowest"], figure["highest"], figure["seeds"]) == (21.5, 20.0, 23.0, 2)
