"""Runs a benchmark of questions: each arm answers the same held-out questions; figures are rows at once.

OUT/answers/ARM-SEED.jsonl    what was answered to each question, and whether it is right
OUT/questions.csv             exact match of each arm, seed and type of question, and differences of arms
"""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError
from ...files.access import make_folder, read_json_lines
from ...files.writes import write_atomically
from ...hub.encoder_file import read_encoder_file
from ...progress import cpu_seconds
from ...protocol import commit, device_name
from ..markdown import table_lines
from ..places.plan import logs_at
from ..results import claim, slug
from ..rows import Row, RowFile
from .arms import ANSWERS, Answered, Study
from .data import leakage_of, prepare_questions
from .plan import RANDOM, QuestionsPlan

log = logging.getLogger(__name__)

ALL = "all"  # type of the rows over all questions
KEY = ("arm", "minus", "seed", "questions")
COLUMNS = (
    *KEY,  # minus: the other arm, where the figure is a difference
    "exact match",
    "low",  # of 95 %, by bootstrap over scenes
    "high",
    "answers",
    "scenes",
    "tokens",
    "CPU seconds of training",
    "CPU seconds",
    "settings hash",
    "leakage",  # drives of the questions that the backbone was trained on, where that was allowed
    "commit",
    "device",
    "command",
)
# seed is of several in rows of their mean
NUMBERS = (
    "exact match",
    "low",
    "high",
    "answers",
    "scenes",
    "tokens",
    "CPU seconds of training",
    "CPU seconds",
)


@dataclass(frozen=True)
class ArmRun:
    """An arm with a seed: what one process does."""

    plan: QuestionsPlan
    arm: str
    seed: int
    out: Path
    plan_name: str

    def name(self) -> str:
        return f"{self.arm}, seed {self.seed}"

    def run(self) -> list[str]:
        """Answer all questions and write the rows, unless they are there; nothing is left that failed."""
        study = Study(self.plan, self.plan.arms[self.arm], self.seed, self.out)
        rows = questions_rows(self.out)
        names = study.arm.row_names(self.plan.routing)
        there = rows.find(minus="", seed=self.seed, questions=ALL, settings_hash=study.settings)
        if set(names) <= {row["arm"] for row in there}:
            return []
        for name in names:
            path = answers_path(self.out, name, self.seed)
            claim(path, {"settings": study.settings}, remove=f"{path.with_suffix('.*')}")
        before = cpu_seconds()
        answered = ANSWERS[study.arm.kind](study)
        leakage = [leakage_of(self.plan, name, self.out) for name in _backbones(self.plan, self.arm)]
        about = {
            "CPU seconds": cpu_seconds() - before,
            "settings hash": study.settings,
            "leakage": "; ".join(sorted(set().union(*leakage))),
        }
        for each in answered if isinstance(answered, list) else [answered]:
            self._write(study, each, about)
        return []

    def _write(self, study: Study, answered: Answered, about: Mapping[str, Any]) -> None:
        name = answered.row or self.arm
        given = _judged(study, answered.texts)
        with write_atomically(answers_path(self.out, name, self.seed), "w") as file:
            file.writelines(json.dumps(each) + "\n" for each in given)
        row = {
            "arm": name,
            "minus": "",
            "seed": self.seed,
            "tokens": answered.tokens,
            "CPU seconds of training": answered.training,
            **_about(self.plan_name, [self.seed], [self.arm]),
            **about,
        }
        found = list(_figures(given, [float(each["right"]) for each in given], row))
        questions_rows(self.out).add(found)
        log.info("%s, seed %d: %.1f %% of %s", name, self.seed, found[0]["exact match"], found[0]["answers"])


def run_of(
    plan: QuestionsPlan, arms: Sequence[str], seeds: Sequence[int], out: Path, name: str
) -> list[ArmRun]:
    """All of a benchmark; models that others take come first."""
    ordered = sorted(arms, key=lambda arm: bool(plan.arms[arm].of))
    return [ArmRun(plan, arm, seed, out, name) for seed in seeds for arm in ordered]


