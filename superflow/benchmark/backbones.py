"""Backbones of a benchmark of places: each is trained once and exported once, with its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..progress import cpu_seconds
from .places_logs import Features, features_folder, prepared_folder
from .places_plan import AVERAGED, NO_SOURCE, PlacesArm, PlacesPlan, Source
from .preparation import prepared_hashes
from .results import claim, hash_of_config, slug
from .rows import held


def backbone_path(out: Path, source: str, arm: str, seed: int) -> Path:
    """The exported file: OUT/backbones/SOURCE-ARM-SEED.safetensors."""
    return out / "backbones" / f"{slug(source)}-{slug(arm)}-{seed}.safetensors"


def make_backbone(plan: PlacesPlan, source: str, arm: PlacesArm, seed: int, out: Path) -> Path:
    """The exported backbone, trained before or now; a stopped training goes on from its checkpoint.

    Raises:
        InputError: it was made of another config, log or start; or training cannot go on.
    """
    path = backbone_path(out, source, arm.name, seed)
    if arm.weights is not None:
        return _take_over(arm, path, seed)
    with held(path.with_suffix(".lock")):  # another arm may start from it at the same time
        if arm.kind == AVERAGED:
            return _average(plan, source, arm, seed, out)
        start = _start_of(plan, source, arm, seed, out)
        config = training_config(plan, source, arm, seed, out, start)
        made_of = _made_of(plan, source, config, start, out)
        if arm.kind == "pretrained":
            made_of |= prepared_hashes(config)
        claim(path.with_suffix(".json"), made_of, remove=f"{path.with_suffix('.*')} and {config.work_dir}")
        if not path.is_file():
            _make(arm, config, start, path, seed)
    return path


def _start_of(plan: PlacesPlan, source: str, arm: PlacesArm, seed: int, out: Path) -> Path | None:
    """The exported backbone that an arm begins with, made where it is not there; None where there is none."""
    if arm.start is None:
        return None
    first = plan.arms[arm.start]
    return make_backbone(plan, first.fixed_source or source, first, seed, out)


def _average(plan: PlacesPlan, source: str, arm: PlacesArm, seed: int, out: Path) -> Path:
    """The mean of the backbone that an averaged arm names and of the one that began with, as a backbone of its own."""
    from ..hub.averaging import average_with
    from ..hub.backbone import card_of, save_backbone
    from ..hub.encoder_file import build_encoder, read_encoder_file

    trained = _start_of(plan, source, arm, seed, out)
    assert arm.start is not None  # as the check of plans has seen
    assert trained is not None
    began = _start_of(plan, source, plan.arms[arm.start], seed, out)
    assert began is not None
    path = backbone_path(out, source, arm.name, seed)
    made_of = {"averaged": [_card_hash(trained), _card_hash(began)], "share": arm.share}
    claim(path.with_suffix(".json"), made_of, remove=f"{path.with_suffix('.*')}, and its rows")
    if not path.is_file():
        file = read_encoder_file(trained)
        encoder, card = average_with(build_encoder(file), card_of(file), began, share=arm.share)
        save_backbone(encoder, path, replace(card, name=path.stem))
    return path


def check_backbone(plan: PlacesPlan, source: str, arm: PlacesArm, out: Path) -> None:
    """Refuse an arm that cannot be made, before the work of those that stand before it in the plan.

    Raises:
        InputError: its weights are not there or cannot be read, or its config or options say what nothing reads.
    """
    from ..hub.encoder_file import read_encoder_file

    try:
        if arm.weights is not None:
            read_encoder_file(arm.weights)
        elif arm.kind != AVERAGED:
            training_config(plan, source, arm, 0, out)
    except InputError as error:
        raise InputError(f"arm {arm.name!r}: {error}") from error


def _take_over(arm: PlacesArm, path: Path, seed: int) -> Path:
    """``path`` with the weights that an arm was given, or random ones of that encoder; with its card in either case."""
    from ..hub.backbone import card_of, save_backbone
    from ..hub.encoder_file import build_encoder, read_encoder_file, weights_hash

    assert arm.weights is not None
    file = read_encoder_file(arm.weights)
    made_of = {"kind": arm.kind, "weights": weights_hash(file.weights)}
    with held(path.with_suffix(".lock")):
        claim(path.with_suffix(".json"), made_of, remove=f"{path.with_suffix('.*')}, and its rows")
        if path.is_file():
            return path
        if arm.kind == "random":
            save_random(file.config, path, seed)
        else:
            save_backbone(build_encoder(file), path, replace(card_of(file), name=arm.name))
    return path


def training_config(
    plan: PlacesPlan, source: str, arm: PlacesArm, seed: int, out: Path, start: Path | None = None
) -> Any:
    """The config of an arm on a source, as it is trained."""
    work = out / "runs" / backbone_path(out, source, arm.name, seed).stem
    if source == NO_SOURCE:
        return _load(plan, None, arm, seed, work, out)
    chosen = plan.sources[source]
    if not chosen.mix:
        config = _load(plan, chosen, arm, seed, work, out)
    else:
        configs = {
            name: _load(plan, plan.sources[name], arm, seed, work, out, mix=chosen) for name in chosen.mix
        }
        config = next(iter(configs.values()))
        parts = [
            {**part.train_dataloader.dataset, "weight": float(chosen.mix[name])}
            for name, part in configs.items()
        ]
        for part in parts:
            part.pop("type")
            if not part.get("images", True):
                part.pop("views")
        config.train_dataloader.dataset = {"type": "MixtureDataset", "parts": parts}
    if start is not None:
        config.model.pretrained = str(start)
    return config


def _load(
    plan: PlacesPlan,
    source: Source | None,
    arm: PlacesArm,
    seed: int,
    work: Path,
    out: Path,
    *,
    mix: Source | None = None,
) -> Any:
    from ..engine.config import load_config

    options: dict[str, Any] = dict(arm.options) if source is None else {}
    prepared = None
    if source is not None:
        prepared = prepared_folder(plan.logs[source.log], out)
        options["train_dataloader.dataset.frames"] = source.frames
        if not source.images:
            options["train_dataloader.dataset.images"] = False
        elif arm.kind == "pretrained" and _has_views(arm):
            features = features_folder(plan, source, out, mix=mix, features=Features.of(plan, arm))
            options["train_dataloader.dataset.views.features"] = str(features)
        options |= {**source.options.get(arm.kind, {}), **arm.options, **arm.by_source.get(source.name, {})}
        if mix is not None:
            options |= {**mix.options.get(arm.kind, {}), **arm.by_source.get(mix.name, {})}
    return load_config(
        arm.config,
        options=options,
        work_dir=work,
        data_root=prepared,
        seed=seed,
        launcher="none",
        resume=True,
        allow_leakage=plan.allow_leakage,
    )


def _has_views(arm: PlacesArm) -> bool:
    """Whether the config's training set reads images, of which a teacher's features take the place."""
    from ..engine.config import load_config

    return "views" in load_config(arm.config, launcher="none").train_dataloader.dataset


def _made_of(plan: PlacesPlan, source: str, config: Any, start: Path | None, out: Path) -> dict[str, Any]:
    """What a backbone depends on beside the code: one folder must not mix two of them."""
    from ..datasets.index import LogIndex

    chosen = None if source == NO_SOURCE else plan.sources[source]
    parts = [] if chosen is None else [plan.sources[name] for name in chosen.mix] or [chosen]
    logs = [LogIndex.open(prepared_folder(plan.logs[part.log], out)).hash for part in parts]
    return {"config": config_hash(plan, config, out), "logs": logs, "start": _card_hash(start)}


def config_hash(plan: PlacesPlan, config: Any, out: Path) -> str:
    """Of all that a config says, wherever the benchmark's folders lie."""
    logs = {str(prepared_folder(log, out)): f"PREPARED {log.name}" for log in plan.logs.values()}
    return hash_of_config(config, {**logs, str(out): "OUT"})


