"""A small prepared log with boxes: the one that the reader's tests are made with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from superflow.datasets.index import LogIndex
from superflow.datasets.nuscenes import write_index


@pytest.fixture(scope="session")
def small_index(tmp_path_factory) -> LogIndex:
    """Two scenes of four key frames; the vehicle drives and turns."""
    path = Path(__file__).resolve().parents[2] / "datasets" / "conftest.py"
    spec = importlib.util.spec_from_file_location("reader_tests", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("small_index")
    module.SmallLog(folder / "log").write()
    write_index(folder / "log", folder / "prepared")
    return LogIndex.open(folder / "prepared")
