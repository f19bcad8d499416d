"""Features of a scan on their way between servers: raw bytes, and beside them what they must be."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...errors import InputError

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
HEADER = "X-Superflow-Features"  # of the response that carries features: their label as JSON


Shape = tuple[int | range, int]  # T and D of features; a range of T where tiles may have fewer tokens


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """Tokens (T, D), float32 or bfloat16, that the model of this hash made of one scan.

    kept: which tiles have their full tokens, the others the short ones; empty where all have, or nobody knows.
    """

    tokens: Tensor
    model: str
    kept: tuple[bool, ...] = ()

    def to_bytes(self) -> tuple[bytes, dict[str, Any]]:
        """The values, little-endian, and their label: shape, dtype, model, checksum."""
        data = self.tokens.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes()
        name = next(name for name, dtype in DTYPES.items() if dtype == self.tokens.dtype)
        label = {
            "shape": list(self.tokens.shape),
            "dtype": name,
            "model": self.model,
            "sha256": checksum(data),
        }
        return data, label


def checksum(data: bytes) -> str:
    """SHA-256 of bytes, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def features_of(data: bytes, label: Any, *, model: str, shape: Shape) -> Features:
    """What ``to_bytes`` gave, without ``kept``, if it is what this model takes.

    Args:
        label: from a stranger: everything in it is checked. model: hash of the own model. shape: what it takes.

    Raises:
        InputError: they come from another model, are of another shape or dtype, or arrived changed or cut.
    """
    if not isinstance(label, Mapping) or set(label) != {"shape", "dtype", "model", "sha256"}:
        raise InputError("features need shape, dtype, model and sha256 beside them, and nothing else")
    if label["dtype"] not in tuple(DTYPES):
        raise InputError(f"features are float32 or bfloat16, not {label['dtype']!r:.40}")
    most, width = shape
    counts = most if isinstance(most, range) else range(most, most + 1)
    given = label["shape"]
    if not (
        isinstance(given, list) and [type(each) for each in given] == [int, int]
        and given[0] in counts and given[1] == width
    ):  # fmt: skip
        takes = [most, width] if isinstance(most, int) else f"[{most.start} to {most.stop - 1}, {width}]"
        raise InputError(f"features are of shape {given!r:.40}, and this model takes {takes}")
    if label["model"] != model:
        raise InputError(
            f"features come from the model {label['model']!r:.20}, and this server runs {model:.12}; "
            "make them with the same folder"
        )
    dtype = DTYPES[label["dtype"]]
    if len(data) != math.prod(given) * dtype.itemsize or checksum(data) != label["sha256"]:
        raise InputError(
            "features arrived cut or changed: their length or sha256 is another; send them again"
        )
    tokens = torch.frombuffer(bytearray(data), dtype=dtype).reshape(given)
    if not bool(torch.isfinite(tokens).all()):
        raise InputError("features hold NaN or infinity; make them again")
    return Features(tokens, model)


def label_of(header: str | None) -> Any:
    """The label in a header of HTTP; None where it holds none."""
    try:
        return json.loads(header or "null")
    except ValueError:
        return None
