"""Backbones by name: those that come with the package, and those that a user has put into the registry folder."""

from __future__ import annotations

import os
from pathlib import Path

from ..errors import InputError, MissingFileError

SHIPPED = Path(__file__).parent / "backbones"  # *.safetensors, each with its card inside


def registry_folder() -> Path:
    """Where a user's named backbones lie: ``$SUPERFLOW_HOME``, else ``~/.cache/superflow``.

    Raises:
        InputError: there is no such variable, and the user has no home.
    """
    return with_home(os.environ.get("SUPERFLOW_HOME") or Path("~", ".cache", "superflow"))


def with_home(path: str | Path) -> Path:
    """``path`` with the user's folder in the place of ``~``, another one's in that of ``~NAME``.

    Raises:
        InputError: there is no such user, or nobody knows where the home is, as of a user that only a container knows.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise InputError(
            f"{path}: nobody knows the folder {Path(path).parts[0]}; give the whole path, of named backbones as "
            "SUPERFLOW_HOME"
        ) from error


def registered() -> list[str]:
    """Names of the backbones that can be loaded without a path."""
    return sorted({path.stem for folder in _folders() for path in folder.glob("*.safetensors")})


def find(name_or_path: str | Path) -> Path:
    """The file that a path or a name means; a name in the registry folder goes before one of the package.

    Raises:
        MissingFileError: none; the message lists the names that exist.
        InputError: see `with_home`.
    """
    path = with_home(name_or_path)
    if path.is_file():
        return path
    if path.suffix in (".safetensors", ".pth") or len(path.parts) > 1:
        raise MissingFileError(
            f"{path}: there is no such file; give the folder of a run, an exported .safetensors or a checkpoint .pth"
        )
    for folder in _folders():
        if (named := folder / f"{path.name}.safetensors").is_file():
            return named
    known = ", ".join(registered()) or "none yet"
    raise MissingFileError(
        f'"{path}" is no file and no backbone by name (there: {known}); give the path of an exported file, or put it '
        f"into {_folders()[0]} with `superflow export --install`"
    )


def _folders() -> tuple[Path, ...]:
    """Those with backbones by name; who has no home has those of the package."""
    try:
        return registry_folder(), SHIPPED
    except InputError:
        if os.environ.get("SUPERFLOW_HOME"):
            raise
        return (SHIPPED,)
