"""Finds keys that nothing would read, before anything is built: a misspelt key must not train for a day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InputError, suggest
from .builders import GONE
from .places import Place, top_places


def check_config(config: Mapping[str, Any]) -> None:
    """Look at every known key of a config.

    Raises:
        InputError: a key that nothing reads (with the nearest that something does), an unknown ``type``, or a
            required argument that is missing.
    """
    for name, place in top_places().items():
        if not place.is_value and config.get(name) is not None:
            _check(config[name], place, name)


def check_option(config: Mapping[str, Any], key: str) -> Place:
    """What is to stand in the place of one key of ``--cfg-options``, before it is merged.

    Raises:
        InputError: it is not in the config, and what its place builds would not take it.
    """
    node: Any = config
    place = Place(keys=top_places())
    steps = key.split(".")
    if not all(steps):
        raise InputError(
            f"--cfg-options {key}=...: a name is missing in the key; write KEY=VALUE, as in a.b=1"
        )
    for depth, step in enumerate(steps):
        where = ".".join(steps[:depth]) or "the config"
        if isinstance(node, list | tuple):
            if not step.isdigit() or int(step) >= len(node):
                raise InputError(
                    f"--cfg-options {key}: {where} is a list of {len(node)}, {step!r} is none of it"
                )
            node = node[int(step)]
            continue
        if node is None and not place.is_value:
            node = {}  # an option under it takes the place of None
        if not isinstance(node, Mapping):
            raise InputError(f"--cfg-options {key}: {where} is {node!r} and has no keys")
        places = place.known({**node, step: None} if place.each else node, where) or {}
        known = sorted({*([] if depth == 0 else node), *places})
        if depth == 0 and step in node and step not in known:
            raise InputError(
                f"--cfg-options {key}: {step!r} is a variable of the config file, which was used when the file was "
                "read; set the key that it went into"
            )
        if step not in known:
            raise InputError(
                f"--cfg-options {key}: {where} has no {step!r}{_instead(step, known, words='the nearest known key is')}"
            )
        place, node = places.get(step, Place()), node.get(step, {})
    return place


def _instead(key: str, known: Iterable[str], **words: str) -> str:
    """What to write instead of a key that nothing reads."""
    return f"; {GONE[key]}" if key in GONE else suggest(key, known, **words)


def _check(node: Any, place: Place, where: str) -> None:
    if isinstance(node, list | tuple):
        for number, item in enumerate(node):
            _check(item, place, f"{where}[{number}]")
        return
    if not isinstance(node, Mapping):
        if place.call is None:  # built objects may stand where their description may
            raise InputError(f"{where}: is {node!r}; it must be a dict")
        return
    places = place.known(node, where)
    if places is None:
        return
    for key in node:
        if key not in places:
            raise InputError(f"{where}.{key}: nothing reads this key{_instead(key, places)}")
    for key, inner in places.items():
        if inner.required and key not in node:
            raise InputError(f"{where}: has no {key!r}, which it needs")
        if not inner.is_value and node.get(key) is not None:
            _check(node[key], inner, f"{where}.{key}")
