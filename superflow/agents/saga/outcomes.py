"""What a program gives on a test, and when two such outcomes are equal."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from ..scene import SceneRecord
from .cases import Case

Program = Callable[..., Any]
Outcome = dict[str, Any]


def load_program(source: str, name: str) -> Program:
    """The function of a program; whatever its text raises is raised."""
    names: dict[str, Any] = {"math": math, "SceneRecord": SceneRecord}
    exec(compile(source, f"<{name}>", "exec"), names)  # in a child process, see `worker`
    program: Program = names[name]
    return program


def outcome(program: Program, case: Case) -> Outcome:
    """What a program gives on a test: ``{"value"}`` of JSON types, or ``{"raised"}``, the name of the error."""
    try:
        value = program(case.scene, **case.arguments)
        json.dumps(value)
    except Exception as error:
        return {"raised": type(error).__name__}
    return {"value": value}


def same(first: Outcome, second: Outcome) -> bool:
    """Whether two outcomes are equal: numbers to 1e-6, a bool is no number, an error equals nothing."""
    return "value" in first and "value" in second and _equal(first["value"], second["value"])


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, bool) or isinstance(second, bool):
        return first is second
    if isinstance(first, int | float) and isinstance(second, int | float):
        return first == second or math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-6)
    if isinstance(first, list | tuple) and isinstance(second, list | tuple):
        return len(first) == len(second) and all(map(_equal, first, second))
    return bool(first == second)
