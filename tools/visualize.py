"""Pictures of one frame of a prepared log, as PNG files.

    superflow visualize --index prepared/log --frame 12 --out pictures
    superflow visualize --index prepared/log --frame 12 --backbone backbone.safetensors --out pictures
    superflow visualize --index prepared/log --frame 12 --superpixels prepared/log/superpixels --out pictures
    superflow visualize --index prepared/log --frame 12 --backbone street-tiny --pick 12.5 3.0 --out pictures

Without a backbone: points by class, from above and on the images. With one: points by the principal components of
their features, and by similarity to one point (--pick X Y in metres, forward and left; default: 10 m ahead).
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from superflow.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from superflow.datasets.frame import Camera, Frame
    from superflow.datasets.index import LogIndex

WHAT = ("classes", "features", "similarity", "depth", "superpixels")


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="superflow visualize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--index", type=Path, required=True, help="folder that `superflow prepare` wrote")
    parser.add_argument("--frame", default="0", help="number of the key frame, or its token (default: 0)")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="folder for the PNG files")
    parser.add_argument("--what", nargs="+", choices=WHAT, help="default: everything that the inputs allow")
    parser.add_argument("--backbone", help="exported file, checkpoint, or registered name")
    parser.add_argument("--superpixels", type=Path, help="folder of superpixel maps")
    parser.add_argument("--cameras", nargs="+", help="channels (default: all)")
    parser.add_argument("--pick", nargs=2, type=float, metavar=("X", "Y"), help="point to compare with [m]")
    parser.add_argument("--extent", type=float, default=50.0, help="half side of the view from above [m]")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parse_args(argv)
    try:
        for path in visualize(args):
            print(path)
    except InputError as error:
        print(f"superflow visualize: {error}", file=sys.stderr)
        return 2
    return 0


def visualize(args: argparse.Namespace) -> Iterator[Path]:
    """Write the pictures one by one and yield their paths."""
    from superflow.datasets.index import LogIndex
    from superflow.picture import write_png

    index = LogIndex.open(args.index)
    row = _row(index, args.frame)
    frame = index.frame(row, cameras=args.cameras)
    name = f"{index.card.name} {index.version}, {frame.scene}, key frame {_number(index, row)}"
    wanted = args.what or _possible(args, frame)
    drawers = {
        "classes": _classes,
        "depth": _depth,
        "features": _features,
        "similarity": _similarity,
        "superpixels": _superpixels,
    }
    features = _extract(args, index, frame) if {"features", "similarity"} & set(wanted) else None
    for what in wanted:
        for view, image in drawers[what](args, index, frame, name, features):
            path = args.out / f"{frame.scene}_{_number(index, row):04d}_{what}_{view}.png"
            write_png(path, image)
            yield path


Pictures = Iterator[tuple[str, "np.ndarray"]]


def _classes(args: argparse.Namespace, index: LogIndex, frame: Frame, name: str, features: Any) -> Pictures:
    from superflow.coloring import class_colors
    from superflow.picture import birds_eye, class_key

    if frame.labels is None:
        raise InputError(
            f"frame {frame.token} has no labels; leave out --what classes, or choose a labelled frame"
        )
    colors = class_colors(frame.labels, index.card.palette)
    key = class_key(frame.labels, index.card.classes, index.card.palette)
    yield "bev", birds_eye(frame.points, colors, title=f"{name}: classes", key=key, extent_m=args.extent)
    yield "images", _on_images(frame, colors, f"{name}: classes", key)


def _depth(args: argparse.Namespace, index: LogIndex, frame: Frame, name: str, features: Any) -> Pictures:
    import numpy as np

    from superflow.coloring import map_colors
    from superflow.picture import Key

    distance = np.linalg.norm(frame.points[:, :2], axis=1)
    colors = map_colors(distance, high=args.extent, colormap="turbo")
    key = Key(bar=("distance [m]", 0.0, args.extent), colormap="turbo")
    yield "images", _on_images(frame, colors, f"{name}: LiDAR", key)


def _features(args: argparse.Namespace, index: LogIndex, frame: Frame, name: str, features: Any) -> Pictures:
    from superflow.coloring import FeatureColors
    from superflow.picture import birds_eye

    colors = FeatureColors.fit(features)(features)
    title = f"{name}: principal components of features ({Path(args.backbone).stem})"
    yield "bev", birds_eye(frame.points, colors, title=title, extent_m=args.extent)
    yield "images", _on_images(frame, colors, title, None)


def _similarity(
    args: argparse.Namespace, index: LogIndex, frame: Frame, name: str, features: Any
) -> Pictures:
    import numpy as np

    from superflow.coloring import map_colors, similarity
    from superflow.picture import birds_eye, similarity_key

    if len(frame.points) == 0:
        raise InputError(f"frame {frame.token} has no points to compare; choose another frame")
    target = np.array(args.pick or (10.0, 0.0))
    picked = int(np.linalg.norm(frame.points[:, :2] - target, axis=1).argmin())
    colors = map_colors(similarity(features, picked))
    title = f"{name}: similarity to the marked point ({Path(args.backbone).stem})"
    key = similarity_key()
    yield "bev", birds_eye(frame.points, colors, title=title, key=key, extent_m=args.extent, picked=picked)
    yield "images", _on_images(frame, colors, title, key, picked)


def _superpixels(
    args: argparse.Namespace, index: LogIndex, frame: Frame, name: str, features: Any
) -> Pictures:
    import numpy as np

    from superflow.camera.superpixels import read_superpixels
    from superflow.picture import draw_superpixels, sheet

    if args.superpixels is None:
        raise InputError(
            "superpixels were asked for without --superpixels FOLDER; give the folder of the maps"
        )
    cameras = _in_order(frame.cameras)
    maps = [read_superpixels(args.superpixels, camera.token, camera.size) for camera in cameras]
    views = [draw_superpixels(_image(camera), ids) for camera, ids in zip(cameras, maps)]
    names = [
        f"{camera.channel}: {len(np.unique(ids[ids != 65535]))} regions, {100 * (ids != 65535).mean():.0f} %"
        for camera, ids in zip(cameras, maps)
    ]
    yield "images", sheet(views, names, title=f"{name}: superpixels ({args.superpixels.name})")


def _on_images(
    frame: Frame, colors: np.ndarray, title: str, key: Any, picked: int | None = None
) -> np.ndarray:
    """Visible points on each camera, in one sheet."""
    import numpy as np

    from superflow.camera.projection import project, unoccluded
    from superflow.picture import draw_points, sheet

    cameras, views = _in_order(frame.cameras), []
    for camera in cameras:
        seen = project(frame.points, frame.lidar_to_camera(camera), camera.intrinsics, camera.size)
        seen = seen.select(unoccluded(seen, camera.size))
        there = np.flatnonzero(seen.rows == (-1 if picked is None else picked))
        marked = int(there[0]) if len(there) else None
        views.append(draw_points(_image(camera), seen.pixels, colors[seen.rows], seen.depth, picked=marked))
    if not views:
        raise InputError(f"frame {frame.token} has no camera of those asked for; see --cameras")
    return sheet(views, [camera.channel for camera in cameras], title=title, key=key)


def _in_order(cameras: Sequence[Camera]) -> list[Camera]:
    """Front row before back row, left to right, as one looks around; unknown channels last."""
    known = [
        f"CAM_{place}" for place in ("FRONT_LEFT", "FRONT", "FRONT_RIGHT", "BACK_LEFT", "BACK", "BACK_RIGHT")
    ]
    return sorted(
        cameras, key=lambda c: (known.index(c.channel) if c.channel in known else len(known), c.channel)
    )


def _image(camera: Camera) -> np.ndarray:
    if camera.image is None:
        raise InputError(f"{camera.path}: the image was not read; prepare the log again")
    return camera.image


def _extract(args: argparse.Namespace, index: LogIndex, frame: Frame) -> np.ndarray:
    from superflow.hub import load

    if args.backbone is None:
        raise InputError("features were asked for without --backbone; give an exported file or a checkpoint")
    backbone = load(args.backbone)
    points = frame.points
    return backbone.extract(points, intensity="0..1")


def _possible(args: argparse.Namespace, frame: Frame) -> list[str]:
    wanted = ["classes"] if frame.labels is not None else []
    wanted += ["depth"] if frame.cameras else []
    wanted += ["features", "similarity"] if args.backbone else []
    return wanted + (["superpixels"] if args.superpixels and frame.cameras else [])


def _row(index: LogIndex, wanted: str) -> int:
    rows = index.rows()
    if wanted.isdecimal() and int(wanted) < len(rows):
        return int(rows[int(wanted)])
    for names in (index.tokens(rows), index.sample_tokens(rows)):
        if wanted in names:
            return int(rows[names.index(wanted)])
    raise InputError(
        f"--frame {wanted}: is no token of {index.folder} and no number below {len(rows)}; choose 0 to {len(rows) - 1}"
    )


def _number(index: LogIndex, row: int) -> int:
    """Position of the key frame within its scene."""
    rows = index.rows([index.scene(row)])
    return int((rows == row).argmax())


if __name__ == "__main__":
    sys.exit(main())
