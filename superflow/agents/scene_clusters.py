"""Scenes of predictions: each point has a class from a fine-tuned network, and clusters of a class are its objects.

So a log without labels can be asked, too. What a cluster does not tell, as motion, stays unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.frame import IGNORE_LABEL
from ..downstream.features import read_scan
from ..downstream.metrics import class_predictions
from ..downstream.segmentor import Segmentor
from ..downstream.vote_log import Predictor, segmentor_predictor
from ..errors import InputError, require
from ..hub.checkpoint import find_last, load_weights, read_checkpoint
from .scene import SceneObject, SceneRecord
from .scene_log import ego_points, object_around, record
from .words import category_of, is_known

if TYPE_CHECKING:
    from ..datasets.index import LogIndex

log = logging.getLogger(__name__)

# points of one object are nearer to each other than this [m]: large ones are seen with wide gaps, people stand close
REACH_M = {"pedestrian": 0.5, "bicycle": 0.6, "motorcycle": 0.6, "traffic cone": 0.4, "barrier": 0.6}
LARGE_REACH_M = 1.0


def predicted_scene(
    index: LogIndex, row: int, predict: Predictor, *, points: bool = True, min_points: int = 5
) -> SceneRecord:
    """The scene of one scan of a ``LogIndex`` by a network's classes; ``predict`` as in `downstream.vote_log`."""
    frame = index.frame(row, cameras=(), labels=False, images=False)
    labels = class_predictions(predict(read_scan(index, row, labels=False))).numpy()
    objects = cluster_objects(ego_points(frame), labels, index.card.classes, min_points=min_points)
    return record(frame, objects, "predictions", points=points)


def cluster_objects(
    points: NDArray[np.float32], labels: NDArray[Any], classes: Sequence[str], *, min_points: int = 5
) -> tuple[SceneObject, ...]:
    """An object for each cluster of points of a thing's class, by DBSCAN over ground.

    Args:
        points: (N, 3+) [m, ego]. labels: (N,) class of each; others than those of ``classes`` are no prediction.
        min_points: in a cluster, and in the neighbourhood of its inner points as DBSCAN counts them.

    Raises:
        ImportError: scikit-learn is not installed.
    """
    dbscan: Callable[..., Any] = require("sklearn.cluster", "agents").DBSCAN
    found: list[SceneObject] = []
    for number, name in enumerate(classes):
        category, chosen = category_of(name), points[labels == number]
        if number == IGNORE_LABEL or category is None or len(chosen) < min_points:
            continue
        reach = REACH_M.get(category, LARGE_REACH_M)
        cluster_of = dbscan(eps=reach, min_samples=min_points).fit_predict(chosen[:, :2])
        for cluster in range(int(cluster_of.max()) + 1):
            inside = chosen[cluster_of == cluster]
            found.append(object_around(inside, f"{category}/{len(found)}", category, name))
    return tuple(found)


def load_predictor(checkpoint: str | Path, classes: Sequence[str]) -> Predictor:
    """The network of a fine-tuning checkpoint (.pth), or of a run's folder, for logs with these classes.

    Raises:
        InputError: there is none, it is no `Segmentor`, or it was trained with other classes; of checkpoints that do
            not name theirs, with another number of them.
    """
    path = Path(checkpoint)
    path = (find_last(path) or path / "no checkpoint") if path.is_dir() else path
    stored = read_checkpoint(path)
    said = stored.get("superflow", {})
    if said.get("kind") != "segmentor":
        raise InputError(f"{path}: is no fine-tuned network; give a checkpoint of a run with a Segmentor")
    if said["num_classes"] != len(classes):
        raise InputError(
            f"{path}: tells {said['num_classes']} classes apart and the log has {len(classes)}; "
            "prepare the log with the card that the network was trained with"
        )
    trained = said.get("data", {}).get("train", {})
    names = trained.get("classes", classes)
    other = next(((a, b) for a, b in zip(names, classes) if a != b), None)
    if other is not None:
        raise InputError(
            f"{path}: was trained on the class {other[0]!r} where the log has {other[1]!r}; "
            "prepare the log with the card that the network was trained with"
        )
    segmentor = Segmentor(
        said["encoder"], said["num_classes"], pretrained=said["pretrained"] or {}, limits=said["limits"]
    )
    load_weights(segmentor, stored["state_dict"], str(path))
    unknown = [name for name in classes if not is_known(name)]
    if unknown:
        log.warning(
            "%s: no word for objects is known by the class names %s; they are taken for background, and no object is "
            "found in them",
            path,
            ", ".join(unknown),
        )
    raw = bool(trained.get("raw_intensity", False))
    return segmentor_predictor(segmentor.eval(), full_intensity=255.0 if raw else 1.0)
