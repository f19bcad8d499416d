"""Logs that many tests read: a small one, and real driving data, which lies beside the checkout and is not shipped."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import hypothesis
import pytest

# set before torch is imported: spinning OpenMP workers stall when the cores are shared
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# no test depends on how busy the machine is
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))  # for what tests share


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


@pytest.fixture(autouse=True)
def own_logging() -> Iterator[None]:
    """No test writes to a stream or a file that another test, or what it stands on, logged to and has closed."""
    _forget_handlers()
    yield
    _forget_handlers()


def _forget_handlers() -> None:
    for handler in logging.root.handlers[:]:
        if type(handler) is logging.StreamHandler:  # pytest's own are of other classes
            logging.root.removeHandler(handler)
    package = logging.getLogger("superflow")
    package.handlers, package.propagate = [], True
    package.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def small_index(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`LogIndex` of the small log (`small_log.SmallLog`), unchanged; not to be written to."""
    from small_log import SmallLog

    from superflow.datasets.sets.nuscenes import write_index

    folder = tmp_path_factory.mktemp("small")
    return write_index(SmallLog(folder / "log").write(), folder / "index")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of small real samples beside the checkout."""
    folder = REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(
            f"recorded drives are no part of this repository, and {folder} holds none; made drives are tested"
        )
    return folder


@pytest.fixture(scope="session")
def pandaset_root(shared_data: Path) -> Path:
    """One PandaSet scene in nuScenes schema, unpacked once a machine (test workers wait for one another)."""
    packed = shared_data / "pandaset"
    key = hashlib.sha256((packed / "unpack.py").read_bytes()).hexdigest()[:12]
    target = Path(tempfile.gettempdir()) / f"superflow-tests-pandaset-{os.getuid()}-{key}"
    if not target.is_dir():
        building = Path(tempfile.mkdtemp(dir=target.parent, prefix=target.name))
        subprocess.run([sys.executable, packed / "unpack.py", building], check=True)
        try:
            building.rename(target)
        except OSError:  # another worker was first
            if not target.is_dir():
                raise
    return target


@pytest.fixture
def ordinary_rights() -> Iterator[None]:
    """For the test, the rights written on files and folders bind root, too, as they bind every other user."""
    override = (1 << 1) | (1 << 2)  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH, which only root has
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # the third version; this thread
    before = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; each in two halves
    assert library.capget(header, before) == 0
    lowered = (ctypes.c_uint32 * 6)(*before)
    lowered[0] &= ~override
    assert library.capset(header, lowered) == 0
    try:
        yield
    finally:
        assert library.capset(header, before) == 0


@pytest.fixture(scope="session")
def devkit() -> Callable[[Path, str], Any]:
    """``devkit(root, version)``: the official reader's tables."""
    module = import_module("nuscenes.nuscenes")
    return lambda root, version: module.NuScenes(version=version, dataroot=str(root), verbose=False)
