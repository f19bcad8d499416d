"""BLEU, ROUGE-L and CIDEr of answers with one reference each, by the definitions of the COCO caption evaluation.

Its tokens come from the Stanford tokenizer, which is a Java program; `words` is a plain stand-in, so figures are near
those of the original and comparable among themselves. No library of the day has all three without Java.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

Pair = tuple[str, str]  # an answer, its reference
ORDERS = (1, 2, 3, 4)  # lengths of n-grams
_TINY, _SMALL = 1e-15, 1e-9  # of COCO's BLEU, which has no other smoothing
_BETA = 1.2  # weight of recall in ROUGE-L
_SIGMA = 6.0  # words, of CIDEr's penalty on lengths
_WORD = re.compile(r"\w+(?:[.'\-]\w+)*")

Ngram = tuple[str, ...]


def words(text: str) -> list[str]:
    """Words and numbers in lower case, without other signs: "CAM_BACK", "1088.3" and "champagne-colored" are whole."""
    return _WORD.findall(text.lower())


def bleu(pairs: Sequence[Pair]) -> list[float]:
    """BLEU-1 to BLEU-4 of all answers together, 0 to 1; ``pairs`` holds one at least."""
    right, given = Counter[int](), Counter[int]()
    lengths = [0, 0]
    for answer, reference in ((words(a), words(b)) for a, b in pairs):
        lengths[0] += len(answer)
        lengths[1] += len(reference)
        for n in ORDERS:
            found, known = _ngrams(answer, n), _ngrams(reference, n)
            right[n] += (found & known).total()
            given[n] += found.total()
    ratio = (lengths[0] + _TINY) / (lengths[1] + _SMALL)
    brevity = math.exp(1 - 1 / ratio) if ratio < 1 else 1.0
    product, scores = 1.0, []
    for n in ORDERS:
        product *= (right[n] + _TINY) / (given[n] + _SMALL)
        scores.append(brevity * product ** (1 / n))
    return scores


def rouge_l(pairs: Sequence[Pair]) -> float:
    """Mean ROUGE-L, 0 to 1: how long a sequence of words an answer and its reference share, gaps allowed."""
    return sum(_rouge_l(words(a), words(b)) for a, b in pairs) / len(pairs)


def cider(pairs: Sequence[Pair]) -> float:
    """CIDEr with clipped counts and a penalty on lengths, as COCO has it, 0 to 10.

    Words that stand in every reference weigh nothing, so a lone pair scores 0 whatever it says.
    """
    texts = [(words(a), words(b)) for a, b in pairs]
    total = 0.0
    for n in ORDERS:
        counts = [(_ngrams(a, n), _ngrams(b, n)) for a, b in texts]
        documents = Counter(ngram for _, reference in counts for ngram in reference)
        for (found, known), (answer, reference) in zip(counts, texts):
            one, other = (_weighed(each, documents, len(pairs)) for each in (found, known))
            shared = sum(
                min(value, other.get(ngram, 0.0)) * other.get(ngram, 0.0) for ngram, value in one.items()
            )
            norms = math.hypot(*one.values()) * math.hypot(*other.values())
            # the original takes the number of bigrams for the length
            gap = max(len(answer) - 1, 0) - max(len(reference) - 1, 0)
            total += shared / norms * math.exp(-(gap**2) / (2 * _SIGMA**2)) if norms else 0.0
    return 10.0 * total / len(ORDERS) / len(pairs)


def shared_length(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence; a bit a word, so that long texts take no long time."""
    places: dict[str, int] = {}
    for i, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << i
    everywhere = (1 << len(first)) - 1
    free = everywhere
    for word in second:
        hits = free & places.get(word, 0)
        free = ((free + hits) | (free - hits)) & everywhere
    return len(first) - free.bit_count()


def _rouge_l(answer: list[str], reference: list[str]) -> float:
    shared = shared_length(answer, reference)
    if not shared:
        return 0.0
    precision, recall = shared / len(answer), shared / len(reference)
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _ngrams(tokens: list[str], n: int) -> Counter[Ngram]:
    return Counter(zip(*(tokens[i:] for i in range(n))))


def _weighed(counts: Counter[Ngram], documents: Counter[Ngram], number: int) -> dict[Ngram, float]:
    return {ngram: count * math.log(number / max(1, documents[ngram])) for ngram, count in counts.items()}
