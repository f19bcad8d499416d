"""What the system refuses is one sentence; names from logs stay inside the folder that they are put into."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superflow.errors import InputError, MissingFileError
from superflow.files.access import (
    check_place,
    check_readable,
    file_in,
    make_folder,
    read_json,
    read_json_lines,
    read_text,
    reading,
    writing,
)

pieces = st.sampled_from(["..", ".", "/", "\\", "a", "scene-0001", "\0", "", " ", "ü", "\ud800", "n" * 100])
names = st.lists(pieces, max_size=5).map("".join) | st.text(st.characters(exclude_categories=()))


@given(name=names)
def test_no_name_leads_out_of_the_folder(name):
    folder = Path("/in/some/folder")
    # of a character, which no file system can name
    half = any(0xD800 <= ord(sign) <= 0xDFFF for sign in name)
    usable = name not in ("", ".", "..") and set("/\\\0").isdisjoint(name) and not half
    if not usable or len(name.encode()) > 255:
        with pytest.raises(InputError, match="cannot be the name of a file in it"):
            file_in(folder, name)
        return
    path = file_in(folder, name)
    assert (path.parent, path.name) == (folder, name)
    assert os.path.normpath(path) == str(path)


@pytest.mark.parametrize(
    "name",
    ["../x.png", "/x.png", "..", ".", "", "a/b", "a\\b", "a\0b", "n" * 256, "ü" * 128, "\ud800", "x/../../y"],
)
def test_names_that_are_more_than_a_name_are_refused(name):
    with pytest.raises(
        InputError, match=r"^out: .* cannot be the name of a file in it; rename the token, channel"
    ):
        file_in("out", name)


def refuse(error: OSError) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (
            FileNotFoundError(2, "No such file", "/log/a"),
            MissingFileError,
            r"^/log/a: there is no such file; look$",
        ),
        (
            PermissionError(13, "Permission denied", "/log/a"),
            InputError,
            r"^/log/a: cannot be read \(Permission denied",
        ),
        (
            IsADirectoryError(21, "Is a directory"),
            InputError,
            r"^/log: cannot be read \(Is a directory\); check",
        ),
        (
            OSError(5, "Input/output error", b"/log/b"),
            InputError,
            r"^/log/b: cannot be read \(Input/output error\)",
        ),
    ],
)
def test_what_cannot_be_read_is_named(error, kind, message):
    with pytest.raises(kind, match=message), reading("/log", "look"):
        refuse(error)


@pytest.mark.parametrize("number", [13, 28, 30])
def test_what_cannot_be_written_is_named(number):
    words = os.strerror(number)
    with (
        pytest.raises(InputError, match=rf"^/out/a: cannot be written \({words}\); .* choose another"),
        writing("/out/a"),
    ):
        refuse(OSError(number, words, "/out/.a.part"))


def test_errors_that_have_words_keep_them():
    for context in (reading, writing):
        for error in (InputError("one"), MissingFileError("two")):
            with pytest.raises(type(error)) as caught, context("/other"):
                raise error
            assert caught.value is error


def test_folders_are_made_and_what_is_in_the_way_is_named(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "below" / "it"):
        blocked = rf"{tmp_path}/file is a file, not a folder"
        with pytest.raises(
            InputError, match=rf"^{place}: this folder cannot be made \({blocked}\); choose another"
        ):
            make_folder(place)
        with pytest.raises(InputError, match=rf"^{place}: cannot be written \({blocked}\); choose another"):
            check_place(place)
    before = sorted(tmp_path.rglob("*"))
    check_place(tmp_path / "not" / "yet" / "there")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_without_rights_is_found_before_it_is_needed(tmp_path, ordinary_rights):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    for place in (folder, folder / "below"):
        with pytest.raises(InputError, match=rf"^{place}: cannot be written \(Permission denied\)"):
            check_place(place)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_and_json_are_read_with_and_without_a_byte_order_mark(tmp_path, mark):
    (tmp_path / "a.json").write_bytes(mark + '{"name": "Straße"}'.encode())
    assert read_text(tmp_path / "a.json") == '{"name": "Straße"}'
    assert read_json(tmp_path / "a.json", "mend it") == {"name": "Straße"}
    check_readable(tmp_path / "a.json")


def test_lines_of_json_are_read_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"b": [2]}\n')
    assert read_json_lines(path, "mend it") == [{"a": 1}, {"b": [2]}]
    for wrong in ('{"a": ', "", "[1]", "7", '{"a": 1, "a": 2}', '{"a": 1} {"a": 1}', "[" * 50_000):
        path.write_text('{"a": 1}\n' + wrong + '\n{"a": 1}\n')
        with pytest.raises(
            InputError, match=r"a\.jsonl: line 2 is no (valid JSON|JSON object).*; mend it$"
        ) as caught:
            read_json_lines(path, "mend it")
        assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"nul", b"5", b'"text"', b"[" * 50_000, b"\xff\xfe{\0}\0"]
)
def test_what_is_no_json_object_is_named(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(
        InputError, match=r"a\.json: (is no valid JSON|holds|is not UTF-8 text).*; (mend it|save)"
    ) as caught:
        read_json(tmp_path / "a.json", "mend it")
    assert len(str(caught.value)) < 400