def with_places(plan: QuestionsPlan, places: Mapping[str, str]) -> QuestionsPlan:
    """The plan with places for some of its backbones and logs.

    Raises:
        InputError: the plan has none of that name.
    """
    known = [*plan.logs, *plan.backbones]
    if unknown := [name for name in places if name not in known]:
        raise InputError(
            f"--root {unknown[0]}=...: the plan has no such log or backbone; it has {', '.join(known)}"
        )
    files = {name: where for name, where in places.items() if name in plan.backbones}
    return replace(plan, logs=logs_at(plan.logs, places), backbones={**plan.backbones, **files})


def prepare(plan: QuestionsPlan, arms: Sequence[str], out: Path, *, jobs: int) -> None:
    """Make what all arms share; refuses before the work.

    Raises:
        InputError: a backbone has no file, or has seen what is asked about; or ``out`` holds another benchmark.
    """
    needed = {name: arm for arm in reversed(arms) for name in _backbones(plan, arm)}
    for name, arm in needed.items():
        _check_file(plan, name, arm)
    prepare_questions(plan, out, jobs=jobs)
    for name in needed:
        leakage_of(plan, name, out)


def _check_file(plan: QuestionsPlan, name: str, arm: str) -> None:
    """Read the file of a backbone, or of the one that random weights are like; scenes may take long to make."""
    while (where := plan.backbones[name]) is not None and where.startswith(RANDOM):
        name = where.removeprefix(RANDOM)
    if where is None:
        raise InputError(
            f"the plan has no file for the backbone {name!r}, which {arm!r} needs; "
            f"give it with --root {name}=FILE, or leave the arm out with --arms"
        )
    read_encoder_file(where)


def _backbones(plan: QuestionsPlan, arm: str) -> list[str]:
    """Names of the backbones that an arm looks through: its own, and that of the arm whose model it takes."""
    chosen = plan.arms[arm]
    return list(filter(None, [chosen.backbone, chosen.of and plan.arms[chosen.of].backbone]))


def questions_rows(out: Path) -> RowFile:
    """The figures of a benchmark's folder."""
    return RowFile(out / "questions.csv", KEY, COLUMNS, numbers=NUMBERS, needed=NUMBERS[:1])


def answers_path(out: Path, arm: str, seed: int) -> Path:
    """Where an arm's answers lie."""
    return make_folder(out / "answers") / f"{slug(arm)}-{seed}.jsonl"


def compare(plan: QuestionsPlan, seeds: Sequence[int], out: Path, name: str) -> None:
    """Write a row for each of the plan's differences whose two arms have answered, question by question."""
    rows = questions_rows(out)
    for seed in seeds:
        for first, second in plan.differences:
            both = [rows.find(arm=arm, minus="", seed=seed, questions=ALL) for arm in (first, second)]
            if not all(both):
                continue
            one, other = (
                _read(answers_path(out, arm, seed), own[0]) for arm, own in zip((first, second), both)
            )
            about = {
                "tokens": None,
                "CPU seconds of training": None,
                "CPU seconds": None,
                "leakage": "; ".join(sorted({own[0]["leakage"] for own in both} - {""})),
                **_about(name, [seed], [_arm_of(plan, row) for row in (first, second)]),
                "settings hash": "-".join(own[0]["settings hash"] for own in both),
            }
            key = {"arm": first, "minus": second, "seed": seed}
            values = [float(a["right"]) - float(b["right"]) for a, b in zip(one, other, strict=True)]
            rows.add(_figures(one, values, {**key, **about}))


