"""Files of a log by a pattern such as ``{scene}/lidar/*.pcd``: drives and the stems of their files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...files.access import file_names, folder_names, is_text
from ..card_keys import shorten
from ..names import in_number_order

SCENE = "{scene}"  # stands for a folder, one a drive
_FORM = "below the log's root with one * in its last part, as in lidar/*.bin or {scene}/lidar/*.bin"


@dataclass(frozen=True, slots=True)
class FilePattern:
    """``parts`` of a path: one may be ``{scene}``, the last has one ``*``."""

    parts: tuple[str, ...]

    @classmethod
    def read(cls, path: Path, key: str, text: Any) -> FilePattern:
        """The pattern ``text`` under ``key`` of the layout ``path``.

        Raises:
            InputError: it is none, or leads out of the log's root.
        """
        parts = tuple(text.split("/")) if is_text(text) else ("",)
        if not _is_below(parts) or parts[-1].count("*") != 1 or any("*" in part for part in parts[:-1]):
            raise InputError(f"{path}: {key} is {shorten(text)}; it must be a path {_FORM}")
        return cls(parts)

    @property
    def ending(self) -> str:
        """What the file names end with, as ``.bin``."""
        return self.parts[-1].rpartition("*")[2]

    def scenes(self, root: Path, default: str) -> list[str]:
        """Names of the drives, ascending; ``default`` where the pattern knows none."""
        if SCENE not in self.parts:
            return [default]
        place = self.parts.index(SCENE)
        above = root.joinpath(*self.parts[:place])
        return [name for name in folder_names(above) if (root / self._folder(name)).is_dir()]

    def files(self, root: Path, scene: str) -> dict[str, str]:
        """Stem (what stands for the ``*``) of each file of a drive -> its path from the root; numbers in order."""
        folder = self._folder(scene)
        before, _, after = self.parts[-1].partition("*")
        found = {
            name[len(before) : len(name) - len(after)]: f"{folder}/{name}".lstrip("/")
            for name in file_names(root / folder, after)
            if name.startswith(before) and len(name) > len(before) + len(after)
        }
        return dict(sorted(found.items(), key=lambda pair: in_number_order(pair[0])))

    def other_case(self, root: Path, scene: str) -> list[str]:
        """Names of the files that the pattern would mean if small and capital letters were alike."""
        before, _, after = (part.lower() for part in self.parts[-1].partition("*"))
        return [
            name
            for name in file_names(root / self._folder(scene))
            if name.lower().startswith(before)
            and name.lower().endswith(after)
            and not (name.startswith(self.parts[-1].partition("*")[0]) and name.endswith(self.ending))
        ]

    def _folder(self, scene: str) -> str:
        return "/".join(scene if part == SCENE else part for part in self.parts[:-1])


def _is_below(parts: tuple[str, ...]) -> bool:
    """Whether these parts of a path lead downwards from a folder, and are what names of files can be."""
    return all(
        part not in ("", ".", "..") and not re.search(r"[\\\0]", part) and part.isprintable()
        for part in parts
    )


def is_path_below(value: Any) -> bool:
    """Whether ``value`` is a path, with slashes, that leads downwards from a folder."""
    return is_text(value) and _is_below(tuple(value.split("/")))
