"""A small plan of places, for the tests of plans and of what they measure."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

SMALL = {
    "logs": {"street": {"root": "ROOT"}},
    "sources": {"street": {"log": "street", "frames": ["scene-0001"]}},
    "arms": {
        "random": {"kind": "random", "config": "pretrain/superflowpp_small.py"},
        "labels": {"kind": "supervised", "config": "downstream/supervised_small.py"},
        "more labels": {"kind": "supervised", "config": "downstream/supervised_small.py", "start": "labels"},
    },
    "evaluations": {
        "street": {
            "log": "street",
            "train": ["scene-0001"],
            "held_out": ["scene-0001[2:]"],
            "evaluate": ["scene-0003"],
        }
    },
    "measures": {
        "probe": {"options": {"max_points": 300, "iterations": 5, "knn_points": 20}},
        "fine-tuning": {
            "budgets": {"one": {"scans": 1, "points": 5}, "all": {}},
            "options": {"steps": 3, "points": 500},
            "grid": {"rate": [1e-3, 1e-2]},
            "recipe_of": {"one": "all"},
        },
        "decoder probe": {"options": {"steps": 2, "points": 500}},
        "robustness": {"options": {"max_points": 300, "iterations": 5, "corruptions": ["motion_blur"]}},
        "semi-supervised": {
            "options": {"steps": 2, "points": 500, "unlabelled": 2},
            "budgets": {"one": {"scans": 1}},
        },
    },
}


def changed(**parts) -> dict:
    return {**json.loads(json.dumps(SMALL)), **parts}


def written(tmp_path: Path, content: dict) -> Path:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path
