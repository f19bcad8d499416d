"""Logs to read and to break."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from small_log import SmallLog

from superflow.datasets.index import LogIndex
from superflow.datasets.sets.nuscenes import write_index

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))  # for log_fuzz and walled_street


@pytest.fixture(scope="session")
def make_small_log() -> type[SmallLog]:
    """For tests that share one log."""
    return SmallLog


@pytest.fixture
def small_log(tmp_path: Path) -> SmallLog:
    """A log that is not written yet."""
    return SmallLog(tmp_path / "log")


class LogToBreak:
    """A small log on disk whose tables are written again and again, and a folder that holds its index at first.

    Its scans, images and labels are links into another folder, which the tables' own names never leave.
    """

    def __init__(self, folder: Path) -> None:
        whole = SmallLog(folder / "whole")
        whole.write()
        self.tables = whole.tables
        self.root = folder / "log"
        self.folder = self.root / whole.version
        self.folder.mkdir(parents=True)
        for path in whole.root.iterdir():
            if path.name != whole.version:
                (self.root / path.name).symlink_to(path)
        self.around = folder / "work"
        self.out = self.around / "some" / "levels" / "below" / "prepared"
        self.write({})
        write_index(self.root, self.out)
        self.index_files = {path.name: path.read_bytes() for path in self.out.iterdir()}

    def write(self, files: dict[str, bytes | None]) -> None:
        """Write the tables: those of ``files`` (None: none), and the others as they were."""
        for name, rows in self.tables.items():
            path = self.folder / f"{name}.json"
            path.unlink(missing_ok=True)
            data = files[name] if name in files else json.dumps(rows).encode()
            if data is not None:
                path.write_bytes(data)

    def restore_index(self) -> None:
        """Put the index of the whole log back."""
        shutil.rmtree(self.around)
        self.out.mkdir(parents=True)
        for name, data in self.index_files.items():
            (self.out / name).write_bytes(data)


@pytest.fixture(scope="session")
def log_to_break(tmp_path_factory: pytest.TempPathFactory) -> LogToBreak:
    """A log for tests that break its tables and restore its index before."""
    return LogToBreak(tmp_path_factory.mktemp("breakable"))


@pytest.fixture(scope="session")
def pandaset_index(pandaset_root: Path, tmp_path_factory: pytest.TempPathFactory) -> LogIndex:
    """Index of the real PandaSet scene with nuScenes names."""
    return write_index(pandaset_root, tmp_path_factory.mktemp("pandaset"), version="v1.0-mini")


@pytest.fixture
def street(small_log):
    """A `walled_street.Street`, to be made wrong."""
    from walled_street import Street

    return Street(small_log)
