"""What the arms of a benchmark of questions share, each made once: drives, questions, planes, predicted scenes.

OUT/drives/LOG, OUT/prepared/LOG      made drives; indices
OUT/questions/PART.jsonl              questions with their answers
OUT/planes/..., OUT/predicted/...     what a backbone sees of each scan, and the objects that it predicts
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...agents.bootcamps.bootcamp import Identity
from ...agents.scene import SceneRecord
from ...datasets.index import LogIndex
from ...errors import InputError
from ...files.access import make_folder, read_json_lines, read_text
from ...files.writes import write_atomically, write_bytes
from ...hub.backbone import Backbone
from ...protocol import token_hash
from ..places.logs import check_logs, prepare_log, prepared_folder
from ..results import claim, json_hash
from ..rows import held
from .plan import PARTS, RANDOM, QuestionsPlan

PROBED = 60  # training scans that the head of predictions is fitted on
PROBED_POINTS = 40_000


@dataclass(frozen=True)
class Part:
    """The scans and questions for training, or those held out."""

    name: str
    index: LogIndex
    cases: list[Identity]
    sides: int = 1

    @cached_property
    def views(self) -> dict[str, tuple[str, int]]:
        """What is asked about, by the name that a case has for it -> token and side, see `agents.vlm.ask.turned`."""
        from ...agents.vlm.ask import view_name

        asked = {case["scene"] for case in self.cases}
        names = {
            view_name(token, side): (token, side)
            for token in self.index.tokens(self.index.rows(None))
            for side in range(self.sides)
        }
        return {name: view for name, view in names.items() if name in asked}

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Token -> row of the scans that are asked about, ascending."""
        asked = {token for token, _ in self.views.values()}
        rows = self.index.rows(None)
        return {
            token: int(row) for token, row in zip(self.index.tokens(rows), rows.tolist()) if token in asked
        }

    @property
    def scenes(self) -> list[str]:
        """Scene of each question."""
        return [self.index.scene(self.row_of[self.views[case["scene"]][0]]) for case in self.cases]

    def turned(self, planes: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Name -> planes of what is asked about, of the planes of each token."""
        from ...agents.vlm.ask import turned

        return {name: turned(planes[token], side) for name, (token, side) in self.views.items()}

    def seen(self, scenes: Mapping[str, SceneRecord]) -> dict[str, SceneRecord]:
        """Name -> record of what is asked about, of the record of each token; without points."""
        from ...agents.vlm.ask import seen_from

        return {name: seen_from(scenes[token], side) for name, (token, side) in self.views.items()}

    def labelled(self) -> dict[str, SceneRecord]:
        """The same of the log's own objects."""
        from ...agents.scene_log import scene_of

        return self.seen(
            {token: scene_of(self.index, row, points=False) for token, row in self.row_of.items()}
        )


class Scans(Mapping[str, Any]):
    """Name -> points in their LiDAR's frame, read when asked for, as a processor takes them."""

    def __init__(self, *parts: Part) -> None:
        self._where = {
            name: (part.index, part.row_of[token], side)
            for part in parts
            for name, (token, side) in part.views.items()
        }

    def __getitem__(self, name: str) -> dict[str, Any]:
        from ...agents.vlm.ask import turn_of

        index, row, side = self._where[name]
        frame = index.frame(row, cameras=(), labels=False, images=False)
        return {"points": frame.points[:, :4], "lidar_to_ego": turn_of(side) @ frame.lidar_to_ego}

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)


def prepare_questions(plan: QuestionsPlan, out: Path, *, jobs: int) -> None:
    """Make the drives and the questions about them, where they are not there yet.

    Raises:
        InputError: a log is not there, ``out`` holds those of another plan, the parts share a scan, or the scenes
            allow no question of a family.
    """
    logs = [plan.logs[name] for name in dict.fromkeys(part.log for part in plan.parts.values())]
    check_logs(logs)
    for log in logs:
        prepare_log(log, out, jobs=jobs)
    _refuse_shared_scenes(plan, out)
    for name, part in plan.parts.items():
        index, rows = _rows(plan, name, out)
        path = make_folder(out / "questions") / f"{name}.jsonl"
        made_of = {
            "log": index.hash,
            "frames": len(rows),
            "scans": token_hash(index.tokens(rows)),
            "families": {family: dict(options) for family, options in plan.families.items()},
            "still": list(plan.still),
            "max_range_m": plan.max_range_m,
            "questions": part.questions,
            "sides": _sides(plan, name),
        }
        claim(path, made_of, remove=f"{path.with_suffix('.*')}")
        if not path.is_file():
            cases = _cases(plan, name, index, rows)
            with write_atomically(path, "w") as file:
                file.writelines(json.dumps(case) + "\n" for case in cases)


def _rows(plan: QuestionsPlan, name: str, out: Path) -> tuple[LogIndex, list[int]]:
    """Index and rows that a part asks about."""
    part = plan.parts[name]
    index = LogIndex.open(prepared_folder(plan.logs[part.log], out))
    return index, index.rows(part.frames).tolist()


def _refuse_shared_scenes(plan: QuestionsPlan, out: Path) -> None:
    # logs of two names may be one
    of_part = [_rows(plan, name, out) for name in PARTS]
    asked = [{(index.hash, row) for row in rows} for index, rows in of_part]
    if shared := set.intersection(*asked):
        raise InputError(
            f"parts: {len(shared)} scans are in train and in held_out; a figure needs scans that nobody trained on"
        )


