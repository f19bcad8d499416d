"""What the system refuses of files and folders, as one sentence."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import InputError, MissingFileError

_LONGEST_NAME = 255  # bytes, on every usual file system


def reason(error: OSError) -> str:
    """The system's words for what went wrong, with the file in the way where it is another one."""
    if isinstance(error, FileExistsError | NotADirectoryError) and error.filename is not None:
        place = Path(os.fsdecode(error.filename))
        blocking = next((p for p in (place, *place.parents) if p.exists() and not p.is_dir()), None)
        if blocking is not None:
            return f"{blocking} is a file, not a folder"
    return error.strerror or str(error) or type(error).__name__


def refusal(error: OSError) -> str:
    """One sentence about a file that the system refuses, where nobody nearer had words for it."""
    names = " -> ".join(
        os.fsdecode(n) for n in (error.filename, error.filename2) if isinstance(n, str | bytes)
    )
    return f"{names}: cannot be used ({reason(error)}); check that it exists, the rights to it and the disk"


def _place(error: OSError, path: str | Path) -> str | Path:
    """The file that the system refused, which may lie below ``path``."""
    return os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else path


@contextmanager
def reading(path: str | Path, missing: str = "check the path") -> Iterator[None]:
    """Turn what the system or the encoding refuses while ``path`` is read into an error that names the file.

    Args:
        missing: what to do where there is no such file.

    Raises:
        MissingFileError, InputError: there is no such file; it cannot be read, or is a pipe or a device.
    """
    check_has_an_end(path)
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise MissingFileError(f"{_place(error, path)}: there is no such file; {missing}") from None
    except OSError as error:
        raise InputError(
            f"{_place(error, path)}: cannot be read ({reason(error)}); check the disk and its rights"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: is not UTF-8 text ({error.reason} at byte {error.start}); save or export it as UTF-8"
        ) from error


def check_has_an_end(path: str | Path) -> None:
    """Refuse what may give bytes for ever, or wait for ever to be opened; what is not there is opening's to refuse.

    Raises:
        InputError: it is a pipe, a socket or a device.
    """
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise InputError(f"{path}: is a pipe or a device and no file; put the file itself there")


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Turn what the system refuses while ``path`` is written into an error that names it.

    Raises:
        InputError: the disk is full, or the place cannot be written.
    """
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({reason(error)}); "
            "free some space or choose another folder, the previous file is untouched"
        ) from error


def check_readable(path: str | Path, missing: str = "check the path") -> None:
    """Open the file once: libraries that read it have words of their own for what the system refuses.

    Raises:
        MissingFileError, InputError: as ``reading``.
    """
    with reading(path, missing), open(path, "rb"):
        pass


def read_text(path: str | Path, missing: str = "check the path") -> str:
    """Content of a UTF-8 file, with or without a byte-order mark.

    Raises:
        MissingFileError, InputError: as ``reading``.
    """
    with reading(path, missing):
        return Path(path).read_text(encoding="utf-8-sig")


def read_json(path: str | Path, again: str, missing: str | None = None) -> dict[str, Any]:
    """The JSON object in ``path``; arguments and errors as of ``read_json_value``, and it is no other value."""
    values = read_json_value(path, again, missing)
    if not isinstance(values, dict):
        raise InputError(f"{path}: holds {str(values)[:40]!r} instead of a JSON object; {again}")
    return values


def read_json_value(path: str | Path, again: str, missing: str | None = None) -> Any:
    """The JSON value in ``path``, of whatever type.

    Args:
        again: what to do where it is damaged. missing: where there is none; as ``again`` when None.

    Raises:
        MissingFileError, InputError: as ``reading``; it is no JSON.
    """
    return _value_of(read_text(path, missing or again), f"{path}: is", again)


def read_json_lines(path: str | Path, again: str) -> list[dict[str, Any]]:
    """The JSON objects in ``path``, one a line.

    Args:
        again: what to do where there is no such file, or it is damaged.

    Raises:
        MissingFileError, InputError: as ``reading``; a line is no JSON object, as one that was cut.
    """
    found = []
    for number, line in enumerate(read_text(path, again).splitlines(), start=1):
        value = _value_of(line, f"{path}: line {number} is", again)
        if not isinstance(value, dict):
            raise InputError(f"{path}: line {number} is no JSON object; {again}")
        found.append(value)
    return found


def _value_of(text: str, what: str, again: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=each_once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} no valid JSON ({error}); {again}") from error


def each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values; of a key that stands there twice, the library would take the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:60]!r} stands twice in one object")
    return found


def no_folder(path: str | Path) -> str:
    """What is wrong with a ``path`` that is no folder, as the middle of a sentence."""
    return "is a file, not a folder" if os.path.lexists(path) else "there is no such folder"


def make_folder(path: str | Path) -> Path:
    """``path``, made with its parents where it is not there.

    Raises:
        InputError: it cannot be made; the message names what is in the way.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{path}: this folder cannot be made ({reason(error)}); choose another one"
        ) from error
    return path


def check_place(folder: str | Path) -> None:
    """Try whether files can be written into ``folder``, or into what it will be made in; nothing stays of the trial.

    Called before work whose result goes there, so that the work is not lost.

    Raises:
        InputError: they cannot.
    """
    place = Path(folder).absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be written ({reason(error)}); choose another folder or change its rights"
        ) from error


def file_names(folder: str | Path, ending: str = "") -> list[str]:
    """Names of what lies in ``folder`` and ends so, ascending; none where there is no such folder.

    Names that begin with a dot are passed over: systems leave such files beside those of a log, as ._0001.bin.

    Raises:
        InputError: the folder cannot be listed, or one of these names cannot be printed or written.
    """
    with reading(folder):
        names = os.listdir(folder) if Path(folder).is_dir() else []
    return _sound(folder, sorted(name for name in names if name.endswith(ending) and name[0] != "."))


def folder_names(folder: str | Path, inside: str = "") -> list[str]:
    """Names of the folders in ``folder`` (that have a folder ``inside``), ascending; errors as of ``file_names``."""
    with reading(folder):
        names = os.listdir(folder) if Path(folder).is_dir() else []
        named = (name for name in names if name[0] != "." and Path(folder, name, inside).is_dir())
        return _sound(folder, sorted(named))


def _sound(folder: str | Path, names: list[str]) -> list[str]:
    odd = next((name for name in names if not name.isprintable()), None)  # half characters are not, either
    if odd is not None:
        raise InputError(
            f"{folder}: the name {ascii(odd)[:80]} in it is no text that can be printed; rename the file, or take it "
            "away"
        )
    return names


def is_text(value: Any) -> bool:
    """Whether ``value`` is text that can be printed and written: JSON can name half a character, which cannot."""
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # halves of characters are all that has no form
        return False
    return True


def file_in(folder: str | Path, name: str) -> Path:
    """``folder / name``, never a place outside of ``folder``: for names that come from a log or another file.

    Raises:
        InputError: ``name`` is empty, too long, or holds more than the name of one file.
    """
    plain = name not in ("", ".", "..") and not any(sign in name for sign in "/\\\0")
    if not plain or len(name.encode(errors="replace")) > _LONGEST_NAME or not is_text(name):
        shown = name if len(name) < 80 else f"{name[:60]}... ({len(name)} characters)"
        raise InputError(
            f"{folder}: {shown!r} cannot be the name of a file in it; rename the token, channel or scene "
            "that it is made of and prepare the log again"
        )
    return Path(folder) / name
