"""Kinds of answers: how each is asked for, written, read and judged, and what looks like it and is wrong.

A value of None is "cannot tell", which every kind can be.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CANNOT_TELL = "cannot tell"
MAX_LENGTH = 80  # characters of an answer
NUMBER_WORDS = (
    *(
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    ),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
# unit -> its name in questions, and how answers may write it
_UNITS = {"m": ("metres", "m|metres?|meters?"), "s": ("seconds", "s|seconds?")}
Asked = Mapping[str, Any]


class Unreadable(ValueError):
    """A text that is no answer of the kind that was asked for."""


class Reply(ABC):
    """One kind of answers. Values are JSON types; ``asked`` is the family's question, see `bootcamp.Bootcamp`."""

    @abstractmethod
    def instruction(self, asked: Asked) -> str:
        """How to answer, to end "answer with"."""

    @abstractmethod
    def written(self, value: Any) -> str:
        """The text of a value that is not None."""

    @abstractmethod
    def read(self, text: str, asked: Asked) -> Any:
        """The value of a text in lower case; raises ``Unreadable``."""

    @abstractmethod
    def wrong(self, gold: Any, asked: Asked) -> dict[str, str]:
        """Kind of mistake -> a text with it; ``gold`` is not None."""

    def is_right(self, value: Any, gold: Any) -> bool:
        """Whether a value that was read is as good as the gold one; neither is None."""
        return bool(value == gold)

    def bin_of(self, value: Any) -> str:
        """The answers among which a generator keeps balance."""
        return self.text(value)

    def text(self, value: Any) -> str:
        """The text of a value."""
        return CANNOT_TELL if value is None else self.written(value)

    def value(self, text: str, asked: Asked) -> Any:
        """The value of an answer; raises ``Unreadable``."""
        plain = " ".join(text.lower().split()).removesuffix(".")
        if not plain or len(plain) > MAX_LENGTH or not plain.isascii():
            raise Unreadable(text[:MAX_LENGTH])
        return None if plain == CANNOT_TELL else self.read(plain, asked)

    def mistakes(self, gold: Any, asked: Asked, example: Any) -> dict[str, str]:
        """Kind of mistake -> a text with it, three kinds at least.

        Args:
            example: a value that is not None, to claim where the sensor cannot tell.
        """
        if gold is None:
            return {
                "claim": self.text(example),
                "not sure": f"{self.text(example)} or {CANNOT_TELL}",
                "half": "cannot",
            }
        return {
            "abstained": CANNOT_TELL,
            "not sure": f"{self.text(gold)} or {CANNOT_TELL}",
            **self.wrong(gold, asked),
        }


@dataclass(frozen=True)
class _OfWords(Reply):
    """Of some words. by: key of ``asked`` that lists those of a question, instead of ``words``."""

    words: tuple[str, ...] = ()
    by: str = ""

    def known(self, asked: Asked) -> tuple[str, ...]:
        """The words that can be answered with."""
        return tuple(asked[self.by]) if self.by else self.words


@dataclass(frozen=True)
class Choice(_OfWords):
    """One of some words."""

    def instruction(self, asked: Asked) -> str:
        *most, last = self.known(asked)
        return f"{', '.join(most)} or {last}"

    def written(self, value: str) -> str:
        return value

    def read(self, text: str, asked: Asked) -> str:
        if text not in self.known(asked):
            raise Unreadable(text)
        return text

    def wrong(self, gold: str, asked: Asked) -> dict[str, str]:
        other = [word for word in self.known(asked) if word != gold]
        return {
            "other": other[0],
            "last": other[-1],
            "both": f"{gold} and {other[0]}",
            "denied": f"not {gold}",
        }


@dataclass(frozen=True)
class YesNo(Choice):
    """True or false."""

    words: tuple[str, ...] = ("yes", "no")

    def written(self, value: Any) -> str:
        return self.words[0 if value else 1]

    def read(self, text: str, asked: Asked) -> Any:
        return super().read(text, asked) == self.words[0]

    def wrong(self, gold: Any, asked: Asked) -> dict[str, str]:
        return super().wrong(self.written(gold), asked)


@dataclass(frozen=True)
class Number(Reply):
    """A whole number; it may stand as a word, and with the nouns of ``asked["nouns"]``, as "3 cars"."""

    def instruction(self, asked: Asked) -> str:
        return "a whole number"

    def written(self, value: int) -> str:
        return str(value)

    def read(self, text: str, asked: Asked) -> int:
        number, _, noun = text.partition(" ")
        if noun and noun not in asked.get("nouns", ()):
            raise Unreadable(text)
        if number in NUMBER_WORDS:
            return NUMBER_WORDS.index(number)
        if not re.fullmatch(r"\d{1,6}", number):
            raise Unreadable(text)
        return int(number)

    def wrong(self, gold: int, asked: Asked) -> dict[str, str]:
        return {
            "one more": str(gold + 1),
            "negative": str(-gold - 1),
            "two": f"{gold} or {gold + 1}",
            "part": f"{gold}.5",
        }


