"""What a user should know of each dataset before it is downloaded, out of the cards that come with the package."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files.access import reading
from .card import CARDS
from .formats.yaml_files import read_yaml

_MOST = 6  # entries of a folder that are named


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one dataset: text as its card has it.

    disk_gb: None where nobody measured it. cameras: None where each log has its own, and with them its own classes.
    """

    name: str
    real: bool
    licence: str
    source: str
    ask: str
    tree: str
    disk_gb: float | None
    cameras: tuple[str, ...] | None
    classes: int
    label_sets: tuple[str, ...]
    unverified: tuple[str, ...]


def facts_of(name: str) -> Facts | None:
    """The facts of the packaged card ``name``; None where there is none."""
    path = CARDS / f"{name}.yaml"
    if not path.is_file():
        return None
    values = read_yaml(path)
    return Facts(
        name=name,
        real=values["real"],
        licence=values["licence"],
        source=values["source"],
        ask=values.get("ask") or "",
        tree=values.get("tree") or "",
        disk_gb=values.get("disk_gb"),
        cameras=tuple(values["cameras"] or ()) if "cameras" in values else None,
        classes=_number_of_classes(values),
        label_sets=tuple(values.get("label_sets") or ()),
        unverified=tuple(values.get("unverified") or ()),
    )


def _number_of_classes(values: dict[str, Any]) -> int:
    if values.get("labels_of"):
        values = read_yaml(CARDS / f"{values['labels_of']}.yaml")
    return len(values.get("classes") or ())


def expected_tree(name: str, root: Path) -> str:
    """Words that set the folders that a dataset should have beside those that ``root`` holds."""
    facts = facts_of(name)
    found = f"found in {root}:\n{_indented(_listing(root))}"
    return f"expected:\n{_indented(facts.tree)}\n{found}" if facts and facts.tree else found


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.strip("\n").splitlines())


def _listing(root: Path) -> str:
    """The folders of ``root`` with what is in them, and its files, the first few of each."""
    names = _names(root)
    lines = []
    for name in names[:_MOST]:
        is_folder = (root / name).is_dir()
        lines.append(
            f"{_printable(name)}/: {_some(_names(root / name)) or 'empty'}" if is_folder else _printable(name)
        )
    if len(names) > _MOST:
        lines.append(f"and {len(names) - _MOST} more")
    return "\n".join(lines) or "nothing"


def _some(names: list[str]) -> str:
    more = f", {len(names) - _MOST} more" if len(names) > _MOST else ""
    return ", ".join(map(_printable, names[:_MOST])) + more


def _names(folder: Path) -> list[str]:
    """Names of what is in a folder, ascending; none of a file."""
    with reading(folder):
        return sorted(os.listdir(folder)) if folder.is_dir() else []


def _printable(name: str) -> str:
    """A file's name with what no terminal should be sent written as escapes."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)
