"""What is known of one scan: its objects, pose and points, in the frame of the vehicle. JSON and back."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..files.access import each_once
from ..geometry import Transform
from .words import APPLIES, CATEGORIES, MOTIONS, RIDERS, STATUSES

MOVING_M_S = 0.5  # speed from which an object without a status is said to move
SOURCES = ("boxes", "instances", "predictions")


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One object. Frame: ego, x forward, y left, z up [m]; yaw counter-clockwise from x [rad].

    Attributes:
        track: equal over time in a log; of predictions, and of instances that are counted anew, of one scan.
        category: of ``words.CATEGORIES``. size: length, width, height [m].
        velocity: x, y over ground along the axes of the ego frame [m/s]; None where it is not known.
        status: of ``words.STATUSES``; a word that is missing is not known, see ``is_in``.
        points: LiDAR points inside.
    """

    track: str
    category: str
    center: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw: float
    velocity: tuple[float, float] | None = None
    status: tuple[str, ...] = ()
    points: int = 0

    @property
    def range_m(self) -> float:
        """Distance of the centre from the origin of the vehicle, over ground."""
        return math.hypot(self.center[0], self.center[1])

    @property
    def speed(self) -> float | None:
        """Over ground [m/s]; None where it is not known."""
        return None if self.velocity is None else math.hypot(*self.velocity)

    def is_in(self, word: str) -> bool | None:
        """Whether a word of ``words.STATUSES`` is true of it; None where nobody can tell. See ``motion``."""
        if self.category not in APPLIES[word]:
            return False
        told = (
            next((known for known in self.status if known in RIDERS), None) if word in RIDERS else self.motion
        )
        if told is None:
            return None
        if word == "still":
            return told != "moving"
        return None if told == "still" and word != "moving" else told == word

    @property
    def motion(self) -> str | None:
        """The one of ``words.MOTIONS`` that says most of it; None where nobody can tell.

        The dataset's own word counts; without one, motion is told from the velocity, and then not why it stands still.
        """
        told = next((known for known in self.status if known in MOTIONS), None)
        if told is None and self.speed is not None:
            return "moving" if self.speed >= MOVING_M_S else "still"
        return told


@dataclass(frozen=True, slots=True, eq=False)
class SceneRecord:
    """One scan. ``a == b`` compares all but the points by value, and these bit by bit.

    Attributes:
        token: of the scan, unique in its log. scene: the drive; splits keep it whole. time_us: None where not known.
        ego_to_world: (4, 4); None where not known. points: (N, 4) float32 x, y, z [m, ego], intensity or NaN.
        objects: see `SceneObject`. source: of ``SOURCES``, where the objects come from.
    """

    token: str
    scene: str
    objects: tuple[SceneObject, ...]
    source: str = "boxes"
    time_us: int | None = None
    ego_to_world: Transform | None = None
    points: NDArray[np.float32] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SceneRecord) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.token, self.scene))

    def answerable(self, *, min_points: int = 5, max_range_m: float = math.inf) -> SceneRecord:
        """The record with only the objects that the sensor can tell: questions and their answers both see this one."""
        kept = tuple(o for o in self.objects if o.points >= min_points and o.range_m <= max_range_m)
        return replace(self, objects=kept)

    def to_dict(self) -> dict[str, Any]:
        """JSON types; points are the base64 of little-endian float32, so that nothing is rounded."""
        points = None
        if self.points is not None:
            data = np.ascontiguousarray(self.points, dtype="<f4").tobytes()
            points = {"shape": list(self.points.shape), "float32": base64.b64encode(data).decode()}
        return {
            "token": self.token,
            "scene": self.scene,
            "source": self.source,
            "time_us": self.time_us,
            "ego_to_world": None if self.ego_to_world is None else self.ego_to_world.tolist(),
            "objects": [asdict(o) for o in self.objects],
            "points": points,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SceneRecord:
        """What ``to_dict`` gave.

        Raises:
            InputError: something is missing, or is no scene.
        """
        try:
            pose, points = values["ego_to_world"], values["points"]
            return cls(
                token=_text(values, "token"),
                scene=_text(values, "scene"),
                source=_one_of(values["source"], SOURCES, "source"),
                time_us=None if values["time_us"] is None else _whole(values, "time_us"),
                ego_to_world=None if pose is None else _pose(values),
                objects=tuple(_object(o) for o in _listed(values, "objects")),
                points=None if points is None else _points(points),
            )
        except InputError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"this is no scene record ({type(error).__name__}: {error}); write it with SceneRecord.to_json"
            ) from error

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> SceneRecord:
        """What ``to_json`` gave; raises ``InputError`` as ``from_dict`` does."""
        try:
            values = json.loads(text, object_pairs_hook=each_once)
        except ValueError as error:
            raise InputError(
                f"this is no scene record, since it is no JSON ({error}); write it again"
            ) from error
        return cls.from_dict(values)


def _object(values: Mapping[str, Any]) -> SceneObject:
    center, size = _numbers(values, "center", 3), _numbers(values, "size", 3)
    points = _whole(values, "points")
    if min(size) < 0 or points < 0:
        raise ValueError(f"the object {values['track']!r:.40} has a size or points of less than 0")
    return SceneObject(
        track=_text(values, "track"),
        category=_one_of(values["category"], CATEGORIES, "category"),
        status=tuple(_one_of(word, STATUSES, "status") for word in _listed(values, "status")),
        center=center,  # type: ignore[arg-type]
        size=size,  # type: ignore[arg-type]
        velocity=None if values["velocity"] is None else _numbers(values, "velocity", 2),  # type: ignore[arg-type]
        yaw=_finite("yaw", values["yaw"]),
        points=points,
    )


def _pose(values: Mapping[str, Any]) -> Transform:
    rows = _listed(values, "ego_to_world")
    return np.array([_numbers({"ego_to_world": row}, "ego_to_world", 4) for row in rows]).reshape(4, 4)


def _points(values: Mapping[str, Any]) -> NDArray[np.float32]:
    rows, columns = _listed(values, "shape")
    data = np.frombuffer(base64.b64decode(_text(values, "float32"), validate=True), "<f4")
    if columns != 4 or rows != len(data) / 4:
        raise ValueError(f"there are {len(data)} numbers of points and not {rows!r:.20} x 4")
    return data.reshape(-1, 4).astype(np.float32)


def _listed(values: Mapping[str, Any], name: str) -> Sequence[Any]:
    found = values[name]
    if not isinstance(found, list | tuple):
        raise TypeError(f"{name} is no list")
    return found


def _text(values: Mapping[str, Any], name: str) -> str:
    found = values[name]
    if not isinstance(found, str):
        raise TypeError(f"{name} is {found!r:.40} and no text")
    return found


def _whole(values: Mapping[str, Any], name: str) -> int:
    found = values[name]
    if isinstance(found, bool) or not isinstance(found, int):
        raise TypeError(f"{name} is {found!r:.40} and no whole number")
    return found


def _numbers(values: Mapping[str, Any], name: str, count: int) -> tuple[float, ...]:
    found = tuple(_finite(name, value) for value in _listed(values, name))
    if len(found) != count:
        raise ValueError(f"{name} has {len(found)} numbers and not {count}")
    return found


def _finite(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < math.inf:
        raise ValueError(f"{name} has {value!r:.40}, which is no number, or has no end")
    return float(value)


def _one_of(word: Any, known: tuple[str, ...], what: str) -> str:
    if word not in known:
        raise InputError(f"{word!r} is no {what} of a scene record; use one of {', '.join(known)}")
    return str(word)
