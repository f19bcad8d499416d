"""The ways of answering held-out questions: one function for each kind of arm.

OUT/models/ARM-SEED              models on planes, with their processors: `agents.vlm.load_vlm` reads them
OUT/models/ARM-SEED.halfway.pt   of one that is being trained: a stopped training goes on from there
"""

from __future__ import annotations

import copy
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...agents.vlm.build import build, load_vlm
from ...agents.vlm.halfway import Halfway
from ...agents.vlm.language import load_language_model, tiny
from ...agents.vlm.model import LidarVLM
from ...agents.vlm.processor import LidarProcessor
from ...agents.vlm.sft import Example, Recipe, answers, train
from ...errors import InputError
from ...files.access import read_json
from ...files.writes import write_json
from ...progress import LogLines, cpu_seconds
from ..results import claim, slug
from ..rows import held
from .data import Part, Scans, find_backbone, part_of, planes_of_part, predicted_part
from .plan import ROUTERS, SHARES, QuestionArm, QuestionsPlan

log = logging.getLogger(__name__)

NEW_TOKENS = 12  # no answer of a family is longer
TAPE_OBJECTS = 12  # the nearest; the small model's prompt stays short
TIMED_STEPS = 3  # of a backbone that learns, before it is known how many its time allows
TOLD_S = 60.0  # between two lines about how far a training is
TRAINED = "training.json"


@dataclass(frozen=True)
class Answered:
    """texts: an answer to each held-out question. tokens: of a scan, in the mean. training: CPU seconds. row: its name,
    where it is not the arm's."""

    texts: list[str]
    tokens: float | None = None
    training: float | None = None
    row: str = ""


@dataclass(frozen=True)
class Study:
    """What an arm is run on."""

    plan: QuestionsPlan
    arm: QuestionArm
    seed: int
    out: Path

    @cached_property
    def train(self) -> Part:
        return part_of(self.plan, "train", self.out)

    @cached_property
    def held_out(self) -> Part:
        return part_of(self.plan, "held_out", self.out)

    @cached_property
    def backbone(self) -> tuple[Any, str]:
        """The arm's backbone and the hash of its weights; that of the other arm where it takes one's model."""
        arm = self.plan.arms[self.arm.of] if self.arm.kind == "shuffled" else self.arm
        return find_backbone(self.plan, arm.backbone, self.seed, self.train)

    @property
    def settings(self) -> str:
        """Hash of all that the figures depend on, beside the seed."""
        known = self.arm.backbone or self.arm.kind == "shuffled"
        digest = self.backbone[1] if known else ""
        return self.plan.settings_hash(self.arm.name, digest)

    @property
    def recipe(self) -> Recipe:
        return Recipe(**{**self.plan.recipe, **self.arm.recipe})

    @cached_property
    def halfway(self) -> Halfway:
        """Where the training of its model goes on from after a stop."""
        return Halfway(self.out / "models" / f"{slug(self.arm.name)}-{self.seed}.halfway.pt")

    def examples(self, part: Part, *, scans: bool = True) -> list[Example]:
        """The part's questions, each with the scan or without."""
        from ...agents.vlm.ask import example_of

        found = [example_of(case) for case in part.cases]
        return found if scans else [replace(each, scan=None) for each in found]

    def planes(self, part: Part) -> dict[str, Tensor]:
        """What the arm's backbone sees, by the names that questions have for it."""
        return part.turned(planes_of_part(self.plan, part, *self.backbone, self.out))

    def build(self, examples: Sequence[Example], **options: Any) -> tuple[LidarVLM, LidarProcessor]:
        """An untrained model, drawn from the seed; its language model is the same for all arms with these texts."""
        from ...agents.vlm.bev import BevGrid

        torch.manual_seed(self.seed)
        texts = {text for each in examples for text in (each.question, each.answer)}
        named = self.arm.language
        language = load_language_model(named, texts) if named else tiny(texts, **self.plan.language)
        given: dict[str, Any] = {
            "grid": BevGrid(**self.plan.grid),
            "merge": self.plan.merge,
            "cell_width": self.plan.cell_width,
            "question_first": self.plan.question_first,
        }
        return build(language, **(given | options))

    def align(self, model: LidarVLM, planes: Mapping[str, Tensor]) -> float:
        """The stage before questions, where the plan has one; the CPU seconds that it took."""
        from ...agents.vlm.alignment import align, counts_of

        before = cpu_seconds()
        if self.plan.alignment:
            recipe = dict(self.plan.alignment)
            parts, far = recipe.pop("parts", 1), self.plan.max_range_m
            config = model.config
            counts = {
                name: counts_of(scene, config.tower_config.bev, config.merge, parts=parts, max_range_m=far)
                for name, scene in self.train.labelled().items()
            }
            drawn = torch.Generator().manual_seed(self.seed)
            align(model, planes, counts, Recipe(**recipe), generator=drawn)
        return cpu_seconds() - before

    def pointing(self, model: LidarVLM) -> list[Tensor] | None:
        """Of each training question, what tokens shall point at; None where the plan does not say so."""
        from ...agents.vlm.pointing import pointed_at

        if not self.plan.pointing:
            return None
        scenes, grid, merge = self.train.labelled(), model.config.tower_config.bev, model.config.merge
        return [pointed_at(scenes[case["scene"]], case["asked"], grid, merge) for case in self.train.cases]

    def fit(
        self,
        model: Any,
        processor: Any,
        examples: Sequence[Example],
        recipe: Recipe,
        halfway: Halfway | None = None,
    ) -> float:
        """Train; the CPU seconds that it took. Where examples have scans, they are the training questions."""
        before = cpu_seconds()
        pointing = self.pointing(model) if examples[0].scan is not None else None
        drawn = torch.Generator().manual_seed(self.seed)
        told = LogLines(log, every_s=TOLD_S, quiet=True)
        options: dict[str, Any] = {"pointing": pointing, "halfway": halfway, "progress": told}
        train(model, processor, examples, recipe, generator=drawn, **options)
        return cpu_seconds() - before

    def ask(self, model: Any, processor: Any, examples: Sequence[Example]) -> list[str]:
        return answers(model, processor, examples, batch=64, max_new_tokens=NEW_TOKENS)

    def answered(self, model: Any, processor: Any, training: float) -> Answered:
        """The held-out questions, each with the scan that the processor has for it."""
        texts = self.ask(model, processor, self.examples(self.held_out))
        return Answered(texts, processor.tokens_per_scan, training)


