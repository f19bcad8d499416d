"""A trained model judged on the same scans clean and corrupted."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..datasets.corruptions.corrupted_index import CLEAN
from ..datasets.corruptions.domain import LEVELS
from ..datasets.corruptions.models import CORRUPTIONS, Variant, lacks
from ..downstream.robustness import robustness
from ..engine.loader import build_dataset
from ..engine.runner import build_runner
from ..errors import InputError
from ..files.writes import write_json
from ..method.distributed import rank
from .evidence.robustness_table import baseline_of

log = logging.getLogger(__name__)


def test_corrupted(config: Any, variants: Sequence[Variant], clean: Mapping[str, Any]) -> dict[str, Any]:
    """Scores of a config's test set in these variants, also in ``WORK_DIR/test_corruptions.json``.

    Each has its own result in ``WORK_DIR/corruptions/CORRUPTION/LEVEL``.

    Args:
        config: of the test, ``load_from`` included. clean: what `EngineRunner.test` said of it.

    Returns:
        clean: mIoU; corrupted: corruption -> level -> mIoU; left_out: corruption -> what its model needs; errors and
        resilience [%] of corruptions at all levels; mCE (None without a published baseline) and mRR, of all eight.

    Raises:
        InputError: the test set is no `SegmentDataset` of a clean log.
    """
    options = config.test_dataloader.dataset
    if options.get("type") != "SegmentDataset" or options.get("variant", CLEAN) != CLEAN:
        raise InputError(
            "corruptions are of a clean SegmentDataset; give a config with one as test_dataloader.dataset"
        )
    built: Any = build_dataset(options)
    index = built.index
    missing = {v.corruption: lacks(v.corruption, index.card) for v in variants}
    left_out = {name: what for name, what in missing.items() if what}
    scores: dict[str, dict[str, float]] = {}
    for variant in variants:
        if variant.corruption in left_out:
            continue
        own = copy.deepcopy(config)
        own.work_dir = str(Path(config.work_dir) / "corruptions" / str(variant))
        own.test_dataloader.dataset.variant = str(variant)
        metrics = build_runner(own).test()
        scores.setdefault(variant.corruption, {})[LEVELS[variant.level]] = float(metrics["miou"])
        log.info("%s: mIoU %.2f", variant, metrics["miou"])
    report = {
        "dataset": index.card.name,
        "published_mistakes": all(variant.is_published for variant in variants),
        "clean": float(clean["miou"]),
        "corrupted": scores,
        "left_out": left_out,
        **_relative(float(clean["miou"]), scores, _baseline(index.card, variants)),
    }
    if rank() == 0:
        write_json(Path(config.work_dir) / "test_corruptions.json", report)
    return report


def _baseline(card: Any, variants: Sequence[Variant]) -> str:
    """The dataset whose published baseline saw the same classes and the same corruptions; empty where none did."""
    is_published = all(variant.is_published for variant in variants)
    return baseline_of(card.name, len(card.classes)) if is_published else ""


def _relative(clean: float, scores: Mapping[str, Mapping[str, float]], dataset: str) -> dict[str, Any]:
    whole = {name: list(levels.values()) for name, levels in scores.items() if len(levels) == len(LEVELS)}
    if not whole or clean <= 0:
        return {"errors": {}, "resilience": {}, "mCE": None, "mRR": None}
    found = robustness(clean, whole, dataset)
    is_all = len(whole) == len(CORRUPTIONS)  # a mean over fewer is another figure
    return {
        "errors": dict(found.errors),
        "resilience": dict(found.resilience),
        "mCE": found.mce if is_all else None,
        "mRR": found.mrr if is_all else None,
    }


def corruption_table(report: Mapping[str, Any]) -> list[str]:
    """A report, a corruption a line."""
    lines = [f"{'':<16}{''.join(f'{level:>10}' for level in LEVELS)}{'CE':>10}{'RR':>10}"]
    lines.append(f"{CLEAN:<16}{report['clean']:10.2f}")
    for name, levels in report["corrupted"].items():
        cells = [levels.get(level) for level in LEVELS]
        cells += [report["errors"].get(name), report["resilience"].get(name)]
        lines.append(f"{name:<16}" + "".join(f"{'-':>10}" if c is None else f"{c:10.2f}" for c in cells))
    lines += [
        f"{name:<16}left out, {report['dataset']} has no {what.removeprefix('a ')}"
        for name, what in report["left_out"].items()
    ]
    means = [("mCE", report["mCE"]), ("mRR", report["mRR"])]
    return lines + [f"{name:<16}{value:10.2f}" for name, value in means if value is not None]
