"""What the text of an option means, by the type of the place that it is for: text stays text where text is due.

And which numbers mean something there.
"""

from __future__ import annotations

import ast
import inspect
import math
import re
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, NamedTuple

from .errors import InputError

_TEXT = {"str", "Path"}
_NUMBERS = {"int", "float", "bool", "complex"}
LISTS = {"Sequence", "list", "List", "tuple", "Tuple", "Iterable", "Collection"}
_CLOSING = {"(": ")", "[": "]"}
_SLICE = re.compile(r"\[-?\d*:-?\d*(:-?\d*)?\]")
_QUOTED = re.compile(r"""\s*('[^']*'|"[^"]*")\s*""")
# a term in quotes, a bracket, a comma, or what is between them
_PIECE = re.compile(rf"""{_QUOTED.pattern}(?=[],)]|$)|[][(),]|[^][(),]+""")


# name of a type in an annotation -> the kinds of values that it takes; other names take anything
_TAKES = {
    **{name: {"text"} for name in ("str", "Path", "Reduce")},
    **{name: {"list"} for name in (*LISTS, "texts")},
    **{name: {"dict"} for name in ("Mapping", "dict", "Dict")},
    **{"int": {"whole"}, "float": {"whole", "number"}, "bool": {"truth"}, "None": {"none"}},
    "Count": {"whole", "list"},
}
_WORDS = {
    **{"whole": "a whole number", "number": "a number", "truth": "True or False", "text": "text"},
    **{"list": "a list", "dict": "a dict", "none": "None"},
}


class Range(NamedTuple):
    """The numbers that mean something in a place; least and most are among them.

    above: least itself is not. whole: only whole numbers. endless: infinite ones, too.
    """

    least: float = -math.inf
    most: float = math.inf
    above: bool = False
    whole: bool = False
    endless: bool = False

    def holds(self, number: Any) -> bool:
        """Whether ``number`` is one of them; nan never is, nor what is no number, as True and False."""
        is_kind = isinstance(number, Integral if self.whole else Real) and not isinstance(number, bool)
        return is_kind and self._spans(number) and (self.endless or math.isfinite(number))

    def _spans(self, number: Any) -> bool:
        return bool((self.least < number if self.above else self.least <= number) and number <= self.most)

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        if self.least == -math.inf:
            return f"{kind} that is finite"
        low = f"above {self.least:g}" if self.above else f"from {self.least:g}"
        return (
            f"{kind} {low}{f' to {self.most:.10g}' if self.most < math.inf else '' if self.above else ' on'}"
        )


def allowed_types(annotation: Any, default: Any = inspect.Parameter.empty) -> frozenset[str]:
    """Names of the types that a parameter takes, such as ``{"str", "None"}``; a list of text is ``"texts"``.

    Args:
        annotation: of the parameter, as it is or as text. What it does not say is not among the names.
        default: of the parameter; None means that None is taken.
    """
    if annotation is inspect.Parameter.empty:
        return frozenset()
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        annotation = annotation.__name__
    try:
        names = set(_names(ast.parse(str(annotation), mode="eval").body))
    except SyntaxError:  # an object that is no type
        return frozenset()
    return frozenset(names | ({"None"} if default is None else set()))


def kinds_taken(annotation: Any, default: Any = inspect.Parameter.empty) -> set[str]:
    """Kinds of values that a parameter takes; none where its annotation does not say, or takes anything."""
    allowed = allowed_types(annotation, default)
    if not allowed or not allowed <= _TAKES.keys():
        return set()
    kinds = set().union(*(_TAKES[each] for each in allowed))
    return kinds if default is inspect.Parameter.empty else kinds | {_kind(default) or "none"}


def check_kind(value: Any, where: str, kinds: set[str]) -> None:
    """Look at the type of a value.

    Args:
        where: its name, for the message. kinds: of `kinds_taken`; none takes anything.

    Raises:
        InputError: it is of a kind that is not taken.
    """
    if kinds and (found := _kind(value)) is not None and found not in kinds:
        words = " or ".join(word for kind, word in _WORDS.items() if kind in kinds)
        raise InputError(f"{where}: is {value!r}; give {words}")


def check_length(value: Any, where: str, annotation: Any) -> None:
    """Look at how many values a list holds, where the annotation says it, as ``tuple[float, float]`` does.

    Raises:
        InputError: they are fewer or more.
    """
    try:
        types = ast.walk(ast.parse(str(annotation), mode="eval"))
    except SyntaxError:
        return
    names, lengths = set[str](), set[int]()
    for each in types:
        if isinstance(each, ast.Name):
            names.add(each.id)
        elif isinstance(each, ast.Subscript) and ast.unparse(each.value) == "tuple":
            entries = each.slice.elts if isinstance(each.slice, ast.Tuple) else [each.slice]
            lengths.add(0 if any(ast.unparse(entry) == "..." for entry in entries) else len(entries))
    is_fixed = len(lengths) == 1 and 0 not in lengths and names & LISTS == {"tuple"}
    if is_fixed and isinstance(value, list | tuple) and len(value) not in lengths:
        raise InputError(f"{where}: is {value!r}; give {lengths.pop()} values")


