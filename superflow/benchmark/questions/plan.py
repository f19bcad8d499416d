"""What a benchmark of questions compares: ways of answering questions about made scenes that nobody trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...errors import InputError
from ..places.plan import Log
from ..plan_file import entries, read_plan, refer, refuse_same_files
from ..results import json_hash

PARTS = ("train", "held_out")
RANDOM = "random of "  # before the name of a backbone whose architecture gets weights that nobody trained
# kind of an arm -> whether it needs a backbone
KINDS = {
    "majority": False,  # the most frequent answer of the family in training
    "blind": False,  # a language model that is trained without scans
    "zero": False,  # the same with as many tokens, all zero
    "planes": True,  # with the planes of a frozen backbone, made once
    "shuffled": False,  # another arm's model, which is shown another scene's scan
    "open": True,  # the backbone learns with the language model
    "tape": True,  # predicted objects as text before the question
    "symbolic": True,  # predicted objects, asked by the executor of queries
    "labelled": False,  # the log's own objects, asked by the executor: what perfect objects would give
    "routed": True,  # as planes, with few tokens for most tiles: by its own router, at random, by points, by range
}
SHARES = (0.1, 0.25, 0.5, 0.75, 0.9)  # of tiles that keep their full tokens
ROUTERS = ("router", "random", "points", "range")
LATER = ("language", "lora", "recipe", "frozen_first")  # keys of an arm that rows of before were made without


@dataclass(frozen=True, slots=True)
class QuestionArm:
    """One row of the table.

    kind: of ``KINDS``. backbone: of the plan's. of: shuffled: the arm whose model it is; open: the arm whose CPU time
    it may spend. Of kinds that learn: language: a language model by its name, instead of the small one from scratch;
    lora: options of ``agents.vlm.lora.add_lora``, instead of learning whole; recipe: what differs from the plan's.
    frozen_first: open: share of its time in which the backbone is still frozen, by the plan's recipe; ``recipe`` is
    that of the rest.
    """

    name: str
    kind: str
    backbone: str = ""
    of: str = ""
    language: str = ""
    lora: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    frozen_first: float = 0.0

    def settings(self) -> dict[str, Any]:
        """What its rows depend on; what came later than the first rows only where it is given."""
        said = asdict(self)
        return {name: value for name, value in said.items() if value or name not in LATER}

    def row_names(self, routing: Mapping[str, Any]) -> list[str]:
        """Names of its rows: its own, or those of every way of routing and share of kept tiles."""
        if self.kind != "routed":
            return [self.name]
        shares = routing.get("shares", SHARES)
        return [f"{self.name}, {router}, {100 * share:g} %" for router in ROUTERS for share in shares]


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked about: frames of a log, all of its key frames when None; questions: of each family."""

    name: str
    log: str
    questions: int
    frames: Any = None


@dataclass(frozen=True, slots=True)
class QuestionsPlan:
    """All of it.

    logs: as in a plan of places. parts: what is asked about for ``train`` and ``held_out``; they share no scene.
    backbones: name -> a file, a shipped name, or ``random of NAME``; None: given on the command line.
    families: of questions, each with its difficulty.
    still: families whose questions with a status or a speed are left out, which one scan does not show.
    differences: pairs of arms, compared question by question. grid, merge, recipe: of the model, see `agents.vlm`.
    sides: the training scans are asked about from so many sides, see ``agents.vlm.ask.turned``. cell_width: of the
    connector, see ``LidarVLMConfig``. language: options of the small language model.
    alignment: the recipe of the stage before questions, and ``parts``, see ``agents.vlm.alignment``; empty: none.
    question_first: see ``agents.vlm.tokenizer.chat_template``. pointing: whether tokens learn to point beside the
    answers, see ``agents.vlm.pointing``.
    routing: of arms of kind routed: tile, merge and short_merge instead of the others' own; steps of both stages,
    ``consistency`` and ``router``; ``shares`` of tiles that keep their tokens.
    allow_leakage: backbones may have seen the drives of the held-out questions.
    """

    backbones: Mapping[str, str | None]
    families: Mapping[str, Mapping[str, Any]]
    logs: Mapping[str, Log] = entries(Log)
    parts: Mapping[str, Asked] = entries(Asked)
    arms: Mapping[str, QuestionArm] = entries(QuestionArm)
    still: Sequence[str] = ()
    differences: Sequence[Sequence[str]] = ()
    max_range_m: float = 30.0
    grid: Mapping[str, Any] = field(default_factory=dict)
    merge: int = 8
    recipe: Mapping[str, Any] = field(default_factory=dict)
    sides: int = 1
    cell_width: int = 0
    alignment: Mapping[str, Any] = field(default_factory=dict)
    question_first: bool = False
    pointing: bool = False
    language: Mapping[str, Any] = field(default_factory=dict)
    routing: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    allow_leakage: bool = False

    def settings_hash(self, arm: str, backbone: str) -> str:
        """Of all that a row of an arm depends on, apart from its seed. backbone: hash of its weights."""
        about = asdict(self)
        chosen = self.arms[arm]
        for name in ("arms", "backbones", "differences", "logs", "seeds", "allow_leakage"):
            about.pop(name)
        if chosen.kind != "routed":
            about.pop("routing")
        about |= {"arm": chosen.settings(), "backbone": backbone}
        if chosen.of:
            about["of"] = self.arms[chosen.of].settings()
        return json_hash(about)


