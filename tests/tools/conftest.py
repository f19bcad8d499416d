"""A small prepared log for commands to run on: the one that the reader's tests are made with."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


def _reader_tests() -> ModuleType:
    """tests/datasets/conftest.py, which writes a log whose every number is known."""
    path = Path(__file__).resolve().parent.parent / "datasets" / "conftest.py"
    spec = importlib.util.spec_from_file_location("reader_tests", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def write_small_log() -> Callable[[Path], Path]:
    """Writes a log of two scenes with four key frames, nine sweeps between them and two cameras; returns its root."""
    small_log = _reader_tests().SmallLog
    return lambda root: small_log(root).write()


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
