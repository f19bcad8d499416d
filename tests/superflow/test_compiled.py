"""Where compiled code is kept: in a folder of this user that nobody else can fill, or nowhere."""

from __future__ import annotations

import errno
import logging
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from numba import types

from superflow import compiled

DIGEST = r"[0-9a-f]{16}"


@pytest.fixture
def package(tmp_path) -> Path:
    """Sources whose compiled code is asked for."""
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "module.py").write_text("x = 1\n")
    return folder


@pytest.fixture
def places(tmp_path, monkeypatch) -> dict[str, Path]:
    """A place for each kind of cache folder, none of which is there yet."""
    found = {name: tmp_path / name for name in ("numba", "xdg", "home", "temporary")}
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(found["numba"]))
    monkeypatch.setenv("XDG_CACHE_HOME", str(found["xdg"]))
    monkeypatch.setenv("HOME", str(found["home"]))
    monkeypatch.setattr(compiled.tempfile, "gettempdir", lambda: str(found["temporary"]))
    found["home"] = found["home"] / ".cache"
    compiled.cache_folder.cache_clear()
    yield found
    compiled.cache_folder.cache_clear()


def found(package: Path) -> Path | None:
    compiled.cache_folder.cache_clear()
    return compiled.cache_folder(package)


ORDER = ["numba", "xdg", "home", "temporary"]


def name_in(place: str) -> str:
    return f"superflow-{os.geteuid()}" if place == "temporary" else "superflow"


@pytest.mark.parametrize("place", ORDER)
def test_the_first_place_that_can_be_written_is_taken_and_is_this_users_alone(package, places, place):
    # a file where the folder should be; a file stops root as well
    for blocked in ORDER[: ORDER.index(place)]:
        places[blocked].parent.mkdir(exist_ok=True)
        places[blocked].write_text("")
    folder = found(package)
    base = places[place] / name_in(place)
    assert folder is not None
    assert folder.parent == base / "numba"
    for level in (base, base / "numba", folder):
        assert stat.S_IMODE(level.stat().st_mode) == 0o700


def test_changed_sources_have_another_folder(package, places):
    before = found(package)
    (package / "other.py").write_text("y = 2\n")
    assert found(package) != before


LEVELS = {"the folder itself": 3, "the one above": 2, "the first": 1}


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("mode", [0o770, 0o777, 0o702, 0o1777])
@pytest.mark.parametrize("place", ORDER)
def test_a_folder_that_others_may_write_is_not_taken(package, places, place, level, mode):
    for blocked in ORDER[: ORDER.index(place)]:
        places[blocked].parent.mkdir(exist_ok=True)
        places[blocked].write_text("")
    folder = found(package)
    parts = folder.relative_to(places[place]).parts[: LEVELS[level]]
    places[place].joinpath(*parts).chmod(mode)
    assert found(package) is None or not found(package).is_relative_to(places[place])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("what", ["another user", "a link"])
def test_a_folder_of_somebody_else_is_not_taken(package, places, monkeypatch, what, level):
    """Whoever knows the name could have made it first, in a folder where everybody may write."""
    for blocked in ORDER[:3]:
        places[blocked].parent.mkdir(exist_ok=True)
        places[blocked].write_text("")
    folder = found(package)
    taken = places["temporary"].joinpath(*folder.relative_to(places["temporary"]).parts[: LEVELS[level]])
    if what == "a link":
        taken.rename(places["temporary"] / "elsewhere")
        taken.symlink_to(places["temporary"] / "elsewhere")
    else:
        lstat = os.lstat

        def of_another(path, **options):
            values = list(lstat(path, **options))
            if Path(path) == taken:
                values[stat.ST_UID] += 1
            return os.stat_result(values)

        monkeypatch.setattr(compiled.os, "lstat", of_another)
    assert found(package) is None


@pytest.mark.parametrize(
    ("mode", "safe"), [(0o755, True), (0o1777, True), (0o777, False), (0o775, False), (0o757, False)]
)
def test_a_home_in_which_others_could_replace_the_folder_is_not_taken(package, places, mode, safe):
    places["numba"].mkdir()
    places["numba"].chmod(mode)
    assert found(package).is_relative_to(places["numba"]) is safe


def test_without_a_place_nothing_is_kept_and_the_code_works(package, places, caplog):
    for place in ORDER:
        places[place].parent.mkdir(exist_ok=True)
        places[place].write_text("")
    with caplog.at_level(logging.WARNING):
        assert found(package) is None
    assert "package is compiled anew in every process; set NUMBA_CACHE_DIR to such a folder" in caplog.text

    def double(x):
        return 2 * x

    compiled.cache_folder.cache_clear()
    made = compiled.compiled()(double)
    assert made(4) == 8
    assert not made.stats.cache_path


def test_a_full_disk_ends_no_work(places, caplog, monkeypatch):
    def full(*_given):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def double(x):
        return 2 * x

    made = compiled.compiled()(double)
    monkeypatch.setattr(made._cache._cache_file, "_save_data", full)
    compiled._tell_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert made(4) == 8
        assert made(4.5) == 9.0
    (said,) = caplog.messages
    assert said.startswith(f"compiled code cannot be kept in {places['numba']}")
    assert "(No space left on device): it is compiled anew in every process" in said
    monkeypatch.undo()
    again = compiled.compiled()(double)
    assert again(4) == 8  # what the index names and is not there is compiled
    assert list(places["numba"].rglob("*.nbc"))


def test_constants_make_no_variants_and_no_entry_for_c_is_made(places):
    @compiled.compiled()
    def scaled(x, factor, squared=False):
        return x * x * factor if squared else x * factor

    @compiled.compiled()
    def sums(x):
        return scaled(x, 2) + scaled(x, 3, True) + scaled(x, 5, squared=True)

    assert sums(2.0) == 4 + 12 + 20
    (kinds,) = {signature[:2] for signature in scaled.signatures}
    assert kinds == (types.float64, types.int64)
    (found,) = sums.overloads.values()
    assert found.fndesc.llvm_cfunc_wrapper_name not in found.library.get_llvm_str()


def test_superpixels_and_the_drive_keep_their_code_there(tmp_path):
    script = """
import sys, pathlib
from superflow.camera.superpixels import slic
from superflow.street import noise
for function in (slic._assign, noise.hash01):
    print(function.stats.cache_path)
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    out = subprocess.run(
        [sys.executable, "-c", script], env=environment, check=True, capture_output=True, text=True
    )
    paths = [Path(line).relative_to(tmp_path / "superflow" / "numba").parts[0] for line in out.stdout.split()]
    assert len(set(paths)) == 2
