"""The logs of a benchmark of places: made where they are made, indexed, with what pretraining reads of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files.access import no_folder
from ..plan_file import check_value, read_entry
from ..preparation import prepare_features, prepare_providers, refuse_other_log
from .plan import Log, PlacesArm, PlacesPlan, Source

COMPONENTS = 64  # directions that are kept of a teacher's features, unless an arm says otherwise


def prepared_folder(log: Log, out: Path) -> Path:
    """Folder of a log's index: where it was prepared before the benchmark, or below the benchmark's own."""
    if log.root is not None and (Path(log.root) / "index.json").is_file():
        return Path(log.root)
    return _own_folder(out / "prepared", log.name)


def _own_folder(folder: Path, name: str) -> Path:
    """The one of a log in ``folder``, never a place outside of it."""
    if Path(name).name != name or name == "..":
        raise InputError(f"log {name!r} cannot have a folder of its own; name it in the plan without slashes")
    return folder / name


def check_logs(logs: Iterable[Log]) -> None:
    """Called before the first log is made, which may take long: those that are not made lie where they are said to.

    Raises:
        InputError: one of them has neither a root nor a drive, or there is no such folder.
    """
    for log in logs:
        given = f"give it with --root {log.name}=FOLDER"
        if log.drive is not None:
            continue
        if log.root is None:
            raise InputError(f"log {log.name!r} has no root in the plan; {given}")
        if not Path(log.root).is_dir():
            raise InputError(f"{log.root}: {no_folder(log.root)}; the log {log.name!r} is needed, {given}")


def prepare_log(log: Log, out: Path, *, jobs: int) -> Any:
    """The index of a log; a made drive is made first, what is there already is kept.

    Raises:
        InputError: it has neither a root nor a drive, or cannot be read.
    """
    from ...datasets.card import load_card
    from ...datasets.index import LogIndex
    from ...datasets.prepare import prepare

    check_logs([log])
    folder = prepared_folder(log, out)
    if log.root is not None and folder == Path(log.root):
        return LogIndex.open(folder)
    root = str(log.root if log.drive is None else _make(log, out, jobs=jobs))
    refuse_other_log(folder, root)
    card = None if log.card is None else load_card(log.card, label_set=log.label_set)
    label_set = "" if card is not None else log.label_set
    return prepare(log.dataset, root, folder, card=card, label_set=label_set, version=log.version)


def _make(log: Log, out: Path, *, jobs: int) -> Path:
    from ...street.drive import DriveSettings, make_drive

    assert log.drive is not None
    where = f"log {log.name!r}: drive"
    settings = dict(log.drive)
    counts = {key: settings.pop(key) for key in ("scenes", "val_scenes") if key in settings}
    for key, count in counts.items():
        check_value(count, int, f"{where}: {key}")
    if isinstance(settings.get("image_size"), list):
        settings["image_size"] = tuple(settings["image_size"])
    made = read_entry(DriveSettings, settings, where)
    folder = _own_folder(out / "drives", log.drive_name or log.name)
    return make_drive(folder, settings=made, workers=jobs, **counts)


@dataclass(frozen=True, slots=True)
class Features:
    """Which features of images some arms read: of a teacher, reduced to ``components`` channels or, None, all."""

    teacher: str
    components: int | None = COMPONENTS

    @classmethod
    def of(cls, plan: PlacesPlan, arm: PlacesArm) -> Features:
        """Those of an arm."""
        components = arm.features.get("components", COMPONENTS)
        return cls(arm.features.get("teacher", plan.teacher), components or None)

    @property
    def folder(self) -> str:
        """Their folder's name."""
        return self.teacher if self.components == COMPONENTS else f"{self.teacher}_{self.components or 'all'}"


def prepare_sources(
    plan: PlacesPlan, sources: Iterable[str], out: Path, *, jobs: int, arms: Iterable[str] | None = None
) -> None:
    """What the arms of these sources read beside their index: teacher features, superpixels; what is there is kept.

    Args:
        arms: those that are to be trained, all when None.
    """
    names = set(plan.arms if arms is None else arms)
    for name in list(names):
        names |= set(plan.starts(name))
    for name in sources:
        source = plan.sources[name]
        taught = [
            arm
            for arm in plan.arms.values()
            if arm.name in names
            if arm.kind == "pretrained" and (arm.sources is None or name in arm.sources)
        ]
        read = list(dict.fromkeys(Features.of(plan, arm) for arm in taught))
        for part in (plan.sources[part] for part in source.mix or (name,)):
            if read and part.images:
                _prepare_source(plan, part, read, out, mix=source if source.mix else None, jobs=jobs)


def features_folder(
    plan: PlacesPlan,
    source: Source,
    out: Path,
    *,
    mix: Source | None = None,
    features: Features | None = None,
) -> Path:
    """Of a source's teacher features; as a part of a mix, reduced to the directions of its first part with images."""
    folder = prepared_folder(plan.logs[source.log], out) / "features"
    first = source.name if mix is None else _first_with_images(plan, mix)
    name = (features or Features(plan.teacher)).folder
    return folder / (name if first == source.name else f"{name}_as_{first}")


def _first_with_images(plan: PlacesPlan, mix: Source) -> str:
    return next(part for part in mix.mix if plan.sources[part].images)


def _prepare_source(
    plan: PlacesPlan, source: Source, read: Collection[Features], out: Path, *, mix: Source | None, jobs: int
) -> None:
    from ...datasets.index import LogIndex

    index = LogIndex.open(prepared_folder(plan.logs[source.log], out))
    regions = Features(plan.teacher)  # the same whether the log is mixed with others or not
    for features in dict.fromkeys([*([regions] if "clusters" in source.superpixels else []), *read]):
        made: dict[str, Any] = {
            "teacher": features.teacher,
            "components": features.components,
            "threads": jobs,
        }
        own = features_folder(plan, source, out, features=features)
        shared = features_folder(plan, source, out, mix=mix, features=features)
        if own == shared or (features == regions and "clusters" in source.superpixels):
            prepare_features(index, source.frames, folder=own, **made)
        if own != shared and features in read:
            assert mix is not None
            first = features_folder(plan, plan.sources[_first_with_images(plan, mix)], out, features=features)
            prepare_features(index, source.frames, folder=shared, reduction_of=first, **made)
    clusters_of = features_folder(plan, source, out)
    prepare_providers(index, source.frames, source.superpixels, features=clusters_of, workers=jobs)