def average(plan: QuestionsPlan, seeds: Sequence[int], out: Path, name: str) -> None:
    """Write rows of what stands for several seeds: each question's mean over them, the interval still over scenes.

    Their seed is all of them, as "0 1 2". The interval says nothing of how far other seeds lie: their own rows do.
    """
    rows = questions_rows(out)
    arms = [(row, "") for arm in plan.arms.values() for row in arm.row_names(plan.routing)]
    for first, second in [*arms, *((one, other) for one, other in plan.differences)]:
        there = {
            seed: own[0]
            for seed in seeds
            if (own := rows.find(arm=first, minus=second, seed=seed, questions=ALL))
        }
        if len(there) < 2:
            continue
        given = {
            arm: [_read(answers_path(out, arm, seed), row) for seed, row in there.items()]
            for arm in (first, second)
            if arm
        }
        right = {arm: np.mean([[e["right"] for e in each] for each in own], 0) for arm, own in given.items()}
        values = right[first] - right[second] if second else right[first]
        words = [_arm_of(plan, arm) for arm in given]
        about = {
            **{column: None for column in ("CPU seconds of training", "CPU seconds")},
            **{
                column: next(iter(there.values()))[column]
                for column in ("tokens", "settings hash", "leakage")
            },
            **_about(name, list(there), words),
        }
        key = {"arm": first, "minus": second, "seed": " ".join(map(str, there))}
        rows.add(_figures(given[first][0], values.tolist(), {**key, **about}))


def _arm_of(plan: QuestionsPlan, row: str) -> str:
    """The arm that a row is of."""
    return next(arm.name for arm in plan.arms.values() if row in arm.row_names(plan.routing))


def _judged(study: Study, texts: Sequence[str]) -> list[dict[str, Any]]:
    from ...agents.bootcamps.registry import families

    return [
        {
            "scene": scene,
            "family": case["family"],
            "text": text,
            "right": families()[case["family"]].check(text, case).value == 1.0,
        }
        for case, scene, text in zip(study.held_out.cases, study.held_out.scenes, texts, strict=True)
    ]


def _figures(
    given: Sequence[Mapping[str, Any]], values: Sequence[float], about: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """The row over all questions, then one for each type."""
    from ...agents.bootcamps.report import interval

    for kind in (ALL, *dict.fromkeys(each["family"] for each in given)):
        chosen = [i for i, each in enumerate(given) if kind in (ALL, each["family"])]
        own, scenes = 100 * np.array(values)[chosen], [given[i]["scene"] for i in chosen]
        low, high = interval(own, scenes) or (None, None)
        yield {
            **about,
            "questions": kind,
            "exact match": float(own.mean()),
            "low": low,
            "high": high,
            "answers": len(own),
            "scenes": len(set(scenes)),
        }


def _read(path: Path, row: Row) -> list[dict[str, Any]]:
    """The answers of an arm and seed; ``row``: of all of them, or of their difference from others of as many."""
    again = f"delete {path.with_suffix('.*')}, and the arm's rows of questions.csv, to have it answer again"
    found = read_json_lines(path, again)
    if f"{len(found)}" != row["answers"]:
        raise InputError(
            f"{path}: holds {len(found)} answers, and questions.csv says {row['answers']}; {again}"
        )
    for number, each in enumerate(found, start=1):
        kinds = {"right": bool, "family": str, "scene": str}
        if wrong := [key for key, kind in kinds.items() if not isinstance(each.get(key), kind)]:
            raise InputError(f"{path}: line {number} has no {wrong[0]!r} as answers have it; {again}")
    return found


def _about(plan: str, seeds: Sequence[int], arms: Sequence[str]) -> dict[str, Any]:
    words = ["superflow", "benchmark", plan, "--out", "OUT", "--seeds", *map(str, seeds), "--arms", *arms]
    return {"commit": commit(), "device": device_name(), "command": shlex.join(words)}


def markdown(rows: Sequence[Row]) -> str:
    """Arms in the order of the rows, a column for each type: exact match, with its interval, of each seed."""
    kinds = list(dict.fromkeys(row["questions"] for row in rows))
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        arm = f"{row['arm']} - {row['minus']}" if row["minus"] else row["arm"]
        text = f"{float(row['exact match']):.1f}"
        if row["low"]:  # of a single scene there is no interval
            text += f" ({float(row['low']):.1f} to {float(row['high']):.1f})"
        cells.setdefault((arm, row["seed"]), {})[row["questions"]] = text
    shown = ([*of, *(own.get(kind, "-") for kind in kinds)] for of, own in cells.items())
    return "\n".join(table_lines(["arm", "seed", *kinds], shown))
