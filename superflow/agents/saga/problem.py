"""A problem over scenes: its statement, its reference solution as text, and what its arguments may be."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, TypeVar

# words to choose from, or the lowest and the highest number; whole ones where both are
Span = tuple[Any, ...]
Reference = TypeVar("Reference", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem.

    Attributes:
        name: of the function. statement: what it returns, for people. source: of the reference solution, one function
            of a scene and the arguments that needs nothing but ``math``. spans: argument -> what it may be.
        held_out: a problem on which ways of making tests are only scored, and never settled.
    """

    name: str
    statement: str
    source: str
    spans: dict[str, Span]
    held_out: bool


_FOUND: list[Problem] = []


def problem(*, held_out: bool = False, **spans: Span) -> Callable[[Reference], Reference]:
    """Make the function below a problem: its docstring is the statement, its arguments have these spans."""

    def add(function: Reference) -> Reference:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        body = tree.body[0]
        assert isinstance(body, ast.FunctionDef)
        body.decorator_list, body.body = [], body.body[1:]  # the docstring is no code to be changed
        statement = inspect.getdoc(function) or ""
        _FOUND.append(Problem(function.__name__, statement, ast.unparse(tree), spans, held_out))
        return function

    return add


@cache
def problems() -> dict[str, Problem]:
    """Name -> problem, of all files of ``problems/``."""
    from . import problems as folder

    for module in iter_modules(folder.__path__):
        import_module(f"{folder.__name__}.{module.name}")
    return {each.name: each for each in sorted(_FOUND, key=lambda each: each.name)}
