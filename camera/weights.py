"""Weight files: reading without running code from them, and hashes that name them in records."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from ..errors import InputError, MissingFileError
from ..files.access import check_readable


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Tensors of a state dict on the CPU, from ``.safetensors`` or from a file of ``torch.save``.

    A checkpoint that holds its weights under ``state_dict``, ``model`` or ``teacher`` is unpacked.

    Raises:
        MissingFileError, InputError: no such file; not a file of plain tensors (code in it is never run).
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(
            f"{path}: this weight file does not exist; give the path of a .safetensors or .pth file"
        )
    check_readable(path)
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise InputError(
            f"{path}: not readable as weights ({_first_line(error)}); save a plain state dict"
        ) from error
    except Exception as error:  # safetensors has an error class of its own
        if type(error).__name__ != "SafetensorError":
            raise
        raise InputError(f"{path}: not readable as safetensors ({error}); copy the file again") from error
    for key in ("state_dict", "model", "teacher"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise InputError(f"{path}: holds no state dict of tensors; save model.state_dict() there")
    return dict(content)


def file_sha256(path: str | Path) -> str:
    """Hex sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hex sha256 of names, shapes, types and values; for weights that come from no single file."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(value.shape)} {value.dtype};".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def find_in_package(module: str, relative: str) -> Path | None:
    """Path of a file that lies inside an installed package, which is not imported; None if it is not there."""
    spec = find_spec(module)
    for folder in spec.submodule_search_locations or () if spec else ():
        if (Path(folder) / relative).is_file():
            return Path(folder) / relative
    return None


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