def load_questions_plan(path: Path) -> QuestionsPlan:
    """The plan in a YAML file.

    Raises:
        InputError: an unknown key, a name that stands for nothing, or logs that share scenes.
    """
    plan = read_plan(path, QuestionsPlan)
    _check(plan, path)
    return plan


def _check(plan: QuestionsPlan, path: Path) -> None:
    from ...agents.bootcamps.query_question import QueryBootcamp
    from ...agents.bootcamps.registry import families
    from ...agents.vlm.ask import SIDES

    if sorted(plan.parts) != sorted(PARTS):
        raise InputError(f"{path}: parts: give {' and '.join(PARTS)}, and nothing else")
    for part in plan.parts.values():
        refer([part.log], plan.logs, f"{path}: parts: {part.name!r}")
    if plan.sides not in range(1, SIDES + 1):
        raise InputError(f"{path}: sides is {plan.sides!r}; a scan has 1 to {SIDES} sides")
    seeds = [log.drive.get("seed", 0) for log in plan.logs.values() if log.drive is not None]
    if len(set(seeds)) < len(seeds):
        raise InputError(
            f"{path}: logs: two drives have one seed, so they share scenes; give each a seed of its own"
        )
    if both := sorted(set(plan.logs) & set(plan.backbones)):
        raise InputError(f"{path}: {both[0]!r} is a log and a backbone; give each a name of its own")
    refuse_same_files(plan.arms, f"{path}: arms")
    refer([*plan.families, *plan.still], families(), f"{path}: families")
    mute = [name for name in plan.families if not issubclass(families()[name], QueryBootcamp)]
    if plan.pointing and mute:
        raise InputError(f"{path}: pointing: questions of {mute[0]!r} are no queries, whose things are known")
    for name, of in plan.backbones.items():
        if of is not None and of.startswith(RANDOM):
            refer([of.removeprefix(RANDOM)], plan.backbones, f"{path}: backbones: {name!r}")
    for arm in plan.arms.values():
        _check_arm(arm, plan, f"{path}: arms: {arm.name!r}")
    rows = dict.fromkeys(row for arm in plan.arms.values() for row in arm.row_names(plan.routing))
    for pair in plan.differences:
        if len(pair) != 2:
            raise InputError(f"{path}: differences: {list(pair)} is no pair; give two arms")
        refer(pair, rows, f"{path}: differences")
    needed = ("tile", "merge", "short_merge", "consistency", "router")
    lacking = [name for name in needed if name not in plan.routing]
    if lacking and any(arm.kind == "routed" for arm in plan.arms.values()):
        raise InputError(
            f"{path}: routing lacks {lacking[0]}; an arm of kind routed needs {', '.join(needed)}"
        )


def _check_arm(arm: QuestionArm, plan: QuestionsPlan, where: str) -> None:
    if arm.kind not in KINDS:
        raise InputError(f"{where}: kind {arm.kind!r} is unknown; use {', '.join(KINDS)}")
    if KINDS[arm.kind]:
        refer([arm.backbone], plan.backbones, f"{where}: backbone")
    if not 0 <= arm.frozen_first < 1:
        raise InputError(f"{where}: frozen_first is {arm.frozen_first}; give a share from 0 to below 1")
    if arm.kind in ("shuffled", "open"):
        refer([arm.of], plan.arms, f"{where}: of")
        if plan.arms[arm.of].kind != "planes":
            raise InputError(f"{where}: of: {arm.of!r} must be an arm of kind planes")
