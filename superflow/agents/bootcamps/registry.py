"""Families by their names: every file of ``families/`` is one."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from ...errors import InputError, suggest
from . import families as folder
from .bootcamp import Bootcamp


@cache
def families() -> dict[str, type[Bootcamp]]:
    """Name -> class, by name.

    Raises:
        TypeError: a file has no family, or more than one.
    """
    found = {}
    for module in sorted(iter_modules(folder.__path__), key=lambda each: each.name):
        code = import_module(f"{folder.__name__}.{module.name}")
        classes = [
            each
            for _, each in inspect.getmembers(code, inspect.isclass)
            if issubclass(each, Bootcamp) and each.__module__ == code.__name__
        ]
        if len(classes) != 1:
            raise TypeError(f"{code.__name__} has {len(classes)} families; give each a file of its own")
        found[module.name] = classes[0]
    return found


def family_of(identity: Mapping[str, Any]) -> type[Bootcamp]:
    """The class of a case's family.

    Raises:
        InputError: there is no such family.
    """
    name = str(identity.get("family"))
    if name not in families():
        raise InputError(f"there is no family {name!r} of questions{suggest(name, families())}")
    return families()[name]
