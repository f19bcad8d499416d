"""A pipe or a device in the place of a file of a log: refused, or left out, and nothing waits or reads for ever."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import log_fuzz
import pytest
from small_drives import DRIVES

from superflow.datasets.prepare import prepare
from superflow.errors import InputError
from superflow.files.access import read_text

OPTIONS = {"rellis3d": {"rescale_intrinsics": True}}


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Fail where it takes longer, rather than hang."""

    def ring(*_: object) -> None:
        raise AssertionError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def put(kind: str, path: Path) -> None:
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["pipe", "endless device"])
def test_a_text_of_that_kind(kind, tmp_path):
    path = tmp_path / "text.json"
    path.write_text("{}")
    put(kind, path)
    with within(20), pytest.raises(InputError, match=r"text\.json: is a pipe or a device and no file; put"):
        read_text(path)


@pytest.mark.parametrize("name", DRIVES)
def test_each_kind_of_file_of_each_set(name, tmp_path):
    root, out = tmp_path / "root", tmp_path / "out"
    DRIVES[name](root)
    kinds = {(path.suffix, path.parent.name): path for path in sorted(root.rglob("*")) if path.is_file()}
    for number, path in enumerate(kinds.values()):
        whole = path.read_bytes()
        put("endless device" if number % 2 else "pipe", path)
        with within(60):
            try:
                log_fuzz.attempt(lambda: prepare(name, root, out, **OPTIONS.get(name, {})), out, tmp_path)
            except BaseException as error:
                error.add_note(f"{path.relative_to(root)}")
                raise
        path.unlink()
        path.write_bytes(whole)
