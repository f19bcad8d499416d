"""A drive whose files are broken one after the other: what its reader says, and that it stays where it may be."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import log_fuzz
from file_faults import FORBIDDEN, break_one

forbidden = {Path(path).name for path in FORBIDDEN}
opened: list[str] = []  # what Python opened of these, but for the comparison of files before and after


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if event == "open" and isinstance(arguments[0], str) and Path(arguments[0]).name in forbidden:
        caller: FrameType | None = sys._getframe()
        while caller is not None and caller.f_code is not log_fuzz._content.__code__:
            caller = caller.f_back
        if caller is None:
            opened.append(arguments[0])


sys.addaudithook(_note)


class Whole:
    """The files of a drive that is whole, and a way back to them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files = {path: path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        self.facts = {path: log_fuzz.facts(path) for path in self.files}

    def restore(self) -> None:
        """Take away what is new, and write what is another file than before."""
        for folder, folders, names in os.walk(self.root):
            for path in (Path(folder, name) for name in (*folders, *names)):
                if path.is_symlink() or (path not in self.files and path.is_file()):
                    path.unlink()
        for path, data in self.files.items():
            if path.is_dir():
                path.rmdir()
            if not path.is_file() or log_fuzz.facts(path) != self.facts[path]:
                path.write_bytes(data)
                self.facts[path] = log_fuzz.facts(path)


def refusals(
    read: Callable[[], object],
    drive: Path,
    tmp_path: Path,
    *,
    tries: int,
    choose: Callable[[random.Random, int], Path],
    name: str,
    deep: int,
) -> set[str]:
    """All that is said of a drive that is well at first, and then has one broken file after the other.

    Args:
        read: of the drive, into ``tmp_path / "work/out"``. choose: the file that is broken next, by the try.
        name: of the seeds. deep: every so many tries what was taken is used.
    """
    out = tmp_path / "work/out"
    for secret in (tmp_path / "secret.bin", tmp_path / "work/secret.bin"):
        secret.write_bytes(b"\0" * 80)
    opened.clear()
    assert log_fuzz.attempt(read, out, tmp_path) is None, "it is well"
    whole = Whole(drive)
    told: set[str] = set()
    for seed in range(tries):
        rng = random.Random(f"{name} {seed}")
        path = choose(rng, seed)
        did = break_one(rng, path)
        try:
            said = log_fuzz.attempt(read, out, tmp_path, deep=seed % deep == 0, told=told)
        except BaseException as error:
            error.add_note(f"seed {seed}: {did} of {path}")
            raise
        told |= {said} - {None}
        whole.restore()
    assert opened == []
    return told