def _majority(study: Study) -> Answered:
    seen: dict[str, Counter[str]] = {}
    for case, example in zip(study.train.cases, study.examples(study.train)):
        seen.setdefault(case["family"], Counter())[example.answer] += 1
    often = {name: counts.most_common(1)[0][0] for name, counts in seen.items()}
    return Answered([often[case["family"]] for case in study.held_out.cases])


def _blind(study: Study) -> Answered:
    examples = study.examples(study.train, scans=False)
    model, processor = study.build(examples, channels=1)
    spent = study.fit(model, processor, examples, study.recipe)
    return Answered(
        study.ask(model, processor, study.examples(study.held_out, scans=False)), tokens=0, training=spent
    )


class ZeroTokens(nn.Module):
    """As many tokens as a connector gives, which say nothing: not even where they lie."""

    def __init__(self, tokens: int, width: int) -> None:
        super().__init__()
        self.tokens, self.width = tokens, width

    def forward(self, planes: Tensor) -> Tensor:
        """(B, tokens, width) of planes (B, ...)."""
        return planes.new_zeros(len(planes), self.tokens, self.width)


def _zero(study: Study) -> Answered:
    examples = study.examples(study.train)
    model, processor = study.build(examples, channels=1)
    grid = model.config.tower_config.bev
    model.model.connector = ZeroTokens(processor.tokens_per_scan, model.config.text_config.hidden_size)
    nothing = torch.zeros(2, grid.rows, grid.columns)
    processor.scans = dict.fromkeys([*study.train.views, *study.held_out.views], nothing)
    return study.answered(model, processor, study.fit(model, processor, examples, study.recipe))


def _train_on_planes(study: Study) -> tuple[LidarVLM, LidarProcessor]:
    from ...agents.vlm.lora import add_lora

    examples = study.examples(study.train)
    model, processor = study.build(examples, backbone=study.backbone[0])
    processor.scans = study.planes(study.train)
    study.align(model, processor.scans)
    learner: Any = add_lora(model, **study.arm.lora) if study.arm.lora else model
    study.fit(learner, processor, examples, study.recipe, study.halfway)
    return learner.merge_and_unload() if study.arm.lora else model, processor


