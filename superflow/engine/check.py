"""Finds keys that nothing would read, before anything is built: a misspelt key must not train for a day."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import InputError, suggest
from .builders import GONE
from .slots import ANY, Leaf, Slot, top_slots


def check_config(config: Mapping[str, Any]) -> None:
    """Look at every known key of a config.

    Raises:
        InputError: a key that nothing reads (with the nearest that something does), an unknown ``type``, or a
            required argument that is missing.
    """
    for name, slot in top_slots().items():
        if not isinstance(slot, Leaf) and config.get(name) is not None:
            _check(config[name], slot, name)


def check_option(config: Mapping[str, Any], key: str) -> Leaf | Slot:
    """What is to stand in the place of one key of ``--cfg-options``, before it is merged.

    Raises:
        InputError: it is not in the config, and what its place builds would not take it.
    """
    node: Any = config
    slot: Any = Slot(keys=top_slots())
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
        if node is None and isinstance(slot, Slot):
            node = {}  # an option under it takes the place of None
        if not isinstance(node, Mapping):
            raise InputError(f"--cfg-options {key}: {where} is {node!r} and has no keys")
        if isinstance(slot, Slot) and slot.each is not None:
            slot, node = slot.each, node.get(step, {})
            continue
        accepted = None if isinstance(slot, Leaf) else slot.accepted(node, where)
        known = sorted({*([] if depth == 0 else node), *(accepted or ())})
        if depth == 0 and step in node and step not in known:
            raise InputError(
                f"--cfg-options {key}: {step!r} is a variable of the config file, which was used when the file was "
                "read; set the key that it went into"
            )
        if step not in known:
            raise InputError(
                f"--cfg-options {key}: {where} has no {step!r}{_instead(step, known, words='the nearest known key is')}"
            )
        slot = (accepted or {}).get(step, ANY)
        node = node.get(step, {})
    return slot


def _instead(key: str, known: Iterable[str], **words: str) -> str:
    """What to write instead of a key that nothing reads."""
    return f"; {GONE[key]}" if key in GONE else suggest(key, known, **words)


def _check(node: Any, slot: Slot, where: str) -> None:
    if isinstance(node, list | tuple):
        for row, item in enumerate(node):
            _check(item, slot, f"{where}[{row}]")
        return
    if node is None or not isinstance(node, Mapping):
        if slot.keys is not None or slot.each is not None or slot.registry is not None:
            raise InputError(f"{where}: is {node!r}; it must be a dict")
        return  # built objects may stand where their description may
    accepted = slot.accepted(node, where)
    if accepted is None:
        return
    for key in node:
        if key not in accepted:
            raise InputError(f"{where}.{key}: nothing reads this key{_instead(key, accepted)}")
    for key in slot.required(node, where):
        if key not in node:
            raise InputError(f"{where}: has no {key!r}, which it needs")
    for key, inner in accepted.items():
        if not isinstance(inner, Leaf) and node.get(key) is not None:
            _check(node[key], inner, f"{where}.{key}")
