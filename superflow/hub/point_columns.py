"""Points of a user as the encoder takes them, whatever array, tensor or list they come in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import InputError

NAMES = ("x", "y", "z", "intensity")
_INTENSITY = NAMES.index("intensity")
MOST_COLUMNS = 16  # no sensor gives more: a wider table with as few rows lies on its side
_NUMBERS = "biufO"  # kinds of NumPy types that hold numbers, or objects that may be


def read_columns(points: Any, columns: Sequence[int], *, needs_intensity: bool = True) -> Tensor:
    """(N, C) float32 copy of the points, on their device, where C reaches to the last of ``columns``, at least 4.

    Args:
        points: (N, C or more) array of any numbers, byte order and strides, structured array with the fields x, y, z
            and intensity, data frame (by these names, where it has them), tensor, or lists. It is not changed.
        columns: those that are read. The others are zero in the copy, whatever they hold.
        needs_intensity: without, intensity may be NaN, or be missing (a table of three columns, a structured array
            without that field), and is then NaN in the copy.

    Raises:
        InputError: another shape (a transposed one is named), no numbers, or one of ``columns`` holds NaN or infinity.
    """
    points = _plain_tensor(points) if isinstance(points, Tensor) else _as_array(points)
    if not needs_intensity:
        points = _with_intensity(points)
    if isinstance(points, Tensor):
        table = _from_tensor(points, columns)
    else:
        table = torch.from_numpy(_from_array(points, columns))
    finite = table.isfinite()
    if not needs_intensity:
        finite[:, _INTENSITY] |= table[:, _INTENSITY].isnan()
    if not bool(finite.all()):
        _name_columns(finite)
    return table


def _plain_tensor(points: Tensor) -> Tensor:
    kinds = {
        f"{points.layout}": points.layout != torch.strided,
        "nested": points.is_nested,
        f"{points.dtype}": points.is_quantized or points.is_complex(),
        # a class of tensors of its own may keep its values elsewhere
        "on the device meta": points.is_meta and type(points.detach()) is Tensor,
    }
    if found := [kind for kind, has_no_real_rows in kinds.items() if has_no_real_rows]:
        raise InputError(f"points are a tensor that is {found[0]}; give a dense one of real numbers")
    return points.detach()


def _from_tensor(points: Tensor, columns: Sequence[int]) -> Tensor:
    _check_shape(tuple(points.shape), columns)
    table = torch.zeros(len(points), _width(columns), dtype=torch.float32, device=points.device)
    for column in columns:
        table[:, column] = points[:, column]
    return table


def _as_array(points: Any) -> NDArray[Any]:
    try:
        if (order := _named_columns(points)) is not None:
            return np.column_stack([np.asarray(points[name]) for name in order])
        masked = isinstance(points, np.ma.MaskedArray)  # what is masked is no number
        return points.astype(np.float64).filled(np.nan) if masked else np.asarray(points)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"points are a {type(points).__name__} that is no table of numbers ({error}); "
            "give one row a point: x, y, z, intensity"
        ) from error


def _named_columns(points: Any) -> list[Any] | None:
    """Columns of a data frame by their names: x, y, z, intensity, then others; None where it does not name these."""
    found = getattr(points, "columns", ())
    names = {} if callable(found) else {str(name).lower(): name for name in found}
    if len(names) < len(found) or not (set(NAMES) <= names.keys() or names.keys() == set(NAMES[:3])):
        return None
    return [names[name] for name in dict.fromkeys((*NAMES, *names)) if name in names]


def _with_intensity(points: Tensor | NDArray[Any]) -> Tensor | NDArray[Any]:
    """The points with an intensity that is NaN, where they have none."""
    if isinstance(points, Tensor):
        if points.ndim == 2 and points.shape[1] == _INTENSITY:
            return torch.cat(
                [points, points.new_full((len(points), 1), torch.nan, dtype=torch.float32)], dim=1
            )
        return points
    if points.dtype.names is None:
        if points.ndim == 2 and points.shape[1] == _INTENSITY:
            return np.column_stack([points, np.full(len(points), np.nan)])
        return points
    if "intensity" in map(str.lower, points.dtype.names):
        return points
    fields = {name: points[name] for name in points.dtype.names}
    wider = np.empty(
        points.shape, [*((name, values.dtype) for name, values in fields.items()), ("intensity", "f4")]
    )
    for name, values in fields.items():
        wider[name] = values
    wider["intensity"] = np.nan
    return wider


def _from_array(array: NDArray[Any], columns: Sequence[int]) -> NDArray[np.float32]:
    if array.dtype.names is not None:
        parts = _fields(array, columns)
    else:
        if array.shape == (0,):  # an empty list
            array = array.reshape(0, _width(columns))
        _check_shape(array.shape, columns)
        parts = {column: array[:, column] for column in columns}
    table = np.zeros((len(array), _width(columns)), dtype=np.float32)
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is refused by name
        for column, values in parts.items():
            if values.dtype.kind not in _NUMBERS:
                raise InputError(f"points: {_name(column)} is of type {values.dtype}; give numbers")
            try:
                table[:, column] = values
            except (TypeError, ValueError) as error:
                raise InputError(f"points: {_name(column)} is no column of numbers ({error})") from error
    return table


def _fields(array: NDArray[Any], columns: Sequence[int]) -> dict[int, NDArray[Any]]:
    """Columns of a structured array: x, y, z and intensity by name, then its further fields in their order."""
    names = {name.lower(): name for name in array.dtype.names or ()}
    further = [name for name in names if name not in NAMES]
    order = [*NAMES, *further]
    wanted = {column: order[column] if column < len(order) else f"column {column}" for column in columns}
    missing = [name for name in wanted.values() if name not in names]
    if missing or array.ndim != 1:
        raise InputError(
            f"points is a structured array of shape {array.shape} with the fields {', '.join(names.values())}; "
            f"give shape (N,) with the fields {', '.join(wanted.values())}"
        )
    return {column: array[names[name]] for column, name in wanted.items()}


def _check_shape(shape: tuple[int, ...], columns: Sequence[int]) -> None:
    if len(shape) == 2 and 3 <= shape[0] <= MOST_COLUMNS < shape[1]:
        raise InputError(
            f"points has shape {shape} and looks transposed; give points.T, one row a point, "
            f"or points[:, :4] if these are {shape[0]} points"
        )
    if len(shape) != 2 or shape[1] < _width(columns):
        more = "".join(f", {_name(column)}" for column in columns if column > 3)
        raise InputError(f"points has shape {shape}; give (N, {_width(columns)}+): x, y, z, intensity{more}")


def _name_columns(finite: Tensor) -> None:
    names = ", ".join(_name(column) for column in (~finite).any(dim=0).nonzero()[:, 0].tolist())
    rows = (~finite.all(dim=1)).nonzero()[:, 0]
    raise InputError(
        f"points: {names}: NaN, infinity or a number beyond float32 in {len(rows)} of {len(finite)} rows, "
        f"the first is row {int(rows[0])}; remove these rows first"
    )


def _width(columns: Sequence[int]) -> int:
    return max(*columns, 3) + 1


def _name(column: int) -> str:
    return f"column {column} ({NAMES[column]})" if column < len(NAMES) else f"column {column}"