def model_on_planes(
    study: Study, make: Callable[[Study], tuple[LidarVLM, LidarProcessor]] = _train_on_planes
) -> tuple[LidarVLM, LidarProcessor, float]:
    """The model of an arm that looks at planes, and its CPU seconds, trained before or now.

    Raises:
        InputError: OUT holds one of other settings.
    """
    folder = study.out / "models" / f"{slug(study.arm.name)}-{study.seed}"
    with held(folder.with_suffix(".lock")):
        claim(folder.with_suffix(".json"), {"settings": study.settings}, remove=f"{folder}*")
        if not (folder / TRAINED).is_file():
            study.planes(study.train)  # made once for several arms, so not counted
            before = cpu_seconds()
            model, processor = make(study)
            spent = cpu_seconds() - before + study.halfway.spent
            model.save_pretrained(folder)
            processor.save_pretrained(folder)
            write_json(folder / TRAINED, {"cpu_seconds": spent}, indent=None)
            study.halfway.remove()
    spent = float(read_json(folder / TRAINED, f"delete {folder}")["cpu_seconds"])
    return *load_vlm(folder), spent


def _planes(study: Study) -> Answered:
    model, processor, spent = model_on_planes(study)
    processor.scans = study.planes(study.held_out)
    return study.answered(model, processor, spent)


def _shuffled(study: Study) -> Answered:
    other = replace(study, arm=study.plan.arms[study.arm.of])
    model, processor, spent = model_on_planes(other)
    planes = other.planes(study.held_out)
    processor.scans = {
        token: planes[instead] for token, instead in elsewhere(study.held_out, study.seed).items()
    }
    return study.answered(model, processor, spent)


def elsewhere(part: Part, seed: int) -> dict[str, str]:
    """Token of each scan -> that of a scan of another scene; scenes are drawn anew, and each looks at the next.

    Raises:
        InputError: there is one scene only.
    """
    scenes: dict[str, list[str]] = {}
    for token, row in part.row_of.items():
        scenes.setdefault(part.index.scene(row), []).append(token)
    if len(scenes) < 2:
        raise InputError(
            f"{part.index.folder}: the questions of {part.name} are about one scene, so none can be asked with another "
            "scene's scan; leave the arms of the kind 'shuffled' out, or ask about more scenes"
        )
    order = torch.randperm(len(scenes), generator=torch.Generator().manual_seed(seed)).tolist()
    names = [sorted(scenes)[i] for i in order]
    return {
        token: scenes[there][number % len(scenes[there])]
        for here, there in zip(names, [*names[1:], names[0]])
        for number, token in enumerate(scenes[here])
    }


def _open(study: Study) -> Answered:
    """The backbone learns, too, for as much CPU time as the other arm took with its planes made before."""
    from ...agents.vlm.ask import scans_of

    budget = model_on_planes(replace(study, arm=study.plan.arms[study.arm.of]))[2]
    examples, held_out = study.examples(study.train), study.held_out
    model, processor = study.build(examples, backbone=study.backbone[0], learns="open")
    processor.scans = planes = study.planes(study.train)
    spent = study.align(model, planes)
    if first := study.arm.frozen_first:
        frozen = Recipe(**study.plan.recipe)
        frozen = replace(frozen, steps=max(1, round(first * frozen.steps)))
        spent += study.fit(model, processor, examples, frozen)
    processor.scans = Scans(study.train)
    one, more = (
        study.fit(copy.deepcopy(model), processor, examples, replace(study.recipe, steps=steps))
        for steps in (1, 1 + TIMED_STEPS)
    )
    a_step = max((more - one) / TIMED_STEPS, 1e-3)  # without what a training takes before its first step
    recipe = replace(study.recipe, steps=max(1, round((budget - spent - (one - a_step)) / a_step)))
    log.info("the backbone learns for %d steps of %d", recipe.steps, recipe.batch)
    spent += study.fit(model, processor, examples, recipe)
    tower = model.model.lidar_tower
    rows = np.array(list(held_out.row_of.values()))
    seen = scans_of(held_out.index, rows, tower.backbone, tower.grid)  # once a scan, not once a question
    processor.scans = held_out.turned(seen)
    return study.answered(model, processor, spent)


def _predicted(study: Study, part: Part) -> Mapping[str, Any]:
    return predicted_part(part, study.train, *study.backbone, study.out)


