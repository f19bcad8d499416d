"""Real driving data for the tests that want it: it lies beside the checkout and is never part of the product."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

# set before torch is imported: spinning OpenMP workers stall when the cores are shared
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout."""
    return REPOSITORY


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
