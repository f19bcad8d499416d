"""The keys of a dataset card and of the ``dataset.json`` of a log, and one check of both: what each key must hold."""

from __future__ import annotations

import difflib
import json
import re
import reprlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import InputError
from ..files.access import is_text

CARD_WORDS = "the name of a packaged card, or a .yaml file below the log's root"
_MOST_BEAMS = 1024
_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60
shorten = _repr.repr  # of whatever a file holds, on one line


class Key(NamedTuple):
    """What a key holds: its type, that in words, and the keys of a mapping that knows its own."""

    kind: type | tuple[type, ...]
    due: str
    inside: tuple[str, ...] | None = None
    can_be_empty: bool = True


_CLASSES = "a list, as in [{name: vehicle, colour: [0, 150, 245], categories: [car, truck]}]"
_NUMBERS = ("format", "mask", "shift", "column", "columns")
_SENSOR = ("model", "beams", "rate_hz", "key_rate_hz", "elevation_deg", "spacing_deg", "range_m")
_FACTS = {
    "name": Key(str, "text", can_be_empty=False),
    "real": Key(bool, "true or false", can_be_empty=False),
    "licence": Key(str, "text", can_be_empty=False),
    "source": Key(str, "text", can_be_empty=False),
    "intensity": Key(dict, "keys and values, as in {raw_max: 255}", ("rule", "raw_max"), can_be_empty=False),
    "sensor": Key(dict, "keys and values", _SENSOR),
    "splits": Key((dict, str, list), "scenes or a list file for each split"),
}
LABEL_SET = {
    "classes": Key(list, _CLASSES),
    "categories": Key(dict, "numbers of the label files with their names, as in {1: car}"),
    "labels_of": Key(str, "the name of a packaged card"),
}
CARD = {
    **_FACTS,
    "points": Key(
        dict,
        "keys and values, as in {columns: [x, y, z, intensity], axes: forward-left-up}",
        ("columns", "axes", "format", "no_return", "range_m", "time", "compensated"),
        can_be_empty=False,
    ),
    "images": Key(dict, "keys and values, as in {format: zip}", ("format",)),
    "labels": Key(dict, "keys and values, as in {format: u4, mask: 0xffff}", _NUMBERS),
    "instances": Key(dict, "keys and values, as in {format: u4, shift: 16}", _NUMBERS),
    **LABEL_SET,
    "label_sets": Key(dict, "named sets of classes, as in {moving: {classes: [...]}}"),
    "server": Key(
        dict,
        "keys and values, as in {path: 'sequences/{scene}/{name}.label', format: u4, none: 0}",
        ("path", "format", "splits", "numbers", "none", "records", "archive"),
    ),
    "fractions": Key(
        dict,
        "keys and values, as in {of: scenes, source: who published it}",
        ("of", "source"),
        can_be_empty=False,
    ),
    "recognise": Key(str, "text"),
    "cameras": Key(list, "a list of channels"),
    "ask": Key(str, "text, where to get the data"),
    "tree": Key(str, "text, the expected folders and files"),
    "disk_gb": Key((int, float), "a number"),
    "unverified": Key(list, "a list of sentences"),
}
CARD_NEEDS = ("name", "real", "licence", "source", "points", "intensity")
LOG = {  # what a log says of itself; the last four are for its maker
    **_FACTS,
    "card": Key(str, CARD_WORDS),
    "recordings": Key(dict, "scenes with the recordings that they are, as in {scene-9002: PandaSet 002}"),
    "late_s": Key(dict, "topics of images with seconds, as in {/front/image_raw: 0.035}"),
    "generator": Key(str, "text, what made the log"),
    "version": Key(str, "text"),
    "seed": Key(int, "a whole number"),
    "settings": Key(dict, "keys and values"),
}


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Words that name the likeliest of ``known`` for a mistyped ``name``, or list them all."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"


def check_keys(
    path: Path,
    values: Mapping[Any, Any],
    known: Mapping[str, Key],
    *,
    needs: Iterable[str] = (),
    of: str = "",
) -> None:
    """Every key is a known one and holds what it must, and none of ``needs`` is missing.

    Args:
        of: the key of the file in which ``values`` stand, "" where they are the whole.

    Raises:
        InputError: one is not so; the message names it.
    """
    for key in sorted(set(needs) - set(values)):
        raise InputError(f"{path}: the key {key!r} is missing; add it, see the packaged cards for the form")
    only_keys(path, values, known, of=of)
    for key, value in values.items():
        kind = known[key]
        if value is None and kind.can_be_empty:
            continue
        wrong_bool = isinstance(value, bool) and kind.kind is not bool
        if wrong_bool or not isinstance(value, kind.kind) or (kind.kind is str and not is_text(value)):
            within = f" in {of}" if of else ""
            raise InputError(f"{path}: {key}{within} is {shorten(value)}; it must be {kind.due}")
    for key in ("sensor", "settings"):
        _check_plain(path, key, values.get(key))
    _check_sensor(path, values.get("sensor") or {})
    for key, value in values.items():
        inside = known[key].inside
        if inside is not None and value is not None:
            only_keys(path, value, inside, of=key)
    for name, labels in (values.get("label_sets") or {}).items():
        if not isinstance(labels, dict):
            raise InputError(
                f"{path}: the label set {name!r} is {shorten(labels)}; it must be {known['label_sets'].due}"
            )
        check_keys(path, labels, LABEL_SET, of=f"the label set {name!r}")
    try:
        re.compile(values.get("recognise") or "")
    except (re.error, RecursionError, OverflowError) as error:
        raise InputError(f"{path}: recognise is no regular expression ({error}); mend it") from error


def only_keys(path: Path, values: Mapping[Any, Any], known: Collection[str], *, of: str = "") -> None:
    """None but the known keys, or ``InputError`` with the nearest of them."""
    for key in sorted(set(values) - set(known), key=str):
        within = f" in {of}" if of else ""
        raise InputError(f"{path}: unknown key {key!r}{within}; {nearest_name(str(key), sorted(known))}")


def _check_sensor(path: Path, sensor: Mapping[str, Any]) -> None:
    """What is read of it: corruptions tell beams by these where no column does."""
    beams, ends = sensor.get("beams"), sensor.get("elevation_deg")
    if beams is not None and not (type(beams) is int and 1 <= beams <= _MOST_BEAMS):
        raise InputError(
            f"{path}: beams of sensor is {shorten(beams)}; it must be a whole number, 1 to {_MOST_BEAMS}"
        )
    if ends is not None and not (
        isinstance(ends, list)
        and len(ends) == 2
        and all(type(end) in (int, float) for end in ends)
        and -90 <= ends[0] < ends[1] <= 90
    ):
        raise InputError(
            f"{path}: elevation_deg of sensor is {shorten(ends)}; it must be the lowest and the highest beam "
            "[degrees], as in [-25, 15]"
        )


def _check_plain(path: Path, key: str, value: Any) -> None:
    try:
        json.dumps(value, allow_nan=False, sort_keys=True).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: {key} holds something that is no text, finite number, list, or keys and values ({error}); "
            "write it as one of these"
        ) from error
