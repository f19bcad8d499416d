"""Makes `street-tiny`, the backbone that comes with the package, of nothing but streets that it makes first.

    python -m superflow.benchmark.shipped --out work_dirs/shipped

It is an arm of the plan of places, trained as its rows in docs/evidence were: SuperFlow++ on made scenes with images,
then the labels of the same scenes; about 90 minutes of a core, half of them for the scenes and their features. Its
figures are taken from there.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.access import reading

NAME = "street-tiny"
SOURCE, ARM, SEED = "varied with images", "SuperFlow++ then made labels", 0
LICENCE = "Apache-2.0"
PROTOCOL = "configs/benchmark/places.yaml; see docs/evidence.md"


def metrics_of(rows: Iterable[Mapping[str, str]]) -> list[dict[str, Any]]:
    """Figures of the arm in the rows of a places.csv: of each log, measure and budget the mIoU over its seeds."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        if (row["source"], row["arm"]) == (SOURCE, ARM):
            key = row["evaluation log"], row["measure"], row["budget"]
            found.setdefault(key, []).append(float(row["mIoU"]))
    return [
        {
            "log": log,
            "measure": measure,
            "budget": budget,
            "mIoU": round(statistics.mean(values), 2),
            "lowest": min(values),
            "highest": max(values),
            "seeds": len(values),
            "protocol": PROTOCOL,
        }
        for (log, measure, budget), values in sorted(found.items())
    ]


def make_shipped(out: Path, evidence: Path, path: Path, *, jobs: int = 1) -> None:
    """Train the backbone below ``out``, unless it is there, and write it to ``path`` in float16 with its card.

    Args:
        evidence: the places.csv with its figures.

    Raises:
        InputError: ``out`` holds another one, or ``evidence`` has no figure of it.
    """
    from ..hub.backbone import card_of, save_backbone
    from ..hub.encoder_file import build_encoder, read_encoder_file
    from .backbones import backbone_path, make_backbone
    from .places_file import load_places_plan
    from .places_logs import prepare_log, prepare_sources
    from .plan_file import find_plan

    with reading(evidence), open(evidence, newline="", encoding="utf-8") as file:
        metrics = metrics_of(csv.DictReader(file))
    if not metrics:
        raise InputError(f"{evidence}: has no row of {ARM!r} on {SOURCE!r}; measure it first")
    plan = load_places_plan(find_plan(Path("places")))
    arm = plan.arms[ARM]
    assert arm.start is not None
    prepare_log(plan.logs[plan.sources[SOURCE].log], out, jobs=jobs)
    prepare_sources(plan, [SOURCE], out, jobs=jobs, arms=[ARM])
    encoder_file = read_encoder_file(make_backbone(plan, SOURCE, arm, SEED, out))
    card = card_of(encoder_file)
    start = card_of(read_encoder_file(backbone_path(out, SOURCE, arm.start, SEED)))
    config = card.training["config"].replace(str(out), "OUT")
    save_backbone(
        build_encoder(encoder_file),
        path,
        replace(
            card,
            name=NAME,
            licence=LICENCE,
            teacher=start.teacher,
            metrics=metrics,
            training={**card.training, "config": config},
        ),
        half=True,
    )


def main() -> int:
    """0 when the file is written."""
    from ..hub.shelf import SHIPPED

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the drive and the training")
    parser.add_argument("--evidence", type=Path, default=Path("docs/evidence/places.csv"))
    parser.add_argument("--jobs", type=int, default=1, help="processes that make the drive")
    args = parser.parse_args()
    path = SHIPPED / f"{NAME}.safetensors"
    make_shipped(args.out, args.evidence, path, jobs=args.jobs)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