def _tape(study: Study) -> Answered:
    from ...agents.vlm.object_tape import tape_of

    def taped(part: Part) -> list[Example]:
        scenes, far = part.seen(_predicted(study, part)), study.plan.max_range_m
        tapes = {token: tape_of(scene, most=TAPE_OBJECTS, max_range_m=far) for token, scene in scenes.items()}
        return [
            Example(None, f"{tapes[str(each.scan)]}\n\n{each.question}", each.answer)
            for each in study.examples(part)
        ]

    examples = taped(study.train)
    model, processor = study.build(examples, channels=1)
    spent = study.fit(model, processor, examples, study.recipe)
    return Answered(study.ask(model, processor, taped(study.held_out)), tokens=0, training=spent)


def _symbolic(study: Study) -> Answered:
    return _executed(study.held_out, _predicted(study, study.held_out))


def _labelled(study: Study) -> Answered:
    return _executed(study.held_out, study.held_out.labelled())


def _executed(part: Part, scenes: Mapping[str, Any]) -> Answered:
    """What the executor of queries answers, asked about these scenes."""
    from ...agents.bootcamps.registry import families

    return Answered(
        [families()[case["family"]].answer(scenes[case["scene"]], case["asked"]) for case in part.cases]
    )


def _train_router(study: Study) -> tuple[LidarVLM, LidarProcessor]:
    """Trained at full tokens, then both stages of ViR; its budgets are set on the training scans."""
    from ...agents.vlm import vir, vir_training
    from ...agents.vlm.bev import BevGrid

    routing, examples = study.plan.routing, study.examples(study.train)
    grid = BevGrid(**{**study.plan.grid, "tile": routing["tile"]})
    model, processor = study.build(
        examples,
        backbone=study.backbone[0],
        grid=grid,
        merge=routing["merge"],
        short_merge=routing["short_merge"],
    )
    processor.scans = study.planes(study.train)
    study.align(model, processor.scans)
    study.fit(model, processor, examples, study.recipe)
    reference = copy.deepcopy(model)
    vir_training.start_short(model)
    drawn = torch.Generator().manual_seed(study.seed)
    recipe = replace(study.recipe, steps=routing["consistency"], learning_rate=study.recipe.learning_rate / 3)
    vir_training.make_consistent(model, processor, examples, recipe, generator=drawn)
    chosen = vir_training.RouterRecipe(steps=routing["router"], batch=study.recipe.batch)
    vir_training.train_router(model, reference, processor, examples, chosen, generator=drawn)
    vir.set_budgets(model, torch.stack([*processor.scans.values()]), routing.get("shares", SHARES))
    return model, processor


def _routed(study: Study) -> list[Answered]:
    """Answers of one trained model at each budget; of its tiles are kept those that a way of routing ranks highest.

    All ways keep the same number of tiles of the held-out scans, so their tokens are equally many in the mean.
    """
    from ...agents.vlm import vir

    model, processor, spent = model_on_planes(study, _train_router)
    processor.scans = study.planes(study.held_out)
    tokens, grid = list(processor.scans), model.config.tower_config.bev
    planes = torch.stack([processor.scans[token] for token in tokens])
    scores = {
        "router": vir.router_scores(model, planes),
        "random": vir.random_scores(planes, grid, generator=torch.Generator().manual_seed(study.seed)),
        "points": vir.point_scores(planes, grid),
        "range": vir.range_scores(planes, grid),
    }
    shares = study.plan.routing.get("shares", SHARES)
    found, names = [], study.arm.row_names(study.plan.routing)
    for name, (router, share) in zip(names, product(ROUTERS, shares), strict=True):
        kept = vir.keep_highest(scores[router], share)
        texts = _ask_kept(study, model, processor, dict(zip(tokens, kept)))
        mean = float(model.model.token_counts(kept).double().mean())
        found.append(Answered(texts, mean, spent, name))
    return found


def _ask_kept(study: Study, model: Any, processor: Any, kept: Mapping[str, Tensor]) -> list[str]:
    """Answers with these tiles of each scan kept; questions come one scan each, in their order."""
    examples = study.examples(study.held_out)
    waiting = iter(examples)
    processor.route = lambda planes: kept[str(next(waiting).scan)]
    try:
        return study.ask(model, processor, examples)
    finally:
        processor.route = None


ANSWERS: dict[str, Callable[[Study], Answered | list[Answered]]] = {
    "majority": _majority,
    "blind": _blind,
    "zero": _zero,
    "planes": _planes,
    "shuffled": _shuffled,
    "open": _open,
    "tape": _tape,
    "symbolic": _symbolic,
    "labelled": _labelled,
    "routed": _routed,
}
