"""Makes the backbones that come with the package, of nothing but streets that it makes first.

    python -m superflow.benchmark.shipped street-tiny --out work_dirs/shipped

Each is an arm of a plan of places, trained as docs/evidence.md says; its figures are taken from a table there.
`street-tiny`: SuperFlow++ on made scenes with images, then the labels of the same scenes; about 90 minutes of a core,
half of them for the scenes and their features. `street-tiny-averaged`: from there on the labels of 600 more scenes,
then the mean of the weights before and after; about two hours.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from .places.backbones import PlannedBackbone
from .places.plan import GIVEN
from .rows import RowFile

LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class Shipped:
    """How one is made, and where its figures stand.

    Attributes:
        plan: whose arm it is. source, arm, seed: of the backbone that is trained.
        rows: source and arm of its figures in docs/evidence/PLAN.csv.
    """

    plan: str
    source: str
    arm: str
    rows: tuple[str, str]
    seed: int = 0


STREET_TINY = "varied with images", "SuperFlow++ then made labels"
SHIPPED = {
    "street-tiny": Shipped("places", *STREET_TINY, rows=STREET_TINY),
    "street-tiny-averaged": Shipped(
        "averaged",
        "600 scenes",
        "street-tiny then labels of 600 scenes, averaged",
        rows=(GIVEN, "street-tiny-averaged"),
    ),
}


def metrics_of(rows: Iterable[Mapping[str, str]], shipped: Shipped) -> list[dict[str, Any]]:
    """Its figures in the rows of a places.csv: of each log, measure and budget the mIoU over the seeds."""
    found: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        # else none of its classes has a point
        if (row["source"], row["arm"]) == shipped.rows and row["mIoU"]:
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
            "protocol": f"configs/benchmark/{shipped.plan}.yaml; see docs/evidence.md",
        }
        for (log, measure, budget), values in sorted(found.items())
    ]


def make_shipped(name: str, out: Path, evidence: Path, path: Path, *, jobs: int = 1) -> None:
    """Train the backbone ``name`` below ``out``, unless it is there, and write it to ``path`` in float16 with its card.

    A backbone that its own table measures is written before that table is there, with a card without figures.

    Args:
        evidence: folder of the tables with its figures.

    Raises:
        InputError: ``out`` holds another one, or the table of a plan that trains it has no figure of it.
    """
    from ..hub.backbone import card_of, save_backbone
    from ..hub.encoder_file import build_encoder, read_encoder_file
    from .places.logs import prepare_log, prepare_sources
    from .places.plan_file import load_places_plan
    from .plan_file import find_plan

    shipped = SHIPPED[name]
    plan = load_places_plan(find_plan(Path(shipped.plan)))
    metrics = _figures(shipped, evidence / f"{shipped.plan}.csv")
    prepare_log(plan.logs[plan.sources[shipped.source].log], out, jobs=jobs)
    prepare_sources(plan, [shipped.source], out, jobs=jobs, arms=[shipped.arm])
    planned = PlannedBackbone(plan, shipped.source, shipped.arm, shipped.seed, out)
    made = read_encoder_file(planned.make())
    card = card_of(made)
    config = card.training["config"].replace(str(out), "OUT")
    save_backbone(
        build_encoder(made),
        path,
        replace(
            card,
            name=name,
            licence=LICENCE,
            teacher=card.teacher or _taught(planned),
            metrics=metrics,
            training={**card.training, "config": config},
        ),
        half=True,
    )


def _figures(shipped: Shipped, table: Path) -> list[dict[str, Any]]:
    measured_as_given = shipped.rows[0] == GIVEN
    metrics = metrics_of(RowFile(table).read(), shipped)
    if not metrics and not measured_as_given:
        raise InputError(
            f"{table}: has no row of {shipped.rows[1]!r} on {shipped.rows[0]!r}; measure it first"
        )
    return metrics


def _taught(planned: PlannedBackbone) -> Any:
    """The teacher of the backbone that one began with, whose own training has seen labels alone."""
    from ..hub.backbone import card_of
    from ..hub.encoder_file import read_encoder_file

    assert planned.start is not None
    return card_of(read_encoder_file(planned.start.path)).teacher


def main() -> int:
    """0 when the file is written."""
    from ..hub.shelf import SHIPPED as FOLDER

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=SHIPPED)
    parser.add_argument("--out", type=Path, required=True, help="folder of the drive and the training")
    parser.add_argument("--evidence", type=Path, default=Path("docs/evidence"), help="folder of the tables")
    parser.add_argument("--jobs", type=int, default=1, help="processes that make the drive")
    args = parser.parse_args()
    path = FOLDER / f"{args.name}.safetensors"
    make_shipped(args.name, args.out, args.evidence, path, jobs=args.jobs)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
