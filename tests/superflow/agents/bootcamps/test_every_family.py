"""What every family of questions must hold, whichever there are: a new file of `families/` is tested from here."""

from __future__ import annotations

import inspect
import json
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import product

import numpy as np
import pytest

from superflow.agents.bootcamps.made_scenes import made_scenes
from superflow.agents.bootcamps.registry import families
from superflow.agents.bootcamps.replies import CANNOT_TELL
from superflow.agents.words import APPLIES, CATEGORIES, CYCLES, MOTIONS, RIDERS, STATUSES
from superflow.errors import InputError

from .answers_again import again

NAMES = sorted(families())
SCENES = {scene.token: scene for scene in made_scenes(np.random.default_rng(5), 120)}


@cache
def cases(name, count=1000):
    """Cases of a family as JSON gives them back: nine tenths of its easiest difficulty, then its hardest."""
    grid, scenes = families()[name].difficulty_grid(), list(SCENES.values())
    easy, hard = families()[name](scenes, **grid[0]), families()[name](scenes, seed=1, **grid[-1])
    made = [(hard if i >= 0.9 * count else easy).case_generator() for i in range(count)]
    return json.loads(json.dumps(made, allow_nan=False))


@pytest.fixture(params=NAMES)
def family(request):
    return families()[request.param]


def test_a_file_is_short_and_says_what_it_asks(family):
    text = inspect.getsource(inspect.getmodule(family))
    assert len(text.splitlines()) < 120
    assert text.startswith('"""')


def test_gold_scores_one(family):
    for case in cases(family.name()):
        gold = family.reply.text(case["gold"])
        assert family.verify_score(gold, case) == 1.0, case
        assert family.check(f"It seems so. [ANSWER] {gold.upper()}. [/answer]", case).reason == "right", case
    assert type(family.verify_score(gold, case)) is float


def test_what_looks_like_gold_and_is_not_scores_zero(family):
    example = next(case["gold"] for case in cases(family.name()) if case["gold"] is not None)
    kinds = Counter()
    for case in cases(family.name()):
        mistakes = family.reply.mistakes(case["gold"], case["asked"], example)
        assert len(mistakes) >= 3
        for kind, text in mistakes.items():
            kinds[kind] += 1
            assert family.verify_score(text, case) == 0.0, (kind, text, case)
            assert family.verify_score(f"[answer]{text}[/answer]", case) == 0.0, (kind, text, case)
    assert len(kinds) >= 4


def everything(family, case):
    """All words and numbers that could be an answer, one after the other."""
    known = [word for key in ("words", "names") for word in case["asked"].get(key, ())]
    return [
        *known,
        *getattr(family.reply, "words", ()),
        *CATEGORIES,
        *STATUSES,
        *map(str, range(40)),
        CANNOT_TELL,
    ]


def test_outputs_that_try_every_answer_score_zero(family):
    for case in cases(family.name())[::25]:
        gold = family.reply.text(case["gold"])
        words = everything(family, case)
        tries = [
            "", " \n", "[answer][/answer]", "[answer]", gold + " " * 200 + "x" * 200, gold * 40, "answer " * 20_000,
            f"[answer]{gold}[/answer] [answer]{gold}[/answer]", f"[answer][answer]{gold}[/answer][/answer]",
            f"[answer]{gold}", f"{gold}[/answer]", f"[answer]{gold} or not[/answer]", f"not {gold}", "yes and no",
            " ".join(words), ", ".join(words), " or ".join(words),
            "\n".join(f"[answer]{word}[/answer]" for word in words),
            f"{gold}\x00", f"{gold} \u0663", "nan", "inf", "1e9", "-1", "null", "None", "true or false", "9" * 400,
        ]  # fmt: skip
        for text in tries:
            assert family.verify_score(text, case) == 0.0, (text, case)
        assert family.verify_score("x" * 200_000, case) == 0.0


def test_two_implementations_agree(family):
    told = Counter()
    for case in cases(family.name())[::4]:
        second, gold = again(SCENES[case["scene"]], case), case["gold"]
        told[gold is None] += 1
        if gold is None or second is None:
            assert second is gold, (case, second)
        else:
            assert family.reply.is_right(json.loads(json.dumps(second)), gold), (case, second)
    assert told[False] > 100