@dataclass(frozen=True)
class Measure(Reply):
    """A number with a unit, right up to a tolerance, or a word of ``instead``.

    Attributes:
        unit: may be left out. absolute, relative: the larger of both is tolerated. instead: words for no number.
    """

    unit: str = "m"
    absolute: float = 1.0
    relative: float = 0.1
    instead: tuple[str, ...] = ()

    def instruction(self, asked: Asked) -> str:
        return " or ".join([f"a number of {_UNITS[self.unit][0]}", *(f'"{word}"' for word in self.instead)])

    def written(self, value: float | str) -> str:
        return value if isinstance(value, str) else f"{value:.1f} {self.unit}"

    def read(self, text: str, asked: Asked) -> float | str:
        if text in self.instead:
            return text
        found = re.fullmatch(rf"(\d{{1,6}}(?:\.\d{{1,6}})?) ?(?:{_UNITS[self.unit][1]})?", text)
        if found is None:
            raise Unreadable(text)
        return float(found[1])

    def is_right(self, value: float | str, gold: float | str) -> bool:
        if isinstance(value, str) or isinstance(gold, str):
            return value == gold
        # half of the last digit that is written
        return abs(value - gold) <= max(self.absolute, self.relative * gold) + 0.05

    def bin_of(self, value: float | str | None) -> str:
        return f"{math.floor(value / 10)}0" if isinstance(value, float) else self.text(value)

    def wrong(self, gold: float | str, asked: Asked) -> dict[str, str]:
        if isinstance(gold, str):
            return {"claim": f"5 {self.unit}", "two": f"{gold} or 5 {self.unit}", "denied": f"not {gold}"}
        beyond = 1.2 * max(self.absolute, self.relative * gold) + 0.2
        return {
            "more": f"{gold + beyond:.1f}",
            "less": f"{gold - beyond:.1f}",
            "span": f"{gold:.1f} to {gold + 1:.1f} {self.unit}",
            "unit": f"{gold:.1f} km",
        }


@dataclass(frozen=True)
class Listing(_OfWords):
    """Words in an order, with commas between them."""

    def instruction(self, asked: Asked) -> str:
        return "the names in order, with commas between them"

    def written(self, value: list[str]) -> str:
        return ", ".join(value)

    def read(self, text: str, asked: Asked) -> list[str]:
        found = [word.strip() for word in text.split(",")]
        if not set(found) <= set(self.known(asked)):
            raise Unreadable(text)
        return found

    def is_right(self, value: list[str], gold: list[str]) -> bool:
        return list(value) == list(gold)

    def bin_of(self, value: list[str] | None) -> str:
        return CANNOT_TELL if value is None else value[0]

    def wrong(self, gold: list[str], asked: Asked) -> dict[str, str]:
        other = next(word for word in self.known(asked) if word != gold[0])
        return {
            "first is wrong": self.written([other, *gold[1:]]),
            "one missing": self.written(gold[:-1]),
            "one more": self.written([*gold, gold[-1]]),
            "all": self.written(list(self.known(asked)) * 2),
        }


@dataclass(frozen=True)
class Place(Reply):
    """Two numbers x, y [m], each right up to a tolerance."""

    absolute: float = 1.0

    def instruction(self, asked: Asked) -> str:
        return "two numbers of metres with a comma between them"

    def written(self, value: list[float]) -> str:
        return ", ".join(f"{number:.1f}" for number in value)

    def read(self, text: str, asked: Asked) -> list[float]:
        number = rf"(-?\d{{1,6}}(?:\.\d{{1,6}})?)(?: ?(?:{_UNITS['m'][1]}))?"
        found = re.fullmatch(rf"\(?{number}, ?{number}\)?", text)
        if found is None:
            raise Unreadable(text)
        return [float(found[1]), float(found[2])]

    def is_right(self, value: list[float], gold: list[float]) -> bool:
        return all(abs(a - b) <= self.absolute + 0.05 for a, b in zip(value, gold, strict=True))

    def bin_of(self, value: list[float] | None) -> str:
        return CANNOT_TELL if value is None else f"{value[0] > 0} {value[1] > 0}"

    def wrong(self, gold: list[float], asked: Asked) -> dict[str, str]:
        x, y = gold
        return {
            "farther": self.written([x + 1.5 * self.absolute + 0.2, y]),
            "beside": self.written([x, y - 1.5 * self.absolute - 0.2]),
            "half": f"{x:.1f}",
            "three": self.written([x, y, 0.0]),
        }
