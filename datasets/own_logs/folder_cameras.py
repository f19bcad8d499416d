"""The cameras of an own log: how each sees and where it is mounted, as its ``folder.yaml`` says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ...files.access import is_text
from ...geometry import Transform, invert, matrix_of, nearest_rotation
from ..card_keys import only_keys, shorten
from ..formats.yaml_files import read_yaml
from ..records import CAMERA_MODELS, FISHEYE, PINHOLE, RADIAL_TANGENTIAL, Lens
from .file_pattern import FilePattern, is_path_below
from .motion_files import Times, read_late, read_time

ROS_MODELS = {  # distortion_model of a CameraInfo
    **{"": PINHOLE, "none": PINHOLE, "plumb_bob": RADIAL_TANGENTIAL, "radtan": RADIAL_TANGENTIAL},
    **{"rational_polynomial": RADIAL_TANGENTIAL, "equidistant": FISHEYE, "fisheye": FISHEYE},
}
_KEYS = (
    *("images", "intrinsics", "size", "model", "distortion", "camera_info"),
    *("lidar_to_camera", "camera_to_lidar", "times", "late_s", "max_delay_s"),
)
_LARGEST = 1e6  # of pixels and metres of a calibration


@dataclass(frozen=True, slots=True)
class CameraLayout:
    """One camera of a log: its files, its lens (a size of 0 is taken from the images), and where it is."""

    images: FilePattern
    lens: Lens
    camera_to_lidar: Transform
    times: Times | None
    late_s: float  # by which the times come after the shutter
    max_delay_s: float  # between an image and its scan


def read_cameras(root: Path, path: Path, value: Any) -> dict[str, CameraLayout]:
    """The cameras under ``cameras`` of the layout ``path``, or in the YAML file below ``root`` that it names.

    Raises:
        InputError: a key is unknown, or holds something else than it must.
    """
    if isinstance(value, str):
        if not is_path_below(value):
            raise InputError(
                f"{path}: cameras is {shorten(value)}; it must be a YAML file below the log's root"
            )
        path = root / value
        value = read_yaml(path)
    found = {}
    for name, one in value.items():
        of = f"the camera {name!r}"
        if not is_text(name) or not isinstance(one, dict):
            raise InputError(
                f"{path}: {of} is {shorten(one)}; it must be keys and values, see docs/own_data.md"
            )
        only_keys(path, one, _KEYS, of=of)
        delay_s = one.get("max_delay_s", 0.05)
        if type(delay_s) not in (int, float) or not 0 < delay_s <= 3600:
            raise InputError(f"{path}: max_delay_s of {of} is {shorten(delay_s)}; it must be seconds above 0")
        times = read_time(path, f"times of {of}", one.get("times"))
        if one.get("late_s") is not None and times is None:
            raise InputError(f"{path}: {of} has late_s and no times that could be late; add them")
        found[name] = CameraLayout(
            images=FilePattern.read(path, f"images of {of}", one.get("images")),
            lens=_lens(root, path, of, one),
            camera_to_lidar=_mount(path, of, one),
            times=times,
            late_s=read_late(path, of, one.get("late_s", 0)),
            max_delay_s=float(delay_s),
        )
    return found


def _mount(path: Path, of: str, one: Mapping[str, Any]) -> Transform:
    given = [key for key in ("lidar_to_camera", "camera_to_lidar") if one.get(key) is not None]
    if len(given) != 1:
        raise InputError(
            f"{path}: {of} needs lidar_to_camera or camera_to_lidar, one of the two: the rows of a rigid 4 x 4 "
            "(camera: x right, y down, z forward)"
        )
    matrix = rigid(path, f"{given[0]} of {of}", one[given[0]])
    return matrix if given[0] == "camera_to_lidar" else invert(matrix)


def rigid(path: Path, key: str, rows: Any, default: Transform | None = None) -> Transform:
    """(4, 4) from three or four rows of a rigid transform, or as many numbers in one row; ``default`` for None.

    Raises:
        InputError: they are none.
    """
    if rows is None and default is not None:
        return default
    try:
        matrix = np.array(rows, np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        matrix = np.empty(0)
    if len(matrix) in (12, 16) and (np.abs(matrix) <= _LARGEST).all():
        square = matrix_of(matrix[:12])
        turn = square[:3, :3]
        nearest = nearest_rotation(turn)
        if (
            np.abs(turn - nearest).max() < 1e-3  # room for four written decimals
            and np.linalg.det(turn) > 0
            and (len(matrix) == 12 or np.array_equal(matrix[12:], square[3]))
        ):
            square[:3, :3] = nearest
            return square
    raise InputError(
        f"{path}: {key} is {shorten(rows)}; it must be the rows of a rigid transform, 3 x 4 or 4 x 4, metres"
    )


def _lens(root: Path, path: Path, of: str, one: Mapping[str, Any]) -> Lens:
    if one.get("camera_info") is not None:
        for key in ("intrinsics", "size", "model", "distortion"):
            if one.get(key) is not None:
                raise InputError(f"{path}: {of} has camera_info and {key}; leave out one of the two")
        name = one["camera_info"]
        if not is_path_below(name):
            raise InputError(
                f"{path}: camera_info of {of} is {shorten(name)}; it must be a YAML file below the log's root"
            )
        return _camera_info(root / name)
    model, size = one.get("model", PINHOLE), one.get("size", [0, 0])
    if not isinstance(model, str) or model not in CAMERA_MODELS:
        raise InputError(
            f"{path}: model of {of} is {shorten(model)}; choose one of {', '.join(CAMERA_MODELS)}"
        )
    return make_lens(path, of, one.get("intrinsics"), size, model, one.get("distortion") or [])


def _camera_info(path: Path) -> Lens:
    """A calibration as ROS' camera_calibration writes it."""
    values = read_yaml(path)
    model = ros_model(path, values.get("distortion_model", ""))
    matrix, bend = values.get("camera_matrix"), values.get("distortion_coefficients")
    numbers = matrix.get("data") if isinstance(matrix, dict) else matrix
    coefficients = bend.get("data") if isinstance(bend, dict) else bend
    size = [values.get("image_height", 0), values.get("image_width", 0)]
    return make_lens(path, "the camera", numbers, size, model, coefficients or [])


