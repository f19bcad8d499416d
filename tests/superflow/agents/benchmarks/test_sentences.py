"""BLEU, ROUGE-L and CIDEr against plain twins, and what of them is known in closed form."""

from __future__ import annotations

import math
import random
from functools import cache

import pytest

from superflow.agents.benchmarks.sentences import bleu, cider, rouge_l, shared_length, words

SOME = ["the", "car", "is", "to", "front", "left", "of", "a", "bus", "and", "truck", "moving", "slowly"]


def sentences(seed, count=12):
    draw = random.Random(seed)
    return [
        tuple(" ".join(draw.choices(SOME, k=draw.randint(0 if side == 0 else 1, 12))) for side in (0, 1))
        for _ in range(count)
    ]


def parts(text, n):
    tokens = text.split()
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def plain_bleu(pairs, order):
    logs = 0.0
    for n in range(1, order + 1):
        hits, all_of_them = 0, 0
        for answer, reference in pairs:
            left = parts(reference, n)
            for part in parts(answer, n):
                all_of_them += 1
                if part in left:
                    left.remove(part)
                    hits += 1
        logs += math.log((hits + 1e-15) / (all_of_them + 1e-9))
    said = sum(len(a.split()) for a, _ in pairs)
    wanted = sum(len(b.split()) for _, b in pairs)
    return math.exp(logs / order) * min(1.0, math.exp(1 - wanted / said))


def plain_shared(first, second):
    @cache
    def longest(i, j):
        if i == len(first) or j == len(second):
            return 0
        if first[i] == second[j]:
            return 1 + longest(i + 1, j + 1)
        return max(longest(i + 1, j), longest(i, j + 1))

    return longest(0, 0)


def plain_cider(pairs):
    scores = []
    for answer, reference in pairs:
        cosines = []
        for n in (1, 2, 3, 4):
            vocabulary = sorted({part for pair in pairs for text in pair for part in parts(text, n)})

            def weigh(text, n=n, vocabulary=vocabulary):
                rows = []
                for part in vocabulary:
                    holders = sum(part in parts(other, n) for _, other in pairs)
                    rows.append(
                        parts(text, n).count(part) * (math.log(len(pairs)) - math.log(max(1, holders)))
                    )
                return rows

            a, b = weigh(answer), weigh(reference)
            norm = math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))
            cosines.append(sum(min(x, y) * y for x, y in zip(a, b)) / norm if norm else 0.0)
        gap = len(parts(answer, 2)) - len(parts(reference, 2))
        scores.append(10 * sum(cosines) / 4 * math.exp(-(gap**2) / 72))
    return sum(scores) / len(scores)


@pytest.mark.parametrize("seed", range(6))
def test_figures_are_those_of_plain_twins(seed):
    pairs = sentences(seed)
    assert bleu(pairs) == pytest.approx([plain_bleu(pairs, n) for n in (1, 2, 3, 4)], rel=1e-6)
    assert cider(pairs) == pytest.approx(plain_cider(pairs))
    wanted = []
    for answer, reference in ((a.split(), b.split()) for a, b in pairs):
        shared = plain_shared(tuple(answer), tuple(reference))
        assert shared_length(answer, reference) == shared
        p, r = shared / max(1, len(answer)), shared / len(reference)
        wanted.append((1 + 1.44) * p * r / (r + 1.44 * p) if shared else 0.0)
    assert rouge_l(pairs) == pytest.approx(sum(wanted) / len(wanted))


def test_what_is_known():
    same = [
        (text, text) for text in ("a car is moving to the left", "two parked trucks stand behind the bus")
    ]
    assert bleu(same) == pytest.approx([1, 1, 1, 1], abs=1e-6)
    assert (rouge_l(same), cider(same)) == (pytest.approx(1), pytest.approx(10))
    assert cider(same[:1]) == 0  # words of every reference weigh nothing
    assert bleu([("", "a car")]) == pytest.approx([0, 0, 0, 0])
    assert (rouge_l([("", "a car")]), cider([("", "a car"), ("b", "b")])) == (0, pytest.approx(10 / 8))
    # each word of the reference counts once
    assert bleu([("the the the", "the car is")])[0] == pytest.approx(1 / 3)
    assert bleu([("a car", "a car is here")])[0] == pytest.approx(math.exp(-1))


def test_words_are_whole():
    text = "Champagne-colored sedan, <c1,CAM_BACK,1088.3,497.5>. It isn't 7."
    assert words(text) == [
        "champagne-colored",
        "sedan",
        "c1",
        "cam_back",
        "1088.3",
        "497.5",
        "it",
        "isn't",
        "7",
    ]
    assert words(" .,!- ") == []
