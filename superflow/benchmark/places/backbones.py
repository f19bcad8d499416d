"""Backbones of a benchmark of places: each is trained once and exported once, with its card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...progress import cpu_seconds
from ..preparation import prepared_hashes
from ..results import claim, hash_of_config, slug
from ..rows import held
from .logs import Features, features_folder, prepared_folder
from .plan import AVERAGED, NO_SOURCE, PlacesArm, PlacesPlan, Source


@dataclass(frozen=True)
class PlannedBackbone:
    """One backbone of a plan, made before or not: its arm trained on a source, below the benchmark's folder ``out``."""

    plan: PlacesPlan
    source: str
    arm: str
    seed: int
    out: Path

    @property
    def entry(self) -> PlacesArm:
        """The plan's entry of the arm."""
        return self.plan.arms[self.arm]

    @property
    def path(self) -> Path:
        """The exported file: OUT/backbones/SOURCE-ARM-SEED.safetensors."""
        return self.out / "backbones" / f"{slug(self.source)}-{slug(self.arm)}-{self.seed}.safetensors"

    @property
    def start(self) -> PlannedBackbone | None:
        """The one that it begins with, of an averaged one the one that is averaged with its own start; None without."""
        if self.entry.start is None:
            return None
        first = self.plan.arms[self.entry.start]
        return replace(self, source=first.fixed_source or self.source, arm=first.name)

    def check(self) -> None:
        """Refuse what cannot be made, with what it begins with, before the work of those before it in the plan.

        Raises:
            InputError: weights are not there or cannot be read, or a config or options say what nothing reads.
        """
        from ...hub.encoder_file import read_encoder_file

        if self.start is not None:
            self.start.check()
        try:
            if self.entry.weights is not None:
                read_encoder_file(self.entry.weights)
            elif self.entry.kind != AVERAGED:
                self.config()
        except InputError as error:
            raise InputError(f"arm {self.arm!r}: {error}") from error

    def make(self) -> Path:
        """The exported file, made before or now; a stopped training goes on from its checkpoint.

        Raises:
            InputError: it was made of another config, log or start; or training cannot go on.
        """
        with held(self.path.with_suffix(".lock")):  # another arm may start from it at the same time
            if self.entry.weights is not None:
                self._take_over(self.entry.weights)
            elif self.entry.kind == AVERAGED:
                self._average()
            else:
                self._train()
        return self.path

    def card(self) -> Mapping[str, Any]:
        """The card beside the exported file."""
        from ...files.access import read_json

        return read_json(self.path.with_suffix(".json"), "export the backbone again")

    def config(self, start: Path | None = None) -> Any:
        """The config of the arm on the source, as it is trained, from the exported backbone ``start``."""
        if self.source == NO_SOURCE:
            return self._load(None)
        chosen = self.plan.sources[self.source]
        if not chosen.mix:
            config = self._load(chosen)
        else:
            configs = {name: self._load(self.plan.sources[name], mix=chosen) for name in chosen.mix}
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

    def config_hash(self, config: Any) -> str:
        """Of all that a config says, wherever the benchmark's folders lie."""
        logs = {
            str(prepared_folder(log, self.out)): f"PREPARED {log.name}" for log in self.plan.logs.values()
        }
        return hash_of_config(config, {**logs, str(self.out): "OUT"})

    def _load(self, source: Source | None, *, mix: Source | None = None) -> Any:
        from ...engine.config import load_config

        arm, plan = self.entry, self.plan
        options: dict[str, Any] = dict(arm.options) if source is None else {}
        if source is not None:
            options["train_dataloader.dataset.frames"] = source.frames
            if not source.images:
                options["train_dataloader.dataset.images"] = False
            elif arm.kind == "pretrained" and _has_views(arm):
                features = features_folder(plan, source, self.out, mix=mix, features=Features.of(plan, arm))
                options["train_dataloader.dataset.views.features"] = str(features)
            options |= {
                **source.options.get(arm.kind, {}),
                **arm.options,
                **arm.by_source.get(source.name, {}),
            }
            if mix is not None:
                options |= {**mix.options.get(arm.kind, {}), **arm.by_source.get(mix.name, {})}
        return load_config(
            arm.config,
            options=options,
            work_dir=self.out / "runs" / self.path.stem,
            data_root=None if source is None else prepared_folder(plan.logs[source.log], self.out),
            seed=self.seed,
            launcher="none",
            resume=True,
            allow_leakage=plan.allow_leakage,
        )

    def _claim(self, made_of: Mapping[str, Any], beside: str) -> None:
        """Write what it is made of; ``beside``: what has to be deleted beside its files to make it anew."""
        claim(self.path.with_suffix(".json"), made_of, remove=f"{self.path.with_suffix('.*')}{beside}")

    def _take_over(self, weights: str) -> None:
        """Write the weights that the arm was given, or random ones of that encoder; with its card in either case."""
        from ...hub.backbone import card_of, save_backbone
        from ...hub.encoder_file import build_encoder, read_encoder_file, weights_hash

        file = read_encoder_file(weights)
        self._claim({"kind": self.entry.kind, "weights": weights_hash(file.weights)}, ", and its rows")
        if self.path.is_file():
            return
        if self.entry.kind == "random":
            self._save_random(file.config)
        else:
            save_backbone(build_encoder(file), self.path, replace(card_of(file), name=self.arm))

    def _average(self) -> None:
        """Write the mean of the backbone that the arm names and of the one that began with."""
        from ...hub.averaging import average_with
        from ...hub.backbone import card_of, save_backbone
        from ...hub.encoder_file import build_encoder, read_encoder_file

        trained = self.start
        assert trained is not None
        assert trained.start is not None
        trained.make()
        began = trained.start.make()
        hashes = [each.card()["weights_sha256"] for each in (trained, trained.start)]
        self._claim({"averaged": hashes, "share": self.entry.share}, ", and its rows")
        if not self.path.is_file():
            file = read_encoder_file(trained.path)
            encoder, card = average_with(build_encoder(file), card_of(file), began, share=self.entry.share)
            save_backbone(encoder, self.path, replace(card, name=self.path.stem))

    def _train(self) -> None:
        from ...engine.registry import as_plain

        config = self.config(self.start.make() if self.start is not None else None)
        made_of = self._made_of(config)
        if self.entry.kind == "pretrained":
            made_of |= prepared_hashes(config)
        self._claim(made_of, f" and {config.work_dir}")
        if self.path.is_file():
            return
        if self.entry.kind == "random":
            self._save_random(as_plain(config.model.student))
        else:
            self._run(config)

    def _made_of(self, config: Any) -> dict[str, Any]:
        """What it depends on beside the code: one folder must not mix two of them."""
        from ...datasets.index import LogIndex

        chosen = None if self.source == NO_SOURCE else self.plan.sources[self.source]
        parts = [] if chosen is None else [self.plan.sources[name] for name in chosen.mix] or [chosen]
        logs = [LogIndex.open(prepared_folder(self.plan.logs[part.log], self.out)).hash for part in parts]
        start = None if self.start is None else self.start.card()["weights_sha256"]
        return {"config": self.config_hash(config), "logs": logs, "start": start}

    def _run(self, config: Any) -> None:
        """Train, and export with what the training and that of its start cost."""
        from ...engine.runner import build_runner
        from ...hub.backbone import card_of, save_backbone
        from ...hub.checkpoint import find_last
        from ...hub.encoder_file import build_encoder, read_encoder_file

        resumed = find_last(config.work_dir) is not None
        before = cpu_seconds()
        build_runner(config).train()
        # what a process spent that was stopped is not known
        spent = None if resumed else cpu_seconds() - before
        if self.start is not None and spent is not None:
            first = self.start.card()["training"].get("cpu_seconds")
            spent = None if first is None else spent + first
        file = read_encoder_file(config.work_dir)
        card = card_of(file)
        card = replace(card, name=self.path.stem, training={**card.training, "cpu_seconds": spent})
        save_backbone(build_encoder(file), self.path, card)

    def _save_random(self, encoder: Mapping[str, Any]) -> None:
        """Write an encoder of these arguments with random weights, as a backbone with its card."""
        import torch

        from ...hub.backbone import BackboneCard, save_backbone
        from ...lidar.encoder import LidarEncoder

        torch.manual_seed(self.seed)
        card = BackboneCard(self.path.stem, method={"kind": "random"}, training={"seed": self.seed})
        save_backbone(LidarEncoder(**encoder), self.path, card)


def _has_views(arm: PlacesArm) -> bool:
    """Whether the config's training set reads images, of which a teacher's features take the place."""
    from ...engine.config import load_config

    return "views" in load_config(arm.config, launcher="none").train_dataloader.dataset