def check_numbers(value: Any, where: str, rule: Range) -> None:
    """Look at a number, or at all that a list holds.

    Raises:
        InputError: one of them is out of the range.
    """
    wrong = next((number for number in _numbers(value) if not rule.holds(number)), None)
    if wrong is not None:
        is_list = isinstance(value, list | tuple)
        said = f"holds {wrong!r}; give each as" if is_list else f"is {wrong!r}; give"
        raise InputError(f"{where}: {said} {rule}")


def takes_text(allowed: frozenset[str]) -> bool:
    """Whether text, or a list of it, is taken and no number, so that what looks like a number is none."""
    return bool(allowed & {*_TEXT, "texts"}) and not allowed & _NUMBERS


def read_value(text: str, allowed: frozenset[str] = frozenset()) -> Any:
    """The value that ``text`` stands for.

    Where only text is taken it stays as it is, whatever it looks like. Where lists of text are taken, too, it is cut
    at its commas. Elsewhere numbers, true, false and None are such, and brackets and commas make lists. Quotes at both
    ends keep what is between them as text, everywhere.

    Args:
        allowed: of `allowed_types`; empty where nothing is known of the place.

    Raises:
        InputError: a bracket is not closed.
    """
    text = text.strip()
    if text == "None" and (not allowed or "None" in allowed):
        return None
    if takes_text(allowed):
        if "texts" in allowed:
            return read_terms(text, always_list=not allowed & _TEXT)
        return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
    value = _read(text)
    if allowed - {"None"} == {"int"} and isinstance(value, float) and value.is_integer():
        return int(value)  # 1e5 iterations
    return value


def read_terms(text: str, *, always_list: bool = False) -> str | list[str]:
    """``[a,b[0:2]]`` and ``a,b`` as lists of text, one term as text. ``[::2]`` is a term, not a list of one.

    Raises:
        InputError: a bracket is not closed.
    """
    text = text.strip()
    enclosed = _is_enclosed(text) and not _SLICE.fullmatch(text)
    parts = _split(text[1:-1] if enclosed else text)
    terms = [
        term for part in parts if (term := part.strip()[1:-1] if _QUOTED.fullmatch(part) else part.strip())
    ]
    return terms if enclosed or always_list or len(parts) > 1 else "".join(terms)


def _kind(value: Any) -> str | None:
    """The kind of a value; None of what is none of a config, such as an object that is built."""
    kinds = (
        (bool, "truth"),
        (Integral, "whole"),
        (Real, "number"),
        (str | Path, "text"),
        (list | tuple, "list"),
    )
    found = next((kind for types, kind in kinds if isinstance(value, types)), None)
    return found or ("dict" if isinstance(value, Mapping) else "none" if value is None else None)


def _numbers(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _numbers(each)
    elif _kind(value) in ("whole", "number"):
        yield value


def _read(text: str) -> Any:
    """A value where numbers and lists are taken."""
    text = text.strip()
    if _QUOTED.fullmatch(text):
        return text[1:-1]
    enclosed = _is_enclosed(text)
    parts = _split(text[1:-1] if enclosed else text)
    if not enclosed and len(parts) == 1:
        return _scalar(text)
    if not parts[-1].strip():  # [], and a comma at the end
        parts.pop()
    values = [_read(part) for part in parts]
    return tuple(values) if enclosed and text[0] == "(" else values


def _scalar(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), None if text == "None" else text)


def _split(text: str) -> list[str]:
    """The parts between the commas that are in no quotes and no brackets."""
    parts, closing = [""], [""]  # what the open brackets want; a bracket too many takes the last entry
    for piece in (match[0] for match in _PIECE.finditer(text)):
        if piece == "," and len(closing) == 1:
            parts.append("")
            continue
        parts[-1] += piece
        if piece in _CLOSING:
            closing.append(_CLOSING[piece])
        elif piece in _CLOSING.values() and closing.pop() != piece:
            closing = []
            break
    if closing != [""]:
        raise InputError(
            "a bracket is not closed; write [a,b] or (a,b), and put text with brackets in quotes"
        )
    return parts


def _is_enclosed(text: str) -> bool:
    """Whether one pair of brackets goes around all of it."""
    if text[:1] not in _CLOSING or text[-1:] != _CLOSING[text[0]]:
        return False
    try:
        _split(text[1:-1])
    except InputError:
        return False
    return True


def _names(node: ast.expr) -> Iterator[str]:
    match node:
        case ast.BinOp():
            yield from (*_names(node.left), *_names(node.right))
        case ast.Constant(value=str(name)):  # it was not known when the annotation was written
            yield from _names(ast.parse(name, mode="eval").body)
        case ast.Constant(value=None) | ast.Name("NoneType") | ast.Attribute(attr="NoneType"):
            yield "None"
        case ast.Name() | ast.Attribute():
            yield node.id if isinstance(node, ast.Name) else node.attr
        case ast.Subscript():
            yield from _subscripted(next(_names(node.value), ""), node.slice)


def _subscripted(base: str, inside: ast.expr) -> set[str]:
    """Names of the types of ``base[inside]``."""
    items = inside.elts if isinstance(inside, ast.Tuple) else [inside]
    if base == "Literal":
        return {type(item.value).__name__ for item in items if isinstance(item, ast.Constant)}
    names = {name for item in items for name in _names(item)}
    if base in ("Optional", "Union"):
        return names | ({"None"} if base == "Optional" else set())
    return {"texts"} if base in LISTS and names and names <= _TEXT else {base}