def _cases(plan: QuestionsPlan, name: str, index: LogIndex, rows: Sequence[int]) -> list[Identity]:
    from ...agents.bootcamps.registry import families
    from ...agents.scene_log import scene_of
    from ...agents.vlm.ask import seen_from, without_motion

    labelled = [scene_of(index, int(row), points=False) for row in rows]
    scenes = [seen_from(scene, side) for scene in labelled for side in range(_sides(plan, name))]
    found = []
    for number, (family, options) in enumerate(plan.families.items()):
        camp = without_motion(families()[family]) if family in plan.still else families()[family]
        seed = len(PARTS) * number + PARTS.index(name)
        generator = camp(scenes, seed=seed, max_range_m=plan.max_range_m, **options)
        found += [generator.case_generator() for _ in range(plan.parts[name].questions)]
    return found


def _sides(plan: QuestionsPlan, part: str) -> int:
    """Held-out scans are asked about as they are."""
    return plan.sides if part == "train" else 1


def part_of(plan: QuestionsPlan, name: str, out: Path) -> Part:
    """A part that ``prepare_questions`` made."""
    index, _ = _rows(plan, name, out)
    path = out / "questions" / f"{name}.jsonl"
    cases = read_json_lines(path, f"delete {path.with_suffix('.*')} to have it made again")
    return Part(name, index, cases, _sides(plan, name))


def find_backbone(plan: QuestionsPlan, name: str, seed: int, train: Part) -> tuple[Backbone, str]:
    """A backbone of the plan, and a hash that stands for its weights.

    Random weights are drawn from ``seed``; their batch norm takes its statistics from training scans, without labels.

    Raises:
        InputError: the plan leaves open which file it is.
    """
    import superflow

    from ...downstream.features import read_scan
    from ...downstream.recalibration import SCANS, recalibrate_batch_norm
    from ...lidar.encoder import LidarEncoder

    where = plan.backbones[name]
    if where is None:
        raise InputError(f"the plan has no file for the backbone {name!r}; give it with --root {name}=FILE")
    if not where.startswith(RANDOM):
        backbone = superflow.load(where)
        return backbone, backbone.card.weights_sha256[:16]
    like, digest = find_backbone(plan, where.removeprefix(RANDOM), seed, train)
    torch.manual_seed(seed)
    encoder = LidarEncoder(**like.encoder.config())
    rows = list(train.row_of.values())[:SCANS]
    encoder = recalibrate_batch_norm(encoder, [read_scan(train.index, row, labels=False) for row in rows])
    card = replace(like.card, name=where, teacher=None, method={"kind": "random"}, metrics=[], data={})
    return Backbone(encoder, card), json_hash(["random", digest, seed])


def leakage_of(plan: QuestionsPlan, name: str, out: Path) -> list[str]:
    """The drives of the held-out questions that a backbone of the plan has seen.

    Raises:
        InputError: there are some, and the plan does not allow them.
    """
    from ...hub.encoder_file import read_encoder_file
    from ...hub.leakage import check_leakage, evaluated_record, seen_recordings

    where = plan.backbones[name]
    if where is None or where.startswith(RANDOM):
        return []
    stages = {"train": "train", "held_out": "test"}
    data = {stages[part]: evaluated_record(*_rows(plan, part, out)) for part in PARTS}
    file = read_encoder_file(where)
    return check_leakage(str(file.path), seen_recordings(file.card), data, allowed=plan.allow_leakage)


def planes_of_part(plan: QuestionsPlan, part: Part, backbone: Backbone, digest: str, out: Path) -> Any:
    """Token -> planes (C + 1, rows, columns) float32 of each scan of a part, as a frozen tower makes them."""
    from safetensors import safe_open
    from safetensors.torch import save

    from ...agents.vlm.ask import scans_of
    from ...agents.vlm.bev import BevGrid

    grid = BevGrid(**plan.grid)
    name = f"{part.name}-{json_hash([digest, grid.config(), part.index.hash, len(part.row_of)])}"
    path = make_folder(out / "planes") / f"{name}.safetensors"
    with held(path.with_suffix(".lock")):
        if not path.is_file():
            rows = np.array(list(part.row_of.values()))
            planes = scans_of(part.index, rows, backbone, grid)
            write_bytes(path, save({token: each.contiguous() for token, each in planes.items()}))
    with safe_open(path, framework="pt") as file:
        return {token: file.get_tensor(token) for token in file.keys()}  # noqa: SIM118


def predicted_part(part: Part, train: Part, backbone: Backbone, digest: str, out: Path) -> dict[str, Any]:
    """Token -> scene of what a linear head on the backbone, fitted on labels of training scans, sees in each scan."""
    from ...agents.scene_clusters import predicted_scene

    path = make_folder(out / "predicted") / f"{part.name}-{json_hash([digest, part.index.hash])}.jsonl"
    with held(path.with_suffix(".lock")):
        if not path.is_file():
            predict = _predictor(backbone, train)
            lines = []
            for row in part.row_of.values():
                scene = predicted_scene(part.index, row, predict, points=False)
                lines.append(scene.to_json() + "\n")
            with write_atomically(path, "w") as file:
                file.writelines(lines)
    scenes = map(SceneRecord.from_json, read_text(path).splitlines())
    return {scene.token: scene for scene in scenes}


def _predictor(backbone: Backbone, train: Part) -> Any:
    from ...downstream.features import EncoderFeatures, sample_features
    from ...downstream.heads import fit_linear_probe
    from ...downstream.vote_log import head_predictor

    source = EncoderFeatures(backbone.encoder)
    rows = [row for row in train.row_of.values() if train.index.has_labels(row)][:PROBED]
    sample = sample_features(source, train.index, rows, max_points=PROBED_POINTS)
    head = fit_linear_probe(sample.features, sample.labels, len(train.index.card.classes))
    return head_predictor(source, head)
