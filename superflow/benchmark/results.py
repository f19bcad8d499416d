"""What a result was made of, so that a stopped benchmark is gone on with, and never as another one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..files.access import read_json
from ..files.writes import write_json

AGAIN = "delete its folder to have it measured again"  # what to do about a damaged result
# what results of before do not say, nor what was begun while it was not there
_MAY_LACK = ("teacher features", "superpixels", "scans")
_OF_THIS_CALL = ("work_dir", "data_root", "resume", "load_from", "allow_leakage")


def slug(name: str) -> str:
    """A name as a part of the names of files and folders that runs leave."""
    return file_part(name.lower()).strip("_")


def file_part(name: str) -> str:
    """A name as a part of a file's name, its letters and digits as they are."""
    return "".join(c if c.isalnum() else "_" for c in name)


def hash_of_config(config: Any, places: Mapping[str, str]) -> str:
    """Of all that a config says, with each folder of ``places`` under the name that stands there for it.

    In paths alone: a folder that is called, say, "out" is no part of "dropout".
    """
    from ..engine.registry import as_plain, with_folder

    plain = {key: value for key, value in as_plain(config).items() if key not in _OF_THIS_CALL}
    for folder, name in places.items():
        plain = with_folder(plain, folder, name)
    return json_hash(plain)


def json_hash(value: Any, digits: int = 16) -> str:
    """The first hexadecimal digits of the sha256 of a value as JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:digits]


def differs(result: Path, made_of: Mapping[str, Any]) -> str:
    """Name of what ``result`` was made, or begun, of otherwise; empty where it is of this, or does not say."""
    beside = _beside(result)
    before = read_json(beside, AGAIN) if beside.is_file() else made_of
    said = before.keys() & made_of.keys()
    names = (name for name in (*made_of, *before) if name in said or name not in _MAY_LACK)
    return next((name for name in names if before.get(name) != made_of.get(name)), "")


def claim(result: Path, made_of: Mapping[str, Any], *, remove: str | None = None) -> None:
    """Write beside ``result`` what it is going to be made of, so that a stopped run is not continued as another.

    Args:
        remove: what has to be deleted to make it anew, by default the folder of ``result``.

    Raises:
        InputError: it was made, or begun, of something else.
    """
    beside = _beside(result)
    if name := differs(result, made_of):
        before = read_json(beside, AGAIN)
        raise InputError(
            f"{result}: was made with other {name} ({before.get(name)} instead of {made_of.get(name)}); "
            f"choose another folder for results or delete {remove or beside.parent}"
        )
    # what was begun before something of it was prepared now says of what it is; what is finished does not know
    if not beside.is_file() or not result.is_file():
        write_json(beside, {**(read_json(beside, AGAIN) if beside.is_file() else {}), **made_of})


def _beside(result: Path) -> Path:
    return result.with_suffix(".made_of.json")