def test_no_answer_prevails(family):
    for half in (cases(family.name())[:500], cases(family.name())[500:]):
        answers = Counter(family.reply.bin_of(case["gold"]) for case in half)
        shares = np.array(list(answers.values())) / len(half)
        assert shares.max() <= 0.6, answers
        assert -(shares * np.log2(shares)).sum() >= 0.9, answers


def test_the_sensor_cannot_tell_is_an_answer_that_is_asked_for(family):
    told = Counter(case["gold"] is None for case in cases(family.name()))
    assert CANNOT_TELL in family.prompt_func(cases(family.name())[0])
    assert told[True] >= 30


def told(thing):
    """All that a thing may be by its status; what only stands may be parked, or stopped."""
    halts = [word for word in MOTIONS if word not in ("moving", "still") and thing.category in APPLIES[word]]
    motions = {None: ["moving", *halts, *([] if halts else ["still"])], "still": halts or ["still"]}
    riders = [word for word in thing.status if word in RIDERS] or list(RIDERS)
    return [
        replace(thing, points=9, status=(motion, *((rider,) if thing.category in CYCLES else ())))
        for motion in motions.get(thing.motion, [thing.motion])
        for rider in (riders if thing.category in CYCLES else ("",))
    ]


def test_what_nobody_can_tell_has_two_answers(family):
    """All cases of what the sensor hardly hit, each thing there or not, and of each status: one answer to all of them
    would be known."""
    seen = 0
    for case in [each for each in cases(family.name()) if each["gold"] is None][::8]:
        asked, scene = case["asked"], SCENES[case["scene"]]
        near = [o for o in scene.objects if o.range_m <= asked["max_range_m"]]
        worlds = [told(o) + [None] * (o.points < asked["min_points"]) for o in near]
        if np.prod(list(map(len, worlds))) > 1000:
            continue
        seen += 1
        answers = set()
        for world in product(*worlds):
            answers.add(
                family.answer(replace(scene, objects=tuple(o for o in world if o is not None)), asked)
            )
            if len(answers) > 1:
                break
        assert answers == {CANNOT_TELL} or len(answers) > 1, case
    assert seen


def blurred(scene, generator, amount):
    """A scene as a poor detector tells it: objects missed, moved, taken for others, statuses lost."""
    objects = []
    for each in scene.objects:
        if generator.random() < 0.5 * amount:
            continue
        x, y, z = each.center
        dx, dy = generator.normal(0, 4 * amount, 2)
        category = str(generator.choice(CATEGORIES)) if generator.random() < 0.5 * amount else each.category
        known = generator.random() > 0.5 * amount
        objects.append(
            replace(
                each,
                category=category,
                center=(x + dx, y + dy, z),
                status=each.status if known and category == each.category else (),
                points=20,
            )
        )
    return replace(scene, objects=tuple(objects))


def test_a_solver_that_sees_poorly_is_neither_hopeless_nor_done(family):
    scores = {}
    for amount in (0.3, 0.7):
        generator = np.random.default_rng(1)
        found = [
            family.verify_score(
                family.answer(blurred(SCENES[case["scene"]], generator, amount), case["asked"]), case
            )
            for case in cases(family.name())[::5]
        ]
        scores[amount] = float(np.mean(found))
    assert all(0.03 <= score <= 0.85 for score in scores.values()), scores


def test_equal_seeds_ask_equal_questions(family):
    scenes = list(SCENES.values())
    first, again_, other = (family(scenes, seed=seed) for seed in (3, 3, 4))
    made = [[camp.case_generator() for _ in range(5)] for camp in (first, again_, other)]
    assert made[0] == made[1] != made[2]


def test_every_difficulty_makes_a_case(family):
    for options in family.difficulty_grid():
        case = family(list(SCENES.values()), **options).case_generator()
        assert options.items() <= case["asked"].items()
        prompt = family.prompt_func(case)
        assert prompt[0].isupper()
        assert "?" in prompt


def test_difficulties_and_scenes_that_do_not_serve_are_said(family):
    with pytest.raises(InputError, match="has no difficulty 'hop'"):
        family(list(SCENES.values()), hop=1)
    with pytest.raises(InputError, match="min_points cannot be -1"):
        family(list(SCENES.values()), min_points=-1)
    with pytest.raises(InputError, match="needs scenes"):
        family([])
