"""A small prepared log for commands to run on: the one that the reader's tests are made with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from small_log import SmallLog


@pytest.fixture(scope="session")
def write_small_log() -> Callable[[Path], Path]:
    """Writes a log of two scenes with four key frames, nine sweeps between them and two cameras; returns its root."""
    return lambda root: SmallLog(root).write()


@pytest.fixture(scope="session")
def prepared_log(write_small_log, tmp_path_factory) -> Path:
    """Folder with ``log`` and ``prepared`` (index, superpixels, teacher features); to be copied, not to be changed."""
    from superflow.tools.prepare import main

    folder = tmp_path_factory.mktemp("prepared_log")
    write_small_log(folder / "log")
    prepared = str(folder / "prepared")
    images = ["--index", prepared]
    assert main(["nuscenes", "--root", str(folder / "log"), "--out", prepared]) == 0
    assert main(["superpixels", *images, "--workers", "1", "--option", "segments=8"]) == 0
    options = ["--teacher", "filter_bank", "--size", "32", "64", "--components", "8"]
    assert main(["features", *images, *options]) == 0
    return folder


@pytest.fixture
def log_copy(prepared_log: Path, tmp_path: Path) -> Path:
    """A copy of the prepared log that a test may break: ``log`` and ``prepared``."""
    place = tmp_path / "case"
    shutil.copytree(prepared_log, place)
    header = place / "prepared" / "index.json"
    header.write_text(json.dumps({**json.loads(header.read_text()), "root": str(place / "log")}))
    return place