def _card_hash(path: Path | None) -> str | None:
    return None if path is None else str(read_card(path)["weights_sha256"])


def read_card(path: Path) -> Mapping[str, Any]:
    """The card beside an exported backbone."""
    from ..files.access import read_json

    return read_json(path.with_suffix(".json"), "export the backbone again")


def _make(arm: PlacesArm, config: Any, start: Path | None, path: Path, seed: int) -> None:
    from ..engine.registry import as_plain
    from ..engine.runner import build_runner
    from ..hub.backbone import card_of, save_backbone
    from ..hub.checkpoint import find_last
    from ..hub.encoder_file import build_encoder, read_encoder_file

    if arm.kind == "random":
        save_random(as_plain(config.model.student), path, seed)
        return
    resumed = find_last(config.work_dir) is not None
    before = cpu_seconds()
    build_runner(config).train()
    # what a process spent that was stopped is not known
    spent = None if resumed else cpu_seconds() - before
    if start is not None and spent is not None:
        first = read_card(start)["training"].get("cpu_seconds")
        spent = None if first is None else spent + first
    file = read_encoder_file(config.work_dir)
    card = card_of(file)
    card = replace(card, name=path.stem, training={**card.training, "cpu_seconds": spent})
    save_backbone(build_encoder(file), path, card)


def save_random(encoder: Mapping[str, Any], path: Path, seed: int) -> None:
    """Write an encoder of these arguments with random weights, as a backbone with its card."""
    import torch

    from ..hub.backbone import BackboneCard, save_backbone
    from ..lidar.encoder import LidarEncoder

    torch.manual_seed(seed)
    card = BackboneCard(path.stem, method={"kind": "random"}, training={"seed": seed})
    save_backbone(LidarEncoder(**encoder), path, card)
