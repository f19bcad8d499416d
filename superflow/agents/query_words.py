"""The tokens of a query, and where reading it stopped and what could have stood there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from ..errors import InputError, suggest

MAX_LENGTH, MAX_DEPTH = 2000, 50  # characters; phrases within phrases
ALIKE = 0.7  # share of characters in common from which a word is taken for a slip
_TOKEN = re.compile(r"\d+(?:\.\d+)?(?:e[+-]?\d+)?|[a-z][a-z/]*(?:-[a-z]+)*|\S")
Meaning = TypeVar("Meaning")


class Words:
    """Takes one token after the other; remembers what was looked for at the farthest place that was reached."""

    def __init__(self, text: str) -> None:
        if len(text) > MAX_LENGTH:
            raise InputError(f"the query has {len(text)} characters; use {MAX_LENGTH} or fewer")
        # line breaks and such would move the mark away from its place; case is kept in length
        self.text = "".join(c if c.isprintable() else " " for c in text)
        lower = "".join(c.lower() if len(c.lower()) == 1 else c for c in self.text)
        self._tokens = [(m.group(), m.start()) for m in _TOKEN.finditer(lower)]
        self.at = 0
        self._farthest, self._wanted = 0, dict[str, tuple[str, ...]]()

    @property
    def ended(self) -> bool:
        return self.at == len(self._tokens)

    def take(self, phrase: str, *, expected: str = "") -> bool:
        """Whether the phrase comes next; it is taken then. ``expected``: its name in errors, else itself."""
        return self.take_of({phrase: True}, expected or f'"{phrase}"') or False

    def take_of(self, phrases: Mapping[str, Meaning], expected: str) -> Meaning | None:
        """What the longest phrase that comes next means; None where none of them does."""
        longest: tuple[int, Meaning] | None = None
        first = "" if self.ended else self._tokens[self.at][0]
        for phrase, meaning in phrases.items():
            if not first or not phrase.startswith(first):
                continue
            words = phrase.split()
            found = [token for token, _ in self._tokens[self.at : self.at + len(words)]]
            if found == words and (longest is None or len(words) > longest[0]):
                longest = (len(words), meaning)
        if longest is None:
            self.want(expected, phrases)
            return None
        self.at += longest[0]
        return longest[1]

    def number(self, *, whole: bool = False) -> float | None:
        """A number that comes next; None where none does."""
        token = "" if self.ended else self._tokens[self.at][0]
        if not token[:1].isdecimal() or not token.isascii() or (whole and not token.isdecimal()):
            self.want("a whole number" if whole else "a number")
            return None
        if (whole and len(token) > 12) or not float(token) < 1e9:
            self.want("a smaller number")
            return None
        self.at += 1
        return float(token)

    def error(self) -> InputError:
        """Where it stopped, what stands there, and what could: one sentence, and the query with a mark below."""
        ended = self._farthest == len(self._tokens)
        found, place = ("", len(self.text.rstrip())) if ended else self._tokens[self._farthest]
        *most, last = self._wanted or ["a query"]
        expected = f"{', '.join(most)} or {last}" if most else last
        known = [word for phrases in self._wanted.values() for word in phrases]
        near = suggest(found, known) if get_close_matches(found, known, 1, ALIKE) else ""
        stands = "the query ends" if ended else f"stands {found!r}"
        return InputError(
            f"the query cannot be read: at character {place + 1} {stands}, expected {expected}{near}\n"
            f"  {self.text}\n  {' ' * place}^"
        )

    def too_deep(self) -> InputError:
        """The error where phrases stand within phrases more than ``MAX_DEPTH`` times."""
        place = self._tokens[min(self.at, len(self._tokens) - 1)][1]
        return InputError(
            f"the query cannot be read: at character {place + 1} more than {MAX_DEPTH} phrases stand within "
            "each other; ask less at once"
        )

    def want(self, expected: str, phrases: Iterable[str] = ()) -> None:
        """Say that something was expected here, and with which words it begins."""
        if self.at > self._farthest:
            self._farthest, self._wanted = self.at, {}
        if self.at == self._farthest:
            self._wanted[expected] = tuple(phrases)
