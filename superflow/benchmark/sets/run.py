"""Prepared sets of a benchmark: found, read, and one shard for each of them and each backbone."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...downstream.labelled import labelled_rows
from ...errors import InputError
from ..places.plan import GIVEN, NO_SOURCE, Evaluation, Log, PlacesPlan
from ..places.run import PlacesUnit, evaluation_rows, label_set
from .plan import Protocol, SetsPlan, random_arm

INDEX = "index.json"  # what makes a folder a prepared one


@dataclass(frozen=True)
class ReadSet:
    """A set that can be measured. split: in words. real: False for made data."""

    evaluation: Evaluation
    split: str
    label_set: str
    real: bool
    train: int
    evaluate: int


@dataclass(frozen=True)
class SetUnit(PlacesUnit):
    """All figures of one backbone on one set. protocols: those asked for; weights: its NAME=FILE."""

    protocols: Mapping[str, Protocol]
    weights: str

    def name(self) -> str:
        return f"{self.arm} on {', '.join(self.evaluations)}, seed {self.seed}"

    def command(self, evaluation: str, measure: str) -> str:
        """What makes this row again; names in capitals stand for folders."""
        names = [name for name, protocol in self.protocols.items() if protocol.measure == measure]
        words = ["superflow", "benchmark", self.plan_name, "--log", f"{evaluation}={evaluation.upper()}"]
        words += [
            "--weights",
            self.weights,
            "--protocols",
            ",".join(names),
            "--seeds",
            str(self.seed),
        ]
        words += ["--random"] if self.plan.arms[self.arm].kind == "random" else []
        words += ["--allow-leakage"] if self.plan.allow_leakage else []
        return shlex.join([*words, "--out", "OUT"])


def find_sets(texts: Iterable[str]) -> dict[str, Path]:
    """Name -> prepared folder of ``NAME=FOLDER``, of a prepared folder, or of all prepared ones that lie in a folder.

    Raises:
        InputError: a folder is not there or holds none, or two sets have one name.
    """
    found: list[tuple[str, Path]] = []
    for text in texts:
        name, equals, folder = text.rpartition("=")
        path = Path(folder).absolute()
        if not path.is_dir():
            raise InputError(f"--log {text}: there is no folder {path}; give NAME=FOLDER of a prepared set")
        if equals or (path / INDEX).is_file():
            found.append((name or path.name, path))
            continue
        inside = sorted(entry for entry in path.iterdir() if (entry / INDEX).is_file())
        if not inside:
            raise InputError(
                f"--log {text}: neither is {path} a prepared set nor does it hold any; run `superflow prepare` first"
            )
        found += [(entry.name, entry) for entry in inside]
    if not found:
        raise InputError("--log: name a prepared set, or a folder that holds them")
    names = [name for name, _ in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"--log: two sets have the name {twice[0]!r}; name them with NAME=FOLDER")
    return dict(found)


def named_weights(texts: Sequence[str]) -> dict[str, str]:
    """Name -> backbone of ``NAME=W`` or ``W``, which is a file, a run's folder, or the name of a backbone.

    Raises:
        InputError: there are none, one cannot be read, or two have one name.
    """
    from ...hub.encoder_file import read_encoder_file

    if not texts:
        raise InputError("--weights: name a backbone, such as street-tiny or the file of `superflow export`")
    found: dict[str, str] = {}
    for text in texts:
        name, equals, what = text.partition("=")
        what = what if equals else name
        name = name if equals else Path(what).stem
        if not name or not what or name in found:
            raise InputError(f"--weights {text}: give NAME=BACKBONE, each with a name of its own")
        read_encoder_file(what)  # refuses before the work
        found[name] = str(Path(what).absolute()) if Path(what).exists() else what
    return found


def read_sets(
    plan: SetsPlan, sets: Mapping[str, Path], out: Path
) -> tuple[dict[str, ReadSet], dict[str, str]]:
    """The sets that can be measured, and of the others why not."""
    usable: dict[str, ReadSet] = {}
    refused: dict[str, str] = {}
    for name, folder in sets.items():
        try:
            usable[name] = _read(plan, name, folder, out)
        except (InputError, OSError) as error:
            refused[name] = str(error)
    return usable, refused


def _read(plan: SetsPlan, name: str, folder: Path, out: Path) -> ReadSet:
    from ...datasets.index import LogIndex

    index = LogIndex.open(folder)
    if name in plan.evaluations:
        evaluation, split = plan.evaluation(name), "of the plan"
    else:
        evaluation, split = frames_of(name, index)
    alone = PlacesPlan(
        logs={name: Log(name, root=str(folder))}, arms={}, evaluations={name: evaluation}, measures={}
    )
    rows = evaluation_rows(alone, name, out)[1]
    return ReadSet(
        evaluation, split, label_set(index.card), index.card.real, len(rows["train"]), len(rows["evaluate"])
    )


def frames_of(name: str, index: Any) -> tuple[Evaluation, str]:
    """What is learned from and judged on in a log, and the rule in words.

    The set's own splits train and val where both have labels. Else the last quarter of its labelled scenes is judged;
    of a single scene the last quarter of its key frames, which are neighbours of those learned from.

    Raises:
        InputError: the log has no labels, or a single scan with them.
    """
    if all(_labelled(index, split) for split in ("train", "val")):
        return Evaluation(name, name, train="train", evaluate="val"), "train, val"
    rows = labelled_rows(index, None)
    scenes = list(dict.fromkeys(index.scene(row) for row in rows))
    if len(scenes) > 1:
        judged = max(1, len(scenes) // 4)
        parts = Evaluation(name, name, train=scenes[:-judged], evaluate=scenes[-judged:])
        return parts, f"the last {judged} of {len(scenes)} scenes judged"
    if len(rows) < 2:
        raise InputError(
            f"{index.root}: has {len(rows)} scans with labels; a benchmark needs some to learn from and others"
        )
    count = len(index.rows(scenes))
    judged = max(1, count // 4)
    parts = Evaluation(name, name, train=f"{scenes[0]}[:-{judged}]", evaluate=f"{scenes[0]}[-{judged}:]")
    return parts, f"the last {judged} of {count} scans judged: the same street as those learned from"


def _labelled(index: Any, split: str) -> bool:
    if split not in index.card.splits and split not in index.row_splits:
        return False
    try:
        return bool(labelled_rows(index, split))
    except InputError:  # the log holds none of its scenes
        return False


def units_of(
    plan: PlacesPlan,
    protocols: Mapping[str, Protocol],
    weights: Mapping[str, str],
    *,
    out: Path,
    plan_name: str,
    seeds: Sequence[int],
) -> list[SetUnit]:
    """A shard for each seed, set and backbone."""
    return [
        SetUnit(
            plan,
            GIVEN if arm.kind == "given" else NO_SOURCE,
            arm.name,
            seed,
            out,
            plan_name,
            (name,),
            tuple(plan.measures),
            protocols,
            f"{given}={Path(file).name}",
        )
        for seed in seeds
        for name in plan.evaluations
        for given, file in weights.items()
        for arm in (plan.arms[own] for own in (given, random_arm(given)) if own in plan.arms)
    ]
