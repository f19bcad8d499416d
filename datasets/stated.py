"""What a log says of itself: the optional ``dataset.json`` in its root, of whatever dataset it is."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.access import read_json
from .card import DatasetCard, load_card
from .card_file import check_splits, read_intensity
from .card_keys import CARD_WORDS, LOG, check_keys, shorten

NAME = "dataset.json"
_PLAIN = ("name", "real", "licence", "source", "sensor")  # are in a card what they are here


def read_stated(root: Path) -> dict[str, Any]:
    """The facts that the log under ``root`` states; those that are null are left out.

    Raises:
        InputError: the file is damaged, or a key is unknown or holds something else than it must.
    """
    path = root / NAME
    if not os.path.lexists(path):
        return {}
    stated = read_json(
        path, 'mend or remove it; it must be a JSON object such as {"name": "my-drive", "real": true}'
    )
    check_keys(path, stated, LOG)
    for scene, recording in (stated.get("recordings") or {}).items():
        if not isinstance(recording, str) or not recording.strip():
            raise InputError(
                f"{path}: recordings: {scene} is {shorten(recording)}; give the name of the recording, as PandaSet 002"
            )
    return {key: value for key, value in stated.items() if value is not None}


def stated_card(root: Path, stated: Mapping[str, Any], *, label_set: str = "") -> DatasetCard | None:
    """The packaged card that the log names, or the one in the file of that name below ``root``; None without.

    Raises:
        InputError: there is none, or it lies elsewhere.
    """
    if "card" not in stated:
        return None
    name = stated["card"]
    parts = re.split(r"[/\\]", name)
    if not name.isprintable() or ".." in parts or not parts[0] or Path(name).is_absolute():
        raise InputError(
            f"{root / NAME}: card is {name!r}; it must be {CARD_WORDS}, for one elsewhere use --card FILE.yaml"
        )
    is_file = name.endswith((".yaml", ".yml"))
    return load_card(root.joinpath(*parts) if is_file else name, label_set=label_set)


def overruled(card: DatasetCard, root: Path, stated: Mapping[str, Any]) -> DatasetCard:
    """``card`` with what the log states in place of what stands there.

    Raises:
        InputError: splits or intensity are not as they must be, or it states what this log cannot have.
    """
    path = root / NAME
    if "late_s" in stated:
        raise InputError(
            f"{path}: late_s is of bags alone; a folder of files has it in its cameras, in folder.yaml, and other logs "
            "tell the time and the pose of each image"
        )
    changes = {key: stated[key] for key in _PLAIN if key in stated}
    if "splits" in stated:
        changes["splits"], changes["split_files"] = check_splits(stated["splits"], path)
    if "intensity" in stated:
        rule, largest = read_intensity(path, stated["intensity"])
        if rule != "none" and "intensity" not in card.columns:
            raise InputError(
                f"{path}: intensity has the rule {rule}, but the points of the card {card.name} have columns "
                f"{', '.join(card.columns)}; leave it out, or name a card whose points have an intensity"
            )
        changes |= {"intensity_rule": rule, "intensity_max": largest}
    return replace(card, **changes)
