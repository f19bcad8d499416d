"""Files are whole or not there: with many writers, after kills, and with the rights that a new file has."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from superflow.errors import InputError, MissingFileError
from superflow.files.writes import building, remove_leftovers, write_atomically, write_json, write_text

FILES, LENGTH = 200, 50_000


def _write_all(folder: str, mark: int) -> None:
    for number in range(FILES):
        with write_atomically(Path(folder) / f"{number}.bin", sync=False) as file:
            for _ in range(10):  # in pieces, between which the other one writes
                file.write(bytes([mark]) * (LENGTH // 10))


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_two_writers_of_the_same_files_leave_each_whole(tmp_path, kind):
    make = threading.Thread if kind == "threads" else multiprocessing.get_context("spawn").Process
    writers = [make(target=_write_all, args=(str(tmp_path), mark)) for mark in (1, 2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(os.listdir(tmp_path)) == sorted(f"{number}.bin" for number in range(FILES))
    whole = {bytes([mark]) * LENGTH for mark in (1, 2)}
    assert [number for number in range(FILES) if (tmp_path / f"{number}.bin").read_bytes() not in whole] == []


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_a_written_file_has_the_rights_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        with write_atomically(tmp_path / "a" / "b.txt", "w") as file:
            file.write("x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a" / "b.txt").stat().st_mode) == 0o666 & ~umask


def test_text_is_utf_8_whatever_the_locale_says(tmp_path):
    script = (
        "from superflow.files.writes import write_atomically\n"
        "with write_atomically('a.txt', 'w') as file: file.write('Z\\u00fcrich \\u6771\\u4eac')"
    )
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "a.txt").read_bytes() == "Zürich 東京".encode()


def test_text_and_json_are_whole_files(tmp_path):
    write_text(tmp_path / "a" / "b.txt", "Zürich\n")
    assert (tmp_path / "a" / "b.txt").read_bytes() == "Zürich\n".encode()
    value = {"places": [1, 2.5, None], "of": "Zürich"}
    for indent in (1, None):
        write_json(tmp_path / "b.json", value, indent=indent)
        assert (tmp_path / "b.json").read_text() == json.dumps(value, indent=indent)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "b.json", float("nan"), allow_nan=False)
    assert json.loads((tmp_path / "b.json").read_text()) == value


@pytest.mark.parametrize("length", [1, 200, 255])
def test_a_name_may_be_as_long_as_the_disk_allows(tmp_path, length):
    with write_atomically(tmp_path / ("n" * length), "w") as file:
        file.write("x")
    assert os.listdir(tmp_path) == ["n" * length]


def half_write(path: Path, error: Exception) -> None:
    with write_atomically(path, "w") as file:
        file.write("half")
        raise error


@pytest.mark.parametrize("error", [KeyError("no key"), InputError("another"), MissingFileError("another")])
def test_an_error_in_the_block_leaves_the_old_file_and_passes_unchanged(tmp_path, error):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(type(error)) as caught:
        half_write(path, error)
    assert caught.value is error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


DYING = """
import os, signal, sys
from superflow.files.writes import write_atomically
with write_atomically(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    if sys.argv[2] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    print("writing", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    command = [sys.executable, "-c", DYING]
    dead = subprocess.run([*command, tmp_path / "dead.bin", "die"])
    assert dead.returncode == -signal.SIGKILL
    assert [name[:9] for name in os.listdir(tmp_path)] == [".dead.bin"]
    (tmp_path / ".old.bin.999999999.part").touch()  # as an older version named them
    (tmp_path / ".hidden.part").touch()  # nobody's, as far as the name tells
    with subprocess.Popen(
        [*command, tmp_path / "alive.bin", "live"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as alive:
        assert alive.stdout.readline() == b"writing\n"
        remove_leftovers(tmp_path)
        assert sorted(name[:10] for name in os.listdir(tmp_path)) == [".alive.bin", ".hidden.pa"]
        alive.stdin.close()
    assert sorted(os.listdir(tmp_path)) == [".hidden.part", "alive.bin"]


def test_the_first_write_into_a_folder_clears_it(tmp_path):
    (tmp_path / ".a.bin.0123456789abcdef.part").touch()
    with write_atomically(tmp_path / "b.bin"):
        pass
    assert os.listdir(tmp_path) == ["b.bin"]


# --- one builder at a time


def test_a_second_builder_says_that_it_waits_and_waits(tmp_path, caplog):
    order = []

    def build(name: str) -> None:
        with building(tmp_path / "cache"):
            order.append(f"{name} begins")
            time.sleep(0.05)
            order.append(f"{name} ends")

    with caplog.at_level(logging.WARNING), building(tmp_path / "cache"):
        others = [threading.Thread(target=build, args=(name,)) for name in ("b", "c")]
        for other in others:
            other.start()
        while len(caplog.records) < 2:
            time.sleep(0.001)
        order.append("a ends")
    for other in others:
        other.join()
    assert order[0] == "a ends"
    assert sorted(order[1:3]) in (["b begins", "b ends"], ["c begins", "c ends"])
    assert {record.getMessage() for record in caplog.records} == {
        f"{tmp_path / 'cache'}: another process is building here; waiting until it has finished"
    }
    assert os.listdir(tmp_path / "cache") == []


def test_a_second_builder_is_refused_where_it_shall_not_wait(tmp_path):
    with building(tmp_path, ".training", busy="somebody is at work"), building(tmp_path):  # of another name
        began = time.monotonic()
        with (
            pytest.raises(InputError, match=rf"^{re.escape(str(tmp_path))}: somebody is at work$"),
            building(tmp_path, ".training", busy="somebody is at work", patience_s=0.15),
        ):
            raise AssertionError("there are two")
        assert time.monotonic() - began > 0.15
    with building(tmp_path, ".training", busy="somebody is at work"):
        pass
    assert os.listdir(tmp_path) == []


def test_a_builder_that_was_killed_holds_nobody_up(tmp_path):
    script = (
        "import os, signal, sys\nfrom superflow.files.writes import building\n"
        "with building(sys.argv[1]): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", script, tmp_path]).returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == [".building"]
    with building(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_builder_that_fails_holds_nobody_up(tmp_path):
    with pytest.raises(InputError, match=r"^no image$"), building(tmp_path):
        raise InputError("no image")
    with building(tmp_path):
        pass


@pytest.mark.parametrize("number", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_disk_without_locks_is_written_and_builders_are_told(tmp_path, monkeypatch, caplog, number):
    import errno

    from superflow.files import locks

    def refuse(*_: object) -> None:
        raise OSError(getattr(errno, number), "no locks")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    leftover = tmp_path / ".a.bin.0123456789abcdef.part"
    leftover.touch()
    with building(tmp_path), write_atomically(tmp_path / "b.bin") as file:
        file.write(b"whole")
    assert (tmp_path / "b.bin").read_bytes() == b"whole"
    assert leftover.exists(), "nobody can know whether its writer lives"
    assert "there are no locks on this disk; let no other process build here" in caplog.text
