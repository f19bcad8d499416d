"""The part of a cloud that a model looks at."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError

Count = int | tuple[int, int] | None  # of points: at most so many, drawn anew between two numbers, or all


def draw_count(total: int, limit: Count, draw: Callable[[], float]) -> int:
    """How many of ``total`` points of a cloud stay.

    Args:
        limit: at most so many; a pair (least, most) draws the number, evenly in its logarithm, so that a student sees
            thin clouds and whole ones; None keeps all.
        draw: gives a number in [0, 1); called only for a pair.

    Raises:
        InputError: a pair that does not ascend from 1 on, or a negative number.
    """
    if limit is None:
        return total
    if isinstance(limit, int) and limit >= 0:
        return min(total, limit)
    if isinstance(limit, int) or not 1 <= limit[0] <= limit[1]:
        raise InputError(f"the number of points is {limit!r}; give a number or an ascending pair of numbers")
    least, most = limit
    most = max(min(most, total), least)  # numbers above what the cloud has would all mean the whole cloud
    return min(total, round(least * (most / least) ** draw()))


@dataclass(frozen=True, slots=True)
class Limits:
    """A ring around the sensor with floor and ceiling, in the lidar frame [m].

    range_m: horizontal distance, from and to. height_m: z, from and to.
    """

    range_m: tuple[float, float] = (0.0, math.inf)
    height_m: tuple[float, float] = (-math.inf, math.inf)

    def __post_init__(self) -> None:
        for name in ("range_m", "height_m"):
            given = getattr(self, name)
            try:
                value = tuple(float(border) for border in given)
            except (TypeError, ValueError):
                value = ()
            if len(value) != 2 or not value[0] < value[1]:
                shown = list(value) or given
                raise InputError(f"limits.{name} is {shown!r}; give two ascending numbers in metres")
            object.__setattr__(self, name, value)

    def mask(self, points: Tensor) -> Tensor:
        """(N,) bool, True for ``points`` (N, 3+) inside, borders included."""
        distance = torch.linalg.vector_norm(points[:, :2], dim=1)
        return (
            (distance >= self.range_m[0])
            & (distance <= self.range_m[1])
            & (points[:, 2] >= self.height_m[0])
            & (points[:, 2] <= self.height_m[1])
        )

    def record(self) -> dict[str, list[float | None]]:
        """Plain lists, None for no border; ``Limits.from_record`` reads them."""
        return {
            name: [border if math.isfinite(border) else None for border in value]
            for name, value in asdict(self).items()
        }

    @classmethod
    def from_record(cls, record: dict[str, list[float | None]] | Limits | None) -> Limits | None:
        """Limits from a config or a card; None stays None.

        Raises:
            InputError: no mapping, an unknown key, or what is no two borders that ascend.
        """
        if record is None or isinstance(record, Limits):
            return record
        if not isinstance(record, Mapping):
            raise InputError(f"limits are {record!r}; give their keys range_m and height_m")
        unknown = set(record) - {"range_m", "height_m"}
        if unknown:
            raise InputError(f"limits has no {sorted(unknown)[0]!r}; its keys are range_m and height_m")

        def borders(value: Any) -> Any:
            if not isinstance(value, list | tuple) or len(value) != 2:
                return value  # which is refused
            low, high = value
            return (-math.inf if low is None else low, math.inf if high is None else high)

        return cls(**{name: borders(value) for name, value in record.items()})

    @classmethod
    def both(cls, *records: dict[str, list[float | None]] | Limits | None) -> Limits | None:
        """The region inside all of ``records``; None of them is everywhere.

        Raises:
            InputError: a record cannot be read, or there is no such region.
        """
        given = [limits for limits in map(cls.from_record, records) if limits is not None]
        if not given:
            return None

        def common(borders: list[tuple[float, float]]) -> tuple[float, float]:
            return max(low for low, _ in borders), min(high for _, high in borders)

        return cls(common([one.range_m for one in given]), common([one.height_m for one in given]))
