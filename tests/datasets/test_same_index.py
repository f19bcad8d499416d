"""The index of a log and a made drive are equal on every machine: BLAS, which rounds in each CPU's way, has no part."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_drives import EVERY

from superflow.datasets.catalogue import facts_of
from superflow.datasets.prepare import prepare
from superflow.street.drive import DriveSettings, make_drive
from superflow.street.variation import GROUPS

KERNELS = ("Nehalem", "Haswell")  # of OpenBLAS: the first one's have no fused multiply-add
PREPARE = """
import sys
from test_same_index import prepare_each, product
from pathlib import Path
print(product(), *prepare_each(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def product() -> str:
    """The last bits of what BLAS multiplies."""
    values = np.random.default_rng(0).standard_normal((2, 64, 64))
    return (values[0] @ values[1]).tobytes().hex()[-64:]


def prepare_each(logs: Path, out: Path) -> list[str]:
    """Hashes of the indices of every set's drive below ``logs``, and of a drive that is made here."""
    made = DriveSettings(seconds=1.0, images=False, vary=GROUPS)
    drive = make_drive(out / "drive", scenes=2, settings=made)
    found = [prepare("nuscenes", drive, out / "made").hash]
    for name in EVERY:
        fitting = {"rescale_intrinsics": True} if facts_of(name).cameras else {}
        index = prepare(name, logs / name, out / name, sweep_compensation=False, **fitting)
        found.append(f"{name}:{index.hash}")
    return found


def test_no_kernel_of_blas_changes_an_index_or_a_drive(tmp_path):
    for name, write in EVERY.items():
        write(tmp_path / "logs" / name)
    said = {}
    for kernel in KERNELS:
        command = [sys.executable, "-c", PREPARE, str(tmp_path / "logs"), str(tmp_path / kernel)]
        environment = {**os.environ, "OPENBLAS_CORETYPE": kernel, "OMP_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr
        said[kernel] = ran.stdout.splitlines()[-1].split()
    first, second = said.values()
    if first[0] == second[0]:
        pytest.skip("numpy's BLAS here is no OpenBLAS with kernels of several CPUs")
    assert first[1:] == second[1:]


def test_transforms_of_an_index_are_composed_without_blas(repository: Path):
    """Only what moves points, checks or corrupts them multiplies by @ or calls LAPACK."""
    of_points = {"file_cloud.py", "formats/waymo_points.py", "card_file.py", "own_logs/motion_files.py"}
    for path in sorted((repository / "datasets").rglob("*.py")):
        name = path.relative_to(repository / "datasets").as_posix()
        if name in of_points or name.split("/")[0] in ("check", "corruptions"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.BinOp):
                assert not isinstance(node.op, ast.MatMult), f"{name}:{node.lineno}: take geometry.compose"
            if isinstance(node, ast.Attribute) and node.attr in ("svd", "inv", "solve", "dot", "matmul"):
                assert ast.unparse(node.value) not in ("np", "np.linalg"), f"{name}:{node.lineno}: LAPACK"