def ros_model(path: Path, name: Any) -> str:
    """Our camera model for a ``distortion_model`` of ROS.

    Raises:
        InputError: it has none.
    """
    if not isinstance(name, str) or name.lower() not in ROS_MODELS:
        raise InputError(
            f"{path}: the distortion_model is {shorten(name)}; undistort the images, or fit one of "
            f"{', '.join(filter(None, ROS_MODELS))}"
        )
    return ROS_MODELS[name.lower()]


def make_lens(path: Path, of: str, intrinsics: Any, size: Any, model: str, distortion: Any) -> Lens:
    """The lens of a camera.

    Args:
        intrinsics: fx, fy, cx, cy, or the nine numbers or three rows of a matrix. size: height, width.
        distortion: parameters of the model; more of them than it has must be 0.

    Raises:
        InputError: one is not so.
    """
    numbers, bend, pair = (_numbers(values) for values in (intrinsics, distortion, size))
    if numbers is not None and len(numbers) == 4:
        fx, fy, cx, cy = numbers
        numbers = np.array([fx, 0, cx, 0, fy, cy, 0, 0, 1])
    if (
        numbers is None
        or len(numbers) != 9
        or not (numbers[0] > 0 and numbers[4] > 0)
        or numbers[6:].tolist() != [0, 0, 1]
    ):
        raise InputError(
            f"{path}: intrinsics of {of} are {shorten(intrinsics)}; they must be [fx, fy, cx, cy] in pixels, or the "
            "rows of the 3 x 3"
        )
    most = CAMERA_MODELS[model]
    if bend is None or (model != PINHOLE and bend[most:].any()) or (model == PINHOLE and bend.any()):
        raise InputError(
            f"{path}: distortion of {of} is {shorten(distortion)}, and the model {model} has {most} numbers; mend "
            "it, or undistort the images"
        )
    if (
        pair is None
        or len(pair) != 2
        or (pair != np.round(pair)).any()
        or (pair < 0).any()
        or (pair > 1e5).any()
    ):
        raise InputError(f"{path}: size of {of} is {shorten(size)}; it must be [height, width] in pixels")
    return Lens(numbers.reshape(3, 3), (int(pair[0]), int(pair[1])), model, tuple(bend[:most].tolist()))


def _numbers(values: Any) -> NDArray[np.float64] | None:
    """The finite numbers of a list, flat; None where it is none."""
    try:
        array = np.array(values, np.float64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        return None
    return array if (np.abs(array) <= _LARGEST).all() else None
