"""docs/dependencies.md names what is declared, all of it, and where it is used."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

# what users of image-to-LiDAR code have come to expect
EXPECTED = {
    "torch",
    "spconv-cu120",
    "torch-scatter",
    "mmengine",
    "mmdet3d",
    "nuscenes-devkit",
    "open3d",
    "timm",
}
EXPECTED |= {"numba", "flash-attn"}


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    return (repository / "docs" / "dependencies.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project(repository: Path) -> dict:
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]


def first_cells(page: str, head: str) -> set[str]:
    """Names in the first column of the table with this head."""
    table = page.split(f"\n| {head} |")[1].split("\n\n")[0]
    return set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE))


def test_every_declared_package_is_explained(page, project):
    declared = {re.split(r"[<>=~!]", line)[0] for line in project["dependencies"]}
    assert first_cells(page, "package") == declared


def test_every_extra_is_explained(page, project):
    assert first_cells(page, "extra") == set(project["optional-dependencies"])


def test_what_serves_instead_is_said_of_every_package_users_expect(page):
    assert first_cells(page, "named") == EXPECTED


def test_the_files_named_import_the_package(page, repository):
    modules = {"pillow": "PIL", "scikit-image": "skimage", "opencv-python-headless": "cv2", "pyyaml": "yaml"}
    modules |= {"huggingface-hub": "huggingface_hub", "mmengine-lite": "mmengine"}
    table = page.split("\n| package |")[1].split("\n\n")[0]
    lines = re.findall(r"^\| `([\w-]+)` \|[^|]*\|(.*)\|$", table, re.MULTILINE)
    checked = 0
    for package, places in lines:
        for place in re.findall(r"`([\w/.]+)`", places):
            path = repository / place
            assert path.exists(), f"{package}: {place} does not exist"
            files = path.rglob("*.py") if path.is_dir() else [path]
            imported = rf"(import|from) {modules.get(package, package)}\b"
            assert any(re.search(imported, file.read_text(encoding="utf-8")) for file in files), package
            checked += 1
    assert checked > 10
