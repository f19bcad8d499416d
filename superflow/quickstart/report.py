"""The quickstart's result as a table on the terminal and as one page with pictures."""

from __future__ import annotations

import html
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..benchmark.one_log.plan import Plan
from ..benchmark.one_log.table import table
from ..errors import InputError
from ..files.writes import write_text

log = logging.getLogger(__name__)

# picture file (without number) -> what one sees; {classes} where the scan has labels
PICTURES = {
    "overview": "A scan the backbone never saw: {classes}features of a random and of the pretrained backbone "
    "(first three principal components as colours).",
    "similarity_images": "Similarity of every point to one picked point, in the pretrained features.",
    "features_images": "Pretrained features on the images of all cameras.",
    "superpixels_images": "Superpixels of a training frame.",
    "depth_images": "Where the LiDAR points fall on the images; points hidden from a camera are left out.",
}
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem;color:#1c2330}
h1{font-size:1.6rem}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.3rem .9rem;border-bottom:1px solid #d5d9e2;
text-align:right}td:first-child,th:first-child{text-align:left}figure{margin:2rem 0}img{max-width:100%}
figcaption{color:#555f70}code{background:#f0f2f6;padding:.1rem .3rem;border-radius:4px}"""


@dataclass(frozen=True, slots=True)
class QuickstartResult:
    """records: of every arm and seed. seconds: stage to wall seconds, over all calls. backbone: the exported file."""

    index: Any
    plan: Plan
    records: list[dict[str, Any]]
    seconds: dict[str, float]
    backbone: Path


def score_rows(result: QuickstartResult) -> list[tuple[str, list[float]]]:
    """(name, mIoU of every seed) of the random, the pretrained, and the pretrained and voted backbone."""
    rows = table(result.plan, result.records)
    scores: list[tuple[str, list[float]]] = []
    for arm, columns in rows.items():
        values = [value for value in columns["mIoU"] if value is not None]
        if not values:
            continue
        scores.append((arm, values))
        if result.plan.arm(arm).kind == "pretrained":
            scores.append((f"{arm} + voting", [v for v in columns["voted"] if v is not None]))
            scores.append(
                (
                    f"{arm}, smoothed within the scan",
                    [v for v in columns["same-frame control"] if v is not None],
                )
            )
    return scores


def summary_table(result: QuickstartResult) -> str:
    """Plain text: mIoU with every seed, then seconds a stage."""
    scores = score_rows(result)
    what = "linear-probe mIoU on frames never trained on" if scores else "nothing was measured"
    lines = ["", f"{what} ({_data_words(result)})"]
    width = max([len(name) for name, _ in scores] + [len(name) for name in result.seconds])
    for name, values in scores:
        lines.append(f"  {name:<{width}}  {sum(values) / len(values):6.1f}{_seeds(values)}")
    if not scores:
        lines.append(f"  {_why_no_scores(result)}")
    lines.append("seconds")
    lines += [f"  {name:<{width}}  {seconds:6.0f}" for name, seconds in result.seconds.items()]
    lines.append(f"  {'in all':<{width}}  {sum(result.seconds.values()):6.0f}")
    return "\n".join([*lines, ""])


def _seeds(values: list[float]) -> str:
    return "" if len(values) < 2 else "   seeds: " + " / ".join(f"{value:.1f}" for value in values)


def _why_no_scores(result: QuickstartResult) -> str:
    """Which frames lack the point labels that a probe needs."""
    lacking = [
        f"none of the {len(rows)} key frames for {purpose} has point labels"
        for purpose, rows in (
            ("training", result.index.rows(result.plan.train)),
            ("evaluation", result.index.rows(result.plan.evaluate)),
        )
        if not any(result.index.has_labels(row) for row in rows)
    ]
    return " and ".join(lacking) or "no run has left a score"


def _data_words(result: QuickstartResult) -> str:
    kind = "recorded" if result.index.card.real else "made, not recorded"
    return f"{result.index.card.name}, {kind} data; teacher {result.plan.teacher}"


def write_report(result: QuickstartResult, path: str | Path, *, pictures: str | Path) -> None:
    """One HTML page beside a folder of PNG files; both can be moved together."""
    path, pictures = Path(path), Path(pictures)
    made = draw_pictures(result, pictures)
    classes = (
        "annotated classes, " if result.index.has_labels(shown_rows(result.index, result.plan)[0]) else ""
    )
    parts = [
        f"<!doctype html><meta charset='utf-8'><title>superflow quickstart</title><style>{STYLE}</style>",
        "<h1>From a driving log to a pretrained LiDAR backbone</h1>",
        f"<p>{html.escape(_data_words(result))}. {html.escape(_measured_words(result))}</p>",
        _score_table(result),
        _class_table(result),
        _html_table(("stage", "seconds"), [(name, f"{s:.0f}") for name, s in result.seconds.items()]),
        f"<p>Backbone: <code>{html.escape(str(result.backbone))}</code>, loaded by "
        f"<code>superflow.load({html.escape(repr(str(result.backbone)))})</code>.</p>",
    ]
    for name, file in made.items():
        where = html.escape(f"{pictures.name}/{file.name}")
        caption = html.escape(PICTURES[name].format(classes=classes))
        parts.append(f"<figure><img src='{where}' alt='{name}'><figcaption>{caption}</figcaption></figure>")
    write_text(path, "\n".join(parts) + "\n")


def _measured_words(result: QuickstartResult) -> str:
    """What was measured on which frames, or why nothing was."""
    train, evaluate = (len(result.index.rows(getattr(result.plan, which))) for which in ("train", "evaluate"))
    if not score_rows(result):
        return f"Pretrained on {train} key frames. Nothing was measured: {_why_no_scores(result)}."
    return (
        f"A linear classifier on frozen features, trained on {train} key frames, measured on {evaluate} "
        "that neither pretraining nor probe saw."
    )


def _score_table(result: QuickstartResult) -> str:
    rows: list[tuple[str, ...]] = [
        (name, f"{sum(values) / len(values):.1f}", " / ".join(f"{value:.1f}" for value in values))
        for name, values in score_rows(result)
    ]
    return _html_table(("linear probe", "mIoU [%]", "every seed"), rows) if rows else ""


def _class_table(result: QuickstartResult) -> str:
    """IoU by class, mean over seeds."""
    arms = [arm.name for arm in result.plan.arms]
    found: dict[str, dict[str, list[float]]] = {}
    for record in result.records:
        if record["probe"]:
            for name, value in record["probe"]["scores"]["linear"]["iou"].items():
                if value is not None:
                    found.setdefault(name, {}).setdefault(record["arm"], []).append(value)
    if not found:
        return ""
    rows = [
        (name.replace("_", " "), *(f"{np.mean(by_arm[arm]):.1f}" if arm in by_arm else "-" for arm in arms))
        for name, by_arm in found.items()
    ]
    return _html_table(("class, IoU [%]", *arms), rows)


def _html_table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    cells = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"]
    cells += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return "<table>" + "".join(cells) + "</table>"


def draw_pictures(result: QuickstartResult, folder: Path) -> dict[str, Path]:
    """Name in `PICTURES` -> PNG file; pictures that a log does not allow are left out."""
    from ..pictures.frame_pictures import PictureOptions, write_frame_pictures
    from ..pictures.picture import write_png

    index = result.index
    shown, trained = shown_rows(index, result.plan)
    features = PictureOptions(what=("features", "similarity"), backbone=result.backbone)
    regions = PictureOptions(what=("superpixels",), superpixels=index.folder / "superpixels" / "slic")

    def draw_overview() -> list[Path]:
        write_png(folder / "overview.png", overview(result, shown))
        return [folder / "overview.png"]

    drawers: dict[str, Callable[[], Iterable[Path]]] = {
        "overview": draw_overview,
        "features": lambda: write_frame_pictures(index, shown, folder, features),
        "depth": lambda: write_frame_pictures(index, shown, folder, PictureOptions(what=("depth",))),
        "superpixels": lambda: write_frame_pictures(index, trained, folder, regions),
    }
    found: dict[str, Path] = {}
    for what, draw in drawers.items():
        try:
            for path in draw():
                found |= {name: path for name in PICTURES if path.stem.endswith(name)}
        except InputError as error:  # no images, or files that no earlier stage has read
            log.warning("the report has not all pictures of the %s: %s", what, error)
    return {name: found[name] for name in PICTURES if name in found}


def shown_rows(index: Any, plan: Plan) -> tuple[int, int]:
    """The frame of evaluation and the one of training that are drawn: those in the middle of all with images."""

    def middle(frames: Any) -> int:
        rows = index.rows(frames)
        seen = rows[index.camera_count[rows] > 0]
        rows = seen if len(seen) else rows
        return int(rows[len(rows) // 2])

    return middle(plan.evaluate), middle(plan.train)


def overview(result: QuickstartResult, row: int) -> np.ndarray:
    """(H, W, 3) RGB: one scan from above by class, by random features and by pretrained features."""
    import torch

    from ..clips.sources import named, source_of
    from ..geometry import voxel_keys
    from ..hub.backbone import load
    from ..lidar.encoder import LidarEncoder
    from ..pictures.coloring import FeatureColors, class_colors
    from ..pictures.picture import birds_eye, class_key, sheet

    frame = result.index.frame(row, cameras=())
    pretrained = load(result.backbone)
    torch.manual_seed(0)
    random = LidarEncoder(**pretrained.card.encoder).eval()
    cloud = torch.from_numpy(frame.points)
    with torch.no_grad(), named(frame.points, source_of(result.index, row)):
        # batch statistics: a random network has no running ones
        untrained = (
            random.train().point_features(cloud, torch.zeros(len(cloud), dtype=torch.int64), 1).numpy()
        )
    # colours are fitted to one point a cubic metre, or the dense rings around the vehicle take them all
    spread = np.unique(voxel_keys(frame.points[:, :3], 1.0), return_index=True)[1]
    views = {}
    for name, features in (
        ("random backbone", untrained),
        ("pretrained without labels", pretrained.extract(frame.points)),
    ):
        unit = _unit(features)
        views[name] = FeatureColors.fit(unit[spread])(unit)
    key = None
    if frame.labels is not None:
        card = result.index.card
        views = {"annotation": class_colors(frame.labels, card.palette), **views}
        key = class_key(frame.labels, card.classes, card.palette)
    images = [
        birds_eye(frame.points, colors, title=name, extent_m=35, height_px=700)
        for name, colors in views.items()
    ]
    return sheet(images, [""] * len(images), title="one scan from above", key=key, width_px=1900)


def _unit(features: np.ndarray) -> np.ndarray:
    """Rows at length one: what is compared is direction, as in the losses."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
